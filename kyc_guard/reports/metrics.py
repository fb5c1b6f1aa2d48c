"""Error rates of presentation attack detection, in the terms of ISO/IEC 30107-3:2023, clause 3.2 "Metrics".

Pure functions on arrays. Scores are P(attack): a presentation is *classified as an attack* when ``score >= threshold``.
Only scores go in; presentations that got none are no classification errors, they are counted by `non_response`. All
functions give the same for any order of their rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from kyc_guard.types import Float64Array

CONFIDENCE = 0.95
BPCER_POINTS = {"BPCER10": 0.10, "BPCER20": 0.05, "BPCER100": 0.01}
"""BPCER at an APCER of 1/10, 1/20 and 1/100."""

Over: TypeAlias = Literal["max_species", "pooled"]


@dataclass(frozen=True, slots=True)
class Rate:
    """``errors`` of ``n``, with the exact interval; all ``None`` when there was nothing to count."""

    errors: int
    n: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, errors: int, n: int, confidence: float = CONFIDENCE) -> Rate:
        if n == 0:
            return cls(0, 0, None, None, None)
        return cls(errors, n, errors / n, *clopper_pearson(errors, n, confidence))


def clopper_pearson(errors: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a binomial proportion.

    Assumes independent presentations; frames of one clip are not, so count clips or subjects where it matters.

    Raises:
        ValueError: not 0 <= errors <= n with n > 0.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    if not 0 <= errors <= n or n == 0:
        raise ValueError(f"{errors} of {n} is no proportion")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if errors == 0 else float(betaincinv(errors, n - errors + 1, tail))
    high = 1.0 if errors == n else float(betaincinv(errors + 1, n - errors, 1.0 - tail))
    return low, high


def upper_bound(errors: int, n: int, confidence: float = CONFIDENCE) -> float:
    """What a rate is at most, at one-sided ``confidence``: Clopper and Pearson's upper limit."""
    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, confidence))


def sample_size(limit: float, confidence: float = CONFIDENCE) -> int:
    """How many presentations without one error show, at one-sided ``confidence``, that a rate is at most ``limit``.

    Solves ``(1 - limit) ** n <= 1 - confidence``: 299 for 1 % at 95 %.
    """
    return math.ceil(math.log(1.0 - confidence) / math.log1p(-limit))


def apcer(attack_scores: Float64Array, threshold: float) -> Rate:
    """Attack presentation classification error rate of **one** PAI species.

    Proportion of attack presentations using the same PAI species incorrectly classified as bona fide.

    Args:
        attack_scores: (N,) P(attack) of that species' presentations.
    """
    return Rate.of(int(np.count_nonzero(attack_scores < threshold)), attack_scores.size)


def bpcer(bona_fide_scores: Float64Array, threshold: float) -> Rate:
    """Bona fide presentation classification error rate: proportion of (N,) bona fide presentations classified as attacks."""
    return Rate.of(int(np.count_nonzero(bona_fide_scores >= threshold)), bona_fide_scores.size)


def worst(rates: Mapping[str, Rate]) -> tuple[str, Rate] | None:
    """The species with the highest rate: the headline APCER is the maximum over species, never their mean.

    Ties go to the species with the higher upper bound, then to the first by name.
    """
    known = [(name, r) for name, r in sorted(rates.items()) if r.value is not None]
    return max(known, key=lambda item: (item[1].value or 0.0, item[1].high or 0.0)) if known else None


def non_response(silent: int, n: int) -> Rate:
    """APNRR of one PAI species, or BPNRR: proportion of presentations that got no response, here no score."""
    return Rate.of(silent, n)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """BPCER at the highest threshold whose APCER is at most ``target``.

    The threshold is chosen on the very data it is reported on, as in every BPCER10/20/100; an operating threshold set
    beforehand will do worse.
    """

    target: float
    over: Over
    threshold: float
    apcer: float
    """Reached at ``threshold``, over the same species or pool."""
    bpcer: Rate
    resolved: bool
    """Whether every species (or the pool) has at least 1 / target presentations, so that the target can be told from 0."""


def bpcer_at_apcer(bona_fide: Float64Array, attacks: Mapping[str, Float64Array], target: float, over: Over) -> FixedPoint | None:
    """BPCER10, BPCER20 and BPCER100 for ``target`` = 0.10, 0.05, 0.01.

    Args:
        bona_fide: (N,) P(attack). attacks: PAI species -> (M,) P(attack).
        over: hold the target in every species ("max_species"), or in all attacks together ("pooled").

    Returns:
        ``None`` without bona fide or without attack scores.
    """
    groups = [np.sort(a) for a in attacks.values() if a.size]
    if not groups or not bona_fide.size:
        return None
    if over == "pooled":
        groups = [np.sort(np.concatenate(groups))]
    # Just k scores may lie below the threshold, so it can be as high as the (k+1)-th smallest. The small addend is for
    # targets such as 0.07 whose product with a whole number falls short of the whole number it should be.
    allowed = [math.floor(target * g.size + 1e-9) for g in groups]
    threshold = float(min(g[k] if k < g.size else np.inf for g, k in zip(groups, allowed, strict=True)))
    reached = max(float(np.mean(g < threshold)) for g in groups)
    resolved = all(g.size * target >= 1.0 - 1e-9 for g in groups)
    return FixedPoint(target, over, threshold, reached, bpcer(bona_fide, threshold), resolved)


@dataclass(frozen=True, slots=True, eq=False)
class Det:
    """Detection error trade-off: both error rates at every threshold, APCER rising, BPCER falling."""

    thresholds: Float64Array
    """(K,) ascending; the last is inf, where nothing is called an attack."""
    apcer: Float64Array
    """(K,) of all attacks pooled."""
    bpcer: Float64Array


def det(bona_fide: Float64Array, attack: Float64Array) -> Det:
    """The DET curve of (N,) bona fide and (M,) attack scores, one point for each distinct score.

    Raises:
        ValueError: one of the two is empty.
    """
    _demand_both(bona_fide, attack)
    thresholds = np.append(np.unique(np.concatenate([bona_fide, attack])), np.inf)
    missed = np.searchsorted(np.sort(attack), thresholds, side="left") / attack.size
    alarms = 1.0 - np.searchsorted(np.sort(bona_fide), thresholds, side="left") / bona_fide.size
    return Det(thresholds, missed, alarms)


def eer(curve: Det) -> float:
    """Equal error rate: where the DET curve, joined by straight lines, crosses APCER = BPCER.

    Secondary: it is the rate of no operating point anybody would choose; report BPCER at fixed APCER first.
    """
    gap = curve.apcer - curve.bpcer
    right = int(np.argmax(gap >= 0.0))
    share = -gap[right - 1] / (gap[right] - gap[right - 1])
    return float(curve.apcer[right - 1] + share * (curve.apcer[right] - curve.apcer[right - 1]))


def auc(bona_fide: Float64Array, attack: Float64Array) -> float:
    """Area under the ROC curve: probability that an attack scores higher than a bona fide, ties counted half.

    Raises:
        ValueError: one of the two is empty.
    """
    _demand_both(bona_fide, attack)
    ordered = np.sort(bona_fide)
    below = np.searchsorted(ordered, attack, side="left").sum()
    not_above = np.searchsorted(ordered, attack, side="right").sum()
    return float((below + not_above) / (2 * attack.size * bona_fide.size))


def auc_interval(
    scores: Float64Array,
    is_attack: NDArray[np.bool_],
    clusters: Sequence[str],
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the AUC that resamples whole clusters (subjects), not rows.

    Rows of one person resemble one another; resampling them one by one would make the interval far too narrow.

    Args:
        scores: (N,) P(attack). is_attack: (N,). clusters: N names; rows of one name are drawn together.

    Returns:
        ``None`` if there are fewer than two clusters or hardly a replicate holds both classes.

    Source: Field and Welsh, "Bootstrapping clustered data", 2007 (cluster bootstrap).
    """
    names, cluster = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    if names.size < 2:
        return None
    # Rows with equal scores form one step of the curve; sorted once, a replicate is two weighted counts.
    levels, step = np.unique(scores, return_inverse=True)
    rng = np.random.default_rng(seed)
    values = np.full(replicates, np.nan)
    for i in range(replicates):
        drawn = np.bincount(rng.integers(names.size, size=names.size), minlength=names.size)[cluster]
        attacks = np.bincount(step, weights=drawn * is_attack, minlength=levels.size)
        bona_fides = np.bincount(step, weights=drawn * ~is_attack, minlength=levels.size)
        pairs = attacks.sum() * bona_fides.sum()
        if pairs:
            below = np.cumsum(bona_fides) - bona_fides
            values[i] = (attacks * (below + bona_fides / 2)).sum() / pairs
    values = values[~np.isnan(values)]
    if values.size < replicates / 2:
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def reliability(scores: Float64Array, is_attack: NDArray[np.bool_], bins: int = 10) -> list[dict[str, Any]]:
    """Per score bin of equal width: how many, their mean score, and the share that were attacks.

    A calibrated P(attack) has mean score = share, at the mix of attacks and bona fides of these very data.
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    for b in np.unique(place):
        mine = place == b
        share = Rate.of(int(is_attack[mine].sum()), int(mine.sum()))
        rows.append(
            {"low": int(b) / bins, "high": (int(b) + 1) / bins, "mean_score": math.fsum(scores[mine]) / mine.sum(), "attacks": share}
        )
    return rows


def calibration_error(table: Sequence[Mapping[str, Any]]) -> float | None:
    """Expected calibration error: mean distance between score and share of attacks over the bins of `reliability`, by their size.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.
    """
    n = sum(row["attacks"].n for row in table)
    return math.fsum(abs(row["mean_score"] - row["attacks"].value) * row["attacks"].n for row in table) / n if n else None


def brier(scores: Float64Array, is_attack: NDArray[np.bool_]) -> float | None:
    """Mean squared distance between score and truth; 0 is perfect, the same score for all gives share * (1 - share) at best.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    return math.fsum((scores - is_attack) ** 2) / scores.size if scores.size else None


def _demand_both(bona_fide: Float64Array, attack: Float64Array) -> None:
    if not bona_fide.size or not attack.size:
        raise ValueError("needs scores of both bona fide and attack presentations")
