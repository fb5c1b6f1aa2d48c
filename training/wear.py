"""What stands between a fresh picture of a face and the one on a document: print, laminate, size, codec, light, and years."""

from __future__ import annotations

import cv2
import numpy as np

from kyc_guard.attacks import printing
from kyc_guard.attacks.optics import Rng, chance, live_capture, log_uniform, smooth_field, to_uint8, uniform
from kyc_guard.recoding import jpeg
from kyc_guard.types import UInt8Array

PRINTERS = (printing.PHOTO, printing.INKJET, printing.HALFTONE)
"""Printers of training. `HELD_OUT_PRINTERS` are kept for measuring."""
HELD_OUT_PRINTERS = (printing.LASER_GREY, printing.LINE_SCREEN, printing.DIFFUSION)


def wear(rng: Rng, chip_rgb: UInt8Array) -> UInt8Array:
    """One draw of everything below, most of them mild: (S, S, 3) uint8 RGB, an upright face, in and out."""
    image = chip_rgb
    if chance(rng, 0.4):
        image = aged(rng, image)
    if chance(rng, 0.45):
        image = printed(rng, image, PRINTERS[rng.integers(len(PRINTERS))])
    if chance(rng, 0.35):
        image = laminated(rng, image)
    if chance(rng, 0.25):
        image = live_capture(rng, image)
    if chance(rng, 0.5):
        image = small(image, log_uniform(rng, 0.2, 0.9))
    if chance(rng, 0.2):
        image = grey(image)
    if chance(rng, 0.6):
        image = jpeg(image, int(rng.integers(20, 95)), subsampled=chance(rng, 0.7))
    return image


def printed(rng: Rng, chip_rgb: UInt8Array, ranges: printing.Range) -> UInt8Array:
    """In the ink of a printer of the range, lying flat under even light."""
    return printing.ink(chip_rgb, printing.draw_paper(rng, ranges), rng)


def laminated(rng: Rng, chip_rgb: UInt8Array) -> UInt8Array:
    """Fine wavy lines over the face, a tinted and paler picture, and at times a patch of glare."""
    height, width = chip_rgb.shape[:2]
    x, y = np.meshgrid(np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32))
    image = chip_rgb.astype(np.float32)
    image += (np.array(rng.uniform(150, 255, 3), np.float32) - image) * np.float32(uniform(rng, 0.0, 0.3))
    for _ in range(int(rng.integers(1, 4))):
        turn = uniform(rng, 0, np.pi)
        across = np.cos(turn) * x + np.sin(turn) * y
        along = np.cos(turn) * y - np.sin(turn) * x
        wave = across * uniform(rng, 8, 40) + uniform(rng, 0.0, 1.5) * np.sin(2 * np.pi * uniform(rng, 0.5, 3.0) * along)
        lines = np.clip(np.cos(2 * np.pi * wave) * 2.0 - uniform(rng, 0.4, 1.7), 0.0, 1.0)[:, :, None]
        image += (np.array(rng.uniform(60, 255, 3), np.float32) - image) * lines.astype(np.float32) * np.float32(uniform(rng, 0.05, 0.45))
    if chance(rng, 0.3):
        spots = np.clip(smooth_field(rng, height, width, int(rng.integers(2, 5))), 0.0, 1.0).reshape(height, width, 1)
        image += np.float32(255.0 * uniform(rng, 0.1, 0.6)) * spots
    return to_uint8(image)


def small(chip_rgb: UInt8Array, factor: float) -> UInt8Array:
    """Sampled with ``factor`` times the pixels a side and enlarged again."""
    height, width = chip_rgb.shape[:2]
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    little = cv2.resize(chip_rgb, size, interpolation=cv2.INTER_AREA)
    back: UInt8Array = cv2.resize(little, (width, height), interpolation=cv2.INTER_CUBIC)
    return back


def grey(chip_rgb: UInt8Array) -> UInt8Array:
    """Luma in all three channels."""
    flat: UInt8Array = cv2.cvtColor(cv2.cvtColor(chip_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return flat


def aged(rng: Rng, chip_rgb: UInt8Array) -> UInt8Array:
    """A hint of other years and another day: fuller or leaner face, smoother or harder skin, other light and tone.

    Features lie where the teacher needs them; only cheeks and jaw move. It is no model of ageing.
    """
    height, width = chip_rgb.shape[:2]
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    # Widest at the jaw, nothing at the eyes and at the picture's border.
    fuller = np.float32(uniform(rng, -0.08, 0.08)) * np.clip(y + 0.3, 0, 1) * np.exp(-((np.abs(x) - 0.4) ** 2) / 0.08)
    sample_x = (x * (1.0 - fuller) + 1.0) * np.float32((width - 1) / 2)
    sample_y = (y + 1.0) * np.float32((height - 1) / 2)
    image = cv2.remap(
        chip_rgb, sample_x.astype(np.float32), sample_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    soft = cv2.GaussianBlur(image, (0, 0), uniform(rng, 1.0, 2.5))
    skin = uniform(rng, -0.8, 0.8)
    image = cv2.addWeighted(image, 1.0 + skin, soft, -skin, 0.0)
    gains = rng.normal(1.0, 0.08, 3) * log_uniform(rng, 0.7, 1.35)
    shade = 1.0 + np.float32(rng.normal(0, 0.25)) * x + np.float32(rng.normal(0, 0.12)) * y
    bright = (image / np.float32(255.0)) ** np.float32(log_uniform(rng, 0.7, 1.4)) * shade[:, :, None]
    return to_uint8(255.0 * bright * gains.astype(np.float32))
