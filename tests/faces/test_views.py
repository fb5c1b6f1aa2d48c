"""The views of a face: which pixels the nets are shown."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from faces_in_motion import portrait

from kyc_guard.faces import face_square, measure
from kyc_guard.faces.views import FACE, PATCH, VIEWS, WINDOW_FACE_PX, View
from kyc_guard.types import Face, UInt8Array


def scene(face_px: float) -> tuple[UInt8Array, Face]:
    """The portrait resized so that its face square is ``face_px`` wide."""
    image, face = portrait()
    unit = face_px / face_square(face)[1]
    side = round(256 * unit)
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if unit < 1 else cv2.INTER_LINEAR)
    return resized, measure(resized, face.landmarks_px * np.float32(side / 256))


def test_every_view_is_found_by_its_name() -> None:
    assert {name: view.name for name, view in VIEWS.items()} == {name: name for name in VIEWS}
    assert set(VIEWS.values()) == {FACE, PATCH}


@pytest.mark.parametrize("view", VIEWS.values(), ids=lambda v: v.name)
@pytest.mark.parametrize("face_px", [20.0, 106.0, 300.0, 700.0])
def test_every_place_of_every_view_gives_what_its_net_takes(view: View, face_px: float) -> None:
    image, face = scene(face_px)
    for look in view.looks:
        cut = view.cut(image, face, look)
        assert cut.shape == (view.side_px, view.side_px, 3)
        assert cut.dtype == np.uint8


def test_the_whole_face_grows_with_the_face() -> None:
    assert FACE.crop_px(200) == 2 * FACE.crop_px(100) == 2 * 1.5 * 100


@pytest.mark.parametrize(("face_px", "span_px"), [(96, 128), (200, 128), (320, 128), (640, 256), (48, 64)])
def test_a_window_is_native_in_its_range_and_scales_with_the_face_beyond(face_px: float, span_px: float) -> None:
    assert PATCH.crop_px(face_px) == pytest.approx(span_px)
    assert WINDOW_FACE_PX == (96, 320)


def test_a_native_window_is_the_pictures_own_pixels() -> None:
    image, face = scene(250)
    (cx, cy), side = face_square(face)
    for look in PATCH.looks:
        left, top = round(cx + look.x * side - 64), round(cy + look.y * side - 64)
        assert np.array_equal(PATCH.cut(image, face, look), image[top : top + 128, left : left + 128])


def test_the_windows_lie_on_the_face_and_on_different_parts_of_it() -> None:
    image, face = scene(300)
    (cx, cy), side = face_square(face)
    x0, y0, x1, y1 = face.box_xyxy
    assert all(x0 < cx + dx * side < x1 and y0 < cy + dy * side < y1 for dx, dy, _ in PATCH.looks)
    windows = [PATCH.cut(image, face, look).tobytes() for look in PATCH.looks]
    assert len(set(windows)) == len(windows)


def test_the_whole_face_is_in_the_face_view() -> None:
    image, face = scene(200)
    marked = image.copy()
    x0, y0, x1, y1 = (round(float(v)) for v in face.box_xyxy)
    for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1)):
        cv2.circle(marked, (x, y), 6, (0, 255, 0), -1)
    changed = np.abs(FACE.cut(marked, face, FACE.looks[0]).astype(int) - FACE.cut(image, face, FACE.looks[0])).max(axis=2) > 40
    assert cv2.connectedComponents(changed.astype(np.uint8))[0] - 1 == 4


def test_the_face_as_it_was_found_is_looked_at_first_and_frames_take_turns_at_it() -> None:
    for view in VIEWS.values():
        plain = view.choose("plain", 0)
        assert [(x, y) for x, y, _ in plain] == list(view.anchors)
        assert {look.zoom for look in plain} == {1.0}
        assert view.choose("all", 3) == view.looks
        assert view.looks[: len(plain)] == plain
        assert [view.choose("one", turn) for turn in range(2 * len(plain))] == [(look,) for look in plain] * 2
