"""Scores of a trained net over all real chips and the reserved simulators, and what they are worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kyc_guard.views import View
from training.chips import ChipRow, ChipStore
from training.models import AttackNet
from training.sampling import STILL, cut
from training.train import predict

PHYSICAL = frozenset({"print", "print_cut", "replay", "mask"})


def views_of(view: View, store: ChipStore, i: int) -> list[NDArray[np.uint8]]:
    """The views inference takes of one chip: the whole face once, a window at every anchor."""
    row, chip = store.rows[i], store[i]
    return [cut(view, row, chip, replace(STILL, anchor=a), 4)[0] for a in view.anchors]


def score(net: AttackNet, view: View, store: ChipStore, wanted: Sequence[int]) -> NDArray[np.float32]:
    """(N, K) logits, one an anchor of the view."""
    rows = []
    for start in range(0, len(wanted), 128):
        images = [v for i in wanted[start : start + 128] for v in views_of(view, store, i)]
        rows.append(predict(net, images)[0].reshape(len(wanted[start : start + 128]), -1))
    return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)


def score_split(
    net: AttackNet, view: View, stores: Sequence[ChipStore], split: str, *, share: float = 1.0
) -> tuple[list[ChipRow], NDArray[np.float32]]:
    """Rows of ``split`` in both stores (of simulated chips every n-th, for a ``share`` below 1) and their logits."""
    rows, logits = [], []
    for store in stores:
        mine = [i for i, r in enumerate(store.rows) if r.split == split]
        mine = mine[:: round(1 / share)]
        rows += [store.rows[i] for i in mine]
        logits.append(score(net, view, store, mine))
    return rows, np.concatenate(logits)


def auc(attack: NDArray[np.float32], bona_fide: NDArray[np.float32]) -> float:
    """Area under the ROC curve: P(an attack scores above a bona fide face), ties half."""
    if not len(attack) or not len(bona_fide):
        return float("nan")
    both = np.concatenate([bona_fide, attack])
    order = both.argsort(kind="stable")
    ranks = np.empty(len(both))
    ranks[order] = np.arange(1, len(both) + 1)
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, ranks) / counts)[inverse]
    n = len(attack)
    return float((ranks[len(bona_fide) :].sum() - n * (n + 1) / 2) / (n * len(bona_fide)))


def summary(rows: Sequence[ChipRow], logits: NDArray[np.float32]) -> dict[str, float]:
    """AUC per species and source (chips, not clips), the share of bona fide above 0 per source, and the live pairs by clip."""
    bona = np.array([not r.is_attack for r in rows])
    out: dict[str, float] = {}
    physical = np.array([r.attack_type in PHYSICAL for r in rows])
    real = np.array([not r.attack for r in rows])
    captured = {r.source for r, p, t in zip(rows, physical, real, strict=True) if p and t}
    physical_bona = bona & np.array([r.source in captured for r in rows])
    out["physical pooled"] = auc(logits[physical & real], logits[physical_bona])
    for kind in sorted({r.attack_type for r in rows if r.is_attack}):
        for made in (False, True):
            mine = np.array([r.attack_type == kind and bool(r.attack) == made for r in rows])
            if mine.any():
                out[f"{'simulated' if made else 'real'} {kind}"] = auc(logits[mine], logits[bona])
    for source in sorted({r.source for r in rows}):
        mine = np.array([r.source == source and not r.attack for r in rows])
        if (mine & bona).any():
            out[f"{source} bona fide > 0"] = float((logits[mine & bona] > 0).mean())
            if (mine & ~bona).any():
                out[f"{source} AUC"] = auc(logits[mine & ~bona], logits[mine & bona])
    clips: dict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, logits, strict=True):
        if row.source == "deepfacelive_pairs" and not row.attack:
            clips[Path(row.path).stem].append(float(value))
    pairs = [(np.mean(clips[k]), np.mean(clips[k.replace("_fake", "_real")])) for k in clips if k.endswith("_fake")]
    if pairs:
        out["live pairs ranked right"] = sum(f > r for f, r in pairs) / len(pairs)
    return out
