"""Misread characters of a zone set right where position or check digit leave no choice.

A character is repaired where its position allows one kind of character and the character read is a known optical confusion of
that kind, or where the recogniser itself hesitated and only one of the readings it considered makes the check digit hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias

from kyc_guard.documents.zone_layouts import FILLER, Format, character_value, check_digit

_TO_DIGIT = str.maketrans("OQDILZSGB", "000112568")
_TO_LETTER = str.maketrans("0125681", "OIZSGBI")
_TO_FILLER = frozenset("KLC")

Chances: TypeAlias = Sequence[Mapping[str, float]]
"""For each character of a text: what it may be -> probability; empty = not known."""


def repair(kind: str, text: str) -> str:
    """``text`` as a field of this kind (see `Field`) may carry it."""
    match kind:
        case "check":
            return text if text == FILLER else text.translate(_TO_DIGIT)
        case "date":
            # K and C have no digit they could be; L has (1), so it is taken for that.
            return "".join(FILLER if c in "KC" else c for c in text).translate(_TO_DIGIT)
        case "alpha":
            return text.translate(_TO_LETTER)
        case "sex":
            return FILLER if text in _TO_FILLER else text
        case "names":
            # Three fillers end the names: all that follows is filler.
            head, end, tail = text.translate(_TO_LETTER).partition("<<<")
            return head + end + "".join(FILLER if c in _TO_FILLER else c for c in tail)
        case _:
            return text


def weighed_chances(kind: str, chances: Mapping[str, float]) -> dict[str, float]:
    """The chances of what may stand in a place of this kind, those of look-alikes added to it."""
    found: dict[str, float] = {}
    for character, chance in chances.items():
        c = repair(kind, character)
        if kind == "alnum" or c == FILLER or c.isdecimal() == (kind in {"date", "check"}):
            found[c] = found.get(c, 0.0) + chance
    return found


_LEAST_CHANCE = 0.02
"""Below it another reading of a character is not considered."""
LEAST_TWIN_CHANCE = 5e-4
"""The same for O and 0: misread ones had 0.001 to 0.4 left for the right reading, characters that were read right less."""
_LEAST_SUM = 0.8
"""Of the chances of everything that may stand in a place; with less there is something else."""
_MOST_READINGS = 512
_LEAST_RATIO = 20.0
"""By which the best reading under which a digit holds must be likelier than the next: one in ten holds by chance."""
TWINS = {"O", "0"}


def settle(layout: Format, zone: list[list[str]], chances: Sequence[Chances]) -> None:
    """Change characters of ``zone`` where a check digit fails and one reading under which it holds is by far the likeliest."""
    kinds = {(f.line, i): f.kind for f in layout.fields for i in range(f.start, f.stop)}
    groups = [[(f.line, i) for i in (*range(f.start, f.stop), f.check)] for f in layout.fields if f.check is not None]
    settled: set[tuple[int, int]] = set()
    for cells in groups:
        if zone[cells[-1][0]][cells[-1][1]] != FILLER and not _settled(zone, cells, cells, kinds, chances):
            return
        settled.update(cells if zone[cells[-1][0]][cells[-1][1]] != FILLER else ())
    if layout.composite:
        cells = [*((i, k) for i, a, b in layout.composite for k in range(a, b)), (1, layout.width - 1)]
        _settled(zone, cells, [cell for cell in cells if cell not in settled], kinds, chances)


def _settled(
    zone: list[list[str]],
    cells: Sequence[tuple[int, int]],
    open_cells: Sequence[tuple[int, int]],
    kinds: Mapping[tuple[int, int], str],
    chances: Sequence[Chances],
) -> bool:
    """Whether the digit in the last of ``cells`` holds over the others, if need be after changing some of ``open_cells``."""

    def holds() -> bool:
        *text, digit = (zone[i][k] for i, k in cells)
        return check_digit("".join(text)) == digit

    if holds():
        return True
    options: list[dict[str, float]] = []
    for i, k in open_cells:
        kind = kinds.get((i, k), "check")
        weighed = weighed_chances(kind, chances[i][k])
        if sum(weighed.values()) < _LEAST_SUM:
            return False
        here = zone[i][k]
        likely = {here: max(weighed.get(here, 0.0), LEAST_TWIN_CHANCE)}
        for c, chance in weighed.items():
            # A reading that no check digit can tell from this one is not for the digit to choose.
            told_apart = (character_value(c) - character_value(here)) % 10 != 0
            if told_apart and chance >= (LEAST_TWIN_CHANCE if {c, here} == TWINS else _LEAST_CHANCE):
                likely[c] = chance
        options.append(likely)
    if math.prod(map(len, options)) > _MOST_READINGS:
        return False
    before = [zone[i][k] for i, k in open_cells]
    possible: list[tuple[float, tuple[str, ...]]] = []
    for reading in product(*options):
        _put(zone, open_cells, reading)
        if holds():
            possible.append((math.prod(option[c] for option, c in zip(options, reading, strict=True)), reading))
    possible.sort(reverse=True)
    clear = bool(possible) and (len(possible) == 1 or possible[0][0] >= _LEAST_RATIO * possible[1][0])
    _put(zone, open_cells, possible[0][1] if clear else before)
    return clear


def _put(zone: list[list[str]], cells: Sequence[tuple[int, int]], characters: Sequence[str]) -> None:
    for (i, k), c in zip(cells, characters, strict=True):
        zone[i][k] = c
