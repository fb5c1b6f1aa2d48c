from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from kyc_guard.attacks import codec, mask, optics, printing, screen
from kyc_guard.attacks.clips import CLIP_ATTACKS, ClipAttack
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.gallery import contact_sheet
from kyc_guard.attacks.mask import MASKS
from kyc_guard.attacks.printing import PRINTS
from kyc_guard.attacks.screen import SCREENS

PHYSICAL = (*PRINTS, *SCREENS, *MASKS)


def _mesh(height: int, width: int) -> np.ndarray:
    """A face-like cloud of 478 points in the middle: an oval, eyes and mouth where the simulators look for them."""
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    reach = min(height, width) / 4
    mesh = np.stack([width / 2 + 0.8 * reach * np.cos(angles), height / 2 + reach * np.sin(angles)], axis=1)
    for part, x, y, rx, ry in (
        (printing.LEFT_EYE, -0.35, -0.25, 0.15, 0.06),
        (printing.RIGHT_EYE, 0.35, -0.25, 0.15, 0.06),
        (printing.MOUTH, 0.0, 0.45, 0.3, 0.12),
        (mask.FACE_OVAL, 0.0, 0.0, 0.8, 1.0),
    ):
        turn = np.linspace(0, 2 * np.pi, len(part), endpoint=False)
        mesh[list(part)] = np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1) * reach + (width / 2, height / 2)
    mesh[4] = (width / 2, height / 2)
    return mesh.astype(np.float32)


def _face(height: int = 192, width: int = 192, seed: int = 0) -> FaceImage:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (9, 9, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image.astype(np.int16) + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)
    image.setflags(write=False)
    mesh = _mesh(height, width)
    mesh.setflags(write=False)
    return FaceImage(image, mesh)


def _check(out: Attacked, face: FaceImage) -> None:
    assert out.image_rgb.shape == face.image_rgb.shape
    assert out.image_rgb.dtype == np.uint8
    assert out.mask.shape == face.image_rgb.shape[:2]
    assert out.mask.dtype == np.float32
    assert out.mask.min() >= 0.0
    assert out.mask.max() <= 1.0
    assert out.landmarks_px.shape == (478, 2)
    assert out.landmarks_px.dtype == np.float32
    assert np.isfinite(out.landmarks_px).all()
    assert not np.shares_memory(out.image_rgb, face.image_rgb)
    assert not np.shares_memory(out.landmarks_px, face.landmarks_px)


def test_names_are_unique_and_species_known() -> None:
    names = [attack.name for attack in (*PHYSICAL, *CLIP_ATTACKS)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert {attack.species for attack in PHYSICAL} == {"print", "print_cut", "replay", "mask"}
    with pytest.raises(ValueError, match="none of"):
        Attack("x", "hologram", held_out=False, needs_donor=False, apply=mask.paper_mask)
    with pytest.raises(ValueError, match="none of"):
        ClipAttack("x", "hologram", held_out=False, apply=CLIP_ATTACKS[0].apply)


@pytest.mark.parametrize("group", [PRINTS, SCREENS, MASKS, CLIP_ATTACKS], ids=["prints", "screens", "masks", "clips"])
def test_every_family_keeps_some_simulators_for_validation_and_no_parameters_are_shared(group: tuple[Attack, ...]) -> None:
    held_out = {attack.name for attack in group if attack.held_out}
    trained = {attack.name for attack in group if not attack.held_out}
    assert held_out
    assert trained
    assert not held_out & trained
    settings = [repr(getattr(attack.apply, "keywords", attack.name)) for attack in group if attack.species != "print_cut"]
    assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("attack", PHYSICAL, ids=lambda a: a.name)
def test_same_seed_same_bytes_other_seed_other_bytes(attack: Attack) -> None:
    face, donor = _face(), _face(seed=1)
    first = attack.apply(np.random.default_rng(5), face, donor)
    again = attack.apply(np.random.default_rng(5), face, donor)
    other = attack.apply(np.random.default_rng(6), face, donor)
    np.testing.assert_array_equal(first.image_rgb, again.image_rgb)
    np.testing.assert_array_equal(first.mask, again.mask)
    np.testing.assert_array_equal(first.landmarks_px, again.landmarks_px)
    assert (first.image_rgb != other.image_rgb).any()
    assert (first.image_rgb != face.image_rgb).mean() > 0.05


@pytest.mark.parametrize("attack", PHYSICAL, ids=lambda a: a.name)
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (192, 192)], ids=str)
def test_works_on_odd_and_small_pictures_without_writing_to_them(attack: Attack, size: tuple[int, int]) -> None:
    for seed in range(6):
        face = _face(*size)
        _check(attack.apply(np.random.default_rng(seed), face, None), face)


@pytest.mark.parametrize("attack", PHYSICAL, ids=lambda a: a.name)
def test_works_on_full_frames(attack: Attack) -> None:
    face = _face(720, 1280)
    _check(attack.apply(np.random.default_rng(1), face, None), face)


@pytest.mark.parametrize("attack", PHYSICAL, ids=lambda a: a.name)
def test_a_face_that_hangs_out_of_the_picture_is_still_attacked(attack: Attack) -> None:
    face = _face()
    shifted = FaceImage(face.image_rgb, face.landmarks_px + np.float32([130, -110]))
    for seed in range(3):
        _check(attack.apply(np.random.default_rng(seed), shifted, None), shifted)


def test_prints_and_screens_cover_the_whole_picture_and_masks_the_face() -> None:
    face = _face()
    for attack in PHYSICAL:
        share = attack.apply(np.random.default_rng(0), face, None).mask.mean()
        assert share == 1.0 if attack.species != "mask" else 0.1 < share < 0.6


@pytest.mark.parametrize(
    "pose",
    [
        optics.Pose(shift_x=0.05, rotation_deg=8, scale=1.1, tilt_x=0.08, tilt_y=-0.05),
        optics.Pose(shift_y=-0.04, rotation_deg=-5, bend=0.6, bend_axis_deg=20, sag=0.1),
        optics.Pose(bend=0.8, bend_axis_deg=95, sag=-0.1, tilt_y=0.05),
    ],
)
@pytest.mark.parametrize("size", [(200, 200), (180, 260)], ids=str)
def test_landmarks_move_with_the_picture(pose: optics.Pose, size: tuple[int, int]) -> None:
    height, width = size
    points = np.array([[width * 0.35, height * 0.4], [width * 0.5, height * 0.5], [width * 0.62, height * 0.66]], np.float32)
    for point, expected in zip(points, pose.move(points, height, width), strict=True):
        dot = np.zeros((height, width), np.float32)
        cv2.circle(dot, tuple(round(float(v)) for v in point), 3, 1.0, -1)
        seen = pose.photograph(dot, height, width)
        y, x = np.mgrid[:height, :width]
        centre = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
        assert np.abs(centre - expected).max() < 1.0


def _spectrum(image_rgb: np.ndarray) -> np.ndarray:
    """Of the green channel: the three sub-pixels are a third of a pixel apart and cancel in grey."""
    green = image_rgb[:, :, 1].astype(np.float32)
    window = np.outer(np.hanning(green.shape[0]), np.hanning(green.shape[1]))
    return np.abs(np.fft.rfft2((green - green.mean()) * window)) / green.size


_PLAIN_DISPLAY = screen.Display(
    layout="stripe", pitch=0.9, grid_deg=3.0, depth=1.0, duty=(0.28, 0.85), aperture=0.6, gamma=1.0, white=(1.0, 1.0, 1.0),
    lift=0.0, saturation=1.0, falloff=(0.0, 0.0), band=(0.0, 1.0, 0.0), glare=(), reflection_seed=0, reflection=0.0, retouch=0.0,
    kept=(1.0, 0),
)  # fmt: skip
_PLAIN_CAMERA = optics.Camera(
    resolution=1.0, exposure=1.0, metering=0.0, white_balance=(1.0, 1.0, 1.0), haze=0.0, bloom=0.0, vignette=0.0, blur_px=0.2,
    motion_px=0.0, motion_deg=0.0, noise=0.0, bayer=False, contrast=1.0, saturation=1.0, sharpen=0.0, quality=0,
)  # fmt: skip


@pytest.mark.parametrize("layout", ["stripe", "pentile"])
def test_the_pixel_grid_beats_with_the_sensor_at_the_aliased_frequency(layout: str) -> None:
    grey = np.full((256, 256, 3), 120, np.uint8)

    def peak(display: screen.Display) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        out = screen.show(grey, display=display, camera=_PLAIN_CAMERA, pose=optics.Pose(), surround=None, rng=rng)
        along_the_row = _spectrum(out)[0]
        return float(along_the_row.max()), float(along_the_row.argmax() / 256)

    straight = replace(_PLAIN_DISPLAY, layout=layout, grid_deg=0.0)
    plain, _ = peak(replace(straight, layout="none"))
    beating, frequency = peak(straight)
    assert beating > max(20 * plain, 0.5)
    assert frequency == pytest.approx(0.1, abs=0.01)  # 0.9 display pixels to the sensor pixel alias to 1 - 0.9
    far, _ = peak(replace(straight, pitch=9.0))
    assert far < beating / 10


def test_the_camera_without_faults_returns_the_picture() -> None:
    image = _face().image_rgb
    for bayer, worst in ((False, 1.0), (True, 8.0)):
        camera = replace(_PLAIN_CAMERA, bayer=bayer, blur_px=0.0)
        out = optics.expose(
            camera, optics.to_linear(image), np.random.default_rng(0), height=192, width=192, mean_light=optics.light_of(image)
        )
        assert np.abs(out.astype(int) - image).mean() < worst
        assert np.abs(out.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 2.0


@pytest.mark.parametrize("kind", ["dot", "line"])
def test_a_halftone_has_its_pitch_and_keeps_the_tone(kind: str) -> None:
    rng = np.random.default_rng(3)
    base = printing.draw_paper(rng, printing.Range(kind, pitch=(0.13, 0.13), depth=(1.0, 1.0), grey=True))

    paper = replace(base, retouch=0.0, phase_deg=-45.0, gain=0.0, grain=0.0, streaks=0.0, blur_px=0.0)
    grey = np.full((200, 200, 3), 128, np.uint8)
    screened = printing.ink(grey, paper, np.random.default_rng(0))
    flat = printing.ink(grey, replace(paper, screen="none"), np.random.default_rng(0))
    assert flat[:, :, 1].std() < 1.0 < screened[:, :, 1].std()
    assert abs(float(flat.mean()) - float(screened.mean())) < 45.0
    peak = np.unravel_index(_spectrum(screened).argmax(), (200, 101))
    assert {min(peak[0], 200 - peak[0]), peak[1]} == {0, 26}  # 0.13 cells a pixel over 200 pixels


def test_white_noise_is_standard_normal() -> None:
    noise = optics.white_noise(np.random.default_rng(0), (300, 300))
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)
    assert 2.2 < float(np.abs(noise).max()) < 4.0


@pytest.mark.parametrize("chain", codec.CODECS, ids=lambda c: c.name)
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (256, 256)], ids=str)
def test_codec_chains_keep_the_picture_recognisable(chain: codec.Codec, size: tuple[int, int]) -> None:
    image = _face(*size).image_rgb
    for seed in range(4):
        out = chain.apply(np.random.default_rng(seed), image)
        assert out.shape == image.shape
        assert out.dtype == np.uint8
        assert 0 < np.abs(out.astype(int) - image).mean() < 16
        np.testing.assert_array_equal(out, chain.apply(np.random.default_rng(seed), image))


def _clip(count: int = 12) -> np.ndarray:
    image = _face(96, 96).image_rgb
    frames = np.stack([np.roll(image, shift, axis=1) for shift in range(count)])
    frames.setflags(write=False)
    return frames


@pytest.mark.parametrize("attack", CLIP_ATTACKS, ids=lambda a: a.name)
@pytest.mark.parametrize("count", [1, 2, 12])
def test_clip_attacks_keep_the_shape_and_repeat_by_seed(attack: ClipAttack, count: int) -> None:
    frames, mesh = _clip(count), _mesh(96, 96)
    out = attack.apply(np.random.default_rng(4), frames, mesh)
    assert out.shape == frames.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, attack.apply(np.random.default_rng(4), frames, mesh))


def test_a_frozen_clip_stands_still_and_a_loop_comes_back() -> None:
    frames, mesh = _clip(24), _mesh(96, 96)
    by_name = {attack.name: attack for attack in CLIP_ATTACKS}
    frozen = by_name["clip_freeze"].apply(np.random.default_rng(0), frames, mesh)
    assert (frozen[-1] == frozen[-8]).all()
    looped = by_name["clip_loop"].apply(np.random.default_rng(0), frames, mesh)
    assert any((looped[0] == later).all() for later in looped[1:])


def test_a_held_print_moves_as_one_and_only_little_from_frame_to_frame() -> None:
    still = np.repeat(_face(128, 128).image_rgb[None], 25, axis=0)
    by_name = {attack.name: attack for attack in CLIP_ATTACKS}
    out = by_name["clip_print_photo"].apply(np.random.default_rng(2), still, _mesh(128, 128)).astype(np.float32)
    steps = np.abs(np.diff(out, axis=0)).mean(axis=(1, 2, 3))
    overall = np.abs(out[0] - out[-1]).mean()
    assert overall > 1.0
    assert steps.max() < 15.0


def test_the_contact_sheet_has_a_row_for_each_attack_and_repeats_by_seed() -> None:
    faces = [_face(), _face(120, 80, seed=2)]
    attacks = (PRINTS[0], SCREENS[0], MASKS[0])
    sheet = contact_sheet(faces, attacks, 7)
    assert sheet.shape == (4 * 192, 2 * 192, 3)
    np.testing.assert_array_equal(sheet, contact_sheet(faces, attacks, 7))
    assert (sheet != contact_sheet(faces, attacks, 8)).any()
    with pytest.raises(ValueError, match="at least one face"):
        contact_sheet([], attacks, 7)
