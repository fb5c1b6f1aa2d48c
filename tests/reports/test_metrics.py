"""ISO/IEC 30107-3 figures: by hand, against scipy and scikit-learn, and whatever the order of the rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest

from kyc_guard.reports import metrics
from kyc_guard.reports.metrics import Rate

# The worked example. Threshold 0.5: bona fides at or above it are errors, attacks below it are errors.
BONA_FIDE = np.array([0.05, 0.10, 0.20, 0.30, 0.40, 0.45, 0.55, 0.60, 0.70, 0.90])
PRINT = np.array([0.35, 0.50, 0.65, 0.80, 0.95])
REPLAY = np.array([0.25, 0.40, 0.75, 0.85])

probabilities = st.integers(0, 20).map(lambda i: i / 20)  # coarse, so that ties are common
some_scores = hnp.arrays(np.float64, st.integers(1, 40), elements=probabilities)


def test_the_worked_example_at_a_threshold() -> None:
    assert metrics.bpcer(BONA_FIDE, 0.5).value == 4 / 10  # 0.55 0.60 0.70 0.90
    assert metrics.apcer(PRINT, 0.5).value == 1 / 5  # 0.35; 0.50 is at the threshold: an attack
    assert metrics.apcer(REPLAY, 0.5).value == 2 / 4  # 0.25 0.40
    rates = {"print": metrics.apcer(PRINT, 0.5), "replay": metrics.apcer(REPLAY, 0.5)}
    assert metrics.worst(rates) == ("replay", Rate.of(2, 4))


@pytest.mark.parametrize(
    ("over", "target", "threshold", "apcer", "bpcer"),
    [
        # pooled, sorted: .25 .35 .40 .50 .65 .75 .80 .85 .95
        ("pooled", 0.10, 0.25, 0.0, 7 / 10),  # 0.10 * 9 < 1: none may be missed
        ("pooled", 0.25, 0.40, 2 / 9, 6 / 10),  # two may: .25 .35
        ("max_species", 0.20, 0.25, 0.0, 7 / 10),  # print may miss one (0.50), replay none (0.25): the lower counts
        ("max_species", 0.25, 0.40, 1 / 4, 6 / 10),  # print 0.50, replay 0.40; at 0.40 print misses 1/5
    ],
)
def test_the_worked_example_at_a_fixed_apcer(over: metrics.Over, target: float, threshold: float, apcer: float, bpcer: float) -> None:
    point = metrics.bpcer_at_apcer(BONA_FIDE, {"print": PRINT, "replay": REPLAY}, target, over)
    assert point is not None
    assert (point.threshold, point.apcer, point.bpcer.value) == (threshold, apcer, bpcer)


def test_a_target_finer_than_the_data_is_marked_unresolved() -> None:
    many = {"print": np.linspace(0, 1, 100)}
    assert [metrics.bpcer_at_apcer(BONA_FIDE, many, t, "max_species").resolved for t in (0.1, 0.01, 0.005)] == [True, True, False]  # type: ignore[union-attr]


def test_the_worked_example_by_ranks() -> None:
    attack = np.concatenate([PRINT, REPLAY])
    # bona fides below each attack (ties half): .35->4 .50->6 .65->8 .80->9 .95->10 | .25->3 .40->4.5 .75->9 .85->9
    assert metrics.auc(BONA_FIDE, attack) == pytest.approx((4 + 6 + 8 + 9 + 10 + 3 + 4.5 + 9 + 9) / 90)


@pytest.mark.parametrize(("errors", "n"), [(0, 1), (0, 150), (1, 1), (3, 10), (7, 9), (150, 150), (12, 4000)])
def test_intervals_are_those_of_scipy(errors: int, n: int) -> None:
    exact = binomtest(errors, n).proportion_ci(0.95, method="exact")
    assert metrics.clopper_pearson(errors, n) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_no_errors_in_150_bound_as_the_standard_example_says() -> None:
    assert metrics.clopper_pearson(0, 150, confidence=0.90)[1] == pytest.approx(1 - 0.05 ** (1 / 150))  # 1.98 %
    assert [metrics.sample_size(limit) for limit in (0.01, 0.05, 0.10)] == [299, 59, 29]


@pytest.mark.parametrize(("errors", "n"), [(1, 0), (0, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_refused(errors: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        metrics.clopper_pearson(errors, n)


def test_nothing_counted_is_not_a_rate_of_zero() -> None:
    assert metrics.apcer(np.array([]), 0.5) == Rate(0, 0, None, None, None)
    assert metrics.worst({"print": Rate.of(0, 0)}) is None
    assert metrics.bpcer_at_apcer(BONA_FIDE, {}, 0.1, "pooled") is None
    with pytest.raises(ValueError, match="both"):
        metrics.auc(BONA_FIDE, np.array([]))


@settings(deadline=None)
@given(bona_fide=some_scores, attack=some_scores)
def test_auc_and_eer_agree_with_scikit_learn(bona_fide: np.ndarray, attack: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    y = np.r_[np.zeros(bona_fide.size), np.ones(attack.size)]
    scores = np.r_[bona_fide, attack]
    assert metrics.auc(bona_fide, attack) == pytest.approx(sklearn.roc_auc_score(y, scores))
    fpr, tpr, _ = sklearn.roc_curve(y, scores, drop_intermediate=False)
    got = metrics.eer(metrics.det(bona_fide, attack))
    # On the ROC polyline the point with miss rate = false alarm rate.
    gap = (1 - tpr) - fpr
    i = int(np.argmax(gap <= 0))
    share = gap[i - 1] / (gap[i - 1] - gap[i])
    assert got == pytest.approx(fpr[i - 1] + share * (fpr[i] - fpr[i - 1]))


@settings(deadline=None)
@given(bona_fide=some_scores, attack=some_scores)
def test_det_points_are_those_of_scikit_learn(bona_fide: np.ndarray, attack: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    y = np.r_[np.zeros(bona_fide.size), np.ones(attack.size)]
    fpr, tpr, thresholds = sklearn.roc_curve(y, np.r_[bona_fide, attack], drop_intermediate=False)
    curve = metrics.det(bona_fide, attack)
    assert curve.thresholds == pytest.approx(thresholds[::-1])
    assert curve.bpcer == pytest.approx(fpr[::-1])
    assert curve.apcer == pytest.approx(1 - tpr[::-1])


@settings(deadline=None)
@given(
    bona_fide=some_scores,
    a=some_scores,
    b=some_scores,
    target=st.sampled_from([0.1, 0.05, 0.01, 0.07, 0.5]),
    over=st.sampled_from(["max_species", "pooled"]),
)
def test_the_fixed_point_is_the_best_threshold_that_holds_the_target(
    bona_fide: np.ndarray, a: np.ndarray, b: np.ndarray, target: float, over: metrics.Over
) -> None:
    species = {"a": a, "b": b} if over == "max_species" else {"all": np.r_[a, b]}
    point = metrics.bpcer_at_apcer(bona_fide, {"a": a, "b": b}, target, over)
    assert point is not None
    holding = [
        t for t in {*a, *b, *bona_fide, math.inf} if all(np.count_nonzero(s < t) <= target * s.size + 1e-9 for s in species.values())
    ]
    assert point.bpcer.value == min(np.mean(bona_fide >= t) for t in holding)


@settings(deadline=None)
@given(bona_fide=some_scores, attack=some_scores, seed=st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(bona_fide: np.ndarray, attack: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.r_[bona_fide, attack]
    is_attack = np.arange(scores.size) >= bona_fide.size
    clusters = np.array([f"s{i // 3}" for i in range(scores.size)])
    order = rng.permutation(scores.size)

    def figures(s: np.ndarray, y: np.ndarray, c: np.ndarray) -> tuple[object, ...]:
        curve = metrics.det(s[~y], s[y])
        return (
            metrics.bpcer_at_apcer(s[~y], {"x": s[y]}, 0.1, "max_species"),
            metrics.eer(curve),
            metrics.auc(s[~y], s[y]),
            metrics.auc_interval(s, y, list(c), replicates=20),
            metrics.reliability(s, y),
            metrics.calibration_error(metrics.reliability(s, y)),
            metrics.brier(s, y),
        )

    assert figures(scores, is_attack, clusters) == figures(scores[order], is_attack[order], clusters[order])


def test_resampling_subjects_gives_a_wider_interval_than_resampling_frames() -> None:
    rng = np.random.default_rng(1)
    centre = np.repeat(rng.normal(size=20), 50)  # 20 people, 50 frames each, a person's frames alike
    is_attack = np.repeat(np.arange(20) % 2 == 0, 50)
    scores = 1 / (1 + np.exp(-(centre + is_attack + 0.1 * rng.normal(size=1000))))
    people = metrics.auc_interval(scores, is_attack, [f"p{i // 50}" for i in range(1000)], replicates=200)
    frames = metrics.auc_interval(scores, is_attack, [str(i) for i in range(1000)], replicates=200)
    assert people is not None
    assert frames is not None
    assert people[1] - people[0] > 3 * (frames[1] - frames[0])
    value = metrics.auc(scores[~is_attack], scores[is_attack])
    assert people[0] < value < people[1]


def test_the_bootstrap_is_seeded_and_says_when_it_cannot() -> None:
    scores, is_attack = np.r_[BONA_FIDE, PRINT], np.r_[np.zeros(10, bool), np.ones(5, bool)]
    names = [str(i) for i in range(15)]
    assert metrics.auc_interval(scores, is_attack, names) == metrics.auc_interval(scores, is_attack, names)
    assert metrics.auc_interval(scores, is_attack, ["one"] * 15) is None


def test_reliability_counts_every_row_once() -> None:
    scores = np.array([0.0, 0.05, 0.1, 0.99, 1.0])
    table = metrics.reliability(scores, np.array([False, True, False, True, True]))
    assert [(r["low"], r["attacks"].errors, r["attacks"].n) for r in table] == [(0.0, 1, 2), (0.1, 0, 1), (0.9, 2, 2)]


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9])
    is_attack = np.array([False, False, False, True, True, False])
    # bin 1: 4 rows, mean .1, a quarter attacks; bin 9: 2 rows, mean .9, half attacks
    assert metrics.calibration_error(metrics.reliability(scores, is_attack)) == pytest.approx((4 * 0.15 + 2 * 0.4) / 6)
    assert metrics.calibration_error([]) is None
    assert metrics.brier(scores, is_attack) == pytest.approx((3 * 0.01 + 0.81 + 0.01 + 0.81) / 6)
    assert metrics.brier(np.array([]), np.array([], dtype=bool)) is None


@settings(deadline=None)
@given(bona_fide=some_scores, attack=some_scores)
def test_brier_and_reliability_agree_with_scikit_learn(bona_fide: np.ndarray, attack: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    y = np.r_[np.zeros(bona_fide.size, bool), np.ones(attack.size, bool)]
    scores = np.r_[bona_fide, attack] * 0.97 + 0.011  # off the bins' edges, which the two assign differently
    assert metrics.brier(scores, y) == pytest.approx(sklearn.brier_score_loss(y, scores))
    share, mean = calibration.calibration_curve(y, scores, n_bins=10)
    table = metrics.reliability(scores, y)
    assert [row["attacks"].value for row in table] == pytest.approx(share.tolist())
    assert [row["mean_score"] for row in table] == pytest.approx(mean.tolist())
