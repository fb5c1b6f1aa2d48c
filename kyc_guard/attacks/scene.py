"""What stands round a shown picture: paper border or bezel, the room behind, the fingers that hold it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from kyc_guard.attacks.face_image import FaceImage
from kyc_guard.attacks.optics import Pose, Rng, blur, chance, smooth_field, to_uint8, uniform
from kyc_guard.types import Float32Array, UInt8Array

SKIN_RGB = np.array([(241, 205, 184), (224, 177, 147), (198, 143, 110), (165, 110, 78), (120, 78, 54), (78, 51, 38)], np.float32)
"""Six steps of skin from light to dark under neutral light, after the Fitzpatrick scale."""

_FACE_OVAL_EXTREMES = (10, 152, 234, 454)
_CHEEKS = (50, 280, 205, 425)


@dataclass(frozen=True, slots=True, eq=False)
class Finger:
    """A capsule from ``base_xy`` (outside the sheet) to ``tip_xy``, in picture pixels."""

    base_xy: tuple[float, float]
    tip_xy: tuple[float, float]
    width_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Surround:
    """The edge of the shown picture and what lies beyond, in picture pixels.

    Attributes:
        rect_xyxy: what of the picture is shown. rim_px, rim_rgb: the border of the paper or the bezel of the display.
        backdrop_rgb: (h, w, 3) uint8, small and blurred; stretched behind everything.
        fingers, skin_rgb: the holding hands.
    """

    rect_xyxy: tuple[float, float, float, float]
    rim_px: float
    rim_rgb: tuple[float, float, float]
    backdrop_rgb: UInt8Array
    fingers: tuple[Finger, ...]
    skin_rgb: tuple[float, float, float]


def face_box(landmarks_px: Float32Array) -> tuple[float, float, float, float]:
    """Tight xyxy box of the mesh."""
    x0, y0 = landmarks_px.min(axis=0)
    x1, y1 = landmarks_px.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def face_width(landmarks_px: Float32Array) -> float:
    """The longer side of the mesh's box in pixels, at least 8: the unit of everything that scales with the face."""
    return max(8.0, float(np.ptp(landmarks_px, axis=0).max()))


def skin_of(face: FaceImage) -> Float32Array:
    """(3,) float32 RGB of the cheeks, or a middle tone where they lie outside the picture."""
    height, width = face.image_rgb.shape[:2]
    x, y = face.landmarks_px[list(_CHEEKS)].round().astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if not inside.any():
        return np.array(SKIN_RGB[2])
    tone: Float32Array = face.image_rgb[y[inside], x[inside]].astype(np.float32).mean(axis=0)
    return tone


def draw_backdrop(rng: Rng, source_rgb: UInt8Array) -> UInt8Array:
    """A room: another view of the source's own surroundings, furniture-like blocks, or a plain wall; (48, 64, 3) uint8, defocused."""
    kind = rng.random()
    if kind < 0.35:
        room = cv2.resize(source_rgb, (64, 48), interpolation=cv2.INTER_AREA)[:, ::-1].astype(np.float32)
        room = np.roll(room, int(rng.integers(16, 48)), axis=1) * uniform(rng, 0.5, 1.3)
    else:
        wall = rng.uniform(40, 235) + rng.normal(0, 14, 3)
        room = wall.astype(np.float32) + 30.0 * smooth_field(rng, 48, 64, 2)[:, :, None]
        for _ in range(int(rng.integers(2, 9)) if kind < 0.8 else 0):
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 4, 4), (60, 44, 30, 40)))
            colour = tuple(float(v) for v in np.clip(rng.uniform(10, 240) + rng.normal(0, 25, 3), 0, 255))
            cv2.rectangle(room, (x, y), (x + w, y + h), colour, -1)
    return to_uint8(np.ascontiguousarray(blur(room, uniform(rng, 0.5, 3.0))))


def draw_surround(rng: Rng, face: FaceImage, *, rims_rgb: tuple[tuple[int, int, int], ...], rim: float, hands: float) -> Surround:
    """Edges close round the face on some sides; ``rim`` is its greatest width in face widths, ``hands`` their probability."""
    height, width = face.image_rgb.shape[:2]
    unit = face_width(face.landmarks_px)
    x0, y0, x1, y1 = face_box(face.landmarks_px)
    near = rng.random(4) < 0.6
    gaps = unit * np.where(near, rng.uniform(0.08, 0.5, 4), 4.0)
    rect = (x0 - gaps[0], y0 - gaps[1] - 0.15 * unit, x1 + gaps[2], y1 + gaps[3])
    fingers: list[Finger] = []
    if chance(rng, hands):
        for side in (0, 1, 2):
            if chance(rng, (0.6, 0.6, 0.3)[side]):
                fingers += _hand(rng, rect, side, unit=unit, width=width, height=height)
    skin = skin_of(face) if chance(rng, 0.5) else SKIN_RGB[int(rng.integers(len(SKIN_RGB)))]
    skin = np.clip(skin * rng.normal(1.0, 0.1) + rng.normal(0, 8, 3), 20, 250)
    colour = rims_rgb[int(rng.integers(len(rims_rgb)))]
    return Surround(
        rect_xyxy=(float(rect[0]), float(rect[1]), float(rect[2]), float(rect[3])),
        rim_px=unit * rim * float(rng.beta(1.0, 1.5)),
        rim_rgb=(float(colour[0]), float(colour[1]), float(colour[2])),
        backdrop_rgb=draw_backdrop(rng, face.image_rgb),
        fingers=tuple(fingers),
        skin_rgb=(float(skin[0]), float(skin[1]), float(skin[2])),
    )


def _hand(rng: Rng, rect: tuple[float, ...], side: int, *, unit: float, width: int, height: int) -> list[Finger]:
    left, _, right, bottom = max(rect[0], 0.0), rect[1], min(rect[2], width - 1.0), min(rect[3], height - 1.0)
    count = int(rng.integers(1, 5))
    thick, reach = unit * uniform(rng, 0.09, 0.16), unit * uniform(rng, 0.04, 0.16)
    along = uniform(rng, 0.25, 0.8) * (width if side == 2 else height)
    slant = float(rng.normal(0, 0.4)) * unit * 0.4
    fingers = []
    for i in range(count):
        position = along + 1.05 * thick * i
        tip = reach + float(rng.normal(0, 0.02)) * unit
        if side == 2:
            fingers.append(Finger((position + slant, bottom + 0.7 * unit), (position, bottom - tip), thick))
        else:
            edge, inward = (left, 1.0) if side == 0 else (right, -1.0)
            fingers.append(Finger((edge - 0.7 * inward * unit, position + slant), (edge + inward * tip, position), thick))
    return fingers


def put_in_scene(
    picture_rgb: UInt8Array, pose: Pose, surround: Surround | None, height_px: int, width_px: int
) -> tuple[UInt8Array, Float32Array | None]:
    """The picture in its pose before the room.

    Returns:
        (height_px, width_px, 3) uint8 RGB as the camera stands, and the (height_px, width_px) float32 share of each pixel that
        is picture rather than rim, room or finger; ``None`` where there is nothing but picture.
    """
    if surround is None:
        return pose.photograph(picture_rgb, height_px, width_px), None
    height, width = picture_rgb.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in surround.rect_xyxy)
    rim = round(surround.rim_px)
    page = np.zeros((height, width, 4), np.uint8)
    cv2.rectangle(page, (x0 - rim, y0 - rim), (x1 + rim, y1 + rim), (*surround.rim_rgb, 127.0), -1)
    inner = np.s_[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)]
    page[inner][:, :, :3] = picture_rgb[inner]
    page[inner][:, :, 3] = 255
    seen = pose.photograph(page, height_px, width_px, cv2.BORDER_REPLICATE)
    room = cv2.resize(surround.backdrop_rgb, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    coverage = np.minimum(seen[:, :, 3].astype(np.float32) / np.float32(127.0), 1.0)
    # The room is hidden by the sheet; the warp has already mixed the sheet's colours with black along its edge.
    scene = to_uint8(seen[:, :, :3].astype(np.float32) + room * (1.0 - coverage)[:, :, None])
    shown = np.clip((seen[:, :, 3].astype(np.float32) - 127.0) / np.float32(128.0), 0.0, 1.0)
    if surround.fingers:
        _paint_fingers(scene, shown, surround, pose, (height, width))
    return scene, shown


def _paint_fingers(scene: UInt8Array, shown: Float32Array, surround: Surround, pose: Pose, picture_size: tuple[int, int]) -> None:
    ratio = max(scene.shape[:2]) / max(picture_size)
    skin = np.array(surround.skin_rgb)
    # Three strokes of one capsule, dark to light: a rounded thing lit from above.
    strokes = ((1.0, 0.62, 0.0), (0.8, 0.85, -0.06), (0.45, 1.0, -0.14))
    cover = np.zeros(scene.shape[:2], np.uint8)
    paint = scene.copy()
    for finger in surround.fingers:
        ends = pose.move(np.array([finger.base_xy, finger.tip_xy], np.float32), *picture_size) * ratio
        for width, light, up in strokes:
            thickness = max(1, round(finger.width_px * ratio * width))
            shift = np.array([0.0, up * finger.width_px * ratio])
            base, tip = ((round(float(x)), round(float(y))) for x, y in ends + shift)
            cv2.line(paint, base, tip, tuple(float(v) for v in skin * light), thickness, cv2.LINE_AA)
            if width == 1.0:
                cv2.line(cover, base, tip, 255, thickness, cv2.LINE_AA)
    soft = max(0.6, surround.fingers[0].width_px * ratio * 0.12)
    paint = blur(paint, soft)
    alpha = blur(cover, 0.6).astype(np.float32) / np.float32(255.0)
    scene[:] = to_uint8(scene + (paint.astype(np.float32) - scene) * alpha[:, :, None])
    shown *= 1.0 - alpha
