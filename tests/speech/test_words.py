"""What may be asked, how it is written, and how words are told apart."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.speech.lips import shape_names
from kyc_guard.speech.words import changes, language

ENGLISH = language()


@given(st.integers(0, 10_000))
def test_a_phrase_is_half_digits_no_word_twice_and_reads_back_as_issued(seed: int) -> None:
    phrase = ENGLISH.issue(random.Random(seed), 6)
    words = ENGLISH.words_of(phrase)
    assert " ".join(words) == phrase
    assert len(set(words)) == 6
    assert sum(word in ENGLISH.digits for word in words) == 3


def test_six_words_have_the_entropy_the_list_promises() -> None:
    assert len(ENGLISH.words) == 64
    assert ENGLISH.entropy_bits(6) == pytest.approx(31.75, abs=0.01)


def test_every_word_has_sounds_and_every_sound_a_shape_and_no_two_words_look_alike() -> None:
    mouths = {word: ENGLISH.mouth_of(word) for word in (*ENGLISH.words, *ENGLISH.digits)}
    assert None not in mouths.values()
    assert len({mouths[word] for word in ENGLISH.words}) == len(ENGLISH.words)
    assert {shape for way in mouths.values() for shape in way or ()} <= set(shape_names(ENGLISH))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Seven, lemon - TWO!", ("seven", "lemon", "two")),
        ("4 71", ("four", "seven", "one")),
        ("don\u2019t x9", ("don't", "x", "nine")),
        ("\u0663 pepper", ("three", "pepper")),
        ("  ...  ", ()),
        ("", ()),
    ],
)
def test_writing_is_normalised(text: str, words: tuple[str, ...]) -> None:
    assert ENGLISH.words_of(text) == words


def test_a_transcript_may_write_what_sounds_alike() -> None:
    assert ENGLISH.heard_of("for harbour to") == ("four", "harbor", "two")
    assert ENGLISH.words_of("for") == ("for",)


@given(st.text())
def test_any_text_is_split_into_words_or_none(text: str) -> None:
    assert all(word and " " not in word for word in ENGLISH.words_of(text))


def test_near_words_sound_alike_and_never_are_the_word_itself() -> None:
    assert "shampoo" in ENGLISH.near("bamboo", 5)
    assert "five" in ENGLISH.near("nine", 3)
    for word in ENGLISH.words:
        assert word not in ENGLISH.near(word, 8)
        assert len(ENGLISH.near(word, 8)) == 8
    assert ENGLISH.near("markets", 1) == ("market",), "words without known sounds are compared by spelling"


@pytest.mark.parametrize(
    ("heard", "instead"),
    [
        ("one two three", (("one",), ("two",), ("three",))),
        ("one three", (("one",), (), ("three",))),
        ("one lemon three", (("one",), ("lemon",), ("three",))),
        ("one two and three", (("one",), ("two", "and"), ("three",))),
        ("", ((), (), ())),
    ],
)
def test_what_stands_in_the_place_of_each_word(heard: str, instead: tuple[tuple[str, ...], ...]) -> None:
    assert changes(("one", "two", "three"), heard.split()) == instead
