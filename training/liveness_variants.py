"""A hundred and more variants of each attack that liveness must never miss: a frozen photo, a frozen, a looped and a there-and-back
stream, a planar print; and the bona fide windows they were made from.

Made of bona fide clips of people that nothing was fitted or tuned on. Half of the streams are disguised after the loop: fresh noise in
every frame and an exposure that wanders, so that no pixel comes back as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from kyc_guard.attacks.clips import CLIP_ATTACKS, ClipAttack
from kyc_guard.attacks.optics import Rng
from kyc_guard.errors import InputError
from kyc_guard.types import Float32Array, UInt8Array
from training import liveness_clips
from training.data import ManifestRow, read_manifest
from training.liveness_clips import ClipRow

_BY_NAME = {a.name: a for a in CLIP_ATTACKS}


def _photo(rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array) -> UInt8Array:
    """One frame for the whole clip."""
    del landmarks_px
    return np.repeat(frames_rgb[[int(rng.integers(len(frames_rgb)))]], len(frames_rgb), axis=0)


def disguised(
    rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array, *, stream: Callable[[Rng, UInt8Array, Float32Array], UInt8Array]
) -> UInt8Array:
    """The stream with a camera's noise and exposure made up for it."""
    repeated = stream(rng, frames_rgb, landmarks_px)
    sigma, reach = rng.uniform(1.0, 4.0), rng.uniform(0.01, 0.05)
    knots = max(4, len(repeated) // 12)
    gains = 1.0 + reach * cv2.resize(rng.normal(0, 1, (knots, 1)), (1, len(repeated)), interpolation=cv2.INTER_CUBIC)[:, 0]
    out = np.empty_like(repeated)
    for i, (frame, gain) in enumerate(zip(repeated, gains, strict=True)):
        out[i] = np.clip(frame * np.float32(gain) + rng.normal(0, sigma, frame.shape).astype(np.float32), 0, 255)
    return out


STREAMS = {
    "frozen photo": ClipAttack("clip_freeze", "replay", held_out=False, apply=_photo),
    "frozen stream": _BY_NAME["clip_freeze"],
    "looped": _BY_NAME["clip_loop"],
    "there and back": _BY_NAME["clip_there_and_back"],
}
_PRINTS = ("clip_print_photo", "clip_print_halftone", "clip_print_line_screen")


def build(data: Path, cache: Path, *, draws: int) -> None:
    """Make every variant that is not there yet; can be interrupted.

    Args:
        cache: folder of the variants. The meshes of the clips they are made from lie in ``../clips/sources``.
        draws: variants of each kind that are made of each clip.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for row in read_manifest(data):
        if row.path.startswith("clips/") and row.label == "bona_fide" and row.split == "validation":
            try:
                _build_all(data, cache, row, draws)
            except InputError as error:
                print(f"skipped {error}", file=sys.stderr)


def _build_all(data: Path, cache: Path, row: ManifestRow, draws: int) -> None:
    stem = liveness_clips.stem_of(row)
    wanted = [(r, a) for d in range(draws) for r, a in _planned(row, stem, d) if not (cache / f"{r.key}.json").exists()]
    if not wanted:
        return
    source = liveness_clips.load(data / row.path, cache.parent / "clips" / "sources" / f"{stem}.npz")
    for made, attack in wanted:
        encoded = liveness_clips.make(data, source, made, attack, ())
        if encoded is not None:
            liveness_clips.finish(cache, made, encoded)


def _planned(row: ManifestRow, stem: str, draw: int) -> Iterator[tuple[ClipRow, ClipAttack | None]]:
    """The window and one variant of every kind; streams are disguised in every second draw, prints take turns."""
    real = ClipRow(
        f"{stem}-{draw}", f"variant/{row.path}#{draw}", row.path, "bona_fide", "", row.source, row.subject, row.split, "", False, draw
    )
    yield real, None
    for name, attack in STREAMS.items():
        shown, apply = name, attack.apply
        if draw % 2:
            shown, apply = f"{name}, disguised", partial(disguised, stream=attack.apply)
        yield _attacked(real, shown, attack), replace(attack, apply=apply)
    flat = _BY_NAME[_PRINTS[draw % len(_PRINTS)]]
    yield _attacked(real, "planar print", flat), flat


def _attacked(real: ClipRow, shown: str, attack: ClipAttack) -> ClipRow:
    key = f"{real.key}-{shown.replace(', ', '_').replace(' ', '_')}"
    return replace(real, key=key, label="attack", attack_type=attack.species, attack=shown, held_out=attack.held_out)
