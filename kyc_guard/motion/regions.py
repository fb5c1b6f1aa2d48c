"""Where on and around a face figures are taken: chips of fixed size, soft regions from the mesh, energies pooled over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from kyc_guard.faces import LEFT_EYE, OVAL, RIGHT_EYE, face_square, square_crop
from kyc_guard.types import Face, Float32Array, Float64Array, UInt8Array

SIDE_PX = 224
"""Side of a chip; the face's square takes SIDE_PX / SCALE of it."""
SCALE = 1.9
GRID = 56
"""Energies are pooled to a grid of this side before regions are averaged."""

LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
BROW_LEFT, BROW_RIGHT = (70, 63, 105, 66, 107), (336, 296, 334, 293, 300)

REGIONS = ("skin", "eyes", "mouth", "forehead", "chin", "edge", "rim", "collar", "around", "far")
"""Inside the face without eyes and mouth, its parts, rings inside, over and outside its edge, hair and neck, the rest of the chip."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One chip: luma and chroma as float32 (SIDE_PX, SIDE_PX), the mesh in chip pixels, and the regions."""

    luma: Float32Array
    luma_u8: UInt8Array
    chroma: tuple[Float32Array, Float32Array]
    mesh: Float32Array
    regions: Float32Array
    """(len(REGIONS), GRID * GRID) float32, each row summing to 1, or to 0 where the region is out of sight."""
    fine: Float64Array
    """(len(REGIONS),) log energy of the finest octave of luma."""
    face: Face

    @classmethod
    def follow(cls, frame_rgb: UInt8Array, face: Face) -> View:
        centre, side = face_square(face)
        return cls.cut(frame_rgb, face, centre, SCALE * side)

    @classmethod
    def cut(cls, frame_rgb: UInt8Array, face: Face, centre_px: tuple[float, float], crop_px: float) -> View:
        chip = square_crop(frame_rgb, centre_px, crop_px, SIDE_PX)
        side = max(2, round(crop_px))
        corner = np.array([round(centre_px[0] - crop_px / 2), round(centre_px[1] - crop_px / 2)], np.float32)
        unit = np.float32(SIDE_PX / side)
        mesh = ((face.landmarks_px[:, :2] - corner) * unit).astype(np.float32)
        height, width = frame_rgb.shape[:2]
        inside = np.array([-corner, np.array([width, height], np.float32) - corner], np.float32) * unit
        ycc = cv2.cvtColor(chip, cv2.COLOR_RGB2YCrCb)
        planes = cv2.split(ycc)
        floats = [p.astype(np.float32) for p in planes]
        regions = _regions(mesh, inside)
        return cls(floats[0], planes[0], (floats[1], floats[2]), mesh, regions, _fine(floats[0], regions), face)


def _regions(mesh: Float32Array, inside: Float32Array) -> Float32Array:
    """Weights over the grid; ``inside`` is the (2, 2) corner pair of the frame in chip pixels: what lies beyond was mirrored."""
    unit = GRID / SIDE_PX
    points = mesh * np.float32(unit)
    oval = cv2.convexHull(points[list(OVAL)])[:, 0]
    middle = oval.mean(axis=0)

    def hull(scale: float) -> Float32Array:
        return _filled((oval - middle) * np.float32(scale) + middle)

    def part(ids: Sequence[int], grow: float = 1.0) -> Float32Array:
        ring = cv2.convexHull(points[list(ids)])[:, 0]
        return _filled((ring - ring.mean(axis=0)) * np.float32(grow) + ring.mean(axis=0))

    eyes = np.maximum(part((*LEFT_EYE, *BROW_LEFT), 1.15), part((*RIGHT_EYE, *BROW_RIGHT), 1.15))
    mouth = part(LIPS, 1.15)
    inner, edge, edge_in, oval_itself, edge_out, near, wide = (hull(s) for s in (0.8, 0.76, 0.88, 1.0, 1.1, 1.16, 1.6))
    forehead = part((*OVAL[:4], *OVAL[-3:], *BROW_LEFT, *BROW_RIGHT), 0.92)
    chin = part((*OVAL[13:24], 61, 291), 0.88)
    seen = np.zeros((GRID, GRID), np.float32)
    x0, y0, x1, y1 = (math.ceil(max(0.0, v) * unit) if i < 2 else math.floor(max(0.0, v) * unit) for i, v in enumerate(inside.ravel()))
    seen[y0:y1, x0:x1] = 1.0
    masks = [
        inner * (1 - eyes) * (1 - mouth),
        eyes,
        mouth,
        forehead * (1 - eyes),
        chin * (1 - mouth),
        edge_in * (1 - edge),
        edge_out * (1 - edge_in),
        near * (1 - oval_itself),
        wide * (1 - near),
        1 - wide,
    ]
    stacked = np.stack([m * seen for m in masks]).reshape(len(REGIONS), -1)
    total = stacked.sum(axis=1, keepdims=True)
    # Fewer than a dozen grid cells say nothing.
    return np.where(total >= 12, stacked / np.maximum(total, 1), 0).astype(np.float32)


def _filled(polygon: Float32Array) -> Float32Array:
    mask = np.zeros((GRID, GRID), np.uint8)
    cv2.fillConvexPoly(mask, np.round(polygon * 16).astype(np.int32), 1, shift=4)
    return mask.astype(np.float32)


def pooled(maps: Sequence[Float32Array], regions: Float32Array) -> Float64Array:
    """(maps, regions) means; NaN where a region is out of sight."""
    small = np.stack([cv2.resize(m, (GRID, GRID), interpolation=cv2.INTER_AREA).reshape(-1) for m in maps])
    out: Float64Array = (small @ regions.T).astype(np.float64)
    out[:, regions.sum(axis=1) == 0] = np.nan
    return out


def log(value: ArrayLike, floor: float = 1e-3) -> Float64Array:
    """Natural logarithm of ``value + floor``."""
    return np.asarray(np.log(np.asarray(value, np.float64) + floor), np.float64)


def _fine(luma: Float32Array, regions: Float32Array) -> Float64Array:
    return log(pooled([np.square(luma - cv2.GaussianBlur(luma, (0, 0), 0.8))], regions)[0], floor=0.05)
