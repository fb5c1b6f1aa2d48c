"""Clips, animated pictures, arrays and sound: what is sampled is what a full decode gives."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import makers
import numpy as np
import pytest

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media import AUDIO_RATE_HZ, media_name, media_sha256, read_audio, read_clip, read_image
from kyc_guard.media.container import _filled
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
def test_animated_pictures_are_stills_of_many_frames(format_: str) -> None:
    data = makers.animation(format_, 30, [40] * 20 + [100] * 10)
    clip = read_clip(data, SAMPLING, LIMITS)

    shown = makers.numbers(clip.frames_rgb)
    assert len(shown) == 6
    expected_s = np.where(np.array(shown) < 20, np.array(shown) * 0.04, 0.8 + (np.array(shown) - 20) * 0.1)
    assert np.allclose(clip.timestamps_s, expected_s)
    burst = makers.numbers(clip.burst_rgb)
    assert burst == list(range(burst[0], burst[0] + 8))
    assert clip.is_still, "no camera writes an animation"
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


def test_names_and_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(MP4)
    array = np.zeros((2, 3, 3), np.uint8)

    assert media_name(path) == str(path)
    assert media_name(b"abc") == "<3 bytes>"
    assert media_name(array) == "<array 2x3x3>"
    assert media_sha256(path) == media_sha256(MP4) == hashlib.sha256(MP4).hexdigest()
    assert media_sha256(array) != media_sha256(array.reshape(3, 2, 3))


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
