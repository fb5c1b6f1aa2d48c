"""Photometry shared by the digital attacks: colour transfer, what a network or a codec does to a region, and the blend itself."""

from __future__ import annotations

import cv2
import numpy as np

from kyc_guard.types import Float32Array, UInt8Array

# ITU-R BT.601 luma and colour differences; rows Y, R-Y, B-Y.
_TO_YCC = np.array([[0.299, 0.587, 0.114], [0.701, -0.587, -0.114], [-0.299, -0.587, 0.886]])
_GREY_STD = 2.0
_JPEG = (cv2.IMWRITE_JPEG_QUALITY,)


def blend(over_rgb: UInt8Array, under_rgb: UInt8Array, mask: Float32Array) -> UInt8Array:
    """``mask * over + (1 - mask) * under``; pictures (H, W, 3) uint8, mask (H, W) in 0..1."""
    mixed: UInt8Array = cv2.blendLinear(over_rgb, under_rgb, mask, 1 - mask)
    return mixed


def clone(over_rgb: UInt8Array, under_rgb: UInt8Array, mask: Float32Array) -> UInt8Array:
    """Gradient-domain paste (P. Perez et al., "Poisson Image Editing", SIGGRAPH 2003) of ``over`` where the mask exceeds one half.

    Falls back to `blend` where the region is too small for the solver.
    """
    region = (mask > 0.5).astype(np.uint8)
    # OpenCV places the region's bounding box about the point given; a region on the rim would be placed beside it.
    region[[0, 1, -2, -1], :] = 0
    region[:, [0, 1, -2, -1]] = 0
    x, y, w, h = cv2.boundingRect(region)
    if w < 8 or h < 8:
        return blend(over_rgb, under_rgb, mask)
    cloned: UInt8Array = cv2.seamlessClone(over_rgb, under_rgb, region * 255, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)
    return cloned


def match_colour(image_rgb: UInt8Array, reference_rgb: UInt8Array, mask: Float32Array, strength: float = 1.0) -> UInt8Array:
    """Give ``image_rgb`` the mean and spread of luma and both colour differences that ``reference_rgb`` has under ``mask``.

    A grey image takes the smoothed colour of the reference; onto a grey reference everything turns grey.

    Source: E. Reinhard et al., "Color Transfer between Images", IEEE CG&A 2001, in BT.601 luma and colour differences, where
    the whole transfer is one 3x4 matrix on RGB.
    """
    inside = mask > 0.5
    if np.count_nonzero(inside) < 16:
        return image_rgb
    mean, spread = _statistics(image_rgb[inside])
    mean_ref, spread_ref = _statistics(reference_rgb[inside])
    gain = np.clip(spread_ref / np.maximum(spread, 1e-3), 0.0, 2.5)
    grey = float(spread[1:].max()) < _GREY_STD <= float(spread_ref[1:].max())
    if grey:
        gain[1:] = 0.0
    gain = 1 + strength * (gain - 1)
    matrix = np.linalg.inv(_TO_YCC) @ np.diag(gain) @ _TO_YCC
    shift = np.linalg.inv(_TO_YCC) @ (mean + strength * (mean_ref - mean) - gain * mean)
    matched: UInt8Array = cv2.transform(image_rgb, np.column_stack([matrix, shift]).astype(np.float32))
    if grey:
        colour = cv2.blur(reference_rgb, (9, 9)).astype(np.int16)
        luma = cv2.cvtColor(colour.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.int16)
        target = cv2.cvtColor(matched, cv2.COLOR_RGB2GRAY).astype(np.int16)
        matched = np.clip(colour + (target - luma)[..., None], 0, 255).astype(np.uint8)
    return matched


def _statistics(
    pixels_rgb: UInt8Array,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Mean (3,) and standard deviation (3,) of luma and colour differences of (N, 3) pixels."""
    ycc = pixels_rgb[:: max(1, len(pixels_rgb) // 4096)].astype(np.float64) @ _TO_YCC.T
    return ycc.mean(axis=0), ycc.std(axis=0)


def shift_tone(rng: np.random.Generator, image_rgb: UInt8Array, amount: float = 1.0) -> UInt8Array:
    """Random channel shifts up to 20 levels (p .3), brightness and contrast up to 10 % and saturation up to 15 %, times ``amount``."""
    shift = rng.uniform(-20, 20, size=3) * (rng.random() < 0.3) + rng.uniform(-0.1, 0.1) * 128
    contrast = 1 + amount * rng.uniform(-0.1, 0.1)
    saturation = 1 + amount * rng.uniform(-0.15, 0.15)
    grey = np.tile(_TO_YCC[0], (3, 1))
    matrix = contrast * (grey + saturation * (np.eye(3) - grey))
    offset = amount * shift + 128 * (1 - contrast)
    toned: UInt8Array = cv2.transform(image_rgb, np.column_stack([matrix, offset]).astype(np.float32))
    return toned


def sharpen(image_rgb: UInt8Array, amount: float, sigma_px: float = 1.0) -> UInt8Array:
    """Unsharp mask."""
    soft = cv2.GaussianBlur(image_rgb, (0, 0), sigma_px)
    crisp: UInt8Array = cv2.addWeighted(image_rgb, 1 + amount, soft, -amount, 0)
    return crisp


def soften(image_rgb: UInt8Array, sigma_px: float) -> UInt8Array:
    """Gaussian blur; below 0.2 px nothing is left to do."""
    return image_rgb if sigma_px < 0.2 else cv2.GaussianBlur(image_rgb, (0, 0), sigma_px)


def resample(image_rgb: UInt8Array, factor: float, up: int = cv2.INTER_CUBIC, down: int = cv2.INTER_AREA) -> UInt8Array:
    """Down to ``factor`` of the size and back up: the detail a smaller picture would have carried."""
    height_px, width_px = image_rgb.shape[:2]
    if factor >= 1:
        return image_rgb
    small = cv2.resize(image_rgb, (max(4, round(width_px * factor)), max(4, round(height_px * factor))), interpolation=down)
    large: UInt8Array = cv2.resize(small, (width_px, height_px), interpolation=up)
    return large


def reencode(image_rgb: UInt8Array, quality: int) -> UInt8Array:
    """Through JPEG at ``quality`` and back."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), (*_JPEG, int(quality)))
    decoded: UInt8Array = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded


def add_noise(rng: np.random.Generator, image_rgb: UInt8Array, sigma: float, grain_px: float = 0.0) -> UInt8Array:
    """Gaussian noise of ``sigma`` levels, mostly in luma as after a video codec; ``grain_px`` > 0 makes it coarse."""
    luma = rng.standard_normal(image_rgb.shape[:2], dtype=np.float32)
    if grain_px > 0.3:
        luma = cv2.GaussianBlur(luma, (0, 0), grain_px)
        luma /= max(float(luma.std()), 1e-6)
    noisy = image_rgb + np.float32(sigma) * luma[..., None]
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
