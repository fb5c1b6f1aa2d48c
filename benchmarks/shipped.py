"""What is judged here: the verifier as it ships, and where its policy draws the line."""

from __future__ import annotations

from dataclasses import dataclass

from kyc_guard.batch import verifier_on_one_core
from kyc_guard.config import Settings, Thresholds
from kyc_guard.evaluate import operating_points
from kyc_guard.pipeline import Verifier


@dataclass(frozen=True, slots=True)
class LoadVerifier:
    """Makes the shipped verifier; picklable, for worker processes."""

    settings: Settings

    def __call__(self) -> Verifier:
        return verifier_on_one_core(self.settings)


def default_point(settings: Settings) -> tuple[str, float]:
    """Name and threshold of the first score that policy.toml does not let pass: from there on a person looks, or it is rejected."""
    return min(operating_points(settings).items(), key=lambda item: item[1])


def all_points(settings: Settings) -> dict[str, float]:
    """Every operating point of face_attack by name: those policy.toml uses, and those calibration set beside them."""
    thresholds = Thresholds.load(settings.thresholds_path)
    names = {*thresholds.table("face_attack").get("points", {}), *operating_points(settings)}
    return {name: thresholds.point("face_attack", name) for name in sorted(names)}
