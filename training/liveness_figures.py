"""The figures of every finished clip, as one table, and what each clip weighs in training."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from kyc_guard.config import Limits, Settings
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces import face_finder, face_square
from kyc_guard.media import read_image
from kyc_guard.motion import figures, interior, measuring, regions, returns
from kyc_guard.motion.regions import View
from training.data import read_manifest
from training.discriminant import family_of
from training.liveness_clips import ClipRow, read_finished, read_rows

STILLS_SOURCE = "youtube_faces_udacity"
_MIN_FACE_PX = 48


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Figures of many clips."""

    rows: list[ClipRow]
    figures: NDArray[np.float32]
    shortcuts: NDArray[np.float32]
    """(N, 6): what must not matter: log width, height, rate, bytes a pixel, brightness, face size."""

    def take(self, mask: NDArray[np.bool_]) -> Table:
        return Table(
            [r for r, m in zip(self.rows, mask, strict=True) if m],
            self.figures[mask],
            self.shortcuts[mask],
        )

    def where(self, **facts: Any) -> NDArray[np.bool_]:
        return np.array([all(getattr(r, k) == v for k, v in facts.items()) for r in self.rows])

    @property
    def attack(self) -> NDArray[np.bool_]:
        return np.array([r.is_attack for r in self.rows])


def measure(cache: Path) -> Table:
    """Figures of every finished clip; kept beside the clips under a name that changes with motion.py."""
    store = cache.parent / f"figures-{_version():08x}"
    store.mkdir(exist_ok=True)
    rows, kept = [], []
    for row in read_rows(cache):
        path = store / f"{row.key}.npz"
        if not path.exists():
            clip, track, burst = read_finished(cache, row)
            if len(burst.found) < 8 or len(track.found) < 2:
                np.savez(path, pooled=np.zeros(0, np.float32))
                continue
            measured = measuring.measure_motion(clip, track, burst)
            height, width = clip.frames_rgb.shape[1:3]
            gaps = np.diff(clip.burst_timestamps_s)
            first = next(f for f in track.faces if f is not None)
            facts = [
                np.log(width),
                np.log(height),
                1 / max(float(np.median(gaps)), 1e-3),
                np.log(clip.facts.size_bytes / clip.frames_rgb[0].size),
            ]
            shortcuts = np.array([*facts, first.quality.brightness, first.quality.size_px], np.float32)
            np.savez(path, pooled=measured.pooled(), shortcuts=shortcuts)
        with np.load(path) as stored:
            if stored["pooled"].size:
                rows.append(row)
                kept.append([stored[k] for k in ("pooled", "shortcuts")])
    return Table(rows, *(np.stack(column) for column in zip(*kept, strict=True)))


def measure_stills(data: Path, store: Path) -> NDArray[np.float32]:
    """(N, figures of the interior) of video frames of many people: how much bona fide faces differ for reasons that are no attack.

    A few dozen people in clips cannot tell what makes faces differ; `STILLS_SOURCE` has hundreds, filmed and compressed like clips.
    """
    path = store / f"stills-{_version():08x}.npy"
    if not path.exists():
        rows = []
        for row in read_manifest(data):
            if row.source != STILLS_SOURCE or row.split != "train":
                continue
            image, _ = read_image(data / row.path, Limits())
            faces = face_finder().find(image)
            if faces and face_square(faces[0])[1] >= _MIN_FACE_PX:
                rows.append(interior.row(View.follow(image, faces[0])))
        np.save(path, np.array(rows, np.float32))
    return np.asarray(np.load(path))


def _version() -> int:
    # The syntax tree, so that a comment or a line break measures nothing anew.
    source = "".join(ast.dump(ast.parse(inspect.getsource(m))) for m in (regions, interior, figures))
    return crc32((source + repr(measuring.POOLED_NAMES)).encode())


def measure_streams(cache: Path, rows: Sequence[ClipRow]) -> NDArray[np.float64]:
    """(N, 4) longest freeze in seconds, unrest, long and brief, likeness of what comes back.

    Kept under a name that changes with the code that measures.
    """
    source = "".join(ast.dump(ast.parse(inspect.getsource(m))) for m in (returns, measuring.measure_repeats))
    store = cache.parent / f"returns-{crc32(source.encode()):08x}"
    store.mkdir(exist_ok=True)
    out = np.zeros((len(rows), 4))
    for i, row in enumerate(rows):
        path = store / f"{row.key}.npy"
        if not path.exists():
            clip, _, burst = read_finished(cache, row)
            repeats = measuring.measure_repeats(clip, burst)
            np.save(path, np.array([repeats.frozen_s, repeats.unrest, repeats.brief_unrest, repeats.returned.likeness]))
        out[i] = np.load(path)
    return out


def measure_face_attack(cache: Path, rows: Sequence[ClipRow]) -> NDArray[np.float64]:
    """(N, 6, 2) log-odds, physical and digital, of every second spread frame by the face-attack nets that ship; NaN where no face was seen.

    Kept under a name that changes with the nets.
    """
    bundle = Bundle.load(Settings())
    nets = FaceAttack.load(bundle)
    hashes = "".join(sorted(bundle.weights.get(n).sha256 for n in bundle.weights.names() if n.startswith("face_attack")))
    store = cache.parent / f"face-attack-{crc32((hashes + repr(nets.joins)).encode()):08x}"
    store.mkdir(exist_ok=True)
    out = np.full((len(rows), 6, 2), np.nan)
    for i, row in enumerate(rows):
        path = store / f"{row.key}.npy"
        if not path.exists():
            clip, track, _ = read_finished(cache, row)
            seen = [(f, face) for f, face in zip(clip.frames_rgb, track.faces, strict=True) if face is not None][::2]
            np.save(path, np.array([s.log_odds for s in nets.score_faces(seen, looks="one")]))
        scores = np.load(path)
        if len(scores):
            out[i] = scores[np.linspace(0, len(scores) - 1, 6).round().astype(int)]
    return out


def balance(rows: Sequence[ClipRow], families: Sequence[str]) -> NDArray[np.float64]:
    """(N,) weights for telling ``families`` from bona fide: both classes 0.5; within a class kind by kind (bona fide by source, attacks
    by simulator or real source). Attacks of other families weigh nothing.
    """
    kinds = [None if row.is_attack and family_of(row) not in families else (row.is_attack, row.attack or row.source) for row in rows]
    counts = Counter(kinds)
    sides = Counter(kind[0] for kind in counts if kind)
    return np.array([0.5 / sides[k[0]] / counts[k] if k else 0.0 for k in kinds])
