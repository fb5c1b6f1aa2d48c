"""What every command shares: the app, exit codes, options, and how errors are told.

Exit codes: 0 accept (or done), 10 retry, 11 review (replay, pack-verify: it differs), 12 reject, 2 bad input or usage, 130 interrupted,
1 anything else.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from kyc_guard.errors import InputError, KycGuardError
from kyc_guard.types import Outcome

EXIT_CODES = {Outcome.ACCEPT: 0, Outcome.RETRY: 10, Outcome.REVIEW: 11, Outcome.REJECT: 12}
EXIT_BAD_INPUT = 2
EXIT_DIFFERS = 11
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="Judge KYC submissions: is the selfie a living person in front of a camera, and the one on the document?",
    epilog="Exit codes: 0 accept or done, 10 retry, 11 review (replay, pack-verify: it differs), 12 reject, 2 bad input or usage, "
    "1 internal error, 130 interrupted.",
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


Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: one a core]", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted run left.")]
TimeoutS = Annotated[float, typer.Option(min=1.0, help="Seconds after which one item, tried twice, is given up as an error.")]
