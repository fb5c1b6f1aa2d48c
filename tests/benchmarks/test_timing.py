"""Timing: the run that loads models does not count, the middle one of the others does."""

from __future__ import annotations

import time

from benchmarks.timing import rivals


def test_the_first_run_is_left_out_and_the_median_of_the_others_counts() -> None:
    work_s = iter([0.2, 0.0, 0.0, 0.05])

    def work() -> None:
        until = time.process_time() + next(work_s)
        while time.process_time() < until:
            pass

    assert rivals({"work": work}, seconds=0.0, least=3, warm_up=1)["work"]["cpu_ms"] < 30
