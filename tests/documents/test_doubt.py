"""Figures of doubt move with what they are named after, and hints refuse tables they cannot use."""

from __future__ import annotations

from typing import Any

import cv2
import made_hints
import numpy as np
import pytest

from kyc_guard.documents import lettering, seams, surface
from kyc_guard.documents.doubt import NAMES, Doubts, Suspicion
from kyc_guard.documents.planes import Planes, blockiness
from kyc_guard.errors import ConfigError
from kyc_guard.types import Float32Array, UInt8Array

FACE = np.array([60, 120, 180, 270], np.float32)
ROWS = tuple(range(60, 340, 40))
BOXES = np.array([(300, y - 22, 300 + 18 * 14, y + 4) for y in ROWS], np.float32)


def _page(noise: float = 3.0, seed: int = 0) -> UInt8Array:
    """Wavy paper with a grey block for a portrait and seven lines of text, as a camera with noise sees it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:400, 0:640].astype(np.float32)
    page = np.stack([215 + 8 * np.sin(x / 5 + 3 * np.sin(y / 40)) + k for k in (0, 4, 8)], axis=2)
    cv2.rectangle(page, (20, 60), (220, 330), (150, 130, 120), -1)
    cv2.ellipse(page, (120, 195), (60, 75), 0, 0, 360, (190, 160, 140), -1)
    for i, at in enumerate(ROWS):
        cv2.putText(
            page, "ABCDEF 12345" if i % 2 else "LMNOP 67890", (300, at), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (40, 40, 60), 2, cv2.LINE_AA
        )
    soft = cv2.GaussianBlur(page, (0, 0), 0.7)
    return (soft + rng.normal(0, noise, page.shape)).clip(0, 255).astype(np.uint8)


def _planes(image: UInt8Array) -> Planes:
    return Planes.of(image, BOXES, FACE)


def _surface(image: UInt8Array) -> dict[str, float]:
    return dict(zip(surface.NAMES, surface.row(_planes(image)).tolist(), strict=True))


def _seams(image: UInt8Array) -> dict[str, float]:
    return dict(zip(seams.NAMES, seams.row(_planes(image)).tolist(), strict=True))


def test_every_figure_of_an_honest_page_is_measured_and_repeats() -> None:
    planes = _planes(_page())
    lines, which = lettering.rows(planes)
    assert which == list(range(len(BOXES)))
    for row, names in ((surface.row(planes), surface.NAMES), (seams.row(planes), seams.NAMES), (lines[0], lettering.NAMES)):
        assert row.shape == (len(names),)
        assert np.isfinite(row).all()
    assert np.array_equal(surface.row(planes), surface.row(_planes(_page())))


@pytest.mark.parametrize("plane", ["luma", "chroma"])
def test_a_grid_all_over_the_page_stands_out_of_its_spectrum(plane: str) -> None:
    image = _page().astype(np.float32)
    grid = 6 * np.sin(np.arange(640) * 2 * np.pi * 0.31)[None, :, None] * np.sin(np.arange(400) * 2 * np.pi * 0.17)[:, None, None]
    colour = np.array((1, 1, 1) if plane == "luma" else (1.4, -0.7, 0.0), np.float32)
    shown = (image + grid * colour).clip(0, 255).astype(np.uint8)
    assert _surface(shown)[f"{plane}_peak"] > _surface(_page())[f"{plane}_peak"] + 0.5


def test_a_render_has_less_noise_and_more_flat_pixels_than_a_photo() -> None:
    render, photo = _surface(_page(noise=0.0)), _surface(_page(noise=4.0))
    assert render["noise"] < photo["noise"] - 0.5
    assert render["flat"] > photo["flat"]


def test_a_grey_copy_has_no_saturation() -> None:
    grey = np.repeat(cv2.cvtColor(_page(), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert _surface(grey)["saturation"] < _surface(_page())["saturation"] - 0.5


def test_a_portrait_with_noise_of_its_own_differs_from_the_page() -> None:
    image = _page()
    pasted = image.copy()
    area = pasted[60:330, 20:220]
    area[:] = (area + np.random.default_rng(1).normal(0, 12, area.shape)).clip(0, 255)
    assert _seams(pasted)["noise_frame_page"] > _seams(image)["noise_frame_page"] + 0.5
    assert _seams(pasted)["noise_face_page"] > _seams(image)["noise_face_page"] + 0.5


def test_a_line_typed_on_blank_paper_stands_out_of_its_peers() -> None:
    image, third = _page(), BOXES[3].astype(int)
    image[third[1] : third[3], third[0] : third[2]] = (215, 219, 223)
    cv2.putText(image, "XYZ 99", (300, ROWS[3]), cv2.FONT_HERSHEY_TRIPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    table, which = lettering.rows(_planes(image))
    at = {name: table[:, i] for i, name in enumerate(lettering.NAMES)}
    for name in ("paper_noise", "paper_wave", "peer_inside_noise"):
        assert which[int(at[name].argmin())] == 3, name
    assert which[int(at["paper_flat"].argmax())] == 3


def test_text_copied_within_the_page_is_more_alike_than_words_that_repeat() -> None:
    honest = _page()
    copied = honest.copy()
    copied[ROWS[4] - 24 : ROWS[4] + 6, 300:420] = honest[ROWS[1] - 24 : ROWS[1] + 6, 300:420]
    at = lettering.NAMES.index("copied")
    before, after = (lettering.rows(_planes(image))[0][:, at] for image in (honest, copied))
    assert set(np.argsort(-after)[:2]) == {1, 4}
    assert after[[1, 4]].min() > before.max() + 0.5


def test_a_page_full_of_text_is_not_searched_for_copies() -> None:
    boxes = np.array([(0, y, 640, y + 10) for y in range(0, 390, 10)], np.float32)
    table, _ = lettering.rows(Planes.of(_page(), boxes, None))
    assert len(table)
    assert np.isnan(table[:, lettering.NAMES.index("copied")]).all()


def test_short_and_lonely_lines_have_no_copies() -> None:
    lines = BOXES[:1].copy()
    table, _ = lettering.rows(Planes.of(_page(), lines, FACE))
    assert np.isnan(table[0][lettering.NAMES.index("copied")])


def test_a_jpeg_leaves_its_grid() -> None:
    grey = cv2.cvtColor(_page(noise=8.0), cv2.COLOR_RGB2GRAY)
    again = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)
    assert blockiness(again.astype(np.float32)) > blockiness(grey.astype(np.float32)) + 0.2


@pytest.mark.parametrize(
    ("image", "boxes", "face"),
    [
        (np.zeros((1, 1, 3), np.uint8), np.zeros((0, 4), np.float32), None),
        (np.zeros((300, 20, 3), np.uint8), np.zeros((0, 4), np.float32), None),
        (np.full((500, 800, 3), 255, np.uint8), np.array([(0, 0, 900, 20), (-50, -50, -10, -10)], np.float32), np.zeros(4, np.float32)),
        (_page(), np.array([(300, 300, 300, 300)], np.float32), np.array([600, 380, 700, 460], np.float32)),
    ],
)
def test_absurd_pages_and_boxes_are_measured_without_a_warning(image: UInt8Array, boxes: Float32Array, face: Float32Array | None) -> None:
    planes = Planes.of(image, boxes, face)
    assert surface.row(planes).shape == (len(surface.NAMES),)
    assert seams.row(planes).shape == (len(seams.NAMES),)
    assert lettering.rows(planes)[0].shape[1] == len(lettering.NAMES)


# ---- hints


@pytest.mark.parametrize(
    "changes",
    [
        {"figures": ["other"]},
        {"centre": [0.0]},
        {"scale": [0.0] * len(NAMES["text"])},
        {"weights": [float("nan")] * len(NAMES["text"])},
        {"weights": "many"},
        {"offset": float("inf")},
        {"calibration": {"slope": -1.0, "offset": 0.0}},
        {"points": {}},
        {"points": {"review": 1.5}},
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_remedy(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"document_doubt\.text"):
        Suspicion.from_table(made_hints.tables(text=changes), "text")


def test_a_figure_that_could_not_be_measured_adds_nothing() -> None:
    count = len(NAMES["portrait"])
    hint = Suspicion.from_table(made_hints.tables(portrait={"weights": [1.0] * count, "away": [1.0] * count}), "portrait").hint
    assert hint(np.full(count, np.nan)) == hint.offset
    assert hint(np.full(count, 1e9)) == pytest.approx(hint.offset + 2 * 3.0 * count)


def test_small_pages_are_not_judged() -> None:
    doubts = Doubts.from_table(made_hints.tables(), min_px=450)
    assert {d.kind for d in doubts(_page(), BOXES, FACE)} == set(NAMES)
    small = cv2.resize(_page(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert doubts(small, BOXES / 2, FACE / 2) == ()


def test_without_portrait_or_text_only_the_surface_is_judged() -> None:
    doubts = Doubts.from_table(made_hints.tables(), min_px=450)
    assert {d.kind for d in doubts(_page(), np.zeros((0, 4), np.float32), None)} == {"recapture", "generated"}


def test_the_line_that_looks_altered_is_named_with_what_speaks_for_it() -> None:
    weights = [-5.0 if name == "paper_wave" else 0.0 for name in NAMES["text"]]
    doubts = Doubts.from_table(made_hints.tables(text={"weights": weights, "points": {"review": 0.5}, "offset": -3.0}), min_px=450)
    image, third = _page(), BOXES[3].astype(int)
    assert not next(d for d in doubts(image, BOXES, FACE) if d.kind == "text").is_finding
    image[third[1] : third[3], third[0] : third[2]] = (215, 219, 223)
    cv2.putText(image, "XYZ 99", (300, ROWS[3]), cv2.FONT_HERSHEY_TRIPLEX, 0.9, (0, 0, 0), 2, cv2.LINE_AA)
    found = next(d for d in doubts(image, BOXES, FACE) if d.kind == "text")
    assert (found.is_finding, found.line, found.strongest) == (True, 3, ("paper_wave",))
