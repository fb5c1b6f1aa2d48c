"""From the manifest to chips: no person in two splits, and the pixels inference will see."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from kyc_guard.faces import face_finder, face_square, measure
from kyc_guard.faces.views import FACE, PATCH, View
from kyc_guard.media.encode import png
from kyc_guard.types import UInt8Array
from training.chips import MASK_SIDE, Chip, ChipRow, ChipStore, ChipWriter
from training.data import CALIBRATION_SOURCES, MAX_FACE_PX, ManifestRow, build_real_chips, cut_chip, read_manifest, split_of
from training.evaluate import views_of

pytestmark = pytest.mark.torch

PORTRAIT = np.ascontiguousarray(astronaut()[:256, 96:352])
FIELDS = ("path", "label", "attack_type", "source", "subject", "group", "split", "detail")


def manifest_row(**facts: str) -> ManifestRow:
    plain = dict.fromkeys(FIELDS, "") | {"path": "a.png", "label": "bona_fide", "source": "here", "subject": "a", "split": "train"}
    return ManifestRow(**(plain | facts))


def write_manifest(folder: Path, rows: list[ManifestRow]) -> None:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows([getattr(row, field) for field in FIELDS] for row in rows)


# ---- splits


def test_validation_stays_validation_and_a_whole_source_is_kept_for_calibration() -> None:
    assert split_of(manifest_row(split="validation", source=next(iter(CALIBRATION_SOURCES)))) == "validation"
    assert {split_of(manifest_row(source=s, subject=str(i))) for s in CALIBRATION_SOURCES for i in range(30)} == {"calibration"}


def test_about_an_eighth_of_the_people_calibrate() -> None:
    drawn = [split_of(manifest_row(subject=str(i))) for i in range(2000)]
    assert set(drawn) == {"train", "calibration"}
    assert drawn.count("calibration") / len(drawn) == pytest.approx(0.12, abs=0.03)


def test_a_swapped_clip_is_where_the_person_under_the_swap_is() -> None:
    for person in map(str, range(200)):
        assert split_of(manifest_row(subject=person)) == split_of(manifest_row(subject=f"{person}+model", label="attack"))


@pytest.mark.shared
def test_no_person_of_the_real_manifest_is_in_two_splits(shared_data: Path) -> None:
    rows = read_manifest(shared_data)
    assert {r.split for r in rows} == {"train", "calibration", "validation"}
    of_source, anywhere = defaultdict(set), defaultdict(set)
    for row in rows:
        person = row.subject.split("+")[0]
        of_source[row.source, person].add(row.split)
        if person:
            anywhere[person].add(row.split)
    assert {person for person, splits in of_source.items() if len(splits) > 1} == set()
    assert {person for person, splits in anywhere.items() if len(splits) > 1} == set()


@pytest.mark.shared
def test_every_split_of_the_real_manifest_has_both_classes(shared_data: Path) -> None:
    rows = read_manifest(shared_data)
    for split in ("train", "calibration", "validation"):
        assert {r.label for r in rows if r.split == split} == {"bona_fide", "attack"}


# ---- chips


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chips of a portrait, an attack, a picture without a face and one that cannot be read."""
    data, cache = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("cache")
    (data / "a.png").write_bytes(png(PORTRAIT))
    (data / "b.png").write_bytes(png(np.ascontiguousarray(PORTRAIT[:, ::-1])))
    (data / "c.png").write_bytes(png(np.full((100, 100, 3), 90, np.uint8)))
    (data / "d.png").write_bytes(b"not a picture")
    attack = manifest_row(path="b.png", label="attack", attack_type="replay")
    write_manifest(data, [manifest_row(), attack, manifest_row(path="c.png"), manifest_row(path="d.png")])
    build_real_chips(data, cache)
    return cache


def test_every_face_of_the_manifest_becomes_a_chip_with_its_facts(cache: Path) -> None:
    store = ChipStore(cache / "real")
    assert [(r.path, r.label, r.attack_type) for r in store.rows] == [("a.png", "bona_fide", ""), ("b.png", "attack", "replay")]
    assert [int(chip.mask.min()) for chip in store] == [0, 255]
    found = face_finder().find(np.ascontiguousarray(store[0].image_rgb))[0]
    (cx, cy), side = face_square(found)
    assert store.rows[0].face_xy_side == pytest.approx((cx, cy, side), abs=5)
    assert np.abs(found.landmarks_px[:468, :2] - store[0].landmarks_px[:468]).mean() < 3


def test_what_cannot_be_read_is_named_and_finished_shards_are_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.png").write_bytes(b"not a picture")
    write_manifest(tmp_path, [manifest_row(path="d.png")])
    build_real_chips(tmp_path, tmp_path)
    out = capsys.readouterr()
    assert "d.png" in out.err
    assert "1 unreadable" in out.out
    build_real_chips(tmp_path, tmp_path)
    assert capsys.readouterr().out == ""


def test_side_by_side_processes_share_the_shards(tmp_path: Path) -> None:
    write_manifest(tmp_path, [])
    write_manifest(tmp_path, [manifest_row(path=f"{i}.png") for i in range(600)])
    build_real_chips(tmp_path, tmp_path, (1, 2))
    assert sorted(p.name for p in (tmp_path / "real").glob("*.json")) == ["real_0001.json"]
    build_real_chips(tmp_path, tmp_path, (0, 2))
    assert sorted(p.name for p in (tmp_path / "real").glob("*.json")) == [f"real_000{i}.json" for i in range(3)]


def _resized(side_px: int) -> UInt8Array:
    return cv2.resize(PORTRAIT, (side_px, side_px), interpolation=cv2.INTER_AREA if side_px < 256 else cv2.INTER_CUBIC)


@pytest.mark.parametrize("view", [FACE, PATCH], ids=lambda v: v.name)
@pytest.mark.parametrize("side_px", [256, 640, 1400], ids=["small face", "face at native size", "large face"])
def test_training_sees_of_a_chip_what_inference_sees_of_the_frame(tmp_path: Path, view: View, side_px: int) -> None:
    frame = _resized(side_px)
    face = measure(frame, face_finder().find(PORTRAIT)[0].landmarks_px * np.float32(side_px / 256))
    image, landmarks, square = cut_chip(frame, face)
    assert square[2] == pytest.approx(min(face_square(face)[1], MAX_FACE_PX), rel=0.01)
    facts = {**dict.fromkeys(FIELDS, ""), "label": "bona_fide"}
    writer = ChipWriter(tmp_path, "a")
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    writer.add(ChipRow(**facts, frame=0, side_px=image.shape[0], face_xy_side=square), Chip(image, landmarks, mask))
    writer.close()
    for shown, look in zip(views_of(view, ChipStore(tmp_path), 0), view.looks, strict=True):
        (expected,) = view.cut(frame, face, [look]).astype(float)
        best = min(  # the chip's corner lies on a whole pixel, so the window may be off by one
            np.abs(np.roll(shown.astype(float), (dy, dx), (0, 1)) - expected)[2:-2, 2:-2].mean() for dy in (-1, 0, 1) for dx in (-1, 0, 1)
        )
        assert best < (3.5 if look.quality is None else 5.0)  # a codec's blocks lie elsewhere on the chip
