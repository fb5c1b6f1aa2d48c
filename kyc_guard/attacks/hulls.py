"""Masks of the parts of a face that a manipulation replaces, from the 478-point mesh.

A swap's mask is what a detector can learn to see, and training on one hull shape teaches that shape: self-blended images
lose about ten AUC points on unseen swaps when the varied landmark hulls are left out. So a mask here is drawn from several
hull kinds, its points jittered, its outline bent, its edge feathered and its strength varied.

Source: K. Shiohara, T. Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022, section 3 (mask deformation,
two-step Gaussian blur, blending ratios); L. Li et al., "Face X-ray", CVPR 2020 (hull kinds). Widths are given there in
pixels of a 224 px crop; here they are shares of the face size, so that a mask means the same at any resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from kyc_guard.types import Float32Array

# Rings and regions of the MediaPipe face mesh, in drawing order; "left" is left in the picture.
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
JAW = OVAL[7:30]
LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
LEFT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
RIGHT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE = (168, 193, 122, 196, 236, 198, 129, 64, 98, 97, 2, 326, 327, 294, 358, 420, 456, 419, 351, 417)
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
MOUTH_OPENING = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)

_FOREHEAD = (162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389)
_NOSE_BRIDGE, _CHIN = 168, 152
_LOWER = (*OVAL[8:29], 50, 280, 98, 327, 2)
_UPPER_EDGE = (234, 50, 129, 2, 358, 280, 454)

KINDS = ("whole", "oval", "forehead", "jaw", "core", "components", "lower", "mouth", "t_zone")
FULL_FACE = ("whole", "oval", "forehead", "jaw", "core")

_MASK_FACE_PX = 128.0


def branch(rng: np.random.Generator) -> np.random.Generator:
    """A generator of its own for draws whose number depends on the picture.

    Without it the draws that follow would change from one frame of a clip to the next under the same seed.
    """
    return np.random.default_rng(int(rng.integers(2**63)))


def face_size_px(landmarks_px: Float32Array) -> float:
    """Geometric mean of the width and height of the face oval, at least 1 px."""
    extent = np.ptp(landmarks_px[list(OVAL)], axis=0)
    return float(max(1.0, np.sqrt(extent[0] * extent[1])))


def raise_forehead(landmarks_px: Float32Array, share: float) -> Float32Array:
    """Move the top of the oval up by ``share`` of the way from the nose bridge to it; the mesh ends well below the hairline."""
    points = landmarks_px.copy()
    up = landmarks_px[OVAL[0]] - landmarks_px[_NOSE_BRIDGE]
    weights = np.sin(np.linspace(0.35, np.pi - 0.35, len(_FOREHEAD)))[:, None]
    points[list(_FOREHEAD)] += (share * weights * up).astype(np.float32)
    return points


def jitter(rng: np.random.Generator, landmarks_px: Float32Array, share: float = 0.02) -> Float32Array:
    """Landmarks as another landmark detector would have placed them: stretched about the centre and noisy, by ``share`` of the face."""
    centre = landmarks_px.mean(axis=0)
    stretch = rng.normal(1.0, 1.5 * share, size=(1, 2))
    noise = rng.normal(0.0, 0.4 * share * face_size_px(landmarks_px), size=landmarks_px.shape)
    moved: Float32Array = ((landmarks_px - centre) * stretch + centre + noise).astype(np.float32)
    return moved


def outlines(kind: str, landmarks_px: Float32Array) -> list[Float32Array]:
    """The polygons of one hull kind (each (N, 2) float32 px): one of `KINDS`, or of the parts eyes, left_eye, right_eye, nose, upper.

    Raises:
        ValueError: unknown kind.
    """

    def hull(*groups: tuple[int, ...]) -> Float32Array:
        points = np.concatenate([landmarks_px[list(g)] for g in groups])
        polygon: Float32Array = np.asarray(cv2.convexHull(points)).reshape(-1, 2)
        return polygon

    left, right = (*LEFT_EYE, *LEFT_BROW), (*RIGHT_EYE, *RIGHT_BROW)
    match kind:
        case "whole":
            return [hull(tuple(range(len(landmarks_px))))]
        case "oval" | "forehead":
            return [landmarks_px[list(OVAL)]]
        case "jaw":
            return [hull(JAW, LEFT_BROW, RIGHT_BROW)]
        case "core":
            return [hull(LEFT_BROW, RIGHT_BROW, NOSE, LIPS)]
        case "components":
            return [hull(left), hull(right), hull(NOSE), hull(LIPS)]
        case "lower":
            return [hull(_LOWER)]
        case "mouth":
            return [hull(LIPS)]
        case "t_zone":
            return [hull(left, right), hull(NOSE, LIPS)]
        case "upper":
            return [hull(OVAL[:8], OVAL[29:], _UPPER_EDGE)]
        case "eyes":
            return [hull(left), hull(right)]
        case "left_eye":
            return [hull(left)]
        case "right_eye":
            return [hull(right)]
        case "nose":
            return [hull(NOSE)]
        case _:
            raise ValueError(f"unknown hull kind {kind!r}")


def hull_mask(kind: str, landmarks_px: Float32Array, height_px: int, width_px: int, grow: float = 0.0) -> Float32Array:
    """(H, W) float32 of 0 and 1: the filled hull; ``grow`` widens it by that share of the face size (negative: narrows)."""
    mask = np.zeros((height_px, width_px), np.uint8)
    for polygon in outlines(kind, landmarks_px):
        cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 1, shift=4)
    radius = round(abs(grow) * face_size_px(landmarks_px))
    if radius:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        mask = cv2.dilate(mask, kernel) if grow > 0 else cv2.erode(mask, kernel)
    return mask.astype(np.float32)


def bend(rng: np.random.Generator, mask: Float32Array, face_px: float, share: float = 0.02) -> Float32Array:
    """Elastic deformation: a smooth random displacement of about ``share`` of the face, changing over a twentieth of the picture."""
    height_px, width_px = mask.shape
    grid = rng.normal(0.0, share * face_px, size=(20, 20, 2)).astype(np.float32)
    shift = cv2.resize(grid, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    x, y = np.meshgrid(np.arange(width_px, dtype=np.float32), np.arange(height_px, dtype=np.float32))
    bent: Float32Array = cv2.remap(mask, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR)
    return bent


def feather(rng: np.random.Generator, mask: Float32Array, face_px: float) -> Float32Array:
    """Soften the edge inwards and outwards: blur, keep the fully covered core, blur again, renormalise to a maximum of 1.

    The two blurs are those of the SBI recipe: odd kernels 5-25 in a crop whose face is about 130 px, the first Gaussian
    of the kernel's natural sigma, the second so wide in sigma that it acts nearly as a box of its kernel.
    """
    first = _odd(rng.uniform(5, 25) * face_px / 130)
    second = _odd(rng.uniform(5, 25) * face_px / 130)
    soft: Float32Array = cv2.GaussianBlur(mask, (first, first), 0)
    peak = float(soft.max())
    if peak <= 0:
        return soft
    core = (soft >= 0.999 * peak).astype(np.float32)
    soft = cv2.GaussianBlur(core, (second, second), rng.uniform(5, 45) * face_px / 130)
    return soft / np.float32(soft.max())


def drawn(
    landmarks_px: Float32Array,
    height_px: int,
    width_px: int,
    draw: Callable[[Float32Array, int, int], Float32Array],
    face_px: float = _MASK_FACE_PX,
) -> Float32Array:
    """A mask drawn by ``draw(landmarks_px, height_px, width_px)`` with the face at most ``face_px``, enlarged to (H, W).

    Soft masks need no more, and their cost does not grow with the picture.
    """
    scale = min(1.0, face_px / face_size_px(landmarks_px))
    small_h, small_w = max(8, round(height_px * scale)), max(8, round(width_px * scale))
    mask = draw(landmarks_px * np.array([small_w / width_px, small_h / height_px], np.float32), small_h, small_w)
    if (small_h, small_w) != (height_px, width_px):
        mask = cv2.resize(mask, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return mask


def random_mask(
    rng: np.random.Generator, landmarks_px: Float32Array, height_px: int, width_px: int, kinds: tuple[str, ...] = KINDS
) -> Float32Array:
    """(H, W) float32 in 0..1: a hull of a random kind, jittered, bent and feathered; its maximum is 1."""
    kind = kinds[rng.integers(len(kinds))]

    def draw(points: Float32Array, h: int, w: int) -> Float32Array:
        points = jitter(rng, points, rng.uniform(0.005, 0.03))
        size = face_size_px(points)
        if kind == "forehead":
            points = raise_forehead(points, rng.uniform(0.1, 0.6))
        mask = hull_mask(kind, points, h, w, grow=rng.uniform(0.0, 0.06) if kind in {"components", "mouth", "t_zone"} else 0.0)
        return feather(rng, bend(rng, mask, size, rng.uniform(0.005, 0.025)), size)

    return drawn(landmarks_px, height_px, width_px, draw)


def random_ratio(rng: np.random.Generator) -> float:
    """Blending strength, the SBI choice: half of all blends are complete."""
    return float(rng.choice((0.25, 0.5, 0.75, 1.0, 1.0, 1.0)))


def _odd(size: float) -> int:
    return max(3, int(size) | 1)
