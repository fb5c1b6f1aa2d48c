"""Do pixels stand still, does anything move, and does it come back? A sensor's noise never stands still, a living head never rests.

An injected stream that repeats shows every moment again one period later; one that is played there and back shows it again
mirrored about the turning. Either way pairs of alike moments lie on one straight line in the plane of their two times, along which a
whole stretch of movement comes back, and beside which it does not: chance brings single moments back, and a rest brings all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from kyc_guard.faces import square_crop
from kyc_guard.types import Float32Array, Float64Array, UInt8Array

_SIDE = 32
_SAME = 0.1
"""Grey levels, mean over the window: below, two samples are one picture. An encoder that repeats a picture stays under it."""
_APART_S = 0.5
"""Two moments this far apart are never alike by continuity alone."""
_BESIDE_S = 0.12
"""How far beside a line the movement must show that the line is no rest."""
_FEWEST = 10
"""Pairs of moments on a line."""
_MOST_PAIRS = 600 * 600
"""Of moments, compared with one another: all with all for 40 s at 15 a second, every fourth or fifth with all in the longest clips."""
_FINEST_STEP_S = 1 / 240
"""No phone films faster. The sender writes the times: a finer step would make lines without number, each of them without pairs."""
_NOISE = 0.02
"""Squared grey levels: what rounding alone leaves."""
_REST_SIDE = 16


class Rest(NamedTuple):
    """A stretch in which a head at rest still moves: so many seconds of means over so many."""

    stretch_s: float
    mean_s: float


LONG_REST = Rest(1.2, 0.4)
"""Nobody keeps still longer than between two breaths; the long mean takes out noise made up for a frozen picture."""
BRIEF_REST = Rest(0.8, 0.2)
"""For streams that stop late, and encoders that go on repairing a picture that does not change any more."""


@dataclass(frozen=True, slots=True)
class Return:
    """The stretch of a clip that comes back most faithfully.

    Attributes:
        likeness: 0 = as unlike as any two moments of the clip, 1 = the very same pixels.
        turned: it comes back mirrored in time, as a stream played there and back. period_s: after how long it comes back, which may be
            several rounds of a loop; of a turned one, twice the time of the turning.
    """

    likeness: float = 0.0
    turned: bool = False
    period_s: float = 0.0


class Repeats(NamedTuple):
    """What of a clip is there more than once."""

    frozen_s: float
    """The longest time for which no pixel about the face changes."""
    unrest: float
    """`least_unrest` over `LONG_REST`."""
    brief_unrest: float
    """... and over `BRIEF_REST`."""
    returned: Return


def thumb(frame_rgb: UInt8Array, centre_px: tuple[float, float], crop_px: float) -> Float32Array:
    """(32, 32) luma of one fixed window."""
    luma = square_crop(frame_rgb, centre_px, crop_px, 2 * _SIDE, luma=True).astype(np.float32)
    return np.asarray(cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))


def longest_freeze_s(thumbs: Float32Array, times_s: Float64Array) -> float:
    """The longest time without any change between neighbouring samples of one size, given in any order."""
    longest_s, start = 0.0, 0
    order = np.argsort(times_s, kind="stable")
    thumbs, times_s = thumbs[order], times_s[order]
    for k in range(1, len(thumbs)):
        if float(np.abs(thumbs[k] - thumbs[k - 1]).mean()) > _SAME:
            start = k
        longest_s = max(longest_s, float(times_s[k] - times_s[start]))
    return longest_s


def evened(thumbs: Float32Array) -> Float64Array:
    """(N, P) small pictures with light and contrast of every frame evened out; what `least_unrest` looks at.

    Args:
        thumbs: (N, side, side) luma of one fixed window.
    """
    small = np.array([cv2.resize(t, (_REST_SIDE, _REST_SIDE), interpolation=cv2.INTER_AREA) for t in thumbs])
    flat = small.reshape(len(small), _REST_SIDE * _REST_SIDE).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(flat.std(axis=1, keepdims=True), 1.0))


def least_unrest(even: Float64Array, times_s: Float64Array, rest: Rest) -> float:
    """How little the picture changes in its quietest stretch, in shares of its own contrast; infinite for shorter clips.

    Moments are averaged: noise and exposure made up for a frozen picture count for little.

    Args:
        even: (N, P) `evened` thumbs, in order of time. times_s: (N,).
    """
    if len(even) < 2 or not (step_s := float(np.median(np.diff(times_s)))) > 0:
        return math.inf
    count = max(1, round(rest.mean_s / step_s))
    sums = np.cumsum(np.concatenate([np.zeros((1, even.shape[1])), even]), axis=0)
    smooth = (sums[count:] - sums[:-count]) / count
    starts_s = times_s[: len(smooth)]
    least = math.inf
    for i, stop in enumerate(np.searchsorted(starts_s, starts_s + rest.stretch_s)):
        if stop < len(smooth):
            least = min(least, float(np.sqrt(smooth[i : stop + 1].var(axis=0).mean())))
    return least


def usual_step_s(times_s: Float64Array) -> float:
    """The step from frame to frame that prevails over most of the time; 0 for fewer than two times.

    Weighed by time, because the sender writes the times: frames crowded into one moment, however many, last for no time.

    Args:
        times_s: (P,) in any order; what is not finite is left out.
    """
    steps_s = np.sort(np.diff(np.sort(times_s[np.isfinite(times_s)])))
    return float(steps_s[np.searchsorted(np.cumsum(steps_s), steps_s.sum() / 2)]) if len(steps_s) else 0.0


def best_return(thumbs: Float32Array, times_s: Float64Array, step_s: float) -> Return:
    """What comes back most faithfully; nothing where too few moments are known.

    A long clip's moments are compared with some of them, spread evenly: each of those still finds its exact like, so a long
    period shows as a short one does.

    Args:
        thumbs: (N, side, side) luma of one fixed window, in order of time. times_s: (N,). step_s: time from frame to frame.
    """
    count = len(thumbs)
    rows = np.linspace(0, count - 1, min(count, _MOST_PAIRS // max(count, 1))).round().astype(np.int64)
    row_s = times_s[rows]
    ahead_s = times_s[None] - row_s[:, None]
    i, j = np.nonzero(ahead_s > _APART_S)
    if len(i) < _FEWEST or not step_s > 0:
        return Return()
    step_s = max(step_s, _FINEST_STEP_S)
    flat = thumbs.reshape(count, -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)  # an exposure that wanders is no movement,
    contrast = flat.std(axis=1, keepdims=True)
    flat = flat * (np.median(contrast) / np.maximum(contrast, 1.0))  # and it is a gain as well as an offset
    # What moves most tells moments apart best; the rest is the encoder's.
    flat = flat * np.sqrt(flat.std(axis=0) / max(float(flat.std(axis=0).mean()), 1e-9))
    power = np.square(flat).mean(axis=1)
    apart = np.maximum(power[rows][:, None] + power[None] - 2.0 / flat.shape[1] * (flat[rows] @ flat.T), 0.0)
    far = np.abs(ahead_s) > _APART_S
    usual = np.array([np.median(row[mask]) if mask.any() else 0.0 for row, mask in zip(apart.T, far.T, strict=True)])
    best = Return()
    for turned, along_s in ((False, times_s[j] - row_s[i]), (True, times_s[j] + row_s[i])):
        line = np.round(along_s / step_s).astype(np.int64)
        first = int(line.min())
        pairs = np.bincount(line - first)
        many = np.maximum(pairs, 1)
        own = np.bincount(line - first, weights=apart[i, j]) / many + _NOISE
        typical = np.bincount(line - first, weights=(usual[rows][i] + usual[j]) / 2) / many + _NOISE
        reach = max(1, round(_BESIDE_S / step_s))
        near = np.pad(np.where(2 * pairs >= _FEWEST, own, np.inf), reach, constant_values=np.inf)
        beside = np.minimum(near[: -2 * reach], near[2 * reach :])
        judged = np.flatnonzero((pairs >= _FEWEST) & np.isfinite(beside))
        if not len(judged):
            continue
        unlike = np.sqrt(own[judged] / typical[judged] * own[judged] / beside[judged])
        k = int(unlike.argmin())
        if (likeness := 1.0 - float(unlike[k])) > best.likeness:
            best = Return(likeness, turned, (first + int(judged[k])) * step_s)
    return best
