"""Replay attacks: a face on a display, photographed again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.optics import (
    Camera,
    Pose,
    Rng,
    chance,
    draw_camera,
    draw_pose,
    expose,
    light_of,
    log_uniform,
    retouch,
    smooth_field,
    to_linear,
    uniform,
)
from kyc_guard.attacks.scene import Surround, draw_surround, put_in_scene
from kyc_guard.recoding import jpeg
from kyc_guard.types import Float32Array, UInt8Array

_BEZELS_RGB = ((12, 12, 14), (28, 28, 30), (6, 6, 8), (228, 228, 226))


@dataclass(frozen=True, slots=True)
class Range:
    """The displays one simulator draws from.

    Attributes:
        pitch: display pixels per sensor pixel. Near 0.5 and 1 the sensor beats with the grid, beyond 3 it cannot see it.
        layout: "stripe" (LCD), "pentile" (OLED diamond) or "none" (denser than any camera resolves).
        exposure: factor on the camera's exposure. blue: how far white leans to blue, 0.3 strong, negative warm.
        lift: light of the black level and of the room's reflection, share of white. bezel: probability that the edge is seen.
    """

    pitch: tuple[float, float]
    layout: str
    exposure: tuple[float, float]
    blue: tuple[float, float]
    lift: tuple[float, float]
    bezel: float


@dataclass(frozen=True, slots=True)
class Display:
    """One display, its picture and its reflections.

    Attributes:
        pitch: display pixels per sensor pixel. grid_deg: the grid's turn against the picture. depth: 0..1, how much of the grid
            is left after diffusers and screen protectors. duty: lit share of a sub-pixel's cell along the row and across.
        aperture: photosite width in sensor pixels. gamma: relative to the picture's own. white: light of R, G, B at white.
        falloff: change of light to the right and down (viewing angle). band: amplitude, cycles over the frame and phase of the
            refresh band. glare: x, y, radius (halves of the frame), strength in mean light.
        retouch: share of the way to a well exposed picture. kept: share of resolution and JPEG quality of the file shown.
    """

    layout: str
    pitch: float
    grid_deg: float
    depth: float
    duty: tuple[float, float]
    aperture: float
    gamma: float
    white: tuple[float, float, float]
    lift: float
    saturation: float
    falloff: tuple[float, float]
    band: tuple[float, float, float]
    glare: tuple[tuple[float, float, float, float], ...]
    reflection_seed: int
    reflection: float
    retouch: float
    kept: tuple[float, int]


def draw_display(rng: Rng, ranges: Range) -> Display:
    """One display of the range; most draws moderate."""
    blue = uniform(rng, *ranges.blue)
    glare = tuple(
        (uniform(rng, -1, 1), uniform(rng, -1, 1), log_uniform(rng, 0.05, 0.5), log_uniform(rng, 0.1, 2.0))
        for _ in range(int(rng.integers(1, 4)) if chance(rng, 0.2) else 0)
    )
    return Display(
        layout=ranges.layout,
        pitch=log_uniform(rng, *ranges.pitch),
        grid_deg=float(rng.normal(0, 4)),
        depth=float(rng.beta(1.2, 2.2)),
        duty=(uniform(rng, 0.22, 0.32), uniform(rng, 0.7, 0.95)),
        aperture=uniform(rng, 0.5, 1.0),
        gamma=uniform(rng, 0.8, 1.4),
        white=(1.0 - 0.8 * blue, 1.0 - 0.25 * blue, 1.0 + 0.8 * blue),
        lift=ranges.lift[0] + (ranges.lift[1] - ranges.lift[0]) * float(rng.beta(1.0, 2.5)),
        saturation=uniform(rng, 0.75, 1.4),
        falloff=(float(rng.normal(0, 0.10)), float(rng.normal(0, 0.14))),
        band=(uniform(rng, 0.03, 0.2) if chance(rng, 0.25) else 0.0, log_uniform(rng, 0.4, 4.0), uniform(rng, 0, 1)),
        glare=glare,
        reflection_seed=int(rng.integers(2**31)),
        reflection=uniform(rng, 0.02, 0.3) if chance(rng, 0.3) else 0.0,
        retouch=uniform(rng, 0.0, 1.0),
        kept=(uniform(rng, 0.4, 1.0) if chance(rng, 0.5) else 1.0, int(rng.integers(40, 95)) if chance(rng, 0.6) else 0),
    )


def grid_waveforms(display: Display, lens_blur_px: float) -> tuple[Float32Array, Float32Array]:
    """The grid's light over one period as a photosite sees it: (256,) along the row and (256,) across, mean 1.

    A lit box of width d repeated with period 1 has the Fourier terms 2 sinc(kd); a photosite a pixels wide under a lens of Gaussian
    blur s attenuates term k by sinc(k f a) exp(-2 (pi k f s)^2), f the pitch. Evaluated only at photosite centres this *is* the
    aliasing a camera produces (Goodman, Introduction to Fourier Optics, ch. 2 and 6); no supersampling is needed.
    """
    t = np.arange(256) / 256.0
    waves = []
    for duty in display.duty:
        wave = np.ones(256)
        for k in (1, 2, 3):
            passed = np.sinc(k * display.pitch * display.aperture) * math.exp(-2.0 * (math.pi * k * display.pitch * lens_blur_px) ** 2)
            wave += display.depth * 2.0 * np.sinc(k * duty) * passed * np.cos(2 * np.pi * k * t)
        waves.append(np.maximum(wave, 0.0).astype(np.float32))
    return waves[0], waves[1]


def _grid(display: Display, pose: Pose, lens_blur_px: float, height: int, width: int) -> Float32Array:
    """(height, width, 3) float32: the light each photosite gets of each sub-pixel colour, mean about 1."""
    row, column = grid_waveforms(display, lens_blur_px)
    x, y = pose.picture_coordinates(height, width)
    a = math.radians(display.grid_deg)
    # Phases count 256 to the display pixel, so that a byte wraps where the pixel does.
    step = 256.0 * display.pitch * max(height, width) / 2
    c, s = np.float32(step * math.cos(a)), np.float32(step * math.sin(a))
    u, v = (c * x + s * y).astype(np.int32), (c * y - s * x).astype(np.int32)
    if display.layout == "stripe":
        across = cv2.LUT(v.astype(np.uint8), column)
        phase = u.astype(np.uint8)
        stripes: Float32Array = cv2.merge([cv2.LUT(phase, np.roll(row, shift)) * across for shift in (0, 85, 171)])
        return stripes
    # Diamond PenTile: green on every pixel, red and blue on alternate ones, that is on a grid turned by 45 degrees.
    green = cv2.LUT(u.astype(np.uint8), row) * cv2.LUT(v.astype(np.uint8), row)
    p, q = ((u + v) // 2).astype(np.uint8), ((u - v) // 2).astype(np.uint8)
    red = cv2.LUT(p, row) * cv2.LUT(q, row)
    blue = cv2.LUT(p, np.roll(row, 128)) * cv2.LUT(q, row)
    diamonds: Float32Array = cv2.merge([red, green, blue])
    return diamonds


def _emit(linear: Float32Array, display: Display, band_phase: float) -> Float32Array:
    """Light of the display at the camera: gamma, white point, black level, viewing angle, refresh band."""
    height, width = linear.shape[:2]
    grey = np.full((3, 3), (1.0 - display.saturation) / 3, np.float32)
    colour = (grey + np.eye(3, dtype=np.float32) * np.float32(display.saturation)) * np.array(display.white, np.float32)[:, None]
    light = cv2.transform(linear, np.c_[colour, np.full(3, display.lift, np.float32)])
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    amplitude, cycles, phase = display.band
    rows = 1.0 + display.falloff[1] * y + amplitude * np.sin(2 * np.pi * (cycles * y / 2 + phase + band_phase))
    columns = 1.0 + display.falloff[0] * x
    shade = np.maximum(rows[:, None] * columns[None, :], 0.1).astype(np.float32)
    emitted: Float32Array = light * shade[:, :, None]
    return emitted


def _reflect(light: Float32Array, display: Display) -> Float32Array:
    """Adds lamps and the room mirrored in the glass."""
    height, width = light.shape[:2]
    size = max(height, width) / 2
    extra = np.zeros((height // 4 + 1, width // 4 + 1), np.float32)
    h, w = extra.shape
    for gx, gy, radius, strength in display.glare:
        x = (np.linspace(-width / 2, width / 2, w, dtype=np.float32) / size - gx)[None, :]
        y = (np.linspace(-height / 2, height / 2, h, dtype=np.float32) / size - gy)[:, None]
        extra += np.float32(strength) * np.exp(-(x * x + y * y) / np.float32(radius * radius))
    if display.reflection:
        extra += np.float32(display.reflection) * (1.0 + smooth_field(np.random.default_rng(display.reflection_seed), h, w, 5))
    mean = np.float32(cv2.mean(light)[1])
    wide: Float32Array = cv2.resize(extra * mean, (width, height), interpolation=cv2.INTER_LINEAR)
    return light + wide[:, :, None]


def show(
    image_rgb: UInt8Array,
    *,
    display: Display,
    camera: Camera,
    pose: Pose,
    surround: Surround | None,
    rng: Rng,
    band_phase: float = 0.0,
    mean_light: float | None = None,
) -> UInt8Array:
    """One picture on the display as the camera stores it; ``rng`` is used for the sensor's noise alone."""
    height, width = image_rgb.shape[:2]
    h, w = camera.frame_size(height, width)
    mean_light = light_of(image_rgb) if mean_light is None else mean_light
    scene, shown = put_in_scene(_played(retouch(image_rgb, mean_light, display.retouch), display), pose, surround, h, w)
    linear = to_linear(scene)
    if abs(display.gamma - 1.0) > 0.02:
        linear = cv2.pow(linear, display.gamma)
    light = _emit(linear, display, band_phase)
    if display.layout != "none":
        grid = _grid(display, pose, camera.blur_px, h, w)
        light = light * grid if shown is None else light * (1.0 + shown[:, :, None] * (grid - 1.0))
    if display.glare or display.reflection:
        light = _reflect(light, display)
    return expose(camera, light, rng, height=height, width=width, mean_light=mean_light)


def _played(image_rgb: UInt8Array, display: Display) -> UInt8Array:
    """The file the display shows: fewer pixels, one JPEG more, and the display's own pixels where they are coarse."""
    height, width = image_rgb.shape[:2]
    share, quality = display.kept
    if share < 1.0:
        small = cv2.resize(image_rgb, (max(16, round(width * share)), max(16, round(height * share))), interpolation=cv2.INTER_AREA)
        image_rgb = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if quality:
        image_rgb = jpeg(image_rgb, quality)
    if display.pitch < 0.75 and display.layout != "none":
        grid = (max(16, round(width * display.pitch)), max(16, round(height * display.pitch)))
        image_rgb = cv2.resize(cv2.resize(image_rgb, grid, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_NEAREST)
    return image_rgb


def draw_optics(rng: Rng, face: FaceImage, ranges: Range) -> tuple[Display, Camera, Pose, Surround | None]:
    """One display, camera, pose and surround of the range."""
    display = draw_display(rng, ranges)
    camera = draw_camera(rng, exposure=ranges.exposure)
    pose = draw_pose(rng, rotation_deg=5.0, tilt=0.12)
    bezel = chance(rng, ranges.bezel)
    return display, camera, pose, draw_surround(rng, face, rims_rgb=_BEZELS_RGB, rim=0.35, hands=0.4) if bezel else None


def replay(rng: Rng, face: FaceImage, donor: FaceImage | None, *, ranges: Range) -> Attacked:
    """A display of the range held before a camera.

    Source: FACTS A6 item 2 (sub-pixel stripes, true resampling moire, Bayer, codec); look after CASIA-FASD and phone replays.
    """
    del donor
    height, width = face.image_rgb.shape[:2]
    display, camera, pose, surround = draw_optics(rng, face, ranges)
    image = show(face.image_rgb, display=display, camera=camera, pose=pose, surround=surround, rng=rng)
    return Attacked(image, np.ones((height, width), np.float32), pose.move(face.landmarks_px, height, width))


MONITOR = Range(pitch=(0.35, 1.2), layout="stripe", exposure=(0.7, 1.6), blue=(-0.1, 0.35), lift=(0.0, 0.08), bezel=0.15)
PHONE = Range(pitch=(0.9, 3.5), layout="stripe", exposure=(0.7, 1.8), blue=(-0.1, 0.4), lift=(0.0, 0.12), bezel=0.4)
RETINA = Range(pitch=(4.0, 8.0), layout="none", exposure=(0.7, 1.8), blue=(-0.15, 0.4), lift=(0.0, 0.15), bezel=0.2)
DARK_ROOM = Range(pitch=(1.2, 5.0), layout="stripe", exposure=(1.2, 2.8), blue=(0.05, 0.5), lift=(0.0, 0.05), bezel=0.25)
HAZY = Range(pitch=(3.0, 8.0), layout="none", exposure=(0.8, 1.9), blue=(-0.15, 0.3), lift=(0.06, 0.35), bezel=0.1)
OLED = Range(pitch=(0.8, 3.0), layout="pentile", exposure=(0.7, 2.0), blue=(-0.05, 0.35), lift=(0.0, 0.05), bezel=0.4)
WARM_TABLET = Range(pitch=(1.6, 2.4), layout="stripe", exposure=(0.7, 1.4), blue=(-0.35, -0.1), lift=(0.02, 0.2), bezel=0.3)

SCREENS = (
    Attack("screen_monitor", "replay", False, False, partial(replay, ranges=MONITOR)),
    Attack("screen_phone", "replay", False, False, partial(replay, ranges=PHONE)),
    Attack("screen_retina", "replay", False, False, partial(replay, ranges=RETINA)),
    Attack("screen_dark_room", "replay", False, False, partial(replay, ranges=DARK_ROOM)),
    Attack("screen_hazy", "replay", False, False, partial(replay, ranges=HAZY)),
    Attack("screen_oled", "replay", True, False, partial(replay, ranges=OLED)),
    Attack("screen_warm_tablet", "replay", True, False, partial(replay, ranges=WARM_TABLET)),
)
