"""Wall time of repeated calls: warm-up apart, medians, rivals in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def rivals(calls: Mapping[str, Callable[[], object]], *, seconds: float, least: int = 5, warm_up: int = 2) -> dict[str, dict[str, Any]]:
    """Time several calls in turn, so that a busy moment of the machine hits all of them alike.

    Args:
        seconds: how long to go on altogether. least: rounds in any case.
        warm_up: calls of each before the clock counts; the very first is reported as ``first_ms``.

    Returns:
        Name -> {median_ms, p95_ms, p99_ms, best_ms, first_ms, rounds}.
    """
    first = {name: _timed(call) for name, call in calls.items()}
    for call in calls.values():
        for _ in range(warm_up - 1):
            call()
    took: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - started < seconds:
        for name, call in calls.items():
            took[name].append(_timed(call))
        rounds += 1
    return {
        name: {
            "median_ms": float(np.median(ms)),
            "p95_ms": float(np.quantile(ms, 0.95)),
            "p99_ms": float(np.quantile(ms, 0.99)),
            "best_ms": min(ms),
            "first_ms": first[name],
            "rounds": rounds,
        }
        for name, ms in took.items()
    }


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000
