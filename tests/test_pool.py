"""Worker processes: order, back-pressure, deaths."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_workers
import pytest

from kyc_guard import pool
from kyc_guard.errors import KycGuardError, ModelError


def test_every_task_comes_back_once_with_its_own_result() -> None:
    assert sorted(pool.run(fake_workers.times_ten, range(50), workers=2)) == [(i, i * 10) for i in range(50)]


def test_ordered_results_come_in_the_order_of_the_tasks() -> None:
    assert [task for task, _ in pool.run(fake_workers.slow_first, range(200), workers=2, ordered=True)] == list(range(200))


@pytest.mark.parametrize("ordered", [True, False])
def test_tasks_are_not_read_ahead_of_the_results_taken(ordered: bool) -> None:
    read = 0

    def tasks() -> Iterator[int]:
        nonlocal read
        for i in range(10_000):
            read += 1
            yield i

    results = pool.run(fake_workers.slow_first, tasks(), workers=2, ordered=ordered)
    next(results)
    results.close()
    assert read <= 2 * 64 + 3


def test_a_worker_killed_once_costs_nothing(tmp_path: Path) -> None:
    results = dict(pool.run(fake_workers.DiesOn(3, tmp_path), range(10), workers=2))
    assert results == {i: i for i in range(10)}


@pytest.mark.parametrize("ordered", [True, False])
def test_a_task_that_kills_its_worker_twice_fails_alone(ordered: bool) -> None:
    results = dict(pool.run(fake_workers.DiesOn(3), range(10), workers=2, ordered=ordered))
    failure = results.pop(3)
    assert isinstance(failure, pool.Failure)
    assert failure.code == "worker_died"
    assert "SIGKILL" in failure.detail
    assert results == {i: i for i in range(10) if i != 3}


def test_a_bug_in_one_task_fails_that_task_only() -> None:
    results = dict(pool.run(fake_workers.raises_on_three, range(5), workers=1))
    assert results.pop(3) == pool.Failure("internal_error", "ZeroDivisionError: three")
    assert results == {i: i for i in (0, 1, 2, 4)}


def test_a_task_that_hangs_is_given_up() -> None:
    started = time.monotonic()
    results = dict(pool.run(fake_workers.hangs_on_three, range(5), workers=2, timeout_s=2.0))
    failure = results.pop(3)
    assert isinstance(failure, pool.Failure)
    assert failure.code == "timeout"
    assert results == {i: i for i in (0, 1, 2, 4)}
    assert time.monotonic() - started < 200


@pytest.mark.parametrize("factory", [fake_workers.no_model, fake_workers.loses_model])
def test_a_bad_model_stops_everything(factory: pool.MakeWorker[int, int]) -> None:
    with pytest.raises(ModelError):
        list(pool.run(factory, range(5), workers=2))


def test_workers_that_die_at_start_are_not_started_for_ever() -> None:
    with pytest.raises(KycGuardError, match="before it could take work"):
        list(pool.run(fake_workers.dies_at_start, range(5), workers=2))


def test_no_tasks_no_results() -> None:
    assert list(pool.run(fake_workers.times_ten, [], workers=1)) == []


def test_ctrl_c_reaches_no_worker_that_is_still_starting() -> None:
    # A program of its own: only the first process a program starts brings the tracker of shared resources with it.
    program = "import fake_workers; from kyc_guard import pool; print(list(pool.run(fake_workers.Interruptible(), [1, 2, 3], workers=2)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=200
    )
    assert done.stdout.count("False") == 3
    assert "True" not in done.stdout
