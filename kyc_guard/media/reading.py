"""The door for pictures, clips and sound: what a file is, is decided by its bytes, and limits are checked before decoding.

Every reader takes a path, the bytes themselves, or decoded pixels. A file is read once, so what is hashed is what is judged.

    read_image(media, limits) -> pixels, facts        JPEG, JPEG 2000, PNG, WebP, HEIC, BMP, TIFF, GIF
    read_clip(media, sampling, limits) -> Clip        those, animated WebP and GIF as stills, MP4, MOV, WebM, MKV, AVI, MPEG
    read_audio(media, limits) -> samples or None
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pi_heif
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import LimitError, UnreadableError
from kyc_guard.media.animation import Parts, animation_parts
from kyc_guard.media.container import clean_tags
from kyc_guard.media.decoding import Stack
from kyc_guard.media.sampling import SamplingPlan, shrunk
from kyc_guard.media.sound import read_sound
from kyc_guard.media.video import read_video
from kyc_guard.stages import stage
from kyc_guard.submission import Media
from kyc_guard.types import Clip, ContainerFacts, Float32Array, StreamFacts, UInt8Array

__all__ = ["load_media", "media_name", "media_sha256", "read_audio", "read_clip", "read_image"]

# Pillow reports odd metadata by warnings; a server's log is no place for an applicant's.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_REMEDY = "send the unaltered JPEG, PNG, WebP, HEIC, BMP or TIFF file"
_ARRAY_FPS = 30.0
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_EXIF_TAGS = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Orientation)
# Pillow's parsers raise these for bytes that are not what they should be; UserWarning arrives under -W error.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError, UserWarning,
)  # fmt: skip


def media_name(media: Media) -> str:
    """How errors and results call this input: the path, or what kind of value it is."""
    if isinstance(media, Path):
        return str(media)
    return f"<{len(media)} bytes>" if isinstance(media, bytes) else f"<array {'x'.join(map(str, np.shape(media)))}>"


def media_sha256(media: Media, limits: Limits | None = None) -> str:
    """Hash of the file's bytes; of dtype, shape and pixels for an array.

    Raises:
        UnreadableError, LimitError: as `read_clip`, for a path.
    """
    if isinstance(media, np.ndarray):
        digest = hashlib.sha256(f"{media.dtype}{media.shape}".encode())
        digest.update(np.ascontiguousarray(media).data)
        return digest.hexdigest()
    return hashlib.sha256(load_media(media, limits or Limits(), media_name(media))).hexdigest()


@stage("decode")
def read_image(media: Media, limits: Limits, name: str | None = None) -> tuple[UInt8Array, ContainerFacts]:
    """Decode a picture; of an animated one the first frame.

    Returns:
        (H, W, 3) uint8 RGB, upright by its EXIF orientation, transparency over white, 16 bits a channel cut to 8; no colour
        profile is applied. And what the file says of itself.

    Raises:
        UnreadableError: missing, not a regular file, not a picture, damaged.
        LimitError: more bytes or pixels than ``limits`` allow; the pixels are known from the header.
    """
    name = name or media_name(media)
    if isinstance(media, np.ndarray):
        frames = _array_frames(media, limits, name)
        if len(frames) != 1:
            raise UnreadableError(name, f"holds {len(frames)} frames", "pass one (H, W, 3) picture")
        return frames[0], _array_facts(media, frames)
    data = load_media(media, limits, name)
    if (plugin := _plugin(data)) is None:
        raise UnreadableError(name, "is not a picture", _REMEDY)
    return _decode_image(_open_image(plugin, data, limits, name), data, name)


@stage("decode")
def read_clip(media: Media, sampling: Sampling, limits: Limits, name: str | None = None) -> Clip:
    """Decode the frames of a clip that ``sampling`` asks for; a picture becomes a clip of one frame.

    An animated picture is a still, however many frames it has: no camera writes one. Times count from the container's start. An
    array (T, H, W, 3) has no clock: 30 frames a second are assumed. Frames whose size is not that of most are left out, a damaged
    frame likewise; ``facts.tags`` says so under ``found.``.

    Raises:
        UnreadableError: missing, not a regular file, neither video nor picture, no video stream, no frame can be decoded.
        LimitError: more bytes, pixels, seconds, frames or streams than ``limits`` allow.
    """
    name = name or media_name(media)
    if isinstance(media, np.ndarray):
        frames = _array_frames(media, limits, name)
        return _sampled_array(frames, sampling, _array_facts(media, frames))
    data = load_media(media, limits, name)
    if (plugin := _plugin(data)) is None:
        return read_video(data, hashlib.sha256(data).hexdigest(), sampling, limits, name)
    image = _open_image(plugin, data, limits, name)
    if (parts := animation_parts(data)) and len(parts.sizes) > 1:
        return _read_animation(image, parts, data, sampling=sampling, limits=limits, name=name)
    pixels, facts = _decode_image(image, data, name)
    return _sampled_array(pixels[None], sampling, facts)


@stage("decode")
def read_audio(media: Media, limits: Limits, name: str | None = None) -> Float32Array | None:
    """Decode the sound of a clip or recording.

    Returns:
        (N,) float32 in [-1, 1], mono, 16 kHz; sample 0 lies at time 0 of `Clip.timestamps_s`. ``None`` when there is no sound.

    Raises:
        UnreadableError, LimitError: as `read_clip`; also a sound track of which nothing can be decoded.
    """
    name = name or media_name(media)
    if isinstance(media, np.ndarray):
        return None
    data = load_media(media, limits, name)
    return None if _plugin(data) else read_sound(data, limits, name)


def load_media(media: Path | bytes, limits: Limits, name: str) -> bytes:
    """All bytes of a regular file, of which there may be at most ``limits.max_bytes``.

    Raises:
        UnreadableError: missing, not a regular file, empty. LimitError: more bytes than allowed.
    """
    try:
        data = media if isinstance(media, bytes) else _read_file(media, limits.max_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(name, f"cannot be read ({reason})", "name an existing regular file this user may read") from error
    if len(data) > limits.max_bytes:
        raise LimitError(name, f"has more than {limits.max_bytes} bytes", "send a shorter or smaller recording")
    if not data:
        raise UnreadableError(name, "is empty", "send the file again; the upload was cut off")
    return data


def _read_file(path: Path, max_bytes: int) -> bytes:
    """The file's bytes, or just one byte more than ``max_bytes`` of them."""
    # Non-blocking, so that a pipe nobody writes to cannot hang us before we see what it is.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > max_bytes:
            return bytes(max_bytes + 1)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes + 1)
    finally:
        os.close(descriptor)


def _plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's reader for these bytes, or ``None`` if they are no picture we know.

    The reader is called directly: `Image.open` would warn of big pictures through a process-wide setting and try formats nobody sends.
    """
    head = data[:16]
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return pi_heif.HeifImageFile  # type: ignore[no-any-return]
    return next((plugin for magic, plugin in _MAGIC if head.startswith(magic)), None)


_MAGIC: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    # Portraits of document chips come in these two.
    (b"\0\0\0\x0cjP  \r\n\x87\n", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (b"\xff\x4f\xff\x51", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"II*\x00", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", TiffImagePlugin.TiffImageFile),
)


def _open_image(plugin: type[ImageFile.ImageFile], data: bytes, limits: Limits, name: str) -> ImageFile.ImageFile:
    """A picture of which only the header was read, and found to be within limits."""
    if plugin is WebPImagePlugin.WebPImageFile and data[12:16] == b"VP8X":
        # Pillow's WebP reader allocates the canvas at once: look before it does.
        _check_pixels(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"), limits, name)
    with _pillow_errors(name):
        image = plugin(BytesIO(data))
    _check_pixels(*image.size, limits, name)
    return image


def _check_pixels(width: int, height: int, limits: Limits, name: str) -> None:
    if width * height > limits.max_pixels:
        raise LimitError(name, f"has {width}x{height} pixels, more than {limits.max_pixels}", "send a smaller picture")


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    try:
        yield
    except _PILLOW_ERRORS as error:
        raise UnreadableError(name, f"cannot be decoded as a picture ({error})", _REMEDY) from error


def _rgb(image: Image.Image) -> UInt8Array:
    """(H, W, 3) uint8 RGB of a loaded picture of any mode."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in {"I", "F"}:
        raise ValueError(f"mode {image.mode} has no fixed brightness scale")
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA"}:
        # What a reviewer's page shows behind transparent pixels, not the colours hidden under them.
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.array(image.convert("RGB"))


def _decode_image(image: ImageFile.ImageFile, data: bytes, name: str) -> tuple[UInt8Array, ContainerFacts]:
    with _pillow_errors(name):
        image.load()
        exif = _exif(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
        pixels = _rgb(upright)
    format_ = (image.format or "image").lower()
    facts = ContainerFacts(
        format=format_,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        streams=(StreamFacts("image", format_, width_px=image.width, height_px=image.height, frames=1),),
        tags=clean_tags({tag.name: exif[tag] for tag in _EXIF_TAGS if tag in exif}),
        rotation_deg={3: 180, 6: 90, 8: 270}.get(orientation, 0),
    )
    return pixels, facts


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _exif(image: ImageFile.ImageFile) -> Mapping[int, Any]:
    """The picture's EXIF after loading; broken EXIF is no reason to refuse a picture."""
    try:
        return dict(image.getexif())
    except _PILLOW_ERRORS:
        return {}


def _read_animation(image: ImageFile.ImageFile, parts: Parts, data: bytes, *, sampling: Sampling, limits: Limits, name: str) -> Clip:
    """Animated WebP or GIF: frames build on one another, so all up to the last wanted are decoded.

    No camera writes these, and they carry none of the traces a recording is judged by: what moves in them proves no living face.
    """
    if len(parts.sizes) > limits.max_frames:
        raise LimitError(name, f"has more than {limits.max_frames} frames", "send a shorter clip")
    if parts.duration_s > limits.max_duration_s:
        raise LimitError(name, f"lasts {parts.duration_s:.0f} s, more than {limits.max_duration_s:g} s", "send a shorter clip")
    if image.width * image.height > limits.max_frame_pixels:
        raise LimitError(name, f"has frames of {image.width}x{image.height}, more than {limits.max_frame_pixels} pixels", "send 1080p")
    plan = SamplingPlan.of(parts.times_s, np.arange(len(parts.sizes)) == 0, sampling)
    times_s = parts.times_s
    shape = (image.height, image.width, 3)
    spread, burst, decoded = Stack(plan.spread), Stack(plan.burst), 0
    for i in plan.wanted:
        try:
            with _pillow_errors(name):
                image.seek(i)
                pixels = _rgb(image)
        except UnreadableError:  # cut off here
            break
        decoded += 1
        for stack in (s for s in (spread, burst) if i in s.wanted):
            stack.put(i, pixels)
    missing = len(plan.wanted) - decoded
    clock = dict(enumerate(times_s.tolist()))
    burst_rgb, burst_timestamps_s = burst.frames(shape, clock)
    frames_rgb, timestamps_s = spread.frames(shape, clock)
    if not len(frames_rgb):
        raise UnreadableError(name, "has no frame that can be decoded", _REMEDY)
    format_ = str(image.format).lower()
    facts = ContainerFacts(
        format=format_,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        duration_s=parts.duration_s,
        streams=(StreamFacts("video", format_, width_px=shape[1], height_px=shape[0], frames=len(parts.sizes)),),
        tags={"found.missing_frames": str(missing)} if missing else {},
        packet_times_s=times_s,
        keyframe_times_s=times_s[:1],
        packet_sizes_bytes=np.array(parts.sizes, np.int64),
    )
    return Clip(frames_rgb, timestamps_s, burst_rgb, burst_timestamps_s, is_still=True, facts=facts)


def _array_frames(array: UInt8Array, limits: Limits, name: str) -> UInt8Array:
    """(T, H, W, 3) of a picture or a stack of frames."""
    frames = array[None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise UnreadableError(name, f"is {array.dtype} of shape {array.shape}", "pass (H, W, 3) or (T, H, W, 3) uint8 RGB pixels")
    if len(frames) > limits.max_frames:
        raise LimitError(name, f"has {len(frames)} frames, more than {limits.max_frames}", "pass a shorter clip")
    pixels, most = frames.shape[1] * frames.shape[2], limits.max_pixels if len(frames) == 1 else limits.max_frame_pixels
    if pixels > most:
        raise LimitError(name, f"has {pixels} pixels a frame, more than {most}", "pass smaller frames")
    return np.ascontiguousarray(frames)


def _array_facts(array: UInt8Array, frames: UInt8Array) -> ContainerFacts:
    stream = StreamFacts("video", "array", width_px=frames.shape[2], height_px=frames.shape[1], frames=len(frames))
    return ContainerFacts(format="array", size_bytes=array.nbytes, sha256=media_sha256(array), streams=(stream,))


def _sampled_array(frames: UInt8Array, sampling: Sampling, facts: ContainerFacts) -> Clip:
    times_s = np.arange(len(frames)) / _ARRAY_FPS
    plan = SamplingPlan.of(times_s, np.ones(len(frames), np.bool_), sampling)
    spread, burst = list(plan.spread), list(plan.burst)
    motion = list(plan.motion)
    return Clip(
        frames_rgb=frames[spread],
        timestamps_s=times_s[spread],
        burst_rgb=frames[burst],
        burst_timestamps_s=times_s[burst],
        motion_rgb=np.stack([shrunk(frames[i], sampling.motion_side_px) for i in motion]) if motion else frames[:0],
        motion_timestamps_s=times_s[motion],
        is_still=len(frames) == 1,
        facts=facts,
    )
