"""Times and sizes of the frames of an animated GIF or WebP, read from its blocks without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kyc_guard.types import Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """One entry a frame, in order."""

    durations_ms: tuple[int, ...]
    sizes: tuple[int, ...]
    """Bytes."""

    @property
    def times_s(self) -> Float64Array:
        """(P,) when each frame is first shown."""
        # Browsers show frames of 10 ms or less for 100 ms, and so do makers who write 0 expect.
        shown_ms = [d if d > 10 else 100 for d in self.durations_ms]
        return np.cumsum([0, *shown_ms[:-1]]) / 1000.0

    @property
    def duration_s(self) -> float:
        return float(self.times_s[-1]) + max(self.durations_ms[-1], 10) / 1000.0


def animation_parts(data: bytes) -> Parts | None:
    """Frames of a GIF or WebP as far as its bytes go; ``None`` for other files and for a WebP that is a plain picture."""
    found = _webp(data) if data[8:12] == b"WEBP" else _gif(data) if data.startswith(b"GIF8") else []
    return Parts(*map(tuple, zip(*found, strict=True))) if found else None


def _webp(data: bytes) -> list[tuple[int, int]]:
    """Source: WebP container specification, chunk ANMF."""
    found = []
    at = 12
    while at + 24 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ANMF":
            found.append((int.from_bytes(data[at + 20 : at + 23], "little"), size))
        at += 8 + size + size % 2
    return found


def _gif(data: bytes) -> list[tuple[int, int]]:
    """Source: GIF89a specification, sections 18-23."""
    found = []
    canvas_width, canvas_height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at = 13 + _colour_table(data[10:11])
    delay_ms = 0
    while at + 10 <= len(data):
        if data[at] == 0x21:  # extension
            if data[at + 1] == 0xF9:  # graphic control: delay in hundredths of a second
                delay_ms = 10 * int.from_bytes(data[at + 4 : at + 6], "little")
            at = _after_blocks(data, at + 2)
        elif data[at] == 0x2C:  # image: descriptor, colour table, code size, data
            left, top, width, height = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (1, 3, 5, 7))
            if left + width > canvas_width or top + height > canvas_height:
                break  # Pillow would grow the canvas beyond what was checked
            end = _after_blocks(data, at + 11 + _colour_table(data[at + 9 : at + 10]))
            found.append((delay_ms, end - at))
            at, delay_ms = end, 0
        else:
            break
    return found


def _colour_table(flags: bytes) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where a chain of sub-blocks ends."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
