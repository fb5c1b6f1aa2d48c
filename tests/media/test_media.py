"""Reading pictures, clips and sound: what is decoded, what is refused, what is recorded."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError, LimitError, UnreadableError
from kyc_guard.media import AUDIO_RATE_HZ, media_name, media_sha256, read_audio, read_clip, read_image
from kyc_guard.media.container import _filled
from kyc_guard.media.sampling import SamplingPlan
from kyc_guard.types import UInt8Array

LIMITS = Limits()
SAMPLING = Sampling(frames=6, burst_frames=8)
EVERYTHING = Sampling(frames=256, burst_frames=0)
MP4 = makers.clip(tone_s=2.0)

# container, codec, encoder options: closed and open groups, B-frames, frames never shown, keyframes only
CLIPS: list[tuple[str, str, dict[str, str]]] = [
    ("mp4", "libx264", {"g": "20"}),
    ("mp4", "libx264", {"g": "10", "x264-params": "open-gop=1:bframes=3:scenecut=0"}),
    ("mov", "libx265", {"x265-params": "log-level=none:keyint=20:open-gop=1"}),
    ("mp4", "mpeg4", {"g": "12", "bf": "2"}),
    ("matroska", "libx264", {"g": "250"}),
    ("webm", "libvpx", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
    ("webm", "libvpx-vp9", {"g": "25", "cpu-used": "8", "lag-in-frames": "12"}),
    ("mpeg", "mpeg1video", {"g": "12", "bf": "2"}),
    ("mpeg", "mpeg2video", {"g": "12", "bf": "2"}),
    ("avi", "mpeg4", {"g": "12", "bf": "2"}),
    ("avi", "libx264", {"g": "20", "bf": "0"}),
    ("avi", "mjpeg", {}),
]


# ---------------------------------------------------------------------------------------------- sampling plan


@given(
    steps_s=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 10.0)), min_size=1, max_size=120),
    keys=st.lists(st.booleans(), min_size=120, max_size=120),
    frames=st.integers(1, 30),
    burst=st.integers(0, 30),
)
def test_a_plan_names_distinct_frames_of_the_clip_in_order(steps_s: list[float], keys: list[bool], frames: int, burst: int) -> None:
    times_s = np.cumsum(steps_s)
    plan = SamplingPlan.of(times_s, np.array(keys[: len(times_s)]), Sampling(frames=frames, burst_frames=burst))

    assert list(plan.spread) == sorted(set(plan.spread))
    assert len(plan.spread) == min(frames, len(times_s))
    assert len(plan.burst) == (min(burst, len(times_s)) if len(times_s) > 1 else 0)
    assert set(plan.wanted) == {*plan.spread, *plan.burst} <= set(range(len(times_s)))


def test_a_plan_takes_one_frame_from_each_stretch_and_prefers_its_keyframe() -> None:
    times_s = np.arange(100) / 10
    is_key = np.isin(np.arange(100), [0, 31, 99])

    plan = SamplingPlan.of(times_s, is_key, Sampling(frames=5, burst_frames=4))

    assert [i // 20 for i in plan.spread] == [0, 1, 2, 3, 4]
    assert plan.spread[0] == 0
    assert plan.spread[1] == 31
    assert plan.spread[4] == 99
    assert plan.burst == range(48, 52)


def test_a_plan_follows_time_where_the_frame_rate_varies() -> None:
    times_s = np.concatenate([np.arange(60) / 60, 1 + np.arange(30) / 3])  # a burst of 60 Hz, then 3 Hz

    plan = SamplingPlan.of(times_s, np.zeros(90, bool), Sampling(frames=11, burst_frames=0))

    assert np.allclose(np.diff(times_s[list(plan.spread)]), 1.0, atol=0.35)


# --------------------------------------------------------------------------------------------------- clips


@pytest.mark.parametrize(("container", "codec", "options"), CLIPS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_sampled_frames_are_the_frames_a_full_decode_gives(container: str, codec: str, options: dict[str, str]) -> None:
    data = makers.clip(container, codec, options=options)
    whole = read_clip(data, EVERYTHING, LIMITS)
    sampled = read_clip(data, SAMPLING, LIMITS)

    assert makers.numbers(whole.frames_rgb) == list(range(50))
    spread, burst = makers.numbers(sampled.frames_rgb), makers.numbers(sampled.burst_rgb)
    assert len(spread) == 6
    assert spread == sorted(set(spread))
    assert burst == list(range(burst[0], burst[0] + 8))
    assert 15 < burst[0] < 27
    for shown, frame in zip(spread + burst, [*sampled.frames_rgb, *sampled.burst_rgb], strict=True):
        assert np.array_equal(frame, whole.frames_rgb[shown]), f"frame {shown} decodes differently when sampled"
    # AVI counts decoding times, one frame late where frames are reordered.
    late_s = np.concatenate([sampled.timestamps_s, sampled.burst_timestamps_s]) - np.array(spread + burst) / makers.RATE_HZ
    assert np.ptp(late_s) < 1e-3
    assert abs(late_s[0]) < 2 / makers.RATE_HZ
    assert not sampled.is_still


def test_h264_in_avi_keeps_the_order_of_the_decoder_though_the_container_shuffles_times() -> None:
    clip = read_clip(makers.clip("avi", "libx264", options={"bf": "3"}), SAMPLING, LIMITS)

    shown = makers.numbers(clip.burst_rgb)
    assert shown == sorted(set(shown))
    assert (np.diff(clip.burst_timestamps_s) > 0).all()


@pytest.mark.parametrize("options", [{"g": "10"}, {"g": "250"}], ids=["many-keyframes", "one-keyframe"])
def test_a_variable_frame_rate_keeps_its_times(options: dict[str, str]) -> None:
    times_ms = [0, 30, 70, 300, 310, 320, 900, 1000, 1500, 1533, 1566, 1600, 1700, 2500, 2510, 2520, 2530, 2540, 2550, 4000]
    clip = read_clip(makers.clip("mp4", frames=20, times_ms=times_ms, options=options), EVERYTHING, LIMITS)

    assert makers.numbers(clip.frames_rgb) == list(range(20))
    assert np.allclose(clip.timestamps_s, np.array(times_ms) / 1000, atol=1e-3)


def test_frames_with_equal_times_are_spread_by_number() -> None:
    data = makers.patched(makers.clip(options={"bf": "0"}), b"stts", 12, ">I", 0)
    clip = read_clip(data, SAMPLING, LIMITS)

    shown = makers.numbers(clip.frames_rgb)
    assert [i * 6 // 50 for i in shown] == [0, 1, 2, 3, 4, 5]
    assert (np.diff(clip.timestamps_s) >= 0).all()


@pytest.mark.parametrize(
    ("times_s", "decode_times_s", "expected"),
    [
        ([0.0, np.nan, 0.2], [0.0, 0.1, 0.2], [0.0, 0.1, 0.2]),
        ([np.nan] * 3, [None] * 3, [0.0, 0.5, 1.0]),
        ([3.0, np.nan, -1.0, np.nan], [None] * 4, [3.0, 3.5, -1.0, -0.5]),
    ],
)
def test_missing_times_are_filled(times_s: list[float], decode_times_s: list[float | None], expected: list[float]) -> None:
    assert _filled(np.array(times_s), decode_times_s, 0.5).tolist() == expected


def test_times_count_from_zero_where_the_container_starts_late() -> None:
    clip = read_clip(makers.clip("matroska", frames=10, times_ms=[50_000 + 40 * i for i in range(10)]), SAMPLING, LIMITS)

    assert clip.timestamps_s[0] == pytest.approx(0.0, abs=0.05)
    assert clip.facts.packet_times_s is not None
    assert clip.facts.packet_times_s[0] == pytest.approx(50.0, abs=0.01)


@pytest.mark.parametrize(
    ("turn", "rotation_deg", "red"),
    [
        ("as it is", 0, "bottom"),
        ("clockwise", 90, "left"),
        ("half", 180, "top"),
        ("anticlockwise", 270, "right"),
        ("mirrored", 0, "bottom"),
    ],
)
def test_rotation_metadata_is_applied(turn: str, rotation_deg: int, red: str) -> None:
    clip = read_clip(makers.with_display_matrix(makers.clip(), *makers.TURNS[turn]), SAMPLING, LIMITS)
    frame = clip.frames_rgb[-1].astype(int)

    edges = {"top": frame[:6], "bottom": frame[-6:], "left": frame[:, :6], "right": frame[:, -6:]}
    redness = {side: (edge[..., 0] - edge[..., 1]).mean() for side, edge in edges.items()}
    assert max(redness, key=redness.__getitem__) == red
    assert clip.facts.rotation_deg == rotation_deg
    assert clip.frames_rgb.shape[1:3] == clip.burst_rgb.shape[1:3] == ((128, 96) if rotation_deg % 180 else (96, 128))
    if turn == "mirrored":  # number 47 is 11110100 from the left
        assert makers.numbers([clip.frames_rgb[-1][:, ::-1]])[0] >= 40


@pytest.mark.parametrize("colour", [(200, 40, 40), (40, 200, 40), (40, 40, 200)])
def test_colours_are_decoded_by_the_matrix_the_stream_names(colour: tuple[int, int, int]) -> None:
    clip = read_clip(makers.clip(frames=3, bt709=colour), SAMPLING, LIMITS)

    assert np.abs(clip.frames_rgb[0].mean((0, 1)) - colour).max() < 4


@pytest.mark.parametrize(("counts", "size"), [((10, 30), (48, 64)), ((30, 10), (96, 128))])
def test_frames_of_another_size_are_left_out_and_counted(counts: tuple[int, int], size: tuple[int, int]) -> None:
    clip = read_clip(makers.changing_size((128, 96), (64, 48), counts), EVERYTHING, LIMITS)

    assert clip.frames_rgb.shape == (30, *size, 3)
    assert clip.facts.tags["found.frames_of_other_size"] == "10"


def test_container_facts_say_what_the_file_says() -> None:
    facts = read_clip(MP4, SAMPLING, LIMITS).facts

    assert facts.format == "mov"  # the family: MP4, MOV, 3GP
    assert facts.size_bytes == len(MP4)
    assert facts.sha256 == hashlib.sha256(MP4).hexdigest()
    assert facts.duration_s == pytest.approx(2.0, abs=0.05)
    assert [(s.kind, s.codec) for s in facts.streams] == [("video", "h264"), ("audio", "aac")]
    assert (facts.streams[0].width_px, facts.streams[0].height_px, facts.streams[0].fps) == (128, 96, 25.0)
    assert facts.streams[1].sample_rate_hz == 48_000
    assert facts.packet_times_s is not None
    assert np.allclose(facts.packet_times_s, np.arange(50) / 25)
    assert facts.packet_sizes_bytes is not None
    assert facts.packet_sizes_bytes.shape == (50,)
    assert 0 < facts.packet_sizes_bytes.sum() < len(MP4)
    assert facts.keyframe_times_s is not None
    assert facts.keyframe_times_s[0] == 0.0
    assert "Lavf" in facts.tags["encoder"]
    assert facts.tags["stream0.handler_name"] == "VideoHandler"
    assert not [key for key in facts.tags if key.startswith("found.")]


def test_tags_are_printable_and_short() -> None:
    tags = read_clip(makers.clip("mp4", tags={"title": "\x1b[31mred\x07" + "x" * 5000}), SAMPLING, LIMITS).facts.tags

    assert tags["title"].startswith("[31mredxxx")
    assert len(tags["title"]) <= 200


def test_a_video_of_one_frame_is_a_still() -> None:
    clip = read_clip(makers.clip(frames=1), SAMPLING, LIMITS)

    assert clip.is_still
    assert (len(clip.frames_rgb), len(clip.burst_rgb)) == (1, 0)


def test_a_clip_shorter_than_the_sampling_gives_each_frame_once() -> None:
    clip = read_clip(makers.clip(frames=4), SAMPLING, LIMITS)

    assert makers.numbers(clip.frames_rgb) == makers.numbers(clip.burst_rgb) == [0, 1, 2, 3]


def test_wrong_keyframe_flags_do_not_spoil_frames() -> None:
    data = makers.clip(options={"g": "250"})
    stss = makers.find_box(data, b"stss")
    lying = data.replace(stss, makers.box(b"free", stss[8:]))  # no table: every sample is said to be a keyframe
    clip = read_clip(lying, SAMPLING, LIMITS)

    assert clip.facts.keyframe_times_s is not None
    whole = read_clip(data, EVERYTHING, LIMITS)
    for shown, frame in zip(makers.numbers(clip.frames_rgb), clip.frames_rgb, strict=True):
        assert np.array_equal(frame, whole.frames_rgb[shown])


@pytest.mark.parametrize("format_", ["WEBP", "GIF"])
def test_animated_pictures_are_clips(format_: str) -> None:
    data = makers.animation(format_, 30, [40] * 20 + [100] * 10)
    clip = read_clip(data, SAMPLING, LIMITS)

    shown = makers.numbers(clip.frames_rgb)
    assert len(shown) == 6
    expected_s = np.where(np.array(shown) < 20, np.array(shown) * 0.04, 0.8 + (np.array(shown) - 20) * 0.1)
    assert np.allclose(clip.timestamps_s, expected_s)
    burst = makers.numbers(clip.burst_rgb)
    assert burst == list(range(burst[0], burst[0] + 8))
    assert not clip.is_still
    assert clip.facts.format == format_.lower()
    assert clip.facts.duration_s == pytest.approx(1.8)
    assert clip.facts.packet_sizes_bytes is not None
    assert len(clip.facts.packet_sizes_bytes) == 30


@pytest.mark.parametrize(
    ("limits", "frames"), [(Limits(max_frames=10), 30), (Limits(max_duration_s=1.0), 30), (Limits(max_frame_pixels=1000), 3)]
)
@pytest.mark.parametrize("format_", ["WEBP", "GIF"])
def test_animated_pictures_obey_limits(format_: str, limits: Limits, frames: int) -> None:
    with pytest.raises(LimitError, match=r"anim: .* Remedy: "):
        read_clip(makers.animation(format_, frames), SAMPLING, limits, "anim")


def test_gif_frames_outside_the_canvas_are_not_decoded() -> None:
    data = bytearray(makers.animation("GIF", 6))
    at = -1
    for _ in range(4):
        at = data.index(b"\x2c\0\0\0\0", at + 1)
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    clip = read_clip(bytes(data), SAMPLING, LIMITS)

    assert makers.numbers(clip.frames_rgb) == [0, 1, 2]
    assert clip.frames_rgb.shape == (3, 96, 128, 3)


def test_a_cut_gif_gives_what_is_left_and_a_cut_webp_is_refused() -> None:
    gif, webp = makers.animation("GIF", 30), makers.animation("WEBP", 30)
    clip = read_clip(gif[: len(gif) * 2 // 3], SAMPLING, LIMITS)

    assert 0 < len(clip.frames_rgb) <= 6
    assert max(makers.numbers(clip.frames_rgb)) < 25
    with pytest.raises(UnreadableError, match="cut: cannot be decoded as a picture"):
        read_clip(webp[: len(webp) * 2 // 3], SAMPLING, LIMITS, "cut")


def test_arrays_are_read_as_pictures_and_clips() -> None:
    frames = np.stack([makers.numbered(i) for i in range(50)])
    clip, still = read_clip(frames, SAMPLING, LIMITS), read_clip(frames[7], SAMPLING, LIMITS)

    assert makers.numbers(clip.frames_rgb) == sorted(makers.numbers(clip.frames_rgb))
    assert clip.facts.format == "array"
    assert len(clip.burst_rgb) == 8
    assert still.is_still
    assert still.frames_rgb.shape == (1, 96, 128, 3)
    assert read_audio(frames, LIMITS) is None
    assert np.array_equal(read_image(frames[7], LIMITS)[0], frames[7])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 1), np.uint8),
        np.full((4, 4, 3), np.nan, np.float32),
    ],
    ids=str,
)
def test_arrays_of_another_kind_are_refused(array: UInt8Array) -> None:
    for read in (lambda: read_clip(array, SAMPLING, LIMITS, "a"), lambda: read_image(array, LIMITS, "a")):
        with pytest.raises(UnreadableError, match=r"a: is .* Remedy: pass"):
            read()


@pytest.mark.parametrize(
    ("array", "limits"),
    [
        (np.zeros((50, 50, 3), np.uint8), Limits(max_pixels=2499)),
        (np.zeros((3, 50, 50, 3), np.uint8), Limits(max_frame_pixels=2499)),
        (np.zeros((11, 5, 5, 3), np.uint8), Limits(max_frames=10)),
    ],
    ids=["pixels", "frame-pixels", "frames"],
)
def test_arrays_obey_limits(array: UInt8Array, limits: Limits) -> None:
    with pytest.raises(LimitError):
        read_clip(array, SAMPLING, limits)


def test_readers_may_run_in_threads() -> None:
    clips = [makers.clip(options={"g": str(g)}) for g in (5, 10, 50, 250)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: makers.numbers(read_clip(data, EVERYTHING, LIMITS).frames_rgb), clips * 6))

    assert found == [list(range(50))] * 24


# -------------------------------------------------------------------------------------------------- pictures

PICTURE = makers.numbered(5)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIC"])
def test_pictures_are_read_whatever_they_are_called(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    path.write_bytes(makers.heic(PICTURE) if format_ == "HEIC" else makers.picture(format_, PICTURE))
    pixels, facts = read_image(path, LIMITS)

    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 12
    assert facts.format == {"HEIC": "heif"}.get(format_, format_.lower())
    assert (facts.streams[0].width_px, facts.streams[0].height_px) == (128, 96)
    clip = read_clip(path, SAMPLING, LIMITS)
    assert clip.is_still
    assert np.array_equal(clip.frames_rgb[0], pixels)
    assert len(clip.burst_rgb) == len(clip.burst_timestamps_s) == 0
    assert read_audio(path, LIMITS) is None


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_: str, orientation: int) -> None:
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.swapaxes(0, 1),
        6: np.rot90(PICTURE, 1),
        7: PICTURE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "Phone 7"
    pixels, facts = read_image(makers.picture(format_, np.ascontiguousarray(stored), exif=exif), LIMITS)

    assert pixels.shape == PICTURE.shape
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 12
    assert facts.tags["Model"] == "Phone 7"


def test_heic_rotation_is_applied() -> None:
    pixels, _ = read_image(makers.heic(np.ascontiguousarray(np.rot90(makers.numbered(5, 96, 128), -1)), 1), LIMITS)

    assert pixels.shape == (128, 96, 3)
    assert makers.numbers([pixels]) == [5]


@pytest.mark.filterwarnings("default")
def test_broken_exif_does_not_spoil_a_picture(recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x010F] = "m" * 400
    data = makers.picture("JPEG", PICTURE, exif=exif.tobytes()[:60])

    assert read_image(data, LIMITS)[0].shape == PICTURE.shape
    assert not [w for w in recwarn if "bomb" in str(w.message).lower()]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (50, 0), (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb_over_white(mode: str, value: Any, expected: tuple[int, int, int]) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), value).save(buffer, "PNG")
    pixels, _ = read_image(buffer.getvalue(), LIMITS)

    assert pixels.shape == (6, 8, 3)
    assert (pixels == expected).all()


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG")

    assert np.abs(read_image(buffer.getvalue(), LIMITS)[0].astype(int) - (255, 0, 0)).max() < 6


def test_a_picture_without_a_brightness_scale_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("F", (8, 8), 3.5).save(buffer, "TIFF")

    with pytest.raises(UnreadableError, match="no fixed brightness scale"):
        read_image(buffer.getvalue(), LIMITS)


def _webp_header(width_px: int, height_px: int) -> bytes:
    body = bytes(4) + (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "data",
    [
        makers.png_header(30_000, 30_000),
        makers.picture("BMP", PICTURE)[:18] + (30_000).to_bytes(4, "little") * 2 + makers.picture("BMP", PICTURE)[26:],
        makers.picture("GIF", PICTURE)[:6] + b"\x30\x75\x30\x75" + makers.picture("GIF", PICTURE)[10:],
        _webp_header(30_000, 30_000),
        makers.patched(makers.heic(PICTURE), b"ispe", 4, ">II", 30_000, 30_000),
    ],
    ids=["png", "bmp", "gif", "webp", "heic"],
)
@pytest.mark.parametrize("read", ["image", "clip"])
def test_a_picture_of_900_million_pixels_is_refused_before_decoding(data: bytes, read: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=r"huge: has 30000x30000 pixels, more than 50000000\. Remedy: "):
            read_image(data, LIMITS, "huge") if read == "image" else read_clip(data, SAMPLING, LIMITS, "huge")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_cut_picture_is_refused(format_: str) -> None:
    data = makers.picture(format_, np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8))

    with pytest.raises(UnreadableError, match=r"cut: cannot be decoded as a picture .* Remedy: "):
        read_image(data[: len(data) // 2], LIMITS, "cut")


def test_a_video_is_no_picture() -> None:
    with pytest.raises(UnreadableError, match="is not a picture"):
        read_image(MP4, LIMITS)


# ----------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(
    "data",
    [
        MP4,
        makers.clip("webm", "libvpx", options={"deadline": "realtime"}, tone_s=2.0, tone_codec="libopus"),
        makers.clip("matroska", tone_s=2.0, tone_codec="flac"),
        makers.clip("mpeg", "mpeg1video", tone_s=2.0, tone_codec="mp2"),
        makers.clip("mov", tone_s=2.0, tone_codec="pcm_s16le"),
        makers.tone(2.0),
        makers.tone(2.0, "flac", "flac"),
    ],
    ids=["mp4-aac", "webm-opus", "mkv-flac", "mpeg-mp2", "mov-pcm", "wav", "flac"],
)
def test_sound_becomes_16_khz_mono(data: bytes) -> None:
    audio = read_audio(data, LIMITS)

    assert audio is not None
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) == pytest.approx(2 * AUDIO_RATE_HZ, rel=0.05)
    middle = audio[AUDIO_RATE_HZ // 2 : AUDIO_RATE_HZ * 3 // 2]
    assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(440, abs=2)
    assert 0.2 < np.abs(middle).max() < 0.3


def test_a_clip_without_sound_has_none() -> None:
    assert read_audio(makers.clip(), LIMITS) is None


def test_too_much_sound_is_refused() -> None:
    with pytest.raises(LimitError, match=r"long: .* Remedy: send a shorter"):
        read_audio(makers.tone(3.0, "matroska"), Limits(max_duration_s=2.0), "long")


def test_a_wave_of_one_sample_a_second_is_refused_before_it_is_blown_up() -> None:
    wav = makers.patched(makers.tone(0.1), b"fmt ", 8, "<II", 1, 2)

    with pytest.raises(LimitError):
        read_audio(wav, LIMITS)


# ---------------------------------------------------------------------------------------------- hostile input


def _ten_hours(mp4: bytes) -> dict[str, bytes]:
    return {
        "movie header": makers.patched(mp4, b"mvhd", 12, ">II", 1000, 36_000_000),
        "media header": makers.patched(mp4, b"mdhd", 12, ">II", 12_800, 36_000 * 12_800),
        "sample times": makers.patched(mp4, b"stts", 12, ">I", 36_000 * 12_800 // 50),
        "matroska": (mkv := makers.clip("matroska")).replace(
            mkv[mkv.index(b"\x44\x89\x88") :][:11], b"\x44\x89\x88" + np.array(36e6, ">f8").tobytes()
        ),
    }


@pytest.mark.parametrize(("where", "data"), _ten_hours(makers.clip()).items(), ids=lambda v: v if isinstance(v, str) else "")
def test_a_ten_hour_header_is_refused(where: str, data: bytes) -> None:
    with pytest.raises(LimitError, match=r"long\.mp4: .* more than 120 s.* Remedy: send a shorter clip"):
        read_clip(data, SAMPLING, LIMITS, "long.mp4")


@pytest.mark.parametrize(
    "data",
    [makers.with_tracks(makers.clip(), 9), makers.with_tracks(makers.clip(), 500), makers.with_tracks(makers.clip(), 5000),
     makers.tone(0.1, "matroska", streams=500)],
    ids=["mp4-9", "mp4-500", "mp4-5000", "mkv-500"],
)  # fmt: skip
def test_many_streams_are_refused(data: bytes) -> None:
    for read in (lambda: read_clip(data, SAMPLING, LIMITS, "many"), lambda: read_audio(data, LIMITS, "many")):
        with pytest.raises(LimitError, match="many: has more than 8 streams"):
            read()


def test_more_frames_than_the_limit_are_refused() -> None:
    data = makers.clip("matroska", "mpeg4", frames=300, times_ms=list(range(300)))

    with pytest.raises(LimitError, match="has more than 200 frames"):
        read_clip(data, SAMPLING, Limits(max_frames=200))


@pytest.mark.parametrize("kind", ["stsz", "trun"])
def test_declared_samples_are_counted_before_ffmpeg_makes_room_for_them(kind: str) -> None:
    if kind == "stsz":
        data = makers.patched(makers.clip(), b"stsz", 4, ">II", 1, 50_000_000)
    else:
        data = makers.patched(makers.clip(mux_options={"movflags": "frag_keyframe+empty_moov"}), b"trun", 0, ">II", 1, 50_000_000)

    with pytest.raises(LimitError, match=r"declares 500000\d\d samples"):
        read_clip(data, SAMPLING, LIMITS)


def test_big_frames_are_refused_before_decoding() -> None:
    with pytest.raises(LimitError, match=r"has frames of 128x96, more than 10000 pixels"):
        read_clip(MP4, SAMPLING, Limits(max_frame_pixels=10_000))


def test_frames_that_grow_beyond_the_limit_are_not_decoded() -> None:
    data = makers.changing_size((64, 48), (128, 96), (10, 10))

    clip = read_clip(data, EVERYTHING, Limits(max_frame_pixels=64 * 48))
    assert clip.frames_rgb.shape == (10, 48, 64, 3)
    assert int(clip.facts.tags["found.undecodable_packets"]) == 10


@pytest.mark.parametrize(
    "data",
    [
        b"This is a text and not a video.\n" * 100,
        b"\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/x</BaseURL></MPD>',
        b"\x00" * 4096,
        bytes(range(256)) * 20,
    ],
    ids=["text", "newline", "m3u8", "concat", "sdp", "dash", "zeros", "bytes"],
)
def test_what_is_no_media_is_refused_by_name_and_remedy(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "selfie.mp4"
    path.write_bytes(data)
    for read in (lambda: read_clip(path, SAMPLING, LIMITS), lambda: read_audio(path, LIMITS)):
        with pytest.raises(UnreadableError, match=r"selfie\.mp4: is neither a picture nor a recording .* Remedy: send"):
            read()


def test_a_data_reference_to_another_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(MP4)
    data = makers.clip()
    url = makers.find_box(data, b"url ")
    alias = makers.box(b"url ", bytes(4), f"file://{tmp_path}/other.mp4".encode() + b"\0")
    moov = makers.find_box(data, b"moov")
    outer = moov
    for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        old = makers.find_box(data, kind)
        grown = (len(old) + len(alias) - len(url)).to_bytes(4) + old[4:]
        outer = outer.replace(old[:8], grown[:8])
    crafted = data.replace(moov, outer.replace(url, alias))
    try:
        clip = read_clip(crafted, SAMPLING, LIMITS)
    except InputError:
        return
    assert clip.facts.size_bytes == len(crafted)


def test_nothing_and_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone")
    for name in ("empty.mp4", "missing.mp4", "dangling.mp4", ".", "nul\0.mp4"):
        for read in (lambda p: read_clip(p, SAMPLING, LIMITS), lambda p: read_image(p, LIMITS), lambda p: read_audio(p, LIMITS)):
            with pytest.raises(UnreadableError, match=r"Remedy: (send|name)"):
                read(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="named pipes are a POSIX matter")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    errors: list[Exception] = []

    def read() -> None:
        try:
            read_clip(tmp_path / "pipe.mp4", SAMPLING, LIMITS)
        except UnreadableError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive(), "opening the pipe hangs"
    assert "not a regular file" in str(errors[0])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(MP4)
    path.chmod(0)

    with pytest.raises(UnreadableError, match="Permission denied"):
        read_clip(path, SAMPLING, LIMITS)


def test_a_refused_open_is_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match=r"x\.mp4: cannot be read \(Permission denied\)\. Remedy: "):
        read_clip(tmp_path / "x.mp4", SAMPLING, LIMITS)


@pytest.mark.parametrize("as_path", [True, False])
def test_too_many_bytes_are_refused_unread(as_path: bool, tmp_path: Path) -> None:
    path = tmp_path / "big.mp4"
    with path.open("wb") as file:
        file.truncate(3_000_000)
    with pytest.raises(LimitError, match="more than 2000000 bytes"):
        read_clip(path if as_path else path.read_bytes(), SAMPLING, Limits(max_bytes=2_000_000))


def test_an_mp4_cut_before_its_header_is_refused_with_the_reason() -> None:
    with pytest.raises(UnreadableError, match=r"cut\.mp4: has no movie header: the recording or its upload was cut off\. Remedy: "):
        read_clip(MP4[: MP4.index(b"moov") - 4], SAMPLING, LIMITS, "cut.mp4")


def test_an_mp4_cut_in_its_media_gives_the_frames_that_are_left_and_says_so() -> None:
    data = makers.with_header_first(makers.clip())
    clip = read_clip(data[: len(data) * 9 // 10], SAMPLING, LIMITS)

    missing = int(clip.facts.tags["found.missing_frames"])
    assert 0 < missing < 50
    assert max(makers.numbers(clip.frames_rgb)) < 50 - missing


@pytest.mark.parametrize(("container", "codec"), [("webm", "libvpx"), ("mpeg", "mpeg1video"), ("avi", "mpeg4"), ("matroska", "libx264")])
def test_other_cut_containers_give_what_is_left(container: str, codec: str) -> None:
    data = makers.clip(container, codec)
    clip = read_clip(data[: len(data) * 3 // 4], SAMPLING, LIMITS)

    assert 1 <= len(clip.frames_rgb) <= 6
    assert max(makers.numbers(clip.frames_rgb)) < 48


def test_sound_alone_is_no_video() -> None:
    with pytest.raises(UnreadableError, match=r"song: has no video stream of a known codec\. Remedy: send a video"):
        read_clip(makers.tone(0.5), SAMPLING, LIMITS, "song")


def test_a_stream_of_damaged_packets_is_refused() -> None:
    data = bytearray(makers.clip())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)

    with pytest.raises(UnreadableError, match="dead: has no frame that can be decoded"):
        read_clip(bytes(data), SAMPLING, LIMITS, "dead")


SEEDS = {
    "mp4": makers.clip(frames=6, tone_s=0.2),
    "fragments": makers.clip(frames=6, mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "webm": makers.clip("webm", "libvpx", frames=6, options={"deadline": "realtime"}),
    "avi": makers.clip("avi", "mpeg4", frames=6),
    "mpeg": makers.clip("mpeg", "mpeg1video", frames=6),
    "jpeg": makers.picture("JPEG", PICTURE),
    "png": makers.picture("PNG", PICTURE),
    "tiff": makers.picture("TIFF", PICTURE),
    "bmp": makers.picture("BMP", PICTURE),
    "gif": makers.animation("GIF", 4),
    "webp": makers.animation("WEBP", 4),
    "heic": makers.heic(PICTURE),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_read_or_refused_but_never_anything_else(seed: str, data: st.DataObject) -> None:
    media = bytearray(SEEDS[seed])
    for at in data.draw(st.lists(st.integers(0, len(media) - 1), min_size=1, max_size=12)):
        media[at] = data.draw(st.integers(0, 255))
    media = media[: data.draw(st.integers(1, len(media)))] if data.draw(st.booleans()) else media
    for read in (
        lambda: read_clip(bytes(media), SAMPLING, LIMITS, "damaged").frames_rgb,
        lambda: read_image(bytes(media), LIMITS, "damaged")[0][None],
        lambda: read_audio(bytes(media), LIMITS, "damaged"),
    ):
        try:
            found = read()
        except InputError as error:
            assert str(error).startswith("damaged: ")  # noqa: PT017
        else:
            assert found is None or found.dtype == np.float32 or (found.ndim == 4 and found.shape[3] == 3 and found.size)


# ----------------------------------------------------------------------------------------------- small helpers


def test_names_and_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(MP4)
    array = np.zeros((2, 3, 3), np.uint8)

    assert media_name(path) == str(path)
    assert media_name(b"abc") == "<3 bytes>"
    assert media_name(array) == "<array 2x3x3>"
    assert media_sha256(path) == media_sha256(MP4) == hashlib.sha256(MP4).hexdigest()
    assert media_sha256(array) != media_sha256(array.reshape(3, 2, 3))


# -------------------------------------------------------------------------------------------------- real files


@pytest.mark.shared
@pytest.mark.parametrize(
    ("path", "frames", "sound"),
    [
        ("ghost_swaps/clips/fake/elon.webp", 66, False),
        ("sadtalker_results/clips/fake/resize_good.gif", 44, False),
        ("apfol_replay/videos/real2.webm", 214, True),
        ("grid_ansh/newA_1208_032621_6a59e295.mpg", 75, True),
        ("pyfeat/face_noface.mov", 169, True),
        ("iplap_129/129.mp4", 270, False),
        ("lrs2_demo/demo.mp4", 22, True),
    ],
)
def test_real_clips_are_read(shared_data: Path, path: str, frames: int, sound: bool) -> None:
    clip = read_clip(shared_data / "clips" / path, Sampling(), LIMITS)

    assert len(clip.frames_rgb) == 12
    assert len(clip.burst_rgb) == min(24, frames)
    assert clip.facts.packet_times_s is not None
    assert len(clip.facts.packet_times_s) == frames
    assert (np.diff(clip.timestamps_s) > 0).all()
    assert (np.diff(clip.burst_timestamps_s) > 0).all()
    assert (read_audio(shared_data / "clips" / path, LIMITS) is not None) == sound
