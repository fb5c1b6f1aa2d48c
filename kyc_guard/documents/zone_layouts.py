"""The formats of machine-readable zones: where each field stands, and the check digit.

TD1 (cards, 3 x 30), TD2 (2 x 36), TD3 (passports, 2 x 44), MRV-A and MRV-B (visas).

Source: ICAO Doc 9303, parts 3 (check digits), 4 (TD3), 5 (TD1), 6 (TD2), 7 (MRV).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from types import MappingProxyType

FILLER = "<"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + FILLER
WEIGHTS = (7, 3, 1)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field stands: ``lines[line][start:stop]``, ``check`` the column of its check digit on the same line."""

    name: str
    kind: str
    """alpha, date, alnum, names, sex or check."""
    line: int
    start: int
    stop: int
    check: int | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One layout of part 4, 5, 6 or 7."""

    name: str
    rows: int
    width: int
    codes: str
    """First letters a document code of this format may have."""
    fields: tuple[Field, ...]
    composite: tuple[tuple[int, int, int], ...] = ()
    """(line, start, stop) pieces under the composite digit, which ends the second line; empty for visas."""


def _two_line(name: str, width: int, codes: str, optional: Field, composite: tuple[tuple[int, int, int], ...]) -> Format:
    return Format(
        name,
        2,
        width,
        codes,
        (
            Field("document_code", "alpha", 0, 0, 2),
            Field("issuing_state", "alpha", 0, 2, 5),
            Field("names", "names", 0, 5, width),
            Field("document_number", "alnum", 1, 0, 9, 9),
            Field("nationality", "alpha", 1, 10, 13),
            Field("birth_date", "date", 1, 13, 19, 19),
            Field("sex", "sex", 1, 20, 21),
            Field("expiry_date", "date", 1, 21, 27, 27),
            optional,
        ),
        composite,
    )


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format(
                "TD1",
                3,
                30,
                "ACI",
                (
                    Field("document_code", "alpha", 0, 0, 2),
                    Field("issuing_state", "alpha", 0, 2, 5),
                    Field("document_number", "alnum", 0, 5, 14, 14),
                    Field("optional", "alnum", 0, 15, 30),
                    Field("birth_date", "date", 1, 0, 6, 6),
                    Field("sex", "sex", 1, 7, 8),
                    Field("expiry_date", "date", 1, 8, 14, 14),
                    Field("nationality", "alpha", 1, 15, 18),
                    Field("optional_2", "alnum", 1, 18, 29),
                    Field("names", "names", 2, 0, 30),
                ),
                ((0, 5, 30), (1, 0, 7), (1, 8, 15), (1, 18, 29)),
            ),
            _two_line("TD2", 36, "ACI", Field("optional", "alnum", 1, 28, 35), ((1, 0, 10), (1, 13, 20), (1, 21, 35))),
            _two_line("TD3", 44, "P", Field("optional", "alnum", 1, 28, 42, 42), ((1, 0, 10), (1, 13, 20), (1, 21, 43))),
            _two_line("MRV-A", 44, "V", Field("optional", "alnum", 1, 28, 44), ()),
            _two_line("MRV-B", 36, "V", Field("optional", "alnum", 1, 28, 36), ()),
        )
    }
)


def check_digit(text: str) -> str:
    """The 7-3-1 check digit of ``text`` (A-Z, 0-9, ``<``).

    It misses substitutions of characters whose values differ by a multiple of 10, among them the misreadings G for 6 and
    L or B for 1 (fillers count as 0), and some exchanges of neighbours. Source: ICAO 9303-3, 4.9.
    """
    return str(sum(character_value(c) * w for c, w in zip(text, cycle(WEIGHTS), strict=False)) % 10)


def character_value(character: str) -> int:
    """What a character counts in a check digit."""
    return 0 if character == FILLER else int(character, 36)
