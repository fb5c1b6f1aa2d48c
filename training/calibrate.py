"""Two nets' logits -> one P(attack) and its operating points, on people and a source the nets never trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from training.chips import ChipRow
from training.evaluate import PHYSICAL

APCER_POINTS = {"apcer_01": 0.01, "apcer_05": 0.05, "apcer_10": 0.10}
BPCER_POINTS = {"bpcer_01": 0.01, "bpcer_02": 0.02, "bpcer_05": 0.05}
SIMULATED_SHARE = 0.35
"""Of all attack weight: simulators fill what the calibration people lack, real attacks speak louder."""


@dataclass(frozen=True, slots=True)
class Joined:
    """logit = face * face logit + patch * mean patch logit; P(attack) = sigmoid(logit + offset)."""

    face: float
    patch: float
    offset: float

    def probability(self, face: NDArray[np.float32], patch: NDArray[np.float32]) -> NDArray[np.float64]:
        z = np.clip(self.face * face.astype(np.float64) + self.patch * patch + self.offset, -50, 50)
        out: NDArray[np.float64] = 1 / (1 + np.exp(-z))
        return out


def weights_of(rows: Sequence[ChipRow]) -> NDArray[np.float64]:
    """Equal weight for both classes; inside a class equal for every (source or simulator, species), so no large source rules."""

    def group(row: ChipRow) -> tuple[bool, bool, str, str]:
        return row.is_attack, bool(row.attack), row.attack or row.source, row.attack_type

    size = Counter(group(r) for r in rows)
    groups = Counter((g[0], g[1]) for g in size)
    share = {(False, False): 1.0, (True, False): 1 - SIMULATED_SHARE, (True, True): SIMULATED_SHARE}
    return np.array([share[group(r)[:2]] / groups[group(r)[:2]] / size[group(r)] for r in rows]) * len(rows)


def fit(rows: Sequence[ChipRow], face: NDArray[np.float32], patch: NDArray[np.float32]) -> Joined:
    """Logistic regression on the two logits.

    Raises:
        ValueError: a negative weight, which would turn one net's direction round.
    """
    model = LogisticRegression(C=100.0).fit(np.stack([face, patch], 1), [r.is_attack for r in rows], sample_weight=weights_of(rows))
    a, b = (float(v) for v in model.coef_[0])
    if min(a, b) < 0:
        raise ValueError(f"join weights {a:.3f} and {b:.3f}: one net contradicts the labels on the calibration split")
    return Joined(face=a, patch=b, offset=float(model.intercept_[0]))


def points(rows: Sequence[ChipRow], probability: NDArray[np.float64]) -> dict[str, float]:
    """Thresholds by name, from real pictures only: APCER over the physical attacks, BPCER over all bona fide faces."""
    real = np.array([not r.attack for r in rows])
    attack = probability[real & np.array([r.attack_type in PHYSICAL for r in rows])]
    bona_fide = probability[np.array([not r.is_attack for r in rows])]
    out = {name: float(np.quantile(attack, share, method="lower")) for name, share in APCER_POINTS.items()}
    return out | {name: float(np.nextafter(np.quantile(bona_fide, 1 - share, method="higher"), 1)) for name, share in BPCER_POINTS.items()}


def table(rows: Sequence[ChipRow], joined: Joined, probability: NDArray[np.float64], policy_points: dict[str, str]) -> dict[str, Any]:
    """The ``[face_attack]`` table of thresholds.toml."""
    named = points(rows, probability)
    real = [r for r in rows if not r.attack]
    return {
        "calibrated_on": "calibration split: people of every training source, and tranvanluyt_replay whole",
        "bona_fide": sum(not r.is_attack for r in real),
        "attacks": sum(r.is_attack for r in real),
        "simulated_attacks": len(rows) - len(real),
        "join": {"face": joined.face, "patch": joined.patch},
        "calibration": {"slope": 1.0, "offset": joined.offset},
        "points": named | {use: named[point] for use, point in policy_points.items()},
        "policy_points": policy_points,
    }
