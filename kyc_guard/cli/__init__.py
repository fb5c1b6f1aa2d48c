"""The command line: a skin over the library, one function a command."""

from kyc_guard.cli import examining, judging, measuring  # importing them registers their commands
from kyc_guard.cli.frame import app, reporting

__all__ = ["app", "examining", "judging", "measuring", "reporting"]
