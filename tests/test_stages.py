"""Time is counted where it is spent, once, and nothing is counted unasked."""

from __future__ import annotations

import threading
import time

import pytest

from kyc_guard.stages import counted, stage


def _busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_time_belongs_to_the_innermost_stage() -> None:
    with counted() as stages:
        with stage("outer"):
            _busy(0.02)
            with stage("inner"):
                _busy(0.04)
        with stage("inner"):
            _busy(0.04)
    assert {name: s.calls for name, s in stages.items()} == {"rest": 1, "outer": 1, "inner": 2}
    assert stages["outer"].cpu_ms < stages["inner"].cpu_ms
    assert stages["inner"].cpu_ms >= 80
    assert stages["rest"].cpu_ms < 20


def test_a_stage_that_fails_is_left() -> None:
    @stage("failing")
    def fails() -> None:
        raise ValueError

    with counted() as stages:
        with pytest.raises(ValueError):  # noqa: PT011
            fails()
        _busy(0.02)
    assert stages["failing"].cpu_ms < stages["rest"].cpu_ms


def test_other_threads_are_not_counted() -> None:
    def work() -> None:
        with stage("elsewhere"):
            pass

    with counted() as stages:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert set(stages) == {"rest"}
    work()
    assert set(stages) == {"rest"}
