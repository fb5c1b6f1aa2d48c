"""Clips and pictures made on the fly, so that no media file is ever committed.

Frames carry their number as eight black or white bars, which survives any codec: `numbers` reads it back.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from kyc_guard.types import UInt8Array

WIDTH_PX, HEIGHT_PX, RATE_HZ = 128, 96, 25
_BARS = 8
_MS = Fraction(1, 1000)
ONE = 1 << 16
TURNS = {
    "as it is": (ONE, 0, 0, ONE),
    "clockwise": (0, ONE, -ONE, 0),
    "half": (-ONE, 0, 0, -ONE),
    "anticlockwise": (0, -ONE, ONE, 0),
    "mirrored": (-ONE, 0, 0, ONE),
}
"""Display matrices a, b, c, d."""


def numbered(number: int, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> UInt8Array:
    """(H, W, 3) picture of the lowest eight bits of a number, the lowest at the left; the bottom sixth is red."""
    frame = np.zeros((height_px, width_px, 3), np.uint8)
    for bar in range(_BARS):
        frame[:, bar * width_px // _BARS : (bar + 1) * width_px // _BARS] = 235 if number >> bar & 1 else 20
    frame[-height_px // 6 :] = (200, 30, 30)
    return frame


def numbers(frames: Iterable[UInt8Array]) -> list[int]:
    """What `numbered` wrote into each upright frame."""
    found = []
    for frame in frames:
        height, width = frame.shape[:2]
        centres = [(2 * bar + 1) * width // (2 * _BARS) for bar in range(_BARS)]
        found.append(sum(int(frame[height // 3, x].mean() > 128) << bar for bar, x in enumerate(centres)))
    return found


def clip(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 50,
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    mux_options: dict[str, str] | None = None,
    tone_s: float = 0.0,
    tone_codec: str = "aac",
    bt709: tuple[int, int, int] | None = None,
    tags: dict[str, str] | None = None,
) -> bytes:
    """An encoded clip of `numbered` frames at 25 frames a second or at the given times, and a 440 Hz tone.

    ``bt709`` paints all frames in one colour, coded and tagged as HDTV does.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=mux_options or {}) as output:
        output.metadata.update(tags or {})
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        video = output.add_stream(codec, rate=RATE_HZ, options=quiet | (options or {}))
        video.width, video.height = WIDTH_PX, HEIGHT_PX
        video.codec_context.thread_count = 1
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if bt709 is not None:
            video.codec_context.colorspace = 1
        if times_ms is not None:
            video.codec_context.time_base = _MS
        sound = output.add_stream(tone_codec, rate=48_000, layout="mono") if tone_s else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            if bt709 is not None:
                frame = av.VideoFrame.from_ndarray(np.full((HEIGHT_PX, WIDTH_PX, 3), bt709, np.uint8), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = (i, Fraction(1, RATE_HZ)) if times_ms is None else (times_ms[i], _MS)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None:
            for piece in _tone(tone_s):
                output.mux(sound.encode(piece))
            output.mux(sound.encode(None))
    return buffer.getvalue()


def tone(seconds: float, container: str = "wav", codec: str = "pcm_s16le", streams: int = 1) -> bytes:
    """A recording of a 440 Hz tone; further streams stay silent."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        sounds = [output.add_stream(codec, rate=48_000, layout="mono") for _ in range(streams)]
        for piece in _tone(seconds):
            output.mux(sounds[0].encode(piece))
        output.mux(sounds[0].encode(None))
    return buffer.getvalue()


def _tone(seconds: float) -> Iterator[Any]:
    samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 48_000)) / 48_000)).astype(np.int16)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        yield frame


def changing_size(first: tuple[int, int], second: tuple[int, int], counts: tuple[int, int]) -> bytes:
    """A WebM whose frames change size, as a browser's do when the phone is turned."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as output:
        video = output.add_stream("libvpx", rate=RATE_HZ)
        video.width, video.height, video.pix_fmt = *first, "yuv420p"
        at = 0
        for (width, height), count in zip((first, second), counts, strict=True):
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, RATE_HZ)
            encoder.thread_count = 1
            packets = []
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(numbered(at + i, width, height), format="rgb24")
                frame.pts, frame.time_base = at + i, Fraction(1, RATE_HZ)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.stream, packet.time_base = video, Fraction(1, RATE_HZ)
                output.mux(packet)
            at += count
    return buffer.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    """An ISO base media box."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def find_box(data: bytes, kind: bytes) -> bytes:
    """The first box of that kind, header included."""
    at = data.index(kind) - 4
    return data[at : at + int.from_bytes(data[at : at + 4])]


def patched(data: bytes, kind: bytes, offset: int, layout: str, *values: int) -> bytes:
    """``data`` with values written ``offset`` bytes into the content of the first box of that kind."""
    out = bytearray(data)
    struct.pack_into(layout, out, data.index(kind) + 4 + offset, *values)
    return bytes(out)


def with_display_matrix(mp4: bytes, a: int, b: int, c: int, d: int) -> bytes:
    return patched(mp4, b"tkhd", 40, ">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def with_header_first(mp4: bytes) -> bytes:
    """The movie header before the media data, as web servers like it; for one track with one table of 32-bit offsets."""
    moov, mdat = find_box(mp4, b"moov"), find_box(mp4, b"mdat")
    count = int.from_bytes(moov[moov.index(b"stco") + 8 :][:4])
    offsets = struct.unpack_from(f">{count}I", moov, moov.index(b"stco") + 12)
    moov = patched(moov, b"stco", 8, f">{count}I", *(offset + len(moov) for offset in offsets))
    return mp4[: mp4.index(b"mdat") - 4] + moov + mdat


def with_tracks(mp4: bytes, tracks: int) -> bytes:
    """The same track declared many times."""
    moov, trak = find_box(mp4, b"moov"), find_box(mp4, b"trak")
    return mp4.replace(moov, box(b"moov", moov[8:].replace(trak, trak * tracks)))


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG that declares a size and has next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def picture(format_: str, pixels: UInt8Array, **save: Any) -> bytes:
    """Encoded by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **save)
    return buffer.getvalue()


def animation(format_: str, frames: int, duration_ms: int | list[int] = 40, **save: Any) -> bytes:
    """Animated GIF or WebP of `numbered` frames."""
    images = [Image.fromarray(numbered(i)) for i in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, format_, save_all=True, append_images=images[1:], duration=duration_ms, **save)
    return buffer.getvalue()


def heic(pixels: UInt8Array, turns_anticlockwise: int = 0) -> bytes:
    """A HEIC still around one HEVC frame. Source: ISO/IEC 23008-12, annex B; ISO/IEC 14496-12, 8.11."""
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        video = output.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:bframes=0"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = 0
        output.mux(video.encode(frame))
        output.mux(video.encode(None))
    mp4 = buffer.getvalue()
    coded = find_box(mp4, b"mdat")[8:]
    full = bytes(4)

    def meta(offset: int) -> bytes:
        return box(
            b"meta",
            full,
            box(b"hdlr", full, bytes(4), b"pict", bytes(13)),
            box(b"pitm", full, b"\0\1"),
            box(b"iloc", full, b"\x44\0", struct.pack(">HHHHII", 1, 1, 0, 1, offset, len(coded))),
            box(b"iinf", full, b"\0\1", box(b"infe", b"\2\0\0\0", b"\0\1\0\0hvc1\0")),
            box(
                b"iprp",
                box(
                    b"ipco",
                    find_box(mp4, b"hvcC"),
                    box(b"ispe", full, struct.pack(">II", width, height)),
                    box(b"irot", bytes([turns_anticlockwise])),
                ),
                box(b"ipma", full, struct.pack(">IHB", 1, 1, 3), b"\x81\x02\x83"),
            ),
        )

    head = box(b"ftyp", b"heic", full, b"mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", coded)
