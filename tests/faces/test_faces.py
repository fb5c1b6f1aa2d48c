"""Finding, measuring, tracking and cutting out faces: on a public-domain portrait, and on geometry alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut

from kyc_guard.faces import LEFT_EYE, MESH_POINTS, face_crop, face_finder, face_square, measure, square_crop, track_faces
from kyc_guard.faces import finding as faces
from kyc_guard.faces.quiet import quiet_native_logs
from kyc_guard.types import Face, Float32Array, UInt8Array

PORTRAIT = np.ascontiguousarray(astronaut()[:256, 96:352])


@pytest.fixture(scope="module")
def face() -> Face:
    found = face_finder().find(PORTRAIT)
    assert len(found) == 1
    return found[0]


# ---- finding and measuring


def test_the_face_of_a_portrait_is_found_where_it_is(face: Face) -> None:
    assert face.box_xyxy == pytest.approx([83, 71, 175, 177], abs=5)
    assert face.landmarks_px.shape == (478, 3)
    assert face.landmarks_px.dtype == np.float32
    assert abs(face.yaw_deg) < 6
    assert face.roll_deg == pytest.approx(3.5, abs=3)
    assert all(0.2 < openness < 0.45 for openness in face.eye_openness)
    assert face.quality.size_px == pytest.approx(92, abs=5)
    assert face.quality.occlusion < 0.1


def _mirrored() -> tuple[UInt8Array, Float32Array]:
    return PORTRAIT[:, ::-1], np.array([[-1, 0, 255], [0, 1, 0]], np.float32)


def _affine(degrees: float, scale: float) -> tuple[UInt8Array, Float32Array]:
    side = round(256 * scale)
    matrix = cv2.getRotationMatrix2D((128, 128), degrees, scale)
    matrix[:, 2] += (side - 256) / 2
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(PORTRAIT, matrix, (side, side), flags=way, borderMode=cv2.BORDER_REFLECT_101), matrix.astype(np.float32)


@pytest.mark.parametrize(("degrees", "scale"), [(None, 1.0), (20.0, 1.0), (-20.0, 1.0), (0.0, 0.5), (0.0, 2.0), (0.0, 4.0)], ids=str)
def test_a_picture_mirrored_turned_or_resized_has_the_same_mesh(face: Face, degrees: float | None, scale: float) -> None:
    picture, matrix = _mirrored() if degrees is None else _affine(degrees, scale)
    (moved,) = face_finder().find(picture)
    expected = face.landmarks_px[:MESH_POINTS, :2] @ matrix[:, :2].T + matrix[:, 2]
    found = moved.landmarks_px[:MESH_POINTS, :2]
    if degrees is None:  # the mesh's points are named by side, so only the shape can be compared
        expected, found = (np.array([p.min(0), p.max(0), p.mean(0)]) for p in (expected, found))
    _, side = face_square(face)
    assert float(np.abs(found - expected).mean()) < 0.03 * side * scale
    assert moved.quality.size_px == pytest.approx(face.quality.size_px * scale, rel=0.1)
    assert moved.roll_deg == pytest.approx(-face.roll_deg if degrees is None else face.roll_deg - degrees, abs=3)


def test_a_face_cropped_tightly_is_found(face: Face) -> None:
    x0, y0, x1, y1 = (int(v) for v in face.box_xyxy)
    (tight,) = face_finder().find(np.ascontiguousarray(PORTRAIT[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4]))
    assert tight.box_xyxy == pytest.approx(face.box_xyxy - [x0 - 4, y0 - 4, x0 - 4, y0 - 4], abs=5)


def test_a_distant_face_is_found() -> None:
    scene = np.full((640, 640, 3), 120, np.uint8)
    scene[213:463, 213:463] = cv2.resize(astronaut(), (250, 250), interpolation=cv2.INTER_AREA)
    (far,) = face_finder().find(scene)
    (cx, cy), _ = face_square(far)
    assert (cx, cy) == pytest.approx((213 + 225 * 250 / 512, 213 + 124 * 250 / 512), abs=6)


def test_of_two_faces_the_larger_comes_first() -> None:
    other = np.full((256, 256, 3), 90, np.uint8)
    other[40:216, 40:216] = cv2.resize(PORTRAIT, (176, 176), interpolation=cv2.INTER_AREA)
    found = face_finder().find(np.concatenate([other, PORTRAIT], axis=1))
    assert len(found) == 2
    assert found[0].box_xyxy[0] > 256 > found[1].box_xyxy[2]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((200, 200, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((15, 300, 3), np.uint8),
        np.zeros((16, 3000, 3), np.uint8),
    ],
    ids=["black", "noise", "one pixel", "too low", "a strip"],
)
def test_where_there_is_no_face_none_is_found(picture: UInt8Array) -> None:
    assert face_finder().find(picture) == ()


def test_every_thread_has_a_finder_of_its_own_and_all_find_the_same(face: Face) -> None:
    finders: list[object] = []
    found: list[list[Face]] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait()
        finders.append(face_finder())
        found.append([f for _ in range(3) for f in face_finder().find(PORTRAIT)])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(f) for f in [*finders, face_finder()]}) == 4
    assert [len(f) for f in found] == [3, 3, 3]
    for other in (f for one in found for f in one):
        assert np.array_equal(other.landmarks_px, face.landmarks_px)


def test_silencing_native_logs_in_two_threads_at_once_gives_stderr_back() -> None:
    before = os.fstat(2)
    first, second = quiet_native_logs(), quiet_native_logs()
    first.__enter__()
    second.__enter__()
    assert not os.path.samestat(os.fstat(2), before)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert os.path.samestat(os.fstat(2), before)


def test_a_thread_keeps_its_finder() -> None:
    assert face_finder() is face_finder()


# ---- what is measured on a mesh


def _turned(mesh: Float32Array, degrees: float, axis: str) -> Float32Array:
    """The mesh turned in space: to the image's right (yaw), or upwards (pitch). Towards the camera is negative z."""
    centre = mesh[:MESH_POINTS].mean(axis=0)
    x, y, z = (mesh - centre).T
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = (x * c - z * s, y, x * s + z * c) if axis == "yaw" else (x, y * c + z * s, z * c - y * s)
    return (np.stack(turned, axis=1) + centre).astype(np.float32)


@pytest.mark.parametrize("axis", ["yaw", "pitch"])
@pytest.mark.parametrize("degrees", [-35.0, -15.0, 15.0, 35.0])
def test_angles_grow_to_the_right_and_upwards(face: Face, axis: str, degrees: float) -> None:
    straight, turned = measure(PORTRAIT, face.landmarks_px), measure(PORTRAIT, _turned(face.landmarks_px, degrees, axis))
    moved = turned.yaw_deg - straight.yaw_deg if axis == "yaw" else turned.pitch_deg - straight.pitch_deg
    assert moved == pytest.approx(degrees, abs=6)
    # The tip of the nose says the same: it stands out before the face.
    tip = turned.landmarks_px[1] - face.landmarks_px[1]
    assert (tip[0] if axis == "yaw" else -tip[1]) * degrees > 0


def test_an_eye_whose_lids_meet_is_closed(face: Face) -> None:
    mesh = face.landmarks_px.copy()
    outer, top1, top2, inner, bottom2, bottom1 = LEFT_EYE
    for top, bottom in ((top1, bottom1), (top2, bottom2)):
        mesh[bottom] = mesh[top]
    left, right = measure(PORTRAIT, mesh).eye_openness
    assert left == 0.0
    assert right == face.eye_openness[1]
    assert mesh[outer, 0] < mesh[inner, 0] < mesh[faces.RIGHT_EYE[0], 0], "left is the image's left"


def test_a_mouth_whose_lips_part_is_open(face: Face) -> None:
    mesh = face.landmarks_px.copy()
    top, bottom = faces.INNER_LIPS_TOP_BOTTOM
    mesh[bottom] = mesh[top]
    shut = measure(PORTRAIT, mesh).mouth_openness
    mesh[bottom, 1] += 20
    assert shut == 0.0
    assert measure(PORTRAIT, mesh).mouth_openness > 0.4


def test_quality_follows_light_blur_and_cover(face: Face) -> None:
    good = face.quality
    dark = measure((PORTRAIT * 0.4).astype(np.uint8), face.landmarks_px).quality
    assert dark.brightness == pytest.approx(0.4 * good.brightness, rel=0.05)
    assert dark.contrast == pytest.approx(0.4 * good.contrast, rel=0.1)
    blurred = measure(cv2.GaussianBlur(PORTRAIT, (0, 0), 3), face.landmarks_px).quality
    assert blurred.blur < 0.1 * good.blur
    covered = PORTRAIT.copy()
    x0, y0, x1, y1 = (int(v) for v in face.box_xyxy)
    covered[(y0 + 2 * y1) // 3 : y1, x0:x1] = (40, 120, 220)
    assert measure(covered, face.landmarks_px).quality.occlusion > good.occlusion + 0.15


def test_sharpness_and_cover_do_not_depend_on_the_pictures_size(face: Face) -> None:
    larger = cv2.resize(PORTRAIT, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    twice = measure(larger, face.landmarks_px * 3).quality
    assert twice.size_px == pytest.approx(3 * face.quality.size_px)
    assert twice.blur == pytest.approx(face.quality.blur, rel=0.35)
    assert twice.occlusion == pytest.approx(face.quality.occlusion, abs=0.03)


@pytest.mark.parametrize("shift", [-500.0, 5000.0])
def test_a_mesh_outside_the_frame_measures_as_black(face: Face, shift: float) -> None:
    quality = measure(PORTRAIT, face.landmarks_px + np.float32(shift)).quality
    assert (quality.blur, quality.brightness, quality.contrast) == (0.0, 0.0, 0.0)


# ---- cutting


FRAME = np.random.default_rng(1).integers(1, 256, (40, 60, 3), dtype=np.uint8)


def test_a_square_inside_the_frame_is_its_pixels() -> None:
    assert np.array_equal(square_crop(FRAME, (30, 20), 20, 20), FRAME[10:30, 20:40])


@pytest.mark.parametrize("centre", [(4, 5), (57, 36), (4, 36), (57, 5)], ids=str)
def test_what_lies_outside_the_frame_is_mirrored(centre: tuple[int, int]) -> None:
    wide = np.pad(FRAME, ((10, 10), (10, 10), (0, 0)), mode="reflect")
    x, y = centre
    assert np.array_equal(square_crop(FRAME, centre, 20, 20), wide[y : y + 20, x : x + 20])


def test_a_square_wholly_outside_the_frame_is_black() -> None:
    assert not square_crop(FRAME, (500, 500), 20, 20).any()


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    centre=st.tuples(st.floats(-80, 80), st.floats(-80, 80)),
    crop_px=st.floats(0, 100),
    side_px=st.integers(1, 48),
)
def test_a_crop_has_the_asked_size_wherever_it_lies(
    shape: tuple[int, int], centre: tuple[float, float], crop_px: float, side_px: int
) -> None:
    (height, width), (x, y) = shape, centre
    frame = FRAME[:height, :width]
    before = frame.copy()
    crop = square_crop(frame, (x, y), crop_px, side_px)
    assert crop.shape == (side_px, side_px, 3)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous
    assert np.array_equal(frame, before)
    inside = x - crop_px / 2 < width - 2 and x + crop_px / 2 > 2 and y - crop_px / 2 < height - 2 and y + crop_px / 2 > 2
    if inside and min(height, width, crop_px) > 4:
        assert crop.min() > 0, "a black bar where the frame should be mirrored"


def test_a_wider_crop_shows_the_face_smaller(face: Face) -> None:
    near, wide = (face_crop(PORTRAIT, face, scale=s, side_px=128) for s in (1.0, 2.0))
    assert near.shape == wide.shape == (128, 128, 3)
    inner = cv2.resize(wide[32:96, 32:96], (128, 128), interpolation=cv2.INTER_LINEAR)
    assert float(np.abs(inner.astype(float) - near).mean()) < 12
    assert float(np.abs(wide.astype(float) - near).mean()) > 30


# ---- tracking


Place = Callable[[float, float, float], Face]
"""(centre x, centre y, side) -> a face there."""


class Staged:
    """Stands in for the finder: frame number t holds the faces of ``scene[t]``."""

    def __init__(self, scene: Sequence[Sequence[Face]]) -> None:
        self._scene = scene

    def find(self, frame_rgb: UInt8Array, *, quality: bool) -> tuple[Face, ...]:
        del quality
        return tuple(sorted(self._scene[int(frame_rgb[0, 0, 0])], key=lambda f: -float(f.box_xyxy[2] - f.box_xyxy[0])))


def track(monkeypatch: pytest.MonkeyPatch, scene: Sequence[Sequence[Face]], ratio: float = 0.5) -> faces.FaceTrack:
    monkeypatch.setattr(faces, "face_finder", lambda: Staged(scene))
    return track_faces(np.arange(len(scene), dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 3), other_face_ratio=ratio)


@pytest.fixture(scope="module")
def at(face: Face) -> Place:
    def place(x: float, y: float, side: float) -> Face:
        return replace(face, box_xyxy=np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32))

    return place


def test_a_lone_face_is_followed_and_gaps_stay_empty(monkeypatch: pytest.MonkeyPatch, at: Place) -> None:
    a, b = at(100, 100, 50), at(110, 104, 54)
    seen = track(monkeypatch, [[a], [], [b]])
    assert seen.faces == (a, None, b)
    assert seen.found == (0, 2)
    assert seen.other_faces == 0


def test_the_larger_face_is_the_subject_and_a_second_is_counted(monkeypatch: pytest.MonkeyPatch, at: Place) -> None:
    large, small = [at(100 + t, 100, 80) for t in range(4)], [at(300, 100 + t, 50) for t in range(4)]
    seen = track(monkeypatch, [[s, g] for s, g in zip(small, large, strict=True)])
    assert seen.faces == tuple(large)
    assert seen.other_faces == 1


@pytest.mark.parametrize(("ratio", "others"), [(0.5, 1), (0.7, 0)])
def test_from_which_size_a_bystander_counts_is_the_callers(monkeypatch: pytest.MonkeyPatch, at: Place, ratio: float, others: int) -> None:
    assert track(monkeypatch, [[at(100, 100, 80), at(300, 100, 50)]], ratio).other_faces == others


def test_a_large_face_in_passing_does_not_become_the_subject(monkeypatch: pytest.MonkeyPatch, at: Place) -> None:
    stays = [at(100, 100, 60) for _ in range(6)]
    seen = track(monkeypatch, [[f] if t != 3 else [at(400, 100, 100), f] for t, f in enumerate(stays)])
    assert seen.faces == tuple(stays)
    assert seen.other_faces == 1


def test_a_face_that_jumps_away_is_another_face(monkeypatch: pytest.MonkeyPatch, at: Place) -> None:
    here, there = [at(100, 100, 60) for _ in range(4)], [at(500, 100, 60) for _ in range(2)]
    assert track(monkeypatch, [[f] for f in here + there]).faces == (*here, None, None)


def test_the_worst_frame_says_how_many_others_there_are(monkeypatch: pytest.MonkeyPatch, at: Place) -> None:
    crowd = [at(100, 100, 80), at(300, 100, 70), at(500, 100, 70)]
    assert track(monkeypatch, [crowd[:1], crowd, crowd[:2]]).other_faces == 2


@pytest.mark.parametrize("frames", [0, 3])
def test_without_any_face_the_track_is_empty(monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    seen = track(monkeypatch, [[]] * frames)
    assert seen.faces == (None,) * frames
    assert seen.found == ()


def test_real_frames_are_tracked(face: Face) -> None:
    frames = np.stack([PORTRAIT, np.roll(PORTRAIT, 8, axis=1), np.zeros_like(PORTRAIT)])
    seen = track_faces(frames, other_face_ratio=0.5)
    assert seen.found == (0, 1)
    first, second = (f for f in seen.faces if f is not None)
    assert second.box_xyxy - first.box_xyxy == pytest.approx([8, 0, 8, 0], abs=2.5)
