"""The lip reader of the phrase check: mouth shapes placed by sound, a linear discriminant fitted to the curves of the mouth.

Word times come from Whisper's attention. Within them an aligner places the mouth shapes on Whisper's encoding, which tells sounds far
better than lips do; it is fitted to its own placing, a few times over, from an even start. The reader is fitted to the result. How much
it is shrunk is chosen without the person it is judged on.
"""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kyc_guard.faces.mouth import Mouth
from kyc_guard.reports.metrics import auc
from kyc_guard.speech.hearing import ENCODED_HZ, ear
from kyc_guard.speech.lips import LipRead, LipReader, Span, lip_features, shape_names
from kyc_guard.speech.words import Language, language
from kyc_guard.types import Float32Array, Float64Array

Labels = NDArray[np.int64]
_UNKNOWN = -1
_COMPONENTS = 40
"""Of Whisper's encoding, whitened: as many as 16 people can fill."""
_REACH_S = 0.12
_NEVER = -1e4
# International phonetic letters, as espeak-ng writes them, to the mouth shapes of content/phrases.toml.
_IPA = {
    "closed": "pbm", "tucked": "fv", "rounded": "wu\u028a", "pouted": "\u0283\u0292", "teeth": "sz", "tongue": "tdnl\u03b8\u00f0\u027e",
    "free": "k\u0261\u014bh", "open": "a\u0251\u00e6\u028c\u0259\u0250", "half": "e\u025b", "spread": "ij\u026a\u1d7b",
    "round": "o\u0254\u0252", "drawn": "\u0279\u025a\u025c\u025d",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """One clip of a person who says known words."""

    path: str
    person: str
    split: str
    words: tuple[str, ...]
    spans_s: tuple[Span, ...]
    audio: Float32Array
    mouth: Mouth


def everyday(words: Sequence[str]) -> Language:
    """English with any words, each known by its mouth shapes alone, as espeak-ng pronounces it."""
    english = language()
    shape_of = {letter: shape for shape, letters in _IPA.items() for letter in letters}
    sounds = {}
    for word in sorted(set(words)):
        said = subprocess.run(
            ["/usr/bin/env", "espeak-ng", "-q", "--ipa", "-v", "en-us", word], capture_output=True, text=True, check=True
        ).stdout
        shapes = [shape_of[letter] for letter in said if letter in shape_of]
        # The tongue's half of an affricate is not seen.
        sounds[word] = tuple(s for i, s in enumerate(shapes) if not (s == "tongue" and shapes[i + 1 : i + 2] == ["pouted"]))
    own = MappingProxyType({shape: (shape,) for shape in shape_names(english)})
    return Language(digits=(), words=tuple(sounds), same=english.same, sounds=MappingProxyType(sounds), shapes=own)


def placed(clips: Sequence[Spoken], spoken: Language, how: Mapping[str, Any]) -> list[Labels]:
    """For every clip the mouth shape at 50 Hz, by number in `shape_names`; -1 where nothing is known."""
    names = shape_names(language())
    codes = [ear().encoded(c.audio).astype(np.float64) for c in clips]
    together = np.concatenate(codes)
    centre = together.mean(axis=0)
    _, spread, axes = np.linalg.svd(together - centre, full_matrices=False)
    white = axes[:_COMPONENTS].T / (spread[:_COMPONENTS] / np.sqrt(len(together)))
    codes = [(c - centre) @ white for c in codes]
    states = [_states(c, spoken, names) for c in clips]
    labels = [_even(c, s, len(code)) for c, s, code in zip(clips, states, codes, strict=True)]
    for _ in range(int(how["passes"])):
        aligner = fitted(codes, labels, names, how, Shrunk(float(how["aligner_shrinkage"]), 1.0))
        labels = [_viterbi(aligner.read(code, np.arange(len(code)) / ENCODED_HZ), s) for code, s in zip(codes, states, strict=True)]
    return labels


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is not learnt but chosen.

    Attributes:
        shrinkage: of the covariance towards its diagonal.
        repeats: moments that say the same thing.
    """

    shrinkage: float
    repeats: float


def fitted(
    features: Sequence[Float64Array], labels: Sequence[Labels], names: tuple[str, ...], how: Mapping[str, Any], shrunk: Shrunk
) -> LipReader:
    """Shared-covariance Gaussians."""
    x = np.concatenate([f[y != _UNKNOWN] for f, y in zip(features, labels, strict=True)])
    y = np.concatenate([y[y != _UNKNOWN] for y in labels])
    prior = float(how["prior_frames"])
    means = np.stack([(x[y == k].sum(axis=0) + prior * x.mean(axis=0)) / ((y == k).sum() + prior) for k in range(len(names))])
    apart = x - means[y]
    covariance = apart.T @ apart / len(x)
    covariance = (1 - shrunk.shrinkage) * covariance + shrunk.shrinkage * np.diag(np.diag(covariance))
    return LipReader(names, means, np.linalg.inv(covariance) / shrunk.repeats)


def reader_of(clips: Sequence[Spoken], labels: Sequence[Labels], how: Mapping[str, Any], shrunk: Shrunk) -> LipReader:
    """The lip reader learnt from these clips."""
    features, ours = [], []
    for clip, label in zip(clips, labels, strict=True):
        rows, times_s = lip_features(clip.mouth, (clip.spans_s[0][0], clip.spans_s[-1][1]))
        features.append(rows)
        ours.append(label[np.clip((times_s * ENCODED_HZ).round().astype(int), 0, len(label) - 1)])
    return fitted(features, ours, shape_names(language()), how, shrunk)


@dataclass(frozen=True, slots=True)
class Lipped:
    """One piece of a clip: the ratio of the right words and of a random phrase of as many words; free, and at the times heard."""

    person: str
    split: str
    right: tuple[float, float]
    wrong: tuple[tuple[float, float], ...]


def nested(clips: Sequence[Spoken], labels: Sequence[Labels], spoken: Language, how: Mapping[str, Any]) -> list[Lipped]:
    """Every piece read by a reader that never saw its person, with choices made without that person as well."""
    found = []
    for person in sorted({c.person for c in clips if pieces(c, spoken, how)}):
        others = [i for i, c in enumerate(clips) if c.person != person]
        rest = [clips[i] for i in others], [labels[i] for i in others]
        reader = reader_of(*rest, how, chosen(*rest, spoken, how))
        found += read_out(reader, [c for c in clips if c.person == person], spoken, how, timed=True)
    return found


def chosen(clips: Sequence[Spoken], labels: Sequence[Labels], spoken: Language, how: Mapping[str, Any]) -> Shrunk:
    """Of the config's choices the one that tells right from random phrases best, one person left out at a time."""

    def told_apart(shrunk: Shrunk) -> float:
        found = []
        for person in sorted({c.person for c in clips if pieces(c, spoken, how)}):
            others = [i for i, c in enumerate(clips) if c.person != person]
            reader = reader_of([clips[i] for i in others], [labels[i] for i in others], how, shrunk)
            found += read_out(reader, [c for c in clips if c.person == person], spoken, how, timed=False)
        return auc(np.array([-p.right[0] for p in found]), np.array([-w[0] for p in found for w in p.wrong]))

    return max((Shrunk(*pair) for pair in product(how["shrinkages"], how["repeats"])), key=told_apart)


def read_out(reader: LipReader, clips: Sequence[Spoken], spoken: Language, how: Mapping[str, Any], *, timed: bool) -> list[Lipped]:
    """Every piece of these clips, the same random phrases whoever reads; without ``timed`` half as many, and times are not tried."""
    found = []
    for clip in clips:
        chance = random.Random(clip.path)
        rows, times_s = lip_features(clip.mouth, (clip.spans_s[0][0], clip.spans_s[-1][1]))
        whole = reader.read(rows, times_s)
        for first, last in pieces(clip, spoken, how):
            words, spans = clip.words[first:last], clip.spans_s[first:last]
            inside = (times_s >= spans[0][0] - 0.1) & (times_s <= spans[-1][1] + 0.1)
            read = LipRead(times_s[inside], whole.fits[inside])
            unsaid = [w for w in spoken.words if w not in words]
            phrases = [words, *(tuple(chance.sample(unsaid, len(words))) for _ in range(8 if timed else 4))]
            ratios = [(reader.log_ratio(read, p, spoken), reader.log_ratio(read, p, spoken, spans) if timed else math.nan) for p in phrases]
            known = [(a, b) for a, b in ratios if a is not None and b is not None]
            if None not in ratios[0] and len(known) > 1:
                found.append(Lipped(clip.person, clip.split, known[0], tuple(known[1:])))
    return found


def pieces(clip: Spoken, spoken: Language, how: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Runs of words with at least the config's number of mouth shapes, a third of one apart."""
    shapes = int(how["window_shapes"])
    lengths = [len(spoken.mouth_of(word) or ()) for word in clip.words]
    runs, first = [], 0
    while first < len(lengths):
        last = first
        while last < len(lengths) and sum(lengths[first:last]) < shapes:
            last += 1
        if sum(lengths[first:last]) < shapes:
            break
        runs.append((first, last))
        first += max(1, (last - first) // 3)
    return runs


def _states(clip: Spoken, spoken: Language, names: tuple[str, ...]) -> list[tuple[int, Span | None]]:
    states: list[tuple[int, Span | None]] = [(0, None)]
    for word, span in zip(clip.words, clip.spans_s, strict=True):
        states += [(names.index(shape), span) for shape in spoken.mouth_of(word) or ()]
        states.append((0, None))
    return states


def _even(clip: Spoken, states: Sequence[tuple[int, Span | None]], frames: int) -> Labels:
    """Each word's shapes take equal parts of its time."""
    labels, times_s = np.full(frames, _UNKNOWN), np.arange(frames) / ENCODED_HZ
    labels[(times_s < clip.spans_s[0][0]) | (times_s > clip.spans_s[-1][1])] = 0
    for span in clip.spans_s:
        shapes = [k for k, s in states if s == span]
        inside = np.flatnonzero((times_s >= span[0]) & (times_s < span[1]))
        if shapes and len(inside):
            labels[inside] = [shapes[i * len(shapes) // len(inside)] for i in range(len(inside))]
    return labels


def _viterbi(read: LipRead, states: Sequence[tuple[int, Span | None]]) -> Labels:
    """The shape of every frame on the best path through the states; rests may be left out, words keep near their times."""
    times = read.times_s
    fits = read.fits[:, [k for k, _ in states]].copy()
    for i, (_, span) in enumerate(states):
        if span is not None:
            fits[(times < span[0] - _REACH_S) | (times > span[1] + _REACH_S), i] = _NEVER
    optional = np.array([span is None for _, span in states])
    best = np.full(len(states), -np.inf)
    best[0], best[1] = fits[0, 0], fits[0, 1]
    steps = np.zeros(fits.shape, np.int64)
    for t in range(1, len(fits)):
        one, two = np.append(-np.inf, best[:-1]), np.append([-np.inf, -np.inf], best[:-2])
        two[~np.append([False], optional[:-1])] = -np.inf
        choices = np.stack([best, one, two])
        steps[t] = choices.argmax(axis=0)
        best = choices.max(axis=0) + fits[t]
    at = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    path = [at]
    for step in steps[:0:-1]:
        at -= step[at]
        path.append(at)
    return np.array([states[i][0] for i in path[::-1]])
