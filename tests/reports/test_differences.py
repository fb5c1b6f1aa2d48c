"""Differences of rates: published examples, scipy, and what may never happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from kyc_guard.reports import differences
from kyc_guard.reports.metrics import Rate

counts = st.integers(1, 60).flatmap(lambda n: st.integers(0, n).map(lambda k: Rate.of(k, n)))


def test_newcombes_own_examples() -> None:
    assert differences.newcombe(Rate.of(56, 70), Rate.of(48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert differences.newcombe(Rate.of(9, 10), Rate.of(3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert differences.newcombe(Rate.of(10, 10), Rate.of(0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)


@given(a=counts, b=counts)
def test_chance_is_fishers_and_the_interval_holds_the_difference(a: Rate, b: Rate) -> None:
    assert differences.chance(a, b) == pytest.approx(fisher_exact([[a.errors, a.n - a.errors], [b.errors, b.n - b.errors]]).pvalue)
    low, high = differences.newcombe(a, b)
    assert -1.0 - 1e-9 <= low <= a.errors / a.n - b.errors / b.n + 1e-9
    assert a.errors / a.n - b.errors / b.n - 1e-9 <= high <= 1.0 + 1e-9


def test_holm_by_hand() -> None:
    # sorted .01 .02 .04: times 3, 2, 1, and never falling
    assert differences.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert differences.holm([0.9, 0.8]) == [1.0, 1.0]
    assert differences.holm([]) == []


def test_a_group_is_held_against_all_others() -> None:
    rates = {"a": Rate.of(1, 100), "b": Rate.of(30, 100), "c": Rate.of(2, 100)}
    a, b, c = differences.against_others(rates)
    assert (a.others.errors, a.others.n) == (32, 200)
    assert b.value == pytest.approx(30 / 100 - 3 / 200)
    assert [d.shown for d in (a, b, c)] == [True, True, True]
    assert b.needed == differences.needed(30 / 100, 3 / 200)
    few = differences.against_others({"a": Rate.of(1, 10), "b": Rate.of(3, 10)})
    assert [d.shown for d in few] == [False, False]
    assert few[0].needed == few[1].needed == 62


@pytest.mark.parametrize("rates", [{}, {"a": Rate.of(1, 5)}, {"a": Rate.of(1, 5), "b": Rate.of(0, 0)}])
def test_nobody_to_compare_with_is_no_difference_of_zero(rates: dict[str, Rate]) -> None:
    assert all(d.value is None and d.p is None and not d.shown for d in differences.against_others(rates))


def test_equal_rates_need_no_number() -> None:
    assert differences.against_others({"a": Rate.of(1, 5), "b": Rate.of(1, 5)})[0].needed is None


@pytest.mark.parametrize(("rate", "other", "people_needed"), [(0.05, 0.10, 435), (0.10, 0.20, 199), (0.5, 0.6, 388)])
def test_people_needed_agree_with_the_textbook_table(rate: float, other: float, people_needed: int) -> None:
    assert differences.needed(rate, other) == differences.needed(other, rate) == people_needed
