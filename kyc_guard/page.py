"""One picture of a document: which way up it lies, what is written on it, where its zone and its portrait are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

import cv2
import numpy as np

from kyc_guard import mrz
from kyc_guard.faces import face_finder
from kyc_guard.mrz import Mrz
from kyc_guard.ocr import TextLine, join_rows, read_text
from kyc_guard.types import Face, Float32Array, UInt8Array


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

    @property
    def sharpness(self) -> float:
        """Variance of the Laplacian at 1000 px width; low = blurred."""
        height, width = self.image_rgb.shape[:2]
        size = (1000, max(1, round(1000 * height / width)))
        grey = cv2.cvtColor(self.image_rgb, cv2.COLOR_RGB2GRAY)
        way = cv2.INTER_AREA if width > size[0] else cv2.INTER_LINEAR
        return float(cv2.Laplacian(cv2.resize(grey, size, interpolation=way), cv2.CV_32F).var())


def find_portrait(image_rgb: UInt8Array) -> tuple[UInt8Array, Face, int] | None:
    """The largest face on a page (smaller ones are ghost prints), the page turned so that it stands upright, and the turns."""
    for turns in range(4):
        turned = np.ascontiguousarray(np.rot90(image_rgb, turns))
        faces = face_finder().find(turned)
        if faces:
            return turned, faces[0], turns
    return None


def read_page(image_rgb: UInt8Array, *, today: date, threads: int = 1) -> Page:
    """Read one page, turning it where neither a portrait nor a zone shows it upright.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        today: settles the century of two-digit years.
        threads: of the OCR session.
    """
    found = find_portrait(image_rgb)
    if found is not None:
        turned, portrait, turns = found
        upright = _read(turned, turns, today, threads)
        if upright.mrz is not None or turns == 0:
            return replace(upright, portrait=portrait)
    pages = []
    for turns in (0, 2, 1, 3):
        page = _read(np.ascontiguousarray(np.rot90(image_rgb, turns)), turns, today, threads)
        if page.mrz is not None:
            return page
        pages.append(page)
    return max(pages, key=lambda page: sum(len(line.text) * line.confidence for line in page.lines))


def _read(image_rgb: UInt8Array, turns: int, today: date, threads: int) -> Page:
    lines = read_text(image_rgb, threads=threads)
    zone = _find_zone(lines, today)
    if zone is None or zone.reading.failed_checks:
        # A second look at the place alone, enlarged, often reads what a page-sized look could not.
        closer = max(_closer_looks(image_rgb, zone, today, threads), key=lambda z: _passed(z.reading), default=None)
        if closer is not None and (zone is None or _passed(closer.reading) > _passed(zone.reading)):
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


def _passed(reading: Mrz) -> int:
    return len(reading.checks) - 2 * len(reading.failed_checks)


def _find_zone(lines: Sequence[TextLine], today: date) -> _Zone | None:
    for rows in (lines, join_rows(lines)):
        found = mrz.find([row.text for row in rows], today=today)
        if found is not None:
            reading, span = found
            members = [rows[i] for i in span]
            boxes = np.stack([m.box_xyxy for m in members])
            box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]).astype(np.float32)
            return _Zone(reading, box, min(m.confidence for m in members))
    return None


def _closer_looks(image_rgb: UInt8Array, zone: _Zone | None, today: date, threads: int) -> Iterator[_Zone]:
    height, width = image_rgb.shape[:2]
    if zone is None:
        x0, y0, x1, y1 = 0, height // 2, width, height
    else:
        margin = (zone.box_xyxy[3] - zone.box_xyxy[1]) / 2
        x0, y0 = (max(0, int(v - margin)) for v in zone.box_xyxy[:2])
        x1, y1 = min(width, int(zone.box_xyxy[2] + margin)), min(height, int(zone.box_xyxy[3] + margin))
    crop = image_rgb[y0:y1, x0:x1]
    if crop.size == 0:
        return
    larger: UInt8Array = cv2.resize(crop, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    again = _find_zone(read_text(larger, threads=threads), today)
    if again is not None:
        box = again.box_xyxy / 2 + np.array([x0, y0, x0, y0], np.float32)
        yield replace(again, box_xyxy=box.astype(np.float32))
