"""Somebody who speaks, made of nothing: babble by a glottal pulse train through moving formants, and the mouth that goes with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from faces_in_motion import RATE_HZ, evidence, portrait, waved
from scipy.signal import lfilter

from kyc_guard.faces import measure
from kyc_guard.types import Evidence, FaceTrack, Float32Array

SOUND_HZ = 16_000
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
"""First three formants in Hz. Source: Peterson and Barney, "Control methods used in a study of the vowels", 1952."""
_OPEN = (0.12, 0.08, 0.03, 0.09, 0.04)
_SYLLABLE_S = 0.22
_LOWER_LIP = (14, 87, 178, 88, 317, 402, 318, 17, 84, 314, 152)


@cache
def babble(seconds: float = 4.0, seed: int = 0) -> tuple[Float32Array, np.ndarray]:
    """(N,) float32 at 16 kHz, and (M,) opening of the mouth in eye distances at `RATE_HZ`."""
    rng = np.random.default_rng(seed)
    count, syllable = round(seconds * SOUND_HZ), round(_SYLLABLE_S * SOUND_HZ)
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 0.7 * np.arange(count) / SOUND_HZ) + rng.normal(0, 1, count).cumsum() * 0.01
    pulses = np.diff(np.floor(np.cumsum(pitch_hz) / SOUND_HZ), prepend=0.0)
    source = lfilter([1.0], [1.0, -0.95], pulses) + 0.01 * rng.normal(size=count)
    sound, opening = np.zeros(count), np.zeros(count)
    for start in range(0, count, syllable):
        kind, stop = int(rng.integers(len(_VOWELS))), min(start + syllable, count)
        if rng.random() < 0.15:
            continue  # a breath
        part = source[start:stop] * np.hanning(stop - start + 2)[1:-1] ** 0.5
        for formant_hz in _VOWELS[kind]:
            radius, angle = np.exp(-np.pi * 80 / SOUND_HZ), 2 * np.pi * formant_hz / SOUND_HZ
            part = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], part)
        sound[start:stop] += part / (np.abs(part).max() + 1e-9)
        opening[start:stop] = _OPEN[kind] * np.hanning(stop - start)
    sound += 0.01 * rng.normal(size=count)
    frames = np.arange(round(seconds * RATE_HZ))
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32), opening[(frames * SOUND_HZ / RATE_HZ).astype(int)]


@cache
def speaking(seconds: float = 4.0, *, late_s: float = 0.0, still: bool = False, seed: int = 0) -> Evidence:
    """The portrait, moved by a hand, babbles into a microphone; its lips may come late, or not at all."""
    sound, opening = babble(seconds, seed)
    times_s = np.arange(len(opening)) / RATE_HZ
    opening = np.interp(times_s - late_s, times_s, opening) * (0.0 if still else 1.0)
    scene = evidence(waved, seconds=seconds)
    faces = []
    eyes = portrait()[1].landmarks_px[[33, 263], :2]
    unit_px = float(np.linalg.norm(eyes[0] - eyes[1]))
    rng = np.random.default_rng(1)
    for number, gap in enumerate(opening):
        image, mesh = waved(number / RATE_HZ, number)
        mesh = mesh + rng.normal(0, 0.05, mesh.shape).astype(np.float32)
        mesh[list(_LOWER_LIP), 1] += np.float32(gap * unit_px)
        faces.append((image, mesh))
    assert scene.clip is not None
    clip = replace(scene.clip, motion_rgb=np.stack([image for image, _ in faces]), motion_timestamps_s=times_s)
    return replace(scene, clip=clip, motion_track=FaceTrack(tuple(measure(*f) for f in faces), 0), audio=sound)
