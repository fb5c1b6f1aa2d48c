"""A submission in, a decision out: decode once, ask every detector, fuse."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self, TypeVar

import numpy as np

from kyc_guard import detectors as room
from kyc_guard import fusion, process
from kyc_guard.config import Limits, Settings
from kyc_guard.detectors.protocol import Bundle, Detector, Memory, Remembering, SeenClips, SessionBook, abstain
from kyc_guard.documents.chip import with_chip
from kyc_guard.documents.page import with_documents
from kyc_guard.errors import ConfigError, LimitError, UnreadableError
from kyc_guard.faces import face_finder, track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.media import AUDIO_RATE_HZ, load_media, media_sha256, read_audio, read_clip, read_image
from kyc_guard.provenance import software
from kyc_guard.stages import stage
from kyc_guard.submission import Media, Submission
from kyc_guard.types import Decision, Evidence, Float32Array, Modality, Reason, Signal

T = TypeVar("T")

_ENROLLED = "enrolled voice"


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

    Args:
        sessions: the sessions this server issued. With them no submission is accepted that names none, or not its own.
        seen: clips of earlier submissions, such as `kyc_guard.seen_clips.ClipMemory`.

    Raises:
        ConfigError: policy, thresholds and detectors do not fit together, or no detector would ask what was handed in. ModelError: a
            weight is missing or altered.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        detectors: Sequence[type[Detector]] | None = None,
        sessions: SessionBook | None = None,
        seen: SeenClips | None = None,
    ) -> None:
        self.settings = settings or Settings()
        process.settle()
        # Not when the first face is looked for: what MediaPipe imports keeps an exception, whose frames would hold on to that clip.
        face_finder()
        self.bundle = Bundle.load(self.settings)
        self.detectors = tuple(kind.load(self.bundle) for kind in (room.DETECTORS if detectors is None else detectors))
        self._demand_agreement()
        self.detectors = _remembering(self.detectors, Memory(sessions, seen))
        self._other_face_ratio = self.bundle.policy.gate("other_face_ratio")
        weights = self.bundle.weights
        self.models: Mapping[str, str] = MappingProxyType({name: weights.get(name).sha256 for name in weights.names()})
        """Model name -> sha256 of its verified file."""
        providers = sorted({net.provider for net in self.bundle.nets.values()})
        self._software = MappingProxyType({**software(), "nets": f"{' and '.join(providers) or 'none'}, {self.settings.precision}"})
        self._pool = ThreadPoolExecutor(self.settings.threads - 1, "kyc-guard") if self.settings.threads > 1 else None

    def verify(self, submission: Submission) -> Decision:
        """Decode, ask every detector, fuse.

        Raises:
            InputError: a file of the submission cannot be read or passes a limit.
        """
        return self.examine(submission)[0]

    def examine(self, submission: Submission, *, judged_on: date | None = None) -> tuple[Decision, Evidence]:
        """As `verify`, with the evidence for those who draw it or judge it again.

        Args:
            judged_on: the day that counts as today, to replay an earlier decision.
        """
        started = time.perf_counter()
        evidence, answers = self._judge(submission, judged_on)
        return self._decide(evidence, answers, started), evidence

    def judge(self, evidence: Evidence) -> Decision:
        """Judge what was gathered already, by this verifier or by one with the same sampling and quality gates."""
        started = time.perf_counter()
        return self._decide(evidence, self._ask_in_turn(evidence), started)

    def _decide(self, evidence: Evidence, answers: Mapping[str, _Answer], started: float) -> Decision:
        signals = tuple(answer.signal for answer in answers.values())
        inputs = _inputs(evidence)
        verdict = fusion.decide(signals, self.bundle.policy, self.bundle.thresholds)
        return Decision(
            submission=evidence.submission.id,
            outcome=verdict.outcome,
            score=verdict.score,
            reasons=verdict.reasons,
            message=verdict.message,
            signals=signals,
            policy_sha256=self.bundle.policy.sha256,
            thresholds_sha256=self.bundle.thresholds.sha256,
            models=self.models,
            inputs=inputs,
            declared_sha256=declared_sha256(evidence.submission, inputs),
            judged_on=evidence.judged_on,
            sampling=MappingProxyType(self.settings.sampling.model_dump()),
            software=self._software,
            took_ms={"all": (time.perf_counter() - started) * 1000, **{name: answer.took_ms for name, answer in answers.items()}},
        )

    def gather(self, submission: Submission) -> Evidence:
        """Decode everything the detectors need, once.

        What was not sent becomes a problem entry, which detectors turn into an abstention.

        Raises:
            InputError: a file that was sent cannot be read or passes a limit.
        """
        return _together(self._documents(submission, self.detectors), self._selfie(submission, self.detectors))

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
        evidence = self._selfie(Submission(id=name, selfie=media), asked)
        signals = tuple(detector(evidence) for detector in asked)
        score = fusion.attack_score(signals, self.bundle.thresholds)
        judged = [s for s in signals if s.score is not None]
        return AttackScore(
            score=score,
            reason=None if score is not None else signals[0].reasons[0].code,
            species=max(judged, key=lambda s: s.score or 0.0).species if judged else None,
            signals=signals,
        )

    def _judge(self, submission: Submission, judged_on: date | None) -> tuple[Evidence, Mapping[str, _Answer]]:
        """Evidence, and one answer a detector in their order.

        With more than one thread the document is read and judged while the selfie is still being decoded, and everything else by
        whichever thread is free. Which one it was changes no answer.
        """
        begun = self._share(partial(self._begin, submission, judged_on))
        selfie = self._selfie(submission, self.detectors)
        documents, asked = begun()
        evidence = _together(documents, selfie)
        if self.bundle.policy.stop_at_reject:
            return evidence, self._ask_in_turn(evidence)
        asked |= {d.name: self._share(partial(_ask, d, evidence)) for d in self.detectors if d.name not in asked}
        # Other threads begin with the first: so this one meets them halfway.
        answers = {name: answer() for name, answer in reversed(asked.items())}
        return evidence, {d.name: answers[d.name] for d in self.detectors}

    def _begin(self, submission: Submission, judged_on: date | None) -> tuple[Evidence, dict[str, Callable[[], _Answer]]]:
        """Evidence of the documents alone, and what those say of it who ask for nothing else.

        On one thread both come first, so that reading a page and a clip's frames are not in memory together.
        """
        documents = self._documents(submission, self.detectors)
        if judged_on is not None:
            documents = replace(documents, judged_on=judged_on)
        if self.bundle.policy.stop_at_reject:
            return documents, {}
        early = [d for d in self.detectors if d.needs == {Modality.DOCUMENT}]  # one that needs nothing may still look at everything
        return documents, {d.name: self._share(partial(_ask, d, documents)) for d in early}

    def _ask_in_turn(self, evidence: Evidence) -> Mapping[str, _Answer]:
        """One answer a detector in their order; where the policy wants that, those after one that rejects are not asked."""
        answers, settled = dict[str, _Answer](), None
        for detector in self.detectors:
            if settled is not None:
                answers[detector.name] = _Answer(abstain(detector, Reason("not_asked", f"{settled} rejects already")), 0.0)
                continue
            answers[detector.name] = answer = _ask(detector, evidence)
            if self.bundle.policy.stop_at_reject and fusion.rejects(answer.signal, self.bundle.policy, self.bundle.thresholds):
                settled = detector.name
        return answers

    def _share(self, work: Callable[[], T]) -> Callable[[], T]:
        """Offer ``work`` to another thread; without one it is done at once. Calling what is returned gives its result, done here where no
        thread has begun it.
        """
        if self._pool is None:
            done = work()
            return lambda: done
        future = self._pool.submit(work)
        return lambda: work() if future.cancel() else future.result()

    def _documents(self, submission: Submission, asked: Sequence[Detector]) -> Evidence:
        """Evidence of the documents alone, decoded, straightened and searched for the portrait if anybody ``asked`` needs them."""
        wanted = submission.document if any(Modality.DOCUMENT in d.needs for d in asked) else ()
        names = [_name(submission, media, f"document {i}") for i, media in enumerate(wanted, start=1)]
        pictures = [read_image(media, self.settings.limits, name=name) for media, name in zip(wanted, names, strict=True)]
        small = self.settings.limits.model_copy(update={"max_bytes": self.settings.limits.max_chip_bytes})
        chip = {part: load_media(media, small, f"{submission.id}: chip {part}") for part, media in submission.chip.items()}
        facts = tuple(facts for _, facts in pictures)
        seen = with_documents(Evidence(submission, document_facts=facts), *(rgb for rgb, _ in pictures))
        return with_chip(seen, chip, self.settings.limits)

    def _selfie(self, submission: Submission, asked: Sequence[Detector]) -> Evidence:
        """Evidence of the selfie alone: decoded, faces tracked; consecutive and evenly spread frames if anybody ``asked`` needs a clip,
        sound if anybody listens, and the face at an even rate where somebody acts or speaks, or was asked to.
        """
        if not asked:
            raise RuntimeError("this Verifier is closed")
        ratio = self._other_face_ratio
        enrolled, enrolled_sha256 = self._enrolled(submission)
        if submission.selfie is None:
            nothing = Reason("no_selfie", "the submission has no selfie")
            problems = dict.fromkeys((Modality.FACE, Modality.CLIP, Modality.AUDIO), nothing)
            return Evidence(submission, enrolled_voice=enrolled, enrolled_sha256=enrolled_sha256, problems=MappingProxyType(problems))
        name = _name(submission, submission.selfie, "selfie")
        # Reasons name the file alone: a decision must replay from another folder.
        shown = submission.selfie.name if isinstance(submission.selfie, Path) else name
        selfie, limits, sampling = submission.selfie, self.settings.limits, self.settings.sampling
        if isinstance(selfie, Path):  # read once, so that what is heard is what is seen and hashed
            selfie = load_media(selfie, limits, name)
        acted = submission.challenge is not None and bool(submission.challenge.actions)
        asked_to_speak = submission.challenge is not None and submission.challenge.phrase is not None
        listening = asked_to_speak or any(Modality.AUDIO in d.needs for d in asked)
        heard = self._heard(selfie, shown) if listening else None
        audio = None if isinstance(heard, Reason) else heard
        problems = {Modality.AUDIO: heard} if isinstance(heard, Reason) else {}
        spoken, moving = asked_to_speak or audio is not None, any(Modality.CLIP in d.needs for d in asked)
        rate_hz = sampling.speech_hz if spoken else sampling.challenge_hz if acted or moving else 0.0
        clip = read_clip(selfie, sampling.model_copy(update={"motion_hz": rate_hz} if rate_hz else {}), limits, name=name)
        if clip.is_still:
            animated = clip.facts.packet_times_s is not None and len(clip.facts.packet_times_s) > 1
            what = (
                "an animated picture, which no camera writes; send the video as MP4 or WebM" if animated else "a photo; a video is needed"
            )
            problems[Modality.CLIP] = Reason("no_clip", f"{shown}: is {what}")
        moving, followed = moving and not clip.is_still, (spoken or acted) and not clip.is_still
        burst_track = self._share(partial(track_faces, clip.burst_rgb, other_face_ratio=ratio, quality=False)) if moving else None
        motion_track = self._share(partial(follow_face, clip.motion_rgb)) if followed else None
        track = track_faces(clip.frames_rgb, other_face_ratio=ratio)
        if not track.found:
            problems[Modality.FACE] = Reason("no_face", f"{shown}: no face in any of {len(track.faces)} frames")
        return Evidence(
            submission,
            clip=clip,
            track=track,
            motion_track=motion_track() if motion_track else None,
            burst_track=burst_track() if burst_track else None,
            audio=audio,
            enrolled_voice=enrolled,
            enrolled_sha256=enrolled_sha256,
            problems=MappingProxyType(problems),
        )

    def _enrolled(self, submission: Submission) -> tuple[Float32Array | Reason | None, str | None]:
        """The earlier recording's sound, or why there is none, and the file's hash.

        Raises:
            InputError: the file cannot be read or has too many bytes.
        """
        if (media := submission.enrolled_voice) is None:
            return None, None
        name = _name(submission, media, _ENROLLED)
        data = load_media(media, self.settings.limits, name)
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.bundle.policy.compare_voices:
            return Reason("speaker_off", "an earlier recording was sent; compare_voices is off in policy.toml"), sha256
        heard = self._heard(data, media.name if isinstance(media, Path) else name)
        return (Reason("speaker_enrolment_unfit", heard.detail) if isinstance(heard, Reason) else heard), sha256

    def _heard(self, selfie: Media, name: str) -> Float32Array | Reason:
        """(N,) float32 mono samples at 16 kHz, or why there is nothing to hear, which alone is no reason to refuse a clip: where the
        pictures cannot be decoded either, or pass a limit themselves, reading those says so.
        """
        try:
            audio = read_audio(selfie, self.settings.limits, name=name)
        except UnreadableError as error:
            return Reason.of(error, "audio_unreadable")
        except LimitError as error:
            return Reason.of(error, "sound_too_long")
        if audio is None:
            return Reason("no_audio", f"{name}: has no sound")
        loudest_db, least_db = _loudest_db(audio), self.bundle.policy.gate("audio_min_level_db")
        if loudest_db < least_db:
            return Reason("no_audio", f"{name}: is silent, {loudest_db:.0f} dB of full scale at most, below {least_db:g}")
        return audio

    def remembering(self, memory: Memory) -> Verifier:
        """The same verifier with another memory. Models and threads are shared: close only the first."""
        twin = copy(self)
        twin.detectors = _remembering(self.detectors, memory)
        return twin

    def close(self) -> None:
        """Let go of the models; the verifier judges nothing afterwards."""
        self.detectors = ()
        if self._pool:
            self._pool.shutdown()
            self._pool = None

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
        for name, point in policy.challenge.required_from.items():
            thresholds.point(name, point)
        for name, check in policy.checks.items():
            review, reject = (None if p is None else thresholds.point(name, p) for p in (check.review_at, check.reject_at))
            if review is not None and reject is not None and review > reject:
                raise ConfigError(f"{path}: [checks.{name}] would reject at {reject} what it reviews only at {review}")


def _remembering(detectors: Sequence[Detector], memory: Memory) -> tuple[Detector, ...]:
    # A book that nobody asks would look like protection.
    asked = {d.name for d in detectors if isinstance(d, Remembering)}
    for name, given in (("challenge", memory.sessions), ("injection", memory.seen)):
        if given is not None and name not in asked:
            raise ConfigError(f"no detector {name} asks the sessions or clips that were handed in. Remedy: load it, or hand none in")
    return tuple(d.remembering(memory) if isinstance(d, Remembering) else d for d in detectors)


def _together(documents: Evidence, selfie: Evidence) -> Evidence:
    return replace(
        documents,
        clip=selfie.clip,
        track=selfie.track,
        motion_track=selfie.motion_track,
        burst_track=selfie.burst_track,
        audio=selfie.audio,
        enrolled_voice=selfie.enrolled_voice,
        enrolled_sha256=selfie.enrolled_sha256,
        problems=selfie.problems,
    )


def _name(submission: Submission, media: Media, role: str) -> str:
    return str(media) if isinstance(media, Path) else f"{submission.id}: {role}"


class _Answer(NamedTuple):
    signal: Signal
    took_ms: float


def _ask(detector: Detector, evidence: Evidence) -> _Answer:
    started = time.perf_counter()
    with stage(detector.name):
        signal = detector(evidence)
    return _Answer(signal, (time.perf_counter() - started) * 1000)


def _loudest_db(audio: Float32Array) -> float:
    """Level of the loudest tenth of a second, dB of full scale; -200 for digital silence."""
    block = AUDIO_RATE_HZ // 10
    blocks = np.pad(audio, (0, -len(audio) % block)).reshape(-1, block)
    power = np.square(blocks, dtype=np.float64).mean(axis=1).max(initial=0.0)
    return float(10 * np.log10(max(power, 1e-20)))


def _inputs(evidence: Evidence) -> Mapping[str, str]:
    judged = {f"document {i}": facts.sha256 for i, facts in enumerate(evidence.document_facts, start=1)}
    judged |= {f"chip {part}": hashlib.sha256(data).hexdigest() for part, data in evidence.chip.items()}
    if evidence.enrolled_sha256 is not None:
        judged |= {_ENROLLED: evidence.enrolled_sha256}
    if evidence.clip is not None:
        judged = {"selfie": evidence.clip.facts.sha256} | judged
    return _by_name(evidence.submission, judged)


def sent_inputs(submission: Submission, limits: Limits) -> Mapping[str, str]:
    """What `Decision.inputs` would say of a submission, without decoding it.

    Raises:
        InputError: a file cannot be read or passes a limit.
    """
    return _by_name(submission, {role: media_sha256(media, limits) for role, media in _roles(submission).items()})


def declared_sha256(submission: Submission, inputs: Mapping[str, str]) -> str:
    """`Decision.declared_sha256`. The hashes of the files are in it, so nobody without the files can guess a claim from it."""
    challenge = None if submission.challenge is None else asdict(submission.challenge)
    said = [list(inputs.items()), dict(submission.claims), dict(submission.device), challenge]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _roles(submission: Submission) -> dict[str, Media]:
    selfie = {} if submission.selfie is None else {"selfie": submission.selfie}
    documents = {f"document {i}": media for i, media in enumerate(submission.document, start=1)}
    voice = {} if submission.enrolled_voice is None else {_ENROLLED: submission.enrolled_voice}
    return selfie | documents | {f"chip {part}": media for part, media in submission.chip.items()} | voice


def _by_name(submission: Submission, hashes: Mapping[str, str]) -> Mapping[str, str]:
    """File name -> hash from role -> hash; a second file of the same name is told apart by its role."""
    sent, named = _roles(submission), dict[str, str]()
    for role, sha256 in hashes.items():
        media = sent[role]
        name = media.name if isinstance(media, Path) else role
        named[name if named.get(name, sha256) == sha256 else f"{name} ({role})"] = sha256
    return MappingProxyType(named)
