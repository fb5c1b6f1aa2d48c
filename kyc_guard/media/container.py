"""Opening a container by PyAV, from bytes in memory: nothing a file says can make FFmpeg open another file or a URL.

Packets are demuxed first, which costs milliseconds. They give the container facts, the limits a header can lie about, and what the
plan of what to decode is made of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from numpy.typing import NDArray

from kyc_guard.config import Limits
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media.mp4 import TOP_LEVEL, check_mp4
from kyc_guard.media.traces import edit_list, encoder_notes, has_c2pa
from kyc_guard.types import ContainerFacts, Float64Array, StreamFacts

REMEDY = "send the complete, unaltered MP4, MOV, WebM, MKV, AVI or MPEG file as the camera recorded it"

# What a camera, browser or messenger writes. FFmpeg knows hundreds of formats and codecs more, each a surface to attack.
_DEMUXERS = (
    (re.compile(rb"\x1a\x45\xdf\xa3"), "matroska"),
    (re.compile(rb"....(?:" + b"|".join(sorted(TOP_LEVEL)) + rb")", re.DOTALL), "mov"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "avi"),
    (re.compile(rb"\x00\x00\x01\xba"), "mpeg"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "wav"),
    (re.compile(rb"OggS"), "ogg"),
    (re.compile(rb"fLaC"), "flac"),
    (re.compile(rb"ID3|\xff[\xe2-\xff]"), "mp3"),
)
_CODECS = (
    "h264,hevc,vp8,vp9,av1,libdav1d,mpeg1video,mpeg2video,mpeg4,mjpeg,h263,"
    "aac,mp3,mp3float,mp2,mp2float,opus,libopus,vorbis,flac,alac,ac3,amrnb,amrwb,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s32le,pcm_f32le,pcm_u8,pcm_alaw,pcm_mulaw"
)
ERRORS = (av.error.FFmpegError, ValueError, ArithmeticError, RuntimeError)
_SOUND_PACKETS_PER_FRAME = 8
"""The shortest Opus packet, 2.5 ms, under the longest usual frame, 20 ms."""
_TAGS = 64
_TAG_CHARS = 200


@contextmanager
def opened(data: bytes, limits: Limits, name: str, *, decode_device: str = "cpu") -> Iterator[Any]:
    """An open container that passed the header's limits; every PyAV error inside becomes an UnreadableError naming the file."""
    demuxer = next((demuxer for magic, demuxer in _DEMUXERS if magic.match(data)), None)
    if demuxer is None:
        raise UnreadableError(name, "is neither a picture nor a recording of a known kind", REMEDY)
    if demuxer == "mov":
        check_mp4(data, limits, name)
    options = {
        "format_whitelist": demuxer,
        "codec_whitelist": _CODECS,
        "protocol_whitelist": "none",
        "max_pixels": str(limits.max_frame_pixels),
        "max_streams": str(limits.max_streams + 1),  # beyond it some demuxers fail, others leave streams out
    }
    try:
        with _container(data, decode_device, format=demuxer, options=options, metadata_errors="replace", io_open=_refuse) as container:
            _check_header(container, limits, name)
            yield container
    except av.error.MemoryError as error:  # FFmpeg's answer to a stream beyond max_streams
        raise _too_many_streams(name, limits) from error
    except ERRORS as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(name, f"cannot be decoded as video or sound ({problem})", REMEDY) from error


def _container(data: bytes, decode_device: str, **how: Any) -> Any:
    if decode_device != "cpu":
        # A device that does not start fails here; what it cannot decode FFmpeg hands to its own decoders.
        with suppress(*ERRORS):
            return av.open(BytesIO(data), "r", hwaccel=HWAccel(decode_device, allow_software_fallback=True), **how)
    return av.open(BytesIO(data), "r", **how)


def _refuse(url: str, *_: object) -> NoReturn:
    raise PermissionError(f"a media file asked to open {url[:_TAG_CHARS]!r}")


def _too_many_streams(name: str, limits: Limits) -> LimitError:
    return LimitError(name, f"has more than {limits.max_streams} streams", "send one video with one sound track")


def _check_header(container: Any, limits: Limits, name: str) -> None:
    if len(container.streams) > limits.max_streams:
        raise _too_many_streams(name, limits)
    durations_s = [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
    longest_s = max([container.duration / av.time_base if container.duration else 0.0, *durations_s])
    if longest_s > limits.max_duration_s:
        raise LimitError(name, f"lasts {longest_s:.0f} s, more than {limits.max_duration_s:g} s", "send a shorter clip")
    for context in (stream.codec_context for stream in container.streams.video):
        if context is not None and context.width * context.height > limits.max_frame_pixels:
            raise too_large(name, context.width, context.height, limits)


def too_large(name: str, width: int, height: int, limits: Limits) -> LimitError:
    return LimitError(name, f"has frames of {width}x{height}, more than {limits.max_frame_pixels} pixels", "record in 1080p or 720p")


def video_stream(container: Any, name: str) -> Any:
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None]
    if not streams:
        raise UnreadableError(name, "has no video stream of a known codec", "send a video with a picture, or a photo")
    return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)


def start_s(container: Any) -> float:
    """Zero of the clip's clock, the same for frames and sound: the container's earliest presentation time."""
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def configure(stream: Any, limits: Limits) -> None:
    context = stream.codec_context
    context.thread_count = 1  # one process a core
    context.options = {"codec_whitelist": _CODECS}
    if stream.type == "video":
        context.copy_opaque = True
        context.options |= {"max_pixels": str(limits.max_frame_pixels)}


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """All video packets, in decoding order."""

    packets: Sequence[Any]
    raw_times_s: Float64Array
    """(P,) presentation times as the container has them, NaN where missing."""
    times_s: Float64Array
    """(P,) the same from the clip's zero, gaps filled."""
    is_key: NDArray[np.bool_]
    order: NDArray[np.int64]
    """(P,) decoding positions in presentation order."""
    sound_times_s: Float64Array
    sound_lengths_s: Float64Array
    """(S,) each, on the clock of `raw_times_s`."""


def demux(container: Any, stream: Any, limits: Limits, name: str) -> Packets:
    sound = next(iter(container.streams.audio), None)
    for other in container.streams:
        if other is not stream and other is not sound:
            other.discard = av.stream.Discard.all
    packets: list[Any] = []
    sounds: list[tuple[float, float]] = []
    size_bytes = 0
    tick_s = float(stream.time_base)
    first_s, last_s = math.inf, -math.inf
    for packet in container.demux([s for s in (stream, sound) if s is not None]):
        if not packet.size:
            continue
        if packet.stream is sound:
            sounds.append(_sound_span(packet))
            if len(sounds) > _SOUND_PACKETS_PER_FRAME * limits.max_frames:
                raise LimitError(name, f"has more than {len(sounds)} pieces of sound", "send the file as the camera recorded it")
            continue
        if len(packets) == limits.max_frames:
            raise LimitError(name, f"has more than {limits.max_frames} frames", "send a shorter clip at a normal frame rate")
        size_bytes += packet.size
        if size_bytes > limits.max_bytes:  # Matroska may compress its packets
            raise LimitError(name, f"has more than {limits.max_bytes} bytes of frames", "send a shorter or smaller recording")
        # A fresh object each: PyAV finds it again by its id, and small integers share theirs.
        packet.opaque = [len(packets)]
        packets.append(packet)
        if packet.pts is not None:
            time_s = packet.pts * tick_s
            first_s, last_s = min(first_s, time_s), max(last_s, time_s)
            if last_s - first_s > limits.max_duration_s:
                raise LimitError(name, f"has frames more than {limits.max_duration_s:g} s apart", "send a shorter clip")
    if not packets:
        raise UnreadableError(name, "has a video stream without frames", REMEDY)
    raw_times_s = np.array([math.nan if p.pts is None else p.pts * tick_s for p in packets])
    rate = float(stream.average_rate or stream.guessed_rate or 0) or 30.0
    times_s = _filled(raw_times_s, [None if p.dts is None else p.dts * tick_s for p in packets], 1.0 / rate)
    if np.ptp(times_s) > limits.max_duration_s:  # decoding times may stand in for missing ones, and lie
        raise LimitError(name, f"has frames more than {limits.max_duration_s:g} s apart", "send a shorter clip")
    times_s -= start_s(container)
    is_key = np.array([p.is_keyframe for p in packets])
    sound_s = np.array(sounds, np.float64).reshape(-1, 2)
    return Packets(packets, raw_times_s, times_s, is_key, np.argsort(times_s, kind="stable"), sound_s[:, 0], sound_s[:, 1])


def _sound_span(packet: Any) -> tuple[float, float]:
    """Presentation time and length of a sound packet, NaN where the container has none."""
    tick_s = float(packet.time_base)
    return (
        math.nan if packet.pts is None else packet.pts * tick_s,
        packet.duration * tick_s if packet.duration else math.nan,
    )


def _filled(times_s: Float64Array, decode_times_s: Sequence[float | None], step_s: float) -> Float64Array:
    """Missing presentation times from the decoding time, or else one frame after the packet before."""
    filled = times_s.copy()
    for i in np.flatnonzero(np.isnan(times_s)):
        decode_s = decode_times_s[i]
        filled[i] = decode_s if decode_s is not None else filled[i - 1] + step_s if i else 0.0
    return filled


def container_facts(
    container: Any, stream: Any, packets: Packets, data: bytes, *, sha256: str, rotation_deg: int, findings: Mapping[str, int]
) -> ContainerFacts:
    """What the file says of itself, and as ``found.*`` tags what of ``findings`` is not 0."""
    tags = dict(container.metadata)
    for s in container.streams:
        tags |= {f"stream{s.index}.{key}": value for key, value in s.metadata.items()}
    tags = {key: value for key, value in clean_tags(tags).items() if not key.startswith("found.")}  # which are ours to say
    findings = {"missing_frames": max(stream.frames - len(packets.packets), 0), **findings}
    tags |= {f"found.{key}": str(value) for key, value in findings.items() if value}
    raw_s = packets.raw_times_s[packets.order]
    return ContainerFacts(
        format=container.format.name,
        size_bytes=len(data),
        sha256=sha256,
        duration_s=container.duration / av.time_base if container.duration else None,
        streams=tuple(_stream_facts(s) for s in container.streams),
        tags=tags,
        packet_times_s=raw_s,
        keyframe_times_s=raw_s[packets.is_key[packets.order]],
        packet_sizes_bytes=np.array([p.size for p in packets.packets], np.int64)[packets.order],
        rotation_deg=rotation_deg,
        decode_order=packets.order,
        sound_times_s=packets.sound_times_s if packets.sound_times_s.size else None,
        sound_lengths_s=packets.sound_lengths_s if packets.sound_times_s.size else None,
        encoder_notes=encoder_notes(stream.codec_context.name, stream.codec_context.extradata or b"", bytes(packets.packets[0])),
        edits=edit_list(data) if container.format.name.startswith("mov") else (),
        has_c2pa=has_c2pa(data) if container.format.name.startswith("mov") else False,
    )


def clean_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags fit for logs and pages: few, short, printable."""
    return {
        "".join(filter(str.isprintable, str(key)))[:_TAG_CHARS]: "".join(filter(str.isprintable, str(value)[: 4 * _TAG_CHARS]))[:_TAG_CHARS]
        for key, value in list(tags.items())[:_TAGS]
    }


def _stream_facts(stream: Any) -> StreamFacts:
    context = stream.codec_context
    video = stream.type == "video" and context is not None
    rate = (stream.average_rate or stream.guessed_rate) if video else None
    return StreamFacts(
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else "unknown",
        profile=context.profile if context is not None else None,
        width_px=context.width if video else None,
        height_px=context.height if video else None,
        fps=float(rate) if rate else None,
        sample_rate_hz=context.sample_rate if stream.type == "audio" and context is not None else None,
        bit_rate_bps=context.bit_rate if context is not None and stream.type in {"video", "audio"} else None,
        frames=stream.frames or None,
        time_base=str(stream.time_base),
    )
