"""Could these lips have said this? The mouth's curves against the shapes a phrase asks of it, and against random phrases.

A linear discriminant says how well a moment and its surroundings fit each mouth shape (content/phrases.toml names them); the phrase's
shapes are laid over the time there is in every way at once (the forward algorithm of hidden Markov models). What counts is not the fit
but how much better it is than that of random phrases of the same make: a likelihood ratio that needs no scale of its own.

Many sounds look alike and coarticulation blurs the rest, so this is a weak witness: see weights/cards/phrase.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kyc_guard.errors import ModelError
from kyc_guard.faces.mouth import Mouth
from kyc_guard.speech.words import Language
from kyc_guard.types import Float64Array

RATE_HZ = 25.0
REST = "rest"
"""The shape between words; every other is the language's."""
CLOSED = "closed"
"""The shape of p, b and m, in every language."""
_TOUCH = 0.5
"""Share of the inner lips that touch when a mouth is closed: of closed ones nearly all do, of open ones none; a unit of measure."""
CURVES = ("opening", "width", "protrusion", "contact", "upper", "lower", "jaw")
_SLOPES = ("opening", "width", "protrusion", "lower", "jaw")
AROUND = (-4, -2, 0, 2, 4)
"""Frames looked at with each: a shape is known by what comes before and after."""
DECOYS = 64
"""Random phrases that a phrase is held against: with fewer, chance among them moves the ratio."""
_SLACK_S = 0.1
_NEVER = -1e6

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class LipRead:
    """How well each moment fits each shape.

    Attributes:
        times_s: (T,) at 25 Hz.
        fits: (T, C) log-likelihood of each shape over the mean of all.
    """

    times_s: Float64Array
    fits: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class LipReader:
    """A shared-covariance Gaussian for every mouth shape.

    Attributes:
        shapes: (C) names, `REST` first. means: (C, D). precision: (D, D), less than the inverse covariance by as much as neighbouring
            moments repeat one another: they overlap, so their likelihoods do not simply multiply.
    """

    shapes: tuple[str, ...]
    means: Float64Array
    precision: Float64Array

    @classmethod
    def load(cls, path: Path, language: Language) -> Self:
        """Of an .npz with ``shapes``, ``means`` and ``precision``.

        Raises:
            ModelError: it was made for other shapes or other features.
        """
        with np.load(path, allow_pickle=False) as file:
            reader = cls(tuple(map(str, file["shapes"])), file["means"].astype(np.float64), file["precision"].astype(np.float64))
        size = len(AROUND) * (len(CURVES) + len(_SLOPES))
        if (
            reader.shapes != shape_names(language)
            or reader.means.shape != (len(reader.shapes), size)
            or reader.precision.shape != (size, size)
        ):
            raise ModelError(f"{path}: was made for other mouth shapes or figures. Remedy: python -m training.phrase")
        return reader

    def read(self, features: Float64Array, times_s: Float64Array) -> LipRead:
        """Weigh (T, D) features of `lip_features`."""
        apart = features[:, None] - self.means[None]
        loglik = -0.5 * np.einsum("tci,ij,tcj->tc", apart, self.precision, apart)
        top = loglik.max(axis=1, keepdims=True)
        mean = top + np.log(np.exp(loglik - top).mean(axis=1, keepdims=True))
        return LipRead(times_s, loglik - mean)

    def log_ratio(self, read: LipRead, phrase: Sequence[str], language: Language, spans_s: Sequence[Span] | None = None) -> float | None:
        """How many deviations the phrase fits better than random phrases of the same make; negative: worse than most.

        Args:
            read: what the lips did while the phrase was, or may have been, said.
            phrase: words whose sounds ``language`` knows.
            spans_s: when each word was heard; ``None`` = not known.

        Returns:
            ``None`` when a word's sounds are not known or there is too little time to say it.
        """
        made = [language.mouth_of(word) for word in phrase]
        if not made or any(shapes is None for shapes in made) or len(read.fits) < 2:
            return None
        chance = random.Random(" ".join(phrase))  # the same phrase meets the same decoys  # noqa: S311
        decoys = [_like(phrase, language, chance) for _ in range(DECOYS)]
        scores = self._scores(read, [list(phrase), *decoys], language, spans_s)
        possible = scores > _NEVER / (2 * max(len(read.fits), 1))  # laid without entering what is forbidden
        others = scores[1:][possible[1:]]
        if not possible[0] or len(others) < DECOYS // 2 or others.std() == 0:
            return None
        return float((scores[0] - others.mean()) / others.std())

    def _scores(self, read: LipRead, phrases: Sequence[Sequence[str]], language: Language, spans_s: Sequence[Span] | None) -> Float64Array:
        """(N,) mean fit of each phrase's shapes laid over the time, a rest before, between and after words or none."""
        rows = [_states(phrase, language, self.shapes) for phrase in phrases]
        size = max(map(len, rows))
        shape, word = np.zeros((len(rows), size), np.int64), np.full((len(rows), size), -1)
        for n, row in enumerate(rows):
            shape[n, : len(row)], word[n, : len(row)] = zip(*row, strict=True)
        fits = read.fits[:, shape]
        if spans_s is not None:
            times = read.times_s[:, None]
            early = np.array([-np.inf, *(a - _SLACK_S for a, _ in spans_s)])
            late = np.array([np.inf, *(b + _SLACK_S for _, b in spans_s)])
            allowed = (times >= early) & (times <= late)
            fits = np.where(allowed[:, word + 1], fits, _NEVER)
        return _laid(fits, word < 0, np.array([len(row) for row in rows])) / max(len(fits), 1)


def lip_features(mouth: Mouth, spoken_s: Span | None = None) -> tuple[Float64Array, Float64Array]:
    """The curves at 25 Hz, in units of the person's own spread, with their slopes and what surrounds each moment.

    Args:
        spoken_s: from when to when somebody speaks; the whole clip unless given. Its median and deviation are the units.

    Returns:
        (T, D) features and (T,) times.

    Raises:
        ValueError: the mouth was seen in fewer than two frames.
    """
    curves = np.stack([getattr(mouth, name) for name in CURVES], axis=1)
    seen = np.isfinite(curves).all(axis=1)
    if seen.sum() < 2:
        raise ValueError("a mouth seen in fewer than two frames has no curve")
    first, last = mouth.times_s[seen][[0, -1]]
    times_s = np.arange(first, last + 1e-6, 1 / RATE_HZ)
    even = np.stack([np.interp(times_s, mouth.times_s[seen], curve) for curve in curves[seen].T], axis=1)
    inside = np.ones(len(times_s), bool) if spoken_s is None else (times_s >= spoken_s[0]) & (times_s <= spoken_s[1])
    unit = even[inside] if inside.sum() > 1 else even
    level = (even - np.median(unit, axis=0)) / (unit.std(axis=0) + 1e-4)
    touch = CURVES.index("contact")
    level[:, touch] = 2 * even[:, touch]  # a share already
    slopes = np.gradient(level, axis=0)[:, [CURVES.index(name) for name in _SLOPES]]
    both = np.concatenate([level, slopes], axis=1)
    reach = max(AROUND)
    padded = np.pad(both, ((reach, reach), (0, 0)), "edge")
    return np.concatenate([padded[reach + k : reach + k + len(both)] for k in AROUND], axis=1), times_s


def closures(mouth: Mouth, phrase: Sequence[str], language: Language, spans_s: Sequence[Span]) -> dict[str, bool]:
    """Of every word that has a p, b or m, whether the lips close while it is said; words said out of sight are left out."""
    closed = {}
    for word, (start_s, end_s) in zip(phrase, spans_s, strict=True):
        contact = mouth.between(start_s - _SLACK_S, end_s + _SLACK_S).contact
        if CLOSED in (language.mouth_of(word) or ()) and np.isfinite(contact).any():
            closed[word] = bool(np.nanmax(contact) >= _TOUCH)
    return closed


def shape_names(language: Language) -> tuple[str, ...]:
    """Every mouth shape of a language, `REST` first."""
    return (REST, *dict.fromkeys(shape for way in language.shapes.values() for shape in way))


def _like(phrase: Sequence[str], language: Language, chance: random.Random) -> list[str]:
    """A random phrase with digits where this one has digits and words where it has words, none of its own; where there are too few
    others, none of its own in the same place.
    """
    digits = [w for w in phrase if w in language.digits]
    others = [_unlike(digits, language.digits, chance), _unlike([w for w in phrase if w not in digits], language.words, chance)]
    return [others[w not in digits].pop(0) for w in phrase]


def _unlike(own: Sequence[str], known: Sequence[str], chance: random.Random) -> list[str]:
    free = [w for w in known if w not in own]
    if len(own) <= len(free):
        return chance.sample(free, len(own))[::-1]
    return [chance.choice([w for w in known if w != mine]) for mine in own]


def _states(phrase: Sequence[str], language: Language, shapes: tuple[str, ...]) -> list[tuple[int, int]]:
    """(shape, word) of every state in order; word -1 = the rest before, between and after words."""
    states = [(0, -1)]
    for number, word in enumerate(phrase):
        states += [(shapes.index(shape), number) for shape in language.mouth_of(word) or ()]
        states.append((0, -1))
    return states


def _laid(fits: Float64Array, optional: NDArray[np.bool_], lengths: NDArray[np.int64]) -> Float64Array:
    """(N,) log of the sum, over all paths of N phrases through their states, of the exponential of the (T, N, S) fits on the way.

    Each state takes at least one frame, optional ones perhaps none. The best path alone would flatter every phrase: some path fits.
    """
    _, count, size = fits.shape
    states, rows = np.arange(size), np.arange(count)
    never = 2 * _NEVER * len(fits)
    total = np.where((states == 0) | ((states == 1) & optional[:, :1]), fits[0], never)
    skipped = np.zeros_like(optional)
    skipped[:, 2:] = optional[:, 1:-1]
    for fit in fits[1:]:
        before = np.pad(total, ((0, 0), (2, 0)), constant_values=never)
        leap = np.where(skipped, before[:, :-2], never)
        total = np.logaddexp(np.logaddexp(total, before[:, 1:-1]), leap) + fit
    ends: Float64Array = np.logaddexp(total[rows, lengths - 1], total[rows, lengths - 2])
    return ends
