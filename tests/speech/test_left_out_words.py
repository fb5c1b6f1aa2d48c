"""A word that was not said, with the real listener and synthetic voices."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from kyc_guard.config import Limits
from kyc_guard.media import read_audio
from kyc_guard.speech.hearing import ear, speech_installed
from kyc_guard.speech.listening import Heard, Listener
from kyc_guard.speech.words import language

PHRASE = ("seven", "lemon", "two", "pepper", "nine", "window")
pytestmark = pytest.mark.skipif(not speech_installed() or not shutil.which("espeak-ng"), reason="needs the speech extra and espeak-ng")


def heard(said: tuple[str, ...], asked: tuple[str, ...] = PHRASE) -> Heard:
    spoken = ["espeak-ng", "-v", "en-us", "-s", "135", "--stdout", ", ".join(said)]
    audio = read_audio(subprocess.run(spoken, capture_output=True, check=True).stdout, Limits())
    assert audio is not None
    return Listener(ear()).hear(audio, asked, language(), 1)


@pytest.mark.parametrize("place", range(6))
def test_a_word_that_was_left_out_is_less_likely_than_nothing_in_its_place(place: int) -> None:
    ratios = [w.skip_ratio for w in heard((*PHRASE[:place], *PHRASE[place + 1 :])).words]
    assert ratios[place] < -8


def test_words_that_were_said_are_not_taken_for_left_out() -> None:
    assert min(w.skip_ratio for w in heard(PHRASE).words) > -5
    assert heard(PHRASE[:1], PHRASE[:1]).words[0].skip_ratio > -5, "a phrase of one word has nothing before and after"


def test_a_phrase_as_long_as_may_be_asked_is_heard() -> None:
    """200 bytes: beyond the model's places for tokens it would raise."""
    words = ("a" * 190, *PHRASE[:1])
    assert len(heard(PHRASE, words).words) == 2
