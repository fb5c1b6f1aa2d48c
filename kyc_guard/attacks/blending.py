"""Photometry shared by the digital attacks: colour transfer, what a network or a codec does to a region, and the blend itself."""

from __future__ import annotations

import cv2
import numpy as np

from kyc_guard.attacks.hulls import branch
from kyc_guard.types import Float32Array, Float64Array, UInt8Array

# ITU-R BT.601 luma and colour differences; rows Y, R-Y, B-Y.
_TO_YCC = np.array([[0.299, 0.587, 0.114], [0.701, -0.587, -0.114], [-0.299, -0.587, 0.886]])
_TO_RGB = np.linalg.inv(_TO_YCC)
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
    # The solver rewrites the whole bounding box, by up to a few levels where it should have changed nothing.
    cloned[region == 0] = under_rgb[region == 0]
    return cloned


def match_colour(image_rgb: UInt8Array, reference_rgb: UInt8Array, mask: Float32Array, strength: float = 1.0) -> UInt8Array:
    """Give ``image_rgb`` the mean and spread of luma and both colour differences that ``reference_rgb`` has under ``mask``.

    A grey image takes the mean colour of the reference; onto a grey reference everything turns grey.

    Source: E. Reinhard et al., "Color Transfer between Images", IEEE CG&A 2001, in BT.601 luma and colour differences, where
    the whole transfer is one 3x4 matrix on RGB.
    """
    if not (found := _statistics(image_rgb, mask)) or not (wanted := _statistics(reference_rgb, mask)):
        return image_rgb
    (mean, spread), (mean_ref, spread_ref) = found, wanted
    gain = np.clip(spread_ref / np.maximum(spread, 1e-3), 0.3, 2.0)
    # Next to colour no strength short of all is plausible for grey, and the other way about.
    grey = spread_ref[1:].max() < _GREY_STD or spread[1:].max() < _GREY_STD
    gain = 1 + strength * (gain - 1)
    mix = np.full(3, strength)
    if grey:
        gain[1:], mix[1:] = 0.0, 1.0
    return _stretched(image_rgb, mean, mean + mix * (mean_ref - mean), gain)


def restrain(image_rgb: UInt8Array, mask: Float32Array, gain: Float64Array, shift: Float64Array) -> UInt8Array:
    """Scale the variation of luma and both colour differences about their means under ``mask`` by ``gain``, shift it by ``shift``."""
    if not (found := _statistics(image_rgb, mask)):
        return image_rgb
    mean, _ = found
    return _stretched(image_rgb, mean, mean + shift, gain)


def _stretched(image_rgb: UInt8Array, mean: Float64Array, mean_to: Float64Array, gain: Float64Array) -> UInt8Array:
    matrix = _TO_RGB @ np.diag(gain) @ _TO_YCC
    shift = _TO_RGB @ (mean_to - gain * mean)
    stretched: UInt8Array = cv2.transform(image_rgb, np.column_stack([matrix, shift]).astype(np.float32))
    return stretched


def relight(image_rgb: UInt8Array, reference_rgb: UInt8Array, mask: Float32Array, radius_px: float, strength: float) -> UInt8Array:
    """Give ``image_rgb`` the slow light and colour of ``reference_rgb`` under ``mask``: all that changes over more than ``radius_px``.

    What `clone` does through a Poisson equation and a multi-band blend through a pyramid, at a chosen scale.
    """
    height_px, width_px = mask.shape
    scale = min(1.0, 3.0 / radius_px)
    size = (max(4, round(width_px * scale)), max(4, round(height_px * scale)))
    weight = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    small, small_ref = (cv2.resize(i, size, interpolation=cv2.INTER_AREA).astype(np.float32) for i in (image_rgb, reference_rgb))
    gap = cv2.GaussianBlur((small_ref - small) * weight[..., None], (0, 0), radius_px * scale)
    gap /= np.maximum(cv2.GaussianBlur(weight, (0, 0), radius_px * scale), 1e-3)[..., None]
    gap = cv2.resize(gap * np.float32(strength), (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    lit: UInt8Array = cv2.add(image_rgb, gap, dtype=cv2.CV_8U)
    return lit


def likeness(image_rgb: UInt8Array, sample: Float32Array, tolerance: float) -> Float32Array:
    """(H, W) in 0..1: how far each pixel's luma and colour lie within ``tolerance`` deviations of the pixels under ``sample``."""
    if not (found := _statistics(image_rgb, sample)):
        return np.ones(image_rgb.shape[:2], np.float32)
    mean, spread = found
    # Skin is never a single colour: floors keep an even face from rejecting its own shaded side.
    scale = 1 / (tolerance * np.maximum(spread, (14.0, 4.0, 4.0)))
    matrix = np.diag(scale) @ _TO_YCC
    offset = cv2.transform(image_rgb.astype(np.float32), np.column_stack([matrix, -scale * mean]))
    distance: Float32Array = cv2.transform(offset * offset, np.ones((1, 3)))
    return 1 / (1 + distance * distance)


def harmonise(rng: np.random.Generator, image_rgb: UInt8Array, reference_rgb: UInt8Array, mask: Float32Array, face_px: float) -> UInt8Array:
    """Colour and light brought as close as a careful or a hasty editor would: `match_colour`, then `relight` at a random scale."""
    matched = match_colour(image_rgb, reference_rgb, mask, strength=rng.uniform(0.5, 1.0))
    return relight(matched, reference_rgb, mask, radius_px=rng.uniform(0.06, 0.3) * face_px, strength=1 - rng.beta(1, 3))


def _statistics(image_rgb: UInt8Array, mask: Float32Array) -> tuple[Float64Array, Float64Array] | None:
    """Mean (3,) and standard deviation (3,) of luma and colour differences where the mask exceeds half its maximum, if anywhere."""
    # A few thousand pixels tell as much as all.
    step = max(1, min(mask.shape) // 96)
    inside = (mask[::step, ::step] > 0.5 * float(mask.max())).astype(np.uint8)
    if cv2.countNonZero(inside) < 16:
        return None
    ycc = cv2.transform(np.ascontiguousarray(image_rgb[::step, ::step]).astype(np.float32), _TO_YCC)
    mean, spread = cv2.meanStdDev(ycc, mask=inside)
    return mean.ravel(), spread.ravel()


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
    luma = branch(rng).standard_normal(image_rgb.shape[:2], dtype=np.float32)
    if grain_px > 0.3:
        luma = cv2.GaussianBlur(luma, (0, 0), grain_px)
        luma /= max(float(luma.std()), 1e-6)
    noisy: UInt8Array = cv2.add(image_rgb, cv2.merge([np.float32(sigma) * luma] * 3), dtype=cv2.CV_8U)
    return noisy
