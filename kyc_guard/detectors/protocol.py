"""What a detector is, and what it is loaded with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.errors import ConfigError
from kyc_guard.runtime import Net
from kyc_guard.submission import Challenge
from kyc_guard.types import Evidence, Modality, Reason, Signal, UInt8Array
from kyc_guard.weights import Weights


class SessionBook(Protocol):
    """What the server knows of the sessions it issued; `kyc_guard.sessions.Sessions` is one."""

    def problem(self, challenge: Challenge) -> Reason | None:
        """Why a submission with this challenge must not count: wrong nonce, replayed, expired, locked; ``None`` = it may."""
        ...


class SeenClips(Protocol):
    """Clips of earlier submissions; `kyc_guard.seen_clips.ClipMemory` is one."""

    def find(self, sha256: str, prints: UInt8Array, *, submission: str, nearest: float) -> str | None:
        """Which earlier submission sent the same bytes, or a clip whose `forensics.clip_distance` is below ``nearest``.

        A store that learns from what it is asked does so in the same step: of two copies at once, one is found.

        Args:
            sha256: hash of the file. prints: (T, 32) uint8, `forensics.frame_prints` of its frames.
            submission: id of the one being judged, which is never found.
        """
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """What a server knows besides the submission. Its answers stand in the signals' facts, so that a decision replays without it."""

    sessions: SessionBook | None = None
    seen: SeenClips | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything a detector may be loaded with; the same bundle and bytes give the same decision."""

    settings: Settings
    policy: Policy
    thresholds: Thresholds
    weights: Weights
    nets: dict[str, Net] = field(default_factory=dict)
    """What `net` has loaded, by name."""

    @classmethod
    def load(cls, settings: Settings) -> Bundle:
        """Raises ConfigError when an operator's thresholds were calibrated for other models."""
        thresholds, weights = Thresholds.load(settings.thresholds_path), Weights(settings.weights_dir)
        models = thresholds.table("calibrated").get("models")
        if models is not None and models != {name: weights.get(name).sha256 for name in weights.names()}:
            raise ConfigError(f"{thresholds.path}: was calibrated for other models. Remedy: run kyc-guard calibrate with the present ones")
        return cls(settings=settings, policy=Policy.load(settings.policy_path), thresholds=thresholds, weights=weights)

    def net(self, name: str) -> Net:
        """A fresh session of model ``name``.

        Raises:
            ModelError: its bytes are not the manifest's.
            ConfigError: a detector's points were set for another net of this name.
        """
        weight = self.weights.get(name)
        for detector in self.thresholds.tables:
            table = self.thresholds.table(detector)
            if table.get("nets", {}).get(name, weight.sha256) != weight.sha256:
                raise ConfigError(f"{self.thresholds.path}: [{detector}] was set for another {name}. Remedy: run {table.get('command')}")
        # Threads are spent on whole questions; see `pipeline.Verifier`.
        on = self.settings
        self.nets[name] = Net(weight, threads=1, device=on.device, precision=on.precision, batch=on.net_batch)
        return self.nets[name]


class Detector(Protocol):
    """One question about one submission. Calls are pure and thread-safe: same evidence, same signal, and the same answers of a `Memory`
    where it has one.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def needs(self) -> frozenset[Modality]: ...

    @classmethod
    def load(cls, bundle: Bundle) -> Self: ...

    def __call__(self, evidence: Evidence) -> Signal:
        """Judge; abstain (score None, with a reason) where the evidence does not allow judging."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A detector that asks a `Memory`."""

    def remembering(self, memory: Memory) -> Detector:
        """The same detector with what it needs of ``memory``."""
        ...


def abstain(detector: Detector, *reasons: Reason) -> Signal:
    """The signal of a detector that could not judge."""
    return Signal(detector=detector.name, version=detector.version, score=None, reasons=reasons)


def missing(detector: Detector, evidence: Evidence) -> Signal | None:
    """An abstention naming every modality ``detector`` needs and ``evidence`` lacks; ``None`` if all are there."""
    reasons = tuple(evidence.why_missing(m) for m in sorted(detector.needs) if not evidence.has(m))
    return abstain(detector, *reasons) if reasons else None
