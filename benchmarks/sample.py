"""A few presentations of every kind from a manifest, the same ones every time, and the picture of a face in each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError
from kyc_guard.faces import face_finder
from kyc_guard.media import read_clip
from kyc_guard.reports.presentations import Presentation
from kyc_guard.types import Face, UInt8Array

LONGEST_SIDE_PX = 720


def spread(rows: Iterable[Presentation], *, per_kind: int) -> list[Presentation]:
    """At most ``per_kind`` usable rows of every source, label and species; which ones is told by a hash of their paths."""
    kinds: defaultdict[tuple[str, str, str], list[Presentation]] = defaultdict(list)
    for row in rows:
        if row.problem is None:
            kinds[row.source, row.label, row.species].append(row)
    return [row for _, kind in sorted(kinds.items()) for row in sorted(kind, key=_draw)[:per_kind]]


def in_turn(rows: Sequence[Presentation], count: int) -> list[Presentation]:
    """``count`` rows, one of every source in turn, so that no large source rules."""
    ranks: defaultdict[str, int] = defaultdict(int)
    ranked = []
    for row in sorted((r for r in rows if r.problem is None), key=_draw):
        ranked.append((ranks[row.source], _draw(row), row))
        ranks[row.source] += 1
    return [row for _, _, row in sorted(ranked, key=lambda item: item[:2])[:count]]


def _draw(row: Presentation) -> str:
    return hashlib.sha256(row.path.encode()).hexdigest()


def face_picture(file: Path, limits: Limits) -> tuple[UInt8Array, Face] | None:
    """The picture, or the middle of the clip, at most `LONGEST_SIDE_PX` long, and its largest face.

    Returns:
        (H, W, 3) uint8 RGB and the face; ``None`` if the file cannot be used or shows no face.
    """
    try:
        frame = read_clip(file, Sampling(frames=1, burst_frames=0), limits).frames_rgb[0]
    except InputError:
        return None
    height, width = frame.shape[:2]
    shrink = LONGEST_SIDE_PX / max(height, width)
    if shrink < 1.0:
        frame = cv2.resize(frame, (round(width * shrink), round(height * shrink)), interpolation=cv2.INTER_AREA)
    faces = face_finder().find(frame)
    return (frame, faces[0]) if faces else None
