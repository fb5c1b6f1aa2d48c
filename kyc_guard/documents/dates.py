"""Dates as zones carry them, six characters and unknown parts, and as documents print them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from kyc_guard.documents.names import transliterate

_UNKNOWN = "<"


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A date of which parts may be unknown (``<<`` in the zone).

    Attributes:
        yymmdd: the six characters of the zone; two dates that agree here cannot be told apart by an MRZ.
        year, month, day: ``None`` where unknown; the century of ``year`` follows from the caller's ``today``.
        valid: the known parts can be a calendar date.
    """

    yymmdd: str
    year: int | None
    month: int | None
    day: int | None
    valid: bool

    @property
    def iso(self) -> str:
        """ISO 8601 with X for what is unknown, such as 1974-08-XX."""
        year = "XXXX" if self.year is None else f"{self.year:04d}"
        return f"{year}-{'XX' if self.month is None else f'{self.month:02d}'}-{'XX' if self.day is None else f'{self.day:02d}'}"

    def agrees(self, other: date) -> bool:
        """Whether every known part equals that of ``other``; the century, which no zone carries, is left out."""
        wanted = other.strftime("%y%m%d")
        return self.valid and all(a in (b, _UNKNOWN) for a, b in zip(self.yymmdd, wanted, strict=True))

    def may_be(self, other: PartialDate) -> bool:
        """Whether every part both know is equal."""
        return self.valid and other.valid and all(a == b or _UNKNOWN in {a, b} for a, b in zip(self.yymmdd, other.yymmdd, strict=True))

    def passed(self, today: date) -> bool:
        """Whether the whole span this date may mean lies before ``today``; an unknown or invalid date has not passed."""
        if not self.valid or self.year is None:
            return False
        return (self.year, self.month or 12, self.day or 31) < (today.year, today.month, today.day)


def zone_date(text: str, today: date, *, in_past: bool) -> PartialDate:
    """Six characters of a zone as a date; ``today`` settles the century: births lie in the past, expiries near today."""
    parts = [text[i : i + 2] for i in (0, 2, 4)]
    if any(not (p.isdecimal() or p == "<<") for p in parts):
        return PartialDate(text, None, None, None, valid=False)
    yy, month, day = (None if p == "<<" else int(p) for p in parts)
    year = None if yy is None else _century(yy, month, day, today, in_past=in_past)
    try:
        # A leap year stands in for an unknown one, January for an unknown month.
        date(year or 2000, month or 1, day or 1)
    except ValueError:
        return PartialDate(text, year, month, day, valid=False)
    return PartialDate(text, year, month, day, valid=True)


def full_date(year: int, month: int, day: int) -> PartialDate:
    """A date of which everything is known, valid or not."""
    yymmdd = f"{year % 100:02d}{month:02d}{day:02d}"
    try:
        date(year, month, day)
    except ValueError:
        return PartialDate(yymmdd, year, month, day, valid=False)
    return PartialDate(yymmdd, year, month, day, valid=True)


def _century(yy: int, month: int | None, day: int | None, today: date, *, in_past: bool) -> int:
    base = today.year - today.year % 100
    if in_past:
        year = base + yy
        return year if (year, month or 1, day or 1) <= (today.year, today.month, today.day) else year - 100
    return min((base + yy + shift for shift in (-100, 0, 100)), key=lambda year: abs(year - today.year))


_NUMERIC = re.compile(r"(?<!\d)(\d{1,4})[ ./-](\d{1,2})[ ./-](\d{2,4})(?!\d)")
_WORDED = re.compile(r"(?<!\d)(\d{1,2})[ ./-]*([A-Z]{3,})(?:[ ./-]+[A-Z]+)?[ ./-]*(\d{4}|\d{2})(?!\d)")
_MONTHS = {
    "JAN": 1, "ENE": 1, "GEN": 1, "FEB": 2, "FEV": 2, "MAR": 3, "MAE": 3, "MRZ": 3, "APR": 4, "AVR": 4, "ABR": 4, "MAY": 5, "MAI": 5,
    "MAG": 5, "JUN": 6, "JUIN": 6, "GIU": 6, "JUL": 7, "JUIL": 7, "LUG": 7, "AUG": 8, "AOU": 8, "AGO": 8, "SEP": 9, "SET": 9, "OCT": 10,
    "OKT": 10, "OUT": 10, "OTT": 10, "NOV": 11, "DEC": 12, "DEZ": 12, "DIC": 12,
}  # fmt: skip


def dates_in(text: str) -> frozenset[date]:
    """Every date ``text`` may mean: year first, day first and month first; two-digit years count as 20xx (compare by YYMMDD)."""
    found: set[date] = set()
    for a, b, c in _NUMERIC.findall(text):
        found.update(_possible([(a, b, c), (c, b, a), (c, a, b)]))
    plain = "".join(" " + transliterate(part) + " " if part.isalpha() else part for part in re.findall(r"[^\W\d_]+|\d+|.", text))
    for day, word, year in _WORDED.findall(plain):
        month = _MONTHS.get(word[:4]) or _MONTHS.get(word[:3])
        if month is not None:
            found.update(_possible([(year, str(month), day)]))
    return frozenset(found)


def _possible(readings: Sequence[tuple[str, str, str]]) -> Iterator[date]:
    for year, month, day in readings:
        # Three digits are no year, and four no month or day.
        if len(year) not in {2, 4} or max(len(month), len(day)) > 2:
            continue
        try:
            yield date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day))
        except ValueError:
            continue
