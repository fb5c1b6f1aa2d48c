"""The figures of every finished clip, as one table, and what each clip weighs in training."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kyc_guard import _figures, _regions, motion
from training.liveness_clips import ClipRow, read_finished, read_rows


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Figures of many clips."""

    rows: list[ClipRow]
    figures: NDArray[np.float32]
    frozen_s: NDArray[np.float64]
    repeats: NDArray[np.int64]
    shortcuts: NDArray[np.float32]
    """(N, 6): what must not matter: log width, height, rate, bytes a pixel, brightness, face size."""

    def take(self, mask: NDArray[np.bool_]) -> Table:
        return Table(
            [r for r, m in zip(self.rows, mask, strict=True) if m],
            self.figures[mask],
            self.frozen_s[mask],
            self.repeats[mask],
            self.shortcuts[mask],
        )

    def where(self, **facts: Any) -> NDArray[np.bool_]:
        return np.array([all(getattr(r, k) == v for k, v in facts.items()) for r in self.rows])

    @property
    def attack(self) -> NDArray[np.bool_]:
        return np.array([r.is_attack for r in self.rows])


def measure(cache: Path) -> Table:
    """Figures of every finished clip; kept beside the clips under a name that changes with motion.py."""
    # The syntax tree, so that a comment or a line break measures nothing anew.
    source = "".join(ast.dump(ast.parse(inspect.getsource(m))) for m in (_regions, _figures, motion))
    version = crc32(source.encode())
    store = cache.parent / f"figures-{version:08x}"
    store.mkdir(exist_ok=True)
    rows, kept = [], []
    for row in read_rows(cache):
        path = store / f"{row.key}.npz"
        if not path.exists():
            clip, track, burst = read_finished(cache, row)
            if len(burst.found) < 8 or len(track.found) < 2:
                np.savez(path, pooled=np.zeros(0, np.float32))
                continue
            measured = motion.measure_motion(clip, track, burst)
            height, width = clip.frames_rgb.shape[1:3]
            gaps = np.diff(clip.burst_timestamps_s)
            first = next(f for f in track.faces if f is not None)
            facts = [
                np.log(width),
                np.log(height),
                1 / max(float(np.median(gaps)), 1e-3),
                np.log(clip.facts.size_bytes / clip.frames_rgb[0].size),
            ]
            np.savez(
                path, pooled=measured.pooled(), still=measured.still, spread=measured.still_spread, step=measured.step,
                whole=measured.whole, frozen_s=measured.frozen_s, repeats=measured.repeats,
                shortcuts=np.array([*facts, first.quality.brightness, first.quality.size_px], np.float32),
            )  # fmt: skip
        with np.load(path) as stored:
            if stored["pooled"].size:
                rows.append(row)
                kept.append([stored[k] for k in ("pooled", "frozen_s", "repeats", "shortcuts")])
    return Table(rows, *(np.stack(column) for column in zip(*kept, strict=True)))


def balance(rows: Sequence[ClipRow]) -> NDArray[np.float32]:
    """Weights: both classes alike; within a class every kind alike (bona fide by source, attacks by simulator or real source),
    live pairs four times; within a kind every subject alike.
    """
    kinds = [(r.is_attack, f"sim {r.attack}" if r.attack else r.source) for r in rows]
    subjects = [(*k, r.subject) for k, r in zip(kinds, rows, strict=True)]
    per_kind: dict[Any, set[Any]] = defaultdict(set)
    per_subject: dict[Any, int] = defaultdict(int)
    for kind, subject in zip(kinds, subjects, strict=True):
        per_kind[kind].add(subject)
        per_subject[subject] += 1
    raw = np.array(
        [
            (4.0 if k[1] == "deepfacelive_pairs" else 1.0) * min(len(per_kind[k]), 4) / len(per_kind[k]) / per_subject[s]
            for k, s in zip(kinds, subjects, strict=True)
        ]
    )
    attack = np.array([k[0] for k in kinds])
    for side in (attack, ~attack):
        raw[side] *= 0.5 / max(raw[side].sum(), 1e-9)
    return np.asarray(raw, np.float32)
