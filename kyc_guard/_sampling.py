"""Which frames of a clip are looked at: decided from presentation times alone, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kyc_guard.config import Sampling
from kyc_guard.types import Float64Array


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Positions, in presentation order, of the frames to decode.

    Attributes:
        spread: increasing, distinct; one from each of `Sampling.frames` equal stretches of the clip, fewer if it is shorter.
        burst: consecutive positions around the middle of the clip's time.
    """

    spread: tuple[int, ...]
    burst: range

    @classmethod
    def of(cls, times_s: Float64Array, is_key: NDArray[np.bool_], sampling: Sampling) -> SamplingPlan:
        """Plan over (P,) presentation times, sorted and finite, with (P,) flags of the frames that decode alone.

        Within its stretch the keyframe nearest the middle is taken, because it costs one frame to decode and carries the most
        detail; without one, the frame nearest the middle. So two neighbours are less than two stretches apart.
        """
        count = len(times_s)
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
        return cls(spread, range(start, start + length))

    @property
    def wanted(self) -> tuple[int, ...]:
        """All positions, increasing and distinct."""
        return tuple(sorted({*self.spread, *self.burst}))


def _cells(times_s: Float64Array, cells: int) -> NDArray[np.int64]:
    """(P,) number of the equal stretch of time each frame lies in."""
    span_s = max(float(times_s[-1] - times_s[0]), np.finfo(np.float64).tiny)
    stretch: NDArray[np.int64] = np.minimum((times_s - times_s[0]) / span_s * cells, cells - 1).astype(np.int64)
    return stretch
