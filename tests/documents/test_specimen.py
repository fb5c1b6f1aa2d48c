"""Specimens of Utopia, and reading them back with the real OCR."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import cv2
import numpy as np
import pytest
from skimage import data

from kyc_guard.documents.ocr import TextLine, join_rows, read_text
from kyc_guard.documents.page import find_portrait, read_page, sharpness, with_documents
from kyc_guard.documents.specimen import Holder, render, zone
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, UInt8Array

TODAY = date(2026, 1, 1)


@pytest.fixture(scope="module")
def portrait_rgb() -> UInt8Array:
    return np.ascontiguousarray(data.astronaut()[0:300, 80:360])


@pytest.mark.parametrize("layout", ["TD1", "TD2", "TD3"])
def test_a_specimen_is_read_back_with_all_check_digits(layout: str, portrait_rgb: UInt8Array) -> None:
    sent = render(Holder(), portrait_rgb, layout=layout)
    page = read_page(sent, today=TODAY, portrait=find_portrait(sent))
    assert page.mrz is not None
    assert (page.mrz.lines, page.mrz.failed_checks) == (zone(Holder(), layout), ())
    assert page.portrait is not None
    assert {"ERIKSSON", "ANNA MARIA"} <= {line.text for line in page.lines}
    assert not any("<<" in line.text for line in page.lines)


def test_a_page_on_its_side_is_turned_upright(portrait_rgb: UInt8Array) -> None:
    sent = np.ascontiguousarray(np.rot90(render(Holder(), portrait_rgb, layout="TD2")))
    page = read_page(sent, today=TODAY, portrait=find_portrait(sent))
    assert page.quarter_turns == 3
    assert page.mrz is not None
    assert page.mrz.failed_checks == ()
    assert page.portrait is not None


def test_a_wrong_check_digit_is_read_as_wrong_and_nothing_else_is(portrait_rgb: UInt8Array) -> None:
    lines = zone(Holder(), wrong_check_digit=True)
    page = read_page(render(Holder(), portrait_rgb, mrz_lines=lines), today=TODAY)
    assert page.mrz is not None
    assert "birth_date" in page.mrz.failed_checks
    assert page.mrz.birth_date.iso == "1974-08-12"


def test_a_wrong_digit_changes_one_character_of_the_zone() -> None:
    right, wrong = zone(Holder()), zone(Holder(), wrong_check_digit=True)
    assert sum(a != b for x, y in zip(right, wrong, strict=True) for a, b in zip(x, y, strict=True)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (40, 40), (40, 6000)])
@pytest.mark.parametrize("level", [0, 255])
def test_blank_and_absurd_pages_are_survived(shape: tuple[int, int], level: int) -> None:
    page = read_page(np.full((*shape, 3), level, np.uint8), today=TODAY)
    assert (page.mrz, page.lines, page.portrait) == (None, (), None)


def test_blur_lowers_sharpness_whatever_the_resolution(portrait_rgb: UInt8Array) -> None:
    page = render(Holder(), portrait_rgb)
    blurred = cv2.GaussianBlur(page, (0, 0), 4)
    assert sharpness(blurred) < sharpness(page) / 10
    assert sharpness(cv2.resize(page, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)) > sharpness(blurred)


def test_the_portrait_is_the_largest_face(portrait_rgb: UInt8Array) -> None:
    page = render(Holder(), portrait_rgb)
    ghost = cv2.resize(portrait_rgb, (140, 150), interpolation=cv2.INTER_AREA)
    page[300:450, 1000:1140] = ghost
    found = find_portrait(page)
    assert found is not None
    assert found.face.box_xyxy[2] < 400


def test_evidence_has_the_portrait_of_the_first_page_that_shows_one_whichever_way_up(portrait_rgb: UInt8Array) -> None:
    front, back = render(Holder(), portrait_rgb, layout="TD1"), np.full((500, 800, 3), 210, np.uint8)
    evidence = with_documents(Evidence(Submission(id="s")), back, np.ascontiguousarray(np.rot90(front, 2)), front)
    assert evidence.portrait is not None
    assert (evidence.portrait.page, evidence.portrait.quarter_turns) == (1, 2)
    assert np.array_equal(evidence.portrait.upright_rgb, front)
    assert with_documents(evidence, back).portrait is None


def test_same_picture_same_lines(portrait_rgb: UInt8Array) -> None:
    page = render(replace(Holder(), given_names="BORIS"), portrait_rgb, layout="TD2")
    first, second = read_text(page), read_text(page)
    assert [line.text for line in first] == [line.text for line in second]
    assert all(0.0 <= line.confidence <= 1.0 for line in first)
    assert all(len(line.chances) == len(line.text) for line in first)
    zone_line = next(line for line in first if "<<" in line.text)
    assert "".join(max(chances, key=chances.__getitem__) for chances in zone_line.chances) == zone_line.text.upper()


def test_a_row_split_by_gaps_is_joined_from_left_to_right() -> None:
    def line(text: str, x: float, y: float) -> TextLine:
        return TextLine(text, 0.9, np.array([x, y, x + 100, y + 20], np.float32))

    rows = join_rows([line("C", 300, 102), line("A", 0, 100), line("below", 0, 130), line("B", 150, 96)])
    assert [row.text for row in rows] == ["A B C", "below"]
    assert rows[0].box_xyxy.tolist() == [0, 96, 400, 122]
