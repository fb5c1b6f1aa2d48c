"""Traces of how a video was made that FFmpeg reads over: texts inside the stream, edit lists, C2PA manifests.

Everything here reads hostile bytes: it slices and compares, allocates nothing a length field asks for, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kyc_guard.types import Edit

_NOTES = 4
_NOTE_CHARS = 160
_EDITS = 64
_LOOKED_AT_BYTES = 1 << 16
"""User data of interest stands before the first picture."""
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Source: C2PA specification 2.1, 11.3.3 (BMFF-based assets): a top-level `uuid` box of this type holds the JUMBF store."""
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,}")
_START_CODE = re.compile(rb"\x00\x00\x01")


def encoder_notes(codec: str, configuration: bytes, packet: bytes) -> tuple[str, ...]:
    """Texts in the user data of H.264 or HEVC, such as the settings x264 writes into every stream.

    Args:
        codec: FFmpeg's name; other codecs than h264 and hevc give nothing.
        configuration: what the container says before the first picture: avcC, hvcC, or units with start codes.
        packet: the first picture.

    Source: ITU-T H.264 D.1.7 and H.265 D.2.7 (user_data_unregistered: a UUID, then free bytes).
    """
    if codec not in {"h264", "hevc"}:
        return ()
    notes: dict[str, None] = {}
    for unit in (*_configured_units(configuration[:_LOOKED_AT_BYTES]), *_units(packet[:_LOOKED_AT_BYTES])):
        for text in _unit_texts(unit, codec):
            notes[text] = None
    return tuple(notes)[:_NOTES]


def _units(data: bytes) -> Iterator[bytes]:
    """NAL units with start codes, or with their length in four bytes before each."""
    if data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1":
        starts = [found.end() for found in _START_CODE.finditer(data)]
        for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
            yield data[start:stop]
        return
    at = 0
    while at + 4 < len(data) and (size := int.from_bytes(data[at : at + 4])):
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _configured_units(data: bytes) -> Iterator[bytes]:
    """Units of an hvcC box; avcC carries parameter sets only. Source: ISO/IEC 14496-15, 8.3.2.1."""
    if data[:1] != b"\1":
        yield from _units(data)
        return
    at = 23
    while at + 3 <= len(data):
        count = int.from_bytes(data[at + 1 : at + 3])
        at += 3
        while count and at + 2 <= len(data):
            size = int.from_bytes(data[at : at + 2])
            yield data[at + 2 : at + 2 + size]
            at, count = at + 2 + size, count - 1


def _unit_texts(unit: bytes, codec: str) -> Iterator[str]:
    """Readable beginnings of all unregistered user data in one SEI unit."""
    if not unit:
        return
    head = 1 if codec == "h264" else 2
    if not (unit[0] & 0x1F == 6 if codec == "h264" else unit[0] >> 1 & 0x3F in {39, 40}):
        return
    body = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention
    at = head
    while at + 2 < len(body):
        kind, at = _ff_coded(body, at)
        size, at = _ff_coded(body, at)
        if kind == 5 and (found := _PRINTABLE.search(body[at + 16 : at + size])):
            yield found.group()[:_NOTE_CHARS].decode("ascii")
        at += size


def _ff_coded(data: bytes, at: int) -> tuple[int, int]:
    """A number written as a run of 255 and a last byte, and where it ends."""
    value = 0
    while at < len(data) and data[at] == 0xFF:
        value, at = value + 255, at + 1
    return value + (data[at] if at < len(data) else 0), at + 1


def edit_list(mp4: bytes) -> tuple[Edit, ...]:
    """The edit list of the first video track; empty for other files.

    Source: ISO/IEC 14496-12, 8.6.6 (elst), 8.2.2 (mvhd), 8.4.2 (mdhd), 8.4.3 (hdlr).
    """
    for start, stop in _inside(mp4, 0, len(mp4), b"moov"):
        header = next(iter(_inside(mp4, start, stop, b"mvhd")), None)
        for track in _inside(mp4, start, stop, b"trak"):
            if (edits := _track_edits(mp4, track, _scale(mp4, header))) is not None:
                return edits
    return ()


def has_c2pa(data: bytes) -> bool:
    """Whether an MP4 or MOV has a C2PA box; other containers carry manifests in ways not looked for."""
    return any(data[start : start + 16] == _C2PA_UUID for start, _ in _inside(data, 0, len(data), b"uuid"))


def _track_edits(mp4: bytes, track: tuple[int, int], movie_scale: int) -> tuple[Edit, ...] | None:
    """``None`` if the track is not video."""
    for media in _inside(mp4, *track, b"mdia"):
        if not any(mp4[start + 8 : start + 12] == b"vide" for start, _ in _inside(mp4, *media, b"hdlr")):
            return None
        media_scale = _scale(mp4, next(iter(_inside(mp4, *media, b"mdhd")), None))
        for edts in _inside(mp4, *track, b"edts"):
            for start, stop in _inside(mp4, *edts, b"elst"):
                return tuple(_edits(mp4[start:stop], movie_scale, media_scale))
        return ()
    return None


def _edits(table: bytes, movie_scale: int, media_scale: int) -> Iterator[Edit]:
    wide = table[:1] == b"\1"
    size = 20 if wide else 12
    for at in range(8, min(len(table) - size, 8 + size * (_EDITS - 1)) + 1, size):
        entry, half = table[at : at + size], 8 if wide else 4
        media_time = int.from_bytes(entry[half : 2 * half], signed=True)
        yield Edit(
            duration_s=int.from_bytes(entry[:half]) / movie_scale,
            media_time_s=None if media_time < 0 else media_time / media_scale,
            rate=int.from_bytes(entry[2 * half :], signed=True) / (1 << 16),
        )


def _scale(mp4: bytes, header: tuple[int, int] | None) -> int:
    """Ticks a second of a movie or media header."""
    if header is None:
        return 1
    at = header[0] + (20 if mp4[header[0] : header[0] + 1] == b"\1" else 12)
    return int.from_bytes(mp4[at : at + 4]) or 1


def _inside(data: bytes, start: int, stop: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Start and stop of the content of each box of ``kind`` directly between ``start`` and ``stop``."""
    while start + 8 <= stop:
        size, head = int.from_bytes(data[start : start + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        end = stop if size == 0 else min(start + max(size, head), stop)
        if data[start + 4 : start + 8] == kind:
            yield start + head, end
        start = end
