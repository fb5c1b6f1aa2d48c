"""Logits to probabilities: one direction, no overflow, no unusable number."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.calibration import Join, Platt, either, noisy_or
from kyc_guard.errors import ConfigError
from kyc_guard.types import Reason

logits = st.floats(-60, 60)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize(("logit", "expected"), [(0.0, sigmoid(-1)), (0.5, 0.5), (2.0, sigmoid(3)), (-3.0, sigmoid(-7))])
def test_platt_is_a_sigmoid_of_slope_and_offset(logit: float, expected: float) -> None:
    assert Platt(2.0, -1.0)(logit) == pytest.approx(expected)


@given(logits, logits, st.floats(0.01, 50), st.floats(-50, 50))
def test_a_higher_logit_is_never_less_suspicious(a: float, b: float, slope: float, offset: float) -> None:
    platt = Platt(slope, offset)
    low, high = platt(min(a, b)), platt(max(a, b))
    assert 0.0 <= low <= high <= 1.0


@pytest.mark.parametrize("logit", [-1e300, 1e300, -math.inf, math.inf])
def test_no_logit_overflows(logit: float) -> None:
    assert Platt(5.0, 1.0)(logit) == (1.0 if logit > 0 else 0.0)


def test_platt_is_read_from_thresholds() -> None:
    assert Platt.from_table({"calibration": {"slope": 2, "offset": -0.5}}, "x") == Platt(2.0, -0.5)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"calibration": {}},
        {"calibration": {"slope": 1.0}},
        {"calibration": {"slope": "steep", "offset": 0.0}},
        {"calibration": {"slope": None, "offset": 0.0}},
        {"calibration": 3},
        {"calibration": {"slope": 0.0, "offset": 0.0}},
        {"calibration": {"slope": -1.0, "offset": 0.0}},
        {"calibration": {"slope": math.nan, "offset": 0.0}},
        {"calibration": {"slope": 1.0, "offset": math.inf}},
    ],
    ids=str,
)
def test_an_unusable_calibration_is_refused_by_name(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\[liveness.calibration\]"):
        Platt.from_table(table, "liveness")


def test_join_is_the_offset_plus_the_weighted_views() -> None:
    join = Join.from_table({"face": 0.5, "patch": 2, "offset": -1.0}, "x")
    assert join({"face": 2.0, "patch": 0.25, "unweighted": 99.0}) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 5), min_size=2, max_size=2), logits, logits, st.floats(0, 60))
def test_no_view_speaks_for_an_attack_by_a_lower_logit(weights: list[float], face: float, patch: float, more: float) -> None:
    join = Join({"face": weights[0], "patch": weights[1]}, 0.3)
    base = join({"face": face, "patch": patch})
    assert join({"face": face + more, "patch": patch}) >= base
    assert join({"face": face, "patch": patch + more}) >= base


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"offset": 0.0},
        {"face": 1.0},
        {"face": -0.1, "offset": 0.0},
        {"face": math.nan, "offset": 0.0},
        {"face": math.inf, "offset": 0.0},
        {"face": 1.0, "offset": math.nan},
        {"face": "much", "offset": 0.0},
        {"face": {"slope": 1.0}, "offset": 0.0},
    ],
    ids=str,
)
def test_an_unusable_join_is_refused_by_name(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\[face_attack.join.physical\]"):
        Join.from_table(table, "face_attack.join.physical")


@given(logits, logits)
def test_either_suspicion_suffices(a: float, b: float) -> None:
    assert either(a, b) == pytest.approx(1 - (1 - sigmoid(a)) * (1 - sigmoid(b)), abs=1e-9)
    assert either(a, b) == either(b, a)


@given(logits, logits, st.floats(0, 60))
def test_more_of_a_suspicion_is_never_less_suspicious(a: float, b: float, more: float) -> None:
    assert 0.0 <= either(a, b) <= either(a + more, b) <= 1.0
    assert either(a, b) >= max(sigmoid(a), sigmoid(b)) - 1e-12


def test_either_of_extremes_is_certain_and_stays_a_probability() -> None:
    assert either(1e6, -1e6) == 1.0
    assert either(-1e6, -1e6) == 0.0
    assert either(-40.0, -40.0) == pytest.approx(2 * math.exp(-40), rel=0.1)


def test_a_logit_that_is_no_number_never_becomes_a_probability() -> None:
    assert math.isnan(Platt(1.0, 0.0)(math.nan))
    assert math.isnan(either(math.nan, -5.0))
    assert math.isnan(either(-5.0, math.nan))


def test_findings_add_up_each_once_and_in_their_order_whatever_the_process() -> None:
    findings = {"prior": 0.02, "a": 0.3, "b": 0.07, "c": 0.011}
    reasons = [Reason("b"), Reason("a", "one"), Reason("a", "two"), Reason("c")]
    assert noisy_or(findings, reasons) == 1.0 - (1.0 - 0.02) * (1.0 - 0.07) * (1.0 - 0.3) * (1.0 - 0.011)  # the last bit too
    assert noisy_or(findings, []) == pytest.approx(0.02)
