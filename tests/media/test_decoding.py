"""Frames that are wanted small: the same moments and pictures as in full size, whatever the container does to them."""

from __future__ import annotations

import io

import av
import cv2
import makers
import numpy as np
import pytest

import kyc_guard.media.container as container_room
from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import UnreadableError
from kyc_guard.media import read_clip
from kyc_guard.media.decoding import Stack
from kyc_guard.media.sampling import shrunk, shrunk_size

WIDTH_PX, HEIGHT_PX = 320, 180
SMALL = Sampling(frames=256, burst_frames=0, motion_hz=25.0, motion_side_px=160)


def scene(container: str, codec: str, pixels: str) -> bytes:
    """Ten frames of coloured blotches that drift."""
    spots = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video = output.add_stream(codec, rate=25, options={"crf": "18"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, pixels
        for i in range(10):
            frame = cv2.resize(np.roll(spots, i // 3, axis=1), (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
            output.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(video.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "pixels", "turn"),
    [
        ("mp4", "libx264", "yuv420p", None),
        ("mp4", "libx264", "yuv444p", None),
        ("mp4", "libx264", "yuv420p10le", None),
        ("avi", "mjpeg", "yuvj420p", None),
        ("mp4", "libx264", "yuv420p", "clockwise"),
        ("mp4", "libx264", "yuv420p", "mirrored"),
    ],
)
def test_a_small_frame_shows_what_the_full_one_shows(container: str, codec: str, pixels: str, turn: str | None) -> None:
    data = scene(container, codec, pixels)
    if turn is not None:
        data = makers.with_display_matrix(data, *makers.TURNS[turn])
    clip = read_clip(data, SMALL, Limits())
    assert clip.motion_timestamps_s.tolist() == clip.timestamps_s.tolist()
    assert clip.motion_rgb.shape[1:3] == shrunk_size(*clip.frames_rgb.shape[1:3], 160)
    for full, small in zip(clip.frames_rgb, clip.motion_rgb, strict=True):
        apart = cv2.absdiff(shrunk(full, 160), np.ascontiguousarray(small))
        assert apart.mean() < 3.0  # chroma comes a little softer


def test_frames_that_are_small_already_stay_as_they_are() -> None:
    clip = read_clip(makers.clip(), Sampling(frames=256, burst_frames=0, motion_hz=25.0), Limits())
    assert makers.numbers(clip.motion_rgb) == makers.numbers(clip.frames_rgb)


def test_a_stack_gives_the_frames_of_one_size_in_the_order_they_came() -> None:
    stack = Stack([2, 5, 7, 9])
    for position, side_px in ((2, 4), (5, 6), (7, 4)):
        stack.put(position, np.full((side_px, side_px, 3), position, np.uint8))
    frames, times_s = stack.frames((4, 4, 3), {2: 0.2, 5: 0.5, 7: 0.7})
    assert (frames[:, 0, 0, 0].tolist(), times_s.tolist()) == ([2, 7], [0.2, 0.7])
    assert stack.frames((8, 8, 3), {})[0].shape == (0, 8, 8, 3)


def test_a_decoder_that_is_not_there_is_replaced_by_the_cpus_which_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = scene("mp4", "libx264", "yuv420p"), []

    class NoDevice:
        def __init__(self, kind: str, *, allow_software_fallback: bool) -> None:
            asked.append((kind, allow_software_fallback))
            raise av.error.PermissionError(1, "no driver")

    monkeypatch.setattr(container_room, "HWAccel", NoDevice)
    here = read_clip(data, SMALL, Limits())
    there = read_clip(data, SMALL.model_copy(update={"decode_device": "cuda"}), Limits())
    assert asked == [("cuda", True)]
    assert np.array_equal(here.frames_rgb, there.frames_rgb)
    assert np.array_equal(here.motion_rgb, there.motion_rgb)
    assert "found.decoded_on_gpu" not in there.facts.tags


def test_a_damaged_file_is_no_missing_device() -> None:
    with pytest.raises(UnreadableError):
        read_clip(scene("mp4", "libx264", "yuv420p")[:2000], SMALL.model_copy(update={"decode_device": "cuda"}), Limits())
