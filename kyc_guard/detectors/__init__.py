"""One file per question; `DETECTORS` is the whole list, in the order in which they are asked."""

from __future__ import annotations

from kyc_guard.detectors.challenge import ChallengeResponse
from kyc_guard.detectors.document import Document
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.detectors.injection import Injection
from kyc_guard.detectors.lipsync import Lipsync
from kyc_guard.detectors.liveness import Liveness
from kyc_guard.detectors.match import Match
from kyc_guard.detectors.phrase import Phrase
from kyc_guard.detectors.protocol import Detector
from kyc_guard.detectors.speaker import Speaker
from kyc_guard.detectors.voice import Voice

DETECTORS: tuple[type[Detector], ...] = (
    FaceAttack,
    Liveness,
    Document,
    Match,
    Injection,
    ChallengeResponse,
    Phrase,
    Lipsync,
    Voice,
    Speaker,
)
