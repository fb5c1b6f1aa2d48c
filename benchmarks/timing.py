"""Time of repeated calls: warm-up apart, medians, rivals in turn.

Wall time is what a user waits; CPU time of all threads is what the work costs, and hardly changes when the machine is busy.
"""

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
        Name -> {median_ms, p95_ms, p99_ms, best_ms, cpu_ms, first_ms, rounds}; all of wall time but the median ``cpu_ms``.
    """
    first = {name: _timed(call)[0] for name, call in calls.items()}
    for call in calls.values():
        for _ in range(warm_up - 1):
            call()
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    started = time.perf_counter()
    rounds = 0
    while rounds < least or time.perf_counter() - started < seconds:
        for name, call in calls.items():
            took[name].append(_timed(call))
        rounds += 1
    found = {}
    for name, pairs in took.items():
        wall, cpu = np.array(pairs).T
        found[name] = {
            "median_ms": float(np.median(wall)),
            "p95_ms": float(np.quantile(wall, 0.95)),
            "p99_ms": float(np.quantile(wall, 0.99)),
            "best_ms": float(wall.min()),
            "cpu_ms": float(np.median(cpu)),
            "first_ms": first[name],
            "rounds": rounds,
        }
    return found


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000
