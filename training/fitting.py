"""What the small models share: the fit of a few weights, and how often a fitted score flags."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kyc_guard.reports.metrics import clopper_pearson
from kyc_guard.types import Float64Array


def logistic(figures: Float64Array, attack: NDArray[np.bool_], weight: Float64Array, ridge: float) -> tuple[Float64Array, float]:
    """Weights of raw figures and offset of P(attack), by Newton's method on standardised ones."""
    centre, scale = figures.mean(axis=0), figures.std(axis=0) + 1e-9
    design = np.concatenate([(figures - centre) / scale, np.ones((len(figures), 1))], axis=1)
    penalty = np.diag([ridge] * figures.shape[1] + [0.0])
    answer = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ answer))
        gradient = design.T @ (weight * (p - attack)) + penalty @ answer
        answer -= np.linalg.solve((design * (weight * p * (1 - p))[:, None]).T @ design + penalty + 1e-9 * np.eye(len(answer)), gradient)
    return answer[:-1] / scale, float(answer[-1] - (answer[:-1] / scale) @ centre)


def shares(scores: Float64Array, point: float) -> dict[str, Any]:
    """How many scores reach the point, of how many; exact 95 % interval of the share."""
    count = int((scores >= point).sum())
    return {"flagged": count, "of": len(scores), "interval_95": list(clopper_pearson(count, len(scores)))}
