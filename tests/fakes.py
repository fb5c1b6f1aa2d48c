"""Detectors, policy and weights that are small and known, for tests of what surrounds the real ones."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle, missing
from kyc_guard.pipeline import Verifier
from kyc_guard.submission import Submission
from kyc_guard.toml_text import toml_text
from kyc_guard.types import Decision, Evidence, Modality, Signal

POLICY = """
[checks.face_attack]
mandatory = true
reject_at = "reject"
review_at = "review"
on_abstain = "retry"
[checks.document]
mandatory = true
review_at = "review"
on_abstain = "retry"
[reasons]
retry = ["no_selfie", "no_face", "no_clip", "no_document"]
[quality]
other_face_ratio = 0.5
"""
THRESHOLDS = """
[fusion.weights]
face_attack = 1.0
[face_attack.points]
review = 0.5
reject = 0.9
[document.points]
review = 0.5
"""


def settings_in(folder: Path, *, policy: str = POLICY, thresholds: str = THRESHOLDS, manifest: str = "") -> Settings:
    """Settings whose policy and weights lie in ``folder``."""
    (folder / "policy.toml").write_text(policy, encoding="utf-8")
    (folder / "thresholds.toml").write_text(thresholds, encoding="utf-8")
    (folder / "manifest.toml").write_text(manifest, encoding="utf-8")
    return Settings(weights_dir=folder, policy_path=folder / "policy.toml")


def lend(settings: Settings, name: str) -> None:
    """Give a folder of weights one of the shipped models."""
    shipped = Settings().weights_dir
    table = tomllib.loads((shipped / "manifest.toml").read_text(encoding="utf-8"))[name]
    (settings.weights_dir / "manifest.toml").write_text(toml_text({name: table}), encoding="utf-8")
    shutil.copy(shipped / table["file"], settings.weights_dir / table["file"])


def fake(name: str, answer: float | Callable[[Evidence], float] = 0.1, *needs: Modality) -> Any:
    """A detector class that abstains without ``needs`` and otherwise gives ``answer``."""

    class Fake:
        def __init__(self) -> None:
            self.name, self.version, self.needs = name, "1", frozenset(needs)

        @classmethod
        def load(cls, bundle: Bundle) -> Fake:
            return cls()

        def __call__(self, evidence: Evidence) -> Signal:
            score = answer(evidence) if callable(answer) else answer
            return missing(self, evidence) or Signal(name, "1", score=score, species="print")

    return Fake


def usual(face_attack: float | Callable[[Evidence], float] = 0.1, document: float = 0.1) -> tuple[Any, ...]:
    """The two detectors that `POLICY` names."""
    return (fake("face_attack", face_attack, Modality.FACE), fake("document", document, Modality.DOCUMENT))


@dataclass(frozen=True, slots=True)
class MakeVerify:
    """For `batch.run` in spawned workers: judges with the usual fakes, whose settings lie in ``folder``."""

    folder: Path
    face_attack: float = 0.1

    def __call__(self) -> Callable[[Submission], Decision]:
        return Verifier(settings_in(self.folder), detectors=usual(self.face_attack)).verify
