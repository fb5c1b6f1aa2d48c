"""A submission in, a decision out: decode once, ask every detector, fuse."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from kyc_guard import detectors as room
from kyc_guard import fusion
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.errors import ConfigError
from kyc_guard.faces import track_faces
from kyc_guard.media import read_clip, read_image
from kyc_guard.types import Clip, ContainerFacts, Decision, Evidence, FaceTrack, Media, Modality, Reason, Signal, Submission, UInt8Array


@dataclass(frozen=True, slots=True)
class AttackScore:
    """The presentation-attack detectors' answer to one picture or clip."""

    score: float | None
    """Fused P(attack) in [0, 1]; ``None`` = could not judge."""
    reason: str | None
    """Code of the first reason when ``score`` is ``None``."""
    species: str | None
    """Likeliest PAI species, from the detector with the highest score."""
    signals: tuple[Signal, ...]


class Verifier:
    """Judges submissions. One instance may be shared between threads; a ``with`` closes it.

    Raises:
        ConfigError: policy, thresholds and detectors do not fit together. ModelError: a weight is missing or altered.
    """

    def __init__(self, settings: Settings | None = None, *, detectors: Sequence[type[Detector]] | None = None) -> None:
        self.settings = settings or Settings()
        self.bundle = Bundle.load(self.settings)
        self.detectors = tuple(kind.load(self.bundle) for kind in (room.DETECTORS if detectors is None else detectors))
        self._demand_agreement()
        self._other_face_ratio = self.bundle.policy.gate("other_face_ratio")
        weights = self.bundle.weights
        self.models: Mapping[str, str] = MappingProxyType({name: weights.get(name).sha256 for name in weights.names()})
        """Model name -> sha256 of its verified file."""

    def verify(self, submission: Submission) -> Decision:
        """Decode, ask every detector, fuse.

        Raises:
            InputError: a file of the submission cannot be read or passes a limit.
        """
        started = time.perf_counter()
        evidence = self.gather(submission)
        signals = tuple(detector(evidence) for detector in self.detectors)
        verdict = fusion.decide(signals, self.bundle.policy, self.bundle.thresholds)
        return Decision(
            submission=submission.id,
            outcome=verdict.outcome,
            score=verdict.score,
            reasons=verdict.reasons,
            message=verdict.message,
            signals=signals,
            policy_sha256=self.bundle.policy.sha256,
            thresholds_sha256=self.bundle.thresholds.sha256,
            models=self.models,
            inputs=_inputs(submission, evidence),
            took_ms=(time.perf_counter() - started) * 1000,
        )

    def gather(self, submission: Submission) -> Evidence:
        """Decode everything the detectors need, once.

        What was not sent becomes a problem entry, which detectors turn into an abstention.

        Raises:
            InputError: a file that was sent cannot be read or passes a limit.
        """
        return self._gather(submission, self.detectors)

    def attack_score(self, media: Media, name: str) -> AttackScore:
        """Run only the presentation-attack detectors (those with a weight in ``[fusion.weights]``) on a picture or clip.

        Args:
            media: a file, its bytes, or (H, W, 3) or (T, H, W, 3) uint8 RGB.
            name: what to call it in errors.

        Raises:
            InputError: the media cannot be read or passes a limit.
        """
        weights = fusion.fusion_weights(self.bundle.thresholds)
        asked = tuple(d for d in self.detectors if d.name in weights)
        evidence = self._gather(Submission(id=name, selfie=media), asked)
        signals = tuple(detector(evidence) for detector in asked)
        score = fusion.attack_score(signals, self.bundle.thresholds)
        judged = [s for s in signals if s.score is not None]
        return AttackScore(
            score=score,
            reason=None if score is not None else signals[0].reasons[0].code,
            species=max(judged, key=lambda s: s.score or 0.0).species if judged else None,
            signals=signals,
        )

    def _gather(self, submission: Submission, asked: Sequence[Detector]) -> Evidence:
        if not asked:
            raise RuntimeError("this Verifier is closed")
        needs = frozenset[Modality]().union(*(d.needs for d in asked))
        problems: dict[Modality, Reason] = {}
        clip: Clip | None = None
        track: FaceTrack | None = None
        burst_track: FaceTrack | None = None
        if submission.selfie is None:
            nothing = Reason("no_selfie", "the submission has no selfie")
            problems |= {Modality.FACE: nothing, Modality.CLIP: nothing}
        else:
            name = _name(submission, submission.selfie, "selfie")
            clip = read_clip(submission.selfie, self.settings.sampling, self.settings.limits, name=name)
            track = track_faces(clip.frames_rgb, other_face_ratio=self._other_face_ratio)
            if not track.found:
                problems[Modality.FACE] = Reason("no_face", f"{name}: no face in any of {len(track.faces)} frames")
            if clip.is_still:
                problems[Modality.CLIP] = Reason("no_clip", f"{name}: is a photo; a video is needed")
            elif Modality.CLIP in needs:
                burst_track = track_faces(clip.burst_rgb, other_face_ratio=self._other_face_ratio)
        pictures: list[tuple[UInt8Array, ContainerFacts]] = []
        if Modality.DOCUMENT in needs:
            pictures = [
                read_image(d, self.settings.limits, name=_name(submission, d, f"document {i + 1}"))
                for i, d in enumerate(submission.document)
            ]
        return Evidence(
            submission=submission,
            clip=clip,
            track=track,
            burst_track=burst_track,
            documents_rgb=tuple(rgb for rgb, _ in pictures),
            document_facts=tuple(facts for _, facts in pictures),
            problems=MappingProxyType(problems),
        )

    def close(self) -> None:
        """Let go of the models; the verifier judges nothing afterwards."""
        self.detectors = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _demand_agreement(self) -> None:
        """Policy, thresholds and detectors must speak of the same things; half a policy judges nothing."""
        policy, thresholds, path = self.bundle.policy, self.bundle.thresholds, self.settings.policy_path
        have = {d.name for d in self.detectors}
        for name in sorted(have - set(policy.checks)):
            raise ConfigError(f"{path}: no [checks.{name}]. Remedy: say what that detector's answer is worth")
        for name in sorted(set(policy.checks) - have):
            raise ConfigError(f"{path}: [checks.{name}] names no detector. Remedy: remove or correct it")
        for name in sorted(set(fusion.fusion_weights(thresholds)) - have):
            raise ConfigError(f"{thresholds.path}: [fusion.weights] names no detector: {name}. Remedy: run the calibrate command")
        for name, check in policy.checks.items():
            review, reject = (None if p is None else thresholds.point(name, p) for p in (check.review_at, check.reject_at))
            if review is not None and reject is not None and review > reject:
                raise ConfigError(f"{path}: [checks.{name}] would reject at {reject} what it reviews only at {review}")


def _name(submission: Submission, media: Media, role: str) -> str:
    return str(media) if isinstance(media, Path) else f"{submission.id}: {role}"


def _inputs(submission: Submission, evidence: Evidence) -> MappingProxyType[str, str]:
    """File name -> sha256 of what was judged."""
    hashes: dict[str, str] = {}
    if submission.selfie is not None and evidence.clip is not None:
        hashes[_label(submission.selfie, "selfie")] = evidence.clip.facts.sha256
    for i, (media, facts) in enumerate(zip(submission.document, evidence.document_facts, strict=False), start=1):
        hashes[_label(media, f"document {i}")] = facts.sha256
    return MappingProxyType(hashes)


def _label(media: Media, role: str) -> str:
    return media.name if isinstance(media, Path) else role
