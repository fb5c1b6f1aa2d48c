"""Was the asked phrase said, and by these lips?

With sound, every expected word is weighed against words that sound alike and against what the recording seems to say instead; the
worst word counts, since one changed word is a different phrase, and so is one left out. While they are said the subject's mouth must
be seen to move. The lips are weighed against random phrases. Without sound, or without the ``speech`` extra, there are only the lips: a
weak witness, so a person looks.

A phrase binds the clip to its session. It does not prove a living voice or face: see the other checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain
from kyc_guard.errors import ConfigError
from kyc_guard.faces.mouth import Mouth
from kyc_guard.faces.subject import same_subject
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.speech.agreement import Lips
from kyc_guard.speech.drawing import timeline
from kyc_guard.speech.hearing import SPEECH_STEP_S, ear, speech_installed, voice_within_s
from kyc_guard.speech.lips import LipRead, LipReader, Span, closures, lip_features
from kyc_guard.speech.listening import MAX_S, Heard, HeardWord, Listener
from kyc_guard.speech.recording import unfit_sound
from kyc_guard.speech.words import Language, language
from kyc_guard.types import Evidence, Float64Array, Modality, Reason, Signal

CEILING = 12.0
"""Log ratios beyond this say no more: the decoder's probabilities are not that good. A unit of measure, not a gate."""


@dataclass(frozen=True, slots=True)
class Margins:
    """By how much the asked phrase is likelier than any other, in natural logs.

    Attributes:
        free: free writing prefers common words, so its own must be likelier by this to count as level.
        skip: what the decoder finds hard to write it rather leaves out, so leaving out must be likelier by this to count as level.
        fit: the mean log-probability of a word from which the whole phrase counts as level.
    """

    free: float
    skip: float
    fit: float

    def of_word(self, word: HeardWord) -> float:
        return float(np.clip(min(word.near_ratio, word.free_ratio + self.free, word.skip_ratio + self.skip), -CEILING, CEILING))

    def rival(self, word: HeardWord) -> str:
        """What is likeliest in the word's place, in quotes, or that there is nothing."""
        if word.skip_ratio + self.skip < min(word.near_ratio, word.free_ratio + self.free):
            return "nothing"
        return repr(word.free or word.near)

    def of(self, heard: Heard) -> float:
        """Of the phrase: that of its worst word, or of the whole where that is worse: another phrase may have no rival for some word."""
        return max(min(*map(self.of_word, heard.words), heard.fit + self.fit), -CEILING)


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """What the recording holds: ``heard`` from ``start_s`` on, or why nothing was heard that could be judged.

    Attributes:
        voiced_s: (K,) when somebody speaks, one time every `SPEECH_STEP_S`.
    """

    start_s: float = 0.0
    heard: Heard | None = None
    reason: Reason | None = None
    voiced_s: Float64Array = field(default_factory=lambda: np.zeros(0))

    @property
    def spans_s(self) -> list[Span]:
        """When each word was said, on the clip's clock; none where nothing was heard."""
        return [] if self.heard is None else [(w.start_s + self.start_s, w.end_s + self.start_s) for w in self.heard.words]

    @property
    def said_s(self) -> Span:
        """From when to when the words were said: the decoder stretches the first and the last over the silence around them."""
        spans_s = self.spans_s
        return max(spans_s[0][0], self.voiced_s[0]), min(spans_s[-1][1], self.voiced_s[-1] + SPEECH_STEP_S)


@dataclass(frozen=True, slots=True)
class Phrase:
    """P(another phrase than the asked one was said, or said by other lips)."""

    language: Language
    reader: LipReader
    margins: Margins
    near_words: int
    words: Platt
    lips: Platt
    policy: Policy
    name: str = "phrase"
    version: str = "3"
    needs: frozenset[Modality] = frozenset({Modality.FACE, Modality.CLIP})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("phrase")
        try:
            margins = Margins(*(float(table[f"{name}_margin"]) for name in ("free", "skip", "fit")))
            near_words = int(table["near_words"])
            words, lips = table["words"], table["lips"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{bundle.thresholds.path}: [phrase] lacks {error}. Remedy: python -m training.phrase") from error
        spoken = language()
        return cls(
            language=spoken,
            reader=LipReader.load(bundle.weights.get("phrase_lips").path, spoken),
            margins=margins,
            near_words=near_words,
            words=Platt.from_table(words, "phrase.words"),
            lips=Platt.from_table(lips, "phrase.lips"),
            policy=bundle.policy,
        )

    def __call__(self, evidence: Evidence) -> Signal:
        challenge = evidence.submission.challenge
        if challenge is None or challenge.phrase is None:
            return abstain(self, Reason("phrase_not_asked", "the submission's session asked for no phrase"))
        expected = self.language.words_of(challenge.phrase)
        most, longest = int(self.policy.gate("phrase_max_words")), int(self.policy.gate("phrase_max_bytes"))
        size = len(" ".join(expected).encode())
        if not 1 <= len(expected) <= most or size > longest:
            limits = f"1 to {most} words and {longest} bytes can be judged"
            return abstain(
                self, Reason("phrase_unusable", f"{challenge.phrase[:80]!r} has {len(expected)} words in {size} bytes; {limits}")
            )
        # A reason of its own, not no_clip or no_face: those are waived for optional checks, but what was asked must be shown.
        clip, track = evidence.clip, evidence.motion_track
        if clip is None or clip.is_still or track is None or not track.found or not evidence.has(Modality.FACE):
            return abstain(self, Reason("phrase_not_shown", f"{' '.join(expected)!r} was asked: there is no clip of a face to see it in"))
        if not same_subject(clip, evidence.track, track):
            return abstain(self, Reason("phrase_not_shown", "another face than the subject's was followed: nobody saw who said it"))
        sound = self._listen(evidence, expected)
        if sound.reason is not None and evidence.audio is not None and speech_installed():
            return abstain(self, sound.reason)
        mouth = Mouth.of(track, clip.motion_timestamps_s)
        ratio = self.lip_ratio(mouth, expected, sound)
        return self._signal(evidence, mouth, sound, ratio)

    def _listen(self, evidence: Evidence, expected: tuple[str, ...]) -> Sound:
        gate, audio = self.policy.gate, evidence.audio
        if audio is None:
            why = evidence.why_missing(Modality.AUDIO).detail
            return Sound(reason=Reason("phrase_no_sound", f"the words cannot be heard: {why}"))
        if not speech_installed():
            return Sound(reason=Reason("phrase_no_listener", "the words cannot be judged without pip install 'kyc-guard[speech]'"))
        hearing = ear()
        spoken = np.flatnonzero(hearing.speech(audio) >= gate("phrase_min_voice"))
        if (seconds := len(spoken) * SPEECH_STEP_S) < gate("speech_min_s"):
            return Sound(reason=Reason("phrase_no_speech", f"{seconds:.1f} s of speech in {len(audio) / AUDIO_RATE_HZ:.1f} s of sound"))
        start_s = max(spoken[0] * SPEECH_STEP_S - 0.3, 0.0)
        end_s = (spoken[-1] + 1) * SPEECH_STEP_S + 0.3
        if end_s - start_s > MAX_S:
            return Sound(reason=Reason("phrase_too_long", f"speech over {end_s - start_s:.0f} s; the phrase must be said within {MAX_S:g}"))
        if (unfit := unfit_sound(audio, self.policy)) is not None:
            return Sound(reason=Reason("phrase_unclear", unfit.detail))
        part = audio[round(start_s * AUDIO_RATE_HZ) : round(end_s * AUDIO_RATE_HZ)]
        heard = Listener(hearing).hear(part, expected, self.language, self.near_words)
        if heard.confidence < (least := gate("phrase_min_confidence")):
            return Sound(
                start_s, heard, Reason("phrase_unclear", f"confidence {heard.confidence:.2f} below {least:g}: {heard.free[:80]!r}")
            )
        return Sound(start_s, heard, voiced_s=spoken * SPEECH_STEP_S)

    def _unseen(self, mouth: Mouth, sound: Sound) -> Reason | None:
        """Why these lips cannot have said what was heard: they were out of view, or still."""
        gate, (start_s, end_s) = self.policy.gate, sound.said_s
        shown = mouth.between(start_s, end_s)
        gap_s = float(np.diff(np.concatenate([[start_s], shown.found_s, [end_s]])).max())
        if shown.seen < gate("phrase_min_seen") or gap_s > gate("phrase_max_unseen_s"):
            told = f"the words were said from {start_s:.1f} to {end_s:.1f} s; the mouth was seen in {shown.seen:.0%} of that, "
            return Reason("phrase_not_shown", f"{told}at worst not for {gap_s:.1f} s")
        window_s = gate("phrase_still_window_s")
        for first_s in np.arange(start_s, max(end_s - window_s, start_s) + 1e-6, window_s / 4):
            last_s = min(first_s + window_s, end_s)
            voice_s = voice_within_s(sound.voiced_s, first_s, last_s)
            lips = Lips.of(mouth.between(first_s, last_s))
            if voice_s >= gate("speech_min_s") and (lips is None or lips.travel < gate("lipsync_still_travel")):
                return Reason("phrase_still_mouth", f"{voice_s:.1f} s of voice from {first_s:.1f} s on and a mouth that does not move")
        return None

    def _closures(self, mouth: Mouth, sound: Sound) -> dict[str, bool]:
        assert sound.heard is not None
        if mouth.rate_hz < self.policy.gate("phrase_min_hz"):
            return {}
        return closures(mouth, [w.word for w in sound.heard.words], self.language, sound.spans_s)

    def lip_ratio(self, mouth: Mouth, expected: tuple[str, ...], sound: Sound) -> float | None:
        """The lips' log ratio in deviations; ``None`` where they cannot be read."""
        gate = self.policy.gate
        if mouth.seen < gate("phrase_min_seen") or mouth.rate_hz < gate("phrase_min_hz"):
            return None
        if np.ptp(mouth.found_s) < gate("phrase_min_mouth_s"):
            return None
        if sum(len(self.language.mouth_of(word) or ()) for word in expected) < gate("phrase_min_shapes"):
            return None
        spans = sound.spans_s or None
        features, times_s = lip_features(mouth, None if spans is None else (spans[0][0], spans[-1][1]))
        read = self.reader.read(features, times_s)
        if spans is not None:
            inside = (times_s >= spans[0][0] - 0.2) & (times_s <= spans[-1][1] + 0.2)
            read = LipRead(times_s[inside], read.fits[inside])
        return self.reader.log_ratio(read, expected, self.language, spans)

    def score(self, margin: float, lips: float | None) -> float:
        """P(attack) of what was heard and seen."""
        log_odds = self.words.slope * -margin + self.words.offset
        if lips is not None:  # they may add suspicion, not take it away: five right words of six look right
            log_odds += max(self.lips.slope * -lips + self.lips.offset, 0.0)
        return Platt(1.0, 0.0)(log_odds)

    def _signal(self, evidence: Evidence, mouth: Mouth, sound: Sound, lips: float | None) -> Signal:
        unseen = None if sound.heard is None else self._unseen(mouth, sound)
        reasons = [reason for reason in (sound.reason, unseen) if reason is not None]
        facts: dict[str, Any] = {"lips": None if lips is None else round(lips, 2)}
        artefacts: dict[str, NDArray[Any]] = {"times_s": mouth.times_s, "mouth": mouth.opening, "lips_touch": mouth.contact}
        words = () if sound.heard is None else sound.heard.words
        score: float | None = None
        if sound.heard is not None:
            ahead = self.margins.of(sound.heard)
            score = self.score(ahead, lips)
            reasons += [
                Reason("phrase_wrong_word", f"{w.word!r} was asked; {self.margins.rival(w)} is likelier there")
                for w in words
                if self.margins.of_word(w) < 0
            ]
            closed = self._closures(mouth, sound)
            if len(still_open := [word for word, shut in closed.items() if not shut]) >= self.policy.gate("phrase_open_closures"):
                reasons.append(Reason("phrase_lips_open", f"the lips did not close for {', '.join(still_open)}"))
            facts["closures"] = {"asked": len(closed), "closed": sum(closed.values())}
            facts |= _told(sound.heard, sound.start_s) | {"margin": round(ahead, 2), "fit": round(sound.heard.fit, 2)}
        elif lips is not None:
            score = self.lips(-lips)
        spans = [(w.word, *span_s, self.margins.of_word(w)) for w, span_s in zip(words, sound.spans_s, strict=True)]
        artefacts["timeline"] = timeline(evidence.audio, mouth, spans)
        return Signal(
            detector=self.name,
            version=self.version,
            score=score if unseen is None else None,
            quality=mouth.seen,
            reasons=tuple(reasons),
            facts=MappingProxyType(facts),
            artefacts=MappingProxyType(artefacts),
        )


def _told(heard: Heard, start_s: float) -> dict[str, Any]:
    return {
        "transcript": heard.free,
        "confidence": round(heard.confidence, 2),
        "words": [
            {
                "word": w.word,
                "start_s": round(w.start_s + start_s, 2),
                "end_s": round(w.end_s + start_s, 2),
                "near": w.near,
                "near_ratio": round(w.near_ratio, 2),
                "instead": w.free,
                "free_ratio": round(w.free_ratio, 2) if math.isfinite(w.free_ratio) else None,
                "skip_ratio": round(w.skip_ratio, 2),
            }
            for w in heard.words
        ],
    }
