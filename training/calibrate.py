"""Two nets' logits -> one P(attack) and its operating points, on people and a source the nets never trained on."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize

from kyc_guard.types import PHYSICAL
from training.chips import ChipRow

APCER_POINTS = {"apcer_01": 0.01, "apcer_05": 0.05, "apcer_10": 0.10}
BPCER_POINTS = {"bpcer_005": 0.005, "bpcer_01": 0.01, "bpcer_02": 0.02, "bpcer_03": 0.03, "bpcer_05": 0.05, "bpcer_10": 0.10}
_RIDGE = 1e-3
_STEEPEST = 4.0
"""Largest weight of a view: a calibration split that separates perfectly must not buy certainty."""

Logits = Mapping[str, NDArray[np.float32]]
"""View name -> (N, 2) physical and digital logits."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """For each suspicion a weight a view and an offset; P(attack) = 1 - P(not physical) P(not digital)."""

    views: tuple[str, ...]
    weights: NDArray[np.float64]
    """(2, V)."""
    offsets: NDArray[np.float64]
    """(2,)."""

    def log_odds(self, logits: Logits) -> NDArray[np.float64]:
        """(N, 2): physical, digital."""
        stacked = np.stack([logits[v] for v in self.views], axis=2)
        out: NDArray[np.float64] = (stacked * self.weights[None]).sum(2) + self.offsets
        return out

    def probability(self, logits: Logits) -> NDArray[np.float64]:
        """(N,) as `kyc_guard.calibration.either` joins them."""
        out: NDArray[np.float64] = -np.expm1(-np.logaddexp(0, self.log_odds(logits)).sum(1))
        return out

    def to_table(self) -> dict[str, dict[str, float]]:
        return {
            kind: {**dict(zip(self.views, map(float, self.weights[k]), strict=True)), "offset": float(self.offsets[k])}
            for k, kind in enumerate(("physical", "digital"))
        }


def weights_of(rows: Sequence[ChipRow], simulated_share: float) -> NDArray[np.float64]:
    """Equal weight for both classes; inside a class equal for every source (or simulator) and species, so no large source rules,
    and inside those for every picture or clip (`alike`).
    """

    def group(row: ChipRow) -> tuple[bool, bool, str, str]:
        return row.is_attack, bool(row.attack), row.attack or row.source, row.attack_type

    of = [group(r) for r in rows]
    groups = Counter(g[:2] for g in set(of))
    share = {(False, False): 1.0, (True, False): 1 - simulated_share, (True, True): simulated_share}
    weight: NDArray[np.float64] = alike(of, rows) * np.array([share[g[:2]] / groups[g[:2]] for g in of]) * len(rows) / 2
    return weight


def alike(of: Sequence[Hashable], rows: Sequence[ChipRow]) -> NDArray[np.float64]:
    """Weights that add up to one in every group: inside it each picture or clip counts alike, and the frames of a clip share that.

    The frames of one clip are one presentation: counted apiece, five clips would outvote a hundred pictures.

    Args:
        of: the group of each row.
    """
    frames = Counter((g, r.path) for g, r in zip(of, rows, strict=True))
    presentations = Counter(g for g, _ in frames)
    return np.array([1.0 / presentations[g] / frames[g, r.path] for g, r in zip(of, rows, strict=True)])


def presentations(rows: Iterable[ChipRow]) -> int:
    """How many pictures and clips these chips are of."""
    return len({r.path for r in rows})


def fit(rows: Sequence[ChipRow], logits: Logits, simulated_share: float) -> Calibration:
    """Each suspicion by weighted logistic regression on its own attacks and all bona fide faces, no weight below zero.

    Fitted together, as one noisy-or over all attacks, either head is pressed down to leave room for the other's mistakes. A
    shift common to both then brings the mean of P(attack) to the share of attacks.

    Raises:
        ValueError: a suspicion to which no view contributes: the nets contradict the labels.
    """
    views = tuple(sorted(logits))
    x = np.stack([logits[v] for v in views], axis=2).astype(np.float64)
    weights, offsets = [], []
    for head in (0, 1):
        mine = np.array([not r.is_attack or (r.attack_type in PHYSICAL) == (head == 0) for r in rows])
        chosen = [r for r, m in zip(rows, mine, strict=True) if m]
        weight, offset = _logistic(x[mine, head], np.array([r.is_attack for r in chosen]), weights_of(chosen, simulated_share))
        if weight.sum() < 1e-3:
            raise ValueError(f"join weights {weight.tolist()} for {views}: the nets contradict the labels of the calibration split")
        weights.append(weight)
        offsets.append(offset)
    joined = Calibration(views, np.stack(weights), np.array(offsets))
    attack, weight = np.array([r.is_attack for r in rows]), weights_of(rows, simulated_share)

    def excess(shift: float) -> float:
        shifted = replace(joined, offsets=joined.offsets + shift)
        return float((weight * (shifted.probability(logits) - attack)).sum())

    return replace(joined, offsets=joined.offsets + brentq(excess, -20.0, 20.0))


def _logistic(x: NDArray[np.float64], attack: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weights (V,) and offset of logits (N, V)."""

    def loss(p: NDArray[np.float64]) -> float:
        z = x @ p[:-1] + p[-1]
        return float((weight * np.logaddexp(0, np.where(attack, -z, z))).mean() + _RIDGE * (p**2).sum())

    n = x.shape[1]
    best = minimize(loss, np.array([0.5] * n + [-1.0]), method="L-BFGS-B", bounds=[(0.0, _STEEPEST)] * n + [(-10.0, 10.0)])
    return best.x[:-1], float(best.x[-1])


def points(rows: Sequence[ChipRow], probability: NDArray[np.float64]) -> dict[str, float]:
    """Thresholds by name, from real pictures only: APCER over the physical attacks, BPCER over all bona fide faces, every
    source counting alike, and in it every picture or clip.
    """
    real = np.array([not r.attack for r in rows])
    attack = real & np.array([r.attack_type in PHYSICAL for r in rows])
    bona_fide = np.array([not r.is_attack for r in rows])

    def quantile(mine: NDArray[np.bool_], share: float) -> float:
        chosen = [r for r, m in zip(rows, mine, strict=True) if m]
        weight = alike([r.source for r in chosen], chosen)
        order = probability[mine].argsort()
        at = np.searchsorted(np.cumsum(weight[order]), share * weight.sum())
        return float(probability[mine][order][min(at, mine.sum() - 1)])

    # A threshold lies between two scores: what is at or above it is called an attack.
    return {k: quantile(attack, share) for k, share in APCER_POINTS.items()} | {
        k: float(np.nextafter(quantile(bona_fide, 1 - share), 1.0)) for k, share in BPCER_POINTS.items()
    }


def refused_most(rows: Sequence[ChipRow], probability: NDArray[np.float64], threshold: float, faces: int) -> tuple[str, float]:
    """Of the sources of at least ``faces`` bona fide faces the one that is refused most at a threshold, and the share of its pictures and
    clips that is, a clip by the share of its frames; "" and 0 where no source has so many.
    """
    by_source: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if not row.is_attack:
            by_source[row.source].append(i)
    weight = alike([(r.source, r.is_attack) for r in rows], rows)
    shares = {
        source: float(weight[members][probability[members] >= threshold].sum())
        for source, members in by_source.items()
        if len(members) >= faces
    }
    worst = max(shares, key=lambda source: shares[source], default="")
    return worst, shares.get(worst, 0.0)


def loosest(rows: Sequence[ChipRow], probability: NDArray[np.float64], named: Mapping[str, float], rule: Mapping[str, Any]) -> str:
    """The first of ``rule["points"]`` at which no source of ``rule["faces"]`` bona fide faces has more than ``rule["refused"]`` of them
    refused; where there is none the last.
    """
    for point in rule["points"]:
        if refused_most(rows, probability, named[point], rule["faces"])[1] <= rule["refused"]:
            return str(point)
    return str(rule["points"][-1])


def table(rows: Sequence[ChipRow], calibration: Calibration, logits: Logits, config: Path) -> dict[str, Any]:
    """The ``[face_attack]`` table of thresholds.toml."""
    rules = tomllib.loads(config.read_text(encoding="utf-8"))
    probability = calibration.probability(logits)
    named = points(rows, probability)
    review = loosest(rows, probability, named, rules["review"])
    worst, refused = refused_most(rows, probability, named[review], rules["review"]["faces"])
    wanted = rules["review"]["refused"]
    print(f"review from {review}: of {worst} {refused:.1%} are refused, of no other source more; at most {wanted:.0%} is wanted")
    uses = {"review": review, "reject": rules["reject"]}
    real = [r for r in rows if not r.attack]
    bona_fide, attacks = ([r for r in real if r.is_attack == is_attack] for is_attack in (False, True))
    return {
        "command": "python -m training ship",
        "calibrated_on": "calibration split: some people of every training source, and tranvanluyt_replay whole",
        "bona_fide_presentations": presentations(bona_fide),
        "bona_fide_chips": len(bona_fide),
        "attack_presentations": presentations(attacks),
        "attack_chips": len(attacks),
        "simulated_attacks": len(rows) - len(real),
        "join": calibration.to_table(),
        "points": named | {use: named[point] for use, point in uses.items()},
        "points_named_after": uses,
        "review_refuses_most": {"source": worst, "share": refused},
    }
