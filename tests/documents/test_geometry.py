"""Where the page lies in a picture, and what hides it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from kyc_guard.documents.geometry import find_outline, glare_share, straight_page
from kyc_guard.documents.page import find_portrait
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.types import Float32Array, UInt8Array

DESK = (70, 85, 110)


@pytest.fixture(scope="module")
def page_rgb() -> UInt8Array:
    return render(Holder(), np.ascontiguousarray(data.astronaut()[0:300, 80:360]))


def _on_a_desk(page_rgb: UInt8Array, tilt_deg: float, *, share: float = 0.6) -> tuple[UInt8Array, Float32Array]:
    """The page on a plain desk of 1400 x 1050 px, seen a little askew; and its corners."""
    height, width = page_rgb.shape[:2]
    turn, unit = np.deg2rad(tilt_deg), share * 1400 / width
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    askew = np.array([(0, 0), (18, -10), (-8, 12), (10, 6)])
    seen = ((corners - corners.mean(axis=0)) @ spin.T * unit + askew + (700, 525)).astype(np.float32)
    way = cv2.getPerspectiveTransform(corners, seen)
    shown = cv2.warpPerspective(page_rgb, way, (1400, 1050), flags=cv2.INTER_AREA, borderValue=DESK)
    noisy = shown + np.random.default_rng(0).normal(0, 4, shown.shape)
    return noisy.clip(0, 255).astype(np.uint8), seen


@pytest.mark.parametrize("tilt_deg", [0, 4, -12, 20, 40])
def test_the_corners_of_a_page_on_a_desk_are_found(page_rgb: UInt8Array, tilt_deg: float) -> None:
    picture, corners = _on_a_desk(page_rgb, tilt_deg)
    outline = find_outline(picture)
    assert outline is not None
    assert min(np.abs(np.roll(outline.corners_xy, k, axis=0) - corners).max() for k in range(4)) < 15


def test_a_tilted_page_is_straightened_and_its_portrait_found(page_rgb: UInt8Array) -> None:
    picture, _ = _on_a_desk(page_rgb, 25)
    page = straight_page(picture)
    assert page.shape[1] / page.shape[0] == pytest.approx(page_rgb.shape[1] / page_rgb.shape[0], abs=0.06)
    like_it = cv2.resize(page, (page_rgb.shape[1], page_rgb.shape[0]))
    assert np.corrcoef(like_it.mean(axis=2).ravel(), page_rgb.mean(axis=2).ravel())[0, 1] > 0.6
    found = find_portrait(page)
    assert found is not None


def test_what_lies_straight_or_fills_the_picture_is_left_alone(page_rgb: UInt8Array) -> None:
    assert straight_page(page_rgb) is page_rgb
    picture, _ = _on_a_desk(page_rgb, 0)
    assert straight_page(picture) is picture


@pytest.mark.parametrize("shape", [(1, 1), (3000, 1), (40, 40), (40, 6000)])
@pytest.mark.parametrize("level", [0, 255])
def test_blank_and_absurd_pictures_have_no_outline(shape: tuple[int, int], level: int) -> None:
    image = np.full((*shape, 3), level, np.uint8)
    assert find_outline(image) is None
    assert straight_page(image) is image
    assert glare_share(image) == 0.0


def test_glare_is_a_burnt_out_spot_and_neither_print_nor_white_paper(page_rgb: UInt8Array) -> None:
    assert glare_share(page_rgb) == 0.0
    glaring = page_rgb.copy()
    cv2.ellipse(glaring, (700, 500), (160, 90), 20, 0, 360, (255, 255, 255), -1)
    assert glare_share(glaring) == pytest.approx(np.pi * 160 * 90 / page_rgb[..., 0].size, rel=0.15)
    assert glare_share(np.full((500, 800, 3), 255, np.uint8)) == 0.0
