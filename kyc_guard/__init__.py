"""Face-attack and liveness detection for KYC, behind one verification pipeline.

`Verifier` judges a `Submission` and returns a `Decision`; every error it raises on purpose is a `KycGuardError`.
"""

from kyc_guard.config import Limits, Sampling, Settings
from kyc_guard.detectors.protocol import SeenClips, SessionBook
from kyc_guard.errors import ConfigError, InputError, KycGuardError, LimitError, ModelError, OutputError, SchemaError, UnreadableError
from kyc_guard.pipeline import AttackScore, Verifier
from kyc_guard.seen_clips import ClipMemory
from kyc_guard.sessions import MemoryStore, Session, Sessions, SessionStore
from kyc_guard.submission import Challenge, Media, Submission
from kyc_guard.types import Decision, Outcome, Reason, Signal

__all__ = [
    "AttackScore",
    "Challenge",
    "ClipMemory",
    "ConfigError",
    "Decision",
    "InputError",
    "KycGuardError",
    "LimitError",
    "Limits",
    "Media",
    "MemoryStore",
    "ModelError",
    "Outcome",
    "OutputError",
    "Reason",
    "Sampling",
    "SchemaError",
    "SeenClips",
    "Session",
    "SessionBook",
    "SessionStore",
    "Sessions",
    "Settings",
    "Signal",
    "Submission",
    "UnreadableError",
    "Verifier",
]
