"""A face as 128 numbers of length one, by our own net (weights/cards/match.md). Near = alike.

It was taught by dlib's ResNet (CC0), which it is derived from; `training.embedding` says how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.runtime import Net
from kyc_guard.types import Face, Float32Array, UInt8Array
from kyc_guard.weights import Weights

MODEL = "face_embedding"
SIDE_PX = 150
WIDTH = 128

# Mesh landmarks: image-right eye outer and inner corner, image-left eye outer and inner corner, base of the nose; and where they lie
# in an upright face, as shares of its square. Source: the mean face of dlib's get_face_chip_details, which the teacher was trained on.
_FIVE_POINTS = (263, 362, 33, 133, 2)
_UPRIGHT = np.array(
    [
        (0.8595674596, 0.2134981538),
        (0.6460604764, 0.2289674388),
        (0.1205750621, 0.2137274527),
        (0.3340850614, 0.2290642403),
        (0.4901123136, 0.6277975316),
    ]
)
_PADDING = 0.25


def distance(a: Float32Array, b: Float32Array) -> float:
    """Euclidean distance of two (128,) embeddings, 0 to 2; 1.41 between faces that have nothing in common."""
    return float(np.linalg.norm(a - b))


def aligned(image_rgb: UInt8Array, landmarks_px: Float32Array, *, frame_px: int = SIDE_PX) -> UInt8Array:
    """The face upright and centred, eyes level, padding 0.25: (frame_px, frame_px, 3) uint8 RGB.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
        landmarks_px: (>= 468, >= 2) mesh of the face in that image.
        frame_px: side of the picture; more than 150 shows more around the face, which keeps its size.
    """
    target = (_UPRIGHT + _PADDING) / (1 + 2 * _PADDING) * SIDE_PX + (frame_px - SIDE_PX) / 2
    # Umeyama's similarity has a closed form over complex numbers.
    points, there = landmarks_px[list(_FIVE_POINTS), :2] @ (1, 1j), target @ (1, 1j)
    centred = points - points.mean()
    spread = float(np.vdot(centred, centred).real)
    turn = np.vdot(centred, there - there.mean()) / spread if spread > 1e-6 else 1.0 + 0.0j
    shift = there.mean() - turn * points.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    if abs(turn) < 0.6:
        image_rgb, matrix = _shrunk(image_rgb, matrix, frame_px)
    chip: UInt8Array = cv2.warpAffine(image_rgb, matrix, (frame_px, frame_px), flags=cv2.INTER_LINEAR)
    return chip


def _shrunk(image_rgb: UInt8Array, matrix: NDArray[Any], frame_px: int) -> tuple[UInt8Array, NDArray[Any]]:
    """The part of a large picture that ``matrix`` shows, reduced by averaging, since sampling four neighbours would alias."""
    height, width = image_rgb.shape[:2]
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([(0, 0, 1), (frame_px, 0, 1), (0, frame_px, 1), (frame_px, frame_px, 1)]) @ back.T
    x0, y0 = np.clip(np.floor(corners.min(axis=0)) - 2, 0, (width - 1, height - 1)).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)) + 2, (x0 + 1, y0 + 1), (width, height)).astype(int)
    scale = float(np.hypot(*matrix[:, 0]))
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    small = cv2.resize(image_rgb[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
    unit = np.array([(x1 - x0) / small.shape[1], (y1 - y0) / small.shape[0]])
    # A pixel's centre lies at its number; a small pixel's at the middle of those it stands for.
    linear = matrix[:, :2] * unit
    offset = matrix[:, 2] + matrix[:, :2] @ ((unit - 1) / 2 + (x0, y0))
    return small, np.c_[linear, offset]


class Embedder:
    """The loaded net; may be shared between threads."""

    def __init__(self, net: Net) -> None:
        self._net = net

    @classmethod
    def load(cls, weights_dir: Path) -> Self:
        """Raises ModelError unless the net is there, unaltered."""
        return cls(Net(Weights(weights_dir).get(MODEL)))

    def embed(self, chips: Sequence[UInt8Array]) -> Float32Array:
        """(N, 128) float32 unit vectors of N chips made by `aligned`."""
        if not chips:
            return np.zeros((0, WIDTH), np.float32)
        # One by one: as fast, and the same chip gives the same numbers whatever stands beside it.
        raw = np.concatenate([self._net.run(rgb=chip[None])["embedding"] for chip in chips])
        unit: Float32Array = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
        return unit


class Shown(NamedTuple):
    """One frame worth embedding."""

    frame: int
    face: Face
    weight: float
    """0..1: how frontal the face is, and how large and sharp compared with the best of its clip."""


def best_faces(faces: Sequence[Face | None], *, min_px: float, most: int = 3) -> list[Shown]:
    """The best frames of a clip, best first; distances of further frames are near-copies of theirs.

    Args:
        faces: one a frame.
        min_px: narrower faces are left out.
    """
    usable = [(i, face) for i, face in enumerate(faces) if face is not None and face.quality.size_px >= min_px]
    if not usable:
        return []
    largest = max(face.quality.size_px for _, face in usable)
    sharpest = max(face.quality.blur for _, face in usable)
    shown = []
    for i, face in usable:
        frontal = max(0.0, math.cos(math.radians(face.yaw_deg)) * math.cos(math.radians(face.pitch_deg)))
        clear = face.quality.size_px / largest * (face.quality.blur + 1.0) / (sharpest + 1.0)
        shown.append(Shown(i, face, max(frontal * math.sqrt(clear), 1e-6)))
    return sorted(shown, key=lambda s: -s.weight)[:most]


def together(vectors: Float32Array, weights: Sequence[float]) -> Float32Array:
    """(128,) unit vector of one person from (K, 128) of several frames."""
    mean = np.average(vectors, axis=0, weights=weights)
    unit: Float32Array = (mean / np.linalg.norm(mean)).astype(np.float32)
    return unit
