"""Mask attacks: a printed, silicone or rigid face worn over the real one, seen by one camera.

Only the face is another thing; hair, neck and room stay as the picture has them, so the picture is not photographed again.
No real mask data could be had: these are simulations by description (ISO/IEC 30107-3 Annex, CASIA-SURF 3DMask and WMCA papers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.optics import Pose, Rng, blur, chance, smooth_field, to_uint8, uniform, white_noise
from kyc_guard.attacks.printing import HALFTONE, INKJET, LEFT_EYE, MOUTH, PHOTO, RIGHT_EYE, cut_holes, draw_paper, ink
from kyc_guard.attacks.scene import face_width
from kyc_guard.types import Float32Array, UInt8Array

FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
_BOSSES = (4, 151, 50, 280, 199, 6, 107, 336)
"""Mesh points that catch the light: nose tip, forehead, cheeks, chin, nose bridge, brows."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The square round a face that a mask changes, so that full frames cost no more than chips."""

    face: FaceImage
    x0: int
    y0: int


def cut_patch(face: FaceImage) -> Patch | None:
    """The face with half its width round it, inside the picture; ``None`` where that is empty."""
    height, width = face.image_rgb.shape[:2]
    (x0, y0), (x1, y1) = face.landmarks_px.min(axis=0), face.landmarks_px.max(axis=0)
    margin = 0.35 * face_width(face.landmarks_px)
    left, top = max(0, math.floor(x0 - margin)), max(0, math.floor(y0 - margin))
    right, bottom = min(width, math.ceil(x1 + margin)), min(height, math.ceil(y1 + margin))
    if right - left < 8 or bottom - top < 8:
        return None
    moved = face.landmarks_px - np.array([left, top], np.float32)
    return Patch(FaceImage(np.ascontiguousarray(face.image_rgb[top:bottom, left:right]), moved.astype(np.float32)), left, top)


def _paste(face: FaceImage, patch: Patch, worn_rgb: UInt8Array, share: Float32Array) -> Attacked:
    image = face.image_rgb.copy()
    mask = np.zeros(image.shape[:2], np.float32)
    rows, columns = slice(patch.y0, patch.y0 + share.shape[0]), slice(patch.x0, patch.x0 + share.shape[1])
    image[rows, columns] = worn_rgb
    mask[rows, columns] = share
    return Attacked(image, mask, face.landmarks_px.copy())


def _filled(outlines: list[Float32Array], height: int, width: int, soft_px: float) -> Float32Array:
    """(height, width) float32 0..1 inside the outlines, edges softened by ``soft_px``."""
    area = np.zeros((height, width), np.uint8)
    for outline in outlines:
        cv2.fillPoly(area, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    inside: Float32Array = blur(area, soft_px).astype(np.float32) / np.float32(255.0)
    return inside


def _around(landmarks_px: Float32Array, part: tuple[int, ...], grow: float) -> Float32Array:
    points = landmarks_px[list(part)]
    centre = points.mean(axis=0)
    grown: Float32Array = (centre + (points - centre) * np.float32(grow)).astype(np.float32)
    return grown


def paper_mask(rng: Rng, face: FaceImage, donor: FaceImage | None) -> Attacked:
    """A printed face cut out along its outline and bent round the head, with eye and sometimes mouth holes."""
    patch = cut_patch(face)
    if patch is None:
        return Attacked(face.image_rgb.copy(), np.zeros(face.image_rgb.shape[:2], np.float32), face.landmarks_px.copy())
    image, points = patch.face.image_rgb, patch.face.landmarks_px
    height, width = image.shape[:2]
    unit = face_width(points)
    printed = image
    if donor is not None and chance(rng, 0.5):
        fit, _ = cv2.estimateAffinePartial2D(donor.landmarks_px[list(FACE_OVAL)], points[list(FACE_OVAL)], method=cv2.LMEDS)
        if fit is not None:
            printed = cv2.warpAffine(donor.image_rgb, fit, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    ranges = (HALFTONE, INKJET, PHOTO)[int(rng.integers(3))]
    sheet = ink(printed, draw_paper(rng, ranges), rng)
    if chance(rng, 0.8):
        sheet = cut_holes(rng, patch.face, image, sheet, mouth=0.4, jagged=chance(rng, 0.3))
    bend = uniform(rng, 0.3, 0.8)
    pose = Pose(
        shift_x=float(rng.normal(0, 0.015)),
        shift_y=float(rng.normal(0, 0.015)),
        rotation_deg=float(rng.normal(0, 2)),
        scale=uniform(rng, 0.97, 1.12),
        bend=bend,
        bend_axis_deg=float(rng.normal(0, 5)),
        sag=uniform(rng, -0.1, 0.1),
    )
    outline = pose.move(_around(points, FACE_OVAL, uniform(rng, 0.88, 1.08)), height, width)
    share = _filled([outline], height, width, max(0.4, 0.004 * unit))
    bent = pose.photograph(sheet, height, width).astype(np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    # The same lamp lights the paper and the face it hides.
    lamp = min(3.0, _level(image.astype(np.float32), share) / max(_level(bent, share), 1.0)) * uniform(rng, 0.7, 1.2)
    bent *= np.float32(lamp) * np.clip(1.0 + np.float32(rng.normal(0, 0.2)) * x - np.float32(0.25 * bend) * x * x, 0.1, 1.5)
    shadow = _shadow(rng, share, unit)
    around = image.astype(np.float32) * (1.0 - shadow)[:, :, None]
    rim = np.float32(uniform(rng, 0.0, 0.6) * 4) * share * (1.0 - share)
    worn = around + (bent - around) * share[:, :, None]
    worn += (235.0 - worn) * rim[:, :, None]
    return _paste(face, patch, to_uint8(worn), share)


def _level(stored: Float32Array, share: Float32Array) -> float:
    """Mean luma of (H, W, 3) stored values where ``share`` is at least a half."""
    red, green, blue, _ = cv2.mean(stored, (share >= 0.5).astype(np.uint8))
    return 0.299 * float(red) + 0.587 * float(green) + 0.114 * float(blue)


def _shadow(rng: Rng, share: Float32Array, unit: float) -> Float32Array:
    """What the worn thing's edge takes from the light on the skin beside it."""
    reach = unit * uniform(rng, 0.01, 0.05)
    cast = np.array([[1, 0, rng.normal(0, reach)], [0, 1, reach * uniform(rng, 0.3, 1.5)]], np.float32)
    dark: Float32Array = blur(cv2.warpAffine(share, cast, share.shape[::-1]), reach) * np.float32(uniform(rng, 0.1, 0.5))
    return dark


@dataclass(frozen=True, slots=True)
class Material:
    """What masks of one kind are made of.

    Attributes:
        smooth: scale of the relief that is lost, in face widths. pores: height of what is lost, in stored values.
        uniform_colour: share of the colour variation that is lost. gloss: highlights, in stored values.
        layers: greatest contrast of a 3-D printer's layers. painted: probability of a colour that is not the wearer's.
        seam: darkness of the gap round eyes and mouth.
    """

    smooth: tuple[float, float]
    pores: tuple[float, float]
    uniform_colour: tuple[float, float]
    gloss: tuple[float, float]
    layers: float
    painted: float
    seam: tuple[float, float]


def moulded_mask(rng: Rng, face: FaceImage, donor: FaceImage | None, *, material: Material) -> Attacked:
    """A moulded face: skin texture gone, one albedo, its own gloss, seams round eyes and mouth which stay the wearer's."""
    del donor
    patch = cut_patch(face)
    if patch is None:
        return Attacked(face.image_rgb.copy(), np.zeros(face.image_rgb.shape[:2], np.float32), face.landmarks_px.copy())
    image, points = patch.face.image_rgb, patch.face.landmarks_px
    height, width = image.shape[:2]
    unit = face_width(points)
    soft = max(0.5, 0.008 * unit)
    oval = _filled([_around(points, FACE_OVAL, uniform(rng, 0.95, 1.06))], height, width, soft * uniform(rng, 0.6, 4.0))
    openings = [_around(points, part, uniform(rng, 1.1, 1.5)) for part in (LEFT_EYE, RIGHT_EYE)]
    if chance(rng, 0.6):
        openings.append(_around(points, MOUTH, uniform(rng, 0.75, 1.0)))
    open_ = _filled(openings, height, width, soft)
    share = oval * (1.0 - open_)

    skin = image.astype(np.float32)
    smooth = blur(skin, unit * uniform(rng, *material.smooth))
    # Coring: a mould has no pores and wrinkles but keeps the brows and lips that are painted on it.
    detail, pores = skin - smooth, np.float32(uniform(rng, *material.pores))
    smooth = smooth + detail - np.clip(detail, -pores, pores)
    luma = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    level = _level(smooth, share)
    tone = np.array(cv2.mean(smooth, (share >= 0.5).astype(np.uint8))[:3], np.float32)
    if chance(rng, material.painted):
        tone = np.float32(level) * (1.0 + rng.normal(0, 0.06, 3)).astype(np.float32)
    one_albedo = luma[:, :, None] * (tone / np.float32(max(level, 1.0)))
    cast = np.float32(uniform(rng, *material.uniform_colour))
    mould = smooth + (one_albedo - smooth) * cast
    grain = blur(white_noise(rng, (height, width)), uniform(rng, 0.4, 1.2)) * np.float32(uniform(rng, 1.0, 5.0))
    mould += (grain + np.float32(uniform(rng, 0, 6)) * smooth_field(rng, height, width, 6))[:, :, None]
    if material.layers:
        mould *= (1.0 + np.float32(uniform(rng, 0.0, material.layers)) * _layer_lines(rng, points, height, width, unit))[:, :, None]
    mould += _gloss(rng, points, height, width, unit=unit, strength=uniform(rng, *material.gloss))[:, :, None]
    ring = np.float32(4.0 * uniform(rng, *material.seam)) * blur(open_, soft) * (1.0 - blur(open_, soft))
    mould *= (1.0 - ring)[:, :, None]
    around = skin * (1.0 - _shadow(rng, oval, unit) * (1.0 - open_))[:, :, None]
    worn = around + (mould - around) * share[:, :, None]
    return _paste(face, patch, to_uint8(worn), oval)


def _gloss(rng: Rng, points: Float32Array, height: int, width: int, *, unit: float, strength: float) -> Float32Array:
    """Highlights on the bosses of the face, displaced towards one lamp; (height, width) float32 in stored values."""
    light = np.zeros((height, width), np.float32)
    towards = rng.normal(0, 0.06 * unit, 2)
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    for index in _BOSSES:
        if chance(rng, 0.6):
            cx, cy = (float(v) for v in points[index] + towards)
            rx, ry = unit * uniform(rng, 0.02, 0.09), unit * uniform(rng, 0.02, 0.09)
            spot = np.outer(np.exp(-(((y - cy) / ry) ** 2)), np.exp(-(((x - cx) / rx) ** 2)))
            light += np.float32(strength * uniform(rng, 0.3, 1.0)) * spot
    return light


def _layer_lines(rng: Rng, points: Float32Array, height: int, width: int, unit: float) -> Float32Array:
    """Contour lines of a fused-filament print: level lines of a face-like dome, (height, width) float32 in -1..1."""
    cx, cy = (float(v) for v in points[4])
    x, y = np.arange(width, dtype=np.float32)[None, :] - cx, np.arange(height, dtype=np.float32)[:, None] - cy
    dome = (x * x + 0.7 * y * y) / np.float32(unit)
    lines: Float32Array = np.sin(dome * np.float32(2 * math.pi * uniform(rng, 25, 60) / unit)).astype(np.float32)
    return lines


SILICONE = Material(smooth=(0.01, 0.035), pores=(8, 25), uniform_colour=(0.3, 0.9), gloss=(0, 70), layers=0.0, painted=0.1, seam=(0.1, 0.5))
LATEX = Material(smooth=(0.02, 0.05), pores=(20, 50), uniform_colour=(0.5, 1.0), gloss=(20, 120), layers=0.0, painted=0.35, seam=(0.2, 0.8))
RESIN = Material(smooth=(0.015, 0.04), pores=(15, 60), uniform_colour=(0.8, 1.0), gloss=(0, 100), layers=0.06, painted=0.7, seam=(0.3, 0.9))

MASKS = (
    Attack("mask_paper", "mask", False, False, paper_mask),
    Attack("mask_silicone", "mask", False, False, partial(moulded_mask, material=SILICONE)),
    Attack("mask_latex", "mask", False, False, partial(moulded_mask, material=LATEX)),
    Attack("mask_resin", "mask", True, False, partial(moulded_mask, material=RESIN)),
)
