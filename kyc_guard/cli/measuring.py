"""Measuring: error rates on labelled presentations, thresholds that hold a rate, drift."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.cli.frame import EXIT_BAD_INPUT, EXIT_CODES, AsJson, Resume, TimeoutS, Workers, app, reporting, resumable
from kyc_guard.config import Policy, Settings
from kyc_guard.types import Outcome


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


def _share(text: str) -> float:
    """``2%`` or ``0.02``."""
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


@app.command()
def calibrate(
    source: Annotated[Path, typer.Argument(help="scores.csv of evaluate (with its --manifest), or a manifest, which is scored first.")],
    *,
    target_bpcer: Annotated[
        float | None, typer.Option(parser=_share, metavar="SHARE", help="At most this share of honest applicants is not accepted, e.g. 2%.")
    ] = None,
    target_apcer: Annotated[
        float | None, typer.Option(parser=_share, metavar="SHARE", help="At most this share of each species' attacks is accepted.")
    ] = None,
    reject_bpcer: Annotated[
        float | None, typer.Option(parser=_share, metavar="SHARE", help="At most this share of honest applicants is rejected unseen.")
    ] = None,
    out: Annotated[Path, typer.Option(help="New thresholds file; a page of the same name stands beside it.")] = Path("thresholds.new.toml"),
    manifest: Annotated[Path | None, typer.Option(help="The labels of scores.csv.")] = None,
    scores_dir: Annotated[Path, typer.Option(help="Where a manifest's scores go.")] = Path("calibration-scores"),
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows with this value in the column split.")] = None,
    attack_share: Annotated[float, typer.Option(parser=_share, metavar="SHARE", help="Assumed share of attacks among submissions.")] = "1%",  # type: ignore[assignment]
    costs: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="A B C", help="Cost of a review, an accepted attack, a rejected honest applicant."),
    ] = None,
    workers: Workers = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Thresholds from your own data that hold a rate beyond them. Writes a new file; use it by KYC_GUARD_THRESHOLDS_PATH."""
    from kyc_guard.bands import Target
    from kyc_guard.calibrate import run
    from kyc_guard.progress import bar

    if (target_bpcer is None) == (target_apcer is None):
        raise typer.BadParameter("give either --target-bpcer or --target-apcer")
    with reporting(as_json), resumable():
        target = Target(
            "bpcer" if target_apcer is None else "apcer",
            target_bpcer if target_apcer is None else target_apcer,  # type: ignore[arg-type]
            reject_bpcer,
            attack_share,
            costs,
        )
        found = run(
            source,
            out,
            target,
            Settings(),
            manifest=manifest,
            scores_dir=scores_dir,
            root=root,
            split=split,
            workers=workers,
            resume=resume,
            progress=bar,
        )
    if as_json:
        print(json.dumps(found))
        return
    show_calibration(found)
    print(f"Thresholds: {out}, in use with KYC_GUARD_THRESHOLDS_PATH={out.resolve()}\nPage: {out.with_suffix('.html')}")


def show_calibration(found: Mapping[str, Any]) -> None:
    """Bounds, thresholds and load, on stdout."""
    from kyc_guard.reports.pages import percent

    table = Table(title="Calibrated", title_justify="left")
    for column in ("figure", "before", "after"):
        table.add_column(column, overflow="fold")
    for bound in found["bounds"]:
        held = f"at most {percent(bound['upper_bound'])} at {100 * bound['confidence']:g} % confidence"
        table.add_row(Text(bound["of"]), f"{bound['errors_allowed']} of {bound['people']} people allowed", held)
    for name, points in found["after"]["points"].items():
        for point, value in points.items():
            table.add_row(f"{name} {point}", f"{found['before']['points'][name][point]:.6f}", f"{value:.6f}")
    for rate in ("bpcer", "bpcer_at_reject"):
        table.add_row(f"{rate} on these data", percent(found["before"][rate]["value"]), percent(found["after"][rate]["value"]))
    for species, rate in found["after"]["apcer"].items():
        table.add_row(
            Text(f"APCER of {species} on these data"), percent(found["before"]["apcer"][species]["value"]), percent(rate["value"])
        )
    table.add_row(f"reviewed, if {percent(found['assumed']['attack_share'])} are attacks", "", percent(found["review_load"]["review"]))
    Console().print(table)
    for note in found["notes"]:
        print(note)


@app.command()
def monitor(
    results: Annotated[list[Path], typer.Argument(help="Result files of batch, of the days to look at.")],
    *,
    baseline: Annotated[list[Path], typer.Option(help="Result files of a time that was as it should be; may be given again.")],
    reviewed: Annotated[
        Path | None, typer.Option(help="CSV submission,label (bona_fide | attack) of cases a person looked at: estimates BPCER.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Drift of stored decisions: scores, quality, devices, abstentions, review load. Exit code 0 calm, 11 some alarm."""
    from kyc_guard.monitor import monitor as look
    from kyc_guard.monitor import read, read_reviewed

    with reporting(as_json):
        labels = None if reviewed is None else read_reviewed(reviewed)
        found = look(read(results), read(baseline), Policy.load(Settings().policy_path), labels)
    if as_json:
        print(json.dumps(found, allow_nan=False))
    else:
        show_drift(found)
    raise typer.Exit(EXIT_CODES[Outcome.REVIEW] if found["alarms"] else 0)


def show_drift(found: Mapping[str, Any]) -> None:
    """Every figure with its limit, alarms marked, on stdout."""
    title = f"{found['decisions']} decisions against {found['baseline_decisions']} of the baseline: {len(found['alarms'])} alarms"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("", "figure", "baseline", "now", "measure", "value", "limit"):
        table.add_column(column, no_wrap=True)
    for figure in sorted(found["figures"], key=lambda f: not f["alarm"]):
        before, now = ("-" if figure[k] is None else f"{figure[k]:.4f}" for k in ("baseline", "current"))
        mark = "[bold red]ALARM[/]" if figure["alarm"] else ""
        table.add_row(mark, Text(figure["name"]), before, now, figure["measure"], f"{figure['value']:.4f}", f"{figure['limit']:g}")
    console = Console()
    console.print(table)
    for day in found["days"]:
        rate = day["reviews"]
        console.print(f"{day['day']}: {rate['errors']} of {rate['n']} reviewed{' ALARM' if day['alarm'] else ''}", markup=False)
    if bpcer := found["bpcer"]:
        value = "unknown" if bpcer["value"] is None else f"{100 * bpcer['value']:.2f} %"
        interval = f"[{100 * bpcer['low']:.2f}, {100 * bpcer['high']:.2f}] %"
        console.print(f"BPCER from {bpcer['n']} reviewed cases: {value} {interval}", markup=False)
    for note in found["notes"]:
        console.print(f"Note: {note}", markup=False)


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
