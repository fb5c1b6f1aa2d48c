"""Words a session may ask for, how they are written, how they sound and what the mouth does to say them.

Nothing here knows English: content/phrases.toml has one table a language.
"""

from __future__ import annotations

import math
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d")  # words with an apostrophe, and digits one by one
_KINDRED = 0.5
"""Cost of taking a sound for another of the same mouth shape; a unit of measure: other mistakes cost 1."""


@dataclass(frozen=True, slots=True)
class Language:
    """What can be asked and said in one language.

    Attributes:
        digits: their names, zero first. words: the others that may be asked.
        same: another writing -> the word that sounds alike.
        sounds: word -> its sounds. shapes: sound -> the mouth shapes it passes through.
    """

    digits: tuple[str, ...]
    words: tuple[str, ...]
    same: Mapping[str, str]
    sounds: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[str, ...]]

    def issue(self, chance: random.Random, count: int) -> str:
        """A phrase of ``count`` different words, half of them digits (the smaller half), in any order."""
        digits = count // 2
        chosen = chance.sample(self.digits, digits) + chance.sample(self.words, count - digits)
        chance.shuffle(chosen)
        return " ".join(chosen)

    def entropy_bits(self, count: int) -> float:
        """How many bits `issue` draws."""
        digits = count // 2
        ways = math.comb(count, digits) * math.perm(len(self.digits), digits) * math.perm(len(self.words), count - digits)
        return math.log2(ways)

    def words_of(self, text: str) -> tuple[str, ...]:
        """The words of a written phrase, in lower case, digits by name, without punctuation."""
        found = (w.lower().replace("\u2019", "'") for w in _WORD.findall(text))
        return tuple(self.digits[int(w)] if w.isdecimal() else w for w in found)

    def heard_of(self, text: str) -> tuple[str, ...]:
        """As `words_of`, for a transcript: words that sound like one of ours count as ours."""
        return tuple(self.same.get(word, word) for word in self.words_of(text))

    def mouth_of(self, word: str) -> tuple[str, ...] | None:
        """The mouth shapes of a word in order, none twice in a row; ``None`` for a word whose sounds are not known."""
        shapes = [shape for sound in self.sounds.get(word, ()) for shape in self.shapes[sound]]
        return tuple(s for i, s in enumerate(shapes) if i == 0 or s != shapes[i - 1]) or None

    def near(self, word: str, count: int) -> tuple[str, ...]:
        """The ``count`` other words most easily mistaken for ``word``, by sound where it is known and by spelling otherwise."""
        others = [w for w in self.sounds if w != word]
        return tuple(sorted(others, key=lambda other: (self.distance(word, other), other))[:count])

    def distance(self, a: str, b: str) -> float:
        """Edit distance per unit of length between two words; sounds of one mouth shape are taken for one another at half the cost."""
        known = a in self.sounds and b in self.sounds
        left, right = (self.sounds[a], self.sounds[b]) if known else (tuple(a), tuple(b))
        row = [float(j) for j in range(len(right) + 1)]
        for i, one in enumerate(left, start=1):
            above, row = row, [float(i)]
            for j, other in enumerate(right, start=1):
                swap = 0.0 if one == other else _KINDRED if known and self.shapes[one] == self.shapes[other] else 1.0
                row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + swap))
        return row[-1] / max(len(left), len(right), 1)


@cache
def language(name: str = "en") -> Language:
    """A language of content/phrases.toml; raises KeyError for one that is not there."""
    path = resources.files("kyc_guard") / "content" / "phrases.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))[name]
    shapes = {sound: (shape,) for shape, sounds in table["shapes"].items() for sound in sounds}
    shapes |= {sound: tuple(way) for sound, way in table["glides"].items()}
    sounds = {word: tuple(said.split()) for word, said in (table["digits"] | table["words"]).items()}
    return Language(
        digits=tuple(table["digits"]),
        words=tuple(table["words"]),
        same=MappingProxyType(table["same"]),
        sounds=MappingProxyType(sounds),
        shapes=MappingProxyType(shapes),
    )


def changes(expected: Sequence[str], heard: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What stands in the place of each expected word in another writing: nothing, the word itself, or others.

    The cheapest alignment by insertions, deletions and substitutions of whole words; what was inserted belongs to the word before.
    """
    rows, columns = len(expected), len(heard)
    cost = [[i + j for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            same = expected[i - 1] == heard[j - 1]
            cost[i][j] = min(cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (not same))
    places: list[list[str]] = [[] for _ in expected]
    i, j = rows, columns
    while i and j:
        if cost[i][j] == cost[i - 1][j - 1] + (expected[i - 1] != heard[j - 1]):
            i, j = i - 1, j - 1
            places[i].insert(0, heard[j])
        elif cost[i][j] == cost[i][j - 1] + 1:
            j -= 1
            places[i - 1].insert(0, heard[j])
        else:
            i -= 1
    return tuple(map(tuple, places))
