"""Light, lens and sensor of the second camera, and the pose of the flat or bent thing it looks at.

Every physical attack is a picture photographed again; what differs is what shows the picture (ink, display, mask). Pictures are
(H, W, 3) float32 RGB in *linear* light with 1.0 = sensor saturation, or uint8 RGB as stored. The transfer curve is a square law:
close to sRGB, its own exact inverse, and it makes photon noise constant (Anscombe 1948), so noise is added after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from kyc_guard.recoding import jpeg
from kyc_guard.types import Float32Array, UInt8Array

Rng: TypeAlias = np.random.Generator

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MIDDLE_GREY = 0.22
_LINEAR = (np.arange(256, dtype=np.float32) / 255.0) ** 2


def _normal_quantiles() -> Float32Array:
    # Inverse error function by bisection: 256 quantiles make a Gaussian source out of random bytes, ten times faster than a ziggurat.
    low, high = np.full(256, -5.0), np.full(256, 5.0)
    wanted = (np.arange(256) + 0.5) / 128.0 - 1.0
    for _ in range(40):
        middle = (low + high) / 2
        below = np.array([math.erf(z) for z in middle]) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    values = low * math.sqrt(2)
    quantiles: Float32Array = (values / values.std()).astype(np.float32)
    return quantiles


_QUANTILES = _normal_quantiles()


def uniform(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def to_linear(image_rgb: UInt8Array) -> Float32Array:
    """(H, W, 3) uint8 as stored -> (H, W, 3) float32 linear light in 0..1."""
    linear: Float32Array = cv2.LUT(image_rgb, _LINEAR)
    return linear


def light_of(image_rgb: UInt8Array) -> float:
    """Centre-weighted mean linear light of a stored picture, by its green channel."""
    h, w = image_rgb.shape[:2]
    return float(cv2.mean(cv2.LUT(np.ascontiguousarray(image_rgb[h // 4 : h - h // 4, w // 4 : w - w // 4, 1]), _LINEAR))[0])


def retouch(image_rgb: UInt8Array, light: float, share: float) -> UInt8Array:
    """Who shows a picture shows a well exposed one: a gamma brings ``light`` (see `light_of`) ``share`` 0..1 of the way to middle grey."""
    gamma = float(np.clip((math.log(_MIDDLE_GREY) / math.log(min(max(light, 0.005), 0.9))) ** share, 0.5, 1.6))
    curve = np.round(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    retouched: UInt8Array = cv2.LUT(image_rgb, curve)
    return retouched


def to_uint8(values: Float32Array) -> UInt8Array:
    """Rounds and saturates values in 0..255."""
    stored: UInt8Array = cv2.convertScaleAbs(np.maximum(values, 0.0))
    return stored


def white_noise(rng: Rng, shape: tuple[int, ...]) -> Float32Array:
    """Standard normal noise, float32, from one random byte a value."""
    count = math.prod(shape)
    noise: Float32Array = cv2.LUT(np.frombuffer(rng.bytes(count), np.uint8).reshape(1, count), _QUANTILES)
    return noise.reshape(shape)


def smooth_field(rng: Rng, height: int, width: int, cells: int, channels: int = 1) -> Float32Array:
    """A random cloud: (H, W) or (H, W, channels) float32 in about -1..1 with ``cells`` bumps across."""
    grid = rng.uniform(-1.0, 1.0, (cells + 1, cells + 1, channels)).astype(np.float32)
    field: Float32Array = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return field


def blur(image: Any, sigma_px: float) -> Any:
    """Gaussian blur of any dtype; the identity below a tenth of a pixel."""
    return image if sigma_px < 0.1 else cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)


def wide_blur(image: Any, sigma_px: float) -> Any:
    """Gaussian blur of many pixels, worked at the resolution that is left of it."""
    step = int(sigma_px / 2)
    if step < 2:
        return blur(image, sigma_px)
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(2, width // step), max(2, height // step)), interpolation=cv2.INTER_AREA)
    return cv2.resize(blur(small, sigma_px / step), (width, height), interpolation=cv2.INTER_LINEAR)


# ---------------------------------------------------------------------------------------------------------------- pose


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a shown picture stands before the camera. Lengths are shares of half the picture's longer side.

    ``bend`` is the curvature of a cylinder (0 flat, 0.8 strong) whose axis is turned by ``bend_axis_deg`` from upright;
    ``sag`` bows the straight edges, as a camera above or below the axis sees them.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 1.0
    tilt_x: float = 0.0
    tilt_y: float = 0.0
    bend: float = 0.0
    bend_axis_deg: float = 0.0
    sag: float = 0.0

    def plane(self) -> Float32Array:
        """(3, 3): picture to camera homography in centred, normalised coordinates."""
        a = math.radians(self.rotation_deg)
        c, s = self.scale * math.cos(a), self.scale * math.sin(a)
        return np.array([[c, -s, self.shift_x], [s, c, self.shift_y], [self.tilt_x, self.tilt_y, 1.0]], np.float32)

    def move(self, points_px: Float32Array, height: int, width: int) -> Float32Array:
        """(N, 2) picture pixels -> (N, 2) float32 camera pixels, both of a (height, width) frame."""
        points = _normalise(points_px, height, width)
        if self.bend or self.sag:
            c, s = _axis(self.bend_axis_deg)
            t, r = c * points[:, 0] + s * points[:, 1], c * points[:, 1] - s * points[:, 0]
            if self.bend:
                t = np.sin(np.clip(self.bend * t, -1.5, 1.5)) / self.bend
            r = r - self.sag * t * t
            points = np.stack([c * t - s * r, s * t + c * r], axis=1)
        seen = np.c_[points, np.ones(len(points))] @ self.plane().T
        return _pixels(seen[:, :2] / seen[:, 2:], height, width)

    def photograph(self, picture: Any, height_px: int, width_px: int, border: int = cv2.BORDER_REFLECT_101) -> Any:
        """The (H, W[, C]) picture as a (height_px, width_px) camera frame sees it, linearly interpolated."""
        height, width = picture.shape[:2]
        if not (self.bend or self.sag):
            there = _from_normal(height_px, width_px) @ self.plane() @ np.linalg.inv(_from_normal(height, width))
            return cv2.warpPerspective(picture, there, (width_px, height_px), flags=cv2.INTER_LINEAR, borderMode=border)
        x, y = self.picture_coordinates(height_px, width_px)
        half = max(height, width) / 2
        x, y = x * half + (width - 1) / 2, y * half + (height - 1) / 2
        return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border)

    def picture_coordinates(self, height_px: int, width_px: int) -> tuple[Float32Array, Float32Array]:
        """Normalised picture coordinates (x, y), each (height_px, width_px) float32, under each camera pixel."""
        back = np.linalg.inv(self.plane()).astype(np.float32)
        half = max(height_px, width_px) / 2
        u = ((np.arange(width_px, dtype=np.float32) - (width_px - 1) / 2) / np.float32(half))[None, :]
        v = ((np.arange(height_px, dtype=np.float32) - (height_px - 1) / 2) / np.float32(half))[:, None]
        w = 1.0 / (back[2, 0] * u + back[2, 1] * v + back[2, 2])
        x, y = (back[0, 0] * u + back[0, 1] * v + back[0, 2]) * w, (back[1, 0] * u + back[1, 1] * v + back[1, 2]) * w
        if self.bend or self.sag:
            c, s = _axis(self.bend_axis_deg)
            t, r = c * x + s * y, c * y - s * x
            r = r + self.sag * t * t
            if self.bend:
                t = np.arcsin(np.clip(self.bend * t, -0.99, 0.99)) / np.float32(self.bend)
            x, y = c * t - s * r, s * t + c * r
        return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def draw_pose(rng: Rng, *, rotation_deg: float = 6.0, tilt: float = 0.10, bend: float = 0.0) -> Pose:
    """A hand-held pose: most draws nearly frontal, ``rotation_deg`` and ``tilt`` are about two standard deviations."""
    bent = bend * float(rng.beta(1.0, 2.0))
    return Pose(
        shift_x=float(rng.normal(0, 0.03)),
        shift_y=float(rng.normal(0, 0.03)),
        rotation_deg=float(rng.normal(0, rotation_deg / 2)),
        scale=float(rng.normal(1.04, 0.03)),
        tilt_x=float(rng.normal(0, tilt / 2)),
        tilt_y=float(rng.normal(0, tilt / 2)),
        bend=bent,
        bend_axis_deg=uniform(rng, -25, 25) + (90.0 if chance(rng, 0.3) else 0.0),
        sag=bent * uniform(rng, -0.15, 0.15),
    )


def _axis(angle_deg: float) -> tuple[float, float]:
    return math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))


def _normalise(points_px: Float32Array, height: int, width: int) -> Float32Array:
    centred = points_px - np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    return (centred / np.float32(max(height, width) / 2)).astype(np.float32, copy=False)


def _pixels(points: Any, height: int, width: int) -> Float32Array:
    pixels: Float32Array = (points * (max(height, width) / 2) + np.array([(width - 1) / 2, (height - 1) / 2])).astype(np.float32)
    return pixels


def _from_normal(height: int, width: int) -> Any:
    half = max(height, width) / 2
    return np.array([[half, 0, (width - 1) / 2], [0, half, (height - 1) / 2], [0, 0, 1]], np.float64)


# -------------------------------------------------------------------------------------------------------------- camera


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera and its settings for one shot.

    Attributes:
        resolution: sensor pixels per picture pixel; below 1 the attack was filmed from further away or by a poorer camera.
        exposure: mean linear light relative to what the meter wants. metering: 0 the original picture's light, 1 a middle grey.
        white_balance: gains of R, G, B.
        haze: stray light in the lens, share of the mean light added everywhere. bloom: share spread around highlights.
        blur_px, motion_px, motion_deg: defocus and shake, in sensor pixels.
        noise: standard deviation after the transfer curve, 0..1. bayer: mosaic and demosaic.
        contrast, saturation, sharpen: of the camera's own processing. quality: of its JPEG, 0 = none.
    """

    resolution: float
    exposure: float
    metering: float
    white_balance: tuple[float, float, float]
    haze: float
    bloom: float
    vignette: float
    blur_px: float
    motion_px: float
    motion_deg: float
    noise: float
    bayer: bool
    contrast: float
    saturation: float
    sharpen: float
    quality: int

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """Even sensor height and width in pixels for a (height, width) picture."""
        return max(16, 2 * round(height * self.resolution / 2)), max(16, 2 * round(width * self.resolution / 2))


def draw_camera(rng: Rng, exposure: tuple[float, float] = (0.7, 1.4)) -> Camera:
    """A webcam or phone: most draws ordinary, some over-exposed, hazy, blurred, noisy or of low resolution."""
    warmth, tint = float(rng.normal(0, 0.10)), float(rng.normal(0, 0.04))
    return Camera(
        resolution=uniform(rng, 0.45, 0.8) if chance(rng, 0.4) else uniform(rng, 0.8, 1.15),
        exposure=log_uniform(rng, *exposure),
        metering=uniform(rng, 0.2, 1.0),
        white_balance=(math.exp(warmth), math.exp(tint), math.exp(-warmth)),
        haze=uniform(rng, 0.0, 0.4) if chance(rng, 0.2) else uniform(rng, 0.0, 0.06),
        bloom=uniform(rng, 0.05, 0.35) if chance(rng, 0.3) else 0.0,
        vignette=uniform(rng, 0.0, 0.35) if chance(rng, 0.5) else 0.0,
        blur_px=float(rng.gamma(2.0, 0.28)),
        motion_px=uniform(rng, 1.0, 5.0) if chance(rng, 0.12) else 0.0,
        motion_deg=uniform(rng, 0.0, 180.0),
        noise=log_uniform(rng, 0.0015, 0.02),
        bayer=chance(rng, 0.7),
        contrast=uniform(rng, 0.85, 1.35),
        saturation=uniform(rng, 0.75, 1.45),
        sharpen=uniform(rng, 0.2, 1.2) if chance(rng, 0.5) else 0.0,
        quality=int(rng.integers(45, 96)) if chance(rng, 0.6) else 0,
    )


def expose(camera: Camera, linear: Float32Array, rng: Rng, *, height: int, width: int, mean_light: float) -> UInt8Array:
    """What the camera stores of the light that falls on its sensor: (height, width, 3) uint8 RGB.

    ``linear`` is (h, w, 3) float32 light at `Camera.frame_size`; ``mean_light`` the original picture's (see `light_of`), to which
    the exposure is relative.
    """
    h, w = linear.shape[:2]
    linear = _lens(camera, linear)
    target = camera.exposure * max(mean_light, 0.01) ** (1.0 - camera.metering) * _MIDDLE_GREY**camera.metering
    gain = target / max(float(cv2.mean(linear[h // 4 : h - h // 4, w // 4 : w - w // 4])[1]), 1e-3)
    light = cv2.multiply(linear, (*(gain * g for g in camera.white_balance), 0.0))
    stray = camera.haze * target
    if camera.bloom:
        # Highlights beyond saturation spread in the lens and the sensor: the glow round a bright display in a dark room.
        glow = wide_blur(light, max(8.0, w / 10))
        light = cv2.addWeighted(light, 1.0, glow, camera.bloom, stray)
    elif stray:
        light = cv2.add(light, (stray, stray, stray, 0.0))
    if camera.vignette:
        light = light * _vignette(h, w, camera.vignette)[:, :, None]
    stored = _sensor(camera, cv2.sqrt(np.clip(light, 0.0, 1.0)), rng)
    return _processing(camera, stored, height, width)


def _lens(camera: Camera, linear: Float32Array) -> Float32Array:
    if camera.motion_px:
        length = int(2 * round(camera.motion_px) + 1)
        kernel = np.zeros((length, length), np.float32)
        c, s = _axis(camera.motion_deg)
        middle, reach = length // 2, camera.motion_px / 2
        ends = [(round(middle + d * reach * c), round(middle + d * reach * s)) for d in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        linear = cv2.filter2D(linear, -1, kernel / kernel.sum())
    blurred: Float32Array = blur(linear, camera.blur_px)
    return blurred


def _vignette(h: int, w: int, strength: float) -> Float32Array:
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    fall: Float32Array = 1.0 - np.float32(strength / 2) * (x * x + y * y)
    return fall


def _sensor(camera: Camera, encoded: Float32Array, rng: Rng) -> UInt8Array:
    h, w = encoded.shape[:2]
    if not camera.bayer:
        noise = white_noise(rng, (h, w, 3)) * np.float32(255.0 * camera.noise)
        return to_uint8(cv2.scaleAdd(encoded, 255.0, noise))
    mosaic = np.empty((h, w), np.float32)
    mosaic[0::2, 0::2] = encoded[0::2, 0::2, 0]
    mosaic[0::2, 1::2] = encoded[0::2, 1::2, 1]
    mosaic[1::2, 0::2] = encoded[1::2, 0::2, 1]
    mosaic[1::2, 1::2] = encoded[1::2, 1::2, 2]
    noise = white_noise(rng, (h, w)) * np.float32(255.0 * camera.noise)
    raw = to_uint8(cv2.scaleAdd(mosaic, 255.0, noise))
    # OpenCV names the pattern by the second row's second and third pixel: its "BG" is what everyone else calls RGGB.
    demosaiced: UInt8Array = cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB)
    return demosaiced


def saturation_matrix(saturation: float) -> Float32Array:
    """(3, 3) float32 that scales the distance from grey and keeps luma; for `cv2.transform`."""
    matrix: Float32Array = np.eye(3, dtype=np.float32) * np.float32(saturation) + LUMA * np.float32(1.0 - saturation)
    return matrix


def _processing(camera: Camera, stored: UInt8Array, height: int, width: int) -> UInt8Array:
    mix = camera.contrast * saturation_matrix(camera.saturation)
    offset = 110.0 * (1.0 - camera.contrast)
    image: UInt8Array = cv2.transform(stored, np.c_[mix, np.full(3, offset, np.float32)])
    if camera.sharpen:
        image = cv2.addWeighted(image, 1.0 + camera.sharpen, blur(image, 1.0), -camera.sharpen, 0.0)
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] > height
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return jpeg(image, camera.quality) if camera.quality else image


def live_capture(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """The faults any camera has, without anything shown to it: (H, W, 3) uint8 RGB in and out.

    For bona fide pictures in training: noise, exposure, white balance, haze, blur, demosaicing and low resolution must not become
    the label, only what paper, display or mask adds to them.
    """
    height, width = image_rgb.shape[:2]
    camera = draw_camera(rng, exposure=(0.5, 2.0))
    h, w = camera.frame_size(height, width)
    seen = cv2.resize(image_rgb, (w, h), interpolation=cv2.INTER_AREA if h < height else cv2.INTER_LINEAR)
    return expose(camera, to_linear(seen), rng, height=height, width=width, mean_light=light_of(image_rgb))
