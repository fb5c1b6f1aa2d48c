"""Was the clip filmed by a camera for this session, or fed in: re-encoded, cut, looped, generated, sent before?

A file proves little of itself: browsers and messengers re-encode honest clips, and a careful forger writes what he likes. So
each finding is a hint with a probability (``[injection.findings]`` of thresholds.toml, expert priors, combined by noisy-or),
and the hints an honest re-encoding leaves stay below the review point even all together. A hardware capture card behind a real
phone leaves none of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from kyc_guard import config, forensics, manifests
from kyc_guard.calibration import noisy_or
from kyc_guard.config import Thresholds
from kyc_guard.detectors.protocol import Bundle, Memory, SeenClips, abstain, missing
from kyc_guard.errors import ConfigError, UnreadableError
from kyc_guard.media import load_media
from kyc_guard.signatures import CaptureKey, split
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Modality, Reason, Signal, UInt8Array

FINDINGS = (
    "injection_library",
    "injection_studio",
    "injection_gop",
    "injection_edits",
    "injection_outside_session",
    "injection_even_times",
    "injection_faulty_times",
    "injection_gap",
    "injection_incomplete",
    "injection_size_changes",
    "injection_repeated_frames",
    "injection_frozen",
    "injection_loop",
    "injection_sound_apart",
    "injection_off_grid_keyframe",
    "injection_splice",
    "injection_no_noise",
    "injection_added_noise",
    "injection_reencoded",
    "injection_device_differs",
    "injection_seen_before",
    "injection_signature_wrong",
    "injection_unsigned",
    "injection_c2pa_invalid",
    "injection_c2pa_unknown_signer",
    "injection_c2pa_no_camera",
)
"""The reasons this detector may give; each needs its probability in thresholds.toml, beside ``prior``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a measure is a finding; ``[injection.limits]`` of thresholds.toml gives each with its grounds."""

    b_run_lengths: float
    keyframe_gap_s: float
    edit_s: float
    session_slack_s: float
    even_error_s: float
    even_tick_s: float
    least_step_s: float
    gap_s: float
    gap_steps: float
    lost_share: float
    same_frame: float
    repeated_share: float
    loop: float
    sound_ends_s: float
    sound_drift: float
    off_grid_keys: float
    cut: float
    noise_bits_per_pixel: float
    no_noise_sigma: float
    added_noise_sigma: float
    added_noise_likeness: float
    former_keyframes: float
    rate_over: float
    same_clip: float


@dataclass(frozen=True, slots=True)
class Injection:
    """P(the clip was not filmed by a camera for this session), from its container, its packets and its frames."""

    limits: Limits
    findings: Mapping[str, float]
    keys: Mapping[str, CaptureKey] = field(default_factory=lambda: MappingProxyType({}))
    """Capture keys by id. Without them a signature is not looked at; with them its absence is a finding."""
    seen: SeenClips | None = None
    c2pa_anchors_pem: str | None = None
    """Authorities whose signers of C2PA manifests are known."""
    reading: config.Limits = field(default_factory=config.Limits)
    name: str = "injection"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.CLIP})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        secrets, anchors = bundle.settings.capture_keys, bundle.settings.c2pa_anchors
        try:
            anchors_pem = None if anchors is None else anchors.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{anchors}: cannot be read ({error}). Remedy: name a PEM file in KYC_GUARD_C2PA_ANCHORS") from error
        return cls(
            limits=Limits(**_numbers(bundle.thresholds, "limits", tuple(f.name for f in fields(Limits)))),
            findings=MappingProxyType(_numbers(bundle.thresholds, "findings", ("prior", *FINDINGS), most=1.0)),
            keys=MappingProxyType({name: CaptureKey.parse(key.get_secret_value()) for name, key in secrets.items()}),
            c2pa_anchors_pem=anchors_pem,
            reading=bundle.settings.limits,
        )

    def remembering(self, memory: Memory) -> Self:
        return replace(self, seen=memory.seen)

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        assert evidence.clip is not None
        clip, facts = evidence.clip, evidence.clip.facts
        if facts.packet_times_s is None:
            return abstain(self, Reason("injection_no_container", f"{facts.format}: only pixels were sent, no file"))
        prints = forensics.frame_prints(clip.frames_rgb)
        measured: dict[str, Any] = {}
        reasons = (
            *_software(facts, measured),
            *_packets(facts, self.limits, measured),
            *_times(facts, self.limits, measured),
            *_frames(clip, prints, self.limits, measured),
            *_session(facts, evidence.submission.challenge, self.limits, measured),
            *_device(clip, evidence.submission.device, self.limits),
            *self._signature(evidence.submission, facts, measured),
            *self._manifest(evidence.submission, facts, measured),
            *self._seen_before(evidence.submission, facts, prints, measured),
        )
        return Signal(
            detector=self.name,
            version=self.version,
            score=noisy_or(self.findings, reasons),
            species="injection",
            reasons=reasons,
            facts=MappingProxyType(measured),
            artefacts=MappingProxyType({} if facts.packet_sizes_bytes is None else {"packet_sizes_bytes": facts.packet_sizes_bytes}),
        )

    def _signature(self, submission: Submission, facts: ContainerFacts, measured: dict[str, Any]) -> Iterator[Reason]:
        text = submission.device.get("signature")
        if text is None or not self.keys:
            measured["signature"] = "absent" if text is None else "not checked: no capture keys are set"
            if self.keys:  # or leaving it out would be the way around it
                yield Reason("injection_unsigned", "capture keys are set and the clip came without a signature")
            return
        nonce = submission.challenge.nonce if submission.challenge is not None else None
        parts = split(str(text))
        key = self.keys.get(parts[0]) if parts else None
        if parts is not None and key is not None and key.verifies(parts[1], nonce=nonce, sha256=facts.sha256):
            measured["signature"] = "valid"
            return
        measured["signature"] = "wrong"
        yield Reason("injection_signature_wrong", "unknown key" if key is None else "not made for this clip and session")

    def _manifest(self, submission: Submission, facts: ContainerFacts, measured: dict[str, Any]) -> Iterator[Reason]:
        """A manifest by a known signer is a fact for the reviewer and takes no suspicion away: cameras sign what they are shown."""
        sent = submission.selfie
        if not facts.has_c2pa or not isinstance(sent, Path | bytes) or not manifests.installed():
            measured["c2pa"] = "present, not verified: install kyc-guard[c2pa]" if facts.has_c2pa else "absent"
            return
        data = load_media(sent, self.reading, submission.id)
        if hashlib.sha256(data).hexdigest() != facts.sha256:
            raise UnreadableError(submission.id, "changed while it was being judged", "send it again")
        manifest = manifests.read_manifest(data, self.c2pa_anchors_pem)
        measured["c2pa"] = f"{manifest.standing}: {manifest.detail}"
        if manifest.standing is not manifests.Standing.TRUSTED:
            yield Reason(f"injection_c2pa_{manifest.standing}", manifest.detail)
        if manifest.no_camera is not None:
            yield Reason("injection_c2pa_no_camera", f"the file says of itself that it is {manifest.no_camera}")

    def _seen_before(self, submission: Submission, facts: ContainerFacts, prints: UInt8Array, measured: dict[str, Any]) -> Iterator[Reason]:
        if self.seen is None:
            return
        earlier = self.seen.find(facts.sha256, prints, submission=submission.id, nearest=self.limits.same_clip)
        measured["seen_before"] = earlier
        if earlier is not None:
            yield Reason("injection_seen_before", f"this clip, or a copy of it, came with submission {earlier}")


def _software(facts: ContainerFacts, measured: dict[str, Any]) -> Iterator[Reason]:
    libraries, studios = forensics.software_names(facts)
    measured["software"] = [*libraries, *studios]
    if libraries:
        yield Reason("injection_library", f"written by {libraries[0]}: no camera, but many honest apps")
    if studios:
        yield Reason("injection_studio", f"written by {studios[0]}")


def _packets(facts: ContainerFacts, limits: Limits, measured: dict[str, Any]) -> Iterator[Reason]:
    runs = forensics.b_runs(facts.decode_order) if facts.decode_order is not None else ()
    keys_s = facts.keyframe_times_s if facts.keyframe_times_s is not None else np.empty(0)
    edges_s = np.concatenate([keys_s, facts.packet_times_s[-1:]]) if facts.packet_times_s is not None else keys_s
    gap_s = float(np.diff(edges_s).max(initial=0.0))
    measured |= {"b_run_lengths": sorted(set(runs)), "keyframe_gap_s": round(gap_s, 3)}
    if len(set(runs)) >= limits.b_run_lengths:
        yield Reason("injection_gop", f"runs of B-frames of {len(set(runs))} lengths: chosen by software, frame by frame")
    elif gap_s > limits.keyframe_gap_s:
        yield Reason("injection_gop", f"{gap_s:.1f} s without a keyframe; cameras write one every second or three")
    strange = forensics.off_grid_keys(forensics.key_positions(facts))
    if strange >= limits.off_grid_keys:
        yield Reason("injection_off_grid_keyframe", f"{strange} keyframes break a regular interval, as at a cut")
    if len([e for e in facts.edits if e.media_time_s is not None]) > 1:
        yield Reason("injection_edits", f"an edit list of {len(facts.edits)} parts")
    elif any((e.duration_s if e.media_time_s is None else e.media_time_s) > limits.edit_s or e.rate != 1.0 for e in facts.edits):
        yield Reason("injection_edits", "an edit list that cuts, delays or slows the picture")
    if (loop := forensics.size_loop(facts)) is not None:
        measured["loop"] = {"frames": loop.period, "correlation": round(loop.correlation, 3), "contrast": round(loop.contrast, 3)}
        if loop.correlation + loop.contrast >= limits.loop:
            yield Reason("injection_loop", f"the cost of frames repeats every {loop.period} frames (correlation {loop.correlation:.2f})")
    if (former := forensics.former_keyframes(facts)) is not None:
        measured["former_keyframes"] = {"period": former.period, "strength": round(former.strength, 2)}
        if former.strength >= limits.former_keyframes:
            yield Reason("injection_reencoded", f"every {former.period} frames one costs more, as where an earlier encoder had keyframes")


def _times(facts: ContainerFacts, limits: Limits, measured: dict[str, Any]) -> Iterator[Reason]:
    assert facts.packet_times_s is not None
    times_s = facts.packet_times_s
    error_s, tick_s = forensics.grid_error_s(times_s), forensics.tick_s(facts)
    measured["grid_error_ms"] = None if error_s is None else round(1000 * error_s, 4)
    # Jitter is rounded away by half a tick. Where ticks are coarse that would forgive what cameras show in them: steps of unlike length.
    rounding_s = 0.5 * tick_s if tick_s <= limits.even_tick_s else 0.0
    if error_s is not None and error_s <= max(limits.even_error_s, rounding_s):
        yield Reason("injection_even_times", f"frame times lie on a clock to {1e6 * error_s:.0f} us; cameras jitter")
    if faulty := forensics.faulty_times(times_s, limits.least_step_s):
        yield Reason("injection_faulty_times", f"{faulty} of {len(times_s)} frame times are missing, double or too close for a camera")
    gap_s, steps = forensics.longest_gap(times_s)
    measured["longest_gap_s"] = round(gap_s, 4)
    if gap_s > limits.gap_s and steps > limits.gap_steps:
        yield Reason("injection_gap", f"{gap_s:.2f} s without a frame ({steps:.0f} usual steps)")
    lost, damaged, other = (forensics.found(facts, what) for what in ("missing_frames", "undecodable_packets", "frames_of_other_size"))
    measured |= {"missing_frames": lost, "undecodable_packets": damaged, "frames_of_other_size": other}
    if lost + damaged > limits.lost_share * (len(times_s) + lost):
        yield Reason("injection_incomplete", f"{lost + damaged} of the {len(times_s) + lost} announced frames are missing or damaged")
    if other:
        yield Reason("injection_size_changes", f"{other} of the frames looked at have another size than most")
    if (drift := forensics.sound_drift(facts)) is not None:
        measured["sound"] = {"ends_apart_s": round(drift[0], 3), "drift": round(drift[1], 4)}
        if drift[0] > limits.sound_ends_s or abs(drift[1]) > limits.sound_drift:
            yield Reason("injection_sound_apart", f"sound and picture end {drift[0]:.2f} s apart, clocks differ by {100 * drift[1]:.1f} %")


def _frames(clip: Clip, prints: UInt8Array, limits: Limits, measured: dict[str, Any]) -> Iterator[Reason]:
    luma = forensics.luma_of(clip.burst_rgb)
    differences = forensics.neighbour_differences(luma)
    if len(differences) >= 2:
        repeated = float(forensics.repeats(differences, limits.same_frame).mean())
        measured["repeated_share"] = round(repeated, 3)
        if (differences <= limits.same_frame).all():
            yield Reason("injection_frozen", f"{len(differences) + 1} frames are one picture")
        elif repeated >= limits.repeated_share:
            yield Reason("injection_repeated_frames", f"{100 * repeated:.0f} % of frames repeat the one before")
    bits = forensics.bits_per_pixel(clip.facts)
    measured["bits_per_pixel"] = None if bits is None else round(bits, 4)
    # Below that rate any encoder wipes noise out, and its absence says nothing.
    noise = forensics.temporal_noise(luma) if bits is not None and bits >= limits.noise_bits_per_pixel else None
    if noise is not None:
        measured["noise"] = {"sigma": round(noise.sigma, 3), "likeness": round(noise.likeness, 3)}
        if noise.sigma < limits.no_noise_sigma:
            yield Reason("injection_no_noise", f"noise {noise.sigma:.2f} of 255 at {bits:.2f} bits a pixel; sensors have more")
        elif noise.sigma >= limits.added_noise_sigma and noise.likeness < limits.added_noise_likeness:
            yield Reason("injection_added_noise", f"neighbouring pixels' noise is unrelated ({noise.likeness:.2f}), as if added")
    cut, contrast = forensics.cut_contrast(prints)
    measured["cut"] = round(contrast, 3)
    if contrast >= limits.cut:
        yield Reason("injection_splice", f"another scene from {clip.timestamps_s[cut]:.1f} s on")


def _session(facts: ContainerFacts, challenge: Challenge | None, limits: Limits, measured: dict[str, Any]) -> Iterator[Reason]:
    created = forensics.created_at(facts)
    measured["created_at"] = None if created is None else created.isoformat()
    if created is None or challenge is None:
        return
    slack = timedelta(seconds=limits.session_slack_s)
    issued, expires = _moment(challenge.issued_at), _moment(challenge.expires_at)
    if issued is not None and created < issued - slack:
        yield Reason("injection_outside_session", f"the file says it was made {issued - created} before the session began")
    elif expires is not None and created > expires + slack:
        yield Reason("injection_outside_session", f"the file says it was made {created - expires} after the session ended")


def _device(clip: Clip, device: Mapping[str, Any], limits: Limits) -> Iterator[Reason]:
    """Declared camera against the file; an applicant without a declaration is not suspected."""
    height, width = clip.frames_rgb.shape[1:3]
    declared = [n for n in (device.get("width_px"), device.get("height_px")) if isinstance(n, int | float)]
    if len(declared) == 2 and sorted(declared) != sorted([width, height]):
        yield Reason("injection_device_differs", f"{width}x{height} pixels, the client declared {declared[0]}x{declared[1]}")
    rate_hz, declared_hz = forensics.frame_rate_hz(clip.facts), device.get("fps")
    # A camera slows down in the dark, so only a faster clip than declared is strange.
    if isinstance(declared_hz, int | float) and declared_hz > 0 and rate_hz is not None and rate_hz > declared_hz * (1 + limits.rate_over):
        yield Reason("injection_device_differs", f"{rate_hz:.1f} frames a second, the client declared {declared_hz:g}")
    for key, names in forensics.DEVICE_TAGS.items():
        found = next((clip.facts.tags[n] for n in names if n in clip.facts.tags), None)
        said = device.get(key)
        if (
            found is not None
            and isinstance(said, str)
            and said.casefold() not in found.casefold()
            and found.casefold() not in said.casefold()
        ):
            yield Reason("injection_device_differs", f"the file names {key} {found}, the client declared {said}")


def _moment(text: str | None) -> datetime | None:
    """An ISO 8601 time, UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _numbers(thresholds: Thresholds, section: str, names: tuple[str, ...], most: float = math.inf) -> dict[str, float]:
    table = thresholds.table("injection").get(section, {})
    values = {name: table.get(name) for name in names}
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0.0 <= value <= most:
            raise ConfigError(
                f"{thresholds.path}: [injection.{section}] lacks a usable {name}. "
                "Remedy: python -m training.thresholds training/configs/injection.toml"
            )
    return {name: float(value) for name, value in values.items() if value is not None}
