"""Digital attack simulators: determinism, locality, validity on awkward input. Faces here are drawn, not photographed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kyc_guard.attacks import blending, hulls, mesh
from kyc_guard.attacks.composite import COMPOSITES
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.generated import GENERATED
from kyc_guard.attacks.reenact import REENACTMENTS, drop_jaw
from kyc_guard.attacks.swap import SWAPS

ATTACKS = (*SWAPS, *COMPOSITES, *REENACTMENTS, *GENERATED)
SURROUND_CHANGED = {"self_blend_surround"}
LOCAL = [a for a in ATTACKS if a.species != "generated" and a.name not in SURROUND_CHANGED]


def ring(indices: tuple[int, ...], points: np.ndarray, centre: tuple[float, float], radii: tuple[float, float], start: float) -> None:
    angles = start + np.linspace(0, 2 * np.pi, len(indices), endpoint=False)
    points[list(indices)] = np.stack([centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], axis=1)


def drawn_face(side: int = 128, *, seed: int = 0, grey: bool = False, turn: float = 0.0, height: int | None = None) -> FaceImage:
    """A cartoon whose mesh puts every named ring where MediaPipe would; ``turn`` moves the nose towards a cheek."""
    rng = np.random.default_rng(seed)
    points = rng.normal((0.5, 0.52), (0.1, 0.14), size=(478, 2))
    ring(hulls.OVAL, points, (0.5, 0.53), (0.29, 0.37), -np.pi / 2)
    ring(hulls.LEFT_EYE, points, (0.39, 0.44), (0.06, 0.025), np.pi)
    ring(tuple(reversed(hulls.RIGHT_EYE)), points, (0.61, 0.44), (0.06, 0.025), 2 * np.pi / 16)
    ring(hulls.LEFT_BROW, points, (0.39, 0.37), (0.07, 0.015), np.pi)
    ring(hulls.RIGHT_BROW, points, (0.61, 0.37), (0.07, 0.015), 0.0)
    ring(hulls.NOSE, points, (0.5, 0.53), (0.05, 0.1), -np.pi / 2)
    ring(hulls.LIPS, points, (0.5, 0.72), (0.11, 0.045), np.pi)
    ring(hulls.MOUTH_OPENING, points, (0.5, 0.72), (0.09, 0.004), np.pi)
    points[[1, 4]] = (0.5 + 0.29 * turn, 0.58)
    points[[50, 280]] = ((0.32, 0.56), (0.68, 0.56))
    points[[6, 195]] = ((0.5, 0.46), (0.5, 0.51))
    points[[468, 473]] = ((0.39, 0.44), (0.61, 0.44))
    height = height or side
    landmarks = (points * side + (0, (height - side) / 2)).astype(np.float32)
    texture = cv2.resize(rng.normal(0, 12, (side // 2, side // 2, 3)).astype(np.float32), (side, height)) + rng.normal(
        0, 6, (height, side, 3)
    )
    image = np.full((height, side, 3), (60, 80, 110), np.float32)
    skin = (205 - 60 * (seed % 3), 150 - 40 * (seed % 3), 120 - 30 * (seed % 3))
    cv2.fillPoly(image, [landmarks[list(hulls.OVAL)].astype(np.int32)], skin)
    for part, colour in (
        (hulls.LEFT_EYE, (240,) * 3),
        (hulls.RIGHT_EYE, (240,) * 3),
        (hulls.LIPS, (150, 60, 60)),
        (hulls.LEFT_BROW, (50,) * 3),
    ):
        cv2.fillPoly(image, [landmarks[list(part)].astype(np.int32)], colour)
    picture = np.clip(image + texture, 0, 255).astype(np.uint8)
    if grey:
        picture = np.repeat(picture.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    return FaceImage(picture, landmarks)


def apply(attack: Attack, face: FaceImage, donor: FaceImage | None, seed: int = 3) -> Attacked:
    return attack.apply(np.random.default_rng(seed), face, donor)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_same_seed_gives_the_same_bytes_and_leaves_its_inputs_alone(attack: Attack) -> None:
    face, donor = drawn_face(), drawn_face(150, seed=1)
    before = [a.copy() for a in (face.image_rgb, face.landmarks_px, donor.image_rgb, donor.landmarks_px)]
    first, second = apply(attack, face, donor), apply(attack, face, donor)
    for a, b in zip((first.image_rgb, first.mask, first.landmarks_px), (second.image_rgb, second.mask, second.landmarks_px), strict=True):
        assert a.tobytes() == b.tobytes()
    for was, now in zip(before, (face.image_rgb, face.landmarks_px, donor.image_rgb, donor.landmarks_px), strict=True):
        np.testing.assert_array_equal(was, now)
    assert not np.shares_memory(first.image_rgb, face.image_rgb)
    assert not np.shares_memory(first.landmarks_px, face.landmarks_px)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_another_seed_gives_another_picture(attack: Attack) -> None:
    face, donor = drawn_face(), drawn_face(seed=1)
    assert (apply(attack, face, donor, 1).image_rgb != apply(attack, face, donor, 2).image_rgb).any()


@pytest.mark.parametrize(
    ("face", "donor"),
    [
        pytest.param(drawn_face(64), drawn_face(300, seed=1), id="64 px from a large donor"),
        pytest.param(drawn_face(300, height=400), drawn_face(64, seed=1), id="large portrait format from 64 px"),
        pytest.param(drawn_face(), drawn_face(seed=1, grey=True), id="grey donor"),
        pytest.param(drawn_face(grey=True), drawn_face(seed=1), id="onto grey"),
        pytest.param(drawn_face(), drawn_face(seed=1, turn=0.9), id="donor in profile"),
        pytest.param(drawn_face(turn=-0.9), drawn_face(seed=1), id="face in profile"),
    ],
)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_awkward_pairs_give_a_valid_changed_picture(attack: Attack, face: FaceImage, donor: FaceImage) -> None:
    attacked = apply(attack, face, donor)
    assert attacked.image_rgb.shape == face.image_rgb.shape
    assert attacked.image_rgb.dtype == np.uint8
    assert attacked.mask.shape == face.image_rgb.shape[:2]
    assert attacked.mask.dtype == np.float32
    assert attacked.landmarks_px.shape == (478, 2)
    assert attacked.landmarks_px.dtype == np.float32
    assert np.isfinite(attacked.landmarks_px).all()
    assert attacked.mask.min() >= 0
    assert 0.2 < attacked.mask.max() <= 1.0001
    assert (attacked.image_rgb != face.image_rgb).any()


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.needs_donor], ids=lambda a: a.name)
def test_a_missing_donor_still_gives_a_valid_picture(attack: Attack) -> None:
    face = drawn_face()
    attacked = apply(attack, face, None)
    assert attacked.image_rgb.shape == face.image_rgb.shape
    assert attacked.mask.max() > 0


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("attack", LOCAL, ids=lambda a: a.name)
def test_a_local_attack_changes_nothing_outside_its_mask(attack: Attack, seed: int) -> None:
    face, donor = drawn_face(200), drawn_face(180, seed=1)
    attacked = apply(attack, face, donor, seed)
    touched = cv2.dilate((attacked.mask > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    difference = cv2.absdiff(attacked.image_rgb, face.image_rgb).max(axis=2)
    if not touched.all():
        assert difference[~touched].max() <= 1
    assert difference[touched].mean() > 0.1


@pytest.mark.parametrize("attack", LOCAL, ids=lambda a: a.name)
def test_the_same_seed_treats_the_next_frame_alike(attack: Attack) -> None:
    face, donor = drawn_face(200), drawn_face(180, seed=1)
    grown = FaceImage(face.image_rgb, (face.landmarks_px - 100) * np.float32(1.02) + 101)
    for seed in range(4):
        this, following = apply(attack, face, donor, seed), apply(attack, grown, donor, seed)
        assert np.abs(this.mask - following.mask).mean() < 0.03


@pytest.mark.parametrize("attack", GENERATED, ids=lambda a: a.name)
def test_a_generated_face_is_marked_as_a_whole(attack: Attack) -> None:
    assert (apply(attack, drawn_face(), None).mask == 1).all()


@pytest.mark.parametrize("attack", [a for a in SWAPS if a.needs_donor], ids=lambda a: a.name)
def test_a_swap_onto_grey_stays_grey(attack: Attack) -> None:
    attacked = apply(attack, drawn_face(200, grey=True), drawn_face(200, seed=1))
    assert np.ptp(attacked.image_rgb.astype(int), axis=2).max() <= 6


def test_swapped_pictures_show_the_donor() -> None:
    face, donor = drawn_face(200), drawn_face(200, seed=1)
    swap = next(a for a in SWAPS if a.name == "mesh_swap")
    with_donor, with_self = apply(swap, face, donor).image_rgb, apply(swap, face, face).image_rgb
    assert np.abs(with_donor.astype(int) - with_self).max() > 20


def test_hull_kinds_differ_from_one_another() -> None:
    landmarks = hulls.raise_forehead(drawn_face(200).landmarks_px, 0.0)
    landmarks[470] = landmarks[hulls.OVAL[5]] + (15, -15)  # a point outside the oval, as a turned head has
    masks = {kind: hulls.hull_mask(kind, landmarks, 200, 200) for kind in (*hulls.KINDS, "upper", "eyes", "nose", "left_eye")}
    masks["forehead"] = hulls.hull_mask("forehead", hulls.raise_forehead(landmarks, 0.4), 200, 200)
    for one, a in masks.items():
        assert a.sum() > 20, one
        for other, b in masks.items():
            assert one == other or np.abs(a - b).sum() > 0.02 * min(a.sum(), b.sum()), (one, other)


def test_an_unknown_hull_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="hat"):
        hulls.hull_mask("hat", drawn_face().landmarks_px, 128, 128)


@pytest.mark.parametrize("kind", hulls.KINDS)
def test_random_masks_are_soft_and_reach_one_at_any_size(kind: str) -> None:
    for side in (64, 700):
        mask = hulls.random_mask(np.random.default_rng(5), drawn_face(side).landmarks_px, side, side, (kind,))
        assert mask.max() == pytest.approx(1.0, abs=0.02)
        assert ((mask > 0.05) & (mask < 0.95)).sum() > 0.01 * mask.size
        assert mask[0].max() < 0.05


def test_random_masks_cover_the_same_share_at_any_size() -> None:
    shares = [hulls.random_mask(np.random.default_rng(1), drawn_face(s).landmarks_px, s, s, ("oval",)).mean() for s in (128, 256, 512)]
    assert np.ptp(shares) < 0.03


def test_piecewise_maps_carry_points_where_they_belong() -> None:
    face = drawn_face(200)
    points = face.landmarks_px[list(mesh.ANCHORS)]
    rotated = mesh.move(np.array([[0.9, -0.2, 20], [0.2, 0.9, -10]], np.float32), points)
    sample = mesh.piecewise_map(rotated, points, 200, 200)
    inside = (rotated > 2).all(axis=1) & (rotated < 197).all(axis=1)
    found = np.array([sample[round(float(y)), round(float(x))] for x, y in rotated[inside]])
    assert np.abs(found - points[inside]).max() < 2.0


def test_similarity_recovers_turn_scale_and_shift() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    matrix = np.array([[1.2, -0.5, 3], [0.5, 1.2, -4]], np.float32)
    np.testing.assert_allclose(mesh.similarity(points, mesh.move(matrix, points)), matrix, atol=1e-4)


def test_delaunay_covers_the_hull_with_triangles_that_do_not_overlap() -> None:
    points = np.random.default_rng(0).uniform(0, 100, size=(60, 2)).astype(np.float32)
    a, b, c = points[mesh.delaunay(points)].transpose(1, 0, 2)
    area = np.abs((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])).sum() / 2
    assert area == pytest.approx(cv2.contourArea(cv2.convexHull(points)), rel=0.02)


def test_colour_transfer_gives_mean_and_spread_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal((90, 100, 140), (10, 15, 12), (80, 80, 3)), 0, 255).astype(np.uint8)
    reference = np.clip(rng.normal((170, 120, 100), (14, 12, 13), (80, 80, 3)), 0, 255).astype(np.uint8)
    matched = blending.match_colour(image, reference, np.ones((80, 80), np.float32))
    np.testing.assert_allclose(matched.mean(axis=(0, 1)), reference.mean(axis=(0, 1)), atol=2)


def test_relighting_takes_slow_light_and_keeps_fine_detail() -> None:
    rng = np.random.default_rng(0)
    detail = rng.normal(0, 8, (120, 120, 1))
    image = np.clip(120 + detail, 0, 255).repeat(3, axis=2).astype(np.uint8)
    ramp = np.clip(np.linspace(80, 180, 120)[None, :, None].repeat(120, axis=0).repeat(3, axis=2), 0, 255).astype(np.uint8)
    lit = blending.relight(image, ramp, np.ones((120, 120), np.float32), radius_px=10, strength=1.0).astype(float)
    assert lit[:, 100:].mean() - lit[:, :20].mean() > 60
    residual = lit[..., 0] - cv2.GaussianBlur(lit[..., 0], (0, 0), 3)
    kept = np.corrcoef(residual.ravel(), detail.ravel())[0, 1]
    assert kept > 0.9


def test_dropping_the_jaw_opens_the_mouth_and_leaves_the_eyes() -> None:
    face = drawn_face(200)
    moved = drop_jaw(face.landmarks_px, 12.0)
    assert mesh.mouth_opening(moved) > mesh.mouth_opening(face.landmarks_px) + 0.15
    np.testing.assert_array_equal(moved[list(hulls.LEFT_EYE)], face.landmarks_px[list(hulls.LEFT_EYE)])


def test_names_are_unique_and_every_species_keeps_one_attack_for_validation() -> None:
    names = [a.name for a in ATTACKS]
    assert len(set(names)) == len(names)
    for family in (SWAPS, COMPOSITES, REENACTMENTS, GENERATED):
        assert any(a.held_out for a in family)
        assert any(not a.held_out for a in family)
