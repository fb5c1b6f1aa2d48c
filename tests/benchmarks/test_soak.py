"""Memory of processes over time, and what is read off it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from benchmarks import plots, soak
from benchmarks.memory import Sample, watched


def test_memory_of_processes_below_is_seen_while_they_live() -> None:
    hold = "b = bytearray(60_000_000); print('held', flush=True); input()"
    with watched(lambda: 7, every_s=0.02) as samples:
        process = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(200):
            if samples and samples[-1].total_mb > 60:
                break
            time.sleep(0.02)
        process.communicate(b"\n")
    assert max(s.total_mb for s in samples) > 60
    assert max(s.largest_mb for s in samples) < 500
    assert samples[0].done == 7


def over_time(*quarters_mb: float) -> list[Sample]:
    return [Sample(i, i, quarters_mb[i // 25] + i % 3, 400.0) for i in range(100)]


@pytest.mark.parametrize(("quarters", "met"), [((600, 1000, 1010, 1020), [True, True]), ((600, 1000, 1300, 1600), [False, False])])
def test_a_flat_run_and_a_growing_one_are_told_apart(quarters: tuple[float, ...], met: list[bool]) -> None:
    found: dict[str, Any] = soak.figures(over_time(*quarters), 100)
    assert found["second_quarter_mb"] == pytest.approx(quarters[1] + 1)
    assert found["growth"] == pytest.approx((quarters[3] + 1) / (quarters[1] + 1))
    assert [goal.met for goal in soak.goals(found)] == met
    samples = [{"done": s.done, "total_mb": s.total_mb, "largest_mb": s.largest_mb} for s in soak.thinned(over_time(*quarters), 10)]
    assert (len(samples), samples[0]["done"], samples[-1]["done"]) == (10, 0, 99)
    assert plots.memory_over_time({"samples": samples}).startswith("<?xml")
