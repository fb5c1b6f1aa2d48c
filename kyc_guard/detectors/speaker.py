"""Is this the voice of the applicant's earlier recording? The score is P(another person).

Off as shipped: a voice print is biometric data, so operators switch it on (``[judging] compare_voices``) where they have the consent for
it. Then two prints are made of every submission that brings an earlier recording, compared, and thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.speech.hearing import SPEECH_STEP_S, ear, speech_installed
from kyc_guard.speech.recording import unfit_sound
from kyc_guard.speech.voice_print import MODEL, VoicePrints
from kyc_guard.types import Evidence, Float32Array, Modality, Reason, Signal


class _Voice(NamedTuple):
    print: Float32Array
    speech_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """P(two people) from the likeness of two voices."""

    prints: VoicePrints
    platt: Platt
    """Of the negated likeness."""
    differs_from: float
    policy: Policy
    name: str = "speaker"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.AUDIO})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        net, table = bundle.net(MODEL), bundle.thresholds.table("speaker")
        bundle.thresholds.demand_model("speaker", net.weight.sha256)
        return cls(VoicePrints(net), Platt.from_table(table, "speaker"), bundle.thresholds.point("speaker", "review"), bundle.policy)

    def __call__(self, evidence: Evidence) -> Signal:
        enrolled = evidence.enrolled_voice
        if enrolled is None:
            return abstain(self, Reason("speaker_not_enrolled", "the submission has no earlier recording of the applicant's voice"))
        if isinstance(enrolled, Reason):
            return abstain(self, enrolled)
        if not speech_installed():
            return abstain(self, Reason("speaker_no_listener", "voices cannot be compared without pip install 'kyc-guard[speech]'"))
        # What may be lacking where nobody had to speak must not be where an earlier voice is to be met again.
        if (absent := missing(self, evidence)) is not None:
            return abstain(
                self, *absent.reasons, Reason("speaker_not_judged", "an earlier recording is there, but nothing to compare it with")
            )
        assert evidence.audio is not None
        earlier = self._voice(enrolled)
        if isinstance(earlier, str):
            return abstain(self, Reason("speaker_enrolment_unfit", f"the earlier recording: {earlier}"))
        present = self._voice(evidence.audio)
        if isinstance(present, str):
            return abstain(self, Reason("speaker_not_judged", f"the present recording: {present}"))
        likeness = float(earlier.print @ present.print)
        score = self.platt(-likeness)
        differ = (Reason("speaker_differs", f"the voice is not that of the earlier recording, likeness {likeness:.2f}"),)
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=min(earlier.speech_s / 5.0, present.speech_s / 5.0, 1.0),
            reasons=differ if score >= self.differs_from else (),
            facts={
                "likeness": round(likeness, 4),
                "earlier_speech_s": round(earlier.speech_s, 2),
                "present_speech_s": round(present.speech_s, 2),
            },
        )

    def _voice(self, audio: Float32Array) -> _Voice | str:
        """The voice, or why there is none to compare."""
        if (unfit := unfit_sound(audio, self.policy)) is not None:
            return unfit.detail
        speech = ear().speech(audio)
        speech_s = float((speech > 0.5).sum()) * SPEECH_STEP_S
        if speech_s < (least_s := self.policy.gate("speaker_min_s")):
            return f"{speech_s:.1f} s of speech, {least_s:g} are needed"
        return _Voice(self.prints(audio, speech), speech_s)
