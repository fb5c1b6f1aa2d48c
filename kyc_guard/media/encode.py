"""Pixels -> files: for the demo, the doctor and tests; what is judged is never re-encoded."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from kyc_guard.types import UInt8Array


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


def mp4(frames_rgb: UInt8Array, *, fps: float = 25.0, crf: int = 23) -> bytes:
    """(T, H, W, 3) uint8 RGB, even height and width, as an H.264 MP4 file; ``crf`` 18 is fine, 28 coarse."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": str(crf), "preset": "veryfast"}
        )
        stream.height, stream.width = frames_rgb.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames_rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
