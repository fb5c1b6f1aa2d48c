"""Files made for demo, doctor and red team: the same pixels give the same bytes, which say what was asked."""

from __future__ import annotations

import numpy as np

from kyc_guard.config import Limits, Sampling
from kyc_guard.media import read_audio, read_clip
from kyc_guard.media.encode import mp4


def wandering(count: int) -> np.ndarray:
    """A smooth pattern that moves, so that the encoder has motion to look for."""
    y, x = np.mgrid[:96, :128]
    frames = [127 + 60 * np.sin((x + 2 * k) / 9) + 60 * np.cos((y - k) / 7) for k in range(count)]
    return np.repeat(np.clip(frames, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def test_the_same_frames_give_the_same_file() -> None:
    files = {mp4(wandering(40), crf=30) for _ in range(8)}
    assert len(files) == 1


def test_a_film_carries_its_pictures_times_and_sound() -> None:
    times_s = np.cumsum(np.full(20, 0.05)) + np.linspace(0, 0.02, 20)
    tone = 0.3 * np.sin(np.arange(16_000) / 9).astype(np.float32)
    data = mp4(wandering(20), crf=12, sound=tone, times_s=times_s)
    clip = read_clip(data, Sampling(frames=20, burst_frames=0), Limits(), name="film.mp4")
    assert len(clip.frames_rgb) == 20
    assert np.abs(clip.frames_rgb.astype(int) - wandering(20)).mean() < 3
    assert np.abs(np.diff(clip.timestamps_s) - np.diff(times_s)).max() < 1e-3
    heard = read_audio(data, Limits(), name="film.mp4")
    assert heard is not None
    assert np.corrcoef(heard[4000:12000], tone[4000:12000])[0, 1] > 0.95
