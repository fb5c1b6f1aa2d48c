"""One picture of a document: which way up it lies, what is written on it, where its zone and its portrait are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product

import cv2
import numpy as np

from kyc_guard.documents import mrz
from kyc_guard.documents.geometry import straight_page
from kyc_guard.documents.mrz import Mrz
from kyc_guard.documents.ocr import TextLine, join_rows, read_text
from kyc_guard.faces import face_finder
from kyc_guard.types import Evidence, Face, Float32Array, PagePortrait, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What was found on one picture; all boxes in pixels of ``image_rgb``."""

    image_rgb: UInt8Array
    """(H, W, 3) uint8 RGB, turned upright."""
    quarter_turns: int
    """Counter-clockwise turns that made it upright."""
    lines: tuple[TextLine, ...]
    """The legible text outside the machine-readable zone."""
    mrz: Mrz | None
    mrz_xyxy: Float32Array | None
    """(4,) float32."""
    mrz_confidence: float
    """0..1, the recogniser's, lowest over the zone's lines; 0 without a zone."""
    portrait: Face | None

    def cuts(self, line: TextLine) -> bool:
        """Whether a line runs into the left or right edge of the picture: no document prints up to its own."""
        rim = 0.005 * self.image_rgb.shape[1]
        return len(line.text) > 3 and bool(line.box_xyxy[0] < rim or line.box_xyxy[2] > self.image_rgb.shape[1] - 1 - rim)


def sharpness(image_rgb: UInt8Array) -> float:
    """Variance of the Laplacian of the page at 1000 px length; low = blurred. (H, W, 3) uint8 RGB."""
    height, width = image_rgb.shape[:2]
    unit = 1000 / max(height, width)
    size = (max(1, round(width * unit)), max(1, round(height * unit)))
    way = cv2.INTER_AREA if unit < 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(image_rgb, size, interpolation=way), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


# Portraits of travel documents look straight ahead within 5 and 8 degrees (ISO/IEC 19794-5, 7.2.2, asked for by ICAO 9303-3, 3.9);
# the mesh errs by some degrees on small ones.
_PORTRAIT_YAW_DEG = 8.0
_PORTRAIT_ROLL_DEG = 8.0
_PART = 0.75
"""Of the shorter side. Of twenty pages photographed with small grey portraits six were found whole, twenty in such parts."""


def find_portrait(*pages_rgb: UInt8Array) -> PagePortrait | None:
    """The portrait of the first page that has one: its largest face, since smaller ones are ghost prints.

    Backs have none, and looking for it in vain takes longest. Of a page the whole is looked at first, then its parts, where a small
    portrait is large enough to be found. The first face that looks ahead is taken, or else the most frontal fit: the mesh fits itself
    onto upside-down faces too, but askew.

    Args:
        pages_rgb: (H, W, 3) uint8 RGB each.
    """
    for number, page_rgb in enumerate(pages_rgb):
        fits: list[tuple[float, PagePortrait]] = []
        for look, turns in product((_faces, _faces_in_parts), range(4)):
            upright = _turned(page_rgb, turns)
            face = next((f for f in look(upright) if abs(f.roll_deg) < 45), None)
            if face is None:
                continue
            found = PagePortrait(number, turns, upright, face)
            if abs(face.yaw_deg) <= _PORTRAIT_YAW_DEG and abs(face.roll_deg) <= _PORTRAIT_ROLL_DEG:
                return found
            fits.append((abs(face.yaw_deg) + abs(face.roll_deg), found))
        if fits:
            return min(fits, key=lambda fit: fit[0])[1]
    return None


def with_documents(evidence: Evidence, *documents_rgb: UInt8Array) -> Evidence:
    """``evidence`` with these pictures of documents, the pages straightened and the portrait found.

    Args:
        documents_rgb: (H, W, 3) uint8 RGB each, as they were sent.
    """
    pages = tuple(map(straight_page, documents_rgb))
    return replace(evidence, documents_rgb=documents_rgb, pages_rgb=pages, portrait=find_portrait(*pages))


def _faces(image_rgb: UInt8Array) -> Sequence[Face]:
    return face_finder().find(image_rgb)


def _faces_in_parts(image_rgb: UInt8Array) -> Sequence[Face]:
    """Faces in squares of three quarters of the shorter side that overlap by half, largest first; 10 ms a square."""
    height, width = image_rgb.shape[:2]
    side = round(_PART * min(height, width))
    found = []
    for y in _starts(height, side):
        for x in _starts(width, side):
            for face in face_finder().find(np.ascontiguousarray(image_rgb[y : y + side, x : x + side])):
                corner = np.array([x, y, 0], np.float32)
                found.append(replace(face, landmarks_px=face.landmarks_px + corner, box_xyxy=face.box_xyxy + np.tile(corner[:2], 2)))
    return sorted(found, key=lambda f: -f.quality.size_px)


def _starts(length: int, side: int) -> list[int]:
    steps = math.ceil(2 * (length - side) / side)
    return [round(i * (length - side) / max(steps, 1)) for i in range(steps + 1)]


def _turned(image_rgb: UInt8Array, quarter_turns: int) -> UInt8Array:
    return np.ascontiguousarray(np.rot90(image_rgb, quarter_turns))


def read_page(image_rgb: UInt8Array, *, today: date, portrait: PagePortrait | None = None) -> Page:
    """Read one page. The portrait says which way up to try first; a zone outvotes it, since meshes fit themselves onto anything.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        today: settles the century of two-digit years.
        portrait: that of this page, if it has one.
    """
    start = 0 if portrait is None else portrait.quarter_turns
    best = _read(_turned(image_rgb, start), start, today)
    sideways = _sideways(best.lines)
    if best.mrz is None and (sideways or portrait is None or start != 0):
        others = [(start + step) % 4 for step in ((1, 3) if sideways else (2,))]
        pages = [best, *(_read(_turned(image_rgb, turns), turns, today) for turns in others)]
        best = max(pages, key=lambda page: (page.mrz is not None, sum(len(line.text) * line.confidence for line in page.lines)))
    if portrait is None or portrait.quarter_turns == best.quarter_turns:
        return replace(best, portrait=None if portrait is None else portrait.face)
    return replace(best, portrait=next(iter(_faces(best.image_rgb) or _faces_in_parts(best.image_rgb)), None))


def _sideways(lines: Sequence[TextLine]) -> bool:
    """Whether most characters stand in boxes taller than wide."""
    tall = sum(len(line.text) for line in lines if line.height_px > line.box_xyxy[2] - line.box_xyxy[0])
    return 2 * tall > sum(len(line.text) for line in lines)


def _read(image_rgb: UInt8Array, turns: int, today: date) -> Page:
    lines = read_text(image_rgb)
    if _sideways(lines):
        # The recogniser turns upended lines by itself, but their order is lost.
        return Page(image_rgb, turns, lines, None, None, 0.0, None)
    zone = _find_zone(lines, today)
    if any("<<" in line.text for line in lines) if zone is None else zone.reading.failed_checks or not zone.reading.surname:
        # A second look at the place alone, enlarged, often reads what a page-sized look could not.
        closer = _closer_look(image_rgb, zone, today)
        if closer is not None and (zone is None or closer.reading.merit > zone.reading.merit):
            zone = closer
    if zone is None:
        return Page(image_rgb, turns, lines, None, None, 0.0, None)
    left, top, right, bottom = zone.box_xyxy
    outside = tuple(x for x in lines if not (top <= x.middle_px <= bottom and x.box_xyxy[0] < right and x.box_xyxy[2] > left))
    return Page(image_rgb, turns, outside, zone.reading, zone.box_xyxy, zone.confidence, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Zone:
    reading: Mrz
    box_xyxy: Float32Array
    confidence: float


def _find_zone(lines: Sequence[TextLine], today: date) -> _Zone | None:
    for rows in (lines, join_rows(lines)):
        found = mrz.find([row.text for row in rows], today=today, chances=[row.chances for row in rows])
        if found is not None:
            reading, span = found
            members = [rows[i] for i in span]
            boxes = np.stack([m.box_xyxy for m in members])
            box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]).astype(np.float32)
            return _Zone(reading, box, min(m.confidence for m in members))
    return None


def _closer_look(image_rgb: UInt8Array, zone: _Zone | None, today: date) -> _Zone | None:
    height, width = image_rgb.shape[:2]
    if zone is None:
        x0, y0, x1, y1 = 0, height // 2, width, height
    else:
        margin = (zone.box_xyxy[3] - zone.box_xyxy[1]) / 2
        x0, y0 = (max(0, int(v - margin)) for v in zone.box_xyxy[:2])
        x1, y1 = min(width, int(zone.box_xyxy[2] + margin)), min(height, int(zone.box_xyxy[3] + margin))
    crop = image_rgb[y0:y1, x0:x1]
    larger: UInt8Array = cv2.resize(crop, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    again = _find_zone(read_text(larger), today)
    if again is None:
        return None
    box = again.box_xyxy / 2 + np.array([x0, y0, x0, y0], np.float32)
    return replace(again, box_xyxy=box.astype(np.float32))
