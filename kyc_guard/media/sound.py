"""The sound of a clip or recording, decoded by PyAV."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from kyc_guard.config import Limits
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media.container import ERRORS, REMEDY, configure, opened, start_s
from kyc_guard.types import Float32Array

AUDIO_RATE_HZ = 16_000


def read_sound(data: bytes, limits: Limits, name: str) -> Float32Array | None:
    """Decode the first audio stream; see `kyc_guard.media.reading.read_audio`."""
    with opened(data, limits, name) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            return None
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        zero_s = start_s(container)
        configure(stream, limits)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE_HZ)
        chunks: list[Float32Array] = []
        packets, seconds = 0, 0.0
        for packet in container.demux(stream):
            packets += packet.size > 0
            try:
                decoded = stream.codec_context.decode(packet if packet.size else None)
            except ERRORS:  # one damaged packet is a click, not the end of the recording
                continue
            for frame in decoded:
                lead_s = max(frame.time - zero_s, 0.0) if frame.time is not None and not chunks else 0.0
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
