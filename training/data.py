"""The data layer: manifest -> chips, through the very code that cuts faces at inference.

Splits: ``validation`` is the manifest's and nothing is fitted to it; ``calibration`` is taken out of the manifest's train part by
subject (and one whole source), so that thresholds are set on people and cameras the nets never saw; the rest is ``train``.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError
from kyc_guard.faces import face_finder, face_square, square_crop
from kyc_guard.media import read_clip
from kyc_guard.types import Face, Float32Array, UInt8Array
from training.chips import MASK_SIDE, Chip, ChipRow, ChipWriter

CONTEXT = 1.8
"""A chip's side over the face square's side: room for every crop training asks for."""
MAX_FACE_PX = 320
"""Faces larger than this are shrunk to it: the chip stays native up to there."""
FRAMES_PER_CLIP = 32
CALIBRATION_SOURCES = frozenset({"tranvanluyt_replay"})
CALIBRATION_SHARE = 0.12
_SALT = 2
"""Chosen so that small sources (live-swap pairs, NUAA) give one or two people; no result was looked at."""
SHARD_ROWS = 250


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of the shared manifest, its split refined by `split_of`."""

    path: str
    label: str
    attack_type: str
    source: str
    subject: str
    group: str
    split: str
    detail: str


def read_manifest(data: Path) -> list[ManifestRow]:
    """Rows of ``data/manifest.csv`` with their final split."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [ManifestRow(**row) for row in csv.DictReader(file)]
    return [ManifestRow(**{**{k: getattr(r, k) for k in r.__slots__}, "split": split_of(r)}) for r in rows]


def split_of(row: ManifestRow) -> str:
    """train, calibration or validation; a person is in one of them only.

    Live-swap pairs keep a streamer's clips together: the subject of a fake is ``person+model``.
    """
    if row.split != "train":
        return row.split
    if row.source in CALIBRATION_SOURCES:
        return "calibration"
    person = row.subject.split("+")[0]
    draw = int.from_bytes(hashlib.sha256(f"{_SALT}/{row.source}/{person}".encode()).digest()[:4], "big") / 2**32
    return "calibration" if draw < CALIBRATION_SHARE else "train"


def cut_chip(frame_rgb: UInt8Array, face: Face) -> tuple[UInt8Array, Float32Array, tuple[float, float, float]]:
    """A chip of one face: (S, S, 3) uint8 RGB, landmarks (478, 2) float32 in chip px, and the face square in it."""
    (cx, cy), side = face_square(face)
    crop = round(CONTEXT * side)
    shrink = min(1.0, MAX_FACE_PX / side)
    out = max(48, round(crop * shrink))
    image = square_crop(frame_rgb, (cx, cy), crop, out)
    unit = out / crop
    corner = np.array([round(cx - crop / 2), round(cy - crop / 2)], np.float32)
    landmarks = (face.landmarks_px[:, :2] - corner) * np.float32(unit)
    return image, landmarks.astype(np.float32), (out / 2, out / 2, side * unit)


def chips_of(data: Path, row: ManifestRow) -> Iterator[tuple[ChipRow, Chip]]:
    """Every chip of one manifest row: one of a picture, up to `FRAMES_PER_CLIP` of a clip; none where no face is found."""
    clip = read_clip(data / row.path, Sampling(frames=FRAMES_PER_CLIP, burst_frames=0), Limits(), name=row.path)
    for t, frame in enumerate(clip.frames_rgb):
        faces = face_finder().find(frame)
        if not faces or face_square(faces[0])[1] < 24:
            continue
        image, landmarks, square = cut_chip(frame, faces[0])
        mask = np.full((MASK_SIDE, MASK_SIDE), 255 if row.label == "attack" else 0, np.uint8)
        facts = {k: getattr(row, k) for k in row.__slots__}
        yield ChipRow(**facts, frame=t, side_px=image.shape[0], face_xy_side=square), Chip(image, landmarks, mask)


def build_real_chips(data: Path, cache: Path, part: Sequence[int] = (0, 1)) -> None:
    """Cut every face of the manifest into ``cache/real``; finished shards are skipped, so it can be interrupted.

    Args:
        part: (k, n): do only every n-th shard from k on, for n processes side by side.
    """
    rows = read_manifest(data)
    for start in range(0, len(rows), SHARD_ROWS):
        number = start // SHARD_ROWS
        name = f"real_{number:04d}"
        if number % part[1] != part[0] or (cache / "real" / f"{name}.json").exists():
            continue
        writer = ChipWriter(cache / "real", name)
        lost = 0
        for row in rows[start : start + SHARD_ROWS]:
            try:
                for chip_row, chip in chips_of(data, row):
                    writer.add(chip_row, chip)
            except InputError as error:
                lost += 1
                print(f"skipped {error}", file=sys.stderr)
        writer.close()
        print(f"{name}: done, {lost} unreadable", flush=True)
