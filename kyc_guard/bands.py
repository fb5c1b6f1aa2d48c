"""Where accept ends and reject begins: thresholds that hold an error rate beyond the data they were found on.

The presentation-attack detectors' thresholds move together, by one amount on the scale of log-odds, so that their strictness
towards one another stays as shipped. How far is settled by an order statistic: with the threshold just above the (k+1)-th
highest of n honest applicants' scores, the share of honest applicants beyond it is Beta(k+1, n-k) distributed, whatever the
scores look like. So the bound is exact at any sample size, and equals Clopper and Pearson's upper limit for k errors of n.
People are counted, not presentations, each with the worst of theirs: frames of one person resemble one another.

Sources: Wilks, "Determination of sample sizes for setting tolerance limits", 1941; Vovk, "Conditional validity of inductive
conformal predictors", 2012, for the same bound in conformal terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kyc_guard.config import Policy, Thresholds
from kyc_guard.errors import ConfigError, InputError
from kyc_guard.fusion import fusion_weights
from kyc_guard.reports import metrics
from kyc_guard.reports.metrics import Rate
from kyc_guard.types import Float64Array

Kind: TypeAlias = Literal["bpcer", "apcer"]
Points: TypeAlias = Mapping[str, tuple[str, float]]
"""Detector (or fusion) -> name of its operating point, and the threshold there."""

_STEP = 1e-6
"""thresholds.toml holds six decimals."""
_STEPS_UP = 4
"""Rounding a threshold up to six decimals leaves at most this many steps to the next score."""
_CURVE_POINTS = 41
_SURE = 1e-9  # as in fusion: a float cannot tell certainties apart


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of the thresholds.

    Attributes:
        kind, limit: at most this share of honest applicants not accepted ("bpcer"), or of each species' attacks accepted.
        reject_bpcer: at most this share of honest applicants rejected unseen; ``None`` = reject from where it was.
        attack_share: assumed share of attacks among submissions, for the review load and the costs.
        costs: of a review, of an accepted attack, of a rejected honest applicant, in one currency.
    """

    kind: Kind
    limit: float
    reject_bpcer: float | None = None
    attack_share: float = 0.01
    costs: tuple[float, float, float] | None = None
    confidence: float = metrics.CONFIDENCE

    def __post_init__(self) -> None:
        shares = {"target": self.limit, "reject-bpcer": self.reject_bpcer, "attack-share": self.attack_share}
        for name, share in shares.items():
            if share is not None and not 0.0 < share < 1.0:
                raise InputError(f"--{name}", f"{share} is no share", "give a percentage between 0 and 100, such as 2%")


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Labelled scores by column; rows no detector judged are counted in ``silent`` and left out."""

    is_attack: NDArray[np.bool_]
    species: NDArray[np.str_]
    person: NDArray[np.str_]
    scores: Mapping[str, Float64Array]
    """Detector -> P(attack), NaN where it abstained; ``fusion``: of all, NaN where fewer than two judged."""
    silent: Mapping[str, Rate]
    """BPNRR and APNRR."""

    def flagged(self, points: Points) -> NDArray[np.bool_]:
        """Which rows some detector puts at or above its threshold."""
        return reduce(np.logical_or, (self.scores[name] >= threshold for name, (_, threshold) in points.items()))

    def margins(self, points: Points) -> Float64Array:
        """By how much log-odds the thresholds may rise until the row is flagged no more; -inf: nothing ever flags it."""
        parts = [log_odds(self.scores[name]) - log_odds(threshold) for name, (_, threshold) in points.items()]
        margins: Float64Array = np.nan_to_num(reduce(np.fmax, parts), nan=-np.inf)
        return margins


def fit(data: Data, target: Target, policy: Policy, thresholds: Thresholds) -> dict[str, Any]:
    """Find the thresholds that hold ``target``.

    Returns:
        JSON-able: ``points`` (detector -> point -> new threshold), ``bounds`` (what holds, with n and k), ``before`` and
        ``after`` (rates of these data), ``review_load``, ``curve``, and ``notes`` on what stayed as it was.

    Raises:
        InputError: too few presentations for the claim (says how many would do), or no threshold can hold it.
        ConfigError: the policy names no review point, or one that thresholds.toml lacks.
    """
    names = [name for name in fusion_weights(thresholds) if np.any(~np.isnan(data.scores[name]))]
    review = {d: (p, thresholds.point(d, p)) for d in names if (p := policy.checks[d].review_at) is not None}
    reject = {d: (p, thresholds.point(d, p)) for d in names if (p := policy.checks[d].reject_at) is not None}
    if policy.together_review_at is not None and len(names) > 1:
        review["fusion"] = (policy.together_review_at, thresholds.point("fusion", policy.together_review_at))
    if not review:
        raise ConfigError("policy.toml: no presentation-attack check has a review_at, or none judged a row. Remedy: nothing to calibrate")
    notes = [f"{d} judged no row: its thresholds stay" for d in fusion_weights(thresholds) if d not in names]
    old_review, old_reject = dict(review), dict(reject)
    move = _for_bpcer if target.kind == "bpcer" else _for_apcer
    review, bounds = move(data, review, target.limit, target.confidence)
    if target.reject_bpcer is not None and reject:
        reject, more = _for_bpcer(data, reject, target.reject_bpcer, target.confidence)
        bounds += [{**bound, "of": "BPCER at reject"} for bound in more]
    for name, (point, threshold) in reject.items():
        if name in review and threshold < review[name][1]:
            reject[name] = (point, review[name][1])
            notes.append(f"{name}: {point} rises to {review[name][0]}, nothing is rejected that would not be reviewed")
    moved = [(name, *new) for points in (review, reject) for name, new in points.items()]
    return {
        "target": {"kind": target.kind, "limit": target.limit, "reject_bpcer": target.reject_bpcer, "confidence": target.confidence},
        "points": {name: {p: t for n, p, t in moved if n == name} for name in dict.fromkeys(name for name, _, _ in moved)},
        "bounds": bounds,
        "silent": {name: _plain(rate) for name, rate in data.silent.items()},
        "before": _rates(data, old_review, old_reject),
        "after": _rates(data, review, reject),
        "review_load": load_of(data, review, reject, target.attack_share),
        "assumed": {"attack_share": target.attack_share, "costs": target.costs},
        "curve": _curve(data, old_review, review, reject, target),
        "notes": notes,
    }


def _for_bpcer(data: Data, points: Points, limit: float, confidence: float) -> tuple[dict[str, tuple[str, float]], list[dict[str, Any]]]:
    """The lowest thresholds that flag few enough honest applicants."""
    mine = ~data.is_attack
    margins = _worst(data.margins(points)[mine], data.person[mine], np.maximum)
    k, bound = _allowed("bona fide", margins.size, limit, confidence)
    moved = _moved(points, float(margins[k]), math.ceil)
    for _ in range(_STEPS_UP):
        if np.unique(data.person[mine & data.flagged(moved)]).size <= k:
            break
        # The next score lies on the threshold itself, and counts as an attack.
        moved = {name: (point, min(round(threshold + _STEP, 6), 1.0)) for name, (point, threshold) in moved.items()}
    else:
        raise InputError(
            "bona fide", f"more than {k} have about the highest score there is", "look at them: no threshold holds this target"
        )
    return moved, [{"of": "BPCER at review", **bound}]


def _for_apcer(data: Data, points: Points, limit: float, confidence: float) -> tuple[dict[str, tuple[str, float]], list[dict[str, Any]]]:
    """The highest thresholds that pass few enough attacks of every species."""
    if not data.is_attack.any():
        raise InputError("attacks", "there are none", "a target APCER needs labelled attacks")
    shifts, bounds = [], []
    for species in np.unique(data.species[data.is_attack]).tolist():
        mine = data.is_attack & (data.species == species)
        margins = _worst(data.margins(points)[mine], data.person[mine], np.minimum)
        k, bound = _allowed(f"attacks of species {species}", margins.size, limit, confidence)
        shifts.append(float(margins[k]))
        bounds.append({"of": f"APCER of {species} at review", **bound})
    if min(shifts) == -math.inf:
        raise InputError("attacks", "more than may pass are flagged by no threshold", "look at them first: no threshold holds this target")
    return _moved(points, min(shifts), math.floor), bounds


def _allowed(who: str, people: int, limit: float, confidence: float) -> tuple[int, dict[str, Any]]:
    """How many errors among so many people still show, at ``confidence``, a rate of at most ``limit``.

    Raises:
        InputError: not even none.
    """
    k = -1
    while k + 1 < people and metrics.upper_bound(k + 1, people, confidence) <= limit:
        k += 1
    if k < 0:
        raise InputError(
            who,
            f"{people} people cannot show a rate of at most {100 * limit:g} %",
            f"{metrics.sample_size(limit, confidence)} would do, at {100 * confidence:g} % confidence, if none is an error",
        )
    bound = metrics.upper_bound(k, people, confidence)
    return k, {"people": people, "errors_allowed": k, "limit": limit, "upper_bound": bound, "confidence": confidence}


def _worst(values: Float64Array, people: NDArray[np.str_], worse: np.ufunc) -> Float64Array:
    """One value a person: the worst (np.maximum or np.minimum) of their presentations, sorted from it on."""
    place = np.unique(people, return_inverse=True)[1]
    found = np.full(place.max(initial=-1) + 1, -np.inf if worse is np.maximum else np.inf)
    worse.at(found, place, values)
    return np.sort(found)[:: -1 if worse is np.maximum else 1]


def _moved(points: Points, shift: float, to_whole: Callable[[float], int]) -> dict[str, tuple[str, float]]:
    def move(threshold: float) -> float:
        exact = float(probability(log_odds(threshold) + shift))
        # Six decimals, rounded towards the side on which the bound holds.
        return round(min(max(to_whole(round(exact / _STEP, 6)) * _STEP, 0.0), 1.0), 6)

    return {name: (point, move(threshold)) for name, (point, threshold) in points.items()}


def _rates(data: Data, review: Points, reject: Points) -> dict[str, Any]:
    """What these thresholds do to these data: in sample, so the ``bounds`` are what to believe."""
    rejected = data.flagged(reject) if reject else np.zeros_like(data.is_attack)
    held = data.flagged(review) | rejected
    by_species = {
        str(s): Rate.of(
            int(np.count_nonzero(~held & data.is_attack & (data.species == s))), int(np.count_nonzero(data.is_attack & (data.species == s)))
        )
        for s in np.unique(data.species[data.is_attack])
    }
    people = ~data.is_attack
    n = int(np.count_nonzero(people))
    return {
        "points": {
            name: {p: t for points in (review, reject) for other, (p, t) in points.items() if other == name}
            for name in {**review, **reject}
        },
        "bpcer": _plain(Rate.of(int(np.count_nonzero(held & people)), n)),
        "bpcer_at_reject": _plain(Rate.of(int(np.count_nonzero(rejected & people)), n)),
        "apcer": {name: _plain(rate) for name, rate in by_species.items()},
    }


def load_of(data: Data, review: Points, reject: Points, attack_share: float) -> dict[str, float | None]:
    """Shares of all submissions accepted, reviewed and rejected by these checks, at the assumed share of attacks, species alike."""
    rejected = data.flagged(reject) if reject else np.zeros_like(data.is_attack)
    reviewed = data.flagged(review) & ~rejected
    honest = _bands(reviewed[~data.is_attack], rejected[~data.is_attack])
    species = [data.is_attack & (data.species == s) for s in np.unique(data.species[data.is_attack])]
    attacks = np.mean([_bands(reviewed[mine], rejected[mine]) for mine in species], axis=0) if species else honest
    mixed = (1.0 - attack_share) * honest + attack_share * attacks
    return {
        "accept": float(mixed[0]),
        "review": float(mixed[1]),
        "reject": float(mixed[2]),
        "attacks_accepted": attack_share * float(attacks[0]),
        "honest_rejected": (1.0 - attack_share) * float(honest[2]),
    }


def _bands(reviewed: NDArray[np.bool_], rejected: NDArray[np.bool_]) -> Float64Array:
    shares = np.array([np.mean(~reviewed & ~rejected), np.mean(reviewed), np.mean(rejected)]) if reviewed.size else np.zeros(3)
    return shares.astype(np.float64)


def _curve(data: Data, start: Points, chosen: Points, reject: Points, target: Target) -> list[dict[str, Any]]:
    """Error rates, review load and cost at review thresholds from lax to strict; the chosen ones are among them."""
    margins = data.margins(start)
    shifts = np.unique(np.quantile(margins[np.isfinite(margins)], np.linspace(0.0, 1.0, _CURVE_POINTS)))
    rows: list[dict[str, Any]] = []
    for points in [_moved(start, float(shift), math.ceil) for shift in shifts[::-1]] + [dict(chosen)]:
        rates, load = _rates(data, points, reject), load_of(data, points, reject, target.attack_share)
        worst = max((rate["value"] for rate in rates["apcer"].values()), default=None)
        row = {
            "review_points": {name: threshold for name, (_, threshold) in points.items()},
            "bpcer": rates["bpcer"]["value"],
            "apcer_max": worst,
            "review_load": load["review"],
            "cost_per_1000": cost_of(load, target.costs),
            "chosen": points == chosen,
        }
        if not any(r["review_points"] == row["review_points"] for r in rows):
            rows.append(row)
    name = next(iter(chosen))
    return sorted(rows, key=lambda r: -r["review_points"][name])


def cost_of(load: Mapping[str, float | None], costs: tuple[float, float, float] | None) -> float | None:
    """Expected cost of 1000 submissions with the shares of `load_of`; ``None`` without costs."""
    if costs is None:
        return None
    shares = (load["review"], load["attacks_accepted"], load["honest_rejected"])
    return 1000.0 * sum((share or 0.0) * cost for share, cost in zip(shares, costs, strict=True))


def _plain(rate: Rate) -> dict[str, Any]:
    return {"errors": rate.errors, "n": rate.n, "value": rate.value, "low": rate.low, "high": rate.high}


def log_odds(p: Any) -> Any:
    """Of an array or a number; certainties are bounded as in `kyc_guard.fusion`."""
    clipped = np.clip(p, _SURE, 1.0 - _SURE)
    return np.log(clipped / (1.0 - clipped))


def probability(z: Any) -> Any:
    """The inverse of `log_odds`."""
    return 1.0 / (1.0 + np.exp(-np.asarray(z)))
