"""A voice in 256 numbers: two recordings of one person lie close together, whatever is said. Biometric data: nothing here is kept.

The network began as Resemblyzer's (Apache-2.0) and was taught on by `training.speaker`. Source: L. Wan et al., "Generalized
end-to-end loss for speaker verification", ICASSP 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.runtime import Net
from kyc_guard.types import Float32Array

MODEL = "speaker"
MELS = 40
WINDOW_FRAMES = 160
"""1.6 s, what the net hears at once."""
_STEP_FRAMES = 77
_FRAME, _HOP = 400, 160
_LEVEL_DB = -30.0
_AROUND_S = 0.15
"""Of sound on either side of speech is kept: a voice activity net closes on breath and last consonants."""


@dataclass(frozen=True, slots=True)
class VoicePrints:
    """Sound -> print."""

    net: Net

    def __call__(self, audio: Float32Array, speech: Float32Array) -> Float32Array:
        """(256,) float32 unit vector of the voice: the mean over its windows.

        Args:
            audio: (N,) float32 in [-1, 1], mono, 16 kHz, of one speaker.
            speech: P(speech) of every 32 ms of it, at least once above one half.
        """
        return unit(self.net.run(mel=windows(spoken(audio, speech)))["embedding"].mean(axis=0))


def spoken(audio: Float32Array, speech: Float32Array) -> Float32Array:
    """The parts of a recording in which somebody speaks, one after the other.

    Raises:
        ValueError: nobody does.
    """
    active = np.repeat(speech > 0.5, 512)[: len(audio)]
    if not active.any():
        raise ValueError("no speech in it")
    kept: NDArray[np.bool_] = maximum_filter1d(active, 2 * round(_AROUND_S * AUDIO_RATE_HZ) + 1, mode="constant")
    return audio[: len(active)][kept]


def windows(voice: Float32Array) -> Float32Array:
    """(W, 160, 40) float32: power in mel bands, 100 a second, of overlapping windows of 1.6 s; short ones are said over and over."""
    level = float(np.sqrt(np.square(voice, dtype=np.float64).mean()))
    levelled = voice * np.float32(10 ** (_LEVEL_DB / 20) / max(level, 1e-9))
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(levelled, _FRAME // 2), _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft(framed * np.hanning(_FRAME + 1)[:-1], axis=1)) ** 2
    mel = (power @ _filters().T).astype(np.float32)
    if len(mel) < WINDOW_FRAMES:
        mel = np.resize(mel, (WINDOW_FRAMES, MELS))
    starts = range(0, len(mel) - WINDOW_FRAMES + 1, _STEP_FRAMES)
    return np.stack([mel[start : start + WINDOW_FRAMES] for start in starts])


def unit(vector: Float32Array) -> Float32Array:
    scaled: Float32Array = (vector / np.linalg.norm(vector)).astype(np.float32)
    return scaled


@cache
def _filters() -> Any:
    """(40, 201) triangles on Slaney's mel scale, which the net was trained with; the ``speech`` extra brings them."""
    from faster_whisper.feature_extractor import FeatureExtractor

    return FeatureExtractor.get_mel_filters(AUDIO_RATE_HZ, _FRAME, n_mels=MELS)
