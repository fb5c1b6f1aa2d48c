"""How often the links of `kyc_guard.cluster` join strangers: the figures behind [cluster] of policy.toml.

    python -m training.cluster --data ../shared/data

Prints, for every kind, the false links among pairs of different people and the exact upper 95 % bound (pairs taken as independent,
which those of one person are not), and the share of true pairs found. Strangers are people of clips and of single pictures. True
pairs of clips and backgrounds are the two halves of a clip: nobody here was filmed twice in one place.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from kyc_guard.cluster import background, likeness
from kyc_guard.config import Limits, Policy, Sampling, Settings
from kyc_guard.errors import InputError
from kyc_guard.faces import track_faces
from kyc_guard.faces.embedding import Embedder
from kyc_guard.forensics import clip_distance, frame_prints, print_distances
from kyc_guard.media import read_clip
from kyc_guard.reports.metrics import clopper_pearson
from kyc_guard.types import Clip, Float32Array, Float64Array, UInt8Array
from training.data import ManifestRow, read_manifest
from training.match import SOURCES, Pairs, embed_split, pairs
from training.thresholds import THRESHOLDS

_SAMPLING = Sampling(frames=24, burst_frames=0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args(arguments).data
    limits = Policy.load(Settings().policy_path).cluster
    embedder = Embedder.load(THRESHOLDS.parent)
    faces = [_selfies(pairs(embed_split(data, split, embedder)[0])) for split in ("calibration", "validation")]
    strangers = np.concatenate([p.distances[~p.genuine] for p in faces])
    _tell("face, pictures", strangers, np.concatenate([p.distances[p.genuine] for p in faces]), limits["face_distance"])
    rows = read_manifest(data)
    clips = [(r, *_halves(c)) for r, c in _read(data, [r for r in rows if r.path.startswith("clips/") and r.label == "bona_fide"])]
    pictures = [(r, *_looks(c)) for r, c in _read(data, [r for r in rows if r.source in SOURCES])]
    apart = [1.0]
    for i, (one, prints, _) in enumerate(pictures):
        others = np.concatenate([p for other, p, _ in pictures[i + 1 :] if other.subject != one.subject] or [prints[:0]])
        apart += print_distances(prints, others)[0].tolist()
    apart += [clip_distance(a[0], b[0]) for (one, a, _), (two, _, b) in combinations(clips, 2) if one.subject != two.subject]
    _tell("clip", np.array(apart[1:]), np.array([clip_distance(a[0], b[0]) for _, a, b in clips]), limits["clip_distance"])
    alike = [_alike(a[1], b[1], limits) for (one, a, _), (two, _, b) in combinations(clips, 2) if one.subject != two.subject]
    # One picture a person: further ones of the same programme would count one studio many times.
    rooms = {row.subject: room for row, _, room in pictures}
    alike += [_alike(a, b, limits) for a, b in combinations(rooms.values(), 2)]
    true = [_alike(a[1], b[1], limits) for _, a, b in clips]
    strangers, known = (-np.array([v for v in values if v is not None]) for values in (alike, true))
    _tell("background (likeness, sign turned)", strangers, known, -limits["background_likeness"])


def _selfies(p: Pairs) -> Pairs:
    return p.where(~p.worn)


_Look = tuple[UInt8Array, Float32Array | None]
"""Prints of the frames, and the background."""


def _read(data: Path, rows: Sequence[ManifestRow]) -> Iterator[tuple[ManifestRow, Clip]]:
    for row in rows:
        try:
            yield row, read_clip(data / row.path, _SAMPLING, Limits())
        except InputError as error:
            print(f"skipped {error}")


def _looks(clip: Clip) -> _Look:
    return frame_prints(clip.frames_rgb), background(clip, track_faces(clip.frames_rgb, other_face_ratio=1.0))


def _halves(clip: Clip) -> tuple[_Look, _Look]:
    middle = len(clip.frames_rgb) // 2
    first, second = (_looks(replace(clip, frames_rgb=clip.frames_rgb[s])) for s in (slice(None, middle), slice(middle, None)))
    return first, second


def _alike(a: Float32Array | None, b: Float32Array | None, limits: Mapping[str, float]) -> float | None:
    if a is None or b is None:
        return None
    return likeness(a, b, min_contrast=limits["background_min_contrast"], min_share=limits["background_min_share"])


def _tell(what: str, strangers: Float64Array, genuine: Float64Array, limit: float) -> None:
    """One line; the smaller a value, the more alike."""
    false = int((strangers <= limit).sum())
    upper = clopper_pearson(false, len(strangers))[1] if len(strangers) else 1.0
    nearest = ", ".join(f"{v:.3f}" for v in np.sort(strangers)[:5])
    found = f"{(genuine <= limit).mean():.3f} of {len(genuine)} true pairs" if len(genuine) else "no true pairs"
    print(f"{what}: {false} of {len(strangers)} strangers within {limit:g}, upper bound {upper:.2e}; nearest {nearest}; {found}")


if __name__ == "__main__":
    main()
