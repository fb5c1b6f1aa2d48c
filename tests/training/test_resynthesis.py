"""Autoencoders as simulators: whole pictures keep their size, faces are rewritten only inside their mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import blotches, chip

from kyc_guard.attacks.face_image import FaceImage
from training.resynthesis import KINDS, Autoencoder, attacks, rewrite

pytestmark = pytest.mark.torch


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (tmp_path / "resynthesis").mkdir()
    for name, kind in KINDS.items():
        torch.save(Autoencoder(kind).state_dict(), tmp_path / "resynthesis" / f"{name}.pt")
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (61, 83)])
def test_a_picture_of_any_size_comes_back_in_its_size(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert rewrite(Autoencoder(KINDS[name]).eval(), image).shape == image.shape


def test_one_kind_is_kept_for_validation(cache: Path) -> None:
    made = attacks(cache)
    assert {a.species for a in made if a.held_out} == {a.species for a in made if not a.held_out} == {"generated", "swap"}


def test_a_rewritten_face_leaves_the_picture_outside_its_mask_alone(cache: Path) -> None:
    one = chip(blotches(3))
    face = FaceImage(one.image_rgb, one.landmarks_px)
    for attack in attacks(cache):
        made = attack.apply(np.random.default_rng(1), face, None)
        outside = made.mask == 0
        assert (made.image_rgb != face.image_rgb).any()
        if attack.species == "swap":
            assert np.array_equal(made.image_rgb[outside], face.image_rgb[outside])
        else:
            assert not outside.any()
