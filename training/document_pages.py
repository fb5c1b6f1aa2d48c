"""Fictional documents by the dozen: each layout number is another country, with its own paper, fonts, places and ornaments.

Layouts of the validation split use fonts, ornaments and portrait frames that those of the training split do not. Holders come from
`kyc_guard.documents.specimen`, portraits are chips of real people whose split is the page's. No design of a real state is imitated.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kyc_guard.attacks.optics import Rng, chance, smooth_field, uniform
from kyc_guard.documents.specimen import Holder, zone
from kyc_guard.types import Float32Array, UInt8Array
from training.chips import Chip

_CARRIED = Path(str(resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf"))
_SYSTEM = Path("/usr/share/fonts/truetype/liberation")
FONTS = {
    "train": (
        "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono-Bold.ttf",
        "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", "LiberationMono-Regular.ttf",
    ),
    "validation": ("LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf", "LiberationSansNarrow-Regular.ttf",
                   "LiberationSansNarrow-Bold.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSans-Oblique.ttf"),
}  # fmt: skip
"""Of labels and values; Debian's fonts-liberation where it is installed, else only what matplotlib carries."""
_ZONE_FONTS = (Path("/usr/share/fonts/opentype/ocr-b/OCRB.otf"), _CARRIED / "DejaVuSansMono.ttf")
_ORNAMENTS = {"train": ("waves", "rosette", "plain"), "validation": ("lattice", "rings")}
_NAMES = ("SURNAME", "GIVEN NAMES", "DOCUMENT NO", "DATE OF BIRTH", "SEX", "DATE OF ISSUE", "DATE OF EXPIRY", "NATIONALITY")
_COUNTRIES = ("REPUBLIC OF UTOPIA", "UTOPIA", "KINGDOM OF ARCADIA", "FREE STATE OF LAPUTA", "RURITANIA", "EREWHON")
_TITLES = ("IDENTITY CARD", "PASSPORT", "RESIDENCE PERMIT", "DRIVING LICENCE", "TRAVEL DOCUMENT")


@dataclass(frozen=True, slots=True)
class Print:
    """One line of print: ``font`` and ``size_px`` as drawn, ``box_xyxy`` its ink."""

    text: str
    kind: str
    """title, label, value or zone."""
    box_xyxy: tuple[float, float, float, float]
    font: Path
    size_px: int
    ink_rgb: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A page as the state made it: (H, W, 3) uint8 RGB, its print, and the portrait's frame and mesh (478, 2) in its pixels."""

    image_rgb: UInt8Array
    prints: tuple[Print, ...]
    portrait_xyxy: tuple[int, int, int, int]
    landmarks_px: Float32Array


@dataclass(frozen=True, slots=True)
class Layout:
    """What all pages of one fictional country share."""

    size_px: tuple[int, int]
    """Width and height."""
    paper_rgb: tuple[float, float, float]
    ornament: str
    ornament_rgb: tuple[float, float, float]
    ornament_scale: float
    label_font: Path
    value_font: Path
    label_px: int
    value_px: int
    label_rgb: tuple[int, int, int]
    value_rgb: tuple[int, int, int]
    label_left: bool
    """Labels beside their values instead of above them."""
    portrait_right: bool
    portrait_width: float
    """Share of the page's width."""
    portrait_grey: bool
    frame: str
    """none, line, faded."""
    zone: str
    """TD1, TD2, TD3, or none for a licence."""
    fields: tuple[str, ...]
    country: str
    title: str
    hologram: bool
    ghost: bool


def layout(number: int, split: str) -> Layout:
    """The layout of this number; the same number is another layout in another split."""
    rng = np.random.default_rng([number, sum(map(ord, split))])
    part = "validation" if split == "validation" else "train"
    width = int(rng.integers(900, 1150))
    kind = str(rng.choice(["TD1", "TD2", "TD3", "none"]))
    ratio = 1.42 if kind in {"TD2", "TD3"} else 1.586
    fonts = [_font_path(name) for name in FONTS[part]]
    dark = tuple(int(v) for v in rng.integers(5, 60, 3))
    value_px = int(width * rng.uniform(0.026, 0.036))
    shown = [f for f in _NAMES if f not in {"SEX", "NATIONALITY", "DATE OF ISSUE"} or chance(rng, 0.5)]
    paper = rng.uniform(205, 246) + rng.normal(0, 7, 3)
    return Layout(
        size_px=(width, round(width / ratio)),
        paper_rgb=_triple(paper),
        ornament=str(rng.choice(_ORNAMENTS[part])),
        ornament_rgb=_triple(paper - rng.uniform(5, 30) * rng.dirichlet(np.ones(3)) * 2),
        ornament_scale=uniform(rng, 0.15, 0.8),
        label_font=fonts[int(rng.integers(len(fonts)))],
        value_font=fonts[int(rng.integers(len(fonts)))],
        label_px=round(value_px * rng.uniform(0.55, 0.75)),
        value_px=value_px,
        label_rgb=(int(rng.integers(40, 130)), int(rng.integers(40, 130)), int(rng.integers(60, 160))),
        value_rgb=(dark[0], dark[1], dark[2]),
        label_left=part == "train" and chance(rng, 0.3),
        portrait_right=chance(rng, 0.3),
        portrait_width=uniform(rng, 0.22, 0.3),
        portrait_grey=chance(rng, 0.3),
        frame=str(rng.choice(["none", "line", "faded"])),
        zone=kind,
        fields=tuple(shown),
        country=str(rng.choice(_COUNTRIES)),
        title=str(rng.choice(_TITLES)),
        hologram=chance(rng, 0.6),
        ghost=chance(rng, 0.3),
    )


def holder(rng: Rng) -> Holder:
    """Somebody who does not exist."""

    def word(low: int, high: int) -> str:
        return "".join(rng.choice(list("AEIOUNRSTLMDKPB"), rng.integers(low, high + 1)))

    issued = date(2018, 1, 1) + timedelta(days=int(rng.integers(0, 2800)))
    return Holder(
        surname=word(4, 11),
        given_names=" ".join(word(3, 8) for _ in range(rng.integers(1, 3))),
        birth_date=date(1945, 1, 1) + timedelta(days=int(rng.integers(0, 22_000))),
        sex=str(rng.choice(["M", "F"])),
        document_number="".join(rng.choice(list(string.ascii_uppercase + string.digits), 9)),
        issued=issued,
        expiry_date=issued + timedelta(days=3652),
    )


def draw(rng: Rng, form: Layout, person: Holder, chip: Chip) -> Page:
    """A page of the layout for this person, who looks like the chip."""
    width, height = form.size_px
    paper = _paper(rng, form)
    zone_lines = () if form.zone == "none" else zone(person, form.zone)
    zone_font = next(path for path in _ZONE_FONTS if path.exists())
    zone_px = int(93 * width / font(zone_font, 100).getlength(max(zone_lines, key=len, default="<" * 30)))
    zone_top = height - round((len(zone_lines) * 1.55 + 0.6) * zone_px) if zone_lines else round(0.95 * height)
    wide = round(form.portrait_width * width)
    top = round(0.17 * height)
    tall = min(round(wide * 1.27), zone_top - top - round(0.03 * height))
    wide = min(wide, round(tall / 1.2))
    left = width - round(0.05 * width) - wide if form.portrait_right else round(0.05 * width)
    box = (left, top, left + wide, top + tall)
    mesh = _set_portrait(paper, form, chip, box)
    page = Image.fromarray(paper)
    pen = ImageDraw.Draw(page)
    prints = [
        _put(
            pen, form.country, (0.05 * width, 0.04 * height), form.value_font, round(1.15 * form.value_px), ink=form.label_rgb, kind="title"
        ),
        _put(pen, form.title, (0.6 * width, 0.045 * height), form.label_font, form.value_px, ink=form.label_rgb, kind="title"),
        *_put_fields(pen, form, person, (round(0.05 * width) if form.portrait_right else left + wide, top, zone_top)),
    ]
    for row, text in enumerate(zone_lines):
        at = (0.035 * width, zone_top + (0.4 + 1.55 * row) * zone_px)
        prints.append(_put(pen, text, at, zone_font, zone_px, ink=(15, 15, 18), kind="zone"))
    image = np.asarray(page, np.uint8).copy()
    if form.hologram:
        image = _hologram(rng, image)
    return Page(image, tuple(prints), box, mesh)


def resize(page: Page, unit: float) -> Page:
    """The page at another number of pixels."""
    scaled = cv2.resize(page.image_rgb, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA if unit < 1 else cv2.INTER_CUBIC)
    left, top, right, bottom = (round(v * unit) for v in page.portrait_xyxy)
    prints = (
        replace(p, box_xyxy=(p.box_xyxy[0] * unit, p.box_xyxy[1] * unit, p.box_xyxy[2] * unit, p.box_xyxy[3] * unit)) for p in page.prints
    )
    sized = tuple(replace(p, size_px=max(6, round(p.size_px * unit))) for p in prints)
    return Page(np.asarray(scaled, np.uint8), sized, (left, top, right, bottom), (page.landmarks_px * unit).astype(np.float32))


def _triple(values: Sequence[float] | Float32Array | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _font_path(name: str) -> Path:
    for folder in (_CARRIED, _SYSTEM):
        if (folder / name).exists():
            return folder / name
    return _CARRIED / "DejaVuSans.ttf"


@lru_cache(maxsize=512)
def font(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size_px)


def _put(
    pen: ImageDraw.ImageDraw, text: str, at: tuple[float, float], path: Path, size_px: int, *, ink: tuple[int, int, int], kind: str
) -> Print:
    pen.text(at, text, font=font(path, size_px), fill=ink)
    x0, y0, x1, y1 = pen.textbbox(at, text, font=font(path, size_px))
    return Print(text, kind, (x0, y0, x1, y1), path, size_px, ink)


def value_of(person: Holder, field: str) -> str:
    months = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

    def day(value: date) -> str:
        return f"{value.day:02d} {months[value.month - 1]} {value.year}"

    return {
        "SURNAME": person.surname,
        "GIVEN NAMES": person.given_names,
        "DOCUMENT NO": person.document_number,
        "DATE OF BIRTH": day(person.birth_date),
        "SEX": person.sex,
        "DATE OF ISSUE": day(person.issued),
        "DATE OF EXPIRY": day(person.expiry_date),
        "NATIONALITY": "UTOPIAN",
    }[field]


def _put_fields(pen: ImageDraw.ImageDraw, form: Layout, person: Holder, room: tuple[int, int, int]) -> list[Print]:
    left, top, bottom = room[0] + round(0.03 * form.size_px[0]), room[1], room[2] - 8
    line_px = 1.3 * form.value_px if form.label_left else form.label_px + 1.35 * form.value_px
    columns = 1 if form.label_left or len(form.fields) * line_px < bottom - top else 2
    rows = min(-(-len(form.fields) // columns), int((bottom - top) / line_px))
    step = min(line_px * 1.5, (bottom - top) / rows)
    made: list[Print] = []
    for i, name in enumerate(form.fields[: columns * rows]):
        x = left + (i // rows) * 0.33 * form.size_px[0]
        y = top + (i % rows) * step
        made.append(_put(pen, name, (x, y), form.label_font, form.label_px, ink=form.label_rgb, kind="label"))
        at = (x + 9.5 * form.label_px, y - 0.2 * form.value_px) if form.label_left else (x, y + 1.15 * form.label_px)
        made.append(_put(pen, value_of(person, name), at, form.value_font, form.value_px, ink=form.value_rgb, kind="value"))
    return made


def _paper(rng: Rng, form: Layout) -> UInt8Array:
    width, height = form.size_px
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    scale = 9 * form.ornament_scale
    match form.ornament:
        case "waves":
            line = np.sin(x / scale + 6 * np.sin(y / 70)) + np.sin(y / (1.2 * scale) + 5 * np.sin(x / 90))
        case "rosette":
            dx, dy = x - width * uniform(rng, 0.3, 0.7), y - height * 0.5
            radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
            line = np.sin(radius / scale + 4 * np.sin(9 * angle)) * 1.6
        case "lattice":
            line = np.maximum(np.cos((x + y) / scale), np.cos((x - 1.3 * y) / scale)) * 2 - 1
        case "rings":
            line = np.sin(np.hypot(x - 0.2 * width, y) / scale) + np.sin(np.hypot(x - 0.9 * width, y - height) / (1.3 * scale))
        case _:
            line = np.zeros_like(x)
    fine = np.clip(line / 4 + 0.5, 0, 1)[..., None]
    tint = 6.0 * smooth_field(rng, height, width, 3, 3)
    paper = np.array(form.paper_rgb, np.float32) * (1 - fine) + np.array(form.ornament_rgb, np.float32) * fine + tint
    return np.asarray(paper.clip(0, 255), np.uint8)


def _set_portrait(paper: UInt8Array, form: Layout, chip: Chip, box: tuple[int, int, int, int]) -> Float32Array:
    """Draws the chip into ``paper``; returns its mesh there."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    side = chip.image_rgb.shape[0]
    crop = round(side * wide / tall)
    x0 = (side - crop) // 2
    picture = cv2.resize(chip.image_rgb[:, x0 : x0 + crop], (wide, tall), interpolation=cv2.INTER_AREA)
    if form.portrait_grey:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    cover = np.ones((tall, wide, 1), np.float32)
    if form.frame == "faded":
        margin = max(2, round(0.06 * wide))
        cover[:] = 0
        cover[margin:-margin, margin:-margin] = 1
        cover = cv2.GaussianBlur(cover, (0, 0), margin / 2)[..., None]
    room = paper[top:bottom, left:right]
    room[:] = (room * (1 - cover) + picture * cover).astype(np.uint8)
    if form.frame == "line":
        cv2.rectangle(paper, (left, top), (right, bottom), form.label_rgb, 2)
    if form.ghost:
        small = cv2.resize(picture, (wide // 3, tall // 3), interpolation=cv2.INTER_AREA).astype(np.float32)
        x, y = (paper.shape[1] - wide // 3 - 12 if not form.portrait_right else 12), top + tall - tall // 3
        place = paper[y : y + tall // 3, x : x + wide // 3]
        place[:] = (0.6 * place + 0.4 * small.mean(axis=2, keepdims=True)).astype(np.uint8)
    unit = tall / side
    return ((chip.landmarks_px - (x0, 0)) * unit + (left, top)).astype(np.float32)


def _hologram(rng: Rng, image: UInt8Array) -> UInt8Array:
    """A transparent film that shimmers: bands of colour inside a shape, over print and portrait alike."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cx, cy, size = uniform(rng, 0.2, 0.8) * width, uniform(rng, 0.3, 0.7) * height, uniform(rng, 0.12, 0.3) * height
    angle, radius = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
    shape = np.clip((size * (1 + 0.25 * np.cos(uniform(rng, 3, 8) * angle)) - radius) / 6, 0, 1)
    turn = (x * uniform(rng, -1, 1) + y * uniform(rng, -1, 1)) / uniform(rng, 20, 90)
    film = np.stack([np.sin(turn + k * 2.1) for k in range(3)], axis=2) * uniform(rng, 10, 34)
    return np.asarray((image + film * shape[..., None]).clip(0, 255), np.uint8)
