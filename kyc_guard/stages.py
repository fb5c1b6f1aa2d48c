"""Where the time of one submission goes. Work is marked with `stage` where it is done; nothing is counted unless `counted` asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Stage:
    """What one kind of work took, without the other stages inside it."""

    calls: int = 0
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    """Of all threads of the process: exact while nothing else runs in it."""


class _Clock:
    """Stages that are open, innermost last; time belongs to the innermost."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self._open: list[str] = []
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def enter(self, name: str) -> None:
        self._charge()
        self._open.append(name)
        self.stages.setdefault(name, Stage()).calls += 1

    def leave(self) -> None:
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        if self._open:
            inner = self.stages[self._open[-1]]
            inner.wall_ms += 1000 * (wall_s - self._wall_s)
            inner.cpu_ms += 1000 * (cpu_s - self._cpu_s)
        self._wall_s, self._cpu_s = wall_s, cpu_s


_clock: ContextVar[_Clock | None] = ContextVar("kyc_guard_stages", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark work: a context manager, and a decorator of functions."""
    clock = _clock.get()
    if clock is None:
        yield
        return
    clock.enter(name)
    try:
        yield
    finally:
        clock.leave()


@contextmanager
def counted() -> Iterator[dict[str, Stage]]:
    """Count the stages that this thread passes through; what is marked by nobody else counts as ``rest``."""
    clock = _Clock()
    token = _clock.set(clock)
    clock.enter("rest")
    try:
        yield clock.stages
    finally:
        clock.leave()
        _clock.reset(token)
