"""Traces of a portrait that was not always there: face, its surround in the portrait, and the page's print compared. Figures only.

One camera treats all of them alike, and one printer too; a pasted portrait brings its own noise, softness, grid and colours, and a
rectangle of its own.
"""

from __future__ import annotations

import cv2
import numpy as np

from kyc_guard.documents.planes import Planes, blockiness, log, neighbours, noise, ranks, room
from kyc_guard.types import Float32Array, Float64Array

_PAIRS = (("face", "frame"), ("frame", "page"), ("face", "page"))
_OF_AREA = ("noise", "quiet", "sharp", "middle", "red_noise", "blue_noise", "right", "below", "grid")
NAMES = (
    *(f"{what}_{a}_{b}" for a, b in _PAIRS for what in _OF_AREA),
    "border_left_right", "border_top_bottom", "border_width", "border_askew", "tint_red", "tint_blue", "saturation", "black", "size",
)  # fmt: skip


def row(planes: Planes) -> Float64Array:
    """(len(NAMES),) figures of a page; NaN without a portrait and where an area is too small."""
    face = planes.face_xyxy
    if face is None or min(face[2:] - face[:2]) < 24:
        return np.full(len(NAMES), np.nan)
    areas = {
        "face": _area(planes, [_part(face, (0.2, 0.25, 0.8, 0.85))]),
        "frame": _area(planes, [_part(face, box) for box in ((-0.25, -0.2, 0.0, 0.7), (1.0, -0.2, 1.25, 0.7), (0.1, -0.25, 0.9, 0.0))]),
        "page": _area(planes, _paper(planes, face)),
    }
    differences = [areas[a][i] - areas[b][i] for a, b in _PAIRS for i in range(len(_OF_AREA))]
    return np.array([*differences, *_border(planes, face), *_colours(planes, face), log(float(face[3] - face[1]), 1.0)])


def _part(box: Float32Array, shares: tuple[float, float, float, float]) -> Float32Array:
    size = box[2:] - box[:2]
    return np.asarray(np.concatenate([box[:2] + size * shares[:2], box[:2] + size * shares[2:]]), np.float32)


def _paper(planes: Planes, face: Float32Array) -> list[Float32Array]:
    """Strips beside the lines, as far from the portrait as its own width."""
    middle, reach = (face[:2] + face[2:]) / 2, (face[2:] - face[:2]) * 1.1
    strips = []
    for x0, y0, x1, y1 in planes.lines_xyxy:
        tall = max(y1 - y0, 8.0)
        strip = np.array((x0, y1 + 0.1 * tall, x1, y1 + 1.1 * tall), np.float32)
        if (np.abs((strip[:2] + strip[2:]) / 2 - middle) > reach).any():
            strips.append(strip)
    return strips[:8]


def _area(planes: Planes, boxes: list[Float32Array]) -> list[float]:
    """Figures named in `_OF_AREA`, the median over the boxes."""
    found = []
    for box in boxes:
        luma, fine = room(planes.luma, box), room(planes.fine, box)
        if min(luma.shape) < 8:
            continue
        blocks = _blocks(fine)
        tints = [room(plane, box) for plane in planes.chroma]
        dark, light = ranks(luma, 0.05, 0.95)
        found.append(
            [
                noise(fine),
                log(ranks(blocks, 0.15)[0]),
                log(ranks(np.abs(np.diff(luma, axis=1)), 0.97)[0] / (light - dark + 8.0), 0.01),
                noise(room(planes.wave, box), 0.2),
                *(noise(plane - cv2.blur(plane, (3, 3))) for plane in tints),
                *neighbours(fine),
                blockiness(luma),
            ]
        )
    if not found:
        return [float("nan")] * len(_OF_AREA)
    table = np.array(found)
    return [float(np.median(c[np.isfinite(c)])) if np.isfinite(c).any() else float("nan") for c in table.T]


def _blocks(fine: Float32Array) -> Float32Array:
    """Spread of fine detail in squares of 8 pixels."""
    height, width = (v // 8 * 8 for v in fine.shape)
    squares = fine[:height, :width].reshape(height // 8, 8, width // 8, 8)
    return np.asarray(squares.std(axis=(1, 3)).ravel(), np.float32)


def _border(planes: Planes, face: Float32Array) -> tuple[float, float, float, float]:
    """The straight edges round the portrait: strength over the typical step beside and above it, breadth in pixels, and lean."""
    sides = [_part(face, box) for box in ((-0.75, -0.1, -0.05, 1.0), (1.05, -0.1, 1.75, 1.0))]
    ends = [_part(face, box) for box in ((0.0, -0.8, 1.0, -0.1), (0.0, 1.05, 1.0, 1.7))]
    upright = [_edge(room(planes.luma, box)) for box in sides]
    level = [_edge(room(planes.luma, box).T) for box in ends]
    known = [e for e in (*upright, *level) if e is not None]
    if not known:
        return (float("nan"),) * 4
    strong = max(known)
    return (
        float(np.mean([e[0] for e in upright if e is not None] or [np.nan])),
        float(np.mean([e[0] for e in level if e is not None] or [np.nan])),
        strong[1],
        float(np.mean([abs(e[2]) for e in known])),
    )


def _edge(area: Float32Array) -> tuple[float, float, float] | None:
    """The most upright edge of an area: log of its step over the typical one, its breadth, and its lean."""
    if min(area.shape) < 8:
        return None
    steps = np.diff(cv2.GaussianBlur(np.ascontiguousarray(area), (5, 5), 0.8), axis=1)
    profile = np.abs(steps.mean(axis=0))
    at = int(profile.argmax())
    breadth = float((profile[max(0, at - 6) : at + 7] > profile[at] / 2).sum())
    half = len(steps) // 2
    near = slice(max(0, at - 8), at + 9)
    upper, lower = (int(np.abs(part[:, near].mean(axis=0)).argmax()) for part in (steps[:half], steps[half:]))
    return float(np.log((profile[at] + 0.2) / (np.median(profile) + 0.2))), breadth, (upper - lower) / half


def _colours(planes: Planes, face: Float32Array) -> tuple[float, float, float, float]:
    """Tint, saturation and black of the portrait against those of the page."""
    portrait = [room(plane, face, 1.3)[::2, ::2] for plane in (planes.luma, *planes.chroma)]
    page = [plane[::4, ::4] for plane in (planes.luma, *planes.chroma)]
    tints = [float(np.median(a) - np.median(b)) / 16 for a, b in zip(portrait[1:], page[1:], strict=True)]
    colours = [np.hypot(red - np.median(red), blue - np.median(blue)) for _, red, blue in (portrait, page)]
    black = (ranks(portrait[0], 0.02)[0] - ranks(page[0], 0.01)[0]) / 32
    return tints[0], tints[1], log(ranks(colours[0], 0.75)[0], 0.5) - log(ranks(colours[1], 0.75)[0], 0.5), black
