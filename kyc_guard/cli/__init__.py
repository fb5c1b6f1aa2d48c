"""The command line: a skin over the library, one function a command."""

from kyc_guard.cli import attacking, examining, judging, measuring  # importing them registers their commands
from kyc_guard.cli.frame import app, reporting

__all__ = ["app", "attacking", "examining", "judging", "measuring", "reporting"]
