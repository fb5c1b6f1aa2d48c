"""Is the face that was followed through the motion frames the one that all other checks judge?"""

from __future__ import annotations

import math

import numpy as np

from kyc_guard.faces.finding import face_square
from kyc_guard.types import Clip, FaceTrack


def same_subject(clip: Clip, track: FaceTrack | None, followed: FaceTrack) -> bool:
    """Whether the face ``followed`` through the motion frames lies, most of the time, on that of ``track``.

    A follower keeps the face it began with, also when a larger one comes into view. Without any frame in which both are seen nobody
    can say so: ``False``.
    """
    if track is None or not len(clip.motion_timestamps_s):
        return False
    scale = clip.motion_rgb.shape[1] / clip.frames_rgb.shape[1]
    agreed = []
    for subject, time_s in zip(track.faces, clip.timestamps_s, strict=True):
        if subject is None:
            continue
        face = followed.faces[int(np.abs(clip.motion_timestamps_s - time_s).argmin())]
        if face is not None:
            (x, y), side = face_square(subject)
            (fx, fy), _ = face_square(face)
            agreed.append(math.hypot(fx - scale * x, fy - scale * y) < scale * side)
    return bool(agreed) and sum(agreed) * 2 > len(agreed)
