"""The nets: shapes, the ImageNet start, and one order of names for training and inference."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from skimage.data import chelsea

from kyc_guard.faces.views import VIEWS
from training import models
from training.models import AttackNet, Exported, load_imagenet, normalise
from training.train import Config

pytestmark = pytest.mark.torch

CATS = range(281, 287)
"""ImageNet's tabby, tiger, Persian, Siamese and Egyptian cat, and the cougar. Source: ILSVRC 2012 class list."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("stages", "map_side"), [(5, 8), (7, 4)])
def test_a_net_answers_with_two_logits_a_species_a_map_and_an_embedding(stages: int, map_side: int) -> None:
    net = AttackNet(stages, pretrained=False).eval()
    with torch.inference_mode():
        out = net(torch.zeros(2, 3, 128, 128))
    assert [tuple(part.shape) for part in out] == [(2, 2), (2, len(models.CLASSES)), (2, map_side, map_side), (2, 160)]


@pytest.mark.parametrize("view", VIEWS)
def test_the_shipped_configs_fit_their_views_and_maps(view: str) -> None:
    config = Config.load(Path(models.__file__).parent / "configs" / f"{view}.toml")
    assert config.view == view
    with torch.inference_mode():
        out = AttackNet(config.stages, pretrained=False).eval()(torch.zeros(1, 3, VIEWS[view].side_px, VIEWS[view].side_px))
    assert out.map.shape[-1] == config.map_side


def test_the_imagenet_weights_know_a_cat() -> None:
    net = timm.create_model("efficientnet_lite0")
    load_imagenet(net)
    picture = cv2.resize(np.ascontiguousarray(chelsea()[:, 75:375]), (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        likeliest = int(net.eval()(normalise(torch.from_numpy(picture[None]))).argmax())
    assert likeliest in CATS


def test_a_net_starts_from_imagenet_and_not_from_chance() -> None:
    whole = timm.create_model("efficientnet_lite0")
    load_imagenet(whole)
    loaded, chance = AttackNet(5), AttackNet(5, pretrained=False)
    assert torch.equal(loaded.stem[0].weight, whole.conv_stem.weight)
    assert torch.equal(loaded.stages[4][0].conv_pw.weight, whole.blocks[4][0].conv_pw.weight)
    assert not torch.equal(chance.stem[0].weight, whole.conv_stem.weight)


def test_weights_of_another_net_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\d+ tensors for \d+ places"):
        load_imagenet(timm.create_model("mobilenetv3_small_050"))


def test_pixels_are_normalised_as_the_imagenet_weights_were_trained() -> None:
    rgb = torch.tensor([0, 127, 255], dtype=torch.uint8).repeat(1, 2, 5, 1)
    out = normalise(rgb)
    assert out.shape == (1, 3, 2, 5)
    assert out[0, :, 0, 0].tolist() == [-127 / 128, 0.0, 1.0]


def test_what_is_exported_gives_probabilities_for_species_and_map() -> None:
    net = AttackNet(5, pretrained=False)
    with torch.inference_mode():
        logits, species, where, _ = Exported(net).eval()(torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8))
    assert logits.shape == (3, 2)
    assert species.sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    assert 0.0 <= float(where.min()) <= float(where.max()) <= 1.0
