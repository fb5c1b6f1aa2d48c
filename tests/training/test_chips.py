"""The chip store: what is written is read back, and what was interrupted is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_chips import attack, blotches, chip, fill, row

from training.chips import MASK_SIDE, ChipStore, ChipWriter


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (MASK_SIDE, MASK_SIDE), dtype=np.uint8)
    rows = [row(frame=3, face_xy_side=(1.5, 2.5, 30.0)), attack("swap", attack="warp", held_out=True, side_px=80)]
    chips = [chip(blotches(1)), chip(blotches(2, 80), mask)]
    writer = ChipWriter(tmp_path, "a")
    for one_row, one_chip in zip(rows, chips, strict=True):
        writer.add(one_row, one_chip)
    writer.close()
    store = ChipStore(tmp_path)
    assert store.rows == rows
    assert len(store) == 2
    for read, written in zip(store, chips, strict=True):
        assert np.array_equal(read.image_rgb, written.image_rgb)
        assert np.array_equal(read.landmarks_px, written.landmarks_px)
        assert np.array_equal(read.mask, written.mask)
        assert (read.image_rgb.dtype, read.landmarks_px.dtype, read.mask.dtype) == (np.uint8, np.float32, np.uint8)


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, subject in (("b", "second"), ("a", "first")):
        writer = ChipWriter(tmp_path, name)
        writer.add(row(subject=subject), chip(blotches(len(subject))))
        writer.close()
    store = ChipStore(tmp_path)
    assert [r.subject for r in store.rows] == ["first", "second"]
    assert np.array_equal(store[1].image_rgb, blotches(len("second")))


def test_an_interrupted_shard_is_not_there_and_can_be_made_again(tmp_path: Path) -> None:
    whole = ChipWriter(tmp_path, "a")
    whole.add(row(subject="whole"), chip(blotches(0)))
    whole.close()
    torn = ChipWriter(tmp_path, "b")
    torn.add(row(subject="torn"), chip(blotches(1)))
    (tmp_path / "c.json.part").write_text('[{"path": "images/')
    torn._pixels.flush()  # as a killed process leaves it
    assert [r.subject for r in ChipStore(tmp_path).rows] == ["whole"]
    again = ChipWriter(tmp_path, "b")
    again.add(row(subject="again"), chip(blotches(2)))
    again.close()
    torn._pixels.close()
    store = ChipStore(tmp_path)
    assert [r.subject for r in store.rows] == ["whole", "again"]
    assert np.array_equal(store[1].image_rgb, blotches(2))


def test_pixels_without_their_index_are_not_there(tmp_path: Path) -> None:
    writer = ChipWriter(tmp_path, "a")
    writer.add(row(), chip(blotches(0)))
    writer.close()
    (tmp_path / "a.json").unlink()
    assert len(ChipStore(tmp_path)) == 0


def test_a_shard_without_faces_is_finished_all_the_same(tmp_path: Path) -> None:
    ChipWriter(tmp_path, "a").close()
    assert (tmp_path / "a.json").exists()
    assert len(ChipStore(tmp_path)) == 0


def test_a_chip_that_is_not_as_large_as_its_row_says_is_refused(tmp_path: Path) -> None:
    writer = ChipWriter(tmp_path, "a")
    with pytest.raises(AssertionError):
        writer.add(row(side_px=65), chip(blotches(0)))
    writer.close()


def test_chips_are_views_of_the_file_and_cannot_be_written_to(tmp_path: Path) -> None:
    fill(tmp_path, people=1)
    image = ChipStore(tmp_path / "real")[0].image_rgb
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 0
