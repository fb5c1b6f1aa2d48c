"""Was this said? A recording scored against an expected phrase and its near misses, word by word.

A free transcript is no judge: Whisper tiny.en writes only 4 of 7 studio sentences whole. But it knows well which of two words a
sound is likelier to be. So every expected word is weighed against others in its place: words that sound alike, whatever the free
transcript has there, and nothing at all, for a word may be left out. The decoder is made to write each (teacher forcing) and says how
probable it finds it.

Today's model knows English only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.speech.hearing import Ear
from kyc_guard.speech.words import Language, changes
from kyc_guard.types import Float32Array, Float64Array

MAX_S = 28.0
"""The model hears 30 s at once."""
_FRAME_HZ = 100
_MARGIN_S = 0.5
_SHORTEST_S = 4.0
_TOKENS_A_SECOND = 8
_BEAM = 5
"""Ways of writing followed at once: with one alone it may stop after the first word that it does not know. 20 ms."""
_NO_REPEAT = 4
_FLOOR = 1e-9
_LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class HeardWord:
    """One expected word.

    Attributes:
        start_s, end_s: where in the recording it would be.
        near_ratio: log P(this word) - log P(the likeliest of the words that sound alike), both given the words before; below 0 that
            one is likelier.
        free_ratio: the same against what the free transcript has in its place; infinite where that is the word itself, or nothing.
        skip_ratio: log P(this word and the next) - log P(the next follows at once); after the last word the text ends.
        near, free: those others.
    """

    word: str
    start_s: float
    end_s: float
    near_ratio: float
    free_ratio: float
    skip_ratio: float
    near: str
    free: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording against a phrase.

    Attributes:
        words: the expected ones, in order.
        fit: mean log-probability of the expected words, -1 to -3 of what was said, -5 and less of another phrase.
        free: what the model writes by itself.
        confidence: mean log-probability of its tokens; near 0 for clear speech.
    """

    words: tuple[HeardWord, ...]
    fit: float
    free: str
    confidence: float


class Listener:
    """Weighs words with an ear's Whisper. Thread-safe, deterministic."""

    def __init__(self, ear: Ear) -> None:
        from faster_whisper.tokenizer import Tokenizer

        self._whisper = ear.whisper
        self._tokenizer: Any = Tokenizer(self._whisper.hf_tokenizer, multilingual=False, task="transcribe", language=_LANGUAGE)

    def hear(self, audio: Float32Array, expected: Sequence[str], language: Language, near: int) -> Heard:
        """Weigh each word of ``expected`` against ``near`` words that sound alike and the free transcript's.

        Args:
            audio: (N,) float32 in [-1, 1], mono, 16 kHz, at most `MAX_S`.
            expected: as `Language.words_of` gives them.
        """
        encoded, frames = self._encoded(audio)
        free, confidence = self._free(encoded, frames)
        said = tuple(language.same.get(word, word) for word in expected)
        instead = changes(said, language.heard_of(free))
        times_s, chances = self._forced(encoded, frames, expected)
        words = []
        for i, word in enumerate(expected):
            written = [] if said[i] in instead[i] else list(dict.fromkeys(instead[i]))
            alike = [w for w in language.near(said[i], near) if w != said[i]]
            odds = {w: self._forced(encoded, frames, [*expected[:i], w])[1][i] for w in {*written, *alike}}
            best, free_best = max(alike, key=odds.__getitem__), max(written, key=odds.__getitem__, default="")
            words.append(
                HeardWord(
                    word,
                    *times_s[i],
                    near_ratio=chances[i] - odds[best],
                    free_ratio=chances[i] - odds[free_best] if written else math.inf,
                    skip_ratio=self._said_over_skipped(encoded, frames, expected, chances, i),
                    near=best,
                    free=free_best,
                )
            )
        return Heard(tuple(words), float(np.mean(chances)), free, confidence)

    def fits(self, audio: Float32Array, phrases: Sequence[Sequence[str]]) -> list[float]:
        """`Heard.fit` of many phrases, for the time of one: an upper bound on what each could score."""
        encoded, frames = self._encoded(audio)
        return [float(np.mean(self._forced(encoded, frames, words)[1])) for words in phrases]

    def spans_s(self, audio: Float32Array, words: Sequence[str]) -> list[tuple[float, float]]:
        """From when to when each word is said, if these are the words; as accurate as the decoder's attention, a tenth of a second."""
        return self._forced(*self._encoded(audio), words)[0]

    def _encoded(self, audio: Float32Array) -> tuple[Any, int]:
        """The encoding and the number of its frames."""
        length_s = max(len(audio) / AUDIO_RATE_HZ + _MARGIN_S, _SHORTEST_S)
        padded = np.pad(audio, (0, round(length_s * AUDIO_RATE_HZ) - len(audio)))
        frames = round(length_s * _FRAME_HZ) // 2 * 2
        # Trained on 30 s of context, Whisper stutters when it writes freely on less, but weighs words as well, in a tenth of the time.
        return self._whisper.encode(self._whisper.feature_extractor(padded, padding=0)[:, :frames]), frames

    def _free(self, encoded: Any, frames: int) -> tuple[str, float]:
        start = [*self._tokenizer.sot_sequence, self._tokenizer.no_timestamps]
        most = len(start) + frames * _TOKENS_A_SECOND // _FRAME_HZ
        result = self._whisper.model.generate(
            encoded, [start], beam_size=_BEAM, max_length=most, return_scores=True, no_repeat_ngram_size=_NO_REPEAT
        )[0]
        return self._tokenizer.decode(result.sequences_ids[0]).strip(), float(result.scores[0])

    def _said_over_skipped(self, encoded: Any, frames: int, expected: Sequence[str], chances: Sequence[float], i: int) -> float:
        """`HeardWord.skip_ratio` of word ``i``, whose log-probabilities are ``chances``."""
        if i + 1 < len(expected):
            return chances[i] + chances[i + 1] - self._forced(encoded, frames, [*expected[:i], expected[i + 1]])[1][i]
        return chances[i] + self._ends(encoded, expected) - self._ends(encoded, expected[:i])

    def _ends(self, encoded: Any, words: Sequence[str]) -> float:
        """Log-probability that nothing follows these words."""
        tokens = self._tokenizer.encode(_written(words)) if words else []
        prompt = [*self._tokenizer.sot_sequence, self._tokenizer.no_timestamps, *tokens]
        result = self._whisper.model.generate(
            encoded,
            [prompt],
            beam_size=1,
            max_length=2 * (len(tokens) + 1),  # what is written may take half of it
            return_logits_vocab=True,
            suppress_blank=False,
            suppress_tokens=[],
        )[0]
        logits = np.array(result.logits[0][len(tokens)], np.float64).reshape(-1)
        return max(float(logits[self._tokenizer.eot] - np.logaddexp.reduce(logits)), math.log(_FLOOR))

    def _forced(self, encoded: Any, frames: int, words: Sequence[str]) -> tuple[list[tuple[float, float]], list[float]]:
        """When each word is said (start, end in seconds), and the log-probability of each given those before it."""
        # One way of writing for all that are compared: as a sentence, without commas.
        ends = [len(self._tokenizer.encode(_written(words[: i + 1]))) for i in range(len(words))]
        tokens = self._tokenizer.encode(_written(words))
        result = self._whisper.model.align(encoded, self._tokenizer.sot_sequence, [tokens], frames)[0]
        chances = np.log(np.maximum(np.array(result.text_token_probs, np.float64), _FLOOR))
        starts = [0, *ends[:-1]]
        edges_s = _token_starts_s(np.array(result.alignments), len(tokens))
        times_s = [(float(edges_s[a]), float(edges_s[b])) for a, b in zip(starts, ends, strict=True)]
        return times_s, [float(chances[a:b].sum()) for a, b in zip(starts, ends, strict=True)]


def _written(words: Sequence[str]) -> str:
    text = " ".join(words)
    return f" {text[:1].upper()}{text[1:]}"


def _token_starts_s(path: NDArray[np.int64], tokens: int) -> Float64Array:
    """(tokens + 1,) when each token begins, and when the last ends, from the path of (token, position) pairs; 50 positions a second."""
    starts = np.full(tokens + 1, path[-1, 1])
    for token, at in path[::-1]:
        if token <= tokens:
            starts[token] = at
    return np.maximum.accumulate(starts / 50.0)
