"""Is a recording fit to be judged by ear: bandwidth, clipping, length. Measured on the samples, whatever the file declares."""

from __future__ import annotations

import numpy as np

from kyc_guard.config import Policy
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.types import Float32Array, Float64Array, Reason

_FRAME = 512
_FLOOR_DB = -50.0
"""Below the loudest band: less is rounding, a codec's noise and what a resampler leaks beyond the band it was given."""
_RAIL = 0.99


def bandwidth_hz(audio: Float32Array) -> float:
    """Highest frequency that carries anything: within 50 dB of the loudest band of the long-term spectrum.

    A telephone's ends near 4 kHz however it was resampled.
    """
    power = spectrogram(audio).mean(axis=0)
    heard = np.flatnonzero(10 * np.log10(power / (power.max() + 1e-30) + 1e-30) > _FLOOR_DB)
    return float(heard[-1] * AUDIO_RATE_HZ / _FRAME) if len(heard) and power.max() > 0 else 0.0


def clipped_share(audio: Float32Array) -> float:
    """Share of the samples at the rail: within 1 % of the loudest, if that is at full scale."""
    peak = float(np.abs(audio).max(initial=0.0))
    return float(np.mean(np.abs(audio) >= _RAIL * peak)) if peak >= _RAIL else 0.0


def spectrogram(audio: Float32Array, frame: int = _FRAME, hop: int = _FRAME // 2) -> Float64Array:
    """(F, frame / 2 + 1) power of Hann-windowed frames; at least one."""
    padded = np.pad(audio.astype(np.float64), (0, max(0, frame - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1)) ** 2)


def unfit_sound(audio: Float32Array, policy: Policy) -> Reason | None:
    """Why nobody can judge this sound; the gates stand in policy.toml."""
    length_s = len(audio) / AUDIO_RATE_HZ
    if length_s < policy.gate("speech_min_s"):
        return Reason("sound_too_short", f"{length_s:.1f} s of sound")
    if length_s > policy.gate("speech_max_duration_s"):
        return Reason("sound_too_long", f"{length_s:.0f} s of sound")
    if not np.isfinite(audio).all():
        return Reason("sound_damaged", "samples that are not numbers")
    if (share := clipped_share(audio)) > policy.gate("speech_max_clipped"):
        return Reason("sound_clipped", f"{share:.1%} of the samples are at full scale")
    if (band_hz := bandwidth_hz(audio)) < policy.gate("speech_min_bandwidth_hz"):
        return Reason("sound_narrow_band", f"nothing above {band_hz:.0f} Hz")
    return None
