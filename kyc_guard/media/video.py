"""Video and sound by PyAV, from bytes in memory: nothing a file says can make FFmpeg open another file or a URL.

Packets are demuxed first, which costs milliseconds. They give the container facts, the limits a header can lie about, and the
plan of what to decode. Wanted frames are then decoded from the keyframe before each, straight from the packets in memory, so no
container needs a working index; frames that nothing refers to and nobody wants are skipped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn

import av
import numpy as np
from numpy.typing import NDArray

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media.mp4 import TOP_LEVEL, check_mp4
from kyc_guard.media.sampling import SamplingPlan, shrunk
from kyc_guard.media.traces import edit_list, encoder_notes, has_c2pa
from kyc_guard.types import Clip, ContainerFacts, Float32Array, Float64Array, StreamFacts, UInt8Array

AUDIO_RATE_HZ = 16_000
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
_ERRORS = (av.error.FFmpegError, ValueError, ArithmeticError, RuntimeError)
_SOUND_PACKETS_PER_FRAME = 8
"""The shortest Opus packet, 2.5 ms, under the longest usual frame, 20 ms."""
_TAGS = 64
_TAG_CHARS = 200


def read_video(data: bytes, sha256: str, sampling: Sampling, limits: Limits, name: str) -> Clip:
    """Decode the sampled frames of a video; see `kyc_guard.media.reading.read_clip`."""
    with _opened(data, limits, name) as container:
        stream = _video_stream(container, name)
        packets = _demux(container, stream, limits, name)
        decoder = _Decoder(stream, packets, limits, name)
        shown = [i for i in packets.order if not packets.packets[i].is_discard] or list(packets.order)
        plan = SamplingPlan.of(packets.times_s[shown], packets.is_key[shown], sampling)
        full, motion = {shown[p] for p in plan.wanted}, {shown[p] for p in plan.motion}
        frames = decoder.frames(full | motion, lambda i, pixels: pixels if i in full else shrunk(pixels, sampling.motion_side_px))
        small = {i: (time_s, shrunk(pixels, sampling.motion_side_px)) for i, (time_s, pixels) in frames.items() if i in motion}
        motion_rgb, motion_timestamps_s = stack(small, motion, shrunk(np.empty(decoder.shape, np.uint8), sampling.motion_side_px).shape)
        spread, burst = {shown[p] for p in plan.spread}, {shown[p] for p in plan.burst}
        burst_rgb, burst_timestamps_s = stack(frames, burst, decoder.shape, keep=spread)
        spread_rgb, timestamps_s = stack(frames, spread, decoder.shape)
        if not len(spread_rgb):
            raise UnreadableError(name, "has no frame that can be decoded", REMEDY)
        return Clip(
            frames_rgb=spread_rgb,
            timestamps_s=timestamps_s,
            burst_rgb=burst_rgb,
            burst_timestamps_s=burst_timestamps_s,
            motion_rgb=motion_rgb,
            motion_timestamps_s=motion_timestamps_s,
            is_still=len(shown) == 1,
            facts=_facts(container, stream, packets, decoder, data=data, sha256=sha256),
        )


def read_sound(data: bytes, limits: Limits, name: str) -> Float32Array | None:
    """Decode the first audio stream; see `kyc_guard.media.reading.read_audio`."""
    with _opened(data, limits, name) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return None
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        start_s = _start_s(container)
        _configure(stream, limits)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE_HZ)
        chunks: list[Float32Array] = []
        packets, seconds = 0, 0.0
        for packet in container.demux(stream):
            packets += packet.size > 0
            try:
                decoded = stream.codec_context.decode(packet if packet.size else None)
            except _ERRORS:  # one damaged packet is a click, not the end of the recording
                continue
            for frame in decoded:
                lead_s = max(frame.time - start_s, 0.0) if frame.time is not None and not chunks else 0.0
                seconds += lead_s + frame.samples / frame.sample_rate
                if seconds > limits.max_duration_s:  # before resampling: a low declared rate blows few samples up to many
                    raise LimitError(name, f"has more than {limits.max_duration_s:g} s of sound", "send a shorter recording")
                if not chunks:
                    chunks.append(np.zeros(int(lead_s * AUDIO_RATE_HZ), np.float32))
                chunks += map(_samples, resampler.resample(frame))
        if not packets:
            return None
        if not chunks:
            raise UnreadableError(name, "has a sound track that cannot be decoded", REMEDY)
        chunks += map(_samples, resampler.resample(None))
        return np.clip(np.nan_to_num(np.concatenate(chunks)), -1.0, 1.0)


def _samples(frame: Any) -> Float32Array:
    samples: Float32Array = frame.to_ndarray().reshape(-1)
    return samples


@contextmanager
def _opened(data: bytes, limits: Limits, name: str) -> Iterator[Any]:
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
        with av.open(BytesIO(data), mode="r", format=demuxer, options=options, metadata_errors="replace", io_open=_refuse) as container:
            _check_header(container, limits, name)
            yield container
    except av.error.MemoryError as error:  # FFmpeg's answer to a stream beyond max_streams
        raise _too_many_streams(name, limits) from error
    except _ERRORS as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(name, f"cannot be decoded as video or sound ({problem})", REMEDY) from error


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
            raise _too_large(name, context.width, context.height, limits)


def _too_large(name: str, width: int, height: int, limits: Limits) -> LimitError:
    return LimitError(name, f"has frames of {width}x{height}, more than {limits.max_frame_pixels} pixels", "record in 1080p or 720p")


def _video_stream(container: Any, name: str) -> Any:
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None]
    if not streams:
        raise UnreadableError(name, "has no video stream of a known codec", "send a video with a picture, or a photo")
    return max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)


def _start_s(container: Any) -> float:
    """Zero of the clip's clock, the same for frames and sound: the container's earliest presentation time."""
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def _configure(stream: Any, limits: Limits) -> None:
    context = stream.codec_context
    context.thread_count = 1  # one process a core
    context.options = {"codec_whitelist": _CODECS}
    if stream.type == "video":
        context.copy_opaque = True
        context.options |= {"max_pixels": str(limits.max_frame_pixels)}


@dataclass(frozen=True, slots=True, eq=False)
class _Packets:
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


def _demux(container: Any, stream: Any, limits: Limits, name: str) -> _Packets:
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
    times_s -= _start_s(container)
    is_key = np.array([p.is_keyframe for p in packets])
    sound_s = np.array(sounds, np.float64).reshape(-1, 2)
    return _Packets(packets, raw_times_s, times_s, is_key, np.argsort(times_s, kind="stable"), sound_s[:, 0], sound_s[:, 1])


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


_Kept = Callable[[int, UInt8Array], UInt8Array]
"""Decoding position and pixels -> the pixels that are kept."""


class _Decoder:
    """Decodes chosen packets; keeps only wanted frames."""

    def __init__(self, stream: Any, packets: _Packets, limits: Limits, name: str) -> None:
        _configure(stream, limits)
        self._context = stream.codec_context
        self._packets = packets
        self._limits = limits
        self._name = name
        self.errors = 0
        self.rotation_deg = 0
        self._kept: _Kept = lambda _, pixels: pixels
        self.sizes: Counter[tuple[int, ...]] = Counter()

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3) of most wanted frames."""
        return self.sizes.most_common(1)[0][0] if self.sizes else (0, 0, 3)

    def frames(self, wanted: set[int], kept: _Kept) -> dict[int, tuple[float, UInt8Array]]:
        """Presentation time and RGB pixels by decoding position, in presentation order; what cannot be decoded is left out.

        ``kept`` says what is kept of a frame, so that a long clip need not be held in full size.
        """
        self._kept = kept
        found: dict[int, UInt8Array] = {}
        runs = self._runs(wanted)
        for start, stop in runs:
            before = len(found)
            self._decode(start, stop, wanted, found)
            if len(found) == before and runs != [(0, stop)]:
                # The container calls a frame a keyframe that is none: only decoding from the beginning is safe.
                found.clear()
                self.sizes.clear()
                self.errors = 0
                self._decode(0, runs[-1][1], wanted, found)
                break
        # The order in which a decoder gives frames out is the truth; some containers (H.264 in AVI) shuffle the times.
        times_s = np.sort(self._packets.times_s[list(found)])
        return {i: (float(time_s), pixels) for (i, pixels), time_s in zip(found.items(), times_s, strict=True)}

    def _runs(self, wanted: set[int]) -> list[tuple[int, int]]:
        """Disjoint stretches [start, stop) of packets that must be decoded, each beginning where a decoder can begin."""
        keys = np.flatnonzero(self._packets.is_key)
        times_s = self._packets.times_s
        runs: list[tuple[int, int]] = []
        for start, stop in sorted((int(max(keys[(keys <= i) & (times_s[keys] <= times_s[i])], default=0)), i + 1) for i in wanted):
            # A frame shown before its own keyframe (open GOP) refers to the group before as well: the two are one stretch.
            if runs and start < runs[-1][1]:
                runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
            else:
                runs.append((start, stop))
        return runs

    def _decode(self, start: int, stop: int, wanted: set[int], found: dict[int, UInt8Array]) -> None:
        for i in range(start, stop):
            self._context.skip_frame = "DEFAULT" if i in wanted else "NONREF"
            self._step(self._packets.packets[i], wanted, found)
        self._step(None, wanted, found)
        self._context.flush_buffers()

    def _step(self, packet: Any, wanted: set[int], found: dict[int, UInt8Array]) -> None:
        try:
            decoded = self._context.decode(packet)
        except _ERRORS:  # a damaged packet costs its own frame; none left is an error later
            self.errors += 1
            return
        for frame in decoded:
            i = frame.opaque[0] if frame.opaque else -1
            if frame.width * frame.height > self._limits.max_frame_pixels:
                raise _too_large(self._name, frame.width, frame.height, self._limits)
            if i in wanted and i not in found:
                pixels, self.rotation_deg = _upright(frame)
                self.sizes[pixels.shape] += 1
                found[i] = self._kept(i, pixels)


def _upright(frame: Any) -> tuple[UInt8Array, int]:
    """(H, W, 3) RGB pixels turned and mirrored as the container's display matrix says, and the clockwise turn in degrees."""
    pixels: UInt8Array = frame.to_ndarray(format="rgb24", threads=1)
    if "DISPLAYMATRIX" not in frame.side_data:
        return pixels, 0
    # Row-major 3x3 of 16.16 fixed point: x' = a x + c y, y' = b x + d y. Source: ISO/IEC 14496-12, 6.2.2.
    a, b, _, c, d = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32)[:5].tolist()
    mirror = -1 if a * d < b * c else 1
    rotation_deg = round(math.degrees(math.atan2(b, mirror * a)) / 90) % 4 * 90
    if abs(b) > abs(a):
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1], rotation_deg


def stack(
    frames: dict[int, tuple[float, UInt8Array]], chosen: Collection[int], shape: tuple[int, ...], keep: Collection[int] = ()
) -> tuple[UInt8Array, Float64Array]:
    """(T, *shape) pixels and (T,) times of the chosen frames of that shape, which leave ``frames`` unless in ``keep``.

    So the pixels of a 4K clip are never in memory twice.
    """
    stacked = np.empty((len(chosen), *shape), np.uint8)
    times_s: list[float] = []
    for i in [i for i in frames if i in chosen]:
        time_s, pixels = frames[i] if i in keep else frames.pop(i)
        if pixels.shape == shape:
            stacked[len(times_s)] = pixels
            times_s.append(time_s)
    return stacked[: len(times_s)], np.array(times_s, np.float64)


def _facts(container: Any, stream: Any, packets: _Packets, decoder: _Decoder, *, data: bytes, sha256: str) -> ContainerFacts:
    tags = dict(container.metadata)
    for s in container.streams:
        tags |= {f"stream{s.index}.{key}": value for key, value in s.metadata.items()}
    tags = clean_tags(tags)
    findings = {
        "missing_frames": max(stream.frames - len(packets.packets), 0),
        "undecodable_packets": decoder.errors,
        "frames_of_other_size": decoder.sizes.total() - decoder.sizes[decoder.shape],
    }
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
        rotation_deg=decoder.rotation_deg,
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
