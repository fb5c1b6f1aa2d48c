"""Honest photos of fictional documents, and attacks on them by named tools, some of which only the validation split may use.

Every picture ends in the same way (`deliver`): whether it was sent as it was, resized or compressed once more says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from kyc_guard.attacks import document, generated, printing, screen
from kyc_guard.attacks.document import Shot
from kyc_guard.attacks.face_image import Attack, FaceImage
from kyc_guard.attacks.optics import Pose, Rng, blur, chance, smooth_field, to_uint8, uniform, white_noise
from kyc_guard.documents.geometry import find_outline, straightened
from kyc_guard.recoding import jpeg
from kyc_guard.types import Float32Array, UInt8Array
from training.chips import Chip
from training.document_pages import FONTS, Layout, Page, Print, draw, font, holder, resize, value_of
from training.document_pages import _font_path as font_path

SPECIES = ("recapture", "portrait", "text", "generated")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A picture of a document: (H, W, 3) uint8 RGB; the boxes (N, 4) of its lines but the zone's, and the portrait's mesh (478, 2)."""

    image_rgb: UInt8Array
    lines_xyxy: Float32Array
    landmarks_px: Float32Array
    altered: tuple[int, ...] = ()
    """Lines that an attack wrote."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What a tool works with: a page, its maker's layout, and the chip of a stranger."""

    page: Page
    form: Layout
    donor: Chip
    split: str


def case(rng: Rng, form: Layout, chip: Chip, donor: Chip, split: str) -> Case:
    """A page of the layout, printed by the state's own machines, at the resolution at which it will be photographed."""
    page = resize(draw(rng, form, holder(rng), chip), uniform(rng, 0.6, 1.15))
    if chance(rng, 0.6):
        ranges = printing.PHOTO if chance(rng, 0.6) else printing.Range("noise", pitch=(1.0, 1.0), depth=(0.02, 0.12))
        mild = replace(printing.draw_paper(rng, ranges), streaks=0.0, cast=(1.0, 1.0, 1.0), white_rgb=(0.93, 0.93, 0.93), black=0.0)
        page = replace(page, image_rgb=printing.ink(page.image_rgb, replace(mild, vivid=1.0, density=1.0, retouch=0.0), rng))
    return Case(page, form, donor, split)


def honest(rng: Rng, made: Case) -> Made:
    """Photographed on a table, or scanned."""
    return deliver(rng, _seen(made.page, _honest_shot(rng, made.page)))


def _honest_shot(rng: Rng, page: Page) -> Shot:
    return document.lay_page(rng, page.image_rgb) if chance(rng, 0.7) else Shot(_scanned(rng, page.image_rgb), Pose())


def _scanned(rng: Rng, page_rgb: UInt8Array) -> UInt8Array:
    """A flatbed: even light, little noise, no pose."""
    soft = blur(page_rgb, uniform(rng, 0.3, 0.9)).astype(np.float32)
    soft = 128 + (soft - 128) * uniform(rng, 0.9, 1.15) + rng.normal(0, 4, 3).astype(np.float32)
    noise = np.stack([blur(white_noise(rng, page_rgb.shape[:2]), 0.5) for _ in range(3)], axis=2)
    scanned = to_uint8(soft + noise * np.float32(uniform(rng, 0.8, 3.5)))
    if chance(rng, 0.5):
        scanned = cv2.addWeighted(scanned, 1.6, blur(scanned, 1.0), -0.6, 0.0)
    return jpeg(scanned, int(rng.integers(70, 96)))


def _seen(page: Page, shot: Shot, altered: tuple[int, ...] = ()) -> Made:
    boxes = [_box(shot.move(_corners(p.box_xyxy))) for p in page.prints if p.kind != "zone"]
    return Made(shot.image_rgb, np.array(boxes, np.float32), shot.move(page.landmarks_px), altered)


def _corners(box: tuple[float, float, float, float]) -> Float32Array:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)


def _box(corners: Float32Array) -> Float32Array:
    return np.asarray(np.concatenate([corners.min(axis=0), corners.max(axis=0)]), np.float32)


def deliver(rng: Rng, made: Made) -> Made:
    """Straightened as the detector straightens it, then sent: as it is, resized, or compressed once more."""
    image, move = made.image_rgb, np.eye(3)
    if chance(rng, 0.3):
        unit = uniform(rng, 0.6, 0.95)
        image = np.asarray(cv2.resize(image, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA), np.uint8)
        move = np.diag([unit, unit, 1.0])
    if chance(rng, 0.7):
        image = jpeg(image, int(rng.integers(55, 97)), subsampled=chance(rng, 0.7))
    outline = find_outline(image)
    if outline is not None and outline.tilt_deg >= 3.0:
        width, height = (max(1, round(v)) for v in outline.size_px)
        target = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float32)
        move = cv2.getPerspectiveTransform(outline.corners_xy, target) @ move
        image = straightened(image, outline)
    boxes = [_box(_moved(_corners((float(b[0]), float(b[1]), float(b[2]), float(b[3]))), move)) for b in made.lines_xyxy]
    return Made(image, np.array(boxes, np.float32), _moved(made.landmarks_px, move), made.altered)


def _moved(points: Float32Array, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Float32Array:
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float32), matrix)[0], np.float32)


# ------------------------------------------------------------------------------------------------------ recapture, generated


def _shown(rng: Rng, made: Case, *, ranges: screen.Range) -> Made:
    return deliver(rng, _seen(made.page, document.show_page(rng, made.page.image_rgb, ranges=ranges)))


def _printed(rng: Rng, made: Case, *, ranges: printing.Range) -> Made:
    return deliver(rng, _seen(made.page, document.print_page(rng, made.page.image_rgb, ranges=ranges)))


def _rendered(rng: Rng, made: Case) -> Made:
    """A page straight out of a template program: no paper, no light, no lens."""
    page = resize(draw(rng, made.form, holder(rng), made.donor), uniform(rng, 0.6, 1.15))
    image = blur(page.image_rgb, uniform(rng, 0.3, 0.8)) if chance(rng, 0.3) else page.image_rgb
    return deliver(rng, _seen(page, Shot(image, Pose())))


def _mocked_up(rng: Rng, made: Case) -> Made:
    """The same laid onto a picture of a table with a drawn shadow and grain of one strength everywhere."""
    page = resize(draw(rng, made.form, holder(rng), made.donor), uniform(rng, 0.6, 1.15))
    height, width = page.image_rgb.shape[:2]
    pose = Pose(rotation_deg=float(rng.normal(0, 2)), scale=0.9, tilt_x=float(rng.normal(0, 0.03)), tilt_y=float(rng.normal(0, 0.03)))
    table = to_uint8(rng.uniform(60, 200, 3).astype(np.float32) + 20 * smooth_field(rng, height, width, 3, 1)[..., None])
    seen = pose.photograph(page.image_rgb, height, width, cv2.BORDER_CONSTANT)
    there = blur(pose.photograph(np.full((height, width), 255, np.uint8), height, width, cv2.BORDER_CONSTANT), 0.7)[..., None] / 255.0
    scene = (seen * there + table * (1 - there)) * (1 + 0.1 * smooth_field(rng, height, width, 1)[..., None])
    image = to_uint8((scene + uniform(rng, 0.5, 5.0) * white_noise(rng, (height, width))[..., None]).astype(np.float32))
    return deliver(rng, _seen(page, Shot(jpeg(image, int(rng.integers(75, 97))), pose)))


def _through_a_network(rng: Rng, made: Case, *, simulator: Attack) -> Made:
    """An honest photo as a network would write it."""
    seen = _seen(made.page, _honest_shot(rng, made.page))
    image = simulator.apply(rng, FaceImage(seen.image_rgb, seen.landmarks_px), None).image_rgb
    return deliver(rng, replace(seen, image_rgb=image))


# ------------------------------------------------------------------------------------------------------------- portrait


def _pasted(rng: Rng, made: Case, *, tool: Callable[[Rng, FaceImage, FaceImage], UInt8Array]) -> Made:
    """Another portrait laid into an honest photo, and saved."""
    seen = _seen(made.page, _honest_shot(rng, made.page))
    image = tool(rng, FaceImage(seen.image_rgb, seen.landmarks_px), FaceImage(made.donor.image_rgb, made.donor.landmarks_px))
    return deliver(rng, replace(seen, image_rgb=jpeg(image, int(rng.integers(75, 97)))))


def _glued(rng: Rng, made: Case) -> Made:
    """Another portrait stuck onto the page itself, which is then photographed."""
    donor = FaceImage(made.donor.image_rgb, made.donor.landmarks_px)
    page = replace(made.page, image_rgb=document.glue_portrait(rng, FaceImage(made.page.image_rgb, made.page.landmarks_px), donor))
    return deliver(rng, _seen(page, document.lay_page(rng, page.image_rgb)))


# ----------------------------------------------------------------------------------------------------------------- text


@dataclass(frozen=True, slots=True)
class _Pen:
    """How a forger writes: which font, how large against the original, how far off the line (in heights), how dark."""

    font: Path
    size: float
    lift: float
    ink_rgb: tuple[int, int, int]
    soft_px: float


def _values(page: Page) -> list[int]:
    return [i for i, p in enumerate(page.prints) if p.kind == "value" and len(p.text) > 2]


def _another_text(rng: Rng, field: Print) -> str:
    other = holder(rng)
    same = [value_of(other, name) for name in ("SURNAME", "GIVEN NAMES", "DOCUMENT NO", "DATE OF BIRTH")]
    return min(same, key=lambda text: abs(len(text) - len(field.text)))


def _written(image: UInt8Array, quad: Float32Array, field: Print, text: str, pen: _Pen) -> UInt8Array:
    """``text`` typed along the field's line; ``quad`` (4, 2) are the corners of its box in ``image``."""
    size_px = max(6, round(field.size_px * pen.size))
    letters = font(pen.font, 3 * size_px)
    x0, _, x1, y1 = (round(v) for v in letters.getbbox(text))
    stamp = Image.new("L", (x1 + 6, y1 + 6))
    ImageDraw.Draw(stamp).text((0, 0), text, font=letters, fill=255)
    across, down = quad[1] - quad[0], quad[3] - quad[0]
    along, upright = across / max(float(np.linalg.norm(across)), 1e-3), down / max(float(np.linalg.norm(down)), 1e-3)
    height_px = float(np.linalg.norm(down))
    scale = size_px / field.size_px * height_px / max(field.box_xyxy[3] - field.box_xyxy[1], 1.0) * field.size_px / (3 * size_px)
    # The feet of the letters stand where the old ones stood, but for the lift.
    origin = quad[3] - upright * (y1 * scale + pen.lift * height_px) - along * x0 * scale
    there = np.stack([along, upright], axis=1) * scale
    matrix = np.concatenate([there, origin[:, None]], axis=1)
    cover = cv2.warpAffine(np.asarray(stamp), matrix.astype(np.float32), image.shape[1::-1], flags=cv2.INTER_AREA)
    cover = blur(cover, max(pen.soft_px, 0.35 / scale * 0.3))[..., None].astype(np.float32) / np.float32(255)
    return to_uint8(image * (1 - cover) + np.array(pen.ink_rgb, np.float32) * cover)


def _room(made: Made, i: int, margin: float = 0.15) -> tuple[slice, slice]:
    x0, y0, x1, y1 = made.lines_xyxy[i]
    more = margin * (y1 - y0)
    return slice(max(0, int(y0 - more)), int(y1 + more) + 1), slice(max(0, int(x0 - more)), int(x1 + more) + 1)


def _erased(rng: Rng, image: UInt8Array, room: tuple[slice, slice], *, inpaint: bool) -> UInt8Array:
    """The line gone: painted over with the colour round it, or filled from it letter by letter."""
    out = image.copy()
    area = out[room]
    grey = cv2.cvtColor(area, cv2.COLOR_RGB2GRAY)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ink = cv2.dilate((grey <= level).astype(np.uint8), np.ones((3, 3), np.uint8))
    if inpaint:
        out[room] = cv2.inpaint(area, ink, 3, cv2.INPAINT_TELEA if chance(rng, 0.5) else cv2.INPAINT_NS)
    else:
        paper = area[ink == 0]
        area[:] = np.median(paper, axis=0) if len(paper) else 220
    return out


def _ink_of(image: UInt8Array, room: tuple[slice, slice]) -> tuple[int, int, int]:
    area = image[room].reshape(-1, 3)
    dark = area[area.sum(axis=1) <= np.percentile(area.sum(axis=1), 5)]
    red, green, blue = (int(v) for v in np.median(dark, axis=0))
    return red, green, blue


def _retyped(rng: Rng, made: Case, *, inpaint: bool) -> Made:
    """A value typed anew in a picture editor; carefully (the same font, ink and softness) where it was inpainted first."""
    seen_page = made.page
    shot = _honest_shot(rng, seen_page)
    seen = _seen(seen_page, shot)
    i = int(rng.choice(_values(seen_page)))
    field, room = seen_page.prints[i], _room(seen, i)
    fonts = [font_path(name) for name in FONTS["validation" if made.split == "validation" else "train"]]
    ink_rgb = _ink_of(seen.image_rgb, room)
    if inpaint:
        pen = _Pen(field.font, float(rng.normal(1.0, 0.03)), float(rng.normal(0, 0.04)), ink_rgb, uniform(rng, 0.3, 0.9))
    else:
        shade = int(rng.integers(-25, 40))
        ink_rgb = (max(0, ink_rgb[0] + shade), max(0, ink_rgb[1] + shade), max(0, ink_rgb[2] + shade))
        size = float(rng.choice([uniform(rng, 0.82, 0.94), 1.0, uniform(rng, 1.06, 1.2)]))
        chosen = fonts[int(rng.integers(len(fonts)))] if chance(rng, 0.7) else field.font
        pen = _Pen(chosen, size, float(rng.normal(0, 0.1)), ink_rgb, uniform(rng, 0.0, 0.6))
    blank = _erased(rng, seen.image_rgb, room, inpaint=inpaint)
    image = _written(blank, shot.move(_corners(field.box_xyxy)), field, _another_text(rng, field), pen)
    return deliver(rng, replace(seen, image_rgb=jpeg(image, int(rng.integers(75, 97))), altered=(i,)))


def _copied(rng: Rng, made: Case) -> Made:
    """Characters of one value laid over those of another: copy-move inside the picture."""
    seen = _seen(made.page, _honest_shot(rng, made.page))
    i, k = (int(v) for v in rng.choice(_values(made.page), 2, replace=False))
    image = seen.image_rgb.copy()
    into, source = _room(seen, i), _room(seen, k)
    height = min(into[0].stop - into[0].start, source[0].stop - source[0].start)
    share = uniform(rng, 0.3, 0.9)
    width = int(share * min(into[1].stop - into[1].start, source[1].stop - source[1].start))
    y0 = into[0].start + int(rng.integers(-1, 2))
    x0 = into[1].start + int(rng.integers(0, max(1, into[1].stop - into[1].start - width)))
    y1, x1 = source[0].start, source[1].start
    piece = image[y1 : y1 + height, x1 : x1 + width]
    room = image[max(y0, 0) : max(y0, 0) + height, x0 : x0 + width]
    room[:] = piece[: room.shape[0], : room.shape[1]]
    return deliver(rng, replace(seen, image_rgb=jpeg(image, int(rng.integers(75, 97))), altered=(i,)))


def _spliced(rng: Rng, made: Case) -> Made:
    """A value cut out of a photo of another document of the same country, blended in."""
    seen = _seen(made.page, _honest_shot(rng, made.page))
    other = resize(draw(rng, made.form, holder(rng), made.donor), made.page.image_rgb.shape[1] / made.form.size_px[0])
    theirs = _seen(other, _honest_shot(rng, other))
    i = int(rng.choice(_values(made.page)))
    into, source = _room(seen, i, 0.25), _room(theirs, i, 0.25)
    piece = theirs.image_rgb[source]
    unit = (into[0].stop - into[0].start) / piece.shape[0]
    piece = cv2.resize(piece, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA if unit < 1 else cv2.INTER_CUBIC)
    x0, y0 = into[1].start, into[0].start
    piece = piece[: seen.image_rgb.shape[0] - y0, : seen.image_rgb.shape[1] - x0]
    tall, wide = piece.shape[:2]
    image = seen.image_rgb
    if chance(rng, 0.5) and min(tall, wide) > 8:
        centre = (x0 + wide // 2, y0 + tall // 2)
        image = cv2.seamlessClone(piece, image, np.full((tall, wide), 255, np.uint8), centre, cv2.NORMAL_CLONE)
    else:
        cover = np.zeros((tall, wide), np.float32)
        cover[2:-2, 2:-2] = 1
        cover = blur(cover, 1.2)[..., None]
        image = image.copy()
        room = image[y0 : y0 + tall, x0 : x0 + wide]
        room[:] = to_uint8(room * (1 - cover) + piece * cover)
    return deliver(rng, replace(seen, image_rgb=jpeg(np.asarray(image, np.uint8), int(rng.integers(75, 97))), altered=(i,)))


def _overprinted(rng: Rng, made: Case) -> Made:
    """A value scratched off the page itself and typed over, then photographed: no trace of any editor."""
    i = int(rng.choice(_values(made.page)))
    field = made.page.prints[i]
    flat = Made(made.page.image_rgb, np.array([p.box_xyxy for p in made.page.prints], np.float32), made.page.landmarks_px)
    fonts = [font_path(name) for name in FONTS["validation"]]
    pen = _Pen(fonts[int(rng.integers(len(fonts)))], float(rng.normal(1.0, 0.08)), float(rng.normal(0, 0.06)), field.ink_rgb, 0.3)
    blank = _erased(rng, flat.image_rgb, _room(flat, i), inpaint=False)
    page = replace(made.page, image_rgb=_written(blank, _corners(field.box_xyxy), field, _another_text(rng, field), pen))
    return deliver(rng, _seen(page, document.lay_page(rng, page.image_rgb), (i,)))


# ---------------------------------------------------------------------------------------------------------------- tools


@dataclass(frozen=True, slots=True)
class Tool:
    """One way to attack a document."""

    name: str
    species: str
    held_out: bool
    make: Callable[[Rng, Case], Made]


TOOLS = (
    *(
        Tool(f"screen_{name}", "recapture", held_out, partial(_shown, ranges=ranges))
        for name, ranges, held_out in (
            ("monitor", screen.MONITOR, False),
            ("phone", screen.PHONE, False),
            ("retina", screen.RETINA, False),
            ("dark_room", screen.DARK_ROOM, False),
            ("oled", screen.OLED, True),
            ("warm_tablet", screen.WARM_TABLET, True),
        )
    ),
    *(
        Tool(f"print_{name}", "recapture", held_out, partial(_printed, ranges=ranges))
        for name, ranges, held_out in (
            ("halftone", printing.HALFTONE, False),
            ("inkjet", printing.INKJET, False),
            ("photo", printing.PHOTO, False),
            ("laser_grey", printing.LASER_GREY, False),
            ("line_screen", printing.LINE_SCREEN, True),
            ("diffusion", printing.DIFFUSION, True),
        )
    ),
    Tool("portrait_laid_over", "portrait", held_out=False, make=partial(_pasted, tool=document.glue_portrait)),
    Tool("portrait_matched", "portrait", held_out=False, make=partial(_pasted, tool=document.match_portrait)),
    Tool("portrait_face_cloned", "portrait", held_out=True, make=partial(_pasted, tool=document.clone_portrait)),
    Tool("portrait_glued_on_page", "portrait", held_out=True, make=_glued),
    Tool("text_retyped", "text", held_out=False, make=partial(_retyped, inpaint=False)),
    Tool("text_copied", "text", held_out=False, make=_copied),
    Tool("text_inpainted", "text", held_out=False, make=partial(_retyped, inpaint=True)),
    Tool("text_spliced", "text", held_out=True, make=_spliced),
    Tool("text_overprinted", "text", held_out=True, make=_overprinted),
    Tool("generated_template", "generated", held_out=False, make=_rendered),
    Tool("generated_mock_up", "generated", held_out=True, make=_mocked_up),
    *(Tool(f"generated_{one.name}", "generated", one.held_out, partial(_through_a_network, simulator=one)) for one in generated.GENERATED),
)
