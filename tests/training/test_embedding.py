"""Teaching and calibrating the face embedding, on faces and numbers a test can foresee."""

from __future__ import annotations

import struct
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from face_recognition_models import face_recognition_model_location
from skimage import data

from kyc_guard.faces import face_finder
from kyc_guard.faces.embedding import SIDE_PX, aligned
from kyc_guard.types import Float32Array, UInt8Array
from training import match, morph
from training.chips import ChipRow
from training.dlib_teacher import read_layers, teacher
from training.embedding import POOL_SIDE_PX, pulled, viewed
from training.wear import wear

pytestmark = pytest.mark.torch

PORTRAIT = np.ascontiguousarray(data.astronaut()[0:300, 80:360])


@pytest.fixture(scope="module")
def chip() -> UInt8Array:
    return aligned(PORTRAIT, face_finder().find(PORTRAIT)[0].landmarks_px, frame_px=POOL_SIDE_PX)


def test_the_teacher_says_what_dlib_says(chip: UInt8Array) -> None:
    view = viewed(np.random.default_rng(0), chip, amount=0.0, mirrored=False)
    said = np.array(dlib.face_recognition_model_v1(face_recognition_model_location()).compute_face_descriptor(view))
    with torch.inference_mode():
        ours = teacher()(torch.from_numpy(view[None]))[0].numpy()
    np.testing.assert_allclose(ours, said, atol=1e-5)


def test_layers_are_read_by_name_sizes_and_floats(tmp_path: Path) -> None:
    numbers = (1.5, -2.0, 3.25)
    layer = b"con_4" + b"\x01\x02" + b"\x01\x03" + b"\x01\x01" * 3 + struct.pack("<3f", *numbers)
    (tmp_path / "net.dat").write_bytes(b"\x01\x07head" + layer + b"relu_1" + layer.replace(b"con_4", b"affine_"))
    layers = read_layers(tmp_path / "net.dat")
    assert [one.kind for one in layers] == ["con_4", "affine_"]
    assert tuple(layers[1].values) == numbers


def test_a_view_is_the_middle_and_its_mirror_image(chip: UInt8Array) -> None:
    rng = np.random.default_rng(0)
    edge = (POOL_SIDE_PX - SIDE_PX) // 2
    plain, mirror = (viewed(rng, chip, amount=0.0, mirrored=m) for m in (False, True))
    np.testing.assert_array_equal(plain, chip[edge:-edge, edge:-edge])
    np.testing.assert_array_equal(mirror, plain[:, ::-1])
    assert np.abs(viewed(rng, chip, amount=1.0, mirrored=False).astype(int) - plain).mean() > 1


def test_wear_repeats_by_its_seed_and_varies_without(chip: UInt8Array) -> None:
    worn = [wear(np.random.default_rng(seed), chip) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(worn[0], worn[1])
    assert worn[0].shape == chip.shape
    assert np.abs(worn[0].astype(int) - worn[2]).mean() > 1


def _row(subject: str, source: str = "muxspace_lfw350") -> ChipRow:
    return ChipRow("", "bona_fide", "", source, subject, "", "train", "", 0, 1)


def at(degrees: float) -> Float32Array:
    vector = np.zeros(128, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def test_targets_move_to_their_persons_mean_and_bystanders_and_loners_stay() -> None:
    targets = np.stack([at(0), at(20), at(90), at(40)])
    moved = pulled(targets, [_row("a"), _row("a"), _row("b"), _row("c", "utkface_xerow03")], 0.5)
    np.testing.assert_allclose(np.degrees(np.arctan2(moved[:, 1], moved[:, 0])), [5, 15, 90, 40], atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.0, atol=1e-6)
    far = np.stack([at(0), at(4), at(2), at(100)])
    assert np.allclose(pulled(far, [_row("a")] * 4, 0.5)[3], far[3])


def test_pairs_stay_within_a_source_and_wear_one_side() -> None:
    clean, worn = np.stack([at(0), at(10), at(60)]), np.stack([at(5), at(15), at(65)])
    faces = match.Faces(clean, worn, np.array(["a", "a", "b"]), np.array(["s", "s", "s"]))
    found = match.pairs(faces)
    assert (int((~found.worn).sum()), int(found.worn.sum()), int(found.genuine.sum())) == (3, 6, 3)
    assert match.auc(found) == 1.0
    apart = match.pairs(match.Faces(clean, worn, faces.subjects, np.array(["s", "t", "t"])))
    assert (len(apart.distances), int(apart.genuine.sum())) == (3, 0)


def test_probability_of_another_person_rises_with_distance_and_rates_count() -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(400) < 200
    distances = np.where(genuine, rng.normal(0.3, 0.05, 400), rng.normal(0.6, 0.05, 400))
    numbers = rng.integers(0, 20, 400)
    p = match.Pairs(distances, genuine, np.zeros(400, bool), numbers, numbers)
    platt = match.fit_platt(p)
    assert platt(0.3) < 0.05
    assert platt(0.6) > 0.95
    rates = match.rates(p, 0.45)
    assert (rates["tar"], rates["fmr"], rates["genuine_pairs"]) == (pytest.approx(1.0, abs=0.02), pytest.approx(0.0, abs=0.02), 200)
    assert rates["fmr_95"][0] <= rates["fmr"] <= rates["fmr_95"][1]


def test_the_morph_hint_learns_which_figure_tells() -> None:
    rng = np.random.default_rng(0)
    is_morph = np.arange(300) < 100
    figures = np.stack([rng.normal(0.3, 0.05, 300) + 0.1 * is_morph, rng.normal(0.08, 0.01, 300)], axis=1)
    cases = morph.Cases(figures, is_morph, np.array([f"p{i % 30}" for i in range(300)]))
    distance, shape, offset = morph.fit(cases)
    scores = figures @ (distance, shape) + offset
    told = morph.measured(cases, scores, float(np.quantile(scores[~is_morph], 0.95)))
    assert told["auc"] > 0.85
    assert told["auc_95"][0] < told["auc"] < told["auc_95"][1]
    assert told["honest"] == {"suspected": 10, "of": 200, "interval_95": pytest.approx([0.024, 0.09], abs=0.005)}
