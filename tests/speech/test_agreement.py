"""Lag curves and figures of agreement on curves made to order."""

from __future__ import annotations

import numpy as np
import pytest

from kyc_guard.faces.mouth import Mouth
from kyc_guard.speech.agreement import CURVES, LIPS, Lips, agree, envelope_db, net_input
from kyc_guard.speech.recording import bandwidth_hz, clipped_share

ACCEPTED_S = (-0.10, 0.08)
ALIKE = np.full(len(CURVES), 1 / len(CURVES))


def movement(seconds: float, seed: int) -> np.ndarray:
    """(T, 7) at 50 Hz, smooth and irregular."""
    noise = np.random.default_rng(seed).normal(size=(round(50 * seconds) + 8, 7))
    return np.stack([np.convolve(column, np.ones(9) / 9, "valid") for column in noise.T], axis=1)


def lips(rows: np.ndarray, start_s: float = 0.0) -> Lips:
    return Lips(start_s, rows, 0.05)


@pytest.mark.parametrize("lag", [-25, -6, 0, 5, 30])
def test_the_lag_is_found_with_its_sign(lag: int) -> None:
    asked = movement(6.0, 0)
    found = agree(lips(np.roll(asked, lag, axis=0)), asked.astype(np.float32), ACCEPTED_S, ALIKE)
    assert found.lag_s == pytest.approx(lag / 50)
    assert found.peak > 0.9
    assert (found.figures["near"] > 0.9) == (ACCEPTED_S[0] <= lag / 50 <= ACCEPTED_S[1])


def test_curves_that_have_nothing_to_do_with_one_another_hardly_agree() -> None:
    found = agree(lips(movement(6.0, 1)), movement(6.0, 2).astype(np.float32), ACCEPTED_S, ALIKE)
    assert abs(found.figures["near"]) < 0.4
    assert found.figures["steady"] < 0.8


def test_a_mouth_seen_later_than_the_sound_begins_is_held_against_its_own_time() -> None:
    asked = movement(6.0, 3)
    found = agree(lips(asked[60:], start_s=1.2), asked.astype(np.float32), ACCEPTED_S, ALIKE)
    assert found.lag_s == 0.0
    assert len(found.expected) == 240


def test_a_curve_that_does_not_count_does_not_matter() -> None:
    asked = movement(6.0, 3)
    seen = np.concatenate([asked[:, :1], movement(6.0, 4)[:, 1:]], axis=1)
    counts = np.zeros(len(CURVES))
    counts[CURVES.index("opening")] = 1.0
    found = agree(lips(seen), asked.astype(np.float32), ACCEPTED_S, counts)
    assert found.figures["near"] == pytest.approx(1.0, abs=1e-3)
    assert agree(lips(seen), asked.astype(np.float32), ACCEPTED_S, ALIKE).figures["near"] < 0.5


def test_less_than_a_second_in_common_is_refused() -> None:
    with pytest.raises(ValueError, match="rows in common"):
        agree(lips(movement(6.0, 0), start_s=5.5), movement(6.0, 0).astype(np.float32), ACCEPTED_S, ALIKE)


def test_lips_bridge_frames_without_a_face_and_forget_the_drift() -> None:
    times_s = np.arange(0, 4, 0.04)
    curve = 0.05 * np.sin(2 * np.pi * 3 * times_s) + times_s
    curve[10:13] = np.nan
    found = Lips.of(Mouth(times_s, *([curve] * len(LIPS))))
    assert found is not None
    assert np.isfinite(found.rows).all()
    assert found.duration_s == pytest.approx(3.96, abs=0.03)
    assert abs(found.rows[20:-20].mean()) < 0.2


def test_a_mouth_never_seen_gives_no_lips() -> None:
    assert Lips.of(Mouth(np.arange(5.0), *([np.full(5, np.nan)] * len(LIPS)))) is None


def test_the_nets_input_is_centred_and_has_margins() -> None:
    padded = net_input(np.random.default_rng(0).normal(3, 1, (50, 384)).astype(np.float32))
    assert padded.shape == (1, 384, 70)
    assert abs(float(padded[0, :, 10:-10].mean())) < 1e-3


def test_level_bandwidth_and_clipping_are_measured_on_the_samples() -> None:
    t = np.arange(32_000) / 16_000
    sound = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    assert envelope_db(sound)[50] == pytest.approx(-9.03, abs=0.1)
    assert len(envelope_db(sound)) == 100
    assert bandwidth_hz(sound) == pytest.approx(1000, abs=200)
    assert clipped_share(sound) == 0.0
    assert clipped_share(np.clip(4 * sound, -1, 1)) > 0.5
    assert bandwidth_hz(np.zeros(100, np.float32)) == 0.0
