"""What honest life does to a picture between camera and judge: cropping, codecs, scaling, light, turning.

Each is a small function of a seeded generator, the picture and the face in it; the strength is in its name. Nothing here is an attack.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TypeAlias

import av
import cv2
import numpy as np

from kyc_guard.faces import face_square
from kyc_guard.recoding import jpeg
from kyc_guard.types import Face, UInt8Array

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, slots=True)
class Transform:
    """One change of one strength: (generator, (H, W, 3) uint8 RGB, face) -> (h, w, 3) uint8 RGB, a new array."""

    family: str
    strength: str
    apply: Callable[[Rng, UInt8Array, Face], UInt8Array]


def moved(rng: Rng, face: Face, amount: float) -> Face:
    """The face with its box shifted and scaled by up to ``amount`` of its side, as another detector would have put it."""
    (cx, cy), side = face_square(face)
    dx, dy, grow = rng.uniform(-amount, amount, 3)
    half = (face.box_xyxy[2:] - face.box_xyxy[:2]) / 2 * (1 + grow)
    centre = np.array([cx + dx * side, cy + dy * side])
    return replace(face, box_xyxy=np.concatenate([centre - half, centre + half]).astype(np.float32))


def _recrop(rng: Rng, picture: UInt8Array, face: Face, *, amount: float) -> UInt8Array:
    """The upload cropped about the face, off its middle and size by up to ``amount`` of the face's side.

    Every edge of the picture goes, by at least a pixel and at most ``amount``, so that one that comes cropped tightly changes too; of the
    face's square never more than ``amount`` goes at an edge.
    """
    (cx, cy), side = face_square(face)
    (mx, my), reach = face_square(moved(rng, face, amount))
    reach *= 1.1
    lost = np.maximum(1.0, rng.uniform(0.0, amount, 4) * side)

    def span(centre: float, middle: float, length: int, before: float, after: float) -> slice:
        deepest = amount * side - side / 2
        start = min(max(middle - reach, before), max(1.0, centre + deepest))
        stop = max(min(middle + reach, length - after), min(length - 1.0, centre - deepest))
        return slice(round(start), round(stop))

    height, width = picture.shape[:2]
    return picture[span(cy, my, height, *lost[:2]), span(cx, mx, width, *lost[2:])].copy()


def _swap_channels(_rng: Rng, picture: UInt8Array, _face: Face) -> UInt8Array:
    return np.ascontiguousarray(picture[..., ::-1])


def _jpeg(_rng: Rng, picture: UInt8Array, _face: Face, *, quality: int) -> UInt8Array:
    return jpeg(picture, quality)


def _webp(_rng: Rng, picture: UInt8Array, _face: Face, *, quality: int) -> UInt8Array:
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    decoded: UInt8Array = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded


def _video(_rng: Rng, picture: UInt8Array, _face: Face, *, codec: str, crf: int) -> UInt8Array:
    """The third frame of a clip that shows nothing but the picture, as a webcam's encoder would send it."""
    height, width = picture.shape[:2]
    even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    buffer = io.BytesIO()
    options = {"crf": str(crf)} | ({"preset": "veryfast"} if codec == "libx264" else {"b": "0", "deadline": "realtime", "cpu-used": "6"})
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        *_, last = container.decode(video=0)
    decoded: UInt8Array = last.to_ndarray(format="rgb24")
    return np.ascontiguousarray(decoded[:height, :width])


def _resize(_rng: Rng, picture: UInt8Array, _face: Face, *, factor: float) -> UInt8Array:
    height, width = picture.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized: UInt8Array = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized


def _blur(_rng: Rng, picture: UInt8Array, face: Face, *, share: float) -> UInt8Array:
    """A lens out of focus by a share of the face's side, so that it means the same on every picture."""
    blurred: UInt8Array = cv2.GaussianBlur(picture, (0, 0), max(0.1, share * face_square(face)[1]))
    return blurred


def _light(_rng: Rng, picture: UInt8Array, _face: Face, *, stops: float) -> UInt8Array:
    """Exposure in linear light, by a square law as in `kyc_guard.attacks.optics`."""
    curve = np.clip(255.0 * np.sqrt((np.arange(256) / 255.0) ** 2 * 2.0**stops), 0, 255).round().astype(np.uint8)
    lit: UInt8Array = cv2.LUT(picture, curve)
    return lit


def _rotate(rng: Rng, picture: UInt8Array, face: Face, *, degrees: float) -> UInt8Array:
    (cx, cy), _ = face_square(face)
    turn = cv2.getRotationMatrix2D((cx, cy), degrees * (1 if rng.random() < 0.5 else -1), 1.0)
    turned: UInt8Array = cv2.warpAffine(picture, turn, picture.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return turned


def _flip(_rng: Rng, picture: UInt8Array, _face: Face, *, axis: int) -> UInt8Array:
    return np.ascontiguousarray(np.flip(picture, axis))


JITTERS = (0.05, 0.10, 0.15, 0.20)
"""Shares of the face's side by which a box or a crop is moved and scaled."""

TRANSFORMS = (
    *(Transform("upload crop", f"±{100 * a:.0f} %", partial(_recrop, amount=a)) for a in JITTERS),
    Transform("colour order", "BGR for RGB", _swap_channels),
    *(Transform("JPEG", f"{q}", partial(_jpeg, quality=q)) for q in (95, 90, 80, 70, 60, 50, 40, 30)),
    *(Transform("WebP", f"{q}", partial(_webp, quality=q)) for q in (90, 70, 50, 30)),
    *(Transform("H.264", f"crf {c}", partial(_video, codec="libx264", crf=c)) for c in (18, 23, 28, 33, 38)),
    *(Transform("VP9", f"crf {c}", partial(_video, codec="libvpx-vp9", crf=c)) for c in (20, 35, 50, 60)),
    *(Transform("resize", f"x{f:g}", partial(_resize, factor=f)) for f in (0.25, 0.5, 0.75, 1.5, 2.0)),
    *(Transform("blur", f"{100 * s:g} % of the face", partial(_blur, share=s)) for s in (0.005, 0.01, 0.02)),
    *(Transform("light", f"{s:+g} stops", partial(_light, stops=s)) for s in (-3.0, -2.0, -1.0, 1.0, 2.0)),
    *(Transform("rotation", f"±{d:g}°", partial(_rotate, degrees=d)) for d in (5.0, 10.0, 15.0)),
    Transform("flip", "left to right", partial(_flip, axis=1)),
    Transform("flip", "upside down", partial(_flip, axis=0)),
)
