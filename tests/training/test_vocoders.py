"""Vocoders keep the length and the loudness over time, and lose the wave itself."""

from __future__ import annotations

import numpy as np
import pytest
from talking import babble

from training.vocoders import VOCODERS


@pytest.mark.parametrize("name", VOCODERS)
def test_a_vocoder_says_the_same_with_another_wave(name: str) -> None:
    sound = babble(1.5)[0]
    made = VOCODERS[name](sound, np.random.default_rng(0))
    assert made.shape == sound.shape
    assert made.dtype == np.float32
    assert np.isfinite(made).all()

    def level(x: np.ndarray) -> np.ndarray:
        return np.log(np.square(x[:23_680].reshape(-1, 320)).mean(axis=1) + 1e-4)

    assert np.corrcoef(level(made), level(sound))[0, 1] > 0.8
    assert abs(np.corrcoef(made, sound)[0, 1]) < 0.5
