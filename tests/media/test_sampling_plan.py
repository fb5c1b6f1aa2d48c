"""Which frames of a clip are decoded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.config import Sampling
from kyc_guard.media.sampling import SamplingPlan


@given(
    steps_s=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 10.0)), min_size=1, max_size=120),
    keys=st.lists(st.booleans(), min_size=120, max_size=120),
    frames=st.integers(1, 30),
    burst=st.integers(0, 30),
)
def test_a_plan_names_distinct_frames_of_the_clip_in_order(steps_s: list[float], keys: list[bool], frames: int, burst: int) -> None:
    times_s = np.cumsum(steps_s)
    plan = SamplingPlan.of(times_s, np.array(keys[: len(times_s)]), Sampling(frames=frames, burst_frames=burst))

    assert list(plan.spread) == sorted(set(plan.spread))
    assert len(plan.spread) == min(frames, len(times_s))
    assert len(plan.burst) == (min(burst, len(times_s)) if len(times_s) > 1 else 0)
    assert set(plan.wanted) == {*plan.spread, *plan.burst} <= set(range(len(times_s)))


def test_a_plan_takes_one_frame_from_each_stretch_and_prefers_its_keyframe() -> None:
    times_s = np.arange(100) / 10
    is_key = np.isin(np.arange(100), [0, 31, 99])

    plan = SamplingPlan.of(times_s, is_key, Sampling(frames=5, burst_frames=4))

    assert [i // 20 for i in plan.spread] == [0, 1, 2, 3, 4]
    assert plan.spread[0] == 0
    assert plan.spread[1] == 31
    assert plan.spread[4] == 99
    assert plan.burst == range(48, 52)


def test_a_plan_follows_time_where_the_frame_rate_varies() -> None:
    times_s = np.concatenate([np.arange(60) / 60, 1 + np.arange(30) / 3])  # a burst of 60 Hz, then 3 Hz

    plan = SamplingPlan.of(times_s, np.zeros(90, bool), Sampling(frames=11, burst_frames=0))

    assert np.allclose(np.diff(times_s[list(plan.spread)]), 1.0, atol=0.35)
