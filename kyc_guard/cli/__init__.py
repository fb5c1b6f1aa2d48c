"""The command line: a skin over the library, one function a command."""

from kyc_guard.cli import accounts, attacking, examining, judging, measuring  # importing them registers their commands
from kyc_guard.cli.frame import app, reporting

__all__ = ["accounts", "app", "attacking", "examining", "judging", "measuring", "reporting"]
