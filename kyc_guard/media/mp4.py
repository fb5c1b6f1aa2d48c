"""What an MP4 or MOV header declares, checked before FFmpeg believes it.

FFmpeg allocates one index entry a declared sample, though a few bytes can declare billions, and it replaces a movie duration that
does not fit its own sums. Both are looked at here, in every byte outside the media data, wherever a box may be hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kyc_guard.config import Limits
from kyc_guard.errors import LimitError, UnreadableError

TOP_LEVEL = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid"})
_TELLING = re.compile(rb"mvhd|mdhd|stsz|stz2|trun|cmov")
# Raw sound has a sample a tick; no picture track comes near.
_SAMPLES_PER_S = 48_000
# A fragment of a single frame has about eight boxes.
_BOXES_PER_FRAME = 16


def check_mp4(data: bytes, limits: Limits, name: str) -> None:
    """Refuse a header that declares more than ``limits`` allow.

    Source: ISO/IEC 14496-12, 8.2.2 (mvhd), 8.4.2 (mdhd), 8.7.3 (stsz, stz2), 8.8.8 (trun).

    Raises:
        LimitError: duration, samples or boxes beyond the limits.
        UnreadableError: no movie header, as in a recording that was cut off; or a compressed one, which hides what it declares.
    """
    kinds: set[bytes] = set()
    samples = 0
    for count, (kind, start, stop) in enumerate(_boxes(data)):
        kinds.add(kind)
        if count > _BOXES_PER_FRAME * limits.max_frames:
            raise LimitError(name, f"has more than {count} boxes", "send the file as the camera recorded it")
        if kind == b"mdat":
            continue
        for found in _TELLING.finditer(data, start, stop):
            at = found.end()
            match found.group():
                case b"mvhd" | b"mdhd":
                    _check_duration(data[at : at + 32], limits, name)
                case b"stsz" | b"stz2":
                    samples += int.from_bytes(data[at + 8 : at + 12])
                case b"trun":
                    samples += int.from_bytes(data[at + 4 : at + 8])
                case b"cmov":
                    raise UnreadableError(name, "has a compressed movie header", "send the file as the camera recorded it")
    if samples > _SAMPLES_PER_S * limits.max_duration_s:
        raise LimitError(name, f"declares {samples} samples, more than {limits.max_duration_s:g} s can hold", "send a shorter clip")
    if b"moov" not in kinds:
        raise UnreadableError(name, "has no movie header: the recording or its upload was cut off", "record or upload it again, to the end")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and stop of each outermost box's content."""
    at = 0
    while at + 8 <= len(data):
        size, kind, start = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        elif size == 0:
            size = len(data) - at
        yield kind, start, min(at + max(size, start - at), len(data))
        at += max(size, start - at)


def _check_duration(header: bytes, limits: Limits, name: str) -> None:
    """``header`` follows the box's kind: version, flags, two dates, time scale, duration."""
    wide = header[:1] == b"\x01"
    scale, duration = (header[20:24], header[24:32]) if wide else (header[12:16], header[16:20])
    ticks_a_s, ticks = int.from_bytes(scale), int.from_bytes(duration)
    if not ticks_a_s or duration.strip(b"\xff") == b"":  # all ones: unknown
        return
    if ticks / ticks_a_s > limits.max_duration_s:
        raise LimitError(name, f"declares {ticks / ticks_a_s:.0f} s, more than {limits.max_duration_s:g} s", "send a shorter clip")
