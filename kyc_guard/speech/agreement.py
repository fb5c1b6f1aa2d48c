"""Lips against sound: do they move as this sound makes lips move, and how much earlier or later?

A linear net turns Whisper's encoding into the lips one would expect (`LIPS`); the lips seen and their changes are correlated with those
at every lag.
Lags are positive where the lips come after the sound.

Sources: Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016, for the question and the lag curve; Rec. ITU-R
BT.1359-1 for what viewers accept: sound from 90 ms early to 185 ms late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from kyc_guard.faces.mouth import Mouth
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.speech.hearing import ENCODED_DIMS, ENCODED_HZ
from kyc_guard.types import Float32Array, Float64Array

LIPS = ("opening", "width", "protrusion", "contact", "upper", "lower", "jaw")
CURVES = (*LIPS, *(f"{name}_change" for name in LIPS))
"""What is correlated; how much each counts was learnt, for a jaw is seen better than the corners of a mouth."""
LAG_S = 0.6
"""Lags from -LAG_S to LAG_S are looked at."""
REACH = 10
"""Rows of encoding before and after a moment that the net looks at."""
_LAGS = round(LAG_S * ENCODED_HZ)
_DRIFT_S = 0.5
"""Slower changes are the head's and the smile's, not speech."""
_JITTER_S = 0.02
_CHANGE_ROWS = 4
"""Changes count as much as curves: by how much the lips move in 80 ms."""
_GUARD_S = 0.06
"""Next to the accepted lags lie the flanks of a peak within them: they are counted neither as near nor as far."""
_LEAST_OVERLAP = 0.6
FIGURES = ("near", "above_chance", "apart", "steady")
_FARTHEST_S = 0.3
"""Lags farther off than this are all the same: wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Lips:
    """What the lips did, evenly in time."""

    start_s: float
    """Time of the first row on the clip's clock."""
    rows: Float64Array
    """(T, 7) at 50 Hz: `LIPS` without drift, each of variance 1."""
    travel: float
    """Standard deviation of the opening, in eye distances: 0.03 to 0.08 of people who speak."""

    @property
    def duration_s(self) -> float:
        return len(self.rows) / ENCODED_HZ

    @classmethod
    def of(cls, mouth: Mouth) -> Self | None:
        """``None`` when the mouth was seen in fewer than two frames."""
        curves = np.stack([getattr(mouth, name) for name in LIPS], axis=1)
        seen = np.isfinite(curves).all(axis=1)
        times_s = mouth.times_s[seen]
        if len(times_s) < 2:
            return None
        grid_s = np.arange(times_s[0], times_s[-1], 1 / ENCODED_HZ)
        rows = np.stack([np.interp(grid_s, times_s, column) for column in curves[seen].T], axis=1)
        rows = gaussian_filter1d(rows, _JITTER_S * ENCODED_HZ, axis=0)
        moving = rows - gaussian_filter1d(rows, _DRIFT_S * ENCODED_HZ, axis=0, mode="nearest")
        spread = moving.std(axis=0)
        return cls(float(times_s[0]), moving / (spread + 1e-6), float(spread[0]))


def net_input(encoded: Float32Array) -> Float32Array:
    """(1, 384, T + 2 REACH) float32 for the net: the clip's own mean removed, ends repeated."""
    centred = (encoded - encoded.mean(axis=0)).T
    return np.pad(centred, ((0, 0), (REACH, REACH)), mode="edge")[None].astype(np.float32).reshape(1, ENCODED_DIMS, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well the lips seen fit those expected."""

    lags_s: Float64Array
    """(L,)."""
    curve: Float64Array
    """(L,) correlation at each lag, mean over `CURVES` as they count; NaN where the two hardly overlap."""
    lag_s: float
    """Where the curve is highest."""
    peak: float
    """How high."""
    lag_by_second_s: Float64Array
    """(S,) the same for every second of the clip on its own."""
    figures: Mapping[str, float]
    """`FIGURES`: highest correlation within the accepted lags (near), the same above the mean beyond them in standard deviations there
    (above_chance), seconds from the middle of the accepted lags to the best lag (apart), and share of the seconds whose own lag is an
    accepted one (steady).
    """
    expected: Float64Array
    """(T, 7) what the sound asks for, row for row beside `Lips.rows`."""


def agree(lips: Lips, expected: Float32Array, accepted_s: tuple[float, float], counts: Float64Array) -> Agreement:
    """Compare lips and sound, which must overlap by a second.

    Args:
        expected: (A, 7) lips the sound asks for at 50 Hz, row 0 at the clip's time 0.
        accepted_s: lags between these are those of honest recordings.
        counts: (14,) how much each of `CURVES` counts, summing to 1.

    Raises:
        ValueError: they do not.
    """
    first = round(lips.start_s * ENCODED_HZ)
    count = min(len(lips.rows), len(expected) - first)
    if count < ENCODED_HZ:
        raise ValueError(f"{max(count, 0)} rows in common")
    seen, asked = lips.rows[:count], expected[first : first + count].astype(np.float64)
    lags = np.arange(-_LAGS, _LAGS + 1)
    curve = correlations(seen, asked, lags) @ counts
    lags_s = lags / ENCODED_HZ
    near = (lags_s >= accepted_s[0]) & (lags_s <= accepted_s[1])
    far = (lags_s < accepted_s[0] - _GUARD_S) | (lags_s > accepted_s[1] + _GUARD_S)
    best_near = int(np.flatnonzero(near)[np.nanargmax(curve[near])])
    seconds = [correlations(seen[i : i + 50], asked[i : i + 50], lags) @ counts for i in range(0, count - 49, 50)]
    lag_s = float(lags_s[np.nanargmax(curve)])
    by_second_s = np.array([lags_s[np.nanargmax(c)] for c in seconds])
    figures = {
        "near": float(curve[best_near]),
        "above_chance": float((curve[best_near] - np.nanmean(curve[far])) / (np.nanstd(curve[far]) + 0.02)),
        "apart": min(abs(lag_s - (accepted_s[0] + accepted_s[1]) / 2), _FARTHEST_S),
        "steady": float(np.mean((by_second_s >= accepted_s[0]) & (by_second_s <= accepted_s[1]))),
    }
    return Agreement(lags_s, curve, lag_s, float(np.nanmax(curve)), by_second_s, figures, asked)


def correlations(seen: Float64Array, asked: Float64Array, lags: NDArray[np.int64]) -> Float64Array:
    """(L, 14) correlation of each of `CURVES` of ``seen`` and ``asked``, both (T, 7), moved later by each lag, over the rows that then
    meet; NaN where those are few.
    """
    seen, asked, count = _with_changes(seen), _with_changes(asked), len(seen)
    meeting = count - np.abs(lags)
    rows = (np.maximum(lags, 0), np.minimum(count + lags, count)), (np.maximum(-lags, 0), np.minimum(count - lags, count))
    sums, squares = zip(*((_between(x, *r), _between(x * x, *r)) for x, r in zip((seen, asked), rows, strict=True)), strict=True)
    products = np.stack([np.correlate(a, b, "full")[count - 1 + lags] for a, b in zip(seen.T, asked.T, strict=True)], axis=1)
    n = np.maximum(meeting, 1)[:, None]
    spread = [np.maximum(q - s * s / n, 0.0) for s, q in zip(sums, squares, strict=True)]
    correlation = (products - sums[0] * sums[1] / n) / (np.sqrt(spread[0] * spread[1]) + 1e-9)
    return np.where((meeting >= _LEAST_OVERLAP * count)[:, None], correlation, np.nan)


def _with_changes(rows: Float64Array) -> Float64Array:
    """(T, 14)."""
    smooth = gaussian_filter1d(rows, _JITTER_S * ENCODED_HZ, axis=0)
    return np.concatenate([rows, _CHANGE_ROWS * np.gradient(smooth, axis=0)], axis=1)


def _between(values: Float64Array, first: NDArray[np.int64], last: NDArray[np.int64]) -> Float64Array:
    """(L, D) sums of rows first to last of (T, D)."""
    running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(running[np.clip(last, 0, len(values))] - running[np.clip(first, 0, len(values))])


def envelope_db(audio: Float32Array) -> Float64Array:
    """(ceil(N / 320),) level in dB of full scale at 50 Hz, floor -80; row i is centred on time i / 50 s."""
    hop = round(AUDIO_RATE_HZ / ENCODED_HZ)
    padded = np.pad(audio.astype(np.float64), (hop // 2, hop // 2 + (-len(audio)) % hop))
    power = np.square(padded)[: len(padded) // hop * hop].reshape(-1, hop).mean(axis=1)
    return np.asarray(10 * np.log10(power + 1e-8))[: -(-len(audio) // hop)]
