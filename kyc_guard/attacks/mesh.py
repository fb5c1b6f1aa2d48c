"""Geometry shared by the digital attacks: aligning one face's mesh to another's and warping pictures along."""

from __future__ import annotations

from typing import TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.attacks.face_image import Attacked, FaceImage, Simulator
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


def around_face(simulator: Simulator, rng: np.random.Generator, face: FaceImage, donor: FaceImage | None) -> Attacked:
    """Run a simulator on the face's surroundings only, so that its cost follows the face and not the picture."""
    height_px, width_px = face.image_rgb.shape[:2]
    oval = face.landmarks_px[list(OVAL)]
    size = face_size_px(face.landmarks_px)
    # Above the mesh lies the forehead that masks may reach into.
    left, top = np.maximum(oval.min(axis=0) - np.array((0.45, 0.6)) * size, 0).astype(int)
    right, bottom = np.minimum(oval.max(axis=0) + 0.45 * size, (width_px, height_px)).astype(int)
    if min(right - left, bottom - top) < 16:
        return simulator(rng, face, donor)
    corner = np.array((left, top), np.float32)
    inside = FaceImage(np.ascontiguousarray(face.image_rgb[top:bottom, left:right]), face.landmarks_px - corner)
    attacked = simulator(rng, inside, donor)
    image, mask = face.image_rgb.copy(), np.zeros((height_px, width_px), np.float32)
    image[top:bottom, left:right] = attacked.image_rgb
    mask[top:bottom, left:right] = attacked.mask
    return Attacked(image, mask, attacked.landmarks_px + corner)


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


def mouth_opening(landmarks_px: Float32Array) -> float:
    """Height of the gap between the lips over the width of the mouth."""
    width_px = float(np.linalg.norm(landmarks_px[78] - landmarks_px[308]))
    return float(np.linalg.norm(landmarks_px[13] - landmarks_px[14])) / max(width_px, 1e-6)


def fits(donor: FaceImage | None, face: FaceImage) -> TypeGuard[FaceImage]:
    """Whether there is a donor whose head is turned nearly alike: further apart, warping tears hidden cheeks into view."""
    return donor is not None and abs(yaw(donor.landmarks_px) - yaw(face.landmarks_px)) < 0.5


def warp(matrix: Float32Array, image_rgb: UInt8Array, height_px: int, width_px: int) -> UInt8Array:
    """``image_rgb`` through a (2, 3) matrix into (H, W, 3); shrinking is averaged, not aliased."""
    image_rgb, scale = _shrunk(image_rgb, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    matrix = (matrix @ np.diag([1 / scale, 1 / scale, 1])).astype(np.float32)
    warped: UInt8Array = cv2.warpAffine(image_rgb, matrix, (width_px, height_px), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def warp_mesh(image_rgb: UInt8Array, landmarks_px: Float32Array, target_px: Float32Array, height_px: int, width_px: int) -> UInt8Array:
    """Piecewise-affine warp of a face onto another mesh: Delaunay triangles over `ANCHORS` of the target.

    ``image_rgb`` (h, w, 3) uint8 has the mesh ``landmarks_px`` (478, 2); ``target_px`` (478, 2) lies in the picture to be made.

    Returns:
        (height_px, width_px, 3) uint8; outside the face the picture continues by the similarity between the meshes.
    """
    anchors = list(ANCHORS)
    image_rgb, scale = _shrunk(image_rgb, face_size_px(target_px) / face_size_px(landmarks_px))
    sample = piecewise_map(target_px[anchors], landmarks_px[anchors] * np.float32(scale), height_px, width_px)
    warped: UInt8Array = cv2.remap(image_rgb, sample, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def carry(donor: FaceImage, target_px: Float32Array, height_px: int, width_px: int, keep_shape: float) -> tuple[UInt8Array, Float32Array]:
    """A donor's face on a target's pose and outline, keeping ``keep_shape`` (0..1) of its own proportions inside.

    The mouth keeps the donor's expression where the two differ too much to be stretched from one to the other.

    Returns:
        The picture (height_px, width_px, 3) uint8 and the mesh it now has.
    """
    own = move(align(donor.landmarks_px, target_px), donor.landmarks_px)
    shape = target_px + np.float32(keep_shape) * (own - target_px)
    if abs(mouth_opening(own) - mouth_opening(target_px)) > 0.12:
        lips = [*LIPS, *MOUTH_OPENING]
        shape[lips] = own[lips] + (target_px[lips].mean(axis=0) - own[lips].mean(axis=0))
    shape[list(OVAL)] = target_px[list(OVAL)]
    return warp_mesh(donor.image_rgb, donor.landmarks_px, shape, height_px, width_px), shape


def _shrunk(image_rgb: UInt8Array, scale: float) -> tuple[UInt8Array, float]:
    """The picture reduced by averaging where it is about to be reduced by sampling four neighbours, and by how much."""
    if scale >= 0.6:
        return image_rgb, 1.0
    scale = max(scale, 8 / min(image_rgb.shape[:2]))
    return cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def piecewise_map(at_px: Float32Array, from_px: Float32Array, height_px: int, width_px: int) -> Float32Array:
    """(H, W, 2) float32 for ``cv2.remap``: where to sample so that what is at ``from_px`` (N, 2) comes to lie at ``at_px`` (N, 2).

    Linear within the Delaunay triangles of ``at_px`` and the corners of the picture, which move by the similarity between the
    two point sets. Being piecewise linear it is evaluated on at most 96 x 96 cells and interpolated.
    """
    scale = min(1.0, _GRID_PX / max(height_px, width_px))
    grid_h, grid_w = max(2, round(height_px * scale)), max(2, round(width_px * scale))
    rest = similarity(at_px, from_px)
    corners = np.array([[-1, -1], [width_px, -1], [-1, height_px], [width_px, height_px]], np.float32)
    points = np.concatenate([at_px, corners])
    values = np.concatenate([from_px, move(rest, corners)])
    triangles = delaunay(points)
    cell = np.array([width_px / grid_w, height_px / grid_h], np.float32)
    on_grid = (points + 0.5) / cell - 0.5
    # In every triangle the map is affine; the last entry serves whatever no triangle covers.
    (a, b, c), (fa, fb, fc) = on_grid[triangles].transpose(1, 0, 2), values[triangles].transpose(1, 0, 2)
    u, v = b - a, c - a
    area = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])[:, None]
    along_x = ((fb - fa) * v[:, 1:] - (fc - fa) * u[:, 1:]) / area
    along_y = ((fc - fa) * u[:, :1] - (fb - fa) * v[:, :1]) / area
    affine = np.stack([along_x, along_y, fa - along_x * a[:, :1] - along_y * a[:, 1:]], axis=1)
    origin = move(rest, (0.5 * cell - 0.5)[None])
    affine = np.concatenate([affine, np.concatenate([(rest[:, :2] * cell).T, origin])[None]]).astype(np.float32)
    owner = np.full((grid_h, grid_w), len(triangles), np.int32)
    for number, triangle in enumerate(np.round(on_grid[triangles] * 16).astype(np.int32)):
        cv2.fillConvexPoly(owner, triangle, number, shift=4)
    x, y = np.arange(grid_w, dtype=np.float32)[None, :, None], np.arange(grid_h, dtype=np.float32)[:, None, None]
    here = affine[owner]
    field = here[:, :, 0] * x + here[:, :, 1] * y + here[:, :, 2]
    full: Float32Array = cv2.resize(field, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return full


def delaunay(points_px: Float32Array) -> NDArray[np.int64]:
    """(T, 3) indices of the Delaunay triangles of (N, 2) points; slivers are dropped."""
    # Subdiv2D returns coordinates, not indices: snapping to distinct 1/8 px makes them exact keys.
    snapped = np.round((points_px - points_px.min(axis=0)) * 8).astype(np.int64) + 8
    row = int(snapped.max()) + 9
    keys, first = np.unique(snapped @ (row, 1), return_index=True)
    plane = cv2.Subdiv2D((0, 0, row, row))
    plane.insert(snapped[first].astype(np.float32))
    corners = np.round(np.asarray(plane.getTriangleList())).astype(np.int64).reshape(-1, 3, 2)
    wanted = corners @ (row, 1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    # Subdiv2D also lists triangles with its own three outer vertices.
    triangles = first[place[(keys[place] == wanted).all(axis=1)]]
    a, b, c = points_px[triangles].transpose(1, 0, 2)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    kept: NDArray[np.int64] = triangles[np.abs(area) > 0.05]
    return kept
