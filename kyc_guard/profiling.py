"""What judging one submission costs, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kyc_guard.config import Settings
from kyc_guard.pipeline import Verifier
from kyc_guard.stages import Stage, counted
from kyc_guard.submission import Submission


@dataclass(frozen=True, slots=True)
class Profile:
    """Of several calls the one in the middle, after one that loads what is loaded on first use."""

    stages: Mapping[str, Stage]
    """On one thread; ``rest`` is what belongs to no other stage."""
    wall_ms: Mapping[int, float]
    """Threads -> how long a caller waits."""
    cpu_ms: float
    """On one thread."""

    def to_json(self) -> dict[str, Any]:
        stages = [
            {"stage": name, "calls": s.calls, "wall_ms": round(s.wall_ms, 1), "cpu_ms": round(s.cpu_ms, 1)}
            for name, s in sorted(self.stages.items(), key=lambda pair: -pair[1].cpu_ms)
        ]
        return {"stages": stages, "wall_ms": {str(n): round(ms, 1) for n, ms in self.wall_ms.items()}, "cpu_ms": round(self.cpu_ms, 1)}


def profile(submission: Submission, settings: Settings, *, make: Callable[[Settings], Verifier] = Verifier, rounds: int = 3) -> Profile:
    """Judge ``submission`` again and again, stage by stage on one thread, and whole on as many as ``settings`` allow.

    Raises:
        InputError: as `Verifier.verify`.
    """
    runs: list[dict[str, Stage]] = []
    with make(settings.model_copy(update={"threads": 1})) as verifier:
        wall_ms = {1: _waited_ms(verifier, submission, rounds)}
        for _ in range(rounds):
            with counted() as stages:
                verifier.verify(submission)
            runs.append(stages)
    if settings.threads > 1:
        with make(settings) as verifier:
            wall_ms[settings.threads] = _waited_ms(verifier, submission, rounds)
    middle = sorted(runs, key=lambda stages: sum(s.cpu_ms for s in stages.values()))[rounds // 2]
    return Profile(middle, wall_ms, sum(s.cpu_ms for s in middle.values()))


def _waited_ms(verifier: Verifier, submission: Submission, rounds: int) -> float:
    verifier.verify(submission)
    took_s = []
    for _ in range(rounds):
        started = time.perf_counter()
        verifier.verify(submission)
        took_s.append(time.perf_counter() - started)
    return 1000 * sorted(took_s)[rounds // 2]
