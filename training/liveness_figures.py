"""The figures of every finished clip, as one table, and what each clip weighs in training."""

from __future__ import annotations

import ast
import inspect
from collections import Counter, defaultdict
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


_LIVE_PAIRS = "deepfacelive_pairs"
_SHARES = {"live": 0.5, "real": 0.15}
"""Of a family's attacks, what the live swaps and all other real sources weigh; the simulators have the rest."""
_WEBCAMS = 0.4
"""Of the bona fide, what the webcams of the live pairs weigh."""


def balance(rows: Sequence[ClipRow], family: Sequence[str]) -> NDArray[np.float32]:
    """(N,) weights for telling ``family`` from bona fide: both classes 0.5; within a class kind by kind (bona fide by source, attacks
    by simulator or real source), within a kind subject by subject. Attacks of another family weigh nothing.
    """
    members: dict[tuple[bool, str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.is_attack and row.attack_type not in family:
            continue
        share = "live" if row.source == _LIVE_PAIRS and not row.attack else "simulated" if row.attack else "real"
        members[row.is_attack, share, row.attack or row.source].append(i)
    weights = np.zeros(len(rows))
    for (attack, share, _), chosen in members.items():
        kinds = [k for k in members if k[0] == attack]
        peers = sum(k[1] == share for k in kinds)
        shares = {k[1]: (_SHARES if attack else {"live": _WEBCAMS}).get(k[1]) for k in kinds}
        known = sum(v for v in shares.values() if v)
        mass = shares[share] or (1 - known) / sum(v is None for v in shares.values())
        subjects = Counter(rows[i].subject for i in chosen)
        within = np.array([1 / subjects[rows[i].subject] for i in chosen])
        weights[chosen] = 0.5 * mass / peers * within / within.sum()
    for attack in (True, False):
        side = np.array([r.is_attack == attack for r in rows])
        weights[side] *= 0.5 / max(weights[side].sum(), 1e-9)
    return weights.astype(np.float32)
