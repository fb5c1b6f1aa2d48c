"""Names across alphabets, spellings and misreadings."""

# ruff: noqa: RUF001 (letters of other alphabets are the subject)

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

# ICAO 9303-3, section 6, tables A (Latin) and B (Cyrillic): what is not merely a letter with its accent taken off.
_TRANSLITERATION = {
    "Ä": "AE", "Ö": "OE", "Ü": "UE", "ẞ": "SS", "Å": "AA", "Æ": "AE", "Ø": "OE", "Œ": "OE", "Þ": "TH", "Ð": "D", "Đ": "D", "Ħ": "H",
    "Ĳ": "IJ", "ĸ": "Q", "Ł": "L", "Ŋ": "N", "Ŧ": "T", "I": "I", "ı": "I",
    "А": "A", "Б": "B", "В": "V", "Г": "G", "Д": "D", "Е": "E", "Ё": "E", "Ж": "ZH", "З": "Z", "И": "I", "Й": "I", "К": "K", "Л": "L",
    "М": "M", "Н": "N", "О": "O", "П": "P", "Р": "R", "С": "S", "Т": "T", "У": "U", "Ф": "F", "Х": "KH", "Ц": "TS", "Ч": "CH", "Ш": "SH",
    "Щ": "SHCH", "Ъ": "IE", "Ы": "Y", "Ь": "", "Э": "E", "Ю": "IU", "Я": "IA", "І": "I", "Ї": "I", "Є": "IE", "Ґ": "G",
}  # fmt: skip


def transliterate(name: str) -> str:
    """``name`` as a zone spells it: A-Z and single blanks; apostrophes vanish, hyphens become blanks, the rest is dropped."""
    composed = unicodedata.normalize("NFC", name.upper())
    return _letters("".join(_TRANSLITERATION.get(c, c) for c in composed))


def spellings(name: str) -> frozenset[str]:
    """All the spellings of ``name`` a zone or a careless form may carry: with AE for Ä, and with plain A."""
    return frozenset({transliterate(name), _letters(name.upper())} - {""})


def _letters(text: str) -> str:
    return " ".join("".join(_spelt(text)).split())


def _spelt(text: str) -> Iterator[str]:
    for c in unicodedata.normalize("NFKD", text).upper():
        if "A" <= c <= "Z":
            yield c
        elif c in "-‐‑–/,." or c.isspace():
            yield " "


def similarity(a: str, b: str) -> float:
    """1 - edit distance / longer length, 0..1; 1 for two empty strings. Substitution, insertion and deletion cost one each."""
    if not a and not b:
        return 1.0
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return 1.0 - row[-1] / max(len(a), len(b))


# Characters OCR and people confuse, folded onto one.
_FOLD = str.maketrans("OQDILZSGB", "000112568")


def fold(text: str) -> str:
    """Upper case A-Z and 0-9 only, with look-alikes made equal: two texts that fold alike differ by misreading at most."""
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum()).translate(_FOLD)
