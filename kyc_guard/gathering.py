"""Files in, `Evidence` out: everything the detectors need, decoded once; what was not sent or cannot be heard becomes a problem entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from kyc_guard.config import Limits, Policy, Sampling
from kyc_guard.documents.chip import with_chip
from kyc_guard.documents.page import with_documents
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.faces import track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.inputs import ENROLLED, file_name
from kyc_guard.media import AUDIO_RATE_HZ, load_media, read_audio, read_clip, read_image
from kyc_guard.submission import Media, Submission
from kyc_guard.types import Evidence, Float32Array, Modality, Reason

T = TypeVar("T")


class Share(Protocol):
    """Offers work to another thread; calling what is returned gives its result."""

    def __call__(self, work: Callable[[], T], /) -> Callable[[], T]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Gatherer:
    """Reads what detectors with these ``needs`` look at and listen to."""

    limits: Limits
    sampling: Sampling
    policy: Policy
    other_face_ratio: float
    """How large a second face counts, against the subject's."""
    share: Share

    def documents(self, submission: Submission, needs: frozenset[Modality]) -> Evidence:
        """Evidence of the documents alone, decoded, straightened and searched for the portrait if anybody needs them.

        Raises:
            InputError: a file that was sent cannot be read or passes a limit.
        """
        wanted = submission.document if Modality.DOCUMENT in needs else ()
        names = [file_name(submission, media, f"document {i}") for i, media in enumerate(wanted, start=1)]
        pictures = [read_image(media, self.limits, name=name) for media, name in zip(wanted, names, strict=True)]
        small = self.limits.model_copy(update={"max_bytes": self.limits.max_chip_bytes})
        chip = {part: load_media(media, small, f"{submission.id}: chip {part}") for part, media in submission.chip.items()}
        facts = tuple(facts for _, facts in pictures)
        seen = with_documents(Evidence(submission, document_facts=facts), *(rgb for rgb, _ in pictures))
        return with_chip(seen, chip, self.limits)

    def selfie(self, submission: Submission, needs: frozenset[Modality]) -> Evidence:
        """Evidence of the selfie alone: decoded, faces tracked; consecutive and evenly spread frames if anybody needs a clip,
        sound if anybody listens, and the face at an even rate where somebody acts or speaks, or was asked to.
        """
        ratio = self.other_face_ratio
        enrolled, enrolled_sha256 = self._enrolled(submission)
        if submission.selfie is None:
            nothing = Reason("no_selfie", "the submission has no selfie")
            problems = dict.fromkeys((Modality.FACE, Modality.CLIP, Modality.AUDIO), nothing)
            return Evidence(submission, enrolled_voice=enrolled, enrolled_sha256=enrolled_sha256, problems=MappingProxyType(problems))
        name = file_name(submission, submission.selfie, "selfie")
        # Reasons name the file alone: a decision must replay from another folder.
        shown = submission.selfie.name if isinstance(submission.selfie, Path) else name
        selfie, limits, sampling = submission.selfie, self.limits, self.sampling
        if isinstance(selfie, Path):  # read once, so that what is heard is what is seen and hashed
            selfie = load_media(selfie, limits, name)
        acted = submission.challenge is not None and bool(submission.challenge.actions)
        asked_to_speak = submission.challenge is not None and submission.challenge.phrase is not None
        listening = asked_to_speak or Modality.AUDIO in needs
        heard = self._heard(selfie, shown) if listening else None
        audio = None if isinstance(heard, Reason) else heard
        problems = {Modality.AUDIO: heard} if isinstance(heard, Reason) else {}
        spoken, moving = asked_to_speak or audio is not None, Modality.CLIP in needs
        rate_hz = sampling.speech_hz if spoken else sampling.challenge_hz if acted or moving else 0.0
        clip = read_clip(selfie, sampling.model_copy(update={"motion_hz": rate_hz} if rate_hz else {}), limits, name=name)
        if clip.is_still:
            animated = clip.facts.packet_times_s is not None and len(clip.facts.packet_times_s) > 1
            what = (
                "an animated picture, which no camera writes; send the video as MP4 or WebM" if animated else "a photo; a video is needed"
            )
            problems[Modality.CLIP] = Reason("no_clip", f"{shown}: is {what}")
        moving, followed = moving and not clip.is_still, (spoken or acted) and not clip.is_still
        burst_track = self.share(partial(track_faces, clip.burst_rgb, other_face_ratio=ratio, quality=False)) if moving else None
        motion_track = self.share(partial(follow_face, clip.motion_rgb)) if followed else None
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
        name = file_name(submission, media, ENROLLED)
        data = load_media(media, self.limits, name)
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.policy.compare_voices:
            return Reason("speaker_off", "an earlier recording was sent; compare_voices is off in policy.toml"), sha256
        heard = self._heard(data, media.name if isinstance(media, Path) else name)
        return (Reason("speaker_enrolment_unfit", heard.detail) if isinstance(heard, Reason) else heard), sha256

    def _heard(self, selfie: Media, name: str) -> Float32Array | Reason:
        """(N,) float32 mono samples at 16 kHz, or why there is nothing to hear, which alone is no reason to refuse a clip: where the
        pictures cannot be decoded either, or pass a limit themselves, reading those says so.
        """
        try:
            audio = read_audio(selfie, self.limits, name=name)
        except UnreadableError as error:
            return Reason.of(error, "audio_unreadable")
        except LimitError as error:
            return Reason.of(error, "sound_too_long")
        if audio is None:
            return Reason("no_audio", f"{name}: has no sound")
        loudest_db, least_db = _loudest_db(audio), self.policy.gate("audio_min_level_db")
        if loudest_db < least_db:
            return Reason("no_audio", f"{name}: is silent, {loudest_db:.0f} dB of full scale at most, below {least_db:g}")
        return audio


def together(documents: Evidence, selfie: Evidence) -> Evidence:
    """What was gathered of the documents, and of the selfie, as one."""
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


def _loudest_db(audio: Float32Array) -> float:
    """Level of the loudest tenth of a second, dB of full scale; -200 for digital silence."""
    block = AUDIO_RATE_HZ // 10
    blocks = np.pad(audio, (0, -len(audio) % block)).reshape(-1, block)
    power = np.square(blocks, dtype=np.float64).mean(axis=1).max(initial=0.0)
    return float(10 * np.log10(max(power, 1e-20)))
