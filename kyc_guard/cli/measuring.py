"""Measuring: error rates on labelled presentations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.cli.frame import EXIT_BAD_INPUT, AsJson, Resume, TimeoutS, Workers, app, reporting, resumable
from kyc_guard.config import Settings


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="CSV: path,label,attack_type,source,subject[,group][,split][,matched].")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for scores.csv, report.json and report.html.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder the paths are relative to. [default: the manifest's]", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only rows with this value in the column split.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Report on these ready scores; no model is run.")] = None,
    gallery: Annotated[
        bool, typer.Option("--gallery", help="Write gallery.html too: FACES of the worst errors, for your eyes alone.")
    ] = False,
    workers: Workers = None,
    resume: Resume = False,
    timeout_s: TimeoutS = 120.0,
    as_json: AsJson = False,
) -> None:
    """Error rates after ISO/IEC 30107-3 on labelled pictures and clips. Exit code 2 if some rows are errors, 130 if interrupted."""
    from kyc_guard.evaluate import operating_points, report_on, run
    from kyc_guard.progress import bar

    with reporting(as_json), resumable():
        if scores is None:
            report = run(
                manifest,
                out,
                root=root,
                split=split,
                workers=workers,
                resume=resume,
                timeout_s=timeout_s,
                gallery=gallery,
                progress=bar,
            )
        else:
            report = report_on(manifest, scores, out, root=root, split=split, points=operating_points(Settings()), gallery=gallery)
    if as_json:
        print(json.dumps(report))
    else:
        show_report(report)
        print(f"Report: {out / 'report.html'}")
    raise typer.Exit(EXIT_BAD_INPUT if report["counts"]["errors"] else 0)


def show_report(report: Mapping[str, Any]) -> None:
    """The headline figures of an evaluation, on stdout."""
    from kyc_guard.reports.pages import in_words

    counts = report["counts"]
    title = (
        f"{counts['bona_fide']} bona fide, {counts['attack']} attacks, {counts['no_response']} without a score, {counts['errors']} errors"
    )
    table = Table(title=title, title_justify="left")
    for column in ("figure", "value [95 % interval] errors/n"):
        table.add_column(column, overflow="fold")
    for name, at in report["operating_points"].items():
        worst = at["apcer_max"]
        table.add_row(Text(f"APCER at {name}, worst species ({worst['species'] if worst else '-'})"), in_words(worst))
        table.add_row(f"BPCER at {name}", in_words(at["bpcer"]))
    for point in report["bpcer_at_apcer"]:
        table.add_row(
            f"{point['name']}, APCER held in {'every species' if point['over'] == 'max_species' else 'all attacks'}",
            in_words(point["bpcer"]),
        )
    table.add_row("BPNRR, bona fides without a score", in_words(report["non_response"]["bpnrr"]))
    table.add_row("APNRR, worst species", in_words(report["non_response"]["apnrr_max"]))
    table.add_row("IAPAR, worst species", in_words(report["impostors"]["iapar_max"]) if report["impostors"] else "no column matched")
    Console().print(table)
