"""Which frames of a clip are looked at: decided from presentation times alone, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.config import Sampling
from kyc_guard.types import Float64Array, UInt8Array


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Positions, in presentation order, of the frames to decode.

    Attributes:
        spread: increasing, distinct; one from each of `Sampling.frames` equal stretches of the clip, fewer if it is shorter.
        burst: consecutive positions around the middle of the clip's time.
        motion: increasing, distinct; the frames nearest to every ``1 / Sampling.motion_hz`` seconds, so never more than there are.
    """

    spread: tuple[int, ...]
    burst: range
    motion: tuple[int, ...] = ()

    @classmethod
    def of(cls, times_s: Float64Array, is_key: NDArray[np.bool_], sampling: Sampling) -> SamplingPlan:
        """Plan over (P,) presentation times, sorted and finite, with (P,) flags of the frames that decode alone.

        Within its stretch the keyframe nearest the middle is taken, because it costs one frame to decode and carries the most
        detail; without one, the frame nearest the middle. So two neighbours are less than two stretches apart.
        """
        count, clock_s = len(times_s), times_s
        if count <= sampling.frames:
            spread = tuple(range(count))
        else:
            cells = _cells(times_s, sampling.frames)
            if len(np.unique(cells)) < sampling.frames:  # long gaps or equal times: spread over the frames, not the time
                times_s = np.arange(count, dtype=np.float64)
                cells = _cells(times_s, sampling.frames)
            width_s = (times_s[-1] - times_s[0]) / sampling.frames
            off_middle = np.abs(times_s - times_s[0] - (cells + 0.5) * width_s)
            # lexsort: by stretch, then keyframes first, then by nearness; the first of each stretch is the choice.
            order = np.lexsort((off_middle, ~is_key, cells))
            spread = tuple(int(order[i]) for i in np.unique(cells[order], return_index=True)[1])
        middle = int(np.searchsorted(times_s, (times_s[0] + times_s[-1]) / 2))
        length = min(sampling.burst_frames, count) if count > 1 else 0
        start = min(max(middle - length // 2, 0), count - length)
        return cls(spread, range(start, start + length), _evenly(clock_s, sampling.motion_hz))

    @property
    def wanted(self) -> tuple[int, ...]:
        """Positions wanted in full size, increasing and distinct."""
        return tuple(sorted({*self.spread, *self.burst}))


def _cells(times_s: Float64Array, cells: int) -> NDArray[np.int64]:
    """(P,) number of the equal stretch of time each frame lies in."""
    span_s = max(float(times_s[-1] - times_s[0]), np.finfo(np.float64).tiny)
    stretch: NDArray[np.int64] = np.minimum((times_s - times_s[0]) / span_s * cells, cells - 1).astype(np.int64)
    return stretch


def _evenly(times_s: Float64Array, rate_hz: float) -> tuple[int, ...]:
    """Positions nearest to the ticks of a clock of that rate; none for a rate of 0."""
    if not rate_hz or not len(times_s):
        return ()
    ticks_s = np.arange(times_s[0], times_s[-1] + 0.5 / rate_hz, 1.0 / rate_hz)
    after = np.clip(np.searchsorted(times_s, ticks_s), 1, max(len(times_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    nearest = np.where(ticks_s - times_s[before] <= times_s[after] - ticks_s, before, after)
    return tuple(int(i) for i in np.unique(nearest))


def shrunk_size(height: int, width: int, side_px: int) -> tuple[int, int]:
    """(height, width) with the longer side brought down to ``side_px``; what is smaller stays as it is."""
    if (longer := max(height, width)) <= side_px:
        return height, width
    return max(1, round(height * side_px / longer)), max(1, round(width * side_px / longer))


def shrunk(frame_rgb: UInt8Array, side_px: int) -> UInt8Array:
    """(h, w, 3) uint8 RGB: the frame with its longer side brought down to ``side_px``; smaller frames stay as they are."""
    height, width = shrunk_size(frame_rgb.shape[0], frame_rgb.shape[1], side_px)
    if (height, width) == frame_rgb.shape[:2]:
        return frame_rgb
    small: UInt8Array = cv2.resize(np.ascontiguousarray(frame_rgb), (width, height), interpolation=cv2.INTER_AREA)
    return small
