"""Append-only result files that survive ``kill -9``, a full disk and a second writer.

A line is written by one ``os.write`` on an ``O_APPEND`` descriptor. If that cannot take the whole line, the file is cut
back to its last whole line; if the process dies in between, resuming cuts the torn line off. The file is flushed to the
disk (``fdatasync``) once a second and on closing: a killed process loses no written line, a power cut at most the last
second of them, and those are judged again on resume.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kyc_guard.errors import InputError, OutputError

_SYNC_EVERY_S = 1.0
_BLOCK_BYTES = 1 << 16


class LineFile:
    """An open result file, locked against other writers.

    Args:
        path: the file.
        resume: go on with an existing file; otherwise an existing file is refused. Call `repair` before the first `append`.

    Raises:
        InputError: the file exists and ``resume`` is false, is no regular file, or another process writes it.
        OutputError: it cannot be created.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | (0 if resume else os.O_EXCL), 0o644)
        except FileExistsError as error:
            raise InputError(
                path, "exists already and is never overwritten", "add --resume to go on with it, or name another file"
            ) from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}). Remedy: name a file in a folder you may write to") from error
        try:
            self._claim()
            self._size = _last_line_end(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._synced_at = time.monotonic()

    def _claim(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise InputError(self.path, "is no regular file", "name a file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(self.path, "another run is writing it", "wait for that run to end, or name another file") from error

    def whole_lines(self) -> Iterator[bytes]:
        """The lines that are there already, without a torn last one and without line ends."""
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            left = self._size
            for line in file:
                left -= len(line)
                if left < 0:
                    return
                yield line[:-1]

    def torn(self) -> bytes:
        """The first bytes of what follows the last line end; empty unless a write was cut short."""
        return os.pread(self._fd, _BLOCK_BYTES, self._size)

    def repair(self) -> None:
        """Cut the torn last line off. The caller has made sure that this is a result file."""
        os.ftruncate(self._fd, self._size)

    def append(self, line: str) -> None:
        """Write ``line`` (without its line end) whole or not at all.

        Raises:
            OutputError: the disk is full or failing; the file ends with its last whole line.
        """
        data = line.encode() + b"\n"
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._give_up(error.strerror or str(error), error)
        if written != len(data):
            self._give_up("the disk took only part of a line: it is probably full", None)
        self._size += written
        if time.monotonic() - self._synced_at > _SYNC_EVERY_S:
            self._sync()

    def close(self) -> None:
        """Flush to the disk and let go of the lock."""
        try:
            self._sync()
        finally:
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._give_up(error.strerror or str(error), error)
        self._synced_at = time.monotonic()

    def _give_up(self, why: str, cause: OSError | None) -> None:
        # Shrinking needs no free space, so it works on the full disk that brought us here.
        os.ftruncate(self._fd, self._size)
        raise OutputError(
            f"{self.path}: cannot be written ({why}); the lines before are whole. Remedy: make room, then go on with --resume"
        ) from cause


def _last_line_end(fd: int) -> int:
    """Offset just behind the last line end; 0 if there is none."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
