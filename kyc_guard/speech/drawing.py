"""One picture of a spoken phrase for the reviewer: waveform, words where they were heard, and the mouth below."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from kyc_guard.faces.mouth import Mouth
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.types import Float32Array, UInt8Array

_WIDTH_PX, _HEIGHT_PX = 1200, 300
_WAVE_PX, _WORD_PX = 120, 70
_INK, _WAVE, _GOOD, _BAD = (40, 40, 40), (90, 130, 190), (30, 130, 60), (190, 40, 40)


def timeline(audio: Float32Array | None, mouth: Mouth, words: Sequence[tuple[str, float, float, float]]) -> UInt8Array:
    """(300, 1200, 3) uint8 RGB.

    Args:
        audio: (N,) mono, 16 kHz; its sample 0 is second 0 of the mouth's clock.
        words: word, start and end in seconds, and by how much it is likelier than any other: red below 0.
    """
    picture = np.full((_HEIGHT_PX, _WIDTH_PX, 3), 255, np.uint8)
    ends_s = [0.1, *([] if audio is None else [len(audio) / AUDIO_RATE_HZ]), *mouth.times_s[-1:], *(end for _, _, end, _ in words)]
    scale = _WIDTH_PX / max(ends_s)
    if audio is not None and len(audio):
        edges = np.linspace(0, len(audio), min(round(len(audio) / AUDIO_RATE_HZ * scale), len(audio)) + 1).astype(int)[:-1]
        loud = np.maximum.reduceat(np.abs(audio), edges)
        for x, height in enumerate(loud / (loud.max() + 1e-9) * (_WAVE_PX / 2 - 4)):
            cv2.line(picture, (x, round(_WAVE_PX / 2 - height)), (x, round(_WAVE_PX / 2 + height)), _WAVE)
    for number, (word, start_s, end_s, margin) in enumerate(words):
        colour, x = _GOOD if margin >= 0 else _BAD, round(start_s * scale)
        line = _WAVE_PX + 24 + 30 * (number % 2)  # two lines by turns, so that short words do not cover one another
        cv2.line(picture, (x, 0), (x, _HEIGHT_PX), (220, 220, 220))
        cv2.rectangle(picture, (x + 1, _WAVE_PX + 4), (max(round(end_s * scale) - 1, x + 2), _WAVE_PX + 8), colour, -1)
        cv2.putText(picture, word.encode("ascii", "replace").decode(), (x + 3, line), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1)
        cv2.putText(picture, f"{margin:+.1f}", (x + 3, line + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1)
    seen = np.isfinite(mouth.opening)
    if seen.any():
        top, room = _WAVE_PX + _WORD_PX, _HEIGHT_PX - _WAVE_PX - _WORD_PX - 6
        height = mouth.opening / (np.nanmax(mouth.opening) + 1e-9)
        points = np.stack([mouth.times_s * scale, top + room * (1 - height)], axis=1)
        for run in np.split(points, np.flatnonzero(~seen)):
            cv2.polylines(picture, [run[np.isfinite(run[:, 1])].round().astype(np.int32)], isClosed=False, color=_INK, lineType=cv2.LINE_AA)
    return picture
