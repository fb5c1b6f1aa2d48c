"""The command line: a skin over the library, one function a command.

Exit codes: 0 accept (or done), 10 retry, 11 review, 12 reject, 2 bad input or usage, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.config import Settings
from kyc_guard.errors import InputError, KycGuardError
from kyc_guard.types import Decision, Outcome, Submission

EXIT_CODES = {Outcome.ACCEPT: 0, Outcome.RETRY: 10, Outcome.REVIEW: 11, Outcome.REJECT: 12}
EXIT_BAD_INPUT = 2
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="Judge KYC submissions: is the selfie a living person in front of a camera, and the one on the document?",
    epilog="Exit codes: 0 accept or done, 10 retry, 11 review, 12 reject, 2 bad input or usage, 1 internal error, 130 interrupted.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


@contextlib.contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn errors into one clear line on stderr (with --json an object on stdout) and the right exit code."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if as_json:
            print(json.dumps({"error": _error(error)}))
        if not isinstance(error, KycGuardError):
            raise  # a fault of ours: the traceback goes to stderr, the exit code is 1
        if not as_json:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_INTERNAL) from error


def _error(error: Exception) -> dict[str, str]:
    if isinstance(error, InputError):
        return {"type": type(error).__name__, "message": error.problem, "path": error.path, "remedy": error.remedy}
    return {"type": type(error).__name__, "message": str(error)}


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C on a long run: say that nothing is lost, exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted. What is done is kept: the same command with --resume goes on.", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command()
def verify(
    submission_dir: Annotated[Path, typer.Argument(help="Folder with submission.toml, the selfie and the document.")],
    as_json: AsJson = False,
) -> None:
    """Judge one submission. The exit code is the outcome: 0 accept, 10 retry, 11 review, 12 reject."""
    from kyc_guard.pipeline import Verifier  # mediapipe and onnxruntime take seconds; --help must not wait for them

    with reporting(as_json):
        submission = Submission.from_dir(submission_dir)
        with Verifier(Settings()) as verifier:
            decision = verifier.verify(submission)
        # allow_nan=False: a number that is none must become an error, never a result.
        text = json.dumps(decision.to_json(), allow_nan=False)
    if as_json:
        print(text)
    else:
        show(decision)
    raise typer.Exit(EXIT_CODES[decision.outcome])


Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: one a core]", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted run left.")]
TimeoutS = Annotated[float, typer.Option(min=1.0, help="Seconds after which one item, tried twice, is given up as an error.")]


@app.command()
def batch(
    source: Annotated[Path, typer.Argument(help="Folder of submission folders, or a .csv or .jsonl manifest.")],
    *,
    out: Annotated[Path, typer.Option(help="Result file: one JSON line a submission. Never overwritten.")],
    workers: Workers = None,
    resume: Resume = False,
    timeout_s: TimeoutS = 300.0,
    as_json: AsJson = False,
) -> None:
    """Judge many submissions. Exit code 0 if all were judged, 2 if some lines are errors, 130 if interrupted."""
    from kyc_guard.batch import run
    from kyc_guard.progress import bar

    with reporting(as_json), resumable():
        summary = run(source, out, settings=Settings(), workers=workers, resume=resume, timeout_s=timeout_s, progress=bar)
    if as_json:
        print(json.dumps(summary.to_json()))
    else:
        table = Table(title=f"{summary.total} submissions, {summary.judged} judged in {summary.took_s:.1f} s", title_justify="left")
        for column in ("outcome", "submissions", "top reasons and errors", "submissions"):
            table.add_column(column, overflow="fold")
        for (outcome, n), (reason, m) in zip_longest(summary.outcomes.most_common(), summary.reasons.most_common(8), fillvalue=("", "")):
            table.add_row(outcome, str(n), Text(reason), str(m))
        Console().print(table)
    raise typer.Exit(EXIT_BAD_INPUT if summary.errors else 0)


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="CSV: path,label,attack_type,source,subject[,group][,split].")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for scores.csv, report.json and report.html.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder the paths are relative to. [default: the manifest's]", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only rows with this value in the column split.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Report on these ready scores; no model is run.")] = None,
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
            report = run(manifest, out, root=root, split=split, workers=workers, resume=resume, timeout_s=timeout_s, progress=bar)
        else:
            report = report_on(manifest, scores, out, split=split, points=operating_points(Settings()))
    if as_json:
        print(json.dumps(report))
    else:
        show_report(report)
        print(f"Report: {out / 'report.html'}")
    raise typer.Exit(EXIT_BAD_INPUT if report["counts"]["errors"] else 0)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Examine this installation: versions, models, policy, colour order, disk, speed. Exit code 1 when something fails."""
    from kyc_guard.doctor import examine

    with reporting(as_json):
        checks = examine(Settings())
    if as_json:
        print(json.dumps({"ok": all(c.ok for c in checks), "checks": [asdict(c) for c in checks]}))
    else:
        table = Table(box=None)
        for column in ("", "check", "found"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row("[green]ok[/]" if check.ok else "[bold red]FAIL[/]", check.name, Text(check.detail))
        Console().print(table)
    raise typer.Exit(0 if all(c.ok for c in checks) else EXIT_INTERNAL)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for submissions, results and the page; an earlier demo in it is replaced.")] = Path(
        "demo-out"
    ),
    camera: Annotated[int | None, typer.Option(help="Record yourself with this camera (0 is usual) and judge that too.")] = None,
    submissions: Annotated[Path | None, typer.Option(help="Judge your own submission folders too.")] = None,
    data: Annotated[Path, typer.Option(help="Shared data; clips of real people are judged too where it exists.")] = Path("../shared/data"),
    as_json: AsJson = False,
) -> None:
    """Build submissions from a public-domain portrait, judge them, and write a page with faces, scores and reasons."""
    from kyc_guard.demo import HONEST, run
    from kyc_guard.demo_page import tally

    with reporting(as_json):
        shown = run(out, Settings(), camera=camera, own=submissions, data=data)
    if as_json:
        print(json.dumps({"notice": HONEST, "page": str(out / "index.html"), "judged": [{"truth": s.truth, **s.line} for s in shown]}))
        return
    table = Table(box=None)
    for column in ("submission", "in truth", "outcome", "P(attack)", "reasons"):
        table.add_column(column, overflow="fold")
    for one in shown:
        score = "-" if one.score is None else f"{one.score:.3f}"
        table.add_row(Text(one.id), one.truth, f"[bold]{one.outcome}[/]", score, Text(gravest(r["code"] for r in one.reasons)))
    console = Console()
    console.print(table)
    for sentence in (*tally(shown), HONEST, f"Page with faces, scores and reasons: {out / 'index.html'}"):
        console.print(sentence, markup=False, highlight=False)


def gravest(codes: Iterable[str], count: int = 3) -> str:
    """The first few of ``codes``, which come gravest first, and how many more there are."""
    every = list(codes)
    return ", ".join(every[:count]) + (f" +{len(every) - count}" if len(every) > count else "")


def show(decision: Decision) -> None:
    """One decision for human eyes, on stdout."""
    table = Table(title=Text(f"{decision.submission}: {decision.outcome.upper()}"), title_justify="left")
    for column in ("check", "P(attack)", "reasons"):
        table.add_column(column, overflow="fold")
    for signal in decision.signals:
        score = "could not judge" if signal.score is None else f"{signal.score:.3f}"
        # Text, because file names in a reason may look like markup.
        table.add_row(signal.detector, score, Text("\n".join(f"{r.code}: {r.detail}" for r in signal.reasons)))
    console = Console()
    console.print(table)
    for reason in decision.reasons:
        console.print(f"- {reason.code}: {reason.detail}", markup=False, highlight=False)
    console.print(f"Told the applicant: {decision.message}", markup=False, highlight=False)


def show_report(report: Mapping[str, Any]) -> None:
    """The headline figures of an evaluation, on stdout."""
    from kyc_guard.report import in_words

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
    Console().print(table)
