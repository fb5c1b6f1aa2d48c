"""Leave one source out: clips are one presentation, and what cannot be told apart gets no figure."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from training.chips import ChipRow
from training.leave_out import Plan, _counted, _separation, run_name
from training.places import CONFIGS

BONA_FIDE = ChipRow("a.png", "bona_fide", "", "cam", "p1", "", "train", "", 0, 64)
ATTACK = replace(BONA_FIDE, path="b.png", label="attack", attack_type="print", subject="p2")


def test_the_frames_of_a_clip_count_once_with_their_mean() -> None:
    rows = [BONA_FIDE, *(replace(ATTACK, path="b.mp4", frame=i) for i in range(3))]
    # One frame of the clip lies below the bona fide picture, their mean above.
    found = _separation(rows, np.array([[0.0, -9.0], [-1.0, -9.0], [1.0, -9.0], [1.0, -9.0]]))
    assert (found["n_attack"], found["n_bona_fide"], found["auc"]) == (1, 1, 1.0)


def test_either_suspicion_raises_the_score() -> None:
    found = _separation([BONA_FIDE, ATTACK], np.array([[-1.0, -1.0], [-3.0, 2.0]]))
    assert found["auc"] == 1.0


def test_one_class_alone_gets_no_figure() -> None:
    found = _separation([ATTACK], np.zeros((1, 2)))
    assert found["auc"] is None
    assert found["ci"] is None


def test_a_source_is_left_out_once_and_never_by_two_folds() -> None:
    plan = Plan.load(CONFIGS / "leave_out.toml")
    sources = [*(s for fold in (*plan.folds, plan.never_trained_on) for s in fold), *plan.omitted]
    assert len(sources) == len(set(sources))
    assert len({run_name(fold, view) for fold in plan.folds for view in plan.pairs}) == len(plan.folds) * len(plan.pairs)


def test_what_is_not_judged_is_counted_in_pictures_and_clips() -> None:
    rows = [BONA_FIDE, *(replace(ATTACK, path="b.mp4", frame=i) for i in range(3)), replace(ATTACK, source="elsewhere")]
    assert _counted(rows, "cam") == {"n_attack": 1, "n_bona_fide": 1}


@pytest.mark.shared
def test_every_source_with_attacks_is_judged_or_said_why_not(shared_data: Path) -> None:
    plan = Plan.load(CONFIGS / "leave_out.toml")
    listed = {*(s for fold in (*plan.folds, plan.never_trained_on) for s in fold), *plan.omitted}
    with (shared_data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        assert {row["source"] for row in csv.DictReader(file) if row["label"] == "attack"} == listed
    assert all(plan.omitted.values())
