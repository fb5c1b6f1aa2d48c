"""Lips against phrases: what fits wins, what cannot have been said is not judged."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from kyc_guard.errors import ModelError
from kyc_guard.faces.mouth import Mouth
from kyc_guard.speech.lips import LipRead, LipReader, _laid, closures, lip_features, shape_names
from kyc_guard.speech.words import language

ENGLISH = language()
SHAPES = shape_names(ENGLISH)
READER = LipReader(SHAPES, np.zeros((len(SHAPES), 60)), np.eye(60))
NAMES = ("opening", "width", "protrusion", "contact", "upper", "lower", "jaw")
PHRASE = ("pepper", "two", "window", "five", "family", "zero")


def said(words: tuple[str, ...], frames: int = 3, clear: float = 1.0) -> LipRead:
    """Lips that take each shape for so many frames, with rests between words."""
    shapes = [SHAPES.index(s) for w in words for s in ("rest", *(ENGLISH.mouth_of(w) or ()), "rest")]
    fits = np.random.default_rng(0).normal(0, 0.3, (len(shapes) * frames, len(SHAPES)))
    fits[np.arange(len(fits)), np.repeat(shapes, frames)] += clear
    return LipRead(np.arange(len(fits)) / 25, fits)


def spans(words: tuple[str, ...], frames: int = 3) -> list[tuple[float, float]]:
    ends = np.cumsum([(len(ENGLISH.mouth_of(w) or ()) + 2) * frames / 25 for w in words])
    return list(zip([0.0, *ends[:-1]], ends, strict=True))


@pytest.mark.parametrize("timed", [False, True])
def test_the_phrase_that_was_said_fits_better_than_random_ones_and_another_does_not(timed: bool) -> None:
    at = spans(PHRASE) if timed else None
    right = READER.log_ratio(said(PHRASE), PHRASE, ENGLISH, at)
    wrong = READER.log_ratio(said(PHRASE), ("umbrella", "nine", "octopus", "one", "shadow", "eight"), ENGLISH, at)
    assert right is not None
    assert wrong is not None
    assert right > 3 > wrong


def test_every_way_of_laying_the_shapes_over_the_time_counts() -> None:
    frames, optional = 5, np.array([[True, False, True, False, True]])
    fits = np.random.default_rng(3).normal(size=(frames, 1, 5))

    def allowed(path: tuple[int, ...]) -> bool:
        steps = all(b - a in {0, 1} or (b - a == 2 and optional[0, a + 1]) for a, b in pairwise(path))
        return steps and path[0] in {0, 1} and path[-1] in {3, 4}

    ways = [sum(fits[t, 0, s] for t, s in enumerate(path)) for path in product(range(5), repeat=frames) if allowed(path)]
    assert _laid(fits, optional, np.array([5])) == pytest.approx(np.log(np.sum(np.exp(ways))))


def test_the_same_lips_and_words_give_the_same_answer() -> None:
    assert READER.log_ratio(said(PHRASE), PHRASE, ENGLISH) == READER.log_ratio(said(PHRASE), PHRASE, ENGLISH)


def test_too_little_time_or_unknown_words_are_not_judged() -> None:
    short = LipRead(np.arange(8) / 25, np.zeros((8, len(SHAPES))))
    assert READER.log_ratio(short, PHRASE, ENGLISH) is None
    assert READER.log_ratio(LipRead(np.zeros(0), np.zeros((0, len(SHAPES)))), PHRASE, ENGLISH) is None
    assert READER.log_ratio(said(PHRASE), ("xylophone",), ENGLISH) is None
    assert READER.log_ratio(said(PHRASE), (), ENGLISH) is None
    assert READER.log_ratio(said(PHRASE), PHRASE, ENGLISH, [(9.0, 9.1)] * 6) is None, "heard when nothing was seen"


@pytest.mark.parametrize("phrase", [ENGLISH.digits[:6], ("one",) * 12, ENGLISH.digits], ids=["six digits", "one word", "all digits"])
def test_a_phrase_that_leaves_few_other_words_is_told_from_random_ones(phrase: tuple[str, ...]) -> None:
    right = READER.log_ratio(said(phrase), phrase, ENGLISH, spans(phrase))
    other = tuple(ENGLISH.digits[(ENGLISH.digits.index(w) + 3) % 10] for w in phrase)
    wrong = READER.log_ratio(said(other), phrase, ENGLISH, spans(other))
    assert right is not None
    assert right > 2
    assert wrong is None or wrong < right - 2


def test_lips_close_for_p_b_and_m_and_only_those_words_are_asked() -> None:
    times_s = np.arange(0, 4, 0.04)
    contact = np.where((times_s > 0.4) & (times_s < 0.5), 1.0, 0.0)
    contact[times_s >= 3] = np.nan
    mouth = Mouth(times_s, *(contact if name == "contact" else np.where(times_s < 3, 0.1, np.nan) for name in NAMES))
    at = [(0.0, 1.0), (1.0, 2.0), (2.0, 2.9), (3.2, 4.0)]
    assert closures(mouth, ("pepper", "nine", "lemon", "bamboo"), ENGLISH, at) == {"pepper": True, "lemon": False}


def test_figures_are_in_the_persons_own_units_and_the_same_at_any_rate() -> None:
    def mouth(rate_hz: float, scale: float) -> Mouth:
        times = np.arange(0, 3, 1 / rate_hz)
        curves = [scale * np.sin(2 * np.pi * k * times / 3) for k in range(1, 8)]
        return Mouth(times, *curves)

    one, times = lip_features(mouth(25, 1.0))
    two, _ = lip_features(mouth(30, 1.0))
    louder, _ = lip_features(mouth(25, 3.0))
    assert one.shape == (len(times), 60)
    assert np.abs(one[5:60] - two[5:60]).max() < 0.2
    free = np.array([c for c in range(60) if c % 12 != 3])  # contact is a share and has its own unit
    assert louder[:, free] == pytest.approx(one[:, free], abs=0.01)


def test_a_mouth_never_seen_has_no_figures() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        lip_features(Mouth(np.arange(5) / 25, *(np.full(5, np.nan) for _ in range(7))))


def test_a_reader_made_for_other_shapes_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", shapes=np.array(["rest", "smile"]), means=np.zeros((2, 60)), precision=np.eye(60))
    with pytest.raises(ModelError, match="other mouth shapes"):
        LipReader.load(tmp_path / "a.npz", ENGLISH)
