"""Do these lips make this sound? Lips seen against lips expected of the sound: dubbing, shifted sound, a still mouth with a voice.

How they are compared is `kyc_guard.speech.agreement`'s; four figures of it and a logistic (``[lipsync.weights]``) give the score. Where a
phrase was asked, every few seconds of voice must fit by themselves: who speaks before or after a phrase that is played does not make up
for it. The models that listen come with the ``speech`` extra.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.faces.mouth import Mouth
from kyc_guard.faces.subject import same_subject
from kyc_guard.runtime import Net
from kyc_guard.speech.agreement import CURVES, FIGURES, Agreement, Lips, agree, envelope_db, net_input
from kyc_guard.speech.hearing import ENCODED_HZ, NOT_INSTALLED, SPEECH_STEP_S, ear, speech_installed, voice_within_s
from kyc_guard.speech.recording import unfit_sound
from kyc_guard.types import Evidence, Float32Array, Float64Array, Modality, Reason, Signal


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What there is to compare, and how the whole of it compares.

    Attributes:
        expected: (A, 7) lips the sound asks for at 50 Hz, row 0 at the clip's time 0.
        voiced_s: (K,) when somebody speaks while the face is seen, one time every `SPEECH_STEP_S`.
    """

    mouth: Mouth
    lips: Lips
    expected: Float32Array
    agreement: Agreement
    voiced_s: Float64Array
    speech_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Lipsync:
    """P(attack): the sound does not belong to the mouth. Lags are positive where the lips come after the sound."""

    net: Net
    weights: Mapping[str, float]
    accepted_s: tuple[float, float]
    counts: Float64Array
    """(14,) how much each of `CURVES` counts, summing to 1."""
    window_s: float
    """Where a phrase was asked, whatever of the clip this long has speech in it must fit by itself."""
    suspected_at: float
    policy: Policy
    name: str = "lipsync"
    version: str = "3"
    needs: frozenset[Modality] = frozenset({Modality.FACE, Modality.CLIP, Modality.AUDIO})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("lipsync")
        try:
            weights = {name: float(table["weights"][name]) for name in (*FIGURES, "offset")}
            early_s, late_s = map(float, table["accepted_s"])
            window_s = float(table["window_s"])
            counts = np.array([float(table["curves"][name]) for name in CURVES])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"thresholds.toml: [lipsync] lacks {error}. Remedy: run python -m training.lipsync") from error
        if not all(map(math.isfinite, (*weights.values(), early_s, late_s, window_s))) or not early_s < late_s or window_s <= 0:
            raise ConfigError(f"thresholds.toml: [lipsync] has unusable weights {weights}, lags {early_s}, {late_s} or window {window_s}")
        if not (np.isfinite(counts).all() and counts.min() >= 0 and counts.sum() > 0):
            raise ConfigError(f"thresholds.toml: [lipsync.curves] must be numbers from 0 upward, not all 0: {counts.tolist()}")
        suspected_at = bundle.thresholds.point("lipsync", "review")
        return cls(bundle.net("lipsync"), weights, (early_s, late_s), counts / counts.sum(), window_s, suspected_at, bundle.policy)

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        if not speech_installed():
            return abstain(self, NOT_INSTALLED)
        asked = evidence.submission.challenge is not None and evidence.submission.challenge.phrase is not None
        found = self._agreement(evidence)
        if isinstance(found, Reason):
            unanswered = (Reason("lipsync_not_judged", "a phrase was asked"),) if asked else ()
            return abstain(self, found, *unanswered)
        if not asked and found.lips.travel < self.policy.gate("lipsync_still_travel"):
            return abstain(self, Reason("lipsync_other_voice", "somebody speaks while this mouth is still, but nobody was asked to speak"))
        compared = [(found.lips, found.agreement), *(self._windows(found) if asked else ())]
        lips, agreement = max(compared, key=lambda pair: self._score(pair[1]))
        score, whole = self._score(agreement), found.agreement
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=found.speech_share,
            species="dubbed" if score >= self.suspected_at else None,
            reasons=self._named(lips, agreement, score),
            facts={
                "lag_s": round(whole.lag_s, 2),
                "figures": {name: round(value, 3) for name, value in whole.figures.items()},
                "lag_by_second_s": [round(float(lag), 2) for lag in whole.lag_by_second_s],
                "mouth_travel": round(found.lips.travel, 4),
                "whole_score": round(self._score(whole), 4),
                "worst_s": [round(lips.start_s, 2), round(lips.start_s + lips.duration_s, 2)],
                "speech_s": round(len(found.voiced_s) * SPEECH_STEP_S, 3),
                "speech_share": round(found.speech_share, 3),
            },
            artefacts=_curves(found, evidence),
        )

    def _score(self, agreement: Agreement) -> float:
        return Platt(1.0, 0.0)(self.weights["offset"] + sum(self.weights[name] * agreement.figures[name] for name in FIGURES))

    def _windows(self, found: _Found) -> Iterator[tuple[Lips, Agreement]]:
        """Lips and sound of every `window_s` that has speech in it, one a second."""
        gate, end_s = self.policy.gate, min(found.lips.start_s + found.lips.duration_s, len(found.expected) / ENCODED_HZ)
        for start_s in np.arange(found.lips.start_s, end_s - self.window_s + 1e-6):
            stop_s = start_s + self.window_s
            speech_s = voice_within_s(found.voiced_s, start_s, stop_s)
            lips = Lips.of(found.mouth.between(start_s, stop_s))
            if speech_s >= gate("speech_min_s") and lips is not None and lips.duration_s >= gate("lipsync_min_duration_s"):
                yield lips, agree(lips, found.expected, self.accepted_s, self.counts)

    def _agreement(self, evidence: Evidence) -> _Found | Reason:
        """The comparison of the whole clip, or why there is none; the gates stand in policy.toml."""
        gate, audio, clip, track = self.policy.gate, evidence.audio, evidence.clip, evidence.motion_track
        assert audio is not None
        assert clip is not None
        if (unfit := unfit_sound(audio, self.policy)) is not None:
            return unfit
        if track is None:
            return Reason("lipsync_face_lost", "the face was not followed through the clip")
        if not same_subject(clip, evidence.track, track):
            return Reason("lipsync_face_lost", "another face than the subject's was followed")
        mouth = Mouth.of(track, clip.motion_timestamps_s)
        if mouth.rate_hz < gate("lipsync_min_rate_hz"):
            return Reason("lipsync_too_few_frames", f"{mouth.rate_hz:.1f} pictures a second")
        if mouth.seen < gate("lipsync_min_seen") or (lips := Lips.of(mouth)) is None:
            return Reason("lipsync_face_lost", f"the mouth was seen in {mouth.seen:.0%} of the clip")
        stop_s = lips.start_s + lips.duration_s
        speaks = ear().speech(audio)[round(lips.start_s / SPEECH_STEP_S) : round(stop_s / SPEECH_STEP_S)] > 0.5
        speech_s = float(speaks.sum()) * SPEECH_STEP_S
        if speech_s < gate("speech_min_s"):
            return Reason("lipsync_no_speech", f"{speech_s:.1f} s of speech while the face was seen")
        overlap_s = min(stop_s, len(audio) / 16_000) - lips.start_s
        if overlap_s < gate("lipsync_min_duration_s"):
            return Reason("lipsync_too_short", f"{overlap_s:.1f} s of face and sound together")
        expected = self.net.run(encoded=net_input(ear().encoded(audio)))["lips"][0].T
        voiced_s = lips.start_s + np.flatnonzero(speaks) * SPEECH_STEP_S
        return _Found(mouth, lips, expected, agree(lips, expected, self.accepted_s, self.counts), voiced_s, float(speaks.mean()))

    def _named(self, lips: Lips, agreement: Agreement, score: float) -> tuple[Reason, ...]:
        """What kind of disagreement it is; an explanation, which changes no score."""
        if score < self.suspected_at:
            return ()
        if lips.travel < self.policy.gate("lipsync_still_travel"):
            return (Reason("lipsync_still_mouth", f"the mouth moves by {lips.travel:.3f} eye distances while somebody speaks"),)
        beyond = not self.accepted_s[0] <= agreement.lag_s <= self.accepted_s[1]
        if beyond and agreement.peak >= self.policy.gate("lipsync_shifted_peak"):
            way = "after" if agreement.lag_s > 0 else "before"
            return (Reason("lipsync_shifted", f"the lips come {abs(agreement.lag_s):.2f} s {way} the sound"),)
        return (Reason("lipsync_differs", f"correlation {agreement.figures['near']:.2f} with the lips this sound asks for"),)


def _curves(found: _Found, evidence: Evidence) -> dict[str, Float64Array]:
    """For the reviewer: mouth, what the sound asks of it, and level over time; agreement over lags."""
    assert evidence.audio is not None
    lips, agreement = found.lips, found.agreement
    first, count = round(lips.start_s * ENCODED_HZ), len(agreement.expected)
    return {
        "times_s": lips.start_s + np.arange(count) / ENCODED_HZ,
        "mouth_opening": lips.rows[:count, 0],
        "mouth_expected": agreement.expected[:, 0],
        "sound_level_db": envelope_db(evidence.audio)[first : first + count],
        "lags_s": agreement.lags_s,
        "agreement": np.nan_to_num(agreement.curve),
    }
