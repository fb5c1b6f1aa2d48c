"""Finding, measuring, tracking and cutting.

MediaPipe's mesh does the finding (0.10.21 is the last release that carries its models). Its objects keep state and are
not thread-safe, so every thread has its own finder: ask `face_finder` for it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from kyc_guard.faces.quiet import quiet_native_logs
from kyc_guard.stages import stage
from kyc_guard.types import Face, FaceQuality, FaceTrack, Float32Array, UInt8Array

# Landmark numbers of the MediaPipe 468-point mesh. "Left" is the image's left.
LEFT_EYE = (33, 160, 158, 133, 153, 144)
RIGHT_EYE = (362, 385, 387, 263, 373, 380)
INNER_LIPS_TOP_BOTTOM = (13, 14)
INNER_LIPS_CORNERS = (78, 308)
CHEEKS_LEFT_RIGHT = (234, 454)
FOREHEAD_CHIN = (10, 152)
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
MESH_POINTS = 468

_WORK_SIDE_PX = 640
"""Frames are shrunk to this for finding; the networks inside look at 128 and 192 px anyway."""
_MAX_FACES = 4
_QUALITY_SIDE_PX = 112
_SKIN_DELTA_E = 30.0
"""A pixel further than this from the face's median colour (CIE Lab) counts as covered; a unit of measure, not a gate."""


_UNMEASURED = FaceQuality(math.nan, math.nan, math.nan, math.nan, math.nan)


class FaceFinder:
    """Finds faces in single frames. One per thread: see `face_finder`."""

    def __init__(self) -> None:
        with quiet_native_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mediapipe.python.solutions import face_detection, face_mesh

            self._mesh = face_mesh.FaceMesh(
                static_image_mode=True, max_num_faces=_MAX_FACES, refine_landmarks=True, min_detection_confidence=0.4
            )
            self._far = face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.4)
            blank = np.zeros((64, 64, 3), np.uint8)
            self._mesh.process(blank)
            self._far.process(blank)
            # The native side logs on its first face, once; let it do so while nobody listens.
            self._has_seen_a_face = False

    @stage("find faces")
    def find(self, frame_rgb: UInt8Array, *, quality: bool = True) -> tuple[Face, ...]:
        """Faces of one frame, largest first.

        Tries the frame as it is, then with a border (uploads cropped tightly at the face), then a detector for distant faces.

        Args:
            frame_rgb: (H, W, 3) uint8 RGB.
            quality: without it that stays unmeasured (NaN), which saves a fifth of the time.
        """
        height, width = frame_rgb.shape[:2]
        if min(height, width) < 16:
            return ()
        shrink = min(1.0, _WORK_SIDE_PX / max(height, width))
        small = frame_rgb
        if shrink < 1.0:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            small = cv2.resize(frame_rgb, size, interpolation=cv2.INTER_AREA)
        meshes = self._meshes(small) or self._meshes_with_border(small) or self._meshes_far(small)
        scale = np.array([width / small.shape[1], height / small.shape[0], width / small.shape[1]], np.float32)
        faces = [measure(frame_rgb if quality else None, mesh * scale) for mesh in meshes]
        return tuple(sorted(faces, key=lambda f: -_area(f.box_xyxy)))

    def _meshes(self, image: UInt8Array) -> list[Float32Array]:
        with contextlib.nullcontext() if self._has_seen_a_face else quiet_native_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf's deprecation notes inside MediaPipe
            result: Any = self._mesh.process(np.ascontiguousarray(image))
        self._has_seen_a_face |= bool(result.multi_face_landmarks)
        height, width = image.shape[:2]
        return [
            np.array([(p.x * width, p.y * height, p.z * width) for p in one.landmark], np.float32)
            for one in result.multi_face_landmarks or ()
        ]

    def _meshes_with_border(self, image: UInt8Array) -> list[Float32Array]:
        height, width = image.shape[:2]
        dy, dx = height // 2, width // 2
        padded = cv2.copyMakeBorder(image, dy, dy, dx, dx, cv2.BORDER_CONSTANT, value=(127, 127, 127))
        return [mesh - np.array([dx, dy, 0], np.float32) for mesh in self._meshes(padded)]

    def _meshes_far(self, image: UInt8Array) -> list[Float32Array]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result: Any = self._far.process(np.ascontiguousarray(image))
        height, width = image.shape[:2]
        found = []
        for detection in (result.detections or ())[:_MAX_FACES]:
            box = detection.location_data.relative_bounding_box
            side = 2.0 * max(box.width * width, box.height * height)
            centre = ((box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height)
            if side < 16:
                continue
            chip, to_image = _square(image, centre, side)
            grown = cv2.resize(chip, (256, 256), interpolation=cv2.INTER_LINEAR)
            for mesh in self._meshes(grown)[:1]:
                unit = chip.shape[0] / 256
                found.append(mesh * np.float32(unit) + np.array([*to_image, 0], np.float32))
        return found


_local = threading.local()


def face_finder() -> FaceFinder:
    """The finder of this thread, made on first use (about 0.1 s)."""
    finder: FaceFinder | None = getattr(_local, "finder", None)
    if finder is None:
        finder = _local.finder = FaceFinder()
    return finder


def track_faces(frames_rgb: UInt8Array, *, other_face_ratio: float, quality: bool = True) -> FaceTrack:
    """Follow the subject: the chain of overlapping faces with the largest summed area.

    Args:
        frames_rgb: (T, H, W, 3) uint8 RGB, in time order.
        other_face_ratio: another face counts as real-sized from this share of the subject's height upward.
        quality: whether it is measured.
    """
    finder = face_finder()
    found = [finder.find(frame, quality=quality) for frame in frames_rgb]
    chains: list[dict[int, Face]] = []
    for t, faces in enumerate(found):
        for face in faces:
            home = max(
                (c for c in chains if t not in c and _near(c[max(c)], face)),
                key=lambda c: _area(c[max(c)].box_xyxy),
                default=None,
            )
            if home is None:
                chains.append({t: face})
            else:
                home[t] = face
    if not chains:
        return FaceTrack(faces=(None,) * len(found), other_faces=0)
    subject = max(chains, key=lambda c: sum(_area(f.box_xyxy) for f in c.values()))
    others = 0
    for t, faces in enumerate(found):
        if t in subject:
            floor = other_face_ratio * _height(subject[t].box_xyxy)
            others = max(others, sum(1 for f in faces if f is not subject[t] and _height(f.box_xyxy) >= floor))
    return FaceTrack(faces=tuple(subject.get(t) for t in range(len(found))), other_faces=others)


def measure(frame_rgb: UInt8Array | None, landmarks_px: Float32Array) -> Face:
    """Everything known of a face from its mesh and pixels.

    Args:
        frame_rgb: (H, W, 3) uint8 RGB; ``None`` leaves the quality unmeasured (NaN), which saves a third of the time of following a face.
        landmarks_px: (478, 3) float32 in pixels of that frame.
    """
    mesh = landmarks_px[:MESH_POINTS]
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    across = mesh[CHEEKS_LEFT_RIGHT[1]] - mesh[CHEEKS_LEFT_RIGHT[0]]
    down = mesh[FOREHEAD_CHIN[1]] - mesh[FOREHEAD_CHIN[0]]
    return Face(
        box_xyxy=np.concatenate([low, high]).astype(np.float32),
        landmarks_px=landmarks_px,
        confidence=1.0,
        yaw_deg=math.degrees(math.atan2(float(across[2]), float(np.hypot(across[0], across[1])) + 1e-6)),
        pitch_deg=math.degrees(math.atan2(-float(down[2]), float(np.hypot(down[0], down[1])) + 1e-6)),
        roll_deg=math.degrees(math.atan2(float(across[1]), float(across[0]))),
        eye_openness=(_aspect(mesh, LEFT_EYE), _aspect(mesh, RIGHT_EYE)),
        mouth_openness=_distance(mesh, *INNER_LIPS_TOP_BOTTOM) / (_distance(mesh, *INNER_LIPS_CORNERS) + 1e-6),
        quality=_UNMEASURED if frame_rgb is None else _quality(frame_rgb, mesh),
    )


def face_crop(frame_rgb: UInt8Array, face: Face, *, scale: float, side_px: int) -> UInt8Array:
    """A square around the face, ``scale`` times its longer side, resized to ``side_px``.

    What lies outside the frame is mirrored, so that no black bar tells one source from another.

    Returns:
        (side_px, side_px, 3) uint8 RGB.
    """
    centre, side = face_square(face)
    return square_crop(frame_rgb, centre, scale * side, side_px)


def face_square(face: Face) -> tuple[tuple[float, float], float]:
    """Centre and side (px) of the square every crop is measured from: the mesh's box, made square."""
    x0, y0, x1, y1 = (float(v) for v in face.box_xyxy)
    return ((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0)


@stage("crop")
def square_crop(frame_rgb: UInt8Array, centre_px: tuple[float, float], crop_px: float, side_px: int, *, luma: bool = False) -> UInt8Array:
    """Cut a square of ``crop_px`` about ``centre_px`` and resize it to ``side_px`` (area when shrinking, linear when growing).

    With ``luma`` a plane is given, taken before resizing.
    """
    chip, _ = _square(frame_rgb, centre_px, crop_px)
    if luma:
        chip = cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY)
    if chip.shape[0] == side_px:
        return chip
    way = cv2.INTER_AREA if chip.shape[0] > side_px else cv2.INTER_LINEAR
    out: UInt8Array = cv2.resize(chip, (side_px, side_px), interpolation=way)
    return out


def _square(frame_rgb: UInt8Array, centre_px: tuple[float, float], crop_px: float) -> tuple[UInt8Array, tuple[int, int]]:
    """The square at whole pixels, mirrored where it leaves the frame, and its top-left corner in the frame."""
    height, width = frame_rgb.shape[:2]
    side = max(2, round(crop_px))
    left, top = round(centre_px[0] - side / 2), round(centre_px[1] - side / 2)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    if x0 >= x1 or y0 >= y1:  # the square lies wholly outside: nothing to mirror
        return np.zeros((side, side, *frame_rgb.shape[2:]), np.uint8), (left, top)
    inner = frame_rgb[y0:y1, x0:x1]
    if inner.shape[:2] != (side, side):
        borders = (y0 - top, top + side - y1, x0 - left, left + side - x1)
        inner = cv2.copyMakeBorder(inner, *borders, cv2.BORDER_REFLECT_101 if min(inner.shape[:2]) > 1 else cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(inner), (left, top)


def _quality(frame_rgb: UInt8Array, mesh: Float32Array) -> FaceQuality:
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    width, height = (float(v) for v in high - low)
    centre, side = ((float(low[0]) + width / 2, float(low[1]) + height / 2), max(width, height))
    chip, corner = _square(frame_rgb, centre, side)
    unit = _QUALITY_SIDE_PX / chip.shape[0]
    chip = cv2.resize(chip, (_QUALITY_SIDE_PX, _QUALITY_SIDE_PX), interpolation=cv2.INTER_AREA if unit < 1 else cv2.INTER_LINEAR)
    inside = np.zeros(chip.shape[:2], np.uint8)
    oval = (mesh[list(OVAL), :2] - np.array(corner, np.float32)) * np.float32(unit)
    cv2.fillConvexPoly(inside, cv2.convexHull(oval.round().astype(np.int32)), 1)
    skin = inside.astype(bool)
    luma = cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY)
    if not skin.any():
        return FaceQuality(min(width, height), 0.0, 0.0, 0.0, math.nan)
    lab = cv2.cvtColor(chip.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)[skin]
    far = np.linalg.norm((lab - np.median(lab, axis=0)) * np.array([0.5, 1, 1], np.float32), axis=1) > _SKIN_DELTA_E
    return FaceQuality(
        size_px=min(width, height),
        blur=float(cv2.Laplacian(luma, cv2.CV_32F)[skin].var()),
        brightness=float(luma[skin].mean()),
        contrast=float(luma[skin].std()),
        occlusion=float(far.mean()),
    )


def _aspect(mesh: Float32Array, eye: Sequence[int]) -> float:
    """Eye aspect ratio: mean of two lid gaps over the eye's width. Source: Soukupova and Cech, CVWW 2016."""
    outer, top1, top2, inner, bottom2, bottom1 = eye
    return (_distance(mesh, top1, bottom1) + _distance(mesh, top2, bottom2)) / (2 * _distance(mesh, outer, inner) + 1e-6)


def _distance(mesh: Float32Array, a: int, b: int) -> float:
    return float(np.hypot(*(mesh[a, :2] - mesh[b, :2])))


def _area(box_xyxy: Float32Array) -> float:
    return float((box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1]))


def _height(box_xyxy: Float32Array) -> float:
    return float(box_xyxy[3] - box_xyxy[1])


def _near(a: Face, b: Face) -> bool:
    """Whether two boxes of neighbouring samples may be the same head: centres closer than the larger box is wide."""
    (ax, ay), side_a = face_square(a)
    (bx, by), side_b = face_square(b)
    return math.hypot(ax - bx, ay - by) < max(side_a, side_b) and 0.5 < side_a / (side_b + 1e-6) < 2.0
