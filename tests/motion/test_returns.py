"""Streams that repeat, made by the dozen: a walk through pictures that never repeats by itself, played as an injector would."""

from __future__ import annotations

import io
import math
import tracemalloc
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from faces_in_motion import Scene, noisy, portrait, waved

from kyc_guard.config import Limits, Policy, Sampling, Settings
from kyc_guard.media import read_clip
from kyc_guard.media.sampling import SamplingPlan
from kyc_guard.motion import Return, measure_repeats
from kyc_guard.motion.returns import BRIEF_REST, LONG_REST, best_return, evened, least_unrest, longest_freeze_s, usual_step_s
from kyc_guard.types import FaceTrack, Float32Array, Float64Array

_RATES_HZ = (24.0, 25.0, 30.0)
MOST_RETURN = Policy.load(Settings().policy_path).gate("liveness_max_return")


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


def at_rest(rng: np.random.Generator, count: int, rate_hz: float = 30.0) -> Float32Array:
    """(count, 32, 32): as `walk`, but always drawn back to its rest within seconds, as a head is; so it may last for minutes."""
    patterns, ways, stays = rng.normal(0, 20, (6, 32, 32)), rng.normal(0, 1, (count + 8, 6)), math.exp(-1 / (3.0 * rate_hz))
    for k in range(1, len(ways)):
        ways[k] += stays * ways[k - 1]
    smooth = np.stack([np.convolve(w, np.ones(9) / 9, mode="valid") for w in ways.T], axis=1)
    return np.asarray(128 + np.einsum("tk,kyx->tyx", smooth, patterns), np.float32)


def sampled(rng: np.random.Generator, stream: Float32Array, motion_hz: float) -> tuple[Float32Array, Float64Array]:
    """As `seen`, of 30 frames a second, by the plan that clips are decoded by."""
    plan = SamplingPlan.of(np.arange(len(stream)) / 30, np.arange(len(stream)) % 30 == 0, Sampling(motion_hz=motion_hz))
    kept = np.unique([*plan.spread, *plan.burst, *plan.motion])
    return np.asarray(stream[kept] + rng.normal(0, 1.5, (len(kept), 32, 32)), np.float32), kept / 30


@pytest.mark.parametrize("motion_hz", [Sampling().challenge_hz, Sampling().speech_hz])
@pytest.mark.parametrize(("period_s", "clip_s"), [(2, 60), (30, 60), (45, 120), (100, 120)])
def test_a_long_period_in_a_long_clip_comes_back_and_a_long_clip_without_one_does_not(period_s: int, clip_s: int, motion_hz: float) -> None:
    rng = np.random.default_rng(period_s)
    stream = at_rest(rng, 30 * clip_s)
    found = best_return(*sampled(rng, stream[np.arange(30 * clip_s) % (30 * period_s)], motion_hz), 1 / 30)
    assert found.likeness > 0.95
    assert found.period_s / period_s == pytest.approx(round(found.period_s / period_s), abs=0.01)
    assert best_return(*sampled(rng, stream, motion_hz), 1 / 30).likeness < MOST_RETURN


def test_an_exposure_that_wanders_by_a_gain_hides_no_loop() -> None:
    faint, honest = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        gain = 1 + 0.1 * np.sin(np.linspace(0, 5, 120) + 6 * rng.random())[:, None, None]
        noise = rng.normal(0, 1.0, (120, 32, 32))
        stream = 128 + (at_rest(rng, 120) - 128) / 4
        shown = [np.asarray(gain * s + noise, np.float32) for s in (stream[np.arange(120) % 50], stream)]
        times_s = np.arange(120) / 30
        faint.append(best_return(shown[0], times_s, 1 / 30).likeness)
        honest.append(best_return(shown[1], times_s, 1 / 30).likeness)
    assert min(faint) > MOST_RETURN
    assert max(honest) < MOST_RETURN


def test_frames_crowded_into_one_moment_do_not_set_the_usual_step() -> None:
    even = np.arange(120) / 30
    assert usual_step_s(even[::-1]) == pytest.approx(1 / 30)
    assert usual_step_s(np.concatenate([even, 2 + 1e-7 * np.arange(500), [np.nan]])) == pytest.approx(1 / 30)
    assert usual_step_s(np.array([1.0])) == usual_step_s(np.full(5, 2.0)) == 0.0


def crowded(scene: Scene, frames: int, gap_s: float) -> bytes:
    """An MP4 that ticks 10 million times a second: frames over 6 s, 40 more of them in its middle ``gap_s`` apart."""
    even_s = np.arange(frames) * 6 / frames
    ticks = np.unique(np.round(1e7 * np.concatenate([even_s, even_s[-1] / 2 + gap_s * np.arange(-20, 20)])).astype(int))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"video_track_timescale": "10000000"}) as output:
        video = output.add_stream("libx264", rate=30, options={"crf": "23", "preset": "veryfast", "bf": "0"})
        video.height = video.width = 256
        video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 10_000_000)
        video.codec_context.thread_count = 1
        for n, tick in enumerate(ticks.tolist()):
            frame: Any = av.VideoFrame.from_ndarray(scene(tick / 1e7, n)[0], format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 10_000_000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return buffer.getvalue()


def returned(data: bytes) -> Return:
    clip = read_clip(data, Sampling(motion_hz=15.0), Limits())
    assert float(np.median(np.diff(clip.burst_timestamps_s))) < 0.018
    return measure_repeats(clip, FaceTrack((portrait()[1],) * len(clip.burst_rgb), 0)).returned


def again(time_s: float, number: int) -> Any:
    """The first 1.2 s again and again, with a camera's own noise."""
    image, mesh = waved(time_s % 1.2, 0)
    return noisy(image, number, 1.0), mesh


@pytest.mark.parametrize("gap_s", [1e-7, 3e-4, 0.017])
def test_a_clip_whose_frames_crowd_together_costs_no_memory_and_hides_no_loop(gap_s: float) -> None:
    files = [crowded(scene, 180, gap_s) for scene in (again, waved)]
    tracemalloc.start()
    try:
        loop, honest = (returned(data) for data in files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
    assert loop.likeness > MOST_RETURN
    assert honest.likeness < MOST_RETURN
    # As few frames as the file that once took 2.4 GB: there is nothing to see in them, but they are judged.
    assert returned(crowded(waved, 24, gap_s)).likeness <= 1.0


def test_steps_finer_than_any_camera_are_one_step() -> None:
    rng = np.random.default_rng(0)
    times_s = np.arange(90) / 15
    fine = best_return(walk(rng, 90), times_s, 1e-9)
    assert 0.0 <= fine.likeness <= 1.0


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
    assert least_unrest(evened(np.asarray(disguised, np.float32)), times_s, LONG_REST) < 0.009
    alive = walk(rng, count) + rng.normal(0, 0.3, (count, 32, 32))
    assert least_unrest(evened(np.asarray(alive, np.float32)), times_s, LONG_REST) > 0.05
    # One still second and a half within four is enough to be noticed.
    alive[count // 2 :][: int(2.4 * rate_hz)] = disguised[: len(alive[count // 2 :][: int(2.4 * rate_hz)])]
    assert least_unrest(evened(np.asarray(alive, np.float32)), times_s, LONG_REST) < 0.009


@pytest.mark.parametrize("rate_hz", [15.0, 25.0])
def test_a_stream_that_stops_a_second_before_its_end_is_at_rest_though_its_encoder_goes_on_repairing(rate_hz: float) -> None:
    rng = np.random.default_rng(4)
    count = int(3 * rate_hz)
    times_s = np.arange(count) / rate_hz
    stopped = walk(rng, count)
    last = count - int(1.2 * rate_hz)
    stopped[last:] = stopped[last]
    stopped[last:] += np.cumsum(rng.normal(0, 0.02, stopped[last:].shape), axis=0)
    assert least_unrest(evened(stopped), times_s, LONG_REST) > 0.009
    assert least_unrest(evened(stopped), times_s, BRIEF_REST) < 0.005
    assert least_unrest(evened(walk(rng, count)), times_s, BRIEF_REST) > 0.03


def test_a_clip_too_short_to_rest_in_has_no_unrest() -> None:
    short = walk(np.random.default_rng(3), 20)
    assert least_unrest(evened(short), np.arange(20) / 15, LONG_REST) == math.inf
    assert least_unrest(evened(short), np.zeros(20), LONG_REST) == math.inf
    assert least_unrest(evened(short[:1]), np.zeros(1), LONG_REST) == math.inf
