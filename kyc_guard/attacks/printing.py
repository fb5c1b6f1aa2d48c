"""Print attacks: a face in ink or on photo paper, whole or with holes cut into it, photographed again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.optics import (
    LUMA,
    Camera,
    Pose,
    Rng,
    blur,
    chance,
    draw_camera,
    draw_pose,
    expose,
    light_of,
    log_uniform,
    retouch,
    saturation_matrix,
    to_linear,
    to_uint8,
    uniform,
    white_noise,
    wide_blur,
)
from kyc_guard.attacks.scene import Surround, draw_surround, face_width, put_in_scene
from kyc_guard.types import Float32Array, UInt8Array

_RIMS_RGB = ((250, 250, 248), (240, 238, 230), (225, 225, 225))
_ANGLES_DEG = (15.0, 75.0, 0.0, 45.0)
"""Cyan, magenta, yellow, black: the angles at which four screens beat least (offset printing's custom)."""

# Optical density of full ink (rows R, G, B; columns C, M, Y, K): real inks absorb in each other's bands, hence the small gamut.
# Rows of C, M, Y have one sum, so that equal inks are neutral.
_INKS = np.array([(1.25, 0.12, 0.05, 1.4), (0.22, 1.1, 0.10, 1.4), (0.08, 0.32, 1.02, 1.4)], np.float32) * np.float32(math.log(10))

LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
MOUTH = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)


@dataclass(frozen=True, slots=True)
class Range:
    """The printers one simulator draws from.

    Attributes:
        screen: "dot" or "line" (AM halftone), "noise" (inkjet dither), "diffusion" (blue noise), "none" (photo paper, dye sublimation).
        pitch: halftone cells per picture pixel. depth: how much of the screen the dot spread leaves visible.
        density: of full ink, relative to office printers. grey: black toner only. bend: greatest curl.
        gloss: greatest strength of the glare strip.
    """

    screen: str
    pitch: tuple[float, float]
    depth: tuple[float, float]
    density: tuple[float, float] = (0.75, 1.2)
    grey: bool = False
    bend: float = 0.6
    gloss: float = 0.6


@dataclass(frozen=True, slots=True)
class Paper:
    """One print: ink, screen, paper and the light on it.

    Attributes:
        retouch: share of the way to a well exposed picture. vivid: the printer driver's saturation.
        pitch, depth, screen, grey: as in `Range`. phase_deg: turn of all screens. gain: dot gain at half tone. density: of the inks
            relative to full. black: share of the common ink replaced by black. cast: ink amounts relative to neutral.
        white_rgb: reflectance of bare paper. grain: relative deviation of its texture. streaks: of the print head's bands.
        blur_px: ink spread. light: fall of illumination to the right and down. curl: shading per unit of bend.
        glare: position along the bend, width, strength. angle_deg: direction of the strip where the paper is flat.
    """

    retouch: float
    vivid: float
    screen: str
    pitch: float
    depth: float
    phase_deg: float
    grey: bool
    gain: float
    density: float
    black: float
    cast: tuple[float, float, float]
    white_rgb: tuple[float, float, float]
    grain: float
    streaks: float
    blur_px: float
    light: tuple[float, float]
    curl: float
    glare: tuple[float, float, float]
    angle_deg: float


def draw_paper(rng: Rng, ranges: Range) -> Paper:
    """One print of the range; most draws moderate."""
    warm = float(rng.normal(0.0, 0.05))
    return Paper(
        retouch=uniform(rng, 0.0, 1.0),
        vivid=uniform(rng, 0.9, 1.6),
        screen=ranges.screen,
        pitch=log_uniform(rng, *ranges.pitch),
        depth=ranges.depth[0] + (ranges.depth[1] - ranges.depth[0]) * float(rng.beta(1.0, 2.5)),
        phase_deg=uniform(rng, -12, 12),
        grey=ranges.grey,
        gain=uniform(rng, 0.0, 0.18),
        density=uniform(rng, *ranges.density),
        black=uniform(rng, 0.0, 0.7),
        cast=(1.0 + float(rng.normal(0, 0.08)), 1.0 + float(rng.normal(0, 0.07)), 1.0 + float(rng.normal(0, 0.12))),
        white_rgb=(uniform(rng, 0.8, 0.95), uniform(rng, 0.8, 0.93), uniform(rng, 0.8, 0.93) - warm),
        grain=log_uniform(rng, 0.003, 0.03),
        streaks=uniform(rng, 0.01, 0.05) if chance(rng, 0.25) else 0.0,
        blur_px=uniform(rng, 0.3, 1.2),
        light=(float(rng.normal(0, 0.15)), float(rng.normal(0, 0.15))),
        curl=float(rng.normal(0, 0.35)),
        glare=(uniform(rng, -1, 1), log_uniform(rng, 0.06, 0.5), uniform(rng, 0.05, ranges.gloss) if chance(rng, 0.25) else 0.0),
        angle_deg=uniform(rng, 0, 180),
    )


def ink(image_rgb: UInt8Array, paper: Paper, rng: Rng) -> UInt8Array:
    """The print itself under even light, (H, W, 3) uint8: separation, dot gain, halftone, ink densities, paper white.

    Ink coverages become densities and densities add (Beer-Lambert, with Yule-Nielsen's n large as for photo paper); a halftone's
    threshold is softened by ``depth`` because at portrait size the camera sees several cells in a pixel.
    """
    image_rgb = cv2.transform(retouch(image_rgb, light_of(image_rgb), paper.retouch), saturation_matrix(paper.vivid))
    cmy = [blur(255 - plane, paper.blur_px).astype(np.float32) / np.float32(255.0) for plane in cv2.split(image_rgb)]
    if paper.grey:
        planes = [cmy[0] * LUMA[0] + cmy[1] * LUMA[1] + cmy[2] * LUMA[2]]
    else:
        common = cv2.min(cv2.min(cmy[0], cmy[1]), cmy[2]) ** 2 * np.float32(paper.black)
        planes = [np.clip(cmy[i] * np.float32(paper.cast[i]) - common, 0.0, 1.0) for i in range(3)] + [common]
    # Dot gain adds 4 g c (1 - c), most at the half tone.
    gain = np.float32(4 * paper.gain)
    planes = [plane * ((1 + gain) - gain * plane) for plane in planes]
    if paper.screen != "none":
        angles = _ANGLES_DEG[-len(planes) :]
        planes = [_halftone(plane, paper, angle + paper.phase_deg, rng) for plane, angle in zip(planes, angles, strict=True)]
    # Coverage acts on the stored values, which are about the square root of light: half the density there.
    densities = _INKS[:, -len(planes) :] * np.float32(-0.5 * paper.density)
    paper_white = np.log(np.sqrt(np.array(paper.white_rgb, np.float32)) * np.float32(255.0))
    printed = cv2.exp(cv2.transform(cv2.merge(planes), np.c_[densities, paper_white]))
    texture = 1.0 + np.float32(paper.grain) * blur(white_noise(rng, planes[0].shape), 0.7)
    if paper.streaks:
        lines = white_noise(rng, (texture.shape[0], 1))
        texture = texture * (1.0 + np.float32(paper.streaks) * blur(lines, 1.2))
    inked: UInt8Array = cv2.convertScaleAbs(printed * texture[:, :, None])
    return inked


def _halftone(coverage: Float32Array, paper: Paper, angle_deg: float, rng: Rng) -> Float32Array:
    """(H, W) float32 ink coverage -> the same as its screen prints it."""
    height, width = coverage.shape
    # A hard threshold is 0 or 1; seen from afar its contrast falls to a share of it.
    screened: Float32Array = (coverage - _threshold(paper, angle_deg, height, width, rng)) * np.float32(3.0) + np.float32(0.5)
    np.clip(screened, 0.0, 1.0, out=screened)
    screened *= np.float32(paper.depth)
    screened += coverage * np.float32(1.0 - paper.depth)
    return screened


def _threshold(paper: Paper, angle_deg: float, height: int, width: int, rng: Rng) -> Float32Array:
    """(height, width) float32 thresholds, about evenly spread over 0..1."""
    if paper.screen in {"noise", "diffusion"}:
        noise = white_noise(rng, (height, width))
        if paper.screen == "diffusion":
            # Error diffusion leaves noise without low frequencies (Ulichney, Digital Halftoning, 1987).
            noise = (noise - blur(noise, 1.0)) * np.float32(1.15)
        spread: Float32Array = np.clip(0.5 + 0.29 * noise, 0.02, 0.98)
        return spread
    a = math.radians(angle_deg)
    step = 2 * math.pi * paper.pitch
    x, y = np.arange(width) * step, np.arange(height) * step
    c, s = math.cos(a), math.sin(a)
    # cos(cx + sy) and cos(cy - sx) by the addition theorem: a thin matrix product in place of a cosine a pixel.
    rows, columns = [np.cos(s * y), -np.sin(s * y)], [np.cos(c * x), np.sin(c * x)]
    if paper.screen == "dot":
        rows, columns = [*rows, np.cos(c * y), np.sin(c * y)], [*columns, np.cos(s * x), np.sin(s * x)]
    waves: Float32Array = np.stack(rows, axis=1).astype(np.float32) @ np.stack(columns).astype(np.float32)
    return waves * np.float32(1.0 / len(rows)) + np.float32(0.5)


def _lit(linear: Float32Array, paper: Paper, pose: Pose) -> Float32Array:
    """Illumination, shading of the bend and the gloss of the paper, on (h, w, 3) linear reflectance in camera geometry."""
    height, width = linear.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    shade = 1.0 + np.float32(paper.light[0]) * x + np.float32(paper.light[1]) * y
    a = math.radians(pose.bend_axis_deg if pose.bend else paper.angle_deg)
    t = np.float32(math.cos(a)) * x + np.float32(math.sin(a)) * y
    if pose.bend:
        # The normal turns by asin(bend t): light from the side brightens one flank and darkens the other.
        shade = shade * (1.0 + np.float32(paper.curl * 2 * pose.bend) * t)
    lit: Float32Array = linear * np.maximum(shade, 0.15)[:, :, None]
    position, breadth, strength = paper.glare
    if strength:
        strip = np.float32(strength * 2.0 * cv2.mean(lit)[1]) * np.exp(-(((t - np.float32(position)) / np.float32(breadth)) ** 2))
        lit = lit + strip[:, :, None]
    return lit


def hold(
    sheet_rgb: UInt8Array, *, paper: Paper, camera: Camera, pose: Pose, surround: Surround | None, rng: Rng, mean_light: float
) -> UInt8Array:
    """An inked sheet held before a camera, as the camera stores it; ``rng`` is used for the sensor's noise alone."""
    height, width = sheet_rgb.shape[:2]
    h, w = camera.frame_size(height, width)
    scene, shown = put_in_scene(sheet_rgb, pose, surround, h, w)
    linear = to_linear(scene)
    lit = _lit(linear, paper, pose)
    if shown is not None:
        lit = linear + (lit - linear) * shown[:, :, None]
    return expose(camera, lit, rng, height=height, width=width, mean_light=mean_light)


def draw_optics(rng: Rng, face: FaceImage, ranges: Range) -> tuple[Paper, Camera, Pose, Surround | None]:
    """One print, camera, pose and surround of the range; an edge is seen in a third of the draws."""
    paper = draw_paper(rng, ranges)
    camera = draw_camera(rng, exposure=(0.6, 1.6))
    pose = draw_pose(rng, rotation_deg=6.0, tilt=0.12, bend=ranges.bend if chance(rng, 0.6) else 0.0)
    edge = chance(rng, 0.35)
    return paper, camera, pose, draw_surround(rng, face, rims_rgb=_RIMS_RGB, rim=0.12, hands=0.6) if edge else None


def print_whole(rng: Rng, face: FaceImage, donor: FaceImage | None, *, ranges: Range) -> Attacked:
    """A sheet of the range held before a camera. Source: FACTS A6 item 2; look after CASIA-FASD and NUAA."""
    del donor
    height, width = face.image_rgb.shape[:2]
    paper, camera, pose, surround = draw_optics(rng, face, ranges)
    sheet = ink(face.image_rgb, paper, rng)
    image = hold(sheet, paper=paper, camera=camera, pose=pose, surround=surround, rng=rng, mean_light=light_of(face.image_rgb))
    return Attacked(image, np.ones((height, width), np.float32), pose.move(face.landmarks_px, height, width))


def cut_holes(rng: Rng, face: FaceImage, behind_rgb: UInt8Array, sheet_rgb: UInt8Array, *, mouth: float, jagged: bool) -> UInt8Array:
    """``sheet_rgb`` with holes at the eyes (and, with probability ``mouth``, the mouth) through which ``behind_rgb`` is seen.

    The paper throws a shadow on what is behind it, deepest under the upper edge, and its cut edge shines white.
    """
    unit = face_width(face.landmarks_px)
    parts = [LEFT_EYE, RIGHT_EYE] + ([MOUTH] if chance(rng, mouth) else [])
    grow = (uniform(rng, 0.9, 1.3), uniform(rng, 1.0, 2.2))
    outlines = [_cut_outline(rng, face.landmarks_px[list(part)], grow, jagged=jagged) for part in parts]
    depth = unit * uniform(rng, 0.01, 0.05)
    fall, shadow = float(rng.normal(0, depth / 2)), uniform(rng, 0.1, 0.6)
    light, shine = uniform(rng, 0.5, 1.0), 2.0 * float(rng.beta(1.0, 3.0))

    cut = sheet_rgb.copy()
    # Work only where holes and their edges are: a third of a chip, a hundredth of a frame.
    height, width = sheet_rgb.shape[:2]
    corners = np.concatenate(outlines)
    x0, y0 = np.clip(np.floor(corners.min(axis=0) - 2 * depth - 2).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(corners.max(axis=0) + 2 * depth + 2).astype(int), 0, (width, height))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return cut
    region = np.s_[y0:y1, x0:x1]
    hole = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for outline in outlines:
        cv2.fillPoly(hole, [np.round((outline - (x0, y0)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    open_ = hole.astype(np.float32) / np.float32(255.0)
    cast = np.array([[1, 0, fall], [0, 1, depth]], np.float32)
    lit = blur(cv2.warpAffine(open_, cast, open_.shape[::-1]), max(0.5, depth / 2))
    seen = behind_rgb[region] * (np.float32(light) * (1.0 - shadow + shadow * lit))[:, :, None]
    soft = blur(open_, max(0.4, unit * 0.006))
    sheet = sheet_rgb[region].astype(np.float32)
    sheet += (245.0 - sheet) * (np.float32(shine) * soft * (1.0 - soft))[:, :, None]
    cut[region] = to_uint8(sheet + (seen - sheet) * open_[:, :, None])
    return cut


def _cut_outline(rng: Rng, points: Float32Array, grow: tuple[float, float], *, jagged: bool) -> Float32Array:
    """An ellipse round the points as scissors leave it: (N, 2) float32; few corners if ``jagged``."""
    centre = points.mean(axis=0)
    reach = np.maximum(np.ptp(points, axis=0) / 2, 1.0) * np.array(grow)
    reach[1] = max(reach[1], 0.3 * reach[0])
    corners = int(rng.integers(5, 9)) if jagged else 24
    angles = (np.arange(corners) + (rng.uniform(-0.3, 0.3, corners) if jagged else 0.0)) * (2 * math.pi / corners)
    radius = 1.0 + rng.normal(0, 0.12 if jagged else 0.04, corners)
    shift = rng.normal(0, 0.06, 2) * reach
    spread = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] * reach
    outline: Float32Array = (centre + shift + spread).astype(np.float32)
    return outline


def _behind(rng: Rng, face: FaceImage, donor: FaceImage | None) -> UInt8Array:
    """What is seen through the holes: the wearer's eyes, misplaced by a little, closed lids, or the dark behind an empty sheet."""
    height, width = face.image_rgb.shape[:2]
    unit = face_width(face.landmarks_px)
    kind = rng.random()
    if kind < 0.2:
        dark = np.empty((height, width, 3), np.uint8)
        dark[:] = rng.integers(5, 70, 3, dtype=np.uint8)
        return dark
    if kind < 0.45:
        # Closed lids and too large a hole show skin without features.
        lids: UInt8Array = wide_blur(face.image_rgb, unit * 0.12)
        return lids
    source, points = (donor.image_rgb, donor.landmarks_px) if donor is not None else (face.image_rgb, face.landmarks_px)
    eyes = [33, 133, 362, 263]
    fit, _ = cv2.estimateAffinePartial2D(points[eyes], face.landmarks_px[eyes], method=cv2.LMEDS)
    if fit is None:
        return face.image_rgb
    fit[:, 2] += rng.normal(0, 0.03 * unit, 2)
    worn: UInt8Array = cv2.warpAffine(source, fit, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return worn


def print_cut(rng: Rng, face: FaceImage, donor: FaceImage | None, *, ranges: Range, mouth: float, jagged: bool) -> Attacked:
    """A print with holes worn as a mask, to pass blink and mouth challenges. Source: CASIA-FASD's "cut photo" (Zhang et al. 2012)."""
    height, width = face.image_rgb.shape[:2]
    paper, camera, pose, surround = draw_optics(rng, face, ranges)
    sheet = ink(face.image_rgb, paper, rng)
    cut = cut_holes(rng, face, _behind(rng, face, donor), sheet, mouth=mouth, jagged=jagged)
    image = hold(cut, paper=paper, camera=camera, pose=pose, surround=surround, rng=rng, mean_light=light_of(face.image_rgb))
    return Attacked(image, np.ones((height, width), np.float32), pose.move(face.landmarks_px, height, width))


HALFTONE = Range("dot", pitch=(0.3, 2.0), depth=(0.02, 0.5))
INKJET = Range("noise", pitch=(1.0, 1.0), depth=(0.02, 0.3))
PHOTO = Range("none", pitch=(1.0, 1.0), depth=(0.0, 0.0), density=(0.9, 1.6), gloss=1.0)
LASER_GREY = Range("dot", pitch=(0.3, 1.5), depth=(0.03, 0.6), grey=True, gloss=0.2)
LINE_SCREEN = Range("line", pitch=(0.25, 0.8), depth=(0.1, 0.5), bend=0.8)
DIFFUSION = Range("diffusion", pitch=(1.0, 1.0), depth=(0.1, 0.6), bend=0.3)

PRINTS = (
    Attack("print_halftone", "print", False, False, partial(print_whole, ranges=HALFTONE)),
    Attack("print_inkjet", "print", False, False, partial(print_whole, ranges=INKJET)),
    Attack("print_photo", "print", False, False, partial(print_whole, ranges=PHOTO)),
    Attack("print_laser_grey", "print", False, False, partial(print_whole, ranges=LASER_GREY)),
    Attack("print_line_screen", "print", True, False, partial(print_whole, ranges=LINE_SCREEN)),
    Attack("print_diffusion", "print", True, False, partial(print_whole, ranges=DIFFUSION)),
    Attack("print_cut_eyes", "print_cut", False, False, partial(print_cut, ranges=PHOTO, mouth=0.0, jagged=False)),
    Attack("print_cut_inkjet", "print_cut", False, False, partial(print_cut, ranges=INKJET, mouth=0.5, jagged=False)),
    Attack("print_cut_polygon", "print_cut", True, False, partial(print_cut, ranges=HALFTONE, mouth=0.7, jagged=True)),
)
