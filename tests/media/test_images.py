"""Pictures: every format and mode becomes upright RGB, or is refused."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from PIL import Image

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media import read_audio, read_clip, read_image

LIMITS = Limits()
SAMPLING = Sampling(frames=6, burst_frames=8)
MP4 = makers.clip(tone_s=2.0)


PICTURE = makers.numbered(5)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIC"])
def test_pictures_are_read_whatever_they_are_called(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    path.write_bytes(makers.heic(PICTURE) if format_ == "HEIC" else makers.picture(format_, PICTURE))
    pixels, facts = read_image(path, LIMITS)

    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 12
    assert facts.format == {"HEIC": "heif"}.get(format_, format_.lower())
    assert (facts.streams[0].width_px, facts.streams[0].height_px) == (128, 96)
    clip = read_clip(path, SAMPLING, LIMITS)
    assert clip.is_still
    assert np.array_equal(clip.frames_rgb[0], pixels)
    assert len(clip.burst_rgb) == len(clip.burst_timestamps_s) == 0
    assert read_audio(path, LIMITS) is None


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_: str, orientation: int) -> None:
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.swapaxes(0, 1),
        6: np.rot90(PICTURE, 1),
        7: PICTURE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "Phone 7"
    pixels, facts = read_image(makers.picture(format_, np.ascontiguousarray(stored), exif=exif), LIMITS)

    assert pixels.shape == PICTURE.shape
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 12
    assert facts.tags["Model"] == "Phone 7"


def test_heic_rotation_is_applied() -> None:
    pixels, _ = read_image(makers.heic(np.ascontiguousarray(np.rot90(makers.numbered(5, 96, 128), -1)), 1), LIMITS)

    assert pixels.shape == (128, 96, 3)
    assert makers.numbers([pixels]) == [5]


@pytest.mark.filterwarnings("default")
def test_broken_exif_does_not_spoil_a_picture(recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x010F] = "m" * 400
    data = makers.picture("JPEG", PICTURE, exif=exif.tobytes()[:60])

    assert read_image(data, LIMITS)[0].shape == PICTURE.shape
    assert not [w for w in recwarn if "bomb" in str(w.message).lower()]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (50, 0), (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb_over_white(mode: str, value: Any, expected: tuple[int, int, int]) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), value).save(buffer, "PNG")
    pixels, _ = read_image(buffer.getvalue(), LIMITS)

    assert pixels.shape == (6, 8, 3)
    assert (pixels == expected).all()


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG")

    assert np.abs(read_image(buffer.getvalue(), LIMITS)[0].astype(int) - (255, 0, 0)).max() < 6


def test_a_picture_without_a_brightness_scale_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("F", (8, 8), 3.5).save(buffer, "TIFF")

    with pytest.raises(UnreadableError, match="no fixed brightness scale"):
        read_image(buffer.getvalue(), LIMITS)


def _webp_header(width_px: int, height_px: int) -> bytes:
    body = bytes(4) + (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "data",
    [
        makers.png_header(30_000, 30_000),
        makers.picture("BMP", PICTURE)[:18] + (30_000).to_bytes(4, "little") * 2 + makers.picture("BMP", PICTURE)[26:],
        makers.picture("GIF", PICTURE)[:6] + b"\x30\x75\x30\x75" + makers.picture("GIF", PICTURE)[10:],
        _webp_header(30_000, 30_000),
        makers.patched(makers.heic(PICTURE), b"ispe", 4, ">II", 30_000, 30_000),
    ],
    ids=["png", "bmp", "gif", "webp", "heic"],
)
@pytest.mark.parametrize("read", ["image", "clip"])
def test_a_picture_of_900_million_pixels_is_refused_before_decoding(data: bytes, read: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=r"huge: has 30000x30000 pixels, more than 50000000\. Remedy: "):
            read_image(data, LIMITS, "huge") if read == "image" else read_clip(data, SAMPLING, LIMITS, "huge")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_cut_picture_is_refused(format_: str) -> None:
    data = makers.picture(format_, np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8))

    with pytest.raises(UnreadableError, match=r"cut: cannot be decoded as a picture .* Remedy: "):
        read_image(data[: len(data) // 2], LIMITS, "cut")


def test_a_video_is_no_picture() -> None:
    with pytest.raises(UnreadableError, match="is not a picture"):
        read_image(MP4, LIMITS)
