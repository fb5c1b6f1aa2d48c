"""Barcodes: AAMVA records read back, whatever else is survived, and pictures of them at the angles people hold cards."""

from __future__ import annotations

import re
import string
from datetime import date

import cv2
import numpy as np
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.documents.barcode import aamva_elements, parse, read_barcodes
from kyc_guard.documents.specimen import Holder, zone
from kyc_guard.types import UInt8Array

TODAY = date(2026, 1, 1)
ELEMENTS = {
    "DCS": "ERIKSSON", "DDE": "N", "DAC": "ANNA", "DDF": "N", "DAD": "MARIA", "DDG": "N", "DCA": "C", "DBD": "04162024",
    "DBB": "08121974", "DBA": "04152034", "DBC": "2", "DAU": "068 in", "DAY": "BLU", "DAG": "12 MAIN ST", "DAI": "ANYTOWN", "DAJ": "UT",
    "DAK": "123450000", "DAQ": "L898902C3", "DCF": "83D9BN217QO983B1", "DCG": "USA",
}  # fmt: skip


def record(elements: dict[str, str], *, version: int = 11) -> str:
    """An AAMVA record as licences carry it."""
    body = "DL" + "\n".join(key + value for key, value in elements.items()) + "\r"
    head = f"@\n\x1e\rANSI 636000{version:02d}0001" if version > 1 else "@\n\x1c\rANSI 6360000101"
    return f"{head}DL{len(head) + 10:04d}{len(body):04d}{body}"


def picture(text: str, kind: str = "PDF417") -> UInt8Array:
    """A grey card of 1000 x 630 px with the barcode in its middle, four pixels a module."""
    code = zxingcpp.create_barcode(text, zxingcpp.barcode_format_from_str(kind))
    pixels = np.asarray(zxingcpp.write_barcode_to_image(code, scale=4))
    card = np.full((630, 1000), 210, np.uint8)
    top, left = (630 - pixels.shape[0]) // 2, (1000 - pixels.shape[1]) // 2
    card[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return np.repeat(card[..., None], 3, axis=2)


def test_a_licence_names_its_holder() -> None:
    found = parse(record(ELEMENTS), today=TODAY)
    assert found is not None
    assert (found.surname, found.given_names, found.document_number, found.sex) == ("ERIKSSON", "ANNA MARIA", "L898902C3", "F")
    assert (found.birth_date.iso, found.expiry_date.iso, found.nationality, found.names_cut) == ("1974-08-12", "2034-04-15", "", False)


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"DBB": "19740812"}, "birth_date", "1974-08-12"),  # Canada, and version 1
        ({"DBB": "20200101"}, "birth_date", "2020-01-01"),
        ({"DBB": "12311999"}, "birth_date", "1999-12-31"),
        ({"DBB": "00000000"}, "birth_date", "XXXX-XX-XX"),
        ({"DBB": "AUG 12"}, "birth_date", "XXXX-XX-XX"),
    ],
)
def test_dates_are_told_apart_by_what_can_be_one(change: dict[str, str], field: str, expected: str) -> None:
    found = parse(record(ELEMENTS | change), today=TODAY)
    assert found is not None
    assert getattr(found, field).iso == expected


def test_older_versions_write_the_name_in_other_elements() -> None:
    rest = {k: v for k, v in ELEMENTS.items() if k not in {"DCS", "DAC", "DAD"}}
    for older in ({"DAA": "ERIKSSON,ANNA,MARIA"}, {"DAB": "ERIKSSON", "DCT": "ANNA,MARIA"}):
        found = parse(record(rest | older, version=1), today=TODAY)
        assert found is not None
        assert (found.surname, found.given_names) == ("ERIKSSON", "ANNA MARIA")


def test_a_name_that_was_cut_is_said_to_be() -> None:
    found = parse(record(ELEMENTS | {"DDF": "T"}), today=TODAY)
    assert found is not None
    assert found.names_cut


def test_a_zone_in_a_barcode_is_read_if_its_digits_hold() -> None:
    found = parse("\n".join(zone(Holder())), today=TODAY)
    assert found is not None
    assert (found.source, found.surname, found.document_number) == ("barcode", "ERIKSSON", "L898902C3")
    assert parse("\n".join(zone(Holder(), wrong_check_digit=True)), today=TODAY) is None


@pytest.mark.parametrize("text", ["", "https://example.org/?ANSI 636000", "@\n\x1e\rANSI 636000110001DL00410008DLDAQ\r", "P<UTO"])
def test_other_content_names_nobody(text: str) -> None:
    assert parse(text, today=TODAY) is None


_word = st.text(string.ascii_uppercase, min_size=1, max_size=12)
_value = st.text(string.ascii_uppercase + string.digits + " -'", max_size=20).map(str.strip)


@given(st.dictionaries(st.from_regex(r"D[A-D][A-Z]", fullmatch=True), _value, max_size=8), st.sampled_from([1, 2, 8, 11]))
def test_a_record_is_read_back_element_by_element(elements: dict[str, str], version: int) -> None:
    assert aamva_elements(record(elements, version=version)) == elements


@given(
    surname=_word,
    given_name=_word,
    number=st.text(string.ascii_uppercase + string.digits, min_size=1, max_size=15),
    birth=st.dates(date(1920, 1, 1), date(2025, 12, 31)),
    canada=st.booleans(),
)
def test_whoever_a_record_names_is_read_back(surname: str, given_name: str, number: str, birth: date, canada: bool) -> None:
    day = birth.strftime("%Y%m%d" if canada else "%m%d%Y")
    found = parse(record(ELEMENTS | {"DCS": surname, "DAC": given_name, "DAD": "", "DAQ": number, "DBB": day}), today=TODAY)
    if {surname, given_name, number} & {"NONE", "UNAVL"}:
        return
    assert found is not None
    assert (found.surname, found.given_names, found.document_number) == (surname, given_name, number)
    assert found.birth_date.iso == birth.isoformat()


@given(st.text(max_size=200), st.booleans())
def test_any_content_is_survived(text: str, headed: bool) -> None:
    parse(re.sub("DAQ", text, record(ELEMENTS)) if headed and "\\" not in text else text, today=TODAY)


@pytest.mark.parametrize("kind", ["PDF417", "QRCode"])
@pytest.mark.parametrize("turn_deg", [0, 5, 20, 45, 90, 170])
def test_barcodes_are_read_at_any_angle(kind: str, turn_deg: int) -> None:
    turn = cv2.getRotationMatrix2D((500, 315), turn_deg, 1)
    turn[:, 2] += (100, 285)
    turned = cv2.warpAffine(picture(record(ELEMENTS), kind), turn, (1200, 1200), borderValue=(90, 110, 100))
    (code,) = read_barcodes(turned, today=TODAY)
    assert code.kind == kind
    assert code.identity is not None
    assert code.identity.surname == "ERIKSSON"
    # The centre of the card, where the barcode is.
    assert code.box_xyxy[0] < 600 < code.box_xyxy[2]
    assert code.box_xyxy[1] < 600 < code.box_xyxy[3]


def test_a_damaged_barcode_is_no_barcode() -> None:
    card = picture(record(ELEMENTS))
    card[100:500, 400:700] = 255
    assert read_barcodes(card, today=TODAY) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (40, 40)])
def test_blank_and_absurd_pages_have_none(shape: tuple[int, int]) -> None:
    assert read_barcodes(np.zeros((*shape, 3), np.uint8), today=TODAY) == ()
