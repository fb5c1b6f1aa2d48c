"""Chips made on the spot: blotches for faces, and attacks that any eye tells from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from kyc_guard.types import UInt8Array
from training.chips import MASK_SIDE, Chip, ChipRow, ChipWriter

SIDE_PX = 64


def row(**facts: object) -> ChipRow:
    """A bona fide chip's row, but for ``facts``."""
    plain = ChipRow(
        path="images/a.jpg",
        label="bona_fide",
        attack_type="",
        source="here",
        subject="a",
        group="",
        split="train",
        detail="",
        frame=0,
        side_px=SIDE_PX,
        face_xy_side=(32.0, 32.0, 36.0),
    )
    return replace(plain, **facts)  # type: ignore[arg-type]


def attack(species: str, **facts: object) -> ChipRow:
    return row(label="attack", attack_type=species, **facts)


def blotches(seed: int, side_px: int = SIDE_PX) -> UInt8Array:
    """A smooth picture, another for every seed."""
    coarse = np.random.default_rng(seed).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)


def striped(image: UInt8Array) -> UInt8Array:
    """As a screen might look: every third column dark."""
    out = image.copy()
    out[:, ::3] //= 4
    return out


def chip(image: UInt8Array, mask: UInt8Array | int = 0) -> Chip:
    side = image.shape[0]
    landmarks = np.random.default_rng(0).uniform(0.25 * side, 0.75 * side, (478, 2)).astype(np.float32)
    full = np.full((MASK_SIDE, MASK_SIDE), mask, np.uint8) if isinstance(mask, int) else mask
    return Chip(image, landmarks, full)


def fill(cache: Path, people: int = 10) -> None:
    """Four chips a person, two real and two simulated: bona fide, a replay, a print, a generated face; stripes on all attacks."""
    real, bank = ChipWriter(cache / "real", "real_0000"), ChipWriter(cache / "bank", "bank_0000")
    for person in range(people):
        image = blotches(person)
        facts = {"subject": f"p{person}", "path": f"images/{person}.jpg"}
        real.add(row(**facts), chip(image))
        real.add(attack("replay", **{**facts, "path": f"images/{person}_replay.jpg"}), chip(striped(image), 255))
        bank.add(attack("print", attack="maker_a", **facts), chip(striped(image), 255))
        bank.add(attack("generated", attack="maker_b", **facts), chip(striped(image), 255))
    real.close()
    bank.close()
