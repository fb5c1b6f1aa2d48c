"""Reenactment: the person stays, the expression, mouth or gaze is somebody else's.

Talking-head and lip-sync generators redraw a region, or the whole head, from a still or a driving clip. What they leave, as
seen in clips of VASA-1, SadTalker and V-Express: skin without pores, hair band-limited but steady, a mouth whose teeth are one
soft bar and whose inside is one dark tone, lids that do not crease, and, where only a crop was redrawn, its soft border and
its lower sharpness on the chin. One frame shows no more than this; lag and flicker need the clip.

Sources: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need" (Wav2Lip), ACM MM 2020: the lower half of a 96 px face crop is
generated and pasted back; J. Thies et al., "Face2Face", CVPR 2016: expression transfer by mesh with a retrieved mouth interior.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks import blending, hulls, mesh
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.generated import rebuild
from kyc_guard.attacks.swap import network_look, oval_mask
from kyc_guard.types import Float32Array, UInt8Array

_LOWER_LIP = (*hulls.LIPS[11:], *hulls.MOUTH_OPENING[11:])
_UPPER_OPENING = hulls.MOUTH_OPENING[:11]
_JAW = hulls.OVAL[8:29]
_POINTS = sorted({*mesh.ANCHORS, *hulls.LIPS, *hulls.MOUTH_OPENING, *hulls.LEFT_EYE, *hulls.RIGHT_EYE})
_EYES = ((hulls.LEFT_EYE, (468, 469, 470, 471, 472)), (hulls.RIGHT_EYE, (473, 474, 475, 476, 477)))
_OPEN_ENOUGH = 0.1


def mouth_warp(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """The lower jaw moved to say something else; a mouth opened from closed gets a drawn inside and a bar of teeth."""
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    moved = drop_jaw(face.landmarks_px, _jaw_drop(rng, face.landmarks_px))
    image = _fill_mouth(rng, _warped(face, moved), face.landmarks_px, moved, size)
    image = _redrawn(rng, image, moved, size, kind="mouth")
    # The selection has to hold the chin both where it was and where it went.
    region = np.maximum(*(hulls.hull_mask("lower", points, height_px, width_px, grow=0.03) for points in (face.landmarks_px, moved)))
    mask = _soft(rng, hulls.bend(rng, region, size, 0.008), size)
    return Attacked(blending.blend(image, face.image_rgb, mask), mask, moved)


def lip_sync(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """The lower half of an upright face crop generated at 96-160 px and pasted back as a box with a narrow soft rim."""
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    moved = drop_jaw(face.landmarks_px, _jaw_drop(rng, face.landmarks_px))
    image = _fill_mouth(rng, _warped(face, moved), face.landmarks_px, moved, size)
    image = blending.resample(image, min(0.95, rng.uniform(96, 160) / size), up=cv2.INTER_LINEAR)
    image = blending.shift_tone(rng, blending.soften(image, rng.uniform(0.0, 0.006) * size), rng.uniform(0, 0.3))
    x, y, w, h = cv2.boundingRect(np.concatenate([face.landmarks_px[list(_JAW)], moved[list(_JAW)]]))
    top = float(face.landmarks_px[1, 1]) - rng.uniform(-0.03, 0.12) * size
    margin = rng.uniform(-0.08, 0.04) * size
    box = np.zeros((height_px, width_px), np.float32)
    low, high = (max(0, round(x - margin)), max(0, round(top))), (round(x + w + margin), round(y + h + 0.03 * size))
    cv2.rectangle(box, low, high, 1.0, -1)
    mask = _soft(rng, box, 0.5 * size)
    return Attacked(blending.blend(image, face.image_rgb, mask), mask, moved)


def eye_warp(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """Lids closed, half closed or widened and the gaze turned: what blink and gaze correction do, without a crease in the lid."""
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    moved = face.landmarks_px.copy()
    closing = float(rng.choice((rng.uniform(0.4, 0.95), rng.uniform(-0.35, -0.1), 0.0)))
    across = face.landmarks_px[263] - face.landmarks_px[33]
    gaze = (rng.uniform(-0.045, 0.045) if abs(closing) < 0.5 else 0.0) * across
    for lids, iris in _EYES:
        # Ring order: outer corner, upper lid, inner corner (8), lower lid back to the outer corner.
        upper, lower = list(lids[1:8]), list(lids[:8:-1])
        moved[upper] += np.float32(closing) * (face.landmarks_px[lower] - face.landmarks_px[upper])
        moved[list(iris)] += gaze.astype(np.float32)
    image = _redrawn(rng, _warped(face, moved, (468, 473)), moved, size, kind="eyes")
    region = hulls.hull_mask("eyes", face.landmarks_px, height_px, width_px, grow=rng.uniform(0.01, 0.05))
    mask = _soft(rng, region, 0.6 * size)
    return Attacked(blending.blend(image, face.image_rgb, mask), mask, moved)


def talking_head(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """The whole picture, or the head in it, drawn anew from a still: turned a little, speaking, without pores, hair softened too."""
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    moved = turn_head(rng, drop_jaw(face.landmarks_px, _jaw_drop(rng, face.landmarks_px)))
    image = _fill_mouth(rng, _warped(face, moved), face.landmarks_px, moved, size)
    if rng.random() < 0.5:
        return Attacked(rebuild(rng, image), np.ones((height_px, width_px), np.float32), moved)
    image = network_look(rng, image, moved)
    head = hulls.hull_mask("forehead", hulls.raise_forehead(face.landmarks_px, 0.8), height_px, width_px, grow=0.2)
    mask = _soft(rng, head, 1.5 * size)
    return Attacked(blending.blend(image, face.image_rgb, mask), mask, moved)


def driven_expression(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None) -> Attacked:
    """Reserved: the expression of another face transferred by mesh and the interior redrawn by a network."""
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    moved = face.landmarks_px.copy()
    if mesh.fits(donor, face):
        other = mesh.move(mesh.align(donor.landmarks_px, face.landmarks_px), donor.landmarks_px)
        parts = [*hulls.LIPS, *hulls.MOUTH_OPENING, *hulls.LEFT_BROW, *hulls.RIGHT_BROW, *hulls.LEFT_EYE, *hulls.RIGHT_EYE]
        moved[parts] += np.float32(rng.uniform(0.3, 0.7)) * (other[parts] - moved[parts])
    moved = drop_jaw(moved, _jaw_drop(rng, moved) / 2)
    image = _fill_mouth(rng, _warped(face, moved), face.landmarks_px, moved, size)
    image = network_look(rng, image, moved)
    mask = oval_mask(rng, face.landmarks_px, height_px, width_px)
    return Attacked(blending.blend(image, face.image_rgb, mask), mask, moved)


def drop_jaw(landmarks_px: Float32Array, drop_px: float) -> Float32Array:
    """The mesh with lower lip and jaw moved down the face by ``drop_px`` (negative: up), fading out at the mouth corners and cheeks."""
    corner_left, corner_right = landmarks_px[61], landmarks_px[291]
    middle = (corner_left + corner_right) / 2
    down = landmarks_px[152] - landmarks_px[168]
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    side = np.array([down[1], -down[0]], np.float32)
    half = max(float(np.linalg.norm(corner_right - corner_left)) / 2, 1e-6)
    below = (landmarks_px - middle) @ down / max(float((landmarks_px[152] - middle) @ down), 1e-6)
    aside = np.abs((landmarks_px - middle) @ side) / half
    weight = np.clip(below, 0, 1) * np.clip(1.6 - 0.6 * aside, 0, 1)
    lip = list(_LOWER_LIP)
    weight[lip] = np.maximum(weight[lip], np.clip(1 - aside[lip] ** 2, 0, 1))
    moved: Float32Array = (landmarks_px + drop_px * weight[:, None] * down).astype(np.float32)
    return moved


def turn_head(rng: np.random.Generator, landmarks_px: Float32Array) -> Float32Array:
    """The mesh after a small nod and turn: near points (the middle of the face) shift by up to 4 % of it, the rim stays."""
    middle = landmarks_px[list(hulls.OVAL)].mean(axis=0)
    size = hulls.face_size_px(landmarks_px)
    near = np.clip(1 - (np.linalg.norm(landmarks_px - middle, axis=1) / (0.6 * size)) ** 2, 0, 1)
    shift = rng.uniform(-0.04, 0.04, size=2) * size
    moved: Float32Array = (landmarks_px + near[:, None] * shift).astype(np.float32)
    return moved


def _jaw_drop(rng: np.random.Generator, landmarks_px: Float32Array) -> float:
    """Pixels to open the mouth by, or to close part of the gap there is."""
    gap = float(np.linalg.norm(landmarks_px[13] - landmarks_px[14]))
    width_px = float(np.linalg.norm(landmarks_px[61] - landmarks_px[291]))
    close, share = rng.random() < 0.6, rng.random()
    if gap > 0.15 * width_px and close:
        return float(-gap * (0.4 + 0.6 * share))
    widest = 0.12 if gap > 0.1 * width_px else 0.3
    return float(width_px * (0.04 + (widest - 0.04) * share))


def _warped(face: FaceImage, moved_px: Float32Array, extra: tuple[int, ...] = ()) -> UInt8Array:
    points = [*_POINTS, *extra]
    height_px, width_px = face.image_rgb.shape[:2]
    sample = mesh.piecewise_map(moved_px[points], face.landmarks_px[points], height_px, width_px)
    warped: UInt8Array = cv2.remap(face.image_rgb, sample, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def _fill_mouth(
    rng: np.random.Generator, image_rgb: UInt8Array, before_px: Float32Array, after_px: Float32Array, face_px: float
) -> UInt8Array:
    """Draw the inside of a mouth that was closed before: one dark red tone and, mostly, one soft bar of upper teeth."""
    rng = hulls.branch(rng)
    if mesh.mouth_opening(before_px) > _OPEN_ENOUGH or mesh.mouth_opening(after_px) < _OPEN_ENOUGH:
        return image_rgb
    inside = np.zeros(image_rgb.shape[:2], np.float32)
    cv2.fillPoly(inside, [np.round(after_px[list(hulls.MOUTH_OPENING)] * 16).astype(np.int32)], 1.0, shift=4)
    lips = cv2.mean(image_rgb, hulls.hull_mask("mouth", after_px, *image_rgb.shape[:2]).astype(np.uint8))[:3]
    dark = np.array(lips) * rng.uniform(0.15, 0.45) * (1.0, 0.75, 0.75)
    softness = max(0.4, rng.uniform(0.004, 0.012) * face_px)
    filled = _painted(image_rgb, dark, cv2.GaussianBlur(inside, (0, 0), softness))
    if rng.random() < 0.75:
        upper, lower = after_px[list(_UPPER_OPENING)], after_px[list(hulls.MOUTH_OPENING[:10:-1])]
        rim = np.concatenate([after_px[[78]], lower, after_px[[308]]])
        share = rng.uniform(0.25, 0.6)
        edge = upper + np.float32(share) * (rim - upper)
        bar = np.zeros_like(inside)
        cv2.fillPoly(bar, [np.round(np.concatenate([upper[1:-1], edge[-2:0:-1]]) * 16).astype(np.int32)], 1.0, shift=4)
        light = np.mean(lips) * rng.uniform(0.9, 1.5) * np.array((1.02, 1.0, 0.93))
        filled = _painted(filled, np.minimum(light, 235), cv2.GaussianBlur(bar, (0, 0), softness))
    return filled


def _painted(image_rgb: UInt8Array, colour: np.ndarray[tuple[int], np.dtype[np.float64]], mask: Float32Array) -> UInt8Array:
    paint = np.empty_like(image_rgb)
    paint[:] = colour
    return blending.blend(paint, image_rgb, mask)


def _redrawn(rng: np.random.Generator, image_rgb: UInt8Array, landmarks_px: Float32Array, face_px: float, kind: str) -> UInt8Array:
    """The part softened as a generator of little resolution leaves it, mostly slightly, with other grain at times."""
    height_px, width_px = image_rgb.shape[:2]
    region = hulls.hull_mask(kind, landmarks_px, height_px, width_px, grow=0.04)
    soft = blending.resample(image_rgb, rng.uniform(0.4, 0.95), up=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        soft = blending.add_noise(rng, soft, rng.uniform(0.5, 2.5), rng.uniform(0, 1))
    return blending.blend(soft, image_rgb, cv2.blur(region, (max(3, int(0.05 * face_px)),) * 2))


def _soft(rng: np.random.Generator, mask: Float32Array, face_px: float) -> Float32Array:
    kernel = max(3, int(rng.uniform(0.03, 0.1) * face_px) | 1)
    soft: Float32Array = cv2.blur(cv2.blur(mask, (kernel, kernel)), (kernel, kernel))
    return soft


REENACTMENTS = (
    Attack("mouth_warp", "reenactment", held_out=False, needs_donor=False, apply=partial(mesh.around_face, mouth_warp)),
    Attack("lip_sync", "reenactment", held_out=False, needs_donor=False, apply=partial(mesh.around_face, lip_sync)),
    Attack("eye_warp", "reenactment", held_out=False, needs_donor=False, apply=partial(mesh.around_face, eye_warp)),
    Attack("talking_head", "reenactment", held_out=False, needs_donor=False, apply=talking_head),
    Attack("driven_expression", "reenactment", held_out=True, needs_donor=True, apply=partial(mesh.around_face, driven_expression)),
)
