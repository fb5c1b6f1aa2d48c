"""Synthetic voices to learn from: the same speech through a vocoder, and espeak-ng. (N,) float32 at 16 kHz in and out.

Sources: Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, with the momentum of Perraudin et
al., "A fast Griffin-Lim algorithm", 2013; Atal and Hanauer, "Speech analysis and synthesis by linear prediction", 1971.
"""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter, resample_poly

from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.types import Float32Array, Float64Array

_FRAME, _HOP = 512, 128


def griffin_lim(audio: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Phases thrown away and guessed again from magnitudes."""
    return _inverted(np.abs(_stft(audio)), len(audio), rng)


def mel_griffin_lim(audio: Float32Array, rng: np.random.Generator) -> Float32Array:
    """As the last step of a text-to-speech chain of 2017 to 2019: 80 mel bands, magnitudes and phases guessed."""
    magnitude, bank = np.abs(_stft(audio)), _mel_bank()
    guessed = np.maximum(np.linalg.pinv(bank) @ (bank @ magnitude), 1e-6)
    return _inverted(guessed, len(audio), rng)


def lpc(audio: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Pulses or noise through an all-pole filter, frame by frame: no natural residual is left."""
    frame, hop, order = 480, 160, 18
    padded = np.pad(audio.astype(np.float64), (frame // 2, frame))
    out, phase = np.zeros(len(padded)), 0.0
    for start in range(0, len(audio), hop):
        part = padded[start : start + frame] * np.hanning(frame)
        lags = np.fft.irfft(np.abs(np.fft.rfft(part, 1024)) ** 2)[:frame]
        lags[0] = lags[0] * 1.0001 + 1e-9
        predictor = solve_toeplitz(lags[:order], lags[1 : order + 1])
        gain = np.sqrt(max(float(lags[0] - predictor @ lags[1 : order + 1]), 0.0) / frame)
        lag = int(np.argmax(lags[40:230])) + 40
        if lags[lag] > 0.35 * lags[0]:
            phases = phase + np.arange(1, frame + 1) / lag
            source = np.diff(np.floor(phases), prepend=np.floor(phase)) * np.sqrt(lag)
            phase = (phase + hop / lag) % 1.0
        else:
            source = rng.normal(size=frame)
        out[start : start + frame] += lfilter([gain], np.concatenate([[1.0], -predictor]), source) * np.hanning(frame)
    return out[frame // 2 : frame // 2 + len(audio)].astype(np.float32)


def espeak(text: str, voice: str) -> Float32Array:
    """Debian's espeak-ng, a formant synthesiser.

    Raises:
        FileNotFoundError: it is not installed (apt-get install espeak-ng).
    """
    spoken = subprocess.run(["espeak-ng", "-v", voice, "--stdout", text], capture_output=True, check=True).stdout  # noqa: S607
    with wave.open(io.BytesIO(spoken)) as file:
        rate_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64) / 32768
    return np.asarray(resample_poly(samples, AUDIO_RATE_HZ, rate_hz), np.float32)


VOCODERS: Mapping[str, Callable[[Float32Array, np.random.Generator], Float32Array]] = {
    "griffin_lim": griffin_lim,
    "mel_griffin_lim": mel_griffin_lim,
    "lpc": lpc,
}


def _stft(audio: NDArray[Any]) -> NDArray[np.complex128]:
    """(bins, frames)."""
    padded = np.pad(audio.astype(np.float64), (_FRAME, _FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    return np.asarray(np.fft.rfft(frames * np.hanning(_FRAME), axis=1).T)


def _istft(spectra: NDArray[np.complex128], length: int) -> Float64Array:
    frames = np.fft.irfft(spectra.T, axis=1) * np.hanning(_FRAME)
    out, norm = np.zeros((2, (len(frames) - 1) * _HOP + _FRAME))
    for i, frame in enumerate(frames):
        out[i * _HOP : i * _HOP + _FRAME] += frame
        norm[i * _HOP : i * _HOP + _FRAME] += np.hanning(_FRAME) ** 2
    return np.asarray(np.pad(out / np.maximum(norm, 1e-3), (0, _FRAME))[_FRAME : _FRAME + length])


def _inverted(magnitude: Float64Array, length: int, rng: np.random.Generator, rounds: int = 32) -> Float32Array:
    phases = np.exp(2j * np.pi * rng.random(magnitude.shape))
    before = np.zeros_like(phases)
    for _ in range(rounds):
        now = _stft(_istft(magnitude * phases, length))[:, : magnitude.shape[1]]
        faster = now + 0.9 * (now - before)
        phases, before = faster / (np.abs(faster) + 1e-9), now
    return _istft(magnitude * phases, length).astype(np.float32)


def _mel_bank(bands: int = 80) -> Float64Array:
    """(bands, bins) triangles, evenly on the mel scale."""
    edges_hz = 700 * (np.exp(np.linspace(0, np.log(1 + 8000 / 700), bands + 2)) - 1)
    at = np.fft.rfftfreq(_FRAME, 1 / AUDIO_RATE_HZ)[None]
    low, middle, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    return np.asarray(np.maximum(0.0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle))))
