"""Streams that repeat, made by the dozen: a walk through pictures that never repeats by itself, played as an injector would."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kyc_guard.motion.returns import BRIEF_REST, LONG_REST, best_return, least_unrest, longest_freeze_s
from kyc_guard.types import Float32Array, Float64Array

_RATES_HZ = (24.0, 25.0, 30.0)


def walk(rng: np.random.Generator, count: int) -> Float32Array:
    """(count, 32, 32): six patterns whose strengths wander, as a face's pose, mouth and light do."""
    patterns = rng.normal(0, 20, (6, 32, 32))
    ways = np.cumsum(rng.normal(0, 1, (count + 8, 6)), axis=0)
    smooth = np.stack([np.convolve(w, np.ones(9) / 9, mode="valid") for w in ways.T], axis=1)
    return np.asarray(128 + np.einsum("tk,kyx->tyx", smooth, patterns), np.float32)


def seen(rng: np.random.Generator, stream: Float32Array, rate_hz: float) -> tuple[Float32Array, Float64Array]:
    """What a clip's sampling looks at, with a codec's error and an exposure that wanders: 15 frames a second and 24 from the middle."""
    count = len(stream)
    kept = np.unique(np.concatenate([np.arange(0, count, rate_hz / 15).astype(int), np.arange(count // 2 - 12, count // 2 + 12)]))
    light = np.cumsum(rng.normal(0, 0.3, count))[kept, None, None]
    return np.asarray(stream[kept] + light + rng.normal(0, 1.5, (len(kept), 32, 32)), np.float32), kept / rate_hz


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
@pytest.mark.parametrize("turned", [False, True])
def test_a_hundred_streams_that_repeat_come_back_and_as_many_that_do_not_stay_away(rate_hz: float, turned: bool) -> None:
    missed, alarms = [], []
    for seed in range(34):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(66, 110))
        length = int(count * rng.uniform(0.25, 0.5))
        steps = np.arange(count) % (2 * length - 2 if turned else length)
        order = np.minimum(steps, 2 * length - 2 - steps) if turned else steps
        repeated = best_return(*seen(rng, walk(rng, count)[order], rate_hz), 1 / rate_hz)
        if repeated.likeness < 0.75 or (repeated.turned and not turned):
            missed.append((seed, repeated))
        if (once := best_return(*seen(rng, walk(rng, count), rate_hz), 1 / rate_hz)).likeness >= 0.75:
            alarms.append((seed, once))
    assert (missed, alarms) == ([], [])


def test_too_few_moments_and_times_that_stand_still_say_nothing() -> None:
    rng = np.random.default_rng(0)
    assert best_return(walk(rng, 12), np.arange(12) / 25, 1 / 25).likeness == 0.0
    assert best_return(walk(rng, 60), np.zeros(60), 0.0).likeness == 0.0


def test_a_picture_that_stands_still_is_frozen_and_does_not_come_back() -> None:
    still, times_s = np.repeat(walk(np.random.default_rng(1), 1), 50, axis=0), np.arange(50) / 25
    assert longest_freeze_s(still, times_s) == pytest.approx(49 / 25)
    assert best_return(still, times_s, 1 / 25).likeness == 0.0


@pytest.mark.parametrize("rate_hz", [15.0, 25.0])
def test_noise_and_exposure_made_up_for_a_frozen_picture_are_no_movement(rate_hz: float) -> None:
    rng = np.random.default_rng(2)
    count = int(4 * rate_hz)
    times_s = np.arange(count) / rate_hz
    light = 1 + 0.05 * np.sin(2 * np.pi * times_s)[:, None, None]
    disguised = walk(rng, 1) * light + rng.normal(0, 0.3, (count, 32, 32))
    assert longest_freeze_s(np.asarray(disguised, np.float32), times_s) == 0.0
    assert least_unrest(np.asarray(disguised, np.float32), times_s, LONG_REST) < 0.009
    alive = walk(rng, count) + rng.normal(0, 0.3, (count, 32, 32))
    assert least_unrest(np.asarray(alive, np.float32), times_s, LONG_REST) > 0.05
    # One still second and a half within four is enough to be noticed.
    alive[count // 2 :][: int(2.4 * rate_hz)] = disguised[: len(alive[count // 2 :][: int(2.4 * rate_hz)])]
    assert least_unrest(np.asarray(alive, np.float32), times_s, LONG_REST) < 0.009


@pytest.mark.parametrize("rate_hz", [15.0, 25.0])
def test_a_stream_that_stops_a_second_before_its_end_is_at_rest_though_its_encoder_goes_on_repairing(rate_hz: float) -> None:
    rng = np.random.default_rng(4)
    count = int(3 * rate_hz)
    times_s = np.arange(count) / rate_hz
    stopped = walk(rng, count)
    last = count - int(1.2 * rate_hz)
    stopped[last:] = stopped[last]
    stopped[last:] += np.cumsum(rng.normal(0, 0.02, stopped[last:].shape), axis=0)
    assert least_unrest(stopped, times_s, LONG_REST) > 0.009
    assert least_unrest(stopped, times_s, BRIEF_REST) < 0.005
    assert least_unrest(walk(rng, count), times_s, BRIEF_REST) > 0.03


def test_a_clip_too_short_to_rest_in_has_no_unrest() -> None:
    short = walk(np.random.default_rng(3), 20)
    assert least_unrest(short, np.arange(20) / 15, LONG_REST) == math.inf
    assert least_unrest(short, np.zeros(20), LONG_REST) == math.inf
    assert least_unrest(short[:1], np.zeros(1), LONG_REST) == math.inf
