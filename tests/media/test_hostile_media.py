"""Files made to hurt are refused by name and remedy before they cost anything; damaged ones give what is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import makers
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError, LimitError, UnreadableError
from kyc_guard.media import read_audio, read_clip, read_image

LIMITS = Limits()
SAMPLING = Sampling(frames=6, burst_frames=8)
EVERYTHING = Sampling(frames=256, burst_frames=0)
MP4 = makers.clip(tone_s=2.0)
PICTURE = makers.numbered(5)


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
