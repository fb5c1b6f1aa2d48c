"""How well scores separate attacks from bona fides, with intervals that know whose pictures they are.

Rates at a fixed threshold carry the exact binomial interval. An AUC, and a BPCER whose threshold was chosen on these very
attacks, carry a bootstrap interval that resamples whole subjects: pictures of one person resemble one another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kyc_guard import metrics
from kyc_guard.metrics import Rate
from kyc_guard.report import Table
from kyc_guard.types import Float64Array

GROUP_AXES = ("race", "sex", "age")
"""What the parts of a manifest's ``group``, parted by ``|``, say."""
_REPLICATES = 1000


def separation(table: Table, points: Mapping[str, float]) -> dict[str, Any]:
    """Everything about the attacks and the bona fides of ``table`` together.

    Args:
        points: name -> threshold set beforehand; APCER and BPCER there are over the whole table, species pooled.
    """
    heard = table.where(~table.silent)
    return {
        "attacks": int(np.count_nonzero(table.is_attack)),
        "bona_fides": int(np.count_nonzero(~table.is_attack)),
        "subjects": len(np.unique(table.cluster)),
        "attacks_silent": _silent(table, attacks=True),
        "bona_fides_silent": _silent(table, attacks=False),
        "auc": _auc(heard),
        "bpcer_at_apcer": {name: bpcer_at_apcer(heard, target) for name, target in metrics.BPCER_POINTS.items()},
        "points": {
            name: {"threshold": t, "apcer": metrics.apcer(heard.attack, t), "bpcer": metrics.bpcer(heard.bona_fide, t)}
            for name, t in points.items()
        },
    }


def _silent(table: Table, *, attacks: bool) -> Rate:
    mine = table.is_attack if attacks else ~table.is_attack
    return metrics.non_response(int(np.count_nonzero(table.silent & mine)), int(np.count_nonzero(mine)))


def _auc(heard: Table) -> dict[str, float | None] | None:
    if not heard.bona_fide.size or not heard.attack.size:
        return None
    low, high = metrics.auc_interval(heard.scores, heard.is_attack, heard.cluster.tolist()) or (None, None)
    return {"value": metrics.auc(heard.bona_fide, heard.attack), "low": low, "high": high}


def bpcer_at_apcer(heard: Table, target: float) -> dict[str, Any] | None:
    """BPCER at the highest threshold that lets at most ``target`` of the attacks pass, species pooled.

    Returns:
        value, low, high (subject bootstrap), threshold, and whether there are enough attacks to tell the target from 0.
        ``None`` without attacks or bona fides.
    """
    point = metrics.bpcer_at_apcer(heard.bona_fide, {"all": heard.attack}, target, "pooled")
    if point is None:
        return None
    low, high = _bpcer_interval(heard, target) or (None, None)
    return {"value": point.bpcer.value, "low": low, "high": high, "threshold": point.threshold, "resolved": point.resolved}


def _bpcer_interval(heard: Table, target: float) -> tuple[float, float] | None:
    """Percentile bootstrap over subjects; the threshold is chosen anew in every replicate."""
    names, cluster = np.unique(heard.cluster, return_inverse=True)
    attack, bona_fide = (np.flatnonzero(mask) for mask in (heard.is_attack, ~heard.is_attack))
    attack = attack[np.argsort(heard.scores[attack])]
    bona_fide = bona_fide[np.argsort(heard.scores[bona_fide])]
    below = np.searchsorted(heard.scores[bona_fide], heard.scores[attack], side="left")
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_REPLICATES):
        drawn = np.bincount(rng.integers(names.size, size=names.size), minlength=names.size)[cluster]
        passing = np.cumsum(drawn[attack])
        people = np.concatenate([[0], np.cumsum(drawn[bona_fide])])
        if not passing[-1] or not people[-1]:
            continue
        # The first attack that may no longer pass sets the threshold.
        first = int(np.searchsorted(passing, math.floor(target * passing[-1] + 1e-9), side="right"))
        refused = 0.0 if first == attack.size else 1.0 - people[below[first]] / people[-1]
        values.append(refused)
    if names.size < 2 or len(values) < _REPLICATES / 2:
        return None
    tail = (1.0 - metrics.CONFIDENCE) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def differentials(table: Table, threshold: float) -> list[dict[str, Any]]:
    """BPCER by each part of ``group``, and how many people a group would need for a doubled rate to show.

    Returns:
        One entry an axis of `GROUP_AXES`: overall rate, groups with their rates, and ``needed_per_group``.
    """
    known = table.where((table.group != "") & ~table.is_attack & ~table.silent)
    parts = [g.split("|") for g in known.group.tolist()]
    axes = []
    for place, axis in enumerate(GROUP_AXES):
        names = np.array([p[place] if place < len(p) else "" for p in parts], dtype=np.str_)
        groups = [{"group": str(name), "bpcer": metrics.bpcer(known.scores[names == name], threshold)} for name in np.unique(names) if name]
        if groups:
            overall = metrics.bpcer(known.scores[names != ""], threshold)
            # Of a rate of 0 no doubling can be spoken of; one in a hundred is what would matter.
            base = max(overall.value or 0.0, 0.01)
            axes.append({"axis": axis, "overall": overall, "groups": groups, "base": base, "needed_per_group": needed(base, 2 * base)})
    return axes


def needed(rate: float, other: float) -> int:
    """People a group needs for two groups' rates to be told apart in 4 of 5 studies at a 5 % level, two-sided.

    Source: Fleiss, Levin and Paik, "Statistical Methods for Rates and Proportions", 3rd ed. 2003, formula 4.14.
    """
    z_level, z_power = 1.959964, 0.841621
    other = min(other, 1.0)
    mean = (rate + other) / 2
    spread = z_level * math.sqrt(2 * mean * (1 - mean)) + z_power * math.sqrt(rate * (1 - rate) + other * (1 - other))
    return math.ceil((spread / (other - rate)) ** 2)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of what was measured."""
    known: Float64Array = np.array([v for v in values if v is not None], dtype=np.float64)
    return float(known.mean()) if known.size else None
