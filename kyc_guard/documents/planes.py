"""A page as its traces are looked for: luma and chroma of the part that carries print and portrait, at no more than 1200 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

from kyc_guard.types import Float32Array, UInt8Array

_MAX_SIDE_PX = 1200
"""Larger pictures are shrunk: cameras that give more write no finer detail there, and the cost stays bounded."""
_MARGIN = 0.03
"""Of the longer side, round print and portrait: beyond lies the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """One page, its boxes in pixels of the planes."""

    luma: Float32Array
    """(H, W) float32, 0..255."""
    chroma: tuple[Float32Array, Float32Array]
    """Red and blue difference, (H, W) float32 round 128."""
    fine: Float32Array
    """Luma less its blur by one pixel."""
    wave: Float32Array
    """That blur less a wide one: what guilloche and soft print are made of."""
    lines_xyxy: Float32Array
    """(N, 4) float32."""
    face_xyxy: Float32Array | None
    """(4,) float32, round the mesh of the portrait's face."""

    @classmethod
    def of(cls, image_rgb: UInt8Array, lines_xyxy: Float32Array, face_xyxy: Float32Array | None) -> Self:
        """Of an upright page.

        Args:
            image_rgb: (H, W, 3) uint8 RGB.
            lines_xyxy: (N, 4), the lines of text outside the zone; N may be 0.
            face_xyxy: (4,), ``None`` without a portrait.
        """
        height, width = image_rgb.shape[:2]
        known = [lines_xyxy] if face_xyxy is None else [lines_xyxy, _grown(face_xyxy, 2.0)[None]]
        boxes = np.concatenate(known).reshape(-1, 4)
        corner = np.zeros(2, np.float32)
        if len(boxes):
            margin = _MARGIN * max(height, width)
            x0, y0 = np.floor(np.clip(boxes[:, :2].min(axis=0) - margin, 0, (width - 1, height - 1))).astype(int)
            x1, y1 = np.ceil(np.clip(boxes[:, 2:].max(axis=0) + margin, 1, (width, height))).astype(int)
            if x1 - x0 >= 16 and y1 - y0 >= 16:
                image_rgb, corner = image_rgb[y0:y1, x0:x1], np.array((x0, y0), np.float32)
        unit = min(1.0, _MAX_SIDE_PX / max(image_rgb.shape[:2]))
        if unit < 1.0:
            image_rgb = np.asarray(cv2.resize(image_rgb, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA), np.uint8)
        luma, red, blue = (p.astype(np.float32) for p in cv2.split(cv2.cvtColor(np.ascontiguousarray(image_rgb), cv2.COLOR_RGB2YCrCb)))
        shift, soft = np.concatenate([corner, corner]), cv2.GaussianBlur(luma, (5, 5), 1.0)
        return cls(
            luma=luma,
            chroma=(red, blue),
            fine=luma - soft,
            wave=soft - cv2.blur(luma, (13, 13)),
            lines_xyxy=((lines_xyxy.reshape(-1, 4) - shift) * np.float32(unit)).astype(np.float32),
            face_xyxy=None if face_xyxy is None else ((face_xyxy - shift) * np.float32(unit)).astype(np.float32),
        )


def _grown(box: Float32Array, factor: float) -> Float32Array:
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def room(plane: Float32Array, box: Float32Array, factor: float = 1.0) -> Float32Array:
    """What of a plane lies in a box grown about its centre; empty where that lies outside."""
    height, width = plane.shape[:2]
    x0, y0, x1, y1 = np.round(_grown(box, factor)).astype(int)
    return plane[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]


def log(value: Any, floor: float = 0.05) -> float:
    """Natural logarithm of a strength, from ``floor`` up."""
    return float(np.log(max(float(value), 0.0) + floor))


_SAMPLE = 1500


def ranks(values: Float32Array, *shares: float) -> list[float]:
    """Quantiles of an area, from evenly picked pixels where it has many; NaN where it has none."""
    flat = values.ravel()
    if not flat.size:
        return [float("nan")] * len(shares)
    picked = np.sort(flat[:: -(-flat.size // _SAMPLE)])
    return [float(picked[min(int(share * len(picked)), len(picked) - 1)]) for share in shares]


def noise(fine: Float32Array, floor: float = 0.05) -> float:
    """Log of the noise of an area: median magnitude of its fine detail, which strokes and edges hardly move."""
    flat = fine.ravel()
    return log(ranks(np.abs(flat[:: -(-flat.size // _SAMPLE)]), 0.5)[0], floor) if flat.size else float("nan")


def neighbours(fine: Float32Array) -> tuple[float, float]:
    """Correlation of fine detail with its right and lower neighbour: raw sensors, demosaicing and resampling differ in it."""
    if min(fine.shape) < 4:
        return float("nan"), float("nan")
    power = float(np.vdot(fine, fine)) / fine.size + 1e-3
    right, below = fine[:, 1:] * fine[:, :-1], fine[1:] * fine[:-1]
    return float(right.mean()) / power, float(below.mean()) / power


def blockiness(luma: Float32Array) -> float:
    """Log of the strongest of eight phases of the steps between columns and rows over the typical one: the grid of a JPEG."""
    found = []
    for steps in (np.abs(np.diff(luma, axis=1)).mean(axis=0), np.abs(np.diff(luma, axis=0)).mean(axis=1)):
        length = len(steps) // 8 * 8
        if length < 24:
            return float("nan")
        phases = np.sort(steps[:length].reshape(-1, 8).mean(axis=0))
        found.append(float(np.log((phases[-1] + 0.1) / (phases[4] + 0.1))))
    return sum(found) / 2
