"""Codec chains: what files go through before they arrive. Not attacks: to be applied to bona fide and attacked pictures alike.

They wear down moire and halftone as WebRTC and messengers do (FACTS A6 item 9), and no codec may become the label. Training applies
those its config names to both halves of a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from kyc_guard.attacks.optics import Rng, blur, chance, to_uint8, uniform
from kyc_guard.recoding import jpeg
from kyc_guard.types import UInt8Array


@dataclass(frozen=True, slots=True)
class Codec:
    """One chain: (generator, (H, W, 3) uint8 RGB) -> a new array of the same shape; same seed, same bytes.

    Attributes:
        share: how often uploads come through it, relative to the others.
    """

    name: str
    share: float
    apply: Callable[[Rng, UInt8Array], UInt8Array]


def jpeg_once(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """JPEG 30..95, mostly with halved chroma."""
    return jpeg(image_rgb, int(rng.integers(30, 96)), subsampled=chance(rng, 0.75))


def webp_once(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """WebP 30..95."""
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, int(rng.integers(30, 96))])
    decoded: UInt8Array = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded


def jpeg_twice(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """Two JPEG generations whose 8 x 8 grids do not meet, as after cropping (Bianchi and Piva, 2012)."""
    height, width = image_rgb.shape[:2]
    top, left = (int(v) for v in rng.integers(0, 8, 2))
    padded = cv2.copyMakeBorder(image_rgb, top, 0, left, 0, cv2.BORDER_REFLECT_101)
    first = jpeg(padded, int(rng.integers(40, 93)), subsampled=chance(rng, 0.75))[top : top + height, left : left + width]
    return jpeg(np.ascontiguousarray(first), int(rng.integers(60, 96)), subsampled=chance(rng, 0.75))


def rescaled(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """Shrunk, compressed and enlarged again, with filters that differ by maker."""
    height, width = image_rgb.shape[:2]
    share = uniform(rng, 0.4, 0.95)
    filters = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    small = cv2.resize(
        image_rgb, (max(8, round(width * share)), max(8, round(height * share))), interpolation=filters[int(rng.integers(4))]
    )
    back = cv2.resize(jpeg(small, int(rng.integers(50, 96))), (width, height), interpolation=filters[int(rng.integers(1, 4))])
    return jpeg(back, int(rng.integers(60, 96)))


def low_chroma(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """Chroma of a video call: a quarter of the resolution, coarsely quantised, the luma a little soft."""
    luma, red, blue = cv2.split(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2YCrCb))
    height, width = luma.shape
    small = (max(2, width // 4), max(2, height // 4))
    step = int(rng.integers(1, 8))
    planes = []
    for plane in (red, blue):
        coarse = cv2.resize(plane, small, interpolation=cv2.INTER_AREA) // step * step + step // 2
        planes.append(cv2.resize(coarse.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR))
    soft = to_uint8(blur(luma.astype(np.float32), uniform(rng, 0.2, 0.9)))
    return jpeg(cv2.cvtColor(cv2.merge([soft, *planes]), cv2.COLOR_YCrCb2RGB), int(rng.integers(45, 90)))


def video(rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """A frame of a clip or call: H.264 by x264, crf 17..36, the first, second or third picture of a still scene."""
    height, width = image_rgb.shape[:2]
    even = cv2.copyMakeBorder(image_rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    encoder.options = {"crf": str(int(rng.integers(17, 37))), "preset": "veryfast", "tune": "zerolatency", "mbtree": "0"}
    count = int(rng.integers(1, 4))
    packets = [packet for _ in range(count) for packet in encoder.encode(av.VideoFrame.from_ndarray(even, format="rgb24"))]
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in (*packets, *encoder.encode(None), None) for frame in decoder.decode(packet)]
    decoded: UInt8Array = frames[-1].to_ndarray(format="rgb24")
    return np.ascontiguousarray(decoded[:height, :width])


CODECS = (
    Codec("jpeg", share=0.45, apply=jpeg_once),
    Codec("jpeg_twice", share=0.12, apply=jpeg_twice),
    Codec("rescaled", share=0.05, apply=rescaled),
    Codec("low_chroma", share=0.05, apply=low_chroma),
    Codec("webp", share=0.05, apply=webp_once),
    Codec("video", share=0.28, apply=video),
)


def one_of(codecs: Sequence[Codec], rng: Rng, image_rgb: UInt8Array) -> UInt8Array:
    """Through one of them, by their shares."""
    shares = np.array([codec.share for codec in codecs])
    return codecs[int(rng.choice(len(codecs), p=shares / shares.sum()))].apply(rng, image_rgb)
