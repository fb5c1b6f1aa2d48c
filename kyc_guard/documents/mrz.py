"""Machine-readable zones: text in, fields and check results out; fields in, lines out. No images, no clock.

All five formats of `zone_layouts`. What was misread is set right by `zone_repair`; repairs are counted, never silent.

Source: ICAO Doc 9303, parts 3 (check digits, transliteration), 4 (TD3), 5 (TD1), 6 (TD2), 7 (MRV).
"""

# ruff: noqa: RUF001 (what OCR makes of a filler is ambiguous by nature)

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, combinations
from types import MappingProxyType

from kyc_guard.documents.dates import PartialDate, zone_date
from kyc_guard.documents.names import transliterate
from kyc_guard.documents.zone_layouts import ALPHABET, FILLER, FORMATS, WEIGHTS, Format, character_value, check_digit
from kyc_guard.documents.zone_repair import LEAST_TWIN_CHANCE, TWINS, Chances, repair, settle, weighed_chances

_ALPHABET = frozenset(ALPHABET)

# What OCR makes of a filler; none of these can stand in a zone.
_FILLER_GLYPHS = str.maketrans({"«": "<<", "‹": "<", "＜": "<", "≤": "<", "〈": "<", "《": "<<", "く": "<", "(": "<", "[": "<", "{": "<"})


@dataclass(frozen=True, slots=True)
class Mrz:
    """A zone that was read. Names have blanks for single fillers.

    Where the line of names was not read, it, the names, and what else it says are empty.

    Attributes:
        lines: the zone after repair.
        checks: field name -> its check digit holds; ``composite`` where the format has one. Visas have no composite.
        repaired: characters changed, inserted or removed to make the text fit its format.
        names_truncated: the names fill their field, so they may go on.
        confidence: field -> 0..1, chance of its least certain character; empty where the text came without chances.
    """

    format: str
    lines: tuple[str, ...]
    document_code: str
    issuing_state: str
    surname: str
    given_names: str
    document_number: str
    nationality: str
    birth_date: PartialDate
    sex: str
    """M, F or X (unspecified, ``<`` in the zone)."""
    expiry_date: PartialDate
    optional: str
    optional_2: str
    checks: Mapping[str, bool]
    repaired: int
    names_truncated: bool
    confidence: Mapping[str, float]

    @property
    def failed_checks(self) -> tuple[str, ...]:
        return tuple(name for name, holds in self.checks.items() if not holds)

    @property
    def merit(self) -> tuple[int, bool, int]:
        """Orders readings of one text, the best highest: valid check digits less failed ones, then names, then fewest repairs."""
        return len(self.checks) - 2 * len(self.failed_checks), bool(self.surname), -self.repaired


def parse(lines: Sequence[str], *, today: date, chances: Sequence[Chances] = ()) -> Mrz | None:
    """Read 2 or 3 lines of OCR text as a machine-readable zone.

    Args:
        lines: one string a line; blanks, lower case, accents and look-alike brackets are allowed.
        today: settles the century of two-digit years: a birth lies in the past, an expiry within 50 years of today.
        chances: of each line's characters; where check digits fail, the likeliest reading under which they hold is taken.

    Returns:
        The reading with the most valid check digits, then the fewest repairs; ``None`` if no format fits. Check digits may
        have failed: see `Mrz.checks`.
    """
    normal = [_normalise(line, chances[i] if chances else ()) for i, line in enumerate(lines)]
    if any(line is None for line in normal):
        return None
    known = [line for line in normal if line is not None]
    readings = (_read(f, known, today) for f in FORMATS.values() if f.rows == len(known))
    return max((r for r in readings if r is not None), key=lambda r: r.merit, default=None)


def find(texts: Sequence[str], *, today: date, chances: Sequence[Chances] = ()) -> tuple[Mrz, range] | None:
    """The best zone among neighbouring ``texts`` in reading order, and which of them it spans; ``None`` if there is none.

    Among them are zones that lack their line of names, as cut off and glaring ones do, if all their check digits hold.
    """
    found = (
        (reading, range(start, start + rows))
        for rows in (2, 3)
        for start in range(len(texts) - rows + 1)
        if (reading := parse(texts[start : start + rows], today=today, chances=chances[start : start + rows])) is not None
    )
    return max(chain(found, _nameless(texts, today, chances)), key=lambda pair: pair[0].merit, default=None)


def _nameless(texts: Sequence[str], today: date, chances: Sequence[Chances]) -> Iterator[tuple[Mrz, range]]:
    """Zones of travel documents in which all but the line of names was read. A visa's three digits are too few to know it by."""
    for layout in (form for form in FORMATS.values() if form.composite):
        line = next(field.line for field in layout.fields if field.name == "names")
        made = FILLER * layout.width if line else layout.codes[0].ljust(layout.width, FILLER)
        for start in range(len(texts) - layout.rows + 2):
            span = range(start, start + layout.rows - 1)
            rows, likely = [texts[i] for i in span], [chances[i] for i in span] if chances else []
            reading = parse(
                [*rows[:line], made, *rows[line:]],
                today=today,
                chances=[*likely[:line], [{c: 1.0} for c in made], *likely[line:]] if likely else (),
            )
            if reading is not None and reading.format == layout.name and not (reading.failed_checks or reading.surname):
                lines = tuple("" if i == line else text for i, text in enumerate(reading.lines))
                yield replace(reading, lines=lines, document_code="" if line == 0 else reading.document_code), span


@dataclass(frozen=True, slots=True)
class _Line:
    """A line in the zone's alphabet."""

    text: str
    chances: Chances
    """One entry a character, or none at all."""
    replaced: int
    """Look-alikes that were taken for something of the alphabet."""


def _normalise(text: str, chances: Chances) -> _Line | None:
    """The line in the zone's alphabet; ``None`` if it cannot belong to a zone."""
    plain = "".join(text.upper().split())
    mapped = "".join(c for c in unicodedata.normalize("NFKD", plain.translate(_FILLER_GLYPHS)).upper() if not unicodedata.combining(c))
    if not mapped or not _ALPHABET.issuperset(mapped):
        return None
    kept = [chance for c, chance in zip(text, chances, strict=False) if not c.isspace()]
    return _Line(mapped, kept if len(kept) == len(mapped) else (), sum(c not in _ALPHABET for c in plain))


def _read(layout: Format, lines: Sequence[_Line], today: date) -> Mrz | None:
    fitted: list[_Line] = []
    for line in lines:
        fit = _fit(line, layout.width)
        if fit is None:
            return None
        fitted.append(fit)
    zone = [list(line.text) for line in fitted]
    for field in layout.fields:
        zone[field.line][field.start : field.stop] = repair(field.kind, fitted[field.line].text[field.start : field.stop])
        if field.check is not None:
            zone[field.line][field.check] = repair("check", fitted[field.line].text[field.check])
    if layout.composite:
        zone[1][-1] = repair("check", fitted[1].text[-1])
    if zone[0][0] not in layout.codes:
        return None
    if all(line.chances for line in fitted):
        settle(layout, zone, [line.chances for line in fitted])
    final = tuple("".join(line) for line in zone)
    repaired = sum(line.replaced + abs(len(line.text) - layout.width) for line in lines)
    repaired += sum(a != b for before, after in zip(fitted, final, strict=True) for a, b in zip(before.text, after, strict=True))
    raw = {f.name: final[f.line][f.start : f.stop] for f in layout.fields}
    number, optional, number_holds = _document_number(layout, final, raw)
    checks = {"document_number": number_holds}
    for field in layout.fields:
        if field.check is not None and field.name != "document_number":
            digit = final[field.line][field.check]
            checks[field.name] = _holds(raw[field.name], digit, may_be_empty=field.name == "optional")
    if layout.composite:
        checks["composite"] = check_digit("".join(final[i][a:b] for i, a, b in layout.composite)) == final[1][-1]
    surname, _, given = raw["names"].rstrip(FILLER).partition("<<")
    return Mrz(
        format=layout.name,
        lines=final,
        document_code=_plain(raw["document_code"]),
        issuing_state=_plain(raw["issuing_state"]),
        surname=_plain(surname),
        given_names=_plain(given),
        document_number=number,
        nationality=_plain(raw["nationality"]),
        birth_date=zone_date(raw["birth_date"], today, in_past=True),
        sex=raw["sex"] if raw["sex"] in "MF" else "X",
        expiry_date=zone_date(raw["expiry_date"], today, in_past=False),
        optional=_plain(optional),
        optional_2=_plain(raw.get("optional_2", "")),
        checks=MappingProxyType(checks),
        repaired=repaired,
        names_truncated=not raw["names"].endswith(FILLER),
        confidence=MappingProxyType(_confidence(layout, final, [line.chances for line in fitted])),
    )


def _fit(line: _Line, width: int) -> _Line | None:
    """``line`` at ``width`` by stretching or shrinking its longest run of fillers; ``None`` if it has no run to do so.

    OCR miscounts long runs. A run below three is never touched: ``<<`` divides surname from given names.
    """
    text, missing = line.text, width - len(line.text)
    if missing == 0:
        return line
    runs = max(re.finditer(r"<{3,}", text), key=lambda m: m.end() - m.start(), default=None)
    if runs is None:
        return None
    length = runs.end() - runs.start() + missing
    # A run that has to more than double was not miscounted; this is some other line.
    if not 3 <= length <= 2 * (runs.end() - runs.start()):
        return None
    chances = [*line.chances[: runs.start()], *[{FILLER: 1.0}] * length, *line.chances[runs.end() :]] if line.chances else ()
    return _Line(text[: runs.start()] + FILLER * length + text[runs.end() :], chances, line.replaced)


def _confidence(layout: Format, final: Sequence[str], chances: Sequence[Chances]) -> dict[str, float]:
    if not all(chances):
        return {}
    found: dict[str, float] = {}
    for field in layout.fields:
        text = final[field.line][field.start : field.stop].rstrip(FILLER)
        row = [(c, weighed_chances(field.kind, chance)) for c, chance in zip(text, chances[field.line][field.start :], strict=False)]
        certain = [_certainty(c, chance, checked=field.check is not None) for c, chance in row]
        found[field.name] = min([*certain, _certainty_of_pairs(row) if field.check is not None else 1.0])
    return found


def _certainty(character: str, chances: Mapping[str, float], *, checked: bool) -> float:
    """Chance of a character; under a check digit only what the digit cannot tell from it speaks against it, such as G against 6."""
    here = chances.get(character, 0.0)
    if not checked:
        return here
    alike = sum(p for c, p in chances.items() if (character_value(c) - character_value(character)) % 10 == 0)
    return here / alike if alike else 0.0


def _certainty_of_pairs(row: Sequence[tuple[str, Mapping[str, float]]]) -> float:
    """Chance of the text under a check digit against the likeliest two other characters that leave the digit as it is.

    O and 0 differ by a font, not by chance: where the recogniser hesitated over two of them, both ways are as good.
    """
    others = [
        (k, change, chance / max(chances.get(here, 0.0), LEAST_TWIN_CHANCE), (here, c) if {here, c} == TWINS else None)
        for k, (here, chances) in enumerate(row)
        for c, chance in chances.items()
        if chance >= LEAST_TWIN_CHANCE and (change := (character_value(c) - character_value(here)) * WEIGHTS[k % len(WEIGHTS)] % 10)
    ]
    odds = (
        1.0 if twins is not None and twins == other_twins else ratio * other_ratio
        for (k, change, ratio, twins), (other_k, other_change, other_ratio, other_twins) in combinations(others, 2)
        if k != other_k and (change + other_change) % 10 == 0
    )
    return 1 / (1 + max(odds, default=0.0))


def _document_number(layout: Format, lines: Sequence[str], raw: Mapping[str, str]) -> tuple[str, str, bool]:
    """Number, remaining optional data, and whether the check digit holds; knows the long numbers of TD1 and TD2.

    A number over nine characters has a filler in the place of its check digit and goes on, check digit last, in the
    optional data. Source: ICAO 9303-5, 4.2.2.1 note j and 9303-6, 4.2.2.1 note j.
    """
    field = next(f for f in layout.fields if f.name == "document_number")
    assert field.check is not None
    text, digit = raw["document_number"], lines[field.line][field.check]
    if digit == FILLER and layout.name in {"TD1", "TD2"} and FILLER not in text:
        tail, _, rest = raw["optional"].partition(FILLER)
        if len(tail) >= 2:
            number = text + tail[:-1]
            return number, rest, check_digit(number) == repair("check", tail[-1])
    return text.replace(FILLER, ""), raw["optional"], check_digit(text) == digit


def _holds(text: str, digit: str, *, may_be_empty: bool) -> bool:
    if digit == FILLER:
        return may_be_empty and not text.strip(FILLER)
    return check_digit(text) == digit


def _plain(text: str) -> str:
    return " ".join(text.replace(FILLER, " ").split())


def encode(
    layout: str,
    *,
    document_code: str,
    issuing_state: str,
    surname: str,
    given_names: str,
    document_number: str,
    nationality: str,
    birth_date: str,
    sex: str,
    expiry_date: str,
    optional: str = "",
    optional_2: str = "",
) -> tuple[str, ...]:
    """The lines of a zone, with all check digits.

    ``layout`` is a key of `FORMATS`; names may be any Latin or Cyrillic text and are cut where they do not fit; dates are
    YYMMDD with ``<<`` for unknown parts; ``sex`` is M, F or X.

    Raises:
        ValueError: unknown format, a value that does not fit its field, or characters no zone can hold.
    """
    if layout not in FORMATS:
        raise ValueError(f"unknown MRZ format {layout!r}; use one of {', '.join(FORMATS)}")
    form = FORMATS[layout]
    names = transliterate(surname).replace(" ", FILLER) + "<<" + transliterate(given_names).replace(" ", FILLER)
    number, tail = document_number, ""
    if len(number) > 9 and layout in {"TD1", "TD2"}:
        number, tail = number[:9], f"{number[9:]}{check_digit(number)}{FILLER}"
    values = {
        "document_code": document_code,
        "issuing_state": issuing_state,
        "names": names.rstrip(FILLER)[: next(f.stop - f.start for f in form.fields if f.name == "names")],
        "document_number": number,
        "nationality": nationality,
        "birth_date": birth_date,
        "sex": FILLER if sex == "X" else sex,
        "expiry_date": expiry_date,
        "optional": (tail + optional.replace(" ", FILLER)).rstrip(FILLER) if tail else optional.replace(" ", FILLER),
        "optional_2": optional_2.replace(" ", FILLER),
    }
    rows = [[FILLER] * form.width for _ in range(form.rows)]
    for field in form.fields:
        value = values[field.name]
        if len(value) > field.stop - field.start or not _ALPHABET.issuperset(value):
            raise ValueError(f"{field.name} {value!r} does not fit {field.stop - field.start} MRZ characters")
        padded = value.ljust(field.stop - field.start, FILLER)
        rows[field.line][field.start : field.stop] = padded
        if field.check is not None and not (field.name == "document_number" and tail):
            rows[field.line][field.check] = check_digit(padded)
    if form.composite:
        rows[1][-1] = check_digit("".join("".join(rows[i][a:b]) for i, a, b in form.composite))
    return tuple("".join(row) for row in rows)
