"""How the face was drawn against how its surround was filmed: detail by octave, its sparsity, its colour, region against region.

A replaced interior went through other hands than the hair, neck and room round it: band-limited by a network, evened in colour,
blended along an edge. One camera and one codec treat both alike.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from kyc_guard.motion.regions import REGIONS, View, log, pooled
from kyc_guard.types import Float32Array, Float64Array

_WHERE = REGIONS[:-1]
"""What lies beyond hair and neck is room, and says nothing of a face."""
_WHAT = (
    "fine", "middle", "coarse", "texture", "red_fine", "blue_fine", "red_coarse", "blue_coarse",
    "sparse_fine", "sparse_middle", "red_accord", "blue_accord",
)  # fmt: skip
_TINTED = ("skin", "forehead", "chin", "edge")
_PLANES = ("luma", "red", "blue")
_STEPS = (("skin", "chin"), ("skin", "forehead"), ("edge", "collar"))

NAMES = (
    *(f"{what}_{where}" for what in _WHAT for where in _WHERE),
    *(f"spread_{plane}_{where}" for plane in _PLANES for where in _TINTED),
    *(f"{plane}_{a}_{b}" for a, b in _STEPS for plane in _PLANES),
)
"""Entries of `row`: octave against the next coarser one, against the clip's own level; colour detail against luma's; fourth moment
over the second squared; correlation of luma's and chroma's detail; spread of colours; differences of mean colour."""


def row(view: View) -> Float64Array:
    """(len(NAMES),) figures of one frame; NaN where a region is out of sight."""
    size = len(_WHERE)
    octaves = [a - b for a, b in pairwise([view.luma, *(_soft(view.luma, s) for s in (0.8, 1.6, 3.2, 6.4))])]
    colours = [[a - b for a, b in pairwise([p, _soft(p, 1.6), _soft(p, 6.4)])] for p in view.chroma]
    squares = [np.square(o) for o in octaves]
    tints = [np.square(c) for pair in colours for c in pair]
    detail = octaves[0] + octaves[1]
    crossed = [detail * pair[0] for pair in colours]
    planes = [view.luma, *view.chroma]
    maps = [
        *squares,
        *tints,
        np.square(squares[0]),
        np.square(squares[1]),
        *crossed,
        np.square(detail),
        *planes,
        *(np.square(p) for p in planes),
    ]
    values = pooled(maps, view.regions)
    one, two, three, four = log(values[:4, :size], floor=0.05)
    red_fine, red_coarse, blue_fine, blue_coarse = log(values[4:8, :size], floor=0.05)
    sparse = [log(values[8 + i, :size] / (np.square(values[i, :size]) + 0.05)) for i in (0, 1)]
    accords = [values[10 + i, :size] / np.sqrt((values[12, :size] + 0.1) * (values[4 + 2 * i, :size] + 0.1)) for i in (0, 1)]
    level = np.nanmean(two) if np.isfinite(two).any() else np.nan
    figures = [
        one - two, two - three, three - four, two - level, red_fine - two, blue_fine - two, red_coarse - three, blue_coarse - three,
        *sparse, *accords,
    ]  # fmt: skip
    means, moments = values[13:16], values[16:19]
    spread = np.sqrt(np.maximum(moments - np.square(means), 0))
    at = {name: i for i, name in enumerate(REGIONS)}
    spreads = log(spread[:, [at[n] for n in _TINTED]], floor=0.1)
    steps = [means[:, at[a]] - means[:, at[b]] for a, b in _STEPS]
    return np.concatenate([np.concatenate(figures), spreads.ravel(), np.concatenate(steps)])


def _soft(plane: Float32Array, sigma: float) -> Float32Array:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma))
