"""Decodes chosen frames from the keyframe before each, straight from the packets in memory, so no container needs a working index.

Frames that nothing refers to and nobody wants are skipped. What is only wanted small is scaled by the decoder's own converter, on its
way from YUV to RGB, and never exists in full size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from kyc_guard.config import Limits
from kyc_guard.media.container import ERRORS, Packets, configure, too_large
from kyc_guard.media.sampling import shrunk_size
from kyc_guard.types import Float64Array, UInt8Array


class Stack:
    """Collects frames of one size as they come out of the decoder, so that the pixels of a 4K clip are never in memory twice."""

    def __init__(self, wanted: Collection[int]) -> None:
        self.wanted = frozenset(wanted)
        self._kept: dict[tuple[int, ...], tuple[UInt8Array, list[int]]] = {}

    def put(self, position: int, pixels: UInt8Array) -> None:
        """Keep (H, W, 3) uint8 RGB."""
        if pixels.shape not in self._kept:
            # Memory that is never written to costs nothing: the array may be too long, or there for a size that came once.
            self._kept[pixels.shape] = np.empty((len(self.wanted), *pixels.shape), np.uint8), []
        rows, positions = self._kept[pixels.shape]
        rows[len(positions)] = pixels
        positions.append(position)

    def frames(self, shape: tuple[int, ...], times_s: Mapping[int, float]) -> tuple[UInt8Array, Float64Array]:
        """(T, *shape) pixels and (T,) times of the frames of that shape, in the order they came."""
        rows, positions = self._kept.get(shape, (np.empty((0, *shape), np.uint8), []))
        return rows[: len(positions)], np.array([times_s[i] for i in positions], np.float64)

    def clear(self) -> None:
        self._kept.clear()


class Decoder:
    """Decodes packets of one stream."""

    def __init__(self, stream: Any, packets: Packets, limits: Limits, name: str) -> None:
        configure(stream, limits)
        self._context = stream.codec_context
        self._packets = packets
        self._limits = limits
        self._name = name
        # Kept from frame to frame: making one costs as much as a frame.
        self._shrink, self._colour = VideoReformatter(), VideoReformatter()
        self.errors = 0
        self._matrix: tuple[int, _DisplayMatrix] | None = None
        """PyAV's rotation of the frame it was read from, and the matrix."""
        self.rotation_deg = 0
        self.sizes: Counter[tuple[int, int]] = Counter()
        """(height, width) of upright frames -> how many of the wanted have it."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of most wanted frames."""
        return self.sizes.most_common(1)[0][0] if self.sizes else (0, 0)

    def fill(self, full: Sequence[Stack], small: Stack, small_side_px: int) -> Mapping[int, float]:
        """Put every frame that can be decoded where it is wanted, in presentation order.

        Args:
            full: stacks of frames in full size; what they want are decoding positions. small: stack of frames whose longer side is
                brought down to ``small_side_px``, all in the same way, whether they are wanted in full size as well or not.

        Returns:
            Decoding position -> presentation time, of what was decoded.
        """
        self._stacks, self._small, self._small_side_px = full, small, small_side_px
        wanted = frozenset[int]().union(*(stack.wanted for stack in (*full, small)))
        found: dict[int, None] = {}
        runs = self._runs(wanted)
        for start, stop in runs:
            before = len(found)
            self._decode(start, stop, wanted, found)
            if len(found) == before and runs != [(0, stop)]:
                # The container calls a frame a keyframe that is none: only decoding from the beginning is safe.
                found.clear()
                for stack in (*full, small):
                    stack.clear()
                self.sizes.clear()
                self.errors = 0
                self._decode(0, runs[-1][1], wanted, found)
                break
        # The order in which a decoder gives frames out is the truth; some containers (H.264 in AVI) shuffle the times.
        return dict(zip(found, np.sort(self._packets.times_s[list(found)]).tolist(), strict=True))

    def _runs(self, wanted: Collection[int]) -> list[tuple[int, int]]:
        """Disjoint stretches [start, stop) of packets that must be decoded, each beginning where a decoder can begin."""
        keys = np.flatnonzero(self._packets.is_key)
        times_s = self._packets.times_s
        runs: list[tuple[int, int]] = []
        for start, stop in sorted((int(max(keys[(keys <= i) & (times_s[keys] <= times_s[i])], default=0)), i + 1) for i in wanted):
            # A frame shown before its own keyframe (open GOP) refers to the group before as well: the two are one stretch.
            if runs and start < runs[-1][1]:
                runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
            else:
                runs.append((start, stop))
        return runs

    def _decode(self, start: int, stop: int, wanted: Collection[int], found: dict[int, None]) -> None:
        for i in range(start, stop):
            self._context.skip_frame = "DEFAULT" if i in wanted else "NONREF"
            self._step(self._packets.packets[i], wanted, found)
        self._step(None, wanted, found)
        self._context.flush_buffers()

    def _step(self, packet: Any, wanted: Collection[int], found: dict[int, None]) -> None:
        try:
            decoded = self._context.decode(packet)
        except ERRORS:  # a damaged packet costs its own frame; none left is an error later
            self.errors += 1
            return
        for frame in decoded:
            i = frame.opaque[0] if frame.opaque else -1
            if frame.width * frame.height > self._limits.max_frame_pixels:
                raise too_large(self._name, frame.width, frame.height, self._limits)
            if i in wanted and i not in found:
                self._keep(i, frame)
                found[i] = None

    def _keep(self, i: int, frame: Any) -> None:
        matrix = self._upright(frame)
        self.rotation_deg = matrix.rotation_deg
        self.sizes[(frame.width, frame.height) if matrix.swaps else (frame.height, frame.width)] += 1
        stacks = [stack for stack in self._stacks if i in stack.wanted]
        if stacks:
            pixels = matrix.turned(frame.to_ndarray(format="rgb24", threads=1))
            for stack in stacks:
                stack.put(i, pixels)
        if i in self._small.wanted:
            height, width = shrunk_size(frame.height, frame.width, self._small_side_px)
            # Scaling YUV and turning little into RGB takes half the time of doing both at once.
            small = self._shrink.reformat(frame, width=width, height=height, format="yuv420p", interpolation="AREA", threads=1)
            small_rgb: Any = self._colour.reformat(small, format="rgb24", threads=1).to_ndarray()
            self._small.put(i, matrix.turned(small_rgb))

    def _upright(self, frame: Any) -> _DisplayMatrix:
        """The frame's display matrix, looked at on the first frame and wherever the rotation changes.

        Not on every frame: PyAV ties one whose side data was looked at into a cycle, and a whole clip waits for the garbage collector.
        """
        if self._matrix is None or self._matrix[0] != frame.rotation:
            self._matrix = frame.rotation, _display_matrix(frame)
        return self._matrix[1]


class _DisplayMatrix:
    """How a container says its frames are to be turned and mirrored."""

    def __init__(self, a: int, b: int, c: int, d: int) -> None:
        mirror = -1 if a * d < b * c else 1
        self.rotation_deg = round(math.degrees(math.atan2(b, mirror * a)) / 90) % 4 * 90
        """Clockwise."""
        self.swaps = abs(b) > abs(a)
        across, down = (c, b) if self.swaps else (a, d)
        self._step = (-1 if down < 0 else 1, -1 if across < 0 else 1)

    def turned(self, pixels: UInt8Array) -> UInt8Array:
        """(H, W, 3) pixels turned and mirrored."""
        upright = pixels.swapaxes(0, 1) if self.swaps else pixels
        return upright[:: self._step[0], :: self._step[1]]


def _display_matrix(frame: Any) -> _DisplayMatrix:
    if "DISPLAYMATRIX" not in frame.side_data:
        return _DisplayMatrix(1, 0, 0, 1)
    # Row-major 3x3 of 16.16 fixed point: x' = a x + c y, y' = b x + d y. Source: ISO/IEC 14496-12, 6.2.2.
    a, b, _, c, d = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32)[:5].tolist()
    return _DisplayMatrix(a, b, c, d)
