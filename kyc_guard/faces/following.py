"""One face followed through many small frames, at half the cost of finding it anew in each: for questions about movements.

MediaPipe's tracker searches again only where it lost the face. It keeps state from frame to frame, so it is reset before every
clip: the same frames give the same track.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np

from kyc_guard.faces.finding import measure
from kyc_guard.faces.quiet import quiet_native_logs
from kyc_guard.stages import stage
from kyc_guard.types import Face, FaceTrack, UInt8Array


class FaceFollower:
    """Follows the most prominent face. One per thread: see `follow_face`."""

    def __init__(self) -> None:
        with quiet_native_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mediapipe.python.solutions import face_mesh

            # Refined landmarks: without them the lids hardly move in a blink.
            self._mesh = face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.4)

    def follow(self, frames_rgb: UInt8Array) -> FaceTrack:
        with quiet_native_logs():  # a fresh start logs, and so does its first face
            self._mesh.reset()
            first = tuple(self._face(frame) for frame in frames_rgb[:1])
        return FaceTrack(faces=(*first, *(self._face(frame) for frame in frames_rgb[1:])), other_faces=0)

    def _face(self, frame_rgb: UInt8Array) -> Face | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf's deprecation notes inside MediaPipe
            result: Any = self._mesh.process(np.ascontiguousarray(frame_rgb))
        if not result.multi_face_landmarks:
            return None
        height, width = frame_rgb.shape[:2]
        mesh = np.array([(p.x * width, p.y * height, p.z * width) for p in result.multi_face_landmarks[0].landmark], np.float32)
        return measure(None, mesh)


_local = threading.local()


@stage("follow the face")
def follow_face(frames_rgb: UInt8Array) -> FaceTrack:
    """The face over time; its quality is not measured.

    Args:
        frames_rgb: (M, H, W, 3) uint8 RGB, in time order, ten and more a second.
    """
    follower: FaceFollower | None = getattr(_local, "follower", None)
    if follower is None:
        follower = _local.follower = FaceFollower()
    return follower.follow(frames_rgb)
