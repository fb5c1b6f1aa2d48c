"""Geometry shared by the digital attacks: aligning one face's mesh to another's and warping pictures along."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.attacks.hulls import LEFT_BROW, LEFT_EYE, LIPS, MOUTH_OPENING, NOSE, OVAL, RIGHT_BROW, RIGHT_EYE, face_size_px
from kyc_guard.types import Float32Array, UInt8Array

ANCHORS = (
    *OVAL,
    *LEFT_BROW[::2],
    *RIGHT_BROW[::2],
    *LEFT_EYE[::2],
    *RIGHT_EYE[::2],
    *NOSE,
    *LIPS[::2],
    *MOUTH_OPENING[::4],
    4,
    6,
    195,
    50,
    280,
)
"""About a hundred mesh points: enough to carry the features, few enough to triangulate in half a millisecond."""

_RIGID = (33, 133, 362, 263, 168, 1, 2, 61, 291, 152, 234, 454)
_GRID_PX = 96


def similarity(source_px: Float32Array, target_px: Float32Array) -> Float32Array:
    """(2, 3) float32 matrix of the rotation, scale and shift that brings ``source_px`` (N, 2) closest to ``target_px`` (N, 2).

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991,
    in two dimensions, where it has a closed form over complex numbers.
    """
    a = source_px.astype(np.float64) @ np.array([1, 1j])
    b = target_px.astype(np.float64) @ np.array([1, 1j])
    centred = a - a.mean()
    turn = np.vdot(centred, b - b.mean()) / max(float(np.vdot(centred, centred).real), 1e-6)
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], np.float32)


def align(landmarks_px: Float32Array, target_px: Float32Array, indices: tuple[int, ...] = _RIGID) -> Float32Array:
    """The `similarity` between two meshes over ``indices``."""
    return similarity(landmarks_px[list(indices)], target_px[list(indices)])


def move(matrix: Float32Array, points_px: Float32Array) -> Float32Array:
    """Apply a (2, 3) matrix to (N, 2) points."""
    moved: Float32Array = (points_px @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return moved


def yaw(landmarks_px: Float32Array) -> float:
    """How far the nose tip lies off the middle between the cheeks: 0 frontal, about +-1 profile; sign as in the picture."""
    nose, left, right = landmarks_px[1], landmarks_px[234], landmarks_px[454]
    across = right - left
    return float(2 * np.dot(nose - left, across) / max(float(np.dot(across, across)), 1e-6) - 1)


def poses_fit(landmarks_px: Float32Array, other_px: Float32Array) -> bool:
    """Whether one face can be warped onto the other without tearing hidden cheeks into view."""
    return abs(yaw(landmarks_px) - yaw(other_px)) < 0.55


def warp(matrix: Float32Array, image_rgb: UInt8Array, height_px: int, width_px: int) -> UInt8Array:
    """``image_rgb`` through a (2, 3) matrix into (H, W, 3); shrinking is averaged, not aliased."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.6:
        # Halving the source first is what a mip-map does: warpAffine itself samples only four neighbours.
        image_rgb = cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = (matrix @ np.diag([1 / scale, 1 / scale, 1])).astype(np.float32)
    warped: UInt8Array = cv2.warpAffine(image_rgb, matrix, (width_px, height_px), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def warp_mesh(image_rgb: UInt8Array, landmarks_px: Float32Array, target_px: Float32Array, height_px: int, width_px: int) -> UInt8Array:
    """Piecewise-affine warp of a face onto another mesh: Delaunay triangles over `ANCHORS` of the target.

    The backward map is piecewise linear, so it is evaluated on a grid of at most 96 cells and interpolated.

    ``image_rgb`` (h, w, 3) uint8 has the mesh ``landmarks_px`` (478, 2); ``target_px`` (478, 2) lies in the picture to be made.

    Returns:
        (height_px, width_px, 3) uint8; outside the face the picture continues by the similarity between the meshes.
    """
    matrix = align(landmarks_px, target_px)
    aligned = warp(matrix, image_rgb, height_px, width_px)
    displacement = displace(
        target_px[list(ANCHORS)], move(matrix, landmarks_px[list(ANCHORS)]), height_px, width_px, face_size_px(target_px)
    )
    return remap(aligned, displacement)


def remap(image_rgb: UInt8Array, displacement_px: Float32Array) -> UInt8Array:
    """Sample ``image_rgb`` (H, W, 3) at each pixel plus ``displacement_px`` (H, W, 2)."""
    height_px, width_px = image_rgb.shape[:2]
    sample = displacement_px + np.dstack(np.meshgrid(np.arange(width_px, dtype=np.float32), np.arange(height_px, dtype=np.float32)))
    moved: UInt8Array = cv2.remap(image_rgb, sample, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return moved


def displace(at_px: Float32Array, to_px: Float32Array, height_px: int, width_px: int, reach_px: float) -> Float32Array:
    """(H, W, 2) float32: piecewise-linear displacement that equals ``to_px - at_px`` at ``at_px`` and fades to 0 beyond ``reach_px``."""
    scale = min(1.0, _GRID_PX / max(height_px, width_px))
    grid_h, grid_w = max(2, round(height_px * scale)), max(2, round(width_px * scale))
    low, high = at_px.min(axis=0) - reach_px, at_px.max(axis=0) + reach_px
    rim = np.array([[low[0], low[1]], [high[0], low[1]], [low[0], high[1]], [high[0], high[1]]], np.float32)
    points = np.concatenate([at_px, rim])
    shifts = np.concatenate([to_px - at_px, np.zeros((4, 2), np.float32)])
    triangles = delaunay(points)
    owner = np.full((grid_h, grid_w), -1, np.int32)
    factors = np.array([grid_w / width_px, grid_h / height_px], np.float32)
    on_grid = (points + 0.5) * factors - 0.5
    corners = np.round(on_grid[triangles] * 16).astype(np.int32)
    for number, corner in enumerate(corners):
        cv2.fillConvexPoly(owner, corner, number, shift=4)
    # In every triangle the shift is an affine function of the position: three unknowns per axis, solved for all at once.
    basis = np.concatenate([on_grid[triangles], np.ones((len(triangles), 3, 1), np.float32)], axis=2)
    affine = np.linalg.solve(basis.astype(np.float64), shifts[triangles].astype(np.float64)).astype(np.float32)
    field = np.zeros((grid_h, grid_w, 2), np.float32)
    y, x = np.nonzero(owner >= 0)
    where = affine[owner[y, x]]
    field[y, x] = where[:, 0] * x[:, None] + where[:, 1] * y[:, None] + where[:, 2]
    full: Float32Array = cv2.resize(field, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return full


def delaunay(points_px: Float32Array) -> NDArray[np.int64]:
    """(T, 3) indices of the Delaunay triangles of (N, 2) points; slivers are dropped."""
    low = np.floor(points_px.min(axis=0)) - 1
    # Subdiv2D returns coordinates, not indices: snapping to distinct 1/8 px makes them exact keys.
    snapped = np.round((points_px - low) * 8).astype(np.int64)
    keys = {(int(x), int(y)): i for i, (x, y) in enumerate(snapped)}
    high = snapped.max(axis=0) + 8
    plane = cv2.Subdiv2D((0, 0, int(high[0]) + 1, int(high[1]) + 1))
    plane.insert([(float(x), float(y)) for x, y in keys])
    listed = np.asarray(plane.getTriangleList()).reshape(-1, 3, 2)
    triangles = [[keys.get((round(float(x)), round(float(y))), -1) for x, y in t] for t in listed]
    found: NDArray[np.int64] = np.array([t for t in triangles if min(t) >= 0], np.int64).reshape(-1, 3)
    a, b, c = (points_px[found[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    kept: NDArray[np.int64] = found[np.abs(area) > 0.05]
    return kept
