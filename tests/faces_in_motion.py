"""A public-domain portrait set in motion: clips whose faces are known, so that nothing has to be found."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from skimage.data import astronaut

from kyc_guard.config import Sampling
from kyc_guard.faces import face_finder, measure
from kyc_guard.submission import Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceTrack, Float32Array, UInt8Array

SPREAD, BURST, RATE_HZ = 12, 16, 25.0
FACTS = ContainerFacts("test", 0, "")


@cache
def portrait() -> tuple[UInt8Array, Face]:
    """(256, 256, 3) RGB and its face."""
    image = np.ascontiguousarray(astronaut()[:256, 96:352])
    return image, face_finder().find(image)[0]


Scene = Callable[[float, int], tuple[UInt8Array, Float32Array]]
"""(time in seconds, number of the frame) -> picture and mesh."""


def evidence(scene: Scene, *, seconds: float = 4.0, burst: int = BURST) -> Evidence:
    """What the pipeline would gather of a silent scene filmed for so long; nobody follows the face in its evenly spread frames."""
    count = round(seconds * RATE_HZ)
    spread = np.unique(np.linspace(0, count - 1, SPREAD).round().astype(int))
    start = max(0, count // 2 - burst // 2)
    near = np.arange(start, min(start + burst, count))
    frames, faces = _filmed(scene, spread)
    burst_frames, burst_faces = _filmed(scene, near)
    even = np.unique(np.arange(0, count - 1, RATE_HZ / Sampling().challenge_hz).round().astype(int))
    motion = np.stack([scene(n / RATE_HZ, int(n))[0] for n in even])
    clip = Clip(
        frames, spread / RATE_HZ, burst_frames, near / RATE_HZ, is_still=False, facts=FACTS,
        motion_rgb=motion, motion_timestamps_s=even / RATE_HZ,
    )  # fmt: skip
    return Evidence(Submission("test"), clip=clip, track=FaceTrack(faces, 0), burst_track=FaceTrack(burst_faces, 0))


def _filmed(scene: Scene, numbers: np.ndarray) -> tuple[UInt8Array, tuple[Face, ...]]:
    shots = [scene(n / RATE_HZ, int(n)) for n in numbers]
    return np.stack([s[0] for s in shots]), tuple(measure(*s) for s in shots)


def moved(matrix: Float32Array) -> tuple[UInt8Array, Float32Array]:
    """The portrait under an affine (2, 3) motion, pixels and mesh alike."""
    image, face = portrait()
    height, width = image.shape[:2]
    mesh = face.landmarks_px.copy()
    mesh[:, :2] = mesh[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), mesh


def noisy(image: UInt8Array, number: int, sigma: float = 2.0) -> UInt8Array:
    """A sensor's noise: another at every frame."""
    grain = np.random.default_rng(number).normal(0, sigma, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def sway(time_s: float, reach_px: float = 6.0) -> Float32Array:
    """A slow wander that does not repeat within a clip."""
    x, y = reach_px * np.sin(1.1 * time_s + 0.3), reach_px * np.sin(0.7 * time_s + 0.19 * time_s * time_s)
    return np.array([[1, 0, x], [0, 1, y]], np.float32)


def frozen(_time_s: float, _number: int) -> tuple[UInt8Array, Float32Array]:
    return moved(np.eye(2, 3, dtype=np.float32))


def waved(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
    """A photo moved before a camera: pixels and mesh go together."""
    image, mesh = moved(sway(time_s))
    return noisy(image, number), mesh


def looped(time_s: float, _number: int) -> tuple[UInt8Array, Float32Array]:
    """The first 1.2 s of a moved photo, with its noise, again and again."""
    number = round(time_s * RATE_HZ) % 30
    return waved(number / RATE_HZ, number)


def turned(time_s: float, _number: int) -> tuple[UInt8Array, Float32Array]:
    """The first 1.4 s of a moved photo, with its noise, there and back again."""
    number = round(time_s * RATE_HZ) % 70
    number = min(number, 70 - number)
    return waved(number / RATE_HZ, number)


def still_noise(_time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
    image, mesh = moved(np.eye(2, 3, dtype=np.float32))
    return noisy(image, number), mesh
