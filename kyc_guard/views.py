"""The two views of a face the face-attack nets look at; training cuts them with this very code.

*face*: the whole face with some surround, shrunk: bezels, paper, hands, light, colours, geometry.
*patch*: a window at the picture's own resolution, since moire, halftone, blending seams and up-sampling traces die when shrunk.
"""

from __future__ import annotations

import numpy as np

from kyc_guard.faces import face_square, square_crop
from kyc_guard.types import Face, UInt8Array

FACE_SIDE_PX = 128
FACE_SCALE = 1.5
"""Side of the face view over the side of the face square."""
PATCH_SIDE_PX = 128
PATCH_FACE_PX = (96.0, 320.0)
"""Faces are brought into this range of sizes before a patch is cut; between them the patch is native."""
PATCH_ANCHORS = ((-0.22, -0.18), (0.22, -0.18), (0.0, 0.22), (-0.3, 0.2), (0.3, 0.2))
"""Patch centres relative to the face square's centre, in sides: the eyes, the mouth, the jaw's two edges."""


def face_view(frame_rgb: UInt8Array, face: Face) -> UInt8Array:
    """(128, 128, 3) uint8 RGB: the face and what surrounds it."""
    centre, side = face_square(face)
    return square_crop(frame_rgb, centre, FACE_SCALE * side, FACE_SIDE_PX)


def patch_view(frame_rgb: UInt8Array, face: Face, anchor: tuple[float, float]) -> UInt8Array:
    """(128, 128, 3) uint8 RGB at native resolution about ``anchor`` (in face sides from the face's centre)."""
    (cx, cy), side = face_square(face)
    centre = (cx + anchor[0] * side, cy + anchor[1] * side)
    return square_crop(frame_rgb, centre, patch_crop_px(side), PATCH_SIDE_PX)


def patch_crop_px(face_side_px: float) -> float:
    """How many source pixels a patch spans for a face of this size."""
    return PATCH_SIDE_PX * face_side_px / float(np.clip(face_side_px, *PATCH_FACE_PX))
