"""Figures of motion: each rises with what it is named after, and not with what must not matter."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from faces_in_motion import RATE_HZ, Scene, evidence, frozen, looped, moved, noisy, still_noise, sway, turned, waved

from kyc_guard.faces import OVAL
from kyc_guard.motion import GROUPS, POOLED_NAMES, MotionFeatures, Repeats, measure_motion, measure_repeats
from kyc_guard.motion.regions import LIPS
from kyc_guard.types import Evidence, FaceTrack, Float32Array, UInt8Array


@cache
def figures(scene: Scene) -> MotionFeatures:
    return of(evidence(scene))


def of(seen: Evidence) -> MotionFeatures:
    assert seen.clip is not None
    assert seen.track is not None
    assert seen.burst_track is not None
    return measure_motion(seen.clip, seen.track, seen.burst_track)


@cache
def stream(scene: Scene) -> Repeats:
    seen = evidence(scene)
    assert seen.clip is not None
    assert seen.burst_track is not None
    return measure_repeats(seen.clip, seen.burst_track)


def figure(measured: MotionFeatures, name: str) -> float:
    return float(measured.pooled()[POOLED_NAMES.index(name)])


def chewing(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
    """The mouth of the mesh opens and closes while the head sways: no plane moves like this."""
    image, mesh = waved(time_s, number)
    lips = list(LIPS)
    mesh[lips, 1] += 3.0 * np.sin(9.0 * time_s) * np.sign(mesh[lips, 1] - mesh[lips, 1].mean())
    return image, mesh


def banded(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
    """A bright band wanders down the picture."""
    image, mesh = still_noise(time_s, number)
    rows = 12 * np.sin(2 * np.pi * (np.arange(len(image)) / 128 - 1.3 * time_s))
    return np.clip(image + rows[:, None, None], 0, 255).astype(np.uint8), mesh


def masked(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
    """The face without its grain, the surround with it: as a swap leaves it."""
    clean, mesh = moved(sway(time_s))
    inside = np.zeros(clean.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(mesh[list(OVAL), :2].astype(np.int32)), 1)
    soft = cv2.GaussianBlur(clean, (0, 0), 1.2)
    return np.where(inside[..., None] > 0, soft, noisy(clean, number)), mesh


def test_every_figure_belongs_to_exactly_one_group() -> None:
    assert sorted(n for names in GROUPS.values() for n in names) == sorted(POOLED_NAMES)
    assert len(set(POOLED_NAMES)) == len(POOLED_NAMES)


def test_a_clip_gives_one_number_a_name_and_the_same_ones_again() -> None:
    first, second = figures(waved).pooled(), of(evidence(waved)).pooled()
    assert first.shape == (len(POOLED_NAMES),)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_a_photo_that_does_not_move_is_frozen_for_its_whole_length() -> None:
    assert stream(frozen).frozen_s == pytest.approx(99 / RATE_HZ)


@pytest.mark.parametrize("scene", [waved, still_noise, chewing])
def test_a_sensors_noise_is_never_frozen_and_never_returns(scene: Scene) -> None:
    frozen_s, _, _, returned = stream(scene)
    assert frozen_s < 2 / RATE_HZ
    assert returned.likeness < 0.65


@pytest.mark.parametrize(("scene", "mirrored", "period_s"), [(looped, False, 30 / RATE_HZ), (turned, True, 35 / RATE_HZ)])
def test_a_stream_that_repeats_brings_its_moments_back(scene: Scene, mirrored: bool, period_s: float) -> None:
    frozen_s, _, _, returned = stream(scene)
    assert returned.likeness > 0.95
    assert returned.turned is mirrored
    assert returned.period_s / period_s == pytest.approx(round(returned.period_s / period_s))
    assert frozen_s < 2 / RATE_HZ


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("whole.plane_residual", waved, chewing),
        ("whole.sway_mouth", waved, chewing),
        ("whole.band_peak", still_noise, banded),
        ("step.grain_skin", masked, waved),
        ("still.fine_skin", masked, waved),
        ("step.flow_face", still_noise, waved),
        ("whole.match_stay_far", waved, still_noise),
    ],
)
def test_a_figure_rises_with_what_it_is_named_after(name: str, low: Scene, high: Scene) -> None:
    assert figure(figures(low), name) < figure(figures(high), name)


def test_brightness_of_the_whole_picture_hardly_moves_the_sharpness_ratios() -> None:
    def darker(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
        image, mesh = waved(time_s, number)
        return (image * np.float32(0.7)).astype(np.uint8), mesh

    bright, dark = figures(waved), figures(darker)
    for where in ("skin", "around"):
        assert figure(bright, f"still.fine_{where}") == pytest.approx(figure(dark, f"still.fine_{where}"), abs=0.4)


def test_a_face_at_the_pictures_edge_leaves_gaps_rather_than_mirror_images() -> None:
    def at_the_edge(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
        image, mesh = waved(time_s, number)
        low, high = mesh[:, :2].min(axis=0).astype(int), mesh[:, :2].max(axis=0).astype(int)
        mesh[:, :2] -= low
        return np.ascontiguousarray(image[low[1] : low[1] + 110, low[0] : low[0] + max(high - low)]), mesh

    seen = evidence(lambda t, n: at_the_edge(0.0 * t, n))
    pooled = of(seen).pooled()
    assert np.isnan(pooled).any()
    assert not np.isinf(pooled).any()


def test_a_face_seen_once_in_the_burst_has_no_motion() -> None:
    seen = evidence(waved)
    assert seen.clip is not None
    assert seen.track is not None
    assert seen.burst_track is not None
    once = FaceTrack((seen.burst_track.faces[0], *[None] * (len(seen.burst_track.faces) - 1)), 0)
    with pytest.raises(ValueError, match="two burst frames"):
        measure_motion(seen.clip, seen.track, once)


def test_gaps_in_the_burst_are_not_taken_for_steps() -> None:
    seen = evidence(waved)
    assert seen.clip is not None
    assert seen.track is not None
    assert seen.burst_track is not None
    faces = tuple(f if i % 4 != 3 else None for i, f in enumerate(seen.burst_track.faces))
    assert len(measure_motion(seen.clip, seen.track, FaceTrack(faces, 0)).step) == 8
