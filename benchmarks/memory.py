"""Memory of a run's processes while it goes on; only Linux tells it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MB = 1.024e-3
"""Of one of the kernel's kB."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment."""

    seconds: float
    done: int
    total_mb: float
    """Of all processes, pages they share counted once (PSS)."""
    largest_mb: float
    """Resident memory of the largest process."""


@contextlib.contextmanager
def watched(done: Callable[[], int], *, root: int | None = None, every_s: float = 1.0) -> Iterator[list[Sample]]:
    """Memory looked at every so often; the list grows meanwhile.

    Args:
        done: how much is done, to be noted with every sample.
        root: this process and all below it; unless given all below the present one, which is a benchmark's and no product's.
    """
    samples, ended = list[Sample](), threading.Event()
    started = time.monotonic()

    def watch() -> None:
        while not ended.wait(every_s):
            samples.append(_look(_below(os.getpid())[1:] if root is None else _below(root), time.monotonic() - started, done()))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield samples
    finally:
        ended.set()
        watching.join()


def _look(pids: Sequence[int], seconds: float, done: int) -> Sample:
    shares, residents = [], []
    for pid in pids:
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            words = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").split()
            shares.append(int(words[words.index("Pss:") + 1]))
            residents.append(int(words[words.index("Rss:") + 1]))
    return Sample(round(seconds, 1), done, _MB * sum(shares), _MB * max(residents, default=0))


def _below(root: int) -> list[int]:
    """The process, its children, theirs, and so on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    family = [root]
    for pid in family:  # grows while it is gone through
        family += [child for child, parent in parents.items() if parent == pid]
    return family
