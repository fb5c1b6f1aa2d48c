"""Specimen documents of Utopia (UTO), the country that ICAO 9303 reserves for examples. For demo and tests only.

No design of a real state is imitated: a plain page with labels, a portrait and a machine-readable zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kyc_guard.documents.mrz import encode
from kyc_guard.documents.zone_layouts import FORMATS, check_digit
from kyc_guard.types import UInt8Array

_PX_PER_MM = 10
_SIZE_MM = {"TD1": (100, 75), "TD2": (105, 74), "TD3": (125, 88)}
_PITCH_MM = 2.54
"""OCR-B size 1 sets ten characters an inch. Source: ICAO 9303-3, 4.1."""
_INK = (20, 24, 60)
_LABEL_INK = (90, 100, 130)


@dataclass(frozen=True, slots=True)
class Holder:
    """A fictional person."""

    surname: str = "ERIKSSON"
    given_names: str = "ANNA MARIA"
    birth_date: date = date(1974, 8, 12)
    sex: str = "F"
    document_number: str = "L898902C3"
    issued: date = date(2024, 4, 16)
    expiry_date: date = date(2034, 4, 15)

    @property
    def claims(self) -> dict[str, str]:
        """What this person would type into a form; see `Submission.claims`."""
        return {
            "surname": self.surname,
            "given_names": self.given_names,
            "birth_date": self.birth_date.isoformat(),
            "document_number": self.document_number,
            "expiry_date": self.expiry_date.isoformat(),
            "nationality": "UTO",
            "sex": self.sex,
        }


def zone(holder: Holder, layout: str = "TD3", *, wrong_check_digit: bool = False) -> tuple[str, ...]:
    """The holder's machine-readable zone; on demand with a wrong check digit of the birth date.

    Raises:
        ValueError: `layout` is not a travel document format, or a value does not fit it.
    """
    lines = encode(
        layout,
        document_code="P" if layout == "TD3" else "I",
        issuing_state="UTO",
        surname=holder.surname,
        given_names=holder.given_names,
        document_number=holder.document_number,
        nationality="UTO",
        birth_date=holder.birth_date.strftime("%y%m%d"),
        sex=holder.sex,
        expiry_date=holder.expiry_date.strftime("%y%m%d"),
    )
    if not wrong_check_digit:
        return lines
    field = next(f for f in FORMATS[layout].fields if f.name == "birth_date")
    assert field.check is not None
    line = lines[field.line]
    wrong = str((int(check_digit(line[field.start : field.stop])) + 1) % 10)
    changed = line[: field.check] + wrong + line[field.check + 1 :]
    return tuple(changed if i == field.line else one for i, one in enumerate(lines))


def render(
    holder: Holder,
    portrait_rgb: UInt8Array,
    *,
    layout: str = "TD3",
    mrz_lines: tuple[str, ...] | None = None,
    printed: Holder | None = None,
) -> UInt8Array:
    """A page with portrait, labelled fields and zone.

    Args:
        holder: whom the zone names.
        portrait_rgb: (H, W, 3) uint8 RGB, head and shoulders; scaled to fit.
        layout: TD1, TD2 or TD3.
        mrz_lines: another zone than the correct one of ``holder``, such as ``zone(holder, wrong_check_digit=True)``.
        printed: whom the printed fields name, if not ``holder``: a page that contradicts itself.

    Returns:
        (H, W, 3) uint8 RGB at 10 px/mm.
    """
    width, height = (v * _PX_PER_MM for v in _SIZE_MM[layout])
    page = Image.fromarray(_paper(height, width))
    draw = ImageDraw.Draw(page)
    draw.rectangle((4, 4, width - 5, height - 5), outline=_LABEL_INK, width=2)
    draw.text((40, 26), "UTOPIA", font=_font("DejaVuSans-Bold.ttf", 44), fill=_INK)
    draw.text((270, 38), "SPECIMEN - fictional, no travel document", font=_font("DejaVuSans.ttf", 24), fill=_LABEL_INK)
    rows = mrz_lines or zone(holder, layout)
    line_px = 62
    zone_top = height - 30 - line_px * len(rows)
    _portrait(page, portrait_rgb, (40, 100, 320, zone_top - 24))
    _fields(draw, printed or holder, left=350, top=100, bottom=zone_top - 20, layout=layout)
    font = _font("DejaVuSansMono.ttf", 42)
    for i, row in enumerate(rows):
        for k, character in enumerate(row):
            x = width / 2 + (k - len(row) / 2) * _PITCH_MM * _PX_PER_MM
            draw.text((x, zone_top + i * line_px), character, font=font, fill=(10, 10, 10))
    return np.asarray(page, np.uint8).copy()


def _paper(height: int, width: int) -> UInt8Array:
    """A light paper with fine waves, so that print is not read off pure white."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin(x / 9 + 6 * np.sin(y / 70)) + np.sin(y / 11 + 5 * np.sin(x / 90))
    tint = np.array([226, 232, 238], np.float32) + wave[..., None] * np.array([3.0, 4.0, 2.0], np.float32)
    paper: UInt8Array = tint.clip(0, 255).astype(np.uint8)
    return paper


def _portrait(page: Image.Image, portrait_rgb: UInt8Array, box_xyxy: tuple[int, int, int, int]) -> None:
    picture = Image.fromarray(portrait_rgb)
    room = (box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1])
    unit = min(room[0] / picture.width, room[1] / picture.height)
    fitted = picture.resize((max(1, round(picture.width * unit)), max(1, round(picture.height * unit))), Image.Resampling.LANCZOS)
    page.paste(fitted, (box_xyxy[0], box_xyxy[1]))


def _fields(draw: ImageDraw.ImageDraw, holder: Holder, *, left: int, top: int, bottom: int, layout: str) -> None:
    rows = (
        ("Surname / Nom", holder.surname),
        ("Given names / Prénoms", holder.given_names),
        ("Document number / N° de document", holder.document_number),
        ("Date of birth / Date de naissance", _printed_date(holder.birth_date)),
        ("Sex / Sexe", holder.sex),
        ("Date of issue / Date de délivrance", _printed_date(holder.issued)),
        ("Date of expiry / Date d'expiration", _printed_date(holder.expiry_date)),
    )
    # Small pages carry the essential rows only.
    shown = rows if layout == "TD3" else tuple(r for r in rows if not r[0].startswith(("Sex", "Date of issue")))
    step = (bottom - top) / len(shown)
    for i, (label, value) in enumerate(shown):
        y = top + i * step
        draw.text((left, y), label, font=_font("DejaVuSans.ttf", 20), fill=_LABEL_INK)
        draw.text((left, y + 24), value, font=_font("DejaVuSans.ttf", 32), fill=_INK)


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _printed_date(day: date) -> str:
    # Not strftime("%b"): the month must not follow the machine's language.
    return f"{day.day:02d} {_MONTHS[day.month - 1]} {day.year}"


@lru_cache(maxsize=16)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib carries the DejaVu fonts (free licence), so nothing depends on what the system has.
    path = resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size)
