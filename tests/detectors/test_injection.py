"""The injection check: every finding on a clip made to show it, and on a genuine counterpart that does not."""

from __future__ import annotations

import base64
import dataclasses
import io
import tomllib
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import pytest
from makers import ONE, changing_size, clip, patched, with_header_first
from test_forensics import encoded, scene, with_edits

from kyc_guard import forensics
from kyc_guard.config import Limits, Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors.injection import FINDINGS, Injection, SeenClips
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError
from kyc_guard.media import read_clip
from kyc_guard.signatures import CaptureKey, sign
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Evidence, Float64Array, Outcome, Signal, UInt8Array

SHIPPED = Settings()
THRESHOLDS = Thresholds.load(SHIPPED.weights_dir / "thresholds.toml")
PRIORS = Path(__file__).parents[2] / "training" / "configs" / "injection.toml"
REVIEW, REJECT = THRESHOLDS.point("injection", "review"), THRESHOLDS.point("injection", "reject")
SEED = base64.b64encode(bytes(range(32))).decode()


def load(settings: Settings = SHIPPED, thresholds: Thresholds = THRESHOLDS) -> Injection:
    return Injection.load(Bundle(settings, Policy.load(settings.policy_path), thresholds, weights=None))  # type: ignore[arg-type]


DETECTOR = load()


def judge(data: bytes | UInt8Array, detector: Injection = DETECTOR, **submission: Any) -> Signal:
    sent = Submission(id="a1", selfie=data, **submission)
    return detector(Evidence(submission=sent, clip=read_clip(data, Sampling(), Limits())))


def codes(signal: Signal) -> set[str]:
    return {r.code for r in signal.reasons}


def jittered(frames: int, seed: int = 0) -> list[int]:
    """Frame times in ms as a webcam gives them."""
    steps = np.random.default_rng(seed).normal(33.3, 3.0, frames).clip(20, 50)
    return [int(t) for t in np.cumsum(steps)]


def camera(frames: UInt8Array, seed: int = 0, **options: str) -> bytes:
    """What a browser's recorder sends: VP8 in WebM, jittered times, a keyframe every second or so."""
    return encoded(frames, "libvpx", "webm", jittered(len(frames), seed), **{"g": "30", "deadline": "realtime", "b": "1500k", **options})


GENUINE = camera(scene(100))
HINTS = {"injection_library"}
"""What every file made here has, because PyAV writes it: the counterpart of nothing."""


def replaced(mp4: bytes, kind: bytes, offset: int, layout: str, *values: int) -> bytes:
    return patched(mp4, kind, offset, layout, *values)


def tagged(data: bytes, **tags: str) -> bytes:
    """The same packets with other tags."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as sink:
        sink.metadata.update(tags)
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    return out.getvalue()


def joined(*parts: bytes) -> bytes:
    """Packets of H.264 clips one after the other, as `ffmpeg -f concat -c copy` does."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as sink:
        at = 0
        stream: Any = None
        for part in parts:
            with av.open(io.BytesIO(part)) as source:
                video = source.streams.video[0]
                stream = stream or sink.add_stream_from_template(video)
                packets = [p for p in source.demux(video) if p.dts is not None]
                step = packets[1].dts - packets[0].dts
                first = packets[0].dts
                for packet in packets:
                    packet.pts, packet.dts = packet.pts - first + at, packet.dts - first + at
                    packet.stream = stream
                    sink.mux(packet)
                at += len(packets) * step
    return out.getvalue()


def cut(mp4: bytes) -> bytes:
    """An upload that broke off after nine tenths."""
    data = with_header_first(mp4)
    return data[: len(data) * 9 // 10]


def without_noise(frames: int) -> UInt8Array:
    """A fine pattern slides over a drawn ground: worth many bits, but nothing trembles where nothing moves."""
    pattern = np.random.default_rng(0).integers(0, 255, (60, 96, 1), np.uint8)
    drawn = np.repeat(scene(1, noise=0), frames, axis=0)
    for t in range(frames):
        drawn[t, :60] = np.roll(pattern, 3 * t, axis=1)
    return drawn


def with_white_noise(frames: int) -> UInt8Array:
    clean = scene(frames, noise=0).astype(np.float64)
    white = np.random.default_rng(1).normal(0, 4, (*clean.shape[:3], 1))
    return (clean + white).clip(0, 255).astype(np.uint8)


def twice(frames: UInt8Array) -> bytes:
    """MPEG-4 with a keyframe every 12 frames, then H.264 without B-frames."""
    first = read_clip(encoded(frames, "mpeg4", g="12", b="400k"), Sampling(frames=256, burst_frames=512), Limits())
    return encoded(first.burst_rgb, **ONE_GROUP)


def ticking(frames: UInt8Array, ticks_per_s: int, times_s: Float64Array) -> bytes:
    """H.264 in an MP4 whose clock ticks so often a second; times are rounded to it."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"video_track_timescale": str(ticks_per_s)}) as sink:
        stream = sink.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        stream.codec_context.time_base = Fraction(1, ticks_per_s)
        for pixels, time_s in zip(frames, times_s, strict=True):
            frame: Any = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * ticks_per_s), Fraction(1, ticks_per_s)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return out.getvalue()


SOUNDING = clip("matroska", tone_s=2.0)
EVEN_S = np.arange(60) / 30
SHAKY_S = np.array(jittered(60)) / 1000
DROPPED_S = EVEN_S + (np.arange(60) > 20) / 30
"""A frame is missing: what jitter is left of where a clock has one tick a frame."""
CROWDED_S = np.sort(np.concatenate([EVEN_S[:55], 1 + 1e-4 * np.arange(1, 6)]))


def retimed_sound(mkv: bytes, share: float) -> bytes:
    """The sound's clock slowed by ``share``, its packets cut so that it ends with the picture; MP4 would stretch their lengths too."""
    out = io.BytesIO()
    with av.open(io.BytesIO(mkv)) as source, av.open(out, "w", format="matroska") as sink:
        streams = {s.index: sink.add_stream_from_template(s) for s in (source.streams.video[0], source.streams.audio[0])}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                packet.pts = packet.dts = round(packet.pts * (1 + share))
                if packet.pts * packet.time_base > 2.0:
                    continue
            packet.stream = streams[packet.stream.index]
            sink.mux(packet)
    return out.getvalue()


ONE_GROUP = {"bf": "0", "g": "250", "sc_threshold": "0", "crf": "18", "mbtree": "0"}  # with its tree x264 is not the same every time
NEAR_LOSSLESS = {"crf": "4", "bf": "0", "g": "30", "preset": "ultrafast"}
STABLE = {"x264-params": "threads=1:lookahead-threads=1"}
"""With more, x264 gives other bytes once in a dozen times."""
CASES: Mapping[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "injection_studio": (
        lambda: clip(tags={"comment": "OBS Studio 30.1"}),
        lambda: tagged(encoded(scene(20)), **{"com.apple.quicktime.software": "17.4.1"}),
    ),
    "injection_gop": (lambda: encoded(scene(190), bf="0", g="250"), lambda: encoded(scene(190), bf="0", g="30", sc_threshold="0")),
    "injection_edits": (
        lambda: replaced(encoded(scene(60)), b"elst", 12, ">i", 20_000),
        lambda: encoded(scene(60)),
    ),
    "injection_even_times": (lambda: encoded(scene(60)), lambda: GENUINE),
    "injection_faulty_times": (
        lambda: encoded(scene(60), "libvpx", "webm", [i // 2 * 66 for i in range(60)]),
        lambda: GENUINE,
    ),
    "injection_size_changes": (
        lambda: changing_size((128, 96), (64, 48), (30, 30)),
        lambda: changing_size((128, 96), (128, 96), (30, 30)),
    ),
    "injection_incomplete": (lambda: cut(encoded(scene(60))), lambda: with_header_first(encoded(scene(60)))),
    "injection_gap": (
        lambda: encoded(scene(60), "libvpx", "webm", [t + 900 * (t > 1000) for t in jittered(60)]),
        lambda: GENUINE,
    ),
    "injection_repeated_frames": (lambda: camera(np.repeat(scene(50), 2, axis=0)), lambda: GENUINE),
    "injection_frozen": (lambda: encoded(np.repeat(scene(1), 60, axis=0)), lambda: GENUINE),
    "injection_loop": (
        lambda: encoded(np.concatenate([scene(45, 4)] * 3), bf="0", **STABLE),
        lambda: encoded(scene(135, 4), bf="0", **STABLE),
    ),
    "injection_sound_apart": (lambda: clip(tone_s=6.0), lambda: clip(tone_s=2.0)),
    "injection_off_grid_keyframe": (
        lambda: joined(*(encoded(scene(n, 1), bf="0", g="15", sc_threshold="0") for n in (50, 60))),
        lambda: encoded(scene(110, 1), bf="0", g="15", sc_threshold="0"),
    ),
    "injection_splice": (lambda: camera(np.concatenate([scene(50, 7), scene(50, 8)])), lambda: GENUINE),
    "injection_no_noise": (
        lambda: encoded(without_noise(60), **NEAR_LOSSLESS),
        lambda: encoded(scene(60), **NEAR_LOSSLESS),
    ),
    "injection_added_noise": (
        lambda: encoded(with_white_noise(60), **NEAR_LOSSLESS),
        lambda: encoded(scene(60, noise=4.0), **NEAR_LOSSLESS),
    ),
    "injection_reencoded": (lambda: twice(scene(200, 3)), lambda: encoded(scene(200, 3), **ONE_GROUP)),
}


@pytest.mark.parametrize("code", CASES)
def test_a_clip_made_to_show_it_is_found_and_a_genuine_one_is_not(code: str) -> None:
    made, genuine = CASES[code]
    assert code in codes(judge(made()))
    assert code not in codes(judge(genuine()))


@pytest.mark.parametrize(
    ("code", "made", "genuine"),
    [
        ("injection_even_times", lambda: ticking(scene(60), 600, EVEN_S), lambda: ticking(scene(60), 600, SHAKY_S)),
        ("injection_even_times", lambda: ticking(scene(60), 30, EVEN_S), lambda: ticking(scene(60), 30, DROPPED_S)),
        ("injection_even_times", lambda: ticking(scene(60), 90_000, EVEN_S), lambda: ticking(scene(60), 90_000, SHAKY_S)),
        ("injection_faulty_times", lambda: ticking(scene(60), 90_000, CROWDED_S), lambda: ticking(scene(60), 90_000, SHAKY_S)),
        (
            "injection_edits",
            lambda: with_edits(encoded(scene(60)), (900, 0, ONE), (1000, 15_360, ONE)),
            lambda: with_edits(encoded(scene(60)), (2000, 1024, ONE)),
        ),
        ("injection_edits", lambda: with_edits(encoded(scene(60)), (2000, 0, ONE // 2)), lambda: encoded(scene(60))),
        (
            "injection_sound_apart",
            lambda: retimed_sound(SOUNDING, 0.06),
            lambda: retimed_sound(SOUNDING, 0.0),
        ),
    ],
    ids=["even-600", "even-30", "even-90000", "crowded", "many-edits", "half-speed", "drift"],
)
def test_other_ways_to_show_it_are_found_and_their_genuine_counterparts_are_not(
    code: str, made: Callable[[], bytes], genuine: Callable[[], bytes]
) -> None:
    assert code in codes(judge(made()))
    assert code not in codes(judge(genuine()))


def test_sound_whose_clock_differs_is_found_though_it_ends_with_the_picture() -> None:
    sound = judge(retimed_sound(SOUNDING, 0.06)).facts["sound"]
    assert sound["ends_apart_s"] < DETECTOR.limits.sound_ends_s
    assert sound["drift"] == pytest.approx(0.06, abs=0.02)


def test_a_browsers_recording_has_no_finding_but_the_library_that_wrote_it() -> None:
    signal = judge(GENUINE)
    assert codes(signal) == HINTS
    assert signal.score is not None
    assert signal.score < REVIEW / 2


def test_a_library_is_named_and_a_file_that_names_none_is_not() -> None:
    assert "injection_library" in codes(judge(encoded(scene(20))))
    nameless = encoded(scene(20), "mpeg4").replace(b"Lavf", b"    ").replace(b"Lavc", b"    ")
    assert "injection_library" not in codes(judge(nameless))


@pytest.mark.parametrize(
    ("created", "found"),
    [
        ("2026-03-01T10:02:00Z", False),
        ("2026-03-01T09:58:00Z", False),
        ("2026-02-28T10:02:00Z", True),
        ("2026-03-01T12:30:00Z", True),
        ("1970-01-01T00:00:00Z", False),
        (None, False),
    ],
)
def test_a_clip_made_outside_its_session_is_noticed(created: str | None, found: bool) -> None:
    data = tagged(encoded(scene(20)), **({"creation_time": created} if created else {}))
    session = Challenge(issued_at="2026-03-01T10:00:00Z", expires_at="2026-03-01T10:05:00+00:00")
    assert ("injection_outside_session" in codes(judge(data, challenge=session))) is found
    assert "injection_outside_session" not in codes(judge(data))


@pytest.mark.parametrize(
    ("device", "found"),
    [
        ({"width_px": 96, "height_px": 96, "fps": 30}, False),
        ({"width_px": 640, "height_px": 480}, True),
        ({"fps": 60}, False),
        ({"fps": 15}, True),
        ({"width_px": "wide", "fps": None, "model": 7}, False),
        ({"model": "Pixel 8"}, True),
        ({"model": "iphone 15"}, False),
        ({}, False),
    ],
)
def test_a_clip_from_another_device_than_declared_is_noticed(device: dict[str, Any], found: bool) -> None:
    data = tagged(encoded(scene(20)), **{"com.apple.quicktime.model": "iPhone 15 Pro"})
    assert ("injection_device_differs" in codes(judge(data, device=device))) is found


class Earlier:
    """One earlier clip."""

    def __init__(self, data: bytes) -> None:
        read = read_clip(data, Sampling(), Limits())
        self.sha256, self.prints = read.facts.sha256, forensics.frame_prints(read.frames_rgb)

    def find(self, sha256: str, prints: UInt8Array, *, submission: str, nearest: float) -> str | None:
        return "s0" if sha256 == self.sha256 or forensics.clip_distance(prints, self.prints) < nearest else None


@pytest.mark.parametrize(
    ("make", "found"),
    [(lambda: GENUINE, True), (lambda: encoded(scene(100)[:, ::2, ::2], crf="30"), True), (lambda: camera(scene(100, 9)), False)],
)
def test_a_clip_sent_before_or_a_copy_of_it_is_found(make: Callable[[], bytes], found: bool) -> None:
    memory: SeenClips = Earlier(GENUINE)
    signal = judge(make(), dataclasses.replace(DETECTOR, seen=memory))
    assert ("injection_seen_before" in codes(signal)) is found
    assert not found or (signal.score is not None and signal.score >= REJECT)


@pytest.mark.parametrize("kind", ["ed25519", "hmac-sha256"])
def test_a_signature_fits_one_clip_in_one_session(kind: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    keys = {"ed25519": base64.b64encode(public).decode(), "hmac-sha256": SEED}
    detector = load(Settings(capture_keys={"app1": f"{kind}:{keys[kind]}"}))  # type: ignore[dict-item]
    sha256 = read_clip(GENUINE, Sampling(), Limits()).facts.sha256
    signature = sign(f"{kind}:{SEED}", "app1", nonce="n1", sha256=sha256)
    good = judge(GENUINE, detector, device={"signature": signature}, challenge=Challenge(nonce="n1"))
    assert codes(good) == HINTS
    assert good.facts["signature"] == "valid"
    for bad in (
        judge(GENUINE, detector, device={"signature": signature}, challenge=Challenge(nonce="n2")),
        judge(camera(scene(30)), detector, device={"signature": signature}, challenge=Challenge(nonce="n1")),
        judge(GENUINE, detector, device={"signature": signature.replace("app1", "app2")}, challenge=Challenge(nonce="n1")),
        judge(GENUINE, detector, device={"signature": "rubbish"}, challenge=Challenge(nonce="n1")),
    ):
        assert "injection_signature_wrong" in codes(bad)
    assert judge(GENUINE, device={"signature": signature}).facts["signature"].startswith("not checked")


def test_a_clip_without_a_signature_is_noticed_where_keys_are_set_and_goes_to_a_person() -> None:
    detector = load(Settings(capture_keys={"app1": f"hmac-sha256:{SEED}"}))  # type: ignore[dict-item]
    unsigned, usual = judge(GENUINE, detector), judge(GENUINE)
    assert codes(unsigned) - codes(usual) == {"injection_unsigned"}
    assert (unsigned.facts["signature"], usual.facts["signature"]) == ("absent", "absent")
    assert Policy.load(SHIPPED.policy_path).reasons["injection_unsigned"] is Outcome.REVIEW
    assert codes(judge(GENUINE, detector, device={"signature": ""})) - codes(usual) == {"injection_signature_wrong"}


@pytest.mark.parametrize("text", ["", "rsa:AAAA", "ed25519:AAAA", "ed25519:!!", "hmac-sha256:AAAA", SEED])
def test_a_key_of_another_kind_or_length_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="capture key"):
        CaptureKey.parse(text)


def test_pixels_without_a_file_and_stills_are_not_judged() -> None:
    array = judge(scene(30))
    still = judge(scene(1)[0])
    assert (array.score, codes(array)) == (None, {"injection_no_container"})
    assert (still.score, codes(still)) == (None, {"no_clip"})


def test_all_hints_of_an_honest_re_encoding_together_stay_below_review() -> None:
    hints = {"injection_library", "injection_gop", "injection_even_times", "injection_reencoded", "injection_edits"}
    clean = np.prod([1 - DETECTOR.findings[code] for code in hints | {"prior"}])
    assert 1 - clean < REVIEW


def test_two_strong_findings_reach_reject() -> None:
    old = tagged(encoded(np.repeat(scene(1), 60, axis=0)), comment="OBS", creation_time="2020-01-01T00:00:00Z")
    signal = judge(old, challenge=Challenge(issued_at="2026-03-01T10:00:00Z"))
    assert signal.score is not None
    assert signal.score >= REJECT


@pytest.mark.parametrize("section", ["limits", "findings"])
@pytest.mark.parametrize("change", [None, "text", -1.0, float("nan")])
def test_a_missing_or_unusable_number_stops_the_program(section: str, change: Any) -> None:
    table = {k: dict(v) if isinstance(v, dict) else v for k, v in THRESHOLDS.table("injection").items()}
    table[section][next(iter(table[section]))] = change
    broken = dataclasses.replace(THRESHOLDS, tables=MappingProxyType({"injection": table}))
    with pytest.raises(ConfigError, match=section):
        load(thresholds=broken)


def test_shipped_numbers_are_those_of_the_file_that_explains_them() -> None:
    assert THRESHOLDS.table("injection") == tomllib.loads(PRIORS.read_text(encoding="utf-8"))["injection"]
    assert set(THRESHOLDS.table("injection")["findings"]) == {"prior", *FINDINGS}


def test_the_same_clip_gives_the_same_signal() -> None:
    assert judge(GENUINE).to_json() == judge(GENUINE).to_json()


def test_a_cut_file_is_judged_by_what_is_left_and_says_so() -> None:
    whole, torn = judge(with_header_first(encoded(scene(60)))), judge(cut(encoded(scene(60))))
    assert whole.facts["missing_frames"] == 0
    assert 0 < torn.facts["missing_frames"] < 60
    assert codes(torn) - codes(whole) == {"injection_incomplete"}
    assert whole.score is not None
    assert torn.score is not None
    assert whole.score < torn.score < REVIEW, "uploads break off: no reason to show a person"
    assert judge(camera(scene(60))[:-2000]).score is not None


@pytest.mark.shared
def test_real_clips_stay_below_review_but_for_a_screen_recording(shared_data: Path) -> None:
    clips = sorted((shared_data / "clips" / "deepfacelive_pairs" / "real").glob("*.mp4"))[::6]
    clips += [shared_data / "clips" / "pyfeat" / "face_noface.mov", shared_data / "clips" / "apfol_replay" / "videos" / "real2.webm"]
    recorded = shared_data / "clips" / "retalking_real" / "clips" / "real" / "1.mp4"
    scores = [judge(path.read_bytes()).score for path in clips]
    assert all(score is not None and score < REVIEW for score in scores)
    assert "injection_studio" in codes(judge(recorded.read_bytes()))
