"""Whether two rates differ: the difference with its interval, whether chance explains it, and how many it takes to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import fisher_exact

from kyc_guard.reports.metrics import CONFIDENCE, Rate

_Z_LEVEL, _Z_POWER = 1.959964, 0.841621
"""Normal deviates of a two-sided 5 % level and of 80 % power."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One group against all others together.

    Attributes:
        value, low, high: rate of the group minus rate of the others, with its 95 % interval; ``None`` where one side has nobody.
        p: probability of a difference at least as large by chance, corrected for the number of groups looked at.
        shown: whether the data show a difference at the 5 % level, all groups taken together.
        needed: presentations that each side would need for a difference of this size to show in 4 of 5 studies.
    """

    name: str
    rate: Rate
    others: Rate
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    shown: bool
    needed: int | None


def against_others(rates: Mapping[str, Rate]) -> list[Difference]:
    """Each group's rate against that of all other groups together, by name."""
    errors, n = sum(r.errors for r in rates.values()), sum(r.n for r in rates.values())
    pairs = {name: (r, Rate.of(errors - r.errors, n - r.n)) for name, r in sorted(rates.items())}
    judged = {name: chance(*pair) for name, pair in pairs.items() if pair[0].n and pair[1].n}
    corrected = dict(zip(judged, holm(list(judged.values())), strict=True))
    found = []
    for name, (rate, others) in pairs.items():
        if name not in judged or rate.value is None or others.value is None:
            found.append(Difference(name, rate, others, None, None, None, None, shown=False, needed=None))
            continue
        low, high = newcombe(rate, others)
        found.append(
            Difference(
                name,
                rate,
                others,
                rate.value - others.value,
                low,
                high,
                corrected[name],
                shown=corrected[name] < 1.0 - CONFIDENCE,
                needed=needed(rate.value, others.value) if rate.value != others.value else None,
            )
        )
    return found


def newcombe(a: Rate, b: Rate) -> tuple[float, float]:
    """95 % interval of the difference a - b of two independent rates; both must have been counted.

    Source: Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10.
    """
    (p, p_low, p_high), (q, q_low, q_high) = wilson(a), wilson(b)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def wilson(rate: Rate) -> tuple[float, float, float]:
    """The rate and its 95 % score interval (Wilson 1927)."""
    n, p, z = rate.n, rate.errors / rate.n, _Z_LEVEL
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def chance(a: Rate, b: Rate) -> float:
    """Two-sided p value of Fisher's exact test that two rates are the same."""
    return float(fisher_exact([[a.errors, a.n - a.errors], [b.errors, b.n - b.errors]])[1])


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number, so that one false alarm among all of them is as rare as the level says.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = reached
    return corrected


def needed(rate: float, other: float) -> int:
    """People a group needs for two groups' rates to be told apart in 4 of 5 studies at a 5 % level, two-sided.

    Source: Fleiss, Levin and Paik, "Statistical Methods for Rates and Proportions", 3rd ed. 2003, formula 4.14.
    """
    other = min(other, 1.0)
    mean = (rate + other) / 2
    spread = _Z_LEVEL * math.sqrt(2 * mean * (1 - mean)) + _Z_POWER * math.sqrt(rate * (1 - rate) + other * (1 - other))
    return math.ceil((spread / (other - rate)) ** 2)
