"""The views of a face: which pixels the nets are shown."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from faces_in_motion import portrait

from kyc_guard.faces import face_square, measure
from kyc_guard.faces.views import FACE, PATCH, VIEWS, WINDOW_FACE_PX, Pass, View
from kyc_guard.recoding import jpeg
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
    cut = view.cut(image, face, view.looks)
    assert cut.shape == (len(view.looks), view.side_px, view.side_px, 3)
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
    for look in PATCH.choose("plain", 0):
        left, top = round(cx + look.x * side - 64), round(cy + look.y * side - 64)
        assert np.array_equal(PATCH.cut(image, face, [look])[0], image[top : top + 128, left : left + 128])


def test_the_windows_lie_on_the_face_and_on_different_parts_of_it() -> None:
    image, face = scene(300)
    (cx, cy), side = face_square(face)
    x0, y0, x1, y1 = face.box_xyxy
    assert all(x0 < cx + dx * side < x1 and y0 < cy + dy * side < y1 for dx, dy, *_ in PATCH.looks)
    windows = [window.tobytes() for window in PATCH.cut(image, face, PATCH.looks)]
    assert len(set(windows)) == len(windows)


def test_the_whole_face_is_in_the_face_view() -> None:
    image, face = scene(200)
    marked = image.copy()
    x0, y0, x1, y1 = (round(float(v)) for v in face.box_xyxy)
    for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1)):
        cv2.circle(marked, (x, y), 6, (0, 255, 0), -1)
    changed = np.abs(FACE.cut(marked, face, FACE.looks[:1])[0].astype(int) - FACE.cut(image, face, FACE.looks[:1])[0]).max(axis=2) > 40
    assert cv2.connectedComponents(changed.astype(np.uint8))[0] - 1 == 4


def test_the_face_as_it_was_found_is_looked_at_first_and_frames_take_turns_at_it() -> None:
    for view in VIEWS.values():
        plain = view.choose("plain", 0)
        assert [(x, y) for x, y, *_ in plain] == list(view.anchors)
        assert {(look.zoom, look.quality) for look in plain} == {(1.0, None)}
        assert view.choose("all", 3) == view.looks
        assert view.looks[: len(plain)] == plain
        assert [view.choose("one", turn) for turn in range(2 * len(plain))] == [(look,) for look in plain] * 2


def test_windows_are_also_seen_through_codecs_that_leave_less_and_less() -> None:
    image, face = scene(250)

    def lost(p: Pass) -> float:
        looks = [look for look in PATCH.looks if (look.zoom, look.quality) == (p.zoom, p.quality)]
        as_it_is = PATCH.cut(image, face, [look._replace(quality=None) for look in looks])
        return float(np.abs(PATCH.cut(image, face, looks).astype(float) - as_it_is).mean())

    first, second, third = (lost(p) for p in PATCH.passes)
    assert 0.0 == first < second < third < 6.0


@pytest.mark.parametrize("quality", [60, 80])
def test_a_window_through_a_codec_is_a_window_of_the_picture_through_it(quality: int) -> None:
    image, face = scene(250)
    for look in PATCH.looks:
        (near,) = PATCH.cut(image, face, [look._replace(quality=quality)])
        (whole,) = PATCH.cut(jpeg(image, quality), face, [look._replace(quality=None)])
        assert np.abs(near.astype(int) - whole).mean() < 0.02  # but for the edge of the surroundings that were sent through it


def test_a_face_too_large_for_windows_goes_through_the_codec_at_the_size_windows_are_cut_at() -> None:
    image, face = scene(960)
    look = PATCH.looks[0]
    plain, coded = (PATCH.cut(image, face, [look._replace(quality=quality)]).astype(float) for quality in (None, 60))
    native = PATCH.cut(jpeg(image, 60), face, [look]).astype(float)
    assert np.abs(coded - plain).mean() > 1.5 * np.abs(native - plain).mean()  # shrunk afterwards, most of the codec is gone


def test_a_face_at_the_edge_or_outside_of_the_picture_is_cut_all_the_same() -> None:
    image, face = scene(200)
    for away_px in (150.0, 2000.0):
        moved = replace(face, box_xyxy=face.box_xyxy - np.float32(away_px))
        for view in VIEWS.values():
            assert view.cut(image, moved, view.looks).shape == (len(view.looks), 128, 128, 3)
