"""The nouns. Submission -> Evidence -> Signal* -> Decision.

One score direction everywhere: ``score`` is P(attack) in [0, 1], higher is worse, and ``None`` means *could not judge*,
which is never the same as *bona fide*. All dataclasses are frozen; arrays inside them are not to be written to.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kyc_guard.errors import InputError, SchemaError, UnreadableError

UInt8Array: TypeAlias = NDArray[np.uint8]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
Media: TypeAlias = Path | bytes | UInt8Array
"""A file, its bytes, or decoded pixels: (H, W, 3) or (T, H, W, 3) uint8 RGB."""

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
class Challenge:
    """What the server asked of this applicant in this session."""

    nonce: str | None = None
    phrase: str | None = None
    actions: tuple[str, ...] = ()
    issued_at: str | None = None
    expires_at: str | None = None
    prompts_s: tuple[float, ...] = ()
    """When in the clip each action was asked, seconds from its start; empty: one after the other, at the applicant's own pace."""


_TOML_KEYS = {"id", "subject", "document", "selfie", "enrolled_voice", "challenge", "claims", "device", "chip"}


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """Paths (or bytes, or arrays) and declared facts; nothing is decoded yet.

    Attributes:
        id: names the submission in every result line.
        subject: the applicant's pseudonym in the caller's system.
        document: front, back ... of the identity document.
        selfie: selfie video or photo.
        claims: what the applicant typed: surname, given_names, birth_date (ISO 8601), document_number,
            expiry_date, nationality (ISO 3166 alpha-3), sex (M, F, X). All optional.
        device: what the capture client declared: model, platform, camera, width_px, height_px, fps. All optional.
        enrolled_voice: an earlier recording of the applicant, sound or video; compared only where policy asks for it.
        chip: what a phone read out of the document's chip: ``sod``, ``dg1`` and any other data group -> file (or bytes).
    """

    id: str
    selfie: Media | None = None
    document: tuple[Media, ...] = ()
    subject: str | None = None
    challenge: Challenge | None = None
    claims: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    device: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    chip: Mapping[str, Path | bytes] = field(default_factory=lambda: _EMPTY)
    enrolled_voice: Path | bytes | None = None

    @classmethod
    def from_dir(cls, directory: Path | str) -> Submission:
        """Read ``submission.toml`` in ``directory``; every file it names must lie inside ``directory``.

        Raises:
            UnreadableError: no such directory or toml.
            SchemaError: unknown keys, wrong types, or a path that leaves the directory (.., absolute, symlink).
        """
        root = Path(directory)
        toml = root / "submission.toml"
        try:
            text = toml.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableError(
                toml, f"cannot be read ({error})", "add a UTF-8 submission.toml naming the selfie and document"
            ) from error
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SchemaError(toml, f"is not valid TOML ({error})", "see the submission schema in the README") from error
        return cls.from_mapping(data, root=root, default_id=root.resolve().name, source=toml)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], *, root: Path, default_id: str, source: Path | str) -> Submission:
        """Validate a decoded submission.toml or manifest row; see `from_dir`."""
        unknown = sorted(set(data) - _TOML_KEYS)
        if unknown:
            raise SchemaError(source, f"unknown key {unknown[0]!r}", f"use only {', '.join(sorted(_TOML_KEYS))}")
        documents = data.get("document", [])
        if isinstance(documents, str):
            documents = [documents]
        if not isinstance(documents, Sequence) or not all(isinstance(d, str) for d in documents):
            raise SchemaError(source, "document must be a file name or a list of file names", 'write document = ["front.jpg"]')
        selfie, voice = data.get("selfie"), data.get("enrolled_voice")
        return cls(
            id=_string(data.get("id", default_id), "id", source),
            subject=None if data.get("subject") is None else _string(data["subject"], "subject", source),
            selfie=None if selfie is None else inside(root, _string(selfie, "selfie", source), source),
            document=tuple(inside(root, d, source) for d in documents),
            challenge=_challenge(_table(data, "challenge", source), source),
            claims=MappingProxyType({k: _string(v, f"claims.{k}", source) for k, v in _table(data, "claims", source).items()}),
            device=MappingProxyType(dict(_table(data, "device", source))),
            chip=_chip(_table(data, "chip", source), root, source),
            enrolled_voice=None if voice is None else inside(root, _string(voice, "enrolled_voice", source), source),
        )


def inside(root: Path, name: str, source: Path | str) -> Path:
    """``root / name`` if that stays inside ``root`` after following links; no file is opened.

    Raises:
        SchemaError: the name is absolute, climbs out, or passes through a symlink that leaves ``root``.
    """
    candidate = root / name
    if "\x00" in name or not candidate.resolve().is_relative_to(root.resolve()):
        raise SchemaError(source, f"{name!r} leaves {root}", "name only files inside the submission's own folder or root")
    return candidate


def _table(data: Mapping[str, Any], key: str, source: Path | str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise SchemaError(source, f"{key} must be a table", f"write [{key}]")
    return value


def _chip(table: Mapping[str, Any], root: Path, source: Path | str) -> Mapping[str, Path]:
    if wrong := sorted(set(table) - {"sod", *(f"dg{n}" for n in range(1, 17))}):
        raise SchemaError(source, f"unknown key chip.{wrong[0]}", "use sod and dg1 to dg16")
    if table and not {"sod", "dg1"} <= set(table):
        raise SchemaError(source, "chip needs sod and dg1", 'write chip = { sod = "sod.bin", dg1 = "dg1.bin", dg2 = "dg2.bin" }')
    return MappingProxyType({k: inside(root, _string(v, f"chip.{k}", source), source) for k, v in table.items()})


def _challenge(table: Mapping[str, Any], source: Path | str) -> Challenge | None:
    if not table:
        return None
    if wrong := sorted(set(table) - {"nonce", "phrase", "actions", "prompts_s", "issued_at", "expires_at"}):
        raise SchemaError(source, f"unknown key challenge.{wrong[0]}", "use nonce, phrase, actions, prompts_s, issued_at, expires_at")
    actions = table.get("actions", [])
    if not isinstance(actions, list | tuple):
        raise SchemaError(source, "challenge.actions must be a list of names", 'write actions = ["blink"]')
    prompts = table.get("prompts_s", [])
    if not isinstance(prompts, list | tuple) or not all(isinstance(p, int | float) and math.isfinite(p) and p >= 0 for p in prompts):
        raise SchemaError(source, "challenge.prompts_s must be a list of seconds", "write prompts_s = [1.0, 4.2]")
    if prompts and (len(prompts) != len(actions) or sorted(prompts) != list(prompts)):
        raise SchemaError(source, "challenge.prompts_s must rise and have one entry an action", "write one time for every action")
    texts = {k: _string(v, f"challenge.{k}", source) for k, v in table.items() if k not in {"actions", "prompts_s"}}
    return Challenge(
        **texts, actions=tuple(_string(a, "challenge.actions", source) for a in actions), prompts_s=tuple(float(p) for p in prompts)
    )


def _string(value: Any, key: str, source: Path | str) -> str:
    # TOML dates are a natural way to write birth_date; anything else that is not text is a mistake.
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if not isinstance(value, str) or not value:
        raise SchemaError(source, f"{key} must be text", f'write {key} = "..."')
    return value


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
    questions about motion. A still has one frame and no burst.
    """

    frames_rgb: UInt8Array
    """(T, H, W, 3) uint8 RGB, rotation applied."""
    timestamps_s: Float64Array
    """(T,) presentation times."""
    burst_rgb: UInt8Array
    """(B, H, W, 3) uint8 RGB; B may be 0."""
    burst_timestamps_s: Float64Array
    is_still: bool
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
