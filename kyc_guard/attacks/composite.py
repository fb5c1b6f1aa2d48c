"""Composites: one part of a photograph replaced by the same part of another person's.

An editor picks a donor of like pose, lays the part over by shift, turn and scale, matches its colour and hides the seam with a
soft brush or a gradient-domain paste. What stays is one region whose sharpness, noise, scale of detail and light come from
another photograph, and a seam in smooth skin.

Source: what the composites of the "Real and Fake Face Detection" collection (Yonsei University) show: eyes, nose, mouth, or
halves of the face from another person, edited by hand; P. Perez et al., "Poisson Image Editing", SIGGRAPH 2003.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks import blending, hulls, mesh
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.swap import restyle
from kyc_guard.types import Float32Array

_LOCAL = {
    "eyes": (*hulls.LEFT_EYE, *hulls.RIGHT_EYE, 168),
    "left_eye": (*hulls.LEFT_EYE, *hulls.LEFT_BROW),
    "right_eye": (*hulls.RIGHT_EYE, *hulls.RIGHT_BROW),
    "nose": (*hulls.NOSE, 33, 263),
    "mouth": (*hulls.LIPS, 2, 152),
    "upper": (*hulls.LEFT_EYE, *hulls.RIGHT_EYE, *hulls.NOSE),
    "lower": (*hulls.LIPS, *hulls.NOSE, 152),
}
"""The points by which each part is aligned: those that must meet the surround, and enough others to fix scale and turn."""

_HALVES = {"upper", "lower"}
_FIXED = {2, 33, 152, 168, 263}
"""Of those, the ones that belong to no part."""


def part_mask(rng: np.random.Generator, part: str, landmarks_px: Float32Array, height_px: int, width_px: int) -> Float32Array:
    """(H, W) float32: the part's hull, grown as a hand-drawn selection is, bent and softly brushed at the edge."""

    def draw(points: Float32Array, h: int, w: int) -> Float32Array:
        size = hulls.face_size_px(points)
        grow = rng.uniform(0.0, 0.03) if part in _HALVES else rng.uniform(0.02, 0.09)
        mask = hulls.hull_mask(part, hulls.jitter(rng, points, 0.015), h, w, grow)
        mask = hulls.bend(rng, mask, size, rng.uniform(0.005, 0.02))
        kernel = max(3, int(rng.uniform(0.015, 0.08) * size) | 1)
        return np.asarray(cv2.blur(cv2.blur(mask, (kernel, kernel)), (kernel, kernel)))

    return hulls.drawn(landmarks_px, height_px, width_px, draw)


def _paste(parts: tuple[str, ...], cloned: bool, rng: np.random.Generator, face: FaceImage, donor: FaceImage | None) -> Attacked:
    """Parts of one donor pasted, feathered or in the gradient domain."""
    points = sorted({i for part in parts for i in _LOCAL[part]})
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    # Nobody takes a part from a head turned elsewhere; the own face with moved features stands in for a better donor.
    other = donor if mesh.fits(donor, face) else face
    # The editor's hand is off by about a hundredth of the face.
    target = (face.landmarks_px + rng.normal(0, 0.01 * size, size=2)).astype(np.float32)
    if other is face:
        target = restyle(rng, target)
    # A half ends at the outline of the face, so it has to be fitted to it; a part in the middle may keep all of its shape.
    if _HALVES.intersection(parts) or rng.random() < 0.5:
        image, mesh_px = mesh.carry(other, target, height_px, width_px, keep_shape=rng.uniform(0.2, 0.8) if other is not face else 0.0)
    else:
        matrix = mesh.align(other.landmarks_px, target, tuple(points))
        image, mesh_px = mesh.warp(matrix, other.image_rgb, height_px, width_px), mesh.move(matrix, other.landmarks_px)
    mask = np.maximum.reduce([part_mask(rng, part, face.landmarks_px, height_px, width_px) for part in parts])
    image = blending.harmonise(rng, image, face.image_rgb, mask, size)
    match rng.integers(5):
        case 0:
            image = blending.resample(image, rng.uniform(0.4, 0.9))
        case 1:
            image = blending.sharpen(image, rng.uniform(0.3, 1.0))
        case 2:
            image = blending.add_noise(rng, image, rng.uniform(1, 4), rng.uniform(0, 1))
        case _:
            pass
    image = (blending.clone if cloned else blending.blend)(image, face.image_rgb, mask)
    landmarks = face.landmarks_px.copy()
    moved = [i for i in points if i not in _FIXED]
    landmarks[moved] = mesh_px[moved]
    return Attacked(image, mask, landmarks)


def _paste_several(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None) -> Attacked:
    """Two or three parts of one donor."""
    parts = rng.choice(("eyes", "left_eye", "nose", "mouth"), size=rng.integers(2, 4), replace=False)
    return _paste(tuple(str(p) for p in parts), False, rng, face, donor)


def _attack(name: str, part: str, *, held_out: bool = False, cloned: bool = False) -> Attack:
    return Attack(name, "composite", held_out=held_out, needs_donor=True, apply=partial(mesh.around_face, partial(_paste, (part,), cloned)))


COMPOSITES = (
    _attack("pasted_eyes", "eyes"),
    _attack("pasted_left_eye", "left_eye"),
    _attack("pasted_nose", "nose"),
    _attack("pasted_mouth", "mouth"),
    _attack("pasted_upper_half", "upper"),
    _attack("pasted_lower_half", "lower"),
    _attack("cloned_eyes", "eyes", cloned=True),
    _attack("cloned_nose", "nose", cloned=True),
    _attack("cloned_mouth", "mouth", cloned=True),
    Attack("pasted_parts", "composite", held_out=False, needs_donor=True, apply=partial(mesh.around_face, _paste_several)),
    _attack("pasted_right_eye", "right_eye", held_out=True),
    _attack("cloned_lower_half", "lower", held_out=True, cloned=True),
)
