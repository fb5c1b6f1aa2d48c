"""The one error tree.

KycGuardError
├── InputError            the submission or file is at fault; names the file and the remedy (exit code 2)
│   ├── LimitError        a limit on bytes, pixels, seconds, frames or streams was passed, before decoding
│   ├── UnreadableError   missing, unreadable, truncated, or not the type its name claims
│   └── SchemaError       submission.toml or a manifest does not follow the schema
├── ConfigError           policy, thresholds or settings are wrong: nothing may be judged with them
├── ModelError            a weight is unknown, altered or does not fit: nothing may be judged with it
└── OutputError           results cannot be written (disk full, no permission); what was written stays valid
"""

from __future__ import annotations

from pathlib import Path


class KycGuardError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(KycGuardError):
    """Bad input: says which file, what is wrong, and what would mend it.

    Args:
        path: the file or submission at fault.
        problem: what is wrong, without a full stop.
        remedy: what the sender could do about it.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. Remedy: {remedy}")
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        # Worker processes send errors back by pickle; the default would call __init__ with one argument.
        return type(self), (self.path, self.problem, self.remedy)


class LimitError(InputError):
    """A limit was passed; nothing was decoded."""


class UnreadableError(InputError):
    """The bytes cannot be read as what they claim to be."""


class SchemaError(InputError):
    """A submission or manifest does not follow its schema."""


class ConfigError(KycGuardError):
    """Policy, thresholds or settings cannot be used."""


class ModelError(KycGuardError):
    """A model file is missing, altered or does not fit the code."""


class OutputError(KycGuardError):
    """Results cannot be written; what was written before stays valid."""
