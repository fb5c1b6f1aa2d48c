"""The attacker's side: attacks made from one's own submissions, and campaigns found among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
        show_redteam(report)
        for sentence in (team.NOTICE, f"Gallery: {out / 'gallery.html'}", f"Next: kyc-guard evaluate {out / 'manifest.csv'} --out DIR"):
            print(sentence)
    raise typer.Exit(EXIT_BAD_INPUT if report["errors"] else 0)


def show_redteam(report: Mapping[str, Any]) -> None:
    """What got through, species by species, on stdout."""
    table = Table(title=f"{len(report['originals'])} originals, seed {report['seed']}: attacks through / decided", title_justify="left")
    for column in ("species", *(f"strength {s}" for s in report["strengths"]), "weakest that got through"):
        table.add_column(column, overflow="fold")
    for name, one in report["species"].items():
        table.add_row(name, *(_count(one["strengths"].get(str(s))) for s in report["strengths"]), Text(one["weakest"] or "-"))
    console = Console()
    console.print(table)
    for row in report["errors"]:
        console.print(f"{row['original']}: {row['error']}", markup=False, highlight=False)


def _count(at: dict[str, int] | None) -> str:
    if at is None:
        return "-"
    return f"{at['through']}/{at['through'] + at['stopped']}" + (f" +{at['undecided']} undecided" if at["undecided"] else "")


@app.command()
def cluster(
    sources: Annotated[list[Path], typer.Argument(help="Folders or manifests of submissions, and result files of batch.")],
    *,
    workers: Workers = None,
    timeout_s: TimeoutS = 300.0,
    as_json: AsJson = False,
) -> None:
    """Find campaigns: submissions that share face, background, clip, device or layout. Exit code 2 if some could not be read."""
    from kyc_guard.cluster import run
    from kyc_guard.progress import bar

    with reporting(as_json):
        report = run(sources, settings=Settings(), workers=workers, timeout_s=timeout_s, progress=partial(bar, what="measuring"))
    if as_json:
        print(json.dumps(report))
    else:
        table = Table(title=f"{report['submissions']} submissions, {len(report['groups'])} groups", title_justify="left")
        for column in ("group", "members", "why", "pairs linked"):
            table.add_column(column, overflow="fold")
        for number, group in enumerate(report["groups"], start=1):
            members = "\n".join(m["id"] + (f" ({m['outcome']})" if m["outcome"] else "") for m in group["members"])
            why = "\n".join(f"{n} x {kind}: {_range(group, kind)}" for kind, n in group["kinds"].items())
            table.add_row(str(number), Text(members), why, f"{100 * group['share_of_pairs_linked']:.0f} %")
        console = Console()
        console.print(table)
        for kind, chance in report["chance"].items():
            sentence = f"{kind}: {chance['compared']} pairs compared, at most {chance['expected_false_links']:.2g} links expected by chance"
            console.print(f"{sentence}, {chance['per_new_submission']:.2g} for each further submission.", highlight=False)
        console.print("device, layout: rate of chance links not known; they join only where both agree.", highlight=False)
        for row in report["errors"]:
            console.print(f"{row['submission']}: {row['error']}", markup=False, highlight=False)
    raise typer.Exit(EXIT_BAD_INPUT if report["errors"] else 0)


def _range(group: dict[str, Any], kind: str) -> str:
    """The values of a group's links of one kind, and the limit they passed."""
    values = [link["value"] for link in group["links"] if link["kind"] == kind]
    limit = next(link["limit"] for link in group["links"] if link["kind"] == kind)
    return "equal" if kind in {"file", "device"} else f"{min(values):.3f} to {max(values):.3f}, limit {limit:g}"
