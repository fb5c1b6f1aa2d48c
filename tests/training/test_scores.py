"""What a net's scores are worth: areas under curves, and the summary by species and source."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import attack, blotches, chip, fill, row

from kyc_guard.faces.views import FACE, PATCH
from training.chips import ChipStore, ChipWriter
from training.evaluate import auc, score, score_split, summary, views_of
from training.models import AttackNet

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("attacks", "faces", "expected"),
    [([3, 4], [1, 2], 1.0), ([1, 2], [3, 4], 0.0), ([1, 3], [2], 0.5), ([2, 2], [2, 2], 0.5), ([2, 3], [1, 2], 0.875)],
)
def test_auc_counts_attacks_above_faces_and_ties_half(attacks: list[float], faces: list[float], expected: float) -> None:
    assert auc(np.array(attacks, np.float32), np.array(faces, np.float32)) == pytest.approx(expected)


def test_auc_of_nothing_is_not_a_number() -> None:
    assert math.isnan(auc(np.zeros(0, np.float32), np.ones(3, np.float32)))


def test_every_place_of_a_view_is_scored_once_and_averaged(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    fill(tmp_path, people=2)
    store = ChipStore(tmp_path / "real")
    for view, net in ((FACE, AttackNet(7, pretrained=False).eval()), (PATCH, AttackNet(5, pretrained=False).eval())):
        assert len(views_of(view, store, 0)) == len(view.looks)
        both = score(net, view, store, [0, 3])
        assert both.shape == (2, 2)
        assert np.allclose(both[1], score(net, view, store, [3])[0], atol=1e-5)
    assert score(net, PATCH, store, []).shape == (0, 2)


def test_a_split_is_scored_alone_with_its_rows(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    writer = ChipWriter(tmp_path, "a")
    for i, split in enumerate(("train", "validation", "train", "validation")):
        writer.add(row(split=split, subject=str(i)), chip(blotches(i)))
    writer.close()
    store = ChipStore(tmp_path)
    net = AttackNet(5, pretrained=False).eval()
    rows, logits = score_split(net, PATCH, (store, store), "validation")
    assert [r.subject for r in rows] == ["1", "3", "1", "3"]
    assert np.allclose(logits[:2], logits[2:], atol=1e-6)


def test_the_summary_scores_every_species_by_its_own_head() -> None:
    rows = [
        row(path="a"),
        row(path="b"),
        attack("replay", path="r1"),
        attack("replay", path="r2"),
        attack("swap", path="a", attack="warp"),
        attack("swap", path="b", attack="warp"),
    ]
    logits = np.array([[-1, 1], [-2, -1], [3, -9], [-1.5, -9], [-9, 2], [-9, -2]], np.float32)
    found = summary(rows, logits)
    assert found["real replay"] == found["physical pooled"] == 0.75
    assert found["simulated swap"] == 0.5
    assert found["simulated swap above its own original"] == 0.5
    assert found["here bona fide > 0"] == 0.5


def test_live_swaps_are_ranked_against_the_clip_they_were_made_from() -> None:
    facts = {"source": "deepfacelive_pairs"}
    rows = [row(path=f"real/{i}_real.mp4", frame=f, **facts) for i in range(2) for f in range(2)]
    rows += [attack("swap", path=f"fake/{i}_fake.mp4", frame=f, **facts) for i in range(2) for f in range(2)]
    digital = [0, 0, 0, 0, 1, 1, -1, -1]
    logits = np.array([[0, d] for d in digital], np.float32)
    assert summary(rows, logits)["live pairs ranked right"] == 0.5
