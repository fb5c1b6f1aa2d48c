"""How well scores separate attacks from bona fides, with intervals that know whose pictures they are.

Rates at a fixed threshold carry the exact binomial interval. An AUC, and a BPCER whose threshold was chosen on these very
attacks, carry a bootstrap interval that resamples whole subjects: pictures of one person resemble one another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kyc_guard.reports import metrics
from kyc_guard.reports.differences import needed
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import Table
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
        "bpcer_at_apcer": bpcer_at_apcer(heard),
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


def bpcer_at_apcer(heard: Table) -> dict[str, dict[str, Any] | None]:
    """BPCER10, BPCER20, BPCER100: at the highest threshold that lets that share of the attacks pass, species pooled.

    Returns:
        Each with value, low and high (subject bootstrap), threshold, and whether there are enough attacks to tell the share
        from 0; ``None`` without attacks or bona fides.
    """
    intervals = _bpcer_intervals(heard, list(metrics.BPCER_POINTS.values()))
    found: dict[str, dict[str, Any] | None] = {}
    for (name, target), (low, high) in zip(metrics.BPCER_POINTS.items(), intervals, strict=True):
        point = metrics.bpcer_at_apcer(heard.bona_fide, {"all": heard.attack}, target, "pooled")
        if point is None:
            found[name] = None
        else:
            found[name] = {
                "value": point.bpcer.value,
                "low": low,
                "high": high,
                "threshold": point.threshold,
                "resolved": point.resolved,
            }
    return found


def _bpcer_intervals(heard: Table, targets: Sequence[float]) -> list[tuple[float | None, float | None]]:
    """Percentile bootstrap over subjects; the thresholds are chosen anew in every replicate. ``None`` for fewer than two subjects."""
    names, cluster = np.unique(heard.cluster, return_inverse=True)
    attack, bona_fide = (np.flatnonzero(mask) for mask in (heard.is_attack, ~heard.is_attack))
    attack = attack[np.argsort(heard.scores[attack])]
    bona_fide = bona_fide[np.argsort(heard.scores[bona_fide])]
    below = np.searchsorted(heard.scores[bona_fide], heard.scores[attack], side="left")
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_REPLICATES if names.size > 1 and attack.size and bona_fide.size else 0):
        drawn = np.bincount(rng.integers(names.size, size=names.size), minlength=names.size)[cluster]
        passing = np.cumsum(drawn[attack])
        people = np.concatenate([[0], np.cumsum(drawn[bona_fide])])
        if passing[-1] and people[-1]:
            # The first attack that may no longer pass sets the threshold.
            first = np.searchsorted(passing, [math.floor(t * passing[-1] + 1e-9) for t in targets], side="right")
            values.append(1.0 - people[below[first]] / people[-1])
    if len(values) < _REPLICATES / 2:
        return [(None, None)] * len(targets)
    tail = (1.0 - metrics.CONFIDENCE) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


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


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of what was measured."""
    known: Float64Array = np.array([v for v in values if v is not None], dtype=np.float64)
    return float(known.mean()) if known.size else None
