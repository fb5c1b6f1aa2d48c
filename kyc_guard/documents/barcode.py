"""Barcodes of documents: PDF417 of North American licences (AAMVA) and QR codes, and whom they name.

Error correction decides whether a barcode was read: what it says was printed so. That is no proof of who printed it, because
anybody can: a barcode is worth the same as the zone, something that has to agree with everything else.

Source: AAMVA DL/ID Card Design Standard, annex D; its elements have kept their names since version 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import cv2
import numpy as np
import zxingcpp

from kyc_guard.documents import mrz
from kyc_guard.documents.dates import PartialDate, full_date
from kyc_guard.documents.identity import Identity
from kyc_guard.documents.names import transliterate
from kyc_guard.types import Float32Array, Float64Array, UInt8Array

_PDF417 = zxingcpp.BarcodeFormat.PDF417
_FORMATS = zxingcpp.BarcodeFormats([_PDF417, zxingcpp.BarcodeFormat.QRCode])


@dataclass(frozen=True, slots=True, eq=False)
class Barcode:
    """One barcode of a page."""

    kind: str
    """PDF417 or QRCode."""
    box_xyxy: Float32Array
    """(4,) float32: upright box in pixels of the page."""
    identity: Identity | None
    """Whom it names; ``None`` where its content is not one we know."""


def read_barcodes(image_rgb: UInt8Array, *, today: date) -> tuple[Barcode, ...]:
    """Every PDF417 and QR code on a page that its error correction confirms.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        today: settles the century of a zone inside a barcode.
    """
    grey: UInt8Array = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    found = [(code, _corners(code)) for code in _decoded(grey)]
    if not any(code.format == _PDF417 for code, _ in found) and (place := _densest(grey)) is not None:
        # The decoder looks along rows and columns; beyond some four degrees it needs the code turned upright.
        upright, back = _turned_upright(grey, place)
        found += [(code, cv2.transform(_corners(code)[None], back)[0]) for code in _decoded(upright) if code.format == _PDF417]
    return tuple(
        Barcode(code.format.name, np.concatenate([corners.min(axis=0), corners.max(axis=0)]), parse(code.text, today=today))
        for code, corners in found
    )


def _decoded(grey: UInt8Array) -> list[zxingcpp.Barcode]:
    return zxingcpp.read_barcodes(grey, formats=_FORMATS, text_mode=zxingcpp.TextMode.Plain, try_invert=False)


def _corners(code: zxingcpp.Barcode) -> Float32Array:
    at = code.position
    return np.array([(p.x, p.y) for p in (at.top_left, at.top_right, at.bottom_right, at.bottom_left)], np.float32)


_Rectangle: TypeAlias = tuple[tuple[float, float], tuple[float, float], float]
_LOOK_SIDE_PX = 500
_DENSE = 0.55
"""Of the densest place; what is denser than this belongs to the same barcode."""
_MIN_SHARE = 0.01
"""Of the page: a PDF417 that is smaller has no pixels to read."""


def _densest(grey: UInt8Array) -> _Rectangle | None:
    """Centre, size (the longer side first) and turn in degrees of the place with the most edges: a barcode outdoes any print."""
    unit = min(1.0, _LOOK_SIDE_PX / max(grey.shape))
    small = cv2.resize(grey, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA) if unit * min(grey.shape) >= 1 else grey
    edges = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(small, cv2.CV_32F, 0, 1))
    density = cv2.blur(edges, (13, 13))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((density > _DENSE * density.max()).astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[largest, cv2.CC_STAT_AREA] < _MIN_SHARE * small.size:
        return None
    rows, columns = np.nonzero(labels == largest)
    (x, y), (width, height), turn_deg = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    if width < height:
        width, height, turn_deg = height, width, turn_deg + 90
    return (x / unit, y / unit), (width / unit, height / unit), turn_deg


def _turned_upright(grey: UInt8Array, place: _Rectangle) -> tuple[UInt8Array, Float64Array]:
    """The place with a margin, its longer side level; and the (2, 3) map from there back to the page."""
    (x, y), (width, height), turn_deg = place
    size = (round(1.15 * width) + 20, round(1.15 * height) + 20)
    turn = cv2.getRotationMatrix2D((x, y), turn_deg, 1)
    turn[:, 2] += (size[0] / 2 - x, size[1] / 2 - y)
    return cv2.warpAffine(grey, turn, size, borderMode=cv2.BORDER_REPLICATE), cv2.invertAffineTransform(turn)


def parse(text: str, *, today: date) -> Identity | None:
    """Whom the content of a barcode names: an AAMVA record, or a machine-readable zone; ``None`` for anything else."""
    elements = aamva_elements(text)
    if elements:
        return _licence(elements)
    found = mrz.find(text.splitlines(), today=today)
    return None if found is None or found[0].failed_checks else Identity.of_zone(found[0], "barcode", by_ocr=False)


_HEADER = re.compile(r"(?:ANSI |AAMVA)\d{6}\d{4,6}(?:[A-Z]{2}\d{8})+")
_ELEMENT = re.compile(r"(?:DL|ID)?(D[A-D][A-Z])(.*)")


def aamva_elements(text: str) -> Mapping[str, str]:
    """Element id (such as DCS) -> value; empty where ``text`` is no AAMVA record.

    Offsets and lengths in the header are wrong on many a real licence; the elements are told apart by their lines instead.
    """
    header = _HEADER.search(text)
    if header is None:
        return {}
    elements: dict[str, str] = {}
    for line in re.split(r"[\n\r\x1e\x1c]", text[header.end() :]):
        if match := _ELEMENT.fullmatch(line):
            elements.setdefault(match[1], match[2].strip())
    return elements


_SEX = {"1": "M", "M": "M", "2": "F", "F": "F", "9": "X", "X": "X"}


def _licence(elements: Mapping[str, str]) -> Identity | None:
    def value(*names: str) -> str:
        text = next((elements[name] for name in names if elements.get(name)), "")
        return "" if text.upper() in {"NONE", "UNAVL"} else text

    # Version 1 writes LAST,FIRST,MIDDLE in one element; versions 2 and 3 the given names in one.
    last, _, others = value("DAA").partition(",")
    surname = transliterate(value("DCS", "DAB") or last)
    given = transliterate(" ".join((value("DAC", "DCT"), value("DAD"))).strip() or others)
    number = re.sub(r"[^A-Z0-9]", "", value("DAQ").upper())
    if not (surname and number):
        return None
    return Identity(
        source="barcode",
        surname=surname,
        given_names=given,
        document_number=number,
        nationality="",
        birth_date=_date(value("DBB")),
        sex=_SEX.get(value("DBC").upper(), ""),
        expiry_date=_date(value("DBA")),
        names_cut="T" in {value("DDE"), value("DDF"), value("DDG")},
    )


def _date(text: str) -> PartialDate:
    """MMDDCCYY (United States) or CCYYMMDD (Canada, version 1): no eight digits are a date of this or the last century in both."""
    if not re.fullmatch(r"\d{8}", text) or text == "00000000":
        return PartialDate("<<<<<<", None, None, None, valid=True)
    canadian = full_date(int(text[:4]), int(text[4:6]), int(text[6:]))
    return canadian if canadian.valid and text >= "1900" else full_date(int(text[4:]), int(text[:2]), int(text[2:4]))
