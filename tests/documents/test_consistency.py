"""Zone against claims and print: same, a possible misreading, or a contradiction."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyc_guard.documents.consistency import Agreement, Limits, compare_claims, compare_visual_zone
from kyc_guard.documents.dates import dates_in
from kyc_guard.documents.identity import Identity
from kyc_guard.documents.mrz import parse
from kyc_guard.documents.ocr import TextLine
from kyc_guard.documents.specimen import Holder, zone

LIMITS = Limits(same=0.85, different=0.6, visual_near=0.75, text_confidence=0.9, character=0.6)
SAME, UNSURE, DIFFERENT = Agreement.SAME, Agreement.UNSURE, Agreement.DIFFERENT


_HOLDER = Holder()


def _read(holder: Holder = _HOLDER, *, failed: tuple[str, ...] = ()) -> Identity:
    read = parse(zone(holder), today=date(2026, 1, 1))
    assert read is not None
    return Identity.of_zone(replace(read, checks={name: name not in failed for name in read.checks}))


def _print(*texts: str, confidence: float = 0.99) -> list[TextLine]:
    return [TextLine(text, confidence, np.array([300, 100 + 30 * i, 600, 124 + 30 * i], np.float32)) for i, text in enumerate(texts)]


def test_an_honest_form_agrees_everywhere() -> None:
    assert set(compare_claims(_read(), Holder().claims, LIMITS).values()) == {SAME}


@pytest.mark.parametrize(
    ("claim", "value", "agreement"),
    [
        ("surname", "Eriksson", SAME),
        ("surname", "Erikson", SAME),  # one letter in eight
        ("surname", "Erixon", UNSURE),
        ("surname", "Lindqvist", DIFFERENT),
        ("given_names", "Anna", SAME),  # people leave names out
        ("given_names", "Anna-Maria", SAME),
        ("given_names", "Anja", UNSURE),
        ("given_names", "Björn", DIFFERENT),
        ("document_number", "l898902c3", SAME),
        ("document_number", "L8989O2C3", SAME),  # O typed for 0
        ("document_number", "L898902C4", DIFFERENT),
        ("birth_date", "1974-08-12", SAME),
        ("birth_date", "1974-08-13", DIFFERENT),
        ("birth_date", "12.08.1974", UNSURE),  # not ISO 8601: no contradiction of facts
        ("expiry_date", "2034-04-15", SAME),
        ("expiry_date", "2035-04-15", DIFFERENT),
        ("nationality", "UTO", SAME),
        ("nationality", "uto", SAME),
        ("nationality", "UTA", UNSURE),
        ("nationality", "FRA", DIFFERENT),
        ("sex", "F", SAME),
        ("sex", "M", DIFFERENT),
        ("sex", "X", UNSURE),
    ],
)
def test_claims_are_weighed_against_the_zone(claim: str, value: str, agreement: Agreement) -> None:
    assert compare_claims(_read(), {claim: value}, LIMITS) == {claim: agreement}


@pytest.mark.parametrize(("claim", "value"), [("document_number", "X"), ("birth_date", "1990-01-01"), ("expiry_date", "2030-01-01")])
def test_a_field_whose_check_digit_failed_contradicts_nobody(claim: str, value: str) -> None:
    assert compare_claims(_read(failed=(claim,)), {claim: value}, LIMITS) == {claim: UNSURE}


def test_names_are_compared_in_the_spelling_of_zones() -> None:
    read = _read(Holder(surname="Müller-Weiß", given_names="Jürgen"))
    for surname in ("Müller-Weiß", "Mueller Weiss", "Muller Weiss", "MÜLLER"):
        assert compare_claims(read, {"surname": surname, "given_names": "Jurgen"}, LIMITS) == {"surname": SAME, "given_names": SAME}


def test_the_german_zone_code_is_germany() -> None:
    assert compare_claims(replace(_read(), nationality="D"), {"nationality": "DEU"}, LIMITS) == {"nationality": SAME}


def test_claims_no_zone_speaks_of_are_left_alone() -> None:
    assert compare_claims(_read(), {"address": "Main Street 1"}, LIMITS) == {}


def test_print_that_repeats_the_zone_confirms_it() -> None:
    lines = _print("ERIKSSON", "ANNA MARIA", "L898902C3", "12 AUG 1974", "15.04.2034")
    assert compare_visual_zone(_read(), lines, LIMITS) == dict.fromkeys(
        ("document_number", "surname", "given_names", "birth_date", "expiry_date"), SAME
    )


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        (("L898902C8",), "document_number"),
        (("ERIKSEN",), "surname"),
        (("Date of birth / Date de naissance", "12 AUG 1994"), "birth_date"),
        (("Date of expiry", "15 APR 2039"), "expiry_date"),
        (("Geburtstag/Date of birth 01.02.1990",), "birth_date"),
    ],
)
def test_print_that_nearly_repeats_the_zone_contradicts_it_only_when_legible(texts: tuple[str, ...], field: str) -> None:
    assert compare_visual_zone(_read(), _print(*texts), LIMITS) == {field: DIFFERENT}
    assert compare_visual_zone(_read(), _print(*texts, confidence=0.7), LIMITS) == {}


def test_a_date_without_a_label_contradicts_nothing() -> None:
    assert compare_visual_zone(_read(), _print("Date of issue", "16 APR 2024", "999999999", "PASSPORT OFFICE"), LIMITS) == {}


def test_a_failed_check_digit_does_not_accuse_the_print() -> None:
    read = _read(failed=("document_number", "birth_date"))
    assert compare_visual_zone(read, _print("L898902C8", "Date of birth", "12 AUG 1994"), LIMITS) == {}


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("12.08.1974", date(1974, 8, 12)),
        ("1974-08-12", date(1974, 8, 12)),
        ("12 AUGUST/AOUT 74", date(2074, 8, 12)),
        ("12 août 1974", date(1974, 8, 12)),
        ("12AUG1974", date(1974, 8, 12)),
        ("born 12 Aug 1974 in X", date(1974, 8, 12)),
        ("08/12/1974", date(1974, 8, 12)),
        ("16 JUIL/JUL 07", date(2007, 7, 16)),
    ],
)
def test_dates_are_read_as_documents_print_them(text: str, day: date) -> None:
    assert day in dates_in(text)


@pytest.mark.parametrize("text", ["", "32.13.1974", "12 FOO 1974", "123456789", "1.2", "99 AUG 1974"])
def test_what_is_no_date_is_not_read_as_one(text: str) -> None:
    assert dates_in(text) == frozenset()


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_searched_for_dates_without_harm(text: str) -> None:
    assert all(isinstance(d, date) for d in dates_in(text))


def test_a_hostile_line_is_searched_in_linear_time() -> None:
    assert dates_in("1 " + "A" * 20_000 + " " + "B" * 20_000) == frozenset()
