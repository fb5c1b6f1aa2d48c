"""The nouns. Submission -> Evidence -> Signal* -> Decision.

One score direction everywhere: ``score`` is P(attack) in [0, 1], higher is worse, and ``None`` means *could not judge*,
which is never the same as *bona fide*. All dataclasses are frozen; arrays inside them are not to be written to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kyc_guard.errors import InputError
from kyc_guard.submission import Submission

UInt8Array: TypeAlias = NDArray[np.uint8]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]

SPECIES = ("print", "print_cut", "replay", "mask", "swap", "composite", "reenactment", "generated")
PHYSICAL = frozenset(SPECIES[:4])
"""Shown to the camera."""
DIGITAL = frozenset(SPECIES[4:])
"""Made inside a computer."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Outcome(StrEnum):
    """What happens to a submission; ``severity`` orders them, the most severe reason wins."""

    ACCEPT = "accept"
    RETRY = "retry"
    REVIEW = "review"
    REJECT = "reject"

    @property
    def severity(self) -> int:
        return list(Outcome).index(self)


class Modality(StrEnum):
    """What a detector needs; absent modalities make it abstain."""

    FACE = "face"
    CLIP = "clip"
    AUDIO = "audio"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a score is what it is, or why there is none. ``code`` is stable; ``detail`` is for the operator."""

    code: str
    detail: str = ""

    @classmethod
    def of(cls, error: InputError, code: str) -> Reason:
        return cls(code, str(error))


@dataclass(frozen=True, slots=True, eq=False)
class FaceQuality:
    """How well one face can be judged. Limits on these live in policy.toml, not here."""

    size_px: float
    """Distance between the outer ends of the face oval, the shorter side, in source pixels."""
    blur: float
    """Sharpness: variance of the Laplacian of the face at a fixed size; low = blurred."""
    brightness: float
    """Mean luma of the face, 0..255."""
    contrast: float
    """Standard deviation of the face's luma, 0..255."""
    occlusion: float
    """0..1, share of the face region that is probably covered; NaN where it was not estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one frame. Pixel coordinates of the source frame, origin top left."""

    box_xyxy: Float32Array
    """(4,) float32: tight box around the mesh landmarks."""
    landmarks_px: Float32Array
    """(478, 3) float32: MediaPipe mesh with irises; x, y in pixels, z in pixels towards the camera negative."""
    confidence: float
    yaw_deg: float
    """Positive: the subject's face turns to the image's right."""
    pitch_deg: float
    """Positive: the face looks up."""
    roll_deg: float
    """Positive: the head leans clockwise in the image."""
    eye_openness: tuple[float, float]
    """Left and right eye aspect ratio (image left first), about 0 closed, 0.3 open."""
    mouth_openness: float
    """Inner-lip gap over mouth width."""
    quality: FaceQuality


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """The subject over time: one entry a frame, ``None`` where the face was not found."""

    faces: tuple[Face | None, ...]
    other_faces: int
    """How many further real-sized faces were seen in the worst frame."""

    @property
    def found(self) -> tuple[int, ...]:
        """Indices of frames with a face."""
        return tuple(i for i, face in enumerate(self.faces) if face is not None)


@dataclass(frozen=True, slots=True, eq=False)
class PagePortrait:
    """The holder's face, as a page of the document shows it."""

    page: int
    """Which of the pages, from 0."""
    quarter_turns: int
    """Counter-clockwise turns of that page that set the face upright."""
    upright_rgb: UInt8Array
    """(H, W, 3) uint8 RGB: the page so turned."""
    face: Face
    """In pixels of ``upright_rgb``."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream as the container declares it."""

    kind: str
    codec: str
    profile: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    fps: float | None = None
    sample_rate_hz: int | None = None
    bit_rate_bps: int | None = None
    frames: int | None = None
    time_base: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry of an MP4 edit list: which part of the track is to be shown."""

    duration_s: float
    """0 = to the end."""
    media_time_s: float | None
    """Where in the track the part begins; ``None`` = show nothing."""
    rate: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ContainerFacts:
    """What a file says of itself; forensics read these, they prove nothing alone."""

    format: str
    size_bytes: int
    sha256: str
    duration_s: float | None = None
    streams: tuple[StreamFacts, ...] = ()
    tags: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    packet_times_s: Float64Array | None = None
    """(P,) presentation times of all video packets, in presentation order, NaN where missing."""
    keyframe_times_s: Float64Array | None = None
    packet_sizes_bytes: NDArray[np.int64] | None = None
    """(P,) sizes, in the order of `packet_times_s`."""
    rotation_deg: int = 0
    decode_order: NDArray[np.int64] | None = None
    """(P,) place of each packet in the file, in the order of `packet_times_s`; where it falls, frames were reordered (B-frames)."""
    sound_times_s: Float64Array | None = None
    """(S,) presentation times of the first sound stream's packets, on the clock of `packet_times_s`."""
    sound_lengths_s: Float64Array | None = None
    """(S,) how long the samples of each play."""
    encoder_notes: tuple[str, ...] = ()
    """Texts an encoder left inside the video stream (H.264 and HEVC user data)."""
    edits: tuple[Edit, ...] = ()
    """Edit list of the video track."""
    has_c2pa: bool = False
    """Whether the file carries a C2PA manifest; `kyc_guard.manifests` verifies it."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Decoded frames of a video or a still.

    ``frames_rgb`` are the samples spread over the whole clip; ``burst_rgb`` are consecutive frames (native rate) for
    questions about motion. A still has one frame and no burst, or is an animated picture.
    """

    frames_rgb: UInt8Array
    """(T, H, W, 3) uint8 RGB, rotation applied."""
    timestamps_s: Float64Array
    """(T,) presentation times."""
    burst_rgb: UInt8Array
    """(B, H, W, 3) uint8 RGB; B may be 0."""
    burst_timestamps_s: Float64Array
    is_still: bool
    """No recording: a picture, or an animated one, which no camera writes."""
    facts: ContainerFacts
    motion_rgb: UInt8Array = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))
    """(M, h, w, 3) uint8 RGB, shrunk: frames at an even rate for questions about movements; M is 0 unless `Sampling.motion_hz` asks."""
    motion_timestamps_s: Float64Array = field(default_factory=lambda: np.empty(0, np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that was decoded of one submission; built once, read by every detector, written by none."""

    submission: Submission
    clip: Clip | None = None
    track: FaceTrack | None = None
    """Faces of ``clip.frames_rgb``."""
    burst_track: FaceTrack | None = None
    """Faces of ``clip.burst_rgb``."""
    motion_track: FaceTrack | None = None
    """Faces of ``clip.motion_rgb``, in its pixels."""
    audio: Float32Array | None = None
    """(N,) float32 in [-1, 1], mono, 16 kHz."""
    enrolled_voice: Float32Array | Reason | None = None
    """As ``audio``, of the earlier recording; why it was not decoded, or ``None`` where none was sent."""
    enrolled_sha256: str | None = None
    documents_rgb: tuple[UInt8Array, ...] = ()
    """As they were sent."""
    pages_rgb: tuple[UInt8Array, ...] = ()
    """The same, each straight and alone where it lay askew."""
    portrait: PagePortrait | None = None
    """Of the first of ``pages_rgb`` that shows one."""
    document_facts: tuple[ContainerFacts, ...] = ()
    chip: Mapping[str, bytes] = field(default_factory=lambda: _EMPTY)
    """``sod``, ``dg1`` ... -> the elementary file as it was read; empty = no chip was read."""
    chip_portrait: tuple[UInt8Array, Face | None] | None = None
    """The picture in the chip and its largest face; ``None`` where none was sent or it cannot be read."""
    problems: Mapping[Modality, Reason] = field(default_factory=lambda: MappingProxyType({}))
    """Why a modality is absent, for those that are."""
    judged_on: date = field(default_factory=lambda: datetime.now(UTC).date())
    """The day (UTC) that counts as today; no detector reads a clock, so that a decision replays."""

    def has(self, modality: Modality) -> bool:
        match modality:
            case Modality.FACE:
                return self.track is not None and bool(self.track.found)
            case Modality.CLIP:
                return self.clip is not None and not self.clip.is_still
            case Modality.AUDIO:
                return self.audio is not None
            case Modality.DOCUMENT:
                return bool(self.pages_rgb)

    def why_missing(self, modality: Modality) -> Reason:
        return self.problems.get(modality, Reason(f"no_{modality}", f"the submission has no {modality}"))


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """One detector's answer to its one question.

    Attributes:
        score: P(attack) in [0, 1]; ``None`` = could not judge, then ``reasons`` says why.
        quality: 0..1, how much the input allowed; informs the reviewer, decides nothing.
        species: the likeliest PAI species where the detector names one.
        facts: JSON-able findings. artefacts: arrays for the reviewer (heat maps, curves); never in the JSON.

    Raises:
        ValueError: a score outside [0, 1] or NaN, or an abstention without a reason.
    """

    detector: str
    version: str
    score: float | None
    quality: float | None = None
    species: str | None = None
    reasons: tuple[Reason, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    artefacts: Mapping[str, NDArray[Any]] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        if self.score is None:
            if not self.reasons:
                raise ValueError(f"{self.detector}: abstained without a reason")
        elif not (math.isfinite(self.score) and 0.0 <= self.score <= 1.0):
            raise ValueError(f"{self.detector}: score {self.score} is not a probability")

    def to_json(self) -> dict[str, Any]:
        return {
            "detector": self.detector,
            "version": self.version,
            "score": self.score,
            "quality": self.quality,
            "species": self.species,
            "reasons": [{"code": r.code, "detail": r.detail} for r in self.reasons],
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The verdict on one submission, with all that is needed to explain and replay it."""

    submission: str
    outcome: Outcome
    score: float | None
    """Fused P(attack) of the presentation-attack detectors; ``None`` if none could judge."""
    reasons: tuple[Reason, ...]
    """For the operator: what led to the outcome, gravest first."""
    message: str
    """Safe to show to the applicant: helps an honest person, tells an attacker nothing."""
    signals: tuple[Signal, ...]
    policy_sha256: str
    thresholds_sha256: str
    models: Mapping[str, str]
    """Model name -> sha256."""
    inputs: Mapping[str, str]
    """File name -> sha256 of the bytes judged, the selfie first."""
    declared_sha256: str
    """Of ``inputs`` and what was declared beside the files (claims, device, challenge), which is not repeated here."""
    judged_on: date
    """The day (UTC) that counted as today."""
    sampling: Mapping[str, float]
    """Which frames were decoded; see `kyc_guard.config.Sampling`."""
    software: Mapping[str, str]
    """What computed it -> its version: results are bit for bit the same only where these are."""
    took_ms: Mapping[str, float]
    """Wall time: ``all`` from the first byte on, and each detector's own."""

    def to_json(self) -> dict[str, Any]:
        return {
            "submission": self.submission,
            "outcome": str(self.outcome),
            "score": self.score,
            "reasons": [{"code": r.code, "detail": r.detail} for r in self.reasons],
            "message": self.message,
            "signals": [s.to_json() for s in self.signals],
            "policy_sha256": self.policy_sha256,
            "thresholds_sha256": self.thresholds_sha256,
            "models": dict(self.models),
            "inputs": dict(self.inputs),
            "declared_sha256": self.declared_sha256,
            "judged_on": self.judged_on.isoformat(),
            "sampling": dict(self.sampling),
            "software": dict(self.software),
            "took_ms": {name: round(ms, 1) for name, ms in self.took_ms.items()},
        }
