"""Linear discriminants over the figures of motion, one a family of attacks, fitted to differences of pairs.

Every attack of the training set was made from a bona fide clip that is there too, so the mean of the differences is the attack
alone: person, camera and room cancel. What must not be mistaken for it is the scatter of bona fide faces, estimated from the
clips and, for the interior, from still frames of hundreds of people. Fisher's direction is the one solved for the other.

Larger models were tried and lost: see weights/cards/liveness.md.

Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 1936; shrinkage after
J. H. Friedman, "Regularized discriminant analysis", JASA 1989.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.fitting import logistic
from training.liveness_clips import STREAM_ATTACKS, ClipRow

Array = NDArray[np.float64]

FAMILIES = ("print", "replay", "live", "drawn", "blended", "driven")
"""Attacks that leave one kind of trace, each with a direction of its own: printed; shown on a screen; a generator's interior in a live
stream; another face drawn over the mesh; the own face blended with another version of it; a mouth, eyes or a head driven by others. What a
print gives away, that everything moves as one, is the opposite of what a swap does: one direction could not say both."""
SHOWN = ("print", "print_cut", "replay")
"""Attack types of the families `print` and `replay`."""
_FAMILY_OF = {
    "print": "print", "print_cut": "print", "replay": "replay", "swap": "live", "reenactment": "driven",
    "mesh_swap": "drawn", "mesh_swap_cloned": "drawn", "crop_swap": "drawn", "morph": "drawn", "pasted_oval": "drawn",
    "self_blend": "blended", "self_blend_surround": "blended",
}  # fmt: skip
LIVE_PAIRS = "deepfacelive_pairs"


def family_of(row: ClipRow) -> str:
    """Of an attack, by its simulator where that has a family of its own, else by its type; "" for bona fide clips."""
    return _FAMILY_OF.get(row.attack) or _FAMILY_OF[row.attack_type] if row.is_attack else ""


def type_of(row: ClipRow) -> str:
    """Attack type; "" for bona fide clips."""
    return row.attack_type if row.is_attack else ""


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the fit weighs its material; see configs/liveness.toml."""

    live_share: float
    pair_scatter: float
    stills_share: float
    shrinkage: float
    ridge: float
    cut: float


@dataclass(frozen=True, slots=True, eq=False)
class Discriminant:
    """Figures -> one log-odds a direction: standardise, cut, project."""

    centre: Array
    scale: Array
    cut: float
    mean: Array
    weights: Array
    """(F, D), a column a direction."""
    bias: Array
    """(D,)."""

    def standard(self, figures: NDArray[np.float32]) -> Array:
        """(N, F) robust standard scores, cut, 0 where unknown."""
        return _cut((figures - self.centre) / self.scale, self.cut)

    def __call__(self, figures: NDArray[np.float32]) -> Array:
        """(N, D) log-odds."""
        return np.asarray((self.standard(figures) - self.mean) @ self.weights + self.bias)

    def parts(self, figures: NDArray[np.float32], belongs: Array) -> Array:
        """(N, D, G) contributions of groups of figures; ``belongs`` is (F, G) of 0 and 1."""
        z = self.standard(figures) - self.mean
        return np.stack([(z * column) @ self.weights for column in belongs.T], axis=2)

    def calibrated(self, slopes: Array, offsets: Array) -> Discriminant:
        """The same directions after ``slope * logit + offset`` each."""
        return replace(self, weights=self.weights * slopes, bias=self.bias * slopes + offsets)


def _cut(scores: Array, cut: float) -> Array:
    return np.clip(np.nan_to_num(scores, nan=0.0), -cut, cut)


def fit(
    rows: Sequence[ClipRow],
    figures: NDArray[np.float32],
    stills: NDArray[np.float32],
    kinds: Sequence[str],
    kind_of: Callable[[ClipRow], str],
    *,
    how: Weighing,
) -> Discriminant:
    """One direction for each of ``kinds`` of attack, as ``kind_of`` tells them.

    Args:
        figures: (N, F) of ``rows``; its first columns are those of ``stills``, (M, S).
    """
    centre = np.nan_to_num(np.nanmedian(figures, axis=0)).astype(np.float64)
    low, high = np.nanpercentile(figures, [16, 84], axis=0)
    scale = np.maximum(np.nan_to_num((high - low) / 2, nan=1.0), 1e-3)
    x = _cut((figures - centre) / scale, how.cut)
    bona = np.array([i for i, r in enumerate(rows) if not r.is_attack])
    clips_of = Counter(rows[i].source for i in bona)
    # A source with ten times the clips counts three times as much: its people are more, its camera is one.
    weight = np.array([clips_of[rows[i].source] ** -0.5 for i in bona])
    weight /= weight.sum()
    mean = weight @ x[bona]
    away = x[bona] - mean
    scatter = away.T @ (away * weight[:, None])
    shape = np.zeros_like(scatter)
    count = stills.shape[1]
    if count:
        spread = np.cov(_cut((stills - centre[:count]) / scale[:count], how.cut).T)
        # The stills' shape at the clips' size: one frame scatters more than the median of twelve.
        shape[:count, :count] = spread * (np.trace(scatter[:count, :count]) / np.trace(spread))
    shape[count:, count:] = scatter[count:, count:]
    scatter = (1 - how.stills_share) * scatter + how.stills_share * shape
    found = [_direction(_differences(rows, x, [kind_of(r) == kind for r in rows]), scatter, how) for kind in kinds]
    weights = np.stack([w for w, _ in found], axis=1)
    # Half way between the two means is where the odds are even.
    return Discriminant(centre, scale, how.cut, mean, weights, np.array([-0.5 * float(mu @ w) for w, mu in found]))


def _direction(differences: Mapping[str, Array], scatter: Array, how: Weighing) -> tuple[Array, Array]:
    """Fisher's direction for one kind of attack, and the mean difference it answers."""
    live = how.live_share if "" in differences and len(differences) > 1 else float("" in differences)
    simulated = sum(len(d) for name, d in differences.items() if name)
    share = {name: (1 - live) * len(d) / simulated if name else live for name, d in differences.items()}
    mean = np.sum([share[n] * d.mean(axis=0) for n, d in differences.items()], axis=0)
    own = np.sum([share[n] * (d - mean).T @ (d - mean) / len(d) for n, d in differences.items()], axis=0)
    total = scatter + how.pair_scatter * own
    diagonal = np.diag(np.diag(total))
    total = (1 - how.shrinkage) * total + how.shrinkage * diagonal + how.ridge * np.eye(len(total))
    return np.linalg.solve(total, mean), mean


def _differences(rows: Sequence[ClipRow], x: Array, chosen: Sequence[bool]) -> dict[str, Array]:
    """Attack minus the bona fide clip of the same window, by simulator; "" for real pairs."""
    bona = {r.group: i for i, r in enumerate(rows) if not r.is_attack}
    found: dict[str, list[Array]] = defaultdict(list)
    for i, row in enumerate(rows):
        if chosen[i] and row.attack not in STREAM_ATTACKS and row.group in bona:
            found[row.attack].append(x[i] - x[bona[row.group]])
    return {name: np.stack(d) for name, d in found.items()}


def platt(logits: Array, attack: NDArray[np.bool_], weight: Array) -> tuple[float, float]:
    """Slope and offset of the weighted logistic fit.

    Raises:
        ValueError: the slope is not positive: these logits do not tell attacks.
    """
    slope, offset = logistic(logits[:, None], attack, weight, ridge=0.0)
    if not slope[0] > 0:
        raise ValueError(f"slope {slope[0]:.3f}: the scores do not tell attacks from bona fide")
    return float(slope[0]), offset
