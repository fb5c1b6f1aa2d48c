"""The bank of simulated attacks: who is made into what, by which simulators, and that it can be interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_chips import attack, blotches, chip, row

from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from training.bank import build_bank, simulate
from training.chips import Chip, ChipStore, ChipWriter

pytestmark = pytest.mark.torch


def darkened(_rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None) -> Attacked:
    mask = np.zeros(face.image_rgb.shape[:2], np.float32)
    mask[: len(mask) // 2] = 1
    return Attacked(face.image_rgb // 2, mask, face.landmarks_px + np.float32(1))


def swapped(_rng: np.random.Generator, face: FaceImage, donor: FaceImage | None) -> Attacked:
    assert donor is not None
    return Attacked(donor.image_rgb.copy(), np.ones(face.image_rgb.shape[:2], np.float32), face.landmarks_px)


def lost(_rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None) -> Attacked:
    return Attacked(face.image_rgb, np.ones(face.image_rgb.shape[:2], np.float32), face.landmarks_px + np.float32(500))


DARK = Attack("dark", "print", held_out=False, needs_donor=False, apply=darkened)
DARK_HELD_OUT = Attack("dark_held_out", "print", held_out=True, needs_donor=False, apply=darkened)
SWAP = Attack("swap", "swap", held_out=False, needs_donor=True, apply=swapped)
SWAP_HELD_OUT = Attack("swap_held_out", "swap", held_out=True, needs_donor=True, apply=swapped)
MADE = (DARK, DARK_HELD_OUT, SWAP, SWAP_HELD_OUT)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    writer = ChipWriter(tmp_path / "real", "a")
    for i, split in enumerate(("train", "calibration", "validation") * 4):
        writer.add(row(split=split, subject=f"p{i}", path=f"images/{i}.jpg"), chip(blotches(i)))
        writer.add(attack("replay", split=split, path=f"images/{i}_replay.jpg"), chip(blotches(i), 255))
    writer.close()
    return tmp_path


def test_every_bona_fide_chip_and_no_attack_is_made_into_attacks_of_every_species(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    rows = ChipStore(cache / "bank").rows
    assert sorted((r.path, r.attack_type) for r in rows) == sorted((f"images/{i}.jpg", s) for i in range(12) for s in ("print", "swap"))
    assert all(r.is_attack and r.attack for r in rows)


def test_reserved_simulators_make_attacks_for_validation_only(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    for r in ChipStore(cache / "bank").rows:
        assert r.held_out == (r.split == "validation") == r.attack.endswith("_held_out")


def test_what_is_written_is_what_the_simulator_made(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    real, store = ChipStore(cache / "real"), ChipStore(cache / "bank")
    originals = {r.path: i for i, r in enumerate(real.rows)}
    for i, r in enumerate(store.rows):
        if r.attack_type == "print":
            original = real[originals[r.path]]
            assert np.array_equal(store[i].image_rgb, original.image_rgb // 2)
            assert np.allclose(store[i].landmarks_px, original.landmarks_px + 1)
            assert (store[i].mask[:15] == 255).all()
            assert (store[i].mask[17:] == 0).all()
            low, high = store[i].landmarks_px[:468].min(0), store[i].landmarks_px[:468].max(0)
            assert r.face_xy_side == pytest.approx((*((low + high) / 2), (high - low).max()), abs=1e-3)


def test_donors_come_from_the_same_split(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    real, store = ChipStore(cache / "real"), ChipStore(cache / "bank")
    split_of = {chip.image_rgb.tobytes(): r.split for r, chip in zip(real.rows, real, strict=True)}
    made = [(r.split, split_of[store[i].image_rgb.tobytes()]) for i, r in enumerate(store.rows) if r.attack_type == "swap"]
    assert len(made) == 12
    assert all(own == donor for own, donor in made)


def test_nobody_lends_a_face_to_himself(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    real, store = ChipStore(cache / "real"), ChipStore(cache / "bank")
    person = {chip.image_rgb.tobytes(): r.subject for r, chip in zip(real.rows, real, strict=True) if not r.is_attack}
    made = [(r.subject, person[store[i].image_rgb.tobytes()]) for i, r in enumerate(store.rows) if r.attack_type == "swap"]
    assert all(own != donor for own, donor in made)


def test_the_frames_of_a_clip_get_a_quarter_of_a_pictures_share(tmp_path: Path) -> None:
    writer = ChipWriter(tmp_path / "real", "a")
    for i in range(80):
        writer.add(row(path=f"{'clips' if i < 40 else 'images'}/{i}"), chip(blotches(0)))
    writer.close()
    build_bank(tmp_path, (DARK,), variants=2.0)
    made = [r.path.split("/")[0] for r in ChipStore(tmp_path / "bank").rows]
    assert made.count("images") == 80
    assert made.count("clips") == pytest.approx(20, abs=10)


def test_a_second_run_makes_nothing_again_and_a_lost_shard_is_made_the_same(cache: Path) -> None:
    build_bank(cache, MADE, variants=1.0)
    before = {p.name: p.read_bytes() for p in (cache / "bank").iterdir()}
    for path in (cache / "bank").glob("bank_swap_0000.*"):
        path.unlink()
    kept = {p.name: p.stat().st_mtime_ns for p in (cache / "bank").iterdir()}
    build_bank(cache, MADE, variants=1.0)
    assert {p.name: p.read_bytes() for p in (cache / "bank").iterdir()} == before
    assert {name: (cache / "bank" / name).stat().st_mtime_ns for name in kept} == kept


def test_a_simulated_face_that_left_the_picture_is_no_chip() -> None:
    one: Chip = chip(blotches(0))
    gone = Attack("lost", "print", held_out=False, needs_donor=False, apply=lost)
    assert simulate(gone, np.random.default_rng(0), one, one) is None
    assert simulate(DARK, np.random.default_rng(0), one, one) is not None
