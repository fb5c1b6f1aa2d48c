"""Traces of what a page was made of: ink, display or paper photographed again, or no surface at all. Figures only, no judgement.

A display or a halftone leaves the same peaks all over the page, print and guilloche do not; a sensor's noise follows light and its
neighbours, a renderer's does not. Windows are looked at where print and portrait are, at native resolution.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from scipy import fft

from kyc_guard.documents.planes import Planes, blockiness, log, neighbours, ranks
from kyc_guard.types import Float32Array, Float64Array

_SIDE = 128
_ACROSS, _DOWN = 4, 2
"""Windows of a page; they overlap on small ones."""
_BANDS = (0.06, 0.12, 0.2, 0.28, 0.36, 0.5)
"""Cycles a pixel between which power is summed."""
_QUIET = 0.4
"""Share of the windows, those with the least detail, in which noise is measured."""

NAMES = (
    *(f"luma_{what}" for what in ("peak", "peaks", "axis_peak", "low_peak")),
    *(f"chroma_{what}" for what in ("peak", "peaks", "axis_peak", "low_peak")),
    *(f"portrait_{what}" for what in ("peak", "peaks", "axis_peak", "low_peak")),
    *(f"luma_band_{i}" for i in range(4)),
    *(f"chroma_band_{i}" for i in range(5)),
    "tint_wave", "noise", "noise_spread", "noise_light", "red_noise", "blue_noise", "accord_red", "accord_blue",
    "right", "below", "red_right", "blue_below", "flat", "clipped", "grid",
    "black", "white", "saturation", "saturated", "tint_red", "tint_blue", "uneven", "uneven_tint", "detail", "edge",
)  # fmt: skip


@lru_cache(maxsize=1)
def _frequencies() -> tuple[Float64Array, Float32Array]:
    y, x = np.fft.fftfreq(_SIDE), np.fft.rfftfreq(_SIDE)
    window = np.outer(np.hanning(_SIDE), np.hanning(_SIDE)).astype(np.float32)
    return np.hypot(y[:, None], x[None, :]), window


def row(planes: Planes) -> Float64Array:
    """(len(NAMES),) figures of a page; NaN where it is smaller than one window."""
    height, width = planes.luma.shape
    if min(height, width) < _SIDE:
        return np.full(len(NAMES), np.nan)
    ys = np.linspace(0, height - _SIDE, _DOWN).astype(int)
    xs = np.linspace(0, width - _SIDE, _ACROSS).astype(int)
    places = [np.s_[y : y + _SIDE, x : x + _SIDE] for y in ys for x in xs]
    luma = np.stack([planes.luma[p] for p in places])
    red, blue = (np.stack([c[p] for p in places]) for c in planes.chroma)
    fine = np.stack([planes.fine[p] for p in places])
    luma_map, chroma_map = _power(luma), np.log10(10 ** _power(red) + 10 ** _power(blue))
    radius, _ = _frequencies()
    rings = [(radius >= a) & (radius < b) for a, b in pairwise(_BANDS)]
    bands = [float(np.median(luma_map[ring])) for ring in rings]
    tints = [float(np.median(chroma_map[ring])) for ring in rings]
    level = np.median(np.abs(fine[:, ::2, ::2]), axis=(1, 2))
    quiet = np.argsort(level, kind="stable")[: max(1, int(_QUIET * len(level)))]
    soft = [plane - cv2.blur(plane, (3, 3)) for plane in (red[quiet].reshape(-1, _SIDE), blue[quiet].reshape(-1, _SIDE))]
    calm = fine[quiet].reshape(-1, _SIDE)
    waves = [np.std(cv2.blur(plane[quiet].reshape(-1, _SIDE), (9, 9)).reshape(-1, _SIDE, _SIDE), axis=(1, 2)) for plane in (red, blue)]
    light = luma[:, ::4, ::4].mean(axis=(1, 2))
    paper = np.percentile(luma[:, ::4, ::4], 80, axis=(1, 2))
    tinted = [np.median(plane[:, ::4, ::4], axis=(1, 2)) for plane in (red, blue)]
    saturation = np.hypot(planes.chroma[0][::4, ::4] - 128, planes.chroma[1][::4, ::4] - 128)
    steps = np.abs(np.diff(planes.luma[::4], axis=1))
    right, below = neighbours(calm)
    return np.array(
        [
            *_peaks(luma_map),
            *_peaks(chroma_map),
            *_portrait_peaks(planes),
            *(a - b for a, b in pairwise(bands)),
            *(t - b for t, b in zip(tints, bands, strict=True)),
            log(np.median(waves[0]) + np.median(waves[1])),
            log(np.median(level[quiet])),
            log(np.percentile(level, 75)) - log(np.median(level[quiet])),
            _correlation(light, level),
            *(log(np.median(np.abs(s[::2, ::2]))) for s in soft),
            *(_correlation(calm.ravel()[::3], s.ravel()[::3]) for s in soft),
            right,
            below,
            neighbours(soft[0])[0],
            neighbours(soft[1])[1],
            float(np.mean(steps < 0.5)),
            float(np.mean(planes.luma[::2, ::2] >= 254)),
            blockiness(planes.luma),
            *(level / 64 for level in ranks(planes.luma[::4, ::4], 0.01, 0.95)),
            *(log(level, 1.0) for level in ranks(saturation, 0.5, 0.95)),
            *(float(np.median(t) - 128) / 16 for t in tinted),
            log(np.std(paper), 1.0),
            log(np.std(tinted[0]) + np.std(tinted[1]), 0.5),
            log(ranks(np.abs(planes.fine[::4, ::4]), 0.98)[0]),
            _edge(planes),
        ]
    )


def _portrait_peaks(planes: Planes) -> tuple[float, float, float, float]:
    """Those of luma in the portrait alone, which has no guilloche and is the first to show a halftone."""
    if planes.face_xyxy is None:
        return (float("nan"),) * 4
    height, width = planes.luma.shape
    x0, y0, x1, y1 = planes.face_xyxy
    corners = ((x0, y0), (x1, y0), (x0, y1), (x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2))
    places = [(int(np.clip(x - _SIDE / 2, 0, width - _SIDE)), int(np.clip(y - _SIDE / 2, 0, height - _SIDE))) for x, y in corners]
    return _peaks(_power(np.stack([planes.luma[y : y + _SIDE, x : x + _SIDE] for x, y in places])))


def _power(windows: Float32Array) -> Float64Array:
    """Log power of each frequency, the median over windows: what only some of them show, as print does, is gone."""
    _, taper = _frequencies()
    spectra = fft.rfft2((windows - windows.mean(axis=(1, 2), keepdims=True)) * taper)
    return np.asarray(np.median(np.log10(np.abs(spectra) ** 2 + 1.0), axis=0))


def _peaks(power: Float64Array) -> tuple[float, float, float, float]:
    """How far single frequencies stand out of their neighbourhood: the highest, a handful, on an axis, at low frequencies."""
    radius, _ = _frequencies()
    # The upper half of the frequencies has a mirror beyond the edge; wrapping keeps peaks on the axes inside.
    padded = np.pad(power, ((4, 4), (0, 0)), mode="wrap")
    padded = np.pad(padded, ((0, 0), (4, 4)), mode="reflect").astype(np.float32)
    around = cv2.blur(padded, (9, 9))[4:-4, 4:-4]
    out = power - around
    high, low = radius >= 0.15, (radius >= 0.06) & (radius < 0.15)
    axis = high & ((np.abs(np.fft.fftfreq(_SIDE))[:, None] < 0.02) | (np.fft.rfftfreq(_SIDE)[None, :] < 0.02))
    best = np.sort(out[high & ~axis])[::-1]
    return float(best[0]), float(best[:12].mean()), float(np.sort(out[axis])[::-1][:4].mean()), float(np.sort(out[low])[::-1][:4].mean())


def _correlation(a: Float32Array | Float64Array, b: Float32Array | Float64Array) -> float:
    x, y = a - a.mean(), b - b.mean()
    return float((x * y).mean() / (np.sqrt((x * x).mean() * (y * y).mean()) + 1e-6))


def _edge(planes: Planes) -> float:
    """Steepest step of the letters over their contrast, the median over lines: how sharp print is in the picture."""
    found = []
    for x0, y0, x1, y1 in planes.lines_xyxy.astype(int)[:16]:
        area = planes.luma[max(y0, 0) : y1, max(x0, 0) : x1]
        if min(area.shape) < 6:
            continue
        dark, light = ranks(area, 0.05, 0.9)
        if light - dark >= 20:
            found.append(ranks(np.abs(np.diff(area, axis=1)), 0.98)[0] / (light - dark))
    return float(np.median(found)) if found else float("nan")
