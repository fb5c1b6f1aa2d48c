"""Scores of a trained net over all real chips and the reserved simulators, and what they are worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kyc_guard.faces.views import View
from kyc_guard.reports import metrics
from kyc_guard.types import PHYSICAL, UInt8Array
from training.chips import ChipRow, ChipStore
from training.models import AttackNet
from training.train import predict


def views_of(view: View, store: ChipStore, i: int) -> UInt8Array:
    """What inference sees of one chip, (looks, S, S, 3): all of the view's looks."""
    x, y, side = store.rows[i].face_xy_side
    return view.cut_square(store[i].image_rgb, (x, y), side, view.looks)


def score(net: AttackNet, view: View, store: ChipStore, wanted: Sequence[int]) -> NDArray[np.float32]:
    """(N, 2) logits, physical and digital, the mean over the view's looks."""
    rows = []
    for start in range(0, len(wanted), 128):
        images = list(np.concatenate([views_of(view, store, i) for i in wanted[start : start + 128]]))
        rows.append(predict(net, images)[0].reshape(-1, len(view.looks), 2).mean(1))
    return np.concatenate(rows) if rows else np.zeros((0, 2), np.float32)


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
    """`metrics.auc`, NaN where a class is empty."""
    return metrics.auc(bona_fide.astype(np.float64), attack.astype(np.float64)) if len(attack) and len(bona_fide) else float("nan")


def summary(rows: Sequence[ChipRow], logits: NDArray[np.float32]) -> dict[str, float]:
    """AUC per species and source (chips, not clips), the share of bona fide above 0 per source, and the live pairs by clip.

    Args:
        logits: (N, 2). A species is scored by its own head, a source's bona fide faces by the larger of the two.
    """
    bona = np.array([not r.is_attack for r in rows])
    head = np.array([0 if r.attack_type in PHYSICAL else 1 for r in rows])
    own = logits[np.arange(len(rows)), head]
    out: dict[str, float] = {}
    real = np.array([not r.attack for r in rows])
    captured = {r.source for r in rows if r.attack_type in PHYSICAL and not r.attack}
    physical_bona = bona & np.array([r.source in captured for r in rows])
    out["physical pooled"] = auc(own[(head == 0) & real & ~bona], logits[physical_bona, 0])
    out["digital pooled"] = auc(own[(head == 1) & real & ~bona], logits[bona, 1])
    base = {(r.path, r.frame): i for i, r in enumerate(rows) if not r.is_attack}
    for kind in sorted({r.attack_type for r in rows if r.is_attack}):
        for made in (False, True):
            mine = np.flatnonzero([r.attack_type == kind and bool(r.attack) == made for r in rows])
            if not len(mine):
                continue
            column = int(head[mine[0]])
            out[f"{'simulated' if made else 'real'} {kind}"] = auc(own[mine], logits[bona, column])
            twins = [(i, base[rows[i].path, rows[i].frame]) for i in mine if (rows[i].path, rows[i].frame) in base] if made else []
            if twins:
                out[f"simulated {kind} above its own original"] = float(np.mean([own[i] > logits[b, column] for i, b in twins]))
    for source in sorted({r.source for r in rows}):
        mine = np.array([r.source == source and not r.attack for r in rows])
        if (mine & bona).any():
            out[f"{source} bona fide > 0"] = float((logits[mine & bona].max(1) > 0).mean())
            if (mine & ~bona).any():
                column = int(head[mine & ~bona][0])
                out[f"{source} AUC"] = auc(own[mine & ~bona], logits[mine & bona, column])
    clips: dict[str, list[float]] = defaultdict(list)
    for row, value in zip(rows, logits[:, 1], strict=True):
        if row.source == "deepfacelive_pairs" and not row.attack:
            clips[Path(row.path).stem].append(float(value))
    pairs = [(np.mean(clips[k]), np.mean(clips[k.replace("_fake", "_real")])) for k in clips if k.endswith("_fake")]
    if pairs:
        out["live pairs ranked right"] = sum(f > r for f, r in pairs) / len(pairs)
    return out
