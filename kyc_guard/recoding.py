"""What encoding leaves of a picture: a still is also judged after it, and attacks, training and benchmarks send pictures through it."""

from __future__ import annotations

import cv2

from kyc_guard.types import UInt8Array


def jpeg(image_rgb: UInt8Array, quality: int, *, subsampled: bool = True) -> UInt8Array:
    """One JPEG generation; 4:2:0 or 4:4:4 chroma."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if subsampled else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    # Encoding RGB as if it were BGR would give red the chroma weights of blue.
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), options)
    decoded: UInt8Array = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded
