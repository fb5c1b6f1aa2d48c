"""The command line: a skin over the library, one function a command.

Exit codes: 0 accept (or done), 10 retry, 11 review, 12 reject, 2 bad input or usage, 1 anything else.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="Judge KYC submissions: is the selfie a living person in front of a camera, and the one on the document?",
    epilog="Exit codes: 0 accept or done, 10 retry, 11 review, 12 reject, 2 bad input or usage, 1 internal error.",
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
            print(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}))
        if not isinstance(error, KycGuardError):
            raise  # a fault of ours: the traceback goes to stderr, the exit code is 1
        if not as_json:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_INTERNAL) from error


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
    if as_json:
        print(json.dumps(decision.to_json(), allow_nan=False))
    else:
        show(decision)
    raise typer.Exit(EXIT_CODES[decision.outcome])


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
        table.add_row(Text(one.id), one.truth, f"[bold]{one.outcome}[/]", score, Text(", ".join(r["code"] for r in one.reasons)))
    console = Console()
    console.print(table)
    for sentence in (*tally(shown), HONEST, f"Page with faces, scores and reasons: {out / 'index.html'}"):
        console.print(sentence, markup=False, highlight=False)


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
