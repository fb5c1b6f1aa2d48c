"""The views of a face the face-attack nets look at; training cuts them with this very code.

*face*: the whole face with some surround, shrunk: bezels, paper, hands, light, colours, geometry.
*patch*: a window at the picture's own resolution, since moire, halftone, blending seams and up-sampling traces die when shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kyc_guard.faces.finding import face_square, square_crop
from kyc_guard.types import Face, UInt8Array


@dataclass(frozen=True, slots=True)
class View:
    """What one net is shown.

    Attributes:
        side_px: side of the square the net takes.
        scale: for a view of the whole face, its side over the face square's; 0 for a window.
        span_px: for a window, how many native pixels it spans.
        anchors: for a window, its centres relative to the face square's centre, in face sides; one for the whole face.
    """

    name: str
    side_px: int
    scale: float
    span_px: int
    anchors: tuple[tuple[float, float], ...]

    def crop_px(self, face_side_px: float) -> float:
        """How many source pixels the view spans for a face of this size."""
        if self.scale:
            return self.scale * face_side_px
        return self.span_px * face_side_px / float(np.clip(face_side_px, *WINDOW_FACE_PX))

    def cut(self, frame_rgb: UInt8Array, face: Face, anchor: tuple[float, float]) -> UInt8Array:
        """(side_px, side_px, 3) uint8 RGB about ``anchor``."""
        (cx, cy), side = face_square(face)
        return square_crop(frame_rgb, (cx + anchor[0] * side, cy + anchor[1] * side), self.crop_px(side), self.side_px)


WINDOW_FACE_PX = (96.0, 320.0)
"""Faces are brought into this range of sizes before a window is cut; between them it is native."""

FACE = View("face", side_px=128, scale=1.5, span_px=0, anchors=((0.0, 0.0),))
PATCH = View(
    "patch",
    side_px=128,
    scale=0.0,
    span_px=128,
    # The eyes, the mouth, the jaw's two edges.
    anchors=((-0.22, -0.16), (0.22, -0.16), (0.0, 0.21), (-0.29, 0.19), (0.29, 0.19)),
)
VIEWS = {view.name: view for view in (FACE, PATCH)}
