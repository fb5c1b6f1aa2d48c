"""Settings, policy and thresholds: the three things that tune a verdict, none of them in code.

Settings come from the caller or ``KYC_GUARD_*`` variables, policy from ``policy.toml``, thresholds from
``thresholds.toml`` beside the weights. Policy and thresholds are hashed into every decision.
"""

from __future__ import annotations

import hashlib
import math
import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from kyc_guard.errors import ConfigError
from kyc_guard.types import Outcome

Device: TypeAlias = Literal["cpu", "cuda", "tensorrt", "auto", "ray"]
Precision: TypeAlias = Literal["fp32", "fp16"]


class Limits(BaseModel, frozen=True):
    """Refused before decoding. Defaults fit a KYC upload from any phone."""

    max_bytes: int = 200_000_000
    max_pixels: int = 50_000_000
    """Of a still image."""
    max_frame_pixels: int = 9_000_000
    """Of one video frame (a 4K frame has 8.3 million)."""
    max_duration_s: float = 120.0
    max_frames: int = 7_500
    max_streams: int = 8
    max_chip_bytes: int = 1_000_000
    """Of one file of a document's chip; portraits take up to about 100 kB."""


class Sampling(BaseModel, frozen=True):
    """Which frames of a clip are decoded."""

    frames: int = Field(default=12, ge=1, le=256)
    """Spread evenly over the clip."""
    burst_frames: int = Field(default=24, ge=0, le=512)
    """Consecutive frames from the clip's middle, for questions about motion."""
    motion_hz: float = Field(default=0.0, ge=0.0, le=30.0)
    """Frames a second, over the whole clip, shrunk to ``motion_side_px``, for questions about movements; 0 = none."""
    challenge_hz: float = Field(default=15.0, ge=1.0, le=30.0)
    """``motion_hz`` for a clip without sound: a blink lasts 0.1 to 0.4 s, and a loop shows in pairs of frames one period apart."""
    speech_hz: float = Field(default=25.0, ge=20.0, le=30.0)
    """``motion_hz`` where somebody speaks: a phrase was asked, or there is sound to hold the lips against. Lips close for 0.1 s."""
    motion_side_px: int = Field(default=480, ge=64, le=1920)
    """Longest side of those frames. MediaPipe's nets look at 128 and 192 px."""
    decode_device: Literal["cpu", "cuda"] = "cpu"
    """``cuda`` decodes on NVIDIA's decoder, which the clip's tag ``found.decoded_on_gpu`` tells. Where that is not there, or does not know
    the codec, the CPU decodes.
    """


def _default_weights_dir() -> Path:
    # A wheel carries the weights inside the package; a checkout has them beside it.
    packaged = Path(str(resources.files("kyc_guard") / "weights_files"))
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "weights"


def _default_policy_path() -> Path:
    return Path(str(resources.files("kyc_guard") / "policy.toml"))


class Settings(BaseSettings):
    """Everything the caller may set; ``KYC_GUARD_THREADS=4`` sets ``threads``."""

    model_config = SettingsConfigDict(env_prefix="KYC_GUARD_", env_nested_delimiter="__", frozen=True)

    weights_dir: Path = Field(default_factory=_default_weights_dir)
    policy_path: Path = Field(default_factory=_default_policy_path)
    thresholds_path: Path = Field(default_factory=lambda data: data["weights_dir"] / "thresholds.toml")
    """The shipped file, unless ``kyc-guard calibrate`` wrote one for this operator."""
    threads: int = Field(default_factory=lambda: min(2, os.cpu_count() or 1), ge=1)
    """Threads one submission may use, FFmpeg's, OpenCV's and ONNX Runtime's included. Batches use one a worker."""
    device: Device = "cpu"
    """Where the nets run; ``auto`` takes CUDA where it is there. What is missing is replaced by the next best; see `kyc_guard.runtime`.
    ``ray`` is what workers get whose nets actors of the cluster hold; see `kyc_guard.ray_nets`.
    """
    precision: Precision = "fp32"
    """``fp16`` on TensorRT alone. Thresholds are measured with fp32."""
    net_batch: int = Field(default=8, ge=1)
    """Pictures a net takes at once. No result depends on it. More than 8 leave the caches of a CPU and are slower; GPUs want more."""
    csca_dir: Path | None = None
    """Folder of the country certificates and revocation lists that chips are held against; see `kyc_guard.documents.certificates`."""
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    capture_keys: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Key id -> key that capture clients sign with; see `kyc_guard.signatures`."""
    c2pa_anchors: Path | None = None
    """PEM file of the authorities whose C2PA signers are known; see `kyc_guard.manifests`."""
    face_index: Path | None = None
    """Encrypted file of the faces of earlier accounts, which selfies and portraits are searched in; see `kyc_guard.face_index`."""
    face_index_key: SecretStr | None = None
    """Its key: base64 of 32 bytes, or ``file:<path>`` of a file that holds it."""
    evidence_key: SecretStr | None = None
    """What evidence packs are signed with: ``ed25519:<base64 of the seed>`` or ``hmac-sha256:<base64>``; see `kyc_guard.evidence_pack`."""


def _demand_known(table: Mapping[str, Any], known: set[str], what: str) -> None:
    # A misspelt reject_at must not quietly become a check that never rejects.
    if unknown := sorted(set(table) - known):
        raise ValueError(f"unknown {what}: {unknown[0]}")


def _demand_once(codes: Iterable[str]) -> None:
    if twice := [code for code, count in Counter(codes).items() if count > 1]:
        raise ValueError(f"reason {twice[0]} is listed twice")


def _finite(value: float) -> float:
    # TOML can spell nan, and no measurement is ever below a NaN: such a gate would always stand open.
    if not math.isfinite(value):
        raise ValueError(f"limit {value} is not a finite number")
    return float(value)


def _read_toml(path: Path) -> tuple[dict[str, Any], str]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Remedy: name an existing file") from error
    try:
        return tomllib.loads(raw.decode("utf-8")), hashlib.sha256(raw).hexdigest()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML ({error})") from error


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """What one detector's answer is worth.

    Attributes:
        mandatory: without a score the outcome is at least ``on_abstain``.
        reject_at, review_at: names of operating points in thresholds.toml; ``None`` = this check never does that.
        on_abstain: the least severe outcome possible when the detector could not judge.
    """

    mandatory: bool
    reject_at: str | None
    review_at: str | None
    on_abstain: Outcome


@dataclass(frozen=True, slots=True)
class ChallengePolicy:
    """When a submission must have answered an active challenge; as it stands, never.

    Attributes:
        answered_by: checks whose score means that a challenge was answered and judged.
        required_from: check, or ``fusion``, -> name of its operating point from which one is required.
        required_without: checks without whose score one is required.
    """

    answered_by: tuple[str, ...] = ()
    required_from: Mapping[str, str] = field(default_factory=dict)
    required_without: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError or AttributeError where ``table`` is not what [challenge] may be."""
        _demand_known(table, {"answered_by", "required_from", "required_without"}, "key in [challenge]")
        rule = cls(
            answered_by=_names(table.get("answered_by", [])),
            required_from=dict(zip(table.get("required_from", {}), _names(list(table.get("required_from", {}).values())), strict=True)),
            required_without=_names(table.get("required_without", [])),
        )
        if not rule.answered_by and (rule.required_from or rule.required_without):
            raise ValueError("[challenge] requires what no check in answered_by could answer")
        return rule


def _names(values: Any) -> tuple[str, ...]:
    # A lone text is a sequence of letters.
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TypeError(f"{values!r} is no list of names")
    return tuple(values)


@dataclass(frozen=True, slots=True)
class Policy:
    """policy.toml, validated.

    Attributes:
        together_review_at: operating point of the fused presentation-attack score from which a person looks, when at least two
            detectors judged; ``None`` = suspicions below their own review points never add up.
        reasons: the floor a reason sets. quality: the gates detectors use to abstain.
        stop_at_reject: whether detectors that come after one that rejects are left out; no outcome depends on it.
        challenge: when an active challenge is required.
        compare_voices: whether the voice is held against an earlier recording, where one is sent.
        mirrored_clips: whether clips show the person mirrored, so that left and right are the other way round.
        monitor: from where on `kyc_guard.monitor` raises an alarm. cluster: from where on `kyc_guard.cluster` links two
            submissions. No decision depends on these.
    """

    checks: Mapping[str, CheckPolicy]
    together_review_at: str | None
    reasons: Mapping[str, Outcome]
    quality: Mapping[str, float]
    sha256: str
    stop_at_reject: bool = False
    compare_voices: bool = False
    mirrored_clips: bool = False
    monitor: Mapping[str, float] = field(default_factory=dict)
    cluster: Mapping[str, float] = field(default_factory=dict)
    challenge: ChallengePolicy = field(default_factory=ChallengePolicy)

    @classmethod
    def load(cls, path: Path) -> Policy:
        data, sha = _read_toml(path)
        try:
            _demand_known(data, {"checks", "together", "challenge", "judging", "reasons", "quality", "monitor", "cluster"}, "section")
            together, judging = data.get("together", {}), data.get("judging", {})
            _demand_known(together, {"review_at"}, "key in [together]")
            _demand_known(judging, {"stop_at_reject", "compare_voices", "mirrored_clips"}, "key in [judging]")
            for check in data["checks"].values():
                _demand_known(check, {"mandatory", "reject_at", "review_at", "on_abstain"}, "key in [checks.*]")
            _demand_once(code for codes in data["reasons"].values() for code in codes)
            checks = {
                name: CheckPolicy(
                    mandatory=bool(c["mandatory"]),
                    reject_at=c.get("reject_at"),
                    review_at=c.get("review_at"),
                    on_abstain=Outcome(c["on_abstain"]),
                )
                for name, c in data["checks"].items()
            }
            reasons = {code: Outcome(o) for o, codes in data["reasons"].items() for code in codes}
            challenge = ChallengePolicy.of(data.get("challenge", {}))
            quality = {k: _finite(v) for k, v in data["quality"].items()}
            monitor, cluster = ({k: _finite(v) for k, v in data.get(name, {}).items()} for name in ("monitor", "cluster"))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: does not follow the policy schema ({error!r})") from error
        for name, check in checks.items():
            # Fail closed: a mandatory check that may be skipped into accept is a hole, not a policy.
            if check.mandatory and check.on_abstain is Outcome.ACCEPT:
                raise ConfigError(f"{path}: checks.{name} is mandatory but on_abstain = accept")
        for name in (*challenge.answered_by, *(n for n in challenge.required_from if n != "fusion"), *challenge.required_without):
            if name not in checks:
                raise ConfigError(f"{path}: [challenge] names {name}, which is no check. Remedy: correct it")
        if (challenge.required_from or challenge.required_without) and reasons.get("challenge_required") is Outcome.ACCEPT:
            raise ConfigError(f"{path}: [challenge] requires one, and challenge_required is listed under accept")
        if not any(c.mandatory for c in checks.values()):
            raise ConfigError(f"{path}: no check is mandatory; such a policy would accept unjudged submissions")
        return cls(
            checks=checks,
            together_review_at=together.get("review_at"),
            reasons=reasons,
            quality=quality,
            sha256=sha,
            stop_at_reject=bool(judging.get("stop_at_reject", False)),
            compare_voices=bool(judging.get("compare_voices", False)),
            mirrored_clips=bool(judging.get("mirrored_clips", False)),
            monitor=monitor,
            cluster=cluster,
            challenge=challenge,
        )

    def gate(self, name: str) -> float:
        """A quality limit by name; raises ConfigError when policy.toml lacks it."""
        try:
            return self.quality[name]
        except KeyError:
            raise ConfigError(f"policy.toml: [quality] lacks {name}") from None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """thresholds.toml: per detector its operating points and calibration, written only by the calibrate command."""

    tables: Mapping[str, Mapping[str, Any]]
    sha256: str
    path: Path

    @classmethod
    def load(cls, path: Path) -> Thresholds:
        data, sha = _read_toml(path)
        return cls(tables=data, sha256=sha, path=path)

    def point(self, detector: str, name: str) -> float:
        """The score at which operating point ``name`` of ``detector`` lies: judged attack when score >= it."""
        points = self.table(detector).get("points")
        value = points.get(name) if isinstance(points, dict) else None
        if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise ConfigError(f"{self.path}: [{detector}.points] lacks a usable {name}. Remedy: run the calibrate command")
        return float(value)

    def demand_model(self, detector: str, sha256: str, what: str = "net") -> None:
        """Raises ConfigError unless ``detector`` was measured with the model of this hash."""
        if self.table(detector).get("model_sha256") != sha256:
            raise ConfigError(f"{self.path}: [{detector}] was measured with another {what}. Remedy: python -m training.{detector}")

    def table(self, detector: str) -> Mapping[str, Any]:
        """All that was measured for ``detector``; empty when it has no entry."""
        value = self.tables.get(detector, {})
        return value if isinstance(value, dict) else {}
