"""Names across alphabets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.documents.names import fold, similarity, spellings, transliterate


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Müller-Lüdenscheidt", "MUELLER LUEDENSCHEIDT"),
        ("O'Connor", "OCONNOR"),
        ("Strauß", "STRAUSS"),
        ("Åse Ødegård", "AASE OEDEGAARD"),
        ("Łukasz", "LUKASZ"),
        ("José  María", "JOSE MARIA"),
        ("Щербаков", "SHCHERBAKOV"),
        ("Юлия", "IULIIA"),
        ("Nguyễn", "NGUYEN"),
        ("", ""),
        ("王", ""),
    ],
)
def test_names_are_spelt_as_icao_9303_spells_them(name: str, zone: str) -> None:
    assert transliterate(name) == zone


def test_a_careless_spelling_is_known_too() -> None:
    assert spellings("Müller") == {"MUELLER", "MULLER"}


@pytest.mark.parametrize(
    ("a", "b", "alike"), [("", "", 1.0), ("ABC", "", 0.0), ("ABCD", "ABXD", 0.75), ("ABC", "ABCD", 0.75), ("A", "A", 1.0)]
)
def test_similarity_counts_edits(a: str, b: str, alike: float) -> None:
    assert similarity(a, b) == pytest.approx(alike)


def test_look_alikes_fold_onto_one() -> None:
    assert fold("oI8-Z 5") == fold("01B2S")
    assert fold("A1") != fold("A7")


@given(st.text(max_size=20), st.text(max_size=20))
def test_similarity_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    assert 0.0 <= similarity(a, b) <= 1.0


@given(st.text(max_size=30))
def test_any_name_becomes_letters_and_single_blanks(name: str) -> None:
    spelt = transliterate(name)
    assert spelt == " ".join(spelt.split())
    assert all("A" <= c <= "Z" or c == " " for c in spelt)
