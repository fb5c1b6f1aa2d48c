"""Pixels -> files: for the demo, the doctor and tests; what is judged is never re-encoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import av
import numpy as np
from PIL import Image

from kyc_guard.media.sound import AUDIO_RATE_HZ
from kyc_guard.types import Float32Array, Float64Array, UInt8Array

_CLOCK = Fraction(1, 90_000)
"""A usual time base of MP4 video; fine enough to carry a camera's jitter."""
_AAC_SAMPLES = 1024


def png(rgb: UInt8Array) -> bytes:
    """(H, W, 3) uint8 RGB as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(rgb: UInt8Array, quality: int = 90) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def mp4(
    frames_rgb: UInt8Array,
    *,
    fps: float = 25.0,
    crf: int = 23,
    sound: Float32Array | None = None,
    times_s: Float64Array | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Frames, and sound where there is some, as an H.264 MP4 file; the same frames give the same bytes.

    Hence one thread, and no macroblock tree: x264's look-ahead for it reads memory that nobody wrote (seen with core 165: one clip, eight
    different files).

    Args:
        frames_rgb: (T, H, W, 3) uint8 RGB, even height and width.
        crf: 18 is fine, 28 coarse.
        sound: (N,) float32 in [-1, 1], mono, 16 kHz; becomes AAC.
        times_s: (T,) when each frame is shown, rising; default: every ``1 / fps`` seconds.
        options: of libx264, beyond crf and preset. tags: of the container.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata.update(tags)
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast", "mbtree": "0", **options})
        stream.height, stream.width = frames_rgb.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if times_s is not None:
            stream.codec_context.time_base = _CLOCK
        track = None if sound is None else container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
        for i, pixels in enumerate(frames_rgb):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times_s is not None:
                frame.pts, frame.time_base = round(float(times_s[i]) / _CLOCK), _CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None and sound is not None:
            for start in range(0, len(sound), _AAC_SAMPLES):
                piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None, start : start + _AAC_SAMPLES]), "fltp", "mono")
                piece.sample_rate, piece.pts, piece.time_base = AUDIO_RATE_HZ, start, Fraction(1, AUDIO_RATE_HZ)
                container.mux(track.encode(piece))
            container.mux(track.encode(None))
    return buffer.getvalue()
