"""The views of a face the face-attack nets look at; training cuts them with this very code.

*face*: the whole face with some surround, shrunk: bezels, paper, hands, light, colours, geometry.
*patch*: a window at the picture's own resolution, since moire, halftone, blending seams and up-sampling traces die when shrunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import cv2
import numpy as np

from kyc_guard.faces.finding import face_square, square_crop
from kyc_guard.recoding import jpeg
from kyc_guard.types import Face, UInt8Array


class Pass(NamedTuple):
    """One way to look at every place of a view again: as if the box had been found elsewhere, or a codec had been on the way."""

    shift: tuple[float, float]
    """Of the centre, in face sides."""
    zoom: float
    """How large the face is taken to be, over its box: moves windows and leaves their resolution alone."""
    quality: int | None
    """Of the JPEG that the picture goes through first; ``None``: as it came."""


class Look(NamedTuple):
    """Where a view looks: a centre relative to the face square's, in face sides; zoom and quality as in `Pass`."""

    x: float
    y: float
    zoom: float
    quality: int | None


Looks: TypeAlias = Literal["all", "plain", "one"]
"""Which of a view's looks a face gets. *all*: a still. *plain*, those of the face as it was found: a document's portrait, whose hint was
fitted so. *one* of those: a frame of a clip, whose frames take turns."""


@dataclass(frozen=True, slots=True)
class View:
    """What one net is shown.

    Attributes:
        side_px: side of the square the net takes.
        scale: for a view of the whole face, its side over the face square's; 0 for a window.
        span_px: for a window, how many native pixels it spans.
        anchors: for a window, its centres relative to the face square's centre, in face sides; one for the whole face.
        passes: a still is judged by the mean over these, the face as it was found first: fewer verdicts turn round with a box a few
            pixels off, which moves *face*, or with one more codec on the way, which moves *patch* (training/README.md has the figures).
    """

    name: str
    side_px: int
    scale: float
    span_px: int
    anchors: tuple[tuple[float, float], ...]
    passes: tuple[Pass, ...]

    def crop_px(self, face_side_px: float) -> float:
        """How many source pixels the view spans for a face of this size."""
        if self.scale:
            return self.scale * face_side_px
        return self.span_px * face_side_px / float(np.clip(face_side_px, *WINDOW_FACE_PX))

    @property
    def looks(self) -> tuple[Look, ...]:
        """Every anchor in every pass."""
        return tuple(
            Look(x * p.zoom + p.shift[0], y * p.zoom + p.shift[1], p.zoom, p.quality) for p in self.passes for x, y in self.anchors
        )

    def choose(self, looks: Looks, turn: int) -> tuple[Look, ...]:
        """Those looks; ``turn`` says which *one*."""
        if looks == "all":
            return self.looks
        plain = self.looks[: len(self.anchors)]
        return plain if looks == "plain" else (plain[turn % len(plain)],)

    def cut(self, frame_rgb: UInt8Array, face: Face, looks: Sequence[Look]) -> UInt8Array:
        """What the net is shown of a face in (H, W, 3) uint8 RGB: (looks, side_px, side_px, 3) uint8 RGB."""
        return self.cut_square(frame_rgb, *face_square(face), looks)

    def cut_square(self, image_rgb: UInt8Array, centre_px: tuple[float, float], side_px: float, looks: Sequence[Look]) -> UInt8Array:
        """`cut` for the face square with this centre and side."""
        as_it_came = _Shown(image_rgb, centre_px, side_px)
        shown = {q: as_it_came if q is None else as_it_came.through(q) for q in {look.quality for look in looks}}
        return np.stack([self._window(shown[look.quality], look) for look in looks])

    def _window(self, shown: _Shown, look: Look) -> UInt8Array:
        (cx, cy), side = shown.centre_px, shown.side_px
        crop_px = self.crop_px(side) * (look.zoom if self.scale else 1.0)
        return square_crop(shown.image_rgb, (cx + look.x * side, cy + look.y * side), crop_px, self.side_px)


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A picture and the face square in it."""

    image_rgb: UInt8Array
    centre_px: tuple[float, float]
    side_px: float

    def through(self, quality: int) -> _Shown:
        """What a JPEG leaves of the face and its surroundings, a face larger than windows are cut from shrunk first."""
        reach_px = _REACH * self.side_px
        size_px = self.image_rgb.shape[1::-1]
        # On the grid of a JPEG of the whole picture: an upload that was one already changes the less.
        start = [min(max(0, int(c - reach_px)), n - 1) // _GRID_PX * _GRID_PX for c, n in zip(self.centre_px, size_px, strict=True)]
        stop = [max(s + 1, min(n, math.ceil(c + reach_px))) for s, c, n in zip(start, self.centre_px, size_px, strict=True)]
        near_rgb = self.image_rgb[start[1] : stop[1], start[0] : stop[0]]
        shrink = min(1.0, WINDOW_FACE_PX[1] / self.side_px)
        if shrink < 1.0:
            width, height = (max(1, round((b - a) * shrink)) for a, b in zip(start, stop, strict=True))
            near_rgb = cv2.resize(near_rgb, (width, height), interpolation=cv2.INTER_AREA)
        x, y = ((c - s) * shrink for c, s in zip(self.centre_px, start, strict=True))
        return _Shown(jpeg(near_rgb, quality), (x, y), self.side_px * shrink)


_REACH = 1.0
"""How far the windows reach from the middle of the face, in its sides."""
_GRID_PX = 16
"""Blocks of a JPEG with halved chroma."""

WINDOW_FACE_PX = (96.0, 320.0)
"""Faces are brought into this range of sizes before a window is cut; between them it is native."""

AS_FOUND = Pass((0.0, 0.0), 1.0, None)
FACE = View(
    "face",
    side_px=128,
    scale=1.5,
    span_px=0,
    anchors=((0.0, 0.0),),
    passes=(
        AS_FOUND,
        *(Pass((0.0, 0.0), zoom, None) for zoom in (0.92, 1.08)),
        *(Pass((x, y), 1.0, None) for x in (-0.07, 0.07) for y in (-0.07, 0.07)),
    ),
)
PATCH = View(
    "patch",
    side_px=128,
    scale=0.0,
    span_px=128,
    # The eyes, the mouth, the jaw's two edges.
    anchors=((-0.22, -0.16), (0.22, -0.16), (0.0, 0.21), (-0.29, 0.19), (0.29, 0.19)),
    passes=(AS_FOUND, Pass((0.0, 0.0), 0.92, 80), Pass((0.0, 0.0), 1.08, 60)),
)
VIEWS = {view.name: view for view in (FACE, PATCH)}
