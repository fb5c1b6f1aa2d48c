"""Portraits on documents: which chips are put on them, that a document keeps its face, and what a point promises."""

from __future__ import annotations

from pathlib import Path

import made_chips
import numpy as np
import pytest
from skimage import data

from training.chips import ChipStore, ChipWriter
from training.document_portraits import WAYS, Score, Task, fitted, judged, tasks


def _store(folder: Path, *rows: made_chips.ChipRow) -> ChipStore:
    writer = ChipWriter(folder, "part_0000")
    for row in rows:
        writer.add(row, made_chips.chip(np.zeros((row.side_px, row.side_px, 3), np.uint8)))
    writer.close()
    return ChipStore(folder)


def test_nobody_a_net_was_trained_on_is_asked_about_and_everybody_once(tmp_path: Path) -> None:
    row = made_chips.row
    real = _store(
        tmp_path / "real",
        row(subject="a", split="train", side_px=8),
        row(subject="b", split="calibration", side_px=8),
        row(subject="c", split="validation", side_px=8),
        row(subject="c", split="validation", side_px=8),
        row(subject="d", split="validation", side_px=8, source="elsewhere"),
        row(subject="e", split="validation", side_px=8, source="elsewhere", label="attack", attack_type="generated"),
        row(subject="f", split="validation", side_px=8, label="attack", attack_type="print"),
    )
    made = _store(tmp_path / "bank", row(subject="c", split="validation", side_px=8, label="attack", attack_type="swap", attack="oval"))
    found = list(tasks({"real": real, "bank": made}, ["here"]))
    assert {(t.split, t.group, t.person) for t in found} == {
        ("calibration", "honest", "here/b"),
        ("validation", "honest", "here/c"),
        ("validation", "generated (elsewhere)", "elsewhere/e"),
        ("validation", "swap (simulated)", "here/c"),
    }
    assert len({tuple(t.seed) for t in found}) == len(found)
    assert sum(t.split == "validation" for t in found) == 3


@pytest.mark.parametrize("way", WAYS)
def test_the_same_task_gives_the_same_face_on_the_same_document(way: str) -> None:
    chip = made_chips.chip(np.ascontiguousarray(data.astronaut()[20:260, 100:340]))
    first, again = (WAYS[way](np.random.default_rng(3), chip, "validation") for _ in range(2))
    assert first is not None
    assert again is not None
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1].landmarks_px, again[1].landmarks_px)
    assert abs(first[1].roll_deg) < 15


def test_the_point_lets_the_wanted_share_of_honest_portraits_through() -> None:
    rng = np.random.default_rng(0)

    def rows(group: str, centre: float) -> list[Score]:
        return [Score(Task("real", i, 0, "calibration", group, f"{group}/{i}"), z, 100.0) for i, z in enumerate(rng.normal(centre, 1, 400))]

    both = rows("honest", -1.0) + rows("generated (x)", 1.5)
    platt, point = fitted(both, 0.1, 0.01)
    assert platt.slope > 0
    found = judged(both, platt, point, sharp=["honest"])
    assert found["honest"]["flagged"] in {4, 5}
    assert found["all attacks"] == found["generated (x)"]
    assert found["generated (x)"]["auc"] == pytest.approx(0.96, abs=0.02)


def test_the_point_is_that_of_the_source_whose_honest_portraits_look_worst() -> None:
    rng = np.random.default_rng(0)
    centres = {"easy": ("honest", -3.0), "hard": ("honest", 0.0), "made": ("generated (x)", 2.0)}
    rows = [
        Score(Task("real", i, 0, "calibration", group, f"{source}/{i}"), z, 100.0)
        for source, (group, centre) in centres.items()
        for i, z in enumerate(rng.normal(centre, 1, 400))
    ]
    platt, point = fitted(rows, 0.1, 0.01)
    reached = [sum(platt(s.log_odds) >= point for s in rows if s.task.source == source) for source in ("easy", "hard")]
    assert reached[0] == 0
    assert reached[1] in {4, 5}
