"""A submission in, a decision out: decode once, ask every detector, fuse."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from kyc_guard import detectors as room
from kyc_guard import fusion
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.errors import ConfigError
from kyc_guard.faces import track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.media import read_clip, read_image
from kyc_guard.types import Decision, Evidence, FaceTrack, Media, Modality, Reason, Signal, Submission


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
        self._pool = ThreadPoolExecutor(self.settings.threads - 1, "kyc-guard") if self.settings.threads > 1 else None

    def verify(self, submission: Submission) -> Decision:
        """Decode, ask every detector, fuse.

        Raises:
            InputError: a file of the submission cannot be read or passes a limit.
        """
        started = time.perf_counter()
        evidence, signals = self._judge(submission)
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
        return self._add_selfie(self._documents(submission, self.detectors), self.detectors)

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
        evidence = self._add_selfie(self._documents(Submission(id=name, selfie=media), asked), asked)
        signals = tuple(detector(evidence) for detector in asked)
        score = fusion.attack_score(signals, self.bundle.thresholds)
        judged = [s for s in signals if s.score is not None]
        return AttackScore(
            score=score,
            reason=None if score is not None else signals[0].reasons[0].code,
            species=max(judged, key=lambda s: s.score or 0.0).species if judged else None,
            signals=signals,
        )

    def _judge(self, submission: Submission) -> tuple[Evidence, tuple[Signal, ...]]:
        """Evidence, and one signal a detector in their order.

        With more than one thread the document is judged while the selfie is still being decoded: reading it takes as long as
        everything else together.
        """
        documents = self._documents(submission, self.detectors)
        early = [d for d in self.detectors if d.needs == {Modality.DOCUMENT}]  # one that needs nothing may still look at everything
        waiting = self._pool.submit(_ask, early, documents) if self._pool else None
        evidence = self._add_selfie(documents, self.detectors)
        answers = _ask([d for d in self.detectors if d not in early], evidence)
        answers |= waiting.result() if waiting else _ask(early, documents)
        return evidence, tuple(answers[d.name] for d in self.detectors)

    def _documents(self, submission: Submission, asked: Sequence[Detector]) -> Evidence:
        """Evidence of the documents alone, decoded if anybody ``asked`` needs them."""
        if not asked:
            raise RuntimeError("this Verifier is closed")
        wanted = submission.document if any(Modality.DOCUMENT in d.needs for d in asked) else ()
        names = [_name(submission, media, f"document {i}") for i, media in enumerate(wanted, start=1)]
        pictures = [read_image(media, self.settings.limits, name=name) for media, name in zip(wanted, names, strict=True)]
        return Evidence(
            submission=submission, documents_rgb=tuple(rgb for rgb, _ in pictures), document_facts=tuple(facts for _, facts in pictures)
        )

    def _add_selfie(self, documents: Evidence, asked: Sequence[Detector]) -> Evidence:
        """The whole evidence: selfie decoded, faces tracked; consecutive frames too if anybody ``asked`` needs a clip."""
        submission, ratio = documents.submission, self._other_face_ratio
        if submission.selfie is None:
            nothing = Reason("no_selfie", "the submission has no selfie")
            return replace(documents, problems=MappingProxyType({Modality.FACE: nothing, Modality.CLIP: nothing}))
        name = _name(submission, submission.selfie, "selfie")
        acted = submission.challenge is not None and bool(submission.challenge.actions)
        sampling = self.settings.sampling
        if acted:
            sampling = sampling.model_copy(update={"motion_hz": sampling.challenge_hz})
        clip = read_clip(submission.selfie, sampling, self.settings.limits, name=name)
        track = track_faces(clip.frames_rgb, other_face_ratio=ratio)
        problems: dict[Modality, Reason] = {}
        if not track.found:
            problems[Modality.FACE] = Reason("no_face", f"{name}: no face in any of {len(track.faces)} frames")
        burst_track: FaceTrack | None = None
        if clip.is_still:
            problems[Modality.CLIP] = Reason("no_clip", f"{name}: is a photo; a video is needed")
        elif any(Modality.CLIP in d.needs for d in asked):
            burst_track = track_faces(clip.burst_rgb, other_face_ratio=ratio)
        motion_track = follow_face(clip.motion_rgb) if acted and not clip.is_still else None
        return replace(
            documents, clip=clip, track=track, burst_track=burst_track, motion_track=motion_track, problems=MappingProxyType(problems)
        )

    def close(self) -> None:
        """Let go of the models; the verifier judges nothing afterwards."""
        self.detectors = ()
        if self._pool:
            self._pool.shutdown()

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


def _ask(detectors: Sequence[Detector], evidence: Evidence) -> dict[str, Signal]:
    return {detector.name: detector(evidence) for detector in detectors}


def _inputs(submission: Submission, evidence: Evidence) -> MappingProxyType[str, str]:
    """File name -> sha256 of what was judged; a second file of the same name is told apart by its role."""
    judged = [] if evidence.clip is None else [(submission.selfie, "selfie", evidence.clip.facts)]
    judged += [(m, f"document {i}", f) for i, (m, f) in enumerate(zip(submission.document, evidence.document_facts, strict=False), start=1)]
    hashes: dict[str, str] = {}
    for media, role, facts in judged:
        name = media.name if isinstance(media, Path) else role
        hashes[name if hashes.get(name, facts.sha256) == facts.sha256 else f"{name} ({role})"] = facts.sha256
    return MappingProxyType(hashes)
