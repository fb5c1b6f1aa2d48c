"""The views of a face the face-attack nets look at; training cuts them with this very code.

*face*: the whole face with some surround, shrunk: bezels, paper, hands, light, colours, geometry.
*patch*: a window at the picture's own resolution, since moire, halftone, blending seams and up-sampling traces die when shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from kyc_guard.faces.finding import face_square, square_crop
from kyc_guard.types import Face, UInt8Array


class Look(NamedTuple):
    """Where a view looks: a centre relative to the face square's, in face sides, and how large the face is taken to be, which moves
    windows and leaves their resolution alone.
    """

    x: float
    y: float
    zoom: float


Looks: TypeAlias = Literal["all", "plain", "one"]
"""Which of a view's looks a face gets. *all*: a still. *plain*, those of the face as it was found: a document's portrait, whose hint was
fitted so. *one* of those: a frame of a clip, whose frames take turns."""

ZOOMS = (1.0, 0.92, 1.08)
"""A still is judged by the mean over these: a box a few pixels off then turns a quarter fewer verdicts round, a codec up to half fewer."""


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

    @property
    def looks(self) -> tuple[Look, ...]:
        """Every anchor in every zoom, the face as it was found first."""
        return tuple(Look(x * zoom, y * zoom, zoom) for zoom in ZOOMS for x, y in self.anchors)

    def choose(self, looks: Looks, turn: int) -> tuple[Look, ...]:
        """Those looks; ``turn`` says which *one*."""
        if looks == "all":
            return self.looks
        plain = self.looks[: len(self.anchors)]
        return plain if looks == "plain" else (plain[turn % len(plain)],)

    def cut(self, frame_rgb: UInt8Array, face: Face, look: Look) -> UInt8Array:
        """(side_px, side_px, 3) uint8 RGB."""
        (cx, cy), side = face_square(face)
        crop_px = self.crop_px(side) * (look.zoom if self.scale else 1.0)
        return square_crop(frame_rgb, (cx + look.x * side, cy + look.y * side), crop_px, self.side_px)


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
