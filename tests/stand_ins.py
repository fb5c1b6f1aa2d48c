"""Nets that need no file: objects with a ``run`` that answer as the shipped ones do, by rules a test can foresee."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.detectors.face_attack import CLASSES
from kyc_guard.detectors.liveness import SPECIES as LIVENESS_SPECIES
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.motion import GROUPS, POOLED_NAMES
from kyc_guard.weights import Weights


@dataclass
class AttackNet:
    """Gives every view the logits that ``rule`` reads from its pixels, and remembers what it was shown."""

    rule: Callable[[np.ndarray], tuple[float, float]]
    """(S, S, 3) uint8 RGB -> physical and digital logit."""
    species: str = "replay"
    shown: list[np.ndarray] = field(default_factory=list)

    def run(self, *, rgb: np.ndarray) -> dict[str, np.ndarray]:
        assert rgb.dtype == np.uint8
        self.shown.append(rgb)
        kinds = np.full((len(rgb), len(CLASSES)), 0.05, np.float32)
        kinds[:, CLASSES.index(self.species)] = 0.6
        return {
            "logits": np.array([self.rule(view) for view in rgb], np.float32).reshape(len(rgb), 2),
            "species": kinds,
            "map": rgb[:, ::32, ::32, 0].astype(np.float32) / 255,
            "embedding": np.zeros((len(rgb), 160), np.float32),
        }


def by_light(rgb: np.ndarray) -> tuple[float, float]:
    """The brighter the likelier shown to the camera, the redder the likelier made in a computer."""
    return float(rgb.mean()) / 32 - 4, float(rgb[:, :, 0].mean() - rgb[:, :, 2].mean()) / 32


class LivenessNet:
    """Answers by the sum of its figures, so that other figures give another answer."""

    inputs: ClassVar[Mapping[str, tuple[Any, ...]]] = {"figures": ("batch", len(POOLED_NAMES))}

    def run(self, *, figures: np.ndarray) -> dict[str, np.ndarray]:
        logit = np.tanh(np.nan_to_num(figures).sum(axis=1)).astype(np.float32)
        parts = np.repeat(logit[:, None], len(GROUPS), axis=1)
        species = np.full((len(figures), len(LIVENESS_SPECIES)), 1 / len(LIVENESS_SPECIES), np.float32)
        return {"logit": logit, "groups": parts, "species": species}


NETS: Mapping[str, Callable[[], Any]] = {
    "face_attack_face": lambda: AttackNet(by_light),
    "face_attack_patch": lambda: AttackNet(by_light),
    "liveness": LivenessNet,
}
JOIN = {"face": 1.0, "patch": 0.5, "offset": -1.0}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "face_attack": {"join": {"physical": JOIN, "digital": JOIN}},
    "liveness": {
        "calibration": {"slope": 1.0, "offset": -1.0},
        "findings": {"frozen_clip": 0.9, "looped_clip": 0.9},
        "groups": dict.fromkeys(GROUPS, 0.5),
    },
}
"""For stand-in nets: what was measured on the shipped ones says nothing of these."""


class StandInBundle(Bundle):
    """The shipped policy and thresholds, and a stand-in for every net there is one for; ``asked`` lists the nets asked for."""

    asked: list[str]

    def net(self, name: str) -> Any:
        self.asked.append(name)
        return NETS[name]() if name in NETS else super().net(name)


def bundle(**tables: Mapping[str, Any]) -> StandInBundle:
    """A bundle for `load`; ``tables`` replace those of thresholds.toml."""
    settings = Settings()
    shipped = Thresholds.load(settings.weights_dir / "thresholds.toml")
    thresholds = Thresholds({**shipped.tables, **TABLES, **tables}, shipped.sha256, shipped.path)
    made = StandInBundle(settings, Policy.load(settings.policy_path), thresholds, Weights(settings.weights_dir))
    object.__setattr__(made, "asked", [])
    return made
