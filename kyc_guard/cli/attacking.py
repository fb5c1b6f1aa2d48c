"""The attacker's side: attacks made from one's own submissions, and campaigns found among them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.cli.frame import EXIT_BAD_INPUT, AsJson, Resume, TimeoutS, Workers, app, reporting, resumable
from kyc_guard.config import Settings


@app.command()
def redteam(
    source: Annotated[Path, typer.Argument(help="Bona fide submissions: one folder, a folder of them, or a .csv or .jsonl manifest.")],
    *,
    out: Annotated[Path, typer.Option(help="New folder for the attacks, their results and the gallery. It will hold faces.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    species: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated. [default: all]", show_default=False)] = None,
    strengths: Annotated[
        list[int] | None,
        typer.Option(min=1, max=3, help="1 crude, 2 ordinary, 3 careful; may be repeated. [default: all]", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, max=15.0, help="How much of each clip is attacked, from its middle.")] = 3.0,
    workers: Workers = None,
    resume: Resume = False,
    timeout_s: TimeoutS = 300.0,
    as_json: AsJson = False,
) -> None:
    """Attack your own submissions and see what gets through. Exit code 0 when all was made and judged, 2 if some could not be."""
    from kyc_guard import redteam as team
    from kyc_guard.progress import bar
    from kyc_guard.redteam_tools import SPECIES, STRENGTHS

    with reporting(as_json), resumable():
        report = team.run(
            source,
            out,
            settings=Settings(),
            seed=seed,
            species=species or SPECIES,
            strengths=strengths or STRENGTHS,
            seconds=seconds,
            resume=resume,
            workers=workers,
            timeout_s=timeout_s,
            making=partial(bar, what="making"),
            judging=bar,
        )
    if as_json:
        print(json.dumps(report))
    else:
        table = Table(title=f"{len(report['originals'])} originals, seed {seed}: attacks through / decided", title_justify="left")
        for column in ("species", *(f"strength {s}" for s in report["strengths"]), "weakest that got through"):
            table.add_column(column, overflow="fold")
        for name, one in report["species"].items():
            table.add_row(name, *(_count(one["strengths"].get(str(s))) for s in report["strengths"]), Text(one["weakest"] or "-"))
        console = Console()
        console.print(table)
        for row in report["errors"]:
            console.print(f"{row['original']}: {row['error']}", markup=False, highlight=False)
        for sentence in (team.NOTICE, f"Gallery: {out / 'gallery.html'}", f"Next: kyc-guard evaluate {out / 'manifest.csv'} --out DIR"):
            console.print(sentence, markup=False, highlight=False)
    raise typer.Exit(EXIT_BAD_INPUT if report["errors"] else 0)


def _count(at: dict[str, int] | None) -> str:
    if at is None:
        return "-"
    return f"{at['through']}/{at['through'] + at['stopped']}" + (f" +{at['undecided']} undecided" if at["undecided"] else "")
