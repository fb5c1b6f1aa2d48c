"""Machine-readable zones: the examples of ICAO 9303, repairs, round trips, rubbish."""

from __future__ import annotations

import string
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kyc_guard.documents.dates import PartialDate
from kyc_guard.documents.mrz import encode, find, parse
from kyc_guard.documents.specimen import Holder
from kyc_guard.documents.specimen import zone as printed_zone
from kyc_guard.documents.zone_layouts import FORMATS, check_digit

TODAY = date(2026, 1, 1)
TD3 = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")

# The examples printed in ICAO 9303 parts 4 to 7.
EXAMPLES = [
    ("TD1", ("I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"), "D23145890"),
    ("TD1", ("I<UTOD23145890<7349<<<<<<<<<<<", "3407127M9507122UTO<<<<<<<<<<<2", "STEVENSON<<PETER<JOHN<<<<<<<<<"), "D23145890734"),
    ("TD2", ("I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"), "D23145890"),
    ("TD3", TD3, "L898902C3"),
    ("MRV-A", ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L8988901C4XXX4009078F96121096ZE184226B<<<<<<"), "L8988901C"),
    ("MRV-B", ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "L8988901C4XXX4009078F9612109<<<<<<<<"), "L8988901C"),
]


@pytest.mark.parametrize(("layout", "lines", "number"), EXAMPLES)
def test_the_examples_of_icao_9303_are_read_without_repair_and_with_valid_digits(layout: str, lines: tuple[str, ...], number: str) -> None:
    zone = parse(lines, today=TODAY)
    assert zone is not None
    assert (zone.format, zone.document_number, zone.issuing_state) == (layout, number, "UTO")
    assert (zone.failed_checks, zone.repaired, zone.lines) == ((), 0, lines)


def test_every_field_of_the_passport_example_is_right() -> None:
    zone = parse(TD3, today=TODAY)
    assert zone is not None
    assert (zone.surname, zone.given_names, zone.nationality, zone.sex) == ("ERIKSSON", "ANNA MARIA", "UTO", "F")
    assert (zone.birth_date.iso, zone.expiry_date.iso, zone.optional) == ("1974-08-12", "2012-04-15", "ZE184226B")
    assert dict(zone.checks) == dict.fromkeys(("document_number", "birth_date", "expiry_date", "optional", "composite"), True)


@pytest.mark.parametrize("column", [*range(10), *range(13, 20), *range(21, 44)])
def test_a_changed_character_anywhere_under_a_check_digit_is_noticed(column: int) -> None:
    line = TD3[1]
    # 2 would be missed only in the place of a character worth 2, 12, 22 or 32; 3 only of 3, 13, 23, 33.
    changed = "3" if line[column] in "2CMW" else "2"
    zone = parse((TD3[0], line[:column] + changed + line[column + 1 :]), today=TODAY)
    assert zone is None or zone.failed_checks


@pytest.mark.parametrize(("a", "b"), [("6", "G"), ("1", "L"), ("1", "B"), ("0", "K"), ("A", "<"), ("8", "I")])
def test_characters_worth_ten_apart_are_beyond_every_check_digit(a: str, b: str) -> None:
    assert check_digit(f"AB{a}D") == check_digit(f"AB{b}D")


@pytest.mark.parametrize(("a", "b"), [("0", "O"), ("1", "I"), ("2", "Z"), ("5", "S"), ("8", "B")])
def test_the_other_usual_misreadings_are_within_reach_of_a_check_digit(a: str, b: str) -> None:
    assert check_digit(f"AB{a}D") != check_digit(f"AB{b}D")


@pytest.mark.parametrize(
    ("first", "second", "repaired"),
    [
        ("P<UT0ERIKSS0N<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", TD3[1], 2),  # 0 for O where only letters stand
        (TD3[0], "L898902C36UT07408122F12O4I59ZE184226B<<<<<10", 3),  # and O, I for 0, 1 where only digits stand
        (TD3[0], "L898902C36UTO74O8I22FI2O4I59ZE184226B<<<<<10", 5),
        ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<KKK<<<LLCC<<", TD3[1], 7),  # fillers after the names' end
        ("p<utoeriksson<< anna<maria <<<<<<<<<<<<<<<<<<<", TD3[1], 0),  # case and blanks cost nothing
        ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<", TD3[1], 3),  # a run of fillers miscounted
        (TD3[0], "L898902C36UTO7408122F1204159ZE184226B<<<10", 2),
        (TD3[0] + "<<", TD3[1], 2),
        ("P<UTOERIKSSON«ANNA<MARIA<<<<<<<<<<<<<<<<<<<", TD3[1], 1),
        ("P<UTOÉRIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", TD3[1], 1),
    ],
)
def test_misreadings_are_mended_where_the_position_forces_it_and_counted(first: str, second: str, repaired: int) -> None:
    zone = parse((first, second), today=TODAY)
    assert zone is not None
    assert (zone.lines, zone.failed_checks, zone.repaired) == (TD3, (), repaired)


def test_a_document_number_is_never_repaired_because_letters_and_digits_both_fit() -> None:
    zone = parse((TD3[0], "L8989O2C36UTO7408122F1204159ZE184226B<<<<<10"), today=TODAY)
    assert zone is not None
    assert zone.document_number == "L8989O2C3"
    assert zone.failed_checks == ("document_number", "composite")


def _chances(lines: tuple[str, ...], doubt: dict[int, dict[str, float]]) -> list[list[dict[str, float]]]:
    """What a recogniser gives that is sure of everything but of some characters of the second line."""
    rows = [[{c: 0.999} for c in line] for line in lines]
    for column, chances in doubt.items():
        rows[1][column] = chances
    return rows


@pytest.mark.parametrize(
    ("read", "doubt", "expected"),
    [
        ("L8989O2C36UTO7", {5: {"O": 0.9, "0": 0.09}}, "L898902C3"),
        ("L8989O2C36UTO7", {5: {"O": 0.999, "0": 0.001}}, "L898902C3"),  # O and 0 at nearly any chance
        ("L8989O2C36UTO7", {}, "L8989O2C3"),
        ("LB989O2C36UTO7", {1: {"B": 0.6, "8": 0.4}, 5: {"O": 0.99, "0": 0.01}}, "L898902C3"),
        ("L8989O2C36UTO7", {0: {"L": 0.3}, 5: {"O": 0.9, "0": 0.09}}, "L8989O2C3"),  # something else is wrong too
        ("L898902E36UTO7", {}, "L898902E3"),  # the recogniser is sure: sent back, not guessed
        ("L898902E36UTO7", {7: {"E": 0.9, "F": 0.09}}, "L898902E3"),  # the other reading makes no digit hold
    ],
)
def test_what_the_recogniser_hesitated_over_is_settled_by_the_digit(read: str, doubt: dict[int, dict[str, float]], expected: str) -> None:
    lines = (TD3[0], read + TD3[1][14:])
    zone = parse(lines, today=TODAY, chances=_chances(lines, doubt))
    assert zone is not None
    assert (zone.document_number, zone.failed_checks == ()) == (expected, expected == "L898902C3")
    assert zone.repaired == sum(a != b for a, b in zip(lines[1], zone.lines[1], strict=True))


def test_two_readings_under_which_the_digit_holds_are_no_reading() -> None:
    # First and fourth character weigh 7 both: either zero may be the O that was misread.
    lines = _with(document_number="O12045678")
    misread = (lines[0], "0" + lines[1][1:])
    zone = parse(misread, today=TODAY, chances=_chances(misread, {0: {"0": 0.9, "O": 0.05}, 3: {"0": 0.9, "O": 0.04}}))
    assert zone is not None
    assert "document_number" in zone.failed_checks
    clear = parse(misread, today=TODAY, chances=_chances(misread, {0: {"0": 0.9, "O": 0.05}}))
    assert clear is not None
    assert (clear.document_number, clear.failed_checks) == ("O12045678", ())


def test_the_least_certain_character_of_each_field_is_told() -> None:
    chances = _chances(TD3, {10: {"U": 0.5, "V": 0.4}})
    chances[0][6] = {"R": 0.7}
    chances[0][7] = {"1": 0.9, "I": 0.05}  # what a name cannot hold counts for the letter it looks like
    zone, plain = parse(TD3, today=TODAY, chances=chances), parse(TD3, today=TODAY)
    assert zone is not None
    assert plain is not None
    assert (zone.confidence["nationality"], zone.confidence["names"]) == (0.5, 0.7)
    # The digit decides between 6 and 8, but not between 6 and G.
    lines = _with(document_number="L6")
    for other, certainty in (("8", 1.0), ("G", 0.7)):
        read = parse(lines, today=TODAY, chances=_chances(lines, {1: {"6": 0.7, other: 0.3}}))
        assert read is not None
        assert read.confidence["document_number"] == pytest.approx(certainty)
    assert plain.confidence == {}


@pytest.mark.parametrize(
    ("number", "doubts", "certainty"),
    [
        ("L00", {1: ("O", 0.01), 2: ("O", 0.01)}, 1.0),  # the weights 3 and 1: the digit tells
        ("00L", {0: ("O", 0.01), 1: ("O", 0.01)}, 0.5),  # 7 and 3: it does not, and where one 0 is an O the other is too
        ("00L", {0: ("O", 0.01), 1: ("O", 1e-4)}, 1.0),
        ("25L", {0: ("Z", 0.4), 1: ("S", 0.4)}, 0.6 * 0.6 / (0.6 * 0.6 + 0.4 * 0.4)),  # 33 x 7 and 23 x 3 make 300
        ("25L", {0: ("Z", 0.4)}, 1.0),
    ],
)
def test_two_misreadings_that_cancel_under_a_check_digit_speak_against_each_other(
    number: str, doubts: dict[int, tuple[str, float]], certainty: float
) -> None:
    lines = _with(document_number=number)
    chances = _chances(lines, {k: {number[k]: 1 - p, c: p} for k, (c, p) in doubts.items()})
    read = parse(lines, today=TODAY, chances=chances)
    assert read is not None
    assert (read.document_number, read.failed_checks) == (number, ())
    assert read.confidence["document_number"] == pytest.approx(certainty)


@pytest.mark.parametrize(
    ("yymmdd", "today", "iso"),
    [
        ("740812", date(2026, 1, 1), "1974-08-12"),
        ("250812", date(2026, 1, 1), "2025-08-12"),
        ("260101", date(2026, 1, 1), "2026-01-01"),
        ("260102", date(2026, 1, 1), "1926-01-02"),
        ("74<<<<", date(2026, 1, 1), "1974-XX-XX"),
        ("7408<<", date(2026, 1, 1), "1974-08-XX"),
        ("<<<<<<", date(2026, 1, 1), "XXXX-XX-XX"),
    ],
)
def test_births_lie_in_the_past_and_unknown_parts_stay_unknown(yymmdd: str, today: date, iso: str) -> None:
    zone = parse(_with(birth_date=yymmdd), today=today)
    assert zone is not None
    assert (zone.birth_date.iso, zone.birth_date.valid, zone.checks["birth_date"]) == (iso, True, True)


@pytest.mark.parametrize(
    ("yymmdd", "iso"), [("310415", "2031-04-15"), ("120415", "2012-04-15"), ("940415", "1994-04-15"), ("750101", "2075-01-01")]
)
def test_expiry_takes_the_century_nearest_to_today(yymmdd: str, iso: str) -> None:
    zone = parse(_with(expiry_date=yymmdd), today=TODAY)
    assert zone is not None
    assert zone.expiry_date.iso == iso


@pytest.mark.parametrize(
    ("yymmdd", "today", "passed"),
    [
        ("260101", date(2026, 1, 1), False),
        ("251231", date(2026, 1, 1), True),
        ("26<<<<", date(2026, 12, 31), False),
        ("25<<<<", date(2026, 1, 1), True),
        ("<<<<<<", date(2026, 1, 1), False),
        ("251331", date(2026, 1, 1), False),
    ],
)
def test_a_date_has_passed_only_when_all_it_may_mean_has(yymmdd: str, today: date, passed: bool) -> None:
    zone = parse(_with(expiry_date=yymmdd), today=today)
    assert zone is not None
    assert zone.expiry_date.passed(today) is passed


def test_a_thirteenth_month_is_not_a_date_although_its_digit_holds() -> None:
    zone = parse(_with(birth_date="741332"), today=TODAY)
    assert zone is not None
    assert zone.checks["birth_date"]
    assert not zone.birth_date.valid


def test_dates_agree_on_all_known_parts_whatever_the_century() -> None:
    read = PartialDate("7408<<", 1974, 8, None, valid=True)
    assert read.agrees(date(1974, 8, 30))
    assert read.agrees(date(2074, 8, 1))
    assert not read.agrees(date(1974, 9, 1))


def test_a_zone_is_found_among_other_lines() -> None:
    texts = ["UTOPIA", "Passport / Passeport", "ERIKSSON", "12 AUG 74", *TD3, "Anna Maria Eriksson"]
    found = find(texts, today=TODAY)
    assert found is not None
    assert found[1] == range(4, 6)
    assert found[0].failed_checks == ()


@pytest.mark.parametrize("texts", [[], ["P<UTO"], ["UTOPIA", "ERIKSSON", "ANNA MARIA"], ["<" * 44] * 2, ["" * 44] * 2, ["A" * 44] * 3])
def test_what_is_no_zone_is_not_found(texts: list[str]) -> None:
    assert find(texts, today=TODAY) is None


def test_an_empty_personal_number_may_have_a_filler_for_its_digit() -> None:
    zone = parse(("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159<<<<<<<<<<<<<<<8"), today=TODAY)
    assert zone is not None
    assert zone.checks["optional"]


def test_names_that_fill_their_field_are_said_to_be_cut() -> None:
    zone = parse(_with(surname="A" * 20, given_names="B" * 20), today=TODAY)
    assert zone is not None
    assert zone.names_truncated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"document_number": "1234567890"}, "document_number"),
        ({"nationality": "UTOP"}, "nationality"),
        ({"birth_date": "1974-08-12"}, "birth_date"),
        ({"issuing_state": "ÜTO"}, "issuing_state"),
    ],
)
def test_what_does_not_fit_a_zone_cannot_be_encoded(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _with(**change)


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="TD9"):
        encode("TD9", **_FIELDS)  # type: ignore[arg-type]


_FIELDS = {
    "document_code": "P",
    "issuing_state": "UTO",
    "surname": "ERIKSSON",
    "given_names": "ANNA MARIA",
    "document_number": "L898902C3",
    "nationality": "UTO",
    "birth_date": "740812",
    "sex": "F",
    "expiry_date": "120415",
}


def _with(**change: str) -> tuple[str, ...]:
    return encode("TD3", **(_FIELDS | change))  # type: ignore[arg-type]


_name = st.lists(st.text(string.ascii_uppercase, min_size=1, max_size=6), min_size=1, max_size=2).map(" ".join)
_day = st.dates(date(1930, 1, 1), date(2025, 12, 31)).map(lambda d: d.strftime("%y%m%d"))
_alnum = string.ascii_uppercase + string.digits


@settings(deadline=None)
@given(
    layout=st.sampled_from(sorted(FORMATS)),
    surname=_name,
    given_names=_name,
    number=st.text(_alnum, min_size=1, max_size=9),
    tail=st.text(_alnum, max_size=4),
    state=st.text(string.ascii_uppercase, min_size=1, max_size=3),
    birth=_day,
    expiry=_day,
    sex=st.sampled_from("MFX"),
    optional=st.text(_alnum, max_size=7),
)
def test_what_is_encoded_is_read_back(  # noqa: PLR0917 (one argument a field)
    layout: str,
    surname: str,
    given_names: str,
    number: str,
    tail: str,
    state: str,
    birth: str,
    expiry: str,
    sex: str,
    optional: str,
) -> None:
    if layout in {"TD1", "TD2"} and len(number) == 9 and tail:
        number, optional = number + tail, ""
    lines = encode(
        layout,
        document_code=FORMATS[layout].codes[0],
        issuing_state=state,
        surname=surname,
        given_names=given_names,
        document_number=number,
        nationality=state,
        birth_date=birth,
        sex=sex,
        expiry_date=expiry,
        optional=optional,
    )
    zone = parse(lines, today=TODAY)
    assert zone is not None
    assert (zone.lines, zone.failed_checks, zone.repaired) == (lines, (), 0)
    assert (zone.format, zone.surname, zone.given_names, zone.document_number) == (layout, surname, given_names, number)
    assert (zone.issuing_state, zone.nationality, zone.sex, zone.optional) == (state, state, sex, optional)
    assert (zone.birth_date.yymmdd, zone.expiry_date.yymmdd) == (birth, expiry)


@settings(deadline=None)
@given(st.lists(st.text(max_size=50), max_size=5))
def test_any_text_is_survived(texts: list[str]) -> None:
    parse(texts, today=TODAY)
    parse(texts, today=TODAY, chances=[[{"A": 0.5, "<": 0.5}] * len(text) for text in texts])
    find(texts, today=TODAY)


@settings(deadline=None)
@given(
    lines=st.sampled_from([example[1] for example in EXAMPLES]),
    noise=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 45), st.text(max_size=3)), max_size=6),
)
def test_a_damaged_zone_is_survived_and_every_change_of_it_is_counted(lines: tuple[str, ...], noise: list[tuple[int, int, str]]) -> None:
    damaged = list(lines)
    for row, column, text in noise:
        line = damaged[row % len(damaged)]
        damaged[row % len(damaged)] = line[:column] + text + line[column + 1 :]
    zone = parse(damaged, today=TODAY)
    if zone is not None:
        assert len(zone.lines) == FORMATS[zone.format].rows
        assert all(len(line) == FORMATS[zone.format].width for line in zone.lines)
        clean = ["".join(line.upper().split()) for line in damaged]
        assert zone.repaired >= sum(a != b for a, b in zip(clean, zone.lines, strict=True))


@given(st.text(_alnum + "<", max_size=40))
def test_a_check_digit_is_one_digit(text: str) -> None:
    assert check_digit(text) in string.digits


@pytest.mark.parametrize("layout", ["TD1", "TD2", "TD3"])
@pytest.mark.parametrize("with_chances", [False, True])
def test_a_zone_without_its_line_of_names_is_known_by_its_digits(layout: str, with_chances: bool) -> None:
    lines = printed_zone(Holder(), layout)
    rest = lines[:2] if layout == "TD1" else lines[1:]
    texts = ("UTOPIA", *rest, "Anna Maria")
    found = find(texts, today=TODAY, chances=_chances(texts, {}) if with_chances else ())
    assert found is not None
    read, span = found
    assert (read.format, read.failed_checks, read.surname, read.given_names, span) == (layout, (), "", "", range(1, len(texts) - 1))
    whole = parse(lines, today=TODAY)
    assert whole is not None
    assert all(getattr(read, f) == getattr(whole, f) for f in ("document_number", "birth_date", "expiry_date", "sex", "nationality"))
    assert {line for line in read.lines if line} == set(rest)


@pytest.mark.parametrize("layout", ["TD1", "TD2", "TD3"])
def test_a_part_of_a_zone_in_which_a_digit_fails_is_no_zone(layout: str) -> None:
    lines = printed_zone(Holder(), layout, wrong_check_digit=True)
    found = find(lines[:2] if layout == "TD1" else lines[1:], today=TODAY)
    assert found is None or found[0].failed_checks  # a card's two lines are near enough to another format to be tried as such


def test_a_whole_zone_is_taken_before_a_part_of_one() -> None:
    lines = printed_zone(Holder())
    found = find([lines[1], *lines], today=TODAY)
    assert found is not None
    assert (found[0].surname, found[1]) == ("ERIKSSON", range(1, 3))
