"""The mouth's curves: they follow the lips and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faces_in_motion import portrait

from kyc_guard.faces import measure
from kyc_guard.faces.mouth import Mouth
from kyc_guard.types import FaceTrack, Float32Array

LOWER_LIP = [88, 178, 87, 14, 317, 402, 318, 17]
UPPER_INNER = [80, 81, 82, 13, 312, 311, 310]


def mouth_of(*meshes: Float32Array | None) -> Mouth:
    track = FaceTrack(tuple(None if m is None else measure(None, m) for m in meshes), 0)
    return Mouth.of(track, np.arange(len(meshes)) / 25)


def mesh() -> Float32Array:
    return portrait()[1].landmarks_px.copy()


def dropped(by_px: float) -> Float32Array:
    moved = mesh()
    moved[LOWER_LIP, 1] += by_px
    return moved


def closed() -> Float32Array:
    shut = mesh()
    shut[LOWER_LIP[:7]] = shut[UPPER_INNER]
    return shut


def test_opening_grows_as_the_lower_lip_drops_and_closed_lips_touch() -> None:
    mouth = mouth_of(closed(), mesh(), dropped(4), dropped(8))
    assert (np.diff(mouth.opening) > 0).all()
    assert mouth.contact[0] == 1.0
    assert mouth.contact[3] == 0.0
    assert mouth.opening[0] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("scale", "turn_deg", "shift_px"), [(2.0, 0, 0), (1.0, 20, 0), (0.5, -30, 50)])
def test_size_place_and_lean_of_the_head_change_nothing(scale: float, turn_deg: float, shift_px: float) -> None:
    cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    turned = mesh() * np.float32(scale)
    turned[:, :2] = turned[:, :2] @ np.array([[cos, -sin], [sin, cos]], np.float32) + np.float32(shift_px)
    here, there = mouth_of(mesh()), mouth_of(turned)
    for name in ("opening", "width", "protrusion", "contact", "upper", "lower", "jaw"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), abs=1e-3), name


def test_pushed_out_lips_stand_out() -> None:
    pouting = mesh()
    pouting[[0, 13, 14, 17], 2] -= 10  # z grows away from the camera
    assert mouth_of(pouting).protrusion[0] > mouth_of(mesh()).protrusion[0] + 0.05


def test_a_lost_face_is_a_gap() -> None:
    mouth = mouth_of(mesh(), None, mesh())
    assert np.isnan(mouth.opening).tolist() == [False, True, False]
    assert mouth.seen == pytest.approx(2 / 3)
    assert mouth.rate_hz == pytest.approx(25)
    assert mouth_of().seen == 0.0
    assert mouth_of().rate_hz == 0.0
