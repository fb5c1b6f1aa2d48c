"""Hands before a face. MediaPipe's hand model, one finder a thread, as for faces."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import cv2
import numpy as np

from kyc_guard.faces.finding import OVAL
from kyc_guard.faces.quiet import quiet_native_logs
from kyc_guard.stages import stage
from kyc_guard.types import Face, Float32Array, UInt8Array


class HandFinder:
    """Finds hands in single frames. One per thread: see `hand_finder`."""

    def __init__(self) -> None:
        with quiet_native_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mediapipe.python.solutions import hands

            # The light model: only where a hand is matters here, not its joints.
            self._hands = hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=0, min_detection_confidence=0.3)
            self._hands.process(np.zeros((64, 64, 3), np.uint8))

    @stage("find hands")
    def find(self, frame_rgb: UInt8Array) -> list[Float32Array]:
        """(21, 2) float32 landmarks in pixels of each hand."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result: Any = self._hands.process(np.ascontiguousarray(frame_rgb))
        size = np.array([frame_rgb.shape[1], frame_rgb.shape[0]], np.float32)
        return [np.array([(p.x, p.y) for p in hand.landmark], np.float32) * size for hand in result.multi_hand_landmarks or ()]


_local = threading.local()


def hand_finder() -> HandFinder:
    """The calling thread's finder, made on first use."""
    finder: HandFinder | None = getattr(_local, "finder", None)
    if finder is None:
        finder = _local.finder = HandFinder()
    return finder


def covered_share(face: Face, hands_px: list[Float32Array]) -> float:
    """Share of the face's oval that lies under the hulls of hands, 0..1."""
    oval = cv2.convexHull(np.ascontiguousarray(face.landmarks_px[list(OVAL), :2]))
    whole = float(cv2.contourArea(oval))
    if whole <= 0:
        return 0.0
    parts = [float(cv2.intersectConvexConvex(oval, cv2.convexHull(hand))[0]) for hand in hands_px]
    return min(1.0, sum(parts) / whole)
