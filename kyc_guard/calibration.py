"""Raw network logit -> P(attack). Read-only: the numbers are written by the calibrate command."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kyc_guard.errors import ConfigError
from kyc_guard.types import Float64Array, Reason


@dataclass(frozen=True, slots=True)
class Platt:
    """P(attack) = sigmoid(slope * logit + offset), slope > 0.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999.
    """

    slope: float
    offset: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any], name: str) -> Platt:
        """Read ``[<detector>.calibration]`` of thresholds.toml.

        Raises:
            ConfigError: missing, not finite, or a slope that would turn the direction round.
        """
        try:
            slope, offset = float(table["calibration"]["slope"]), float(table["calibration"]["offset"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"thresholds.toml: [{name}.calibration] needs slope and offset. Remedy: run the calibrate command") from error
        if not (math.isfinite(slope) and math.isfinite(offset) and slope > 0.0):
            raise ConfigError(f"thresholds.toml: [{name}.calibration] has slope {slope}, offset {offset}; slope must be positive")
        return cls(slope, offset)

    def __call__(self, logit: float) -> float:
        z = self.slope * logit + self.offset
        # The two-branch form cannot overflow.
        return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


@dataclass(frozen=True, slots=True, eq=False)
class Hint:
    """Logit of a weak suspicion: weights on standard scores against honest recordings, and on their distance whichever way.

    Attributes:
        centre, scale, weights, away: (F,) each.
        cut: standard scores are cut here, so that no single figure decides; a figure that could not be told adds nothing.
    """

    centre: Float64Array
    scale: Float64Array
    weights: Float64Array
    away: Float64Array
    offset: float
    cut: float

    def added(self, figures: Float64Array) -> Float64Array:
        """(..., F): what each figure of (..., F) adds to the logit, beside ``offset``."""
        z = np.clip((figures - self.centre) / self.scale, -self.cut, self.cut)
        return np.asarray(np.nan_to_num(z * self.weights + np.abs(z) * self.away, nan=0.0))

    def __call__(self, figures: Float64Array) -> Float64Array:
        """(...,) logits of (..., F) figures."""
        return np.asarray(self.added(figures).sum(axis=-1) + self.offset)


@dataclass(frozen=True, slots=True)
class Join:
    """Several views' logits -> one log-odds: offset + the weighted sum, no weight negative."""

    weights: Mapping[str, float]
    offset: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any], name: str) -> Join:
        """Read one table of weights by view and an ``offset``.

        Raises:
            ConfigError: missing, not finite, or a negative weight, which would turn a view's direction round.
        """
        try:
            weights = {k: float(v) for k, v in table.items() if k != "offset"}
            offset = float(table["offset"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"thresholds.toml: [{name}] needs a weight a view and an offset. Remedy: run the calibrate command"
            ) from error
        if not weights or not all(math.isfinite(w) and w >= 0 for w in weights.values()) or not math.isfinite(offset):
            raise ConfigError(f"thresholds.toml: [{name}] has unusable weights {weights} or offset {offset}")
        return cls(weights, offset)

    def __call__(self, logits: Mapping[str, float]) -> float:
        return self.offset + sum(weight * logits[view] for view, weight in self.weights.items())


def either(*log_odds: float) -> float:
    """P(attack) when any one of several independent suspicions suffices (noisy-or): 1 - product of P(not that one)."""
    return 1.0 - math.exp(-sum(max(z, 0.0) + math.log1p(math.exp(-abs(z))) for z in log_odds))


def noisy_or(findings: Mapping[str, float], reasons: Iterable[Reason]) -> float:
    """P(attack) of the findings among ``reasons``, each code once, and the ``prior``: 1 - product of P(not that one)."""
    # In the order of the reasons: a set's order changes from process to process, and a product's last bit with it.
    return 1.0 - math.prod(1.0 - findings[code] for code in dict.fromkeys(["prior", *(r.code for r in reasons)]))
