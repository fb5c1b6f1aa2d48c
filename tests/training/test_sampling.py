"""What a batch is made of: pairs that differ in the attack alone, one path for both classes, labels for what is seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_chips import SIDE_PX, attack, blotches, chip, fill, row, striped

from kyc_guard.attacks.codec import CODECS
from kyc_guard.detectors.face_attack import CLASSES
from kyc_guard.faces.views import FACE, PATCH, View
from kyc_guard.types import PHYSICAL, SPECIES
from training.chips import MASK_SIDE, Chip, ChipRow, ChipStore, ChipWriter
from training.sampling import Jitter, PairSampler, Sample, cut, degrade, refilm_share, sample_of

pytestmark = pytest.mark.torch

both_views = pytest.mark.parametrize("view", [FACE, PATCH], ids=lambda v: v.name)


STILL = Jitter(1.0, (0.0, 0.0), (0.0, 0.0), flip=False, rotate_deg=0.0)


def sample(one: tuple[ChipRow, Chip], view: View = PATCH, jitter: Jitter = STILL, seed: int = 0, refilm: float = 0.0) -> Sample:
    return sample_of(view, *one, jitter, np.random.default_rng(seed), map_side=8, gentle_share=0.5, refilm=refilm, codecs=CODECS)


# ---- geometry


@both_views
def test_the_two_halves_of_a_pair_are_cut_alike(view: View) -> None:
    rng = np.random.default_rng(0)
    image = blotches(0)
    for _ in range(20):
        jitter = Jitter.draw(rng)
        one, other = (cut(view, r, chip(image), jitter, 8)[0] for r in (row(), attack("print")))
        assert np.array_equal(one, other)
        assert one.shape == (view.side_px, view.side_px, 3)
        assert one.flags.c_contiguous


@both_views
@pytest.mark.parametrize(
    "jitter",
    [STILL, replace(STILL, flip=True), replace(STILL, scale=1.3), replace(STILL, shift=(0.2, -0.1), anchor=(0.3, -0.2)),
     replace(STILL, rotate_deg=25.0), Jitter(0.8, (0.1, 0.0), (-0.2, 0.1), flip=True, rotate_deg=-20.0)],
    ids=["still", "flipped", "scaled", "moved", "turned", "all"],
)  # fmt: skip
def test_the_mask_is_seen_through_the_same_window_as_the_picture(view: View, jitter: Jitter) -> None:
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    mask[14:25, 17:22] = 255
    image = cv2.resize(np.repeat(mask[:, :, None], 3, axis=2), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST)
    rgb, seen = cut(view, row(), chip(image, mask), jitter, 32)
    expected = cv2.resize(rgb[:, :, 0], (32, 32), interpolation=cv2.INTER_AREA).astype(float) / 255
    assert float(seen.max()) > 0.9
    assert float(np.abs(expected - seen).mean()) < 0.05


def test_a_flip_mirrors_and_a_larger_scale_shows_more() -> None:
    image = blotches(3)
    plain, _ = cut(FACE, row(), chip(image), STILL, 8)
    flipped, _ = cut(FACE, row(), chip(image), replace(STILL, flip=True), 8)
    assert np.array_equal(flipped, plain[:, ::-1])
    wide, _ = cut(FACE, row(), chip(image), replace(STILL, scale=1.15), 8)
    assert not np.array_equal(wide, plain)


def test_a_draw_of_the_geometry_varies_and_repeats_by_its_seed() -> None:
    assert Jitter.draw(np.random.default_rng(1)) == Jitter.draw(np.random.default_rng(1))
    rng = np.random.default_rng(2)
    drawn = [Jitter.draw(rng) for _ in range(200)]
    assert 0.35 < np.mean([j.flip for j in drawn]) < 0.65
    assert all(0.5 < j.scale < 2 for j in drawn)
    assert max(abs(v) for j in drawn for v in j.anchor) <= 0.35


# ---- degradation


@pytest.mark.parametrize("gentle_share", [0.0, 0.5, 1.0])
def test_degrading_keeps_type_and_shape_and_repeats_by_its_seed(gentle_share: float) -> None:
    image = cv2.resize(striped(blotches(0)), (128, 128))
    before = image.copy()
    changed = 0
    for seed in range(60):
        one, again = (degrade(image, np.random.default_rng(seed), gentle_share, CODECS) for _ in range(2))
        assert (one.shape, one.dtype) == ((128, 128, 3), np.uint8)
        assert one.flags.c_contiguous
        assert np.array_equal(one, again)
        changed += not np.array_equal(one, image)
    assert np.array_equal(image, before)
    assert changed > 50


def test_gentle_samples_keep_more_of_the_fine_structure() -> None:
    image = cv2.resize(striped(blotches(0)), (128, 128), interpolation=cv2.INTER_NEAREST)

    def sharpness(share: float) -> float:
        degraded = [degrade(image, np.random.default_rng(s), share, CODECS) for s in range(40)]
        return float(np.mean([cv2.Laplacian(d[:, :, 1], cv2.CV_32F).std() for d in degraded]))

    assert sharpness(1.0) > 1.15 * sharpness(0.0)


@both_views
def test_a_camera_films_what_no_simulator_filmed_and_nothing_twice(view: View) -> None:
    image = blotches(0)
    for one, filmed in (((row(), chip(image)), True), ((attack("swap", attack="swap_alpha"), chip(image)), True),
                        ((attack("print"), chip(image)), True), ((attack("print", attack="print_photo"), chip(image)), False)):  # fmt: skip
        plain, seen, again = (sample(one, view, seed=3, refilm=share) for share in (0.0, 1.0, 1.0))
        assert np.array_equal(plain.rgb, seen.rgb) != filmed
        assert np.array_equal(seen.rgb, again.rgb)
        assert seen.rgb.shape == plain.rgb.shape


def test_originals_of_simulated_prints_and_screens_are_filmed_more_often_than_others() -> None:
    assert refilm_share(attack("print", attack="print_photo"), 0.6) == 0.6
    assert 0 < refilm_share(attack("print"), 0.6) == refilm_share(attack("swap", attack="swap_alpha"), 0.6) < 0.6


# ---- labels


@pytest.mark.parametrize("species", SPECIES)
def test_an_attack_answers_its_own_head_and_is_not_asked_the_other(species: str) -> None:
    made = sample((attack(species, attack="maker"), chip(blotches(0), 255)))
    own, other = (0, 1) if species in PHYSICAL else (1, 0)
    assert made.targets[own] == 1.0
    assert np.isnan(made.targets[other])
    assert made.species == CLASSES.index(species)
    assert made.map.shape == (8, 8)
    assert (made.map == 1).all()


@both_views
def test_a_bona_fide_face_denies_both_suspicions(view: View) -> None:
    made = sample((row(), chip(blotches(0))), view)
    assert made.targets == (0.0, 0.0)
    assert made.species == 0
    assert (made.map == 0).all()


def _local(at: slice) -> tuple[ChipRow, Chip]:
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    mask[at, at] = 255
    return attack("swap", attack="warp"), chip(blotches(0), mask)


def test_a_window_beside_a_local_manipulation_is_called_untouched() -> None:
    beside = sample(_local(slice(0, 3)))
    assert beside.targets == (0.0, 0.0)
    assert beside.species == 0
    assert float(beside.map.max()) < 0.1


def test_a_window_on_a_local_manipulation_is_called_manipulated_where_it_is() -> None:
    on = sample(_local(slice(13, 19)))
    assert on.targets[1] == 1.0
    assert on.species == CLASSES.index("swap")
    assert float(on.map.max()) > 0.9
    assert float(on.map.min()) < 0.1


def test_the_whole_face_is_manipulated_wherever_the_manipulation_lies() -> None:
    assert sample(_local(slice(0, 3)), FACE).targets[1] == 1.0


@pytest.mark.parametrize("species", ["swap", "composite", "reenactment"])
def test_where_a_real_swap_lies_is_not_known_and_not_claimed(species: str) -> None:
    made = sample((attack(species), chip(blotches(0), 255)))
    assert np.isnan(made.map).all()
    assert made.targets[1] == 1.0


# ---- pairs


@pytest.fixture
def stores(tmp_path: Path) -> tuple[ChipStore, ChipStore]:
    fill(tmp_path)
    return ChipStore(tmp_path / "real"), ChipStore(tmp_path / "bank")


def test_a_pair_is_a_bona_fide_face_and_an_attack(stores: tuple[ChipStore, ChipStore]) -> None:
    sampler, rng = PairSampler(*stores, simulated=0.5), np.random.default_rng(0)
    pairs = [sampler.draw(rng) for _ in range(300)]
    assert {(a.is_attack, b.is_attack) for (a, _), (b, _) in pairs} == {(False, True)}
    made = np.mean([bool(b.attack) for _, (b, _) in pairs])
    assert made == pytest.approx(0.5, abs=0.1)
    kinds = Counter(b.attack_type for _, (b, _) in pairs)
    assert kinds["print"] == pytest.approx(kinds["generated"], rel=0.4)


def test_the_partner_is_mostly_the_very_picture_or_person(stores: tuple[ChipStore, ChipStore]) -> None:
    sampler, rng = PairSampler(*stores, simulated=0.5), np.random.default_rng(0)
    pairs = [sampler.draw(rng) for _ in range(300)]
    assert np.mean([a.subject == b.subject for (a, _), (b, _) in pairs]) > 0.7
    assert np.mean([a.path == b.path for (a, _), (b, _) in pairs if b.attack]) > 0.7


@pytest.mark.parametrize(("simulated", "attacks"), [(0.0, {"replay"}), (1.0, {"print", "generated"})])
def test_the_share_of_simulated_attacks_is_the_callers(stores: tuple[ChipStore, ChipStore], simulated: float, attacks: set[str]) -> None:
    sampler, rng = PairSampler(*stores, simulated=simulated), np.random.default_rng(0)
    assert {sampler.draw(rng)[1][0].attack_type for _ in range(100)} == attacks


def test_only_what_may_be_trained_on_is_drawn(tmp_path: Path) -> None:
    real, bank = ChipWriter(tmp_path / "real", "a"), ChipWriter(tmp_path / "bank", "a")
    for split in ("train", "calibration", "validation"):
        for source in ("here", "left_out"):
            facts = {"split": split, "source": source, "path": f"{split}/{source}"}
            real.add(row(**facts), chip(blotches(0)))
            real.add(attack("replay", **facts), chip(blotches(1), 255))
            bank.add(attack("print", attack="m", **facts), chip(blotches(2), 255))
            bank.add(attack("swap", attack="m", **facts), chip(blotches(2), 255))
    real.close()
    bank.close()
    stores = ChipStore(tmp_path / "real"), ChipStore(tmp_path / "bank")
    sampler, rng = PairSampler(*stores, simulated=0.5, exclude=("left_out",), species=("print", "replay")), np.random.default_rng(0)
    drawn = [r for _ in range(100) for r, _ in sampler.draw(rng)]
    assert {(r.split, r.source) for r in drawn} == {("train", "here")}
    assert {r.attack_type for r in drawn} == {"", "print", "replay"}


def test_the_partner_of_a_swapped_frame_is_the_same_frame_unswapped(tmp_path: Path) -> None:
    real = ChipWriter(tmp_path, "a")
    for frame in range(8):
        real.add(row(path="clips/x/real/1_real.mp4", frame=frame), chip(blotches(frame)))
        real.add(attack("swap", path="clips/x/fake/1_fake.mp4", subject="a+m", frame=frame), chip(blotches(frame + 50), 255))
    real.close()
    store = ChipStore(tmp_path)
    sampler, rng = PairSampler(store, store, simulated=0.0), np.random.default_rng(0)
    same = [a.frame == b.frame for (a, _), (b, _) in (sampler.draw(rng) for _ in range(200))]
    assert np.mean(same) > 0.65
