"""Fictional documents: the same job gives the same picture, what is held out is held out, and boxes lie where they say."""

from __future__ import annotations

from pathlib import Path

import cv2
import made_chips
import numpy as np
import pytest

from kyc_guard.types import UInt8Array
from training.chips import ChipStore, ChipWriter
from training.document_attacks import TOOLS, Case, Tool, case, honest
from training.document_pages import FONTS, draw, holder, layout, resize
from training.documents import SPLITS, Config, Faces, Job, Row, fit_hint, jobs, logit_of, make, measure

CHIP = made_chips.chip(made_chips.blotches(0, 96))
DONOR = made_chips.chip(made_chips.blotches(1, 96))


def _case(number: int = 0, split: str = "train") -> Case:
    rng = np.random.default_rng(number)
    return case(rng, layout(number, split), CHIP, DONOR, split)


def test_no_font_ornament_layout_or_held_out_tool_is_in_both_splits() -> None:
    assert not set(FONTS["train"]) & set(FONTS["validation"])
    forms = {split: [layout(n, split) for n in range(12)] for split in SPLITS}
    assert not {f.ornament for f in forms["train"]} & {f.ornament for f in forms["validation"]}
    assert not set(forms["train"]) & set(forms["validation"])
    trained_on = {j.tool.name for j in jobs(Config.load()) if j.tool is not None and j.split == "train"}
    assert trained_on == {t.name for t in TOOLS if not t.held_out}
    assert {t.species for t in TOOLS if t.held_out} == {t.species for t in TOOLS}


def test_any_beginning_of_the_jobs_is_balanced() -> None:
    todo = list(jobs(Config.load()))
    some = todo[: len(todo) // 4]
    for split in SPLITS:
        share = sum(j.tool is None and j.split == split for j in some) / Config.load().honest[split]
        assert share == pytest.approx(0.25, abs=0.03)
    assert len({j.name for j in todo}) == len(todo)


def test_people_of_one_split_and_fold_are_in_no_other(tmp_path: Path) -> None:
    writer = ChipWriter(tmp_path, "real_0000")
    for i in range(20):
        split = "validation" if i >= 10 else "train"
        picture = np.full((96, 96, 3), i, np.uint8)
        writer.add(made_chips.row(subject=f"p{i}", split=split, side_px=96), made_chips.chip(picture))
    writer.close()
    faces = Faces(ChipStore(tmp_path), ["here"])
    drawn = {
        (split, fold): {int(chip.image_rgb[0, 0, 0]) for n in range(8) for chip in faces.draw(np.random.default_rng(n), split, fold, 5)}
        for split in SPLITS
        for fold in range(5)
    }
    people = [p for group in drawn.values() for p in group]
    assert len(people) == len(set(people)) == 20
    assert all((min(group) >= 10) == (split == "validation") for (split, _), group in drawn.items())


def test_print_lies_in_its_boxes_at_any_size() -> None:
    form = layout(3, "train")
    page = resize(draw(np.random.default_rng(0), form, holder(np.random.default_rng(0)), CHIP), 0.7)
    height, width = page.image_rgb.shape[:2]
    grey = cv2.cvtColor(page.image_rgb, cv2.COLOR_RGB2GRAY)
    for line in page.prints:
        x0, y0, x1, y1 = (round(v) for v in line.box_xyxy)
        assert 0 <= x0 < x1 <= width + 2
        assert 0 <= y0 < y1 <= height + 2
        inside = grey[y0:y1, x0:x1]
        assert float(np.percentile(inside, 95)) - float(inside.min()) > 25


@pytest.mark.parametrize("tool", [None, *TOOLS], ids=lambda tool: "honest" if tool is None else tool.name)
def test_every_tool_repeats_itself_and_keeps_track_of_print_and_portrait(tool: Tool | None) -> None:
    def once() -> tuple[UInt8Array, np.ndarray[tuple[int, ...], np.dtype[np.float32]], tuple[int, ...]]:
        rng = np.random.default_rng(5)
        made = _case(2)
        found = honest(rng, made) if tool is None else tool.make(rng, made)
        height, width = found.image_rgb.shape[:2]
        centres = (found.lines_xyxy[:, :2] + found.lines_xyxy[:, 2:]) / 2
        assert ((centres > 0) & (centres < (width, height))).all()
        middle = found.landmarks_px.mean(axis=0)
        assert ((middle > 0) & (middle < (width, height))).all()
        return found.image_rgb, found.lines_xyxy, found.altered

    (a, boxes, altered), (b, _, _) = once(), once()
    assert np.array_equal(a, b)
    assert bool(altered) == (tool is not None and tool.species == "text")
    assert all(i < len(boxes) for i in altered)


def test_an_altered_line_differs_from_the_honest_picture_there_and_nowhere_else() -> None:
    tool = next(t for t in TOOLS if t.name == "text_overprinted")
    made = _case(4)
    blank = np.random.default_rng(1)
    altered = tool.make(blank, made).altered
    assert len(altered) == 1
    assert made.page.prints[altered[0]].kind == "value"


def _row(split: str, tool: Tool | None, number: int) -> Row:
    rng = np.random.default_rng(number)
    picture = np.clip(rng.normal(200, 3 if tool is None else 12, (300, 480, 3)), 0, 255).astype(np.uint8)
    boxes = np.array([(20, 20, 440, 40), (20, 240, 440, 260)], np.float32)
    return Row(Job(split, tool, number), number, measure(picture, boxes, None))


def test_a_hint_learns_what_tells_the_pictures_apart() -> None:
    tool = next(t for t in TOOLS if t.species == "recapture")
    rows = [_row("train", t, n) for n in range(12) for t in (None, tool)]
    hint = fit_hint(rows, "recapture", Config.load())
    unseen = [logit_of(hint, _row("validation", t, 50), "recapture") for t in (None, tool)]
    assert unseen[0] < 0 < unseen[1]


def test_the_same_job_gives_the_same_picture(tmp_path: Path) -> None:
    writer = ChipWriter(tmp_path, "real_0000")
    for i in range(20):
        writer.add(made_chips.row(subject=f"p{i}", side_px=96), made_chips.chip(made_chips.blotches(i, 96)))
    writer.close()
    config, faces = Config.load(), Faces(ChipStore(tmp_path), ["here"])
    job = next(j for j in jobs(config) if j.split == "train" and j.tool is not None)
    assert np.array_equal(make(config, faces, job).image_rgb, make(config, faces, job).image_rgb)
