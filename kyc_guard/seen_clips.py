"""Clips of earlier submissions, so that one recording is not sent twice under two names.

    with ClipMemory(Path("seen.jsonl")) as seen, Verifier(seen=seen) as verifier: ...

Of a clip it keeps the submission's id, the file's sha256 and its frames' prints (`forensics.frame_prints`: 256 bits a frame, which
neighbour of a coarse grid is darker). No face, no pixel, no name. With a file, each clip is one appended line, and one process writes.
A search compares with every clip kept, about 0.06 ms each: begin a new file when that, or your retention, asks for it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np

from kyc_guard.errors import InputError, SchemaError
from kyc_guard.forensics import clip_distance
from kyc_guard.result_lines import LineFile
from kyc_guard.types import UInt8Array

_PRINT_BYTES = 32
_LINE_START = b'{"submission": '


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    submission: str
    sha256: str
    prints: UInt8Array
    """(T, 32) uint8."""


class ClipMemory:
    """The `SeenClips` of one process: in memory, and in a file where one is named. Threads may share it.

    A clip is remembered by being asked for, in the same step, so that of two copies at once one is found. A submission that is judged
    again is held against those that came before it, as the first time. A file that cannot be written stops the judging: an earlier
    clip that was not kept could not be found.

    Raises:
        InputError: the file holds something else, or another process writes it. OutputError: it cannot be made or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = Lock()
        self._closed = False
        self._clips: list[_Seen] = []
        self._at: dict[tuple[str, str], int] = {}
        self._file = None if path is None else LineFile(path, resume=True)
        if self._file is not None:
            try:
                self._read_back(self._file)
            except BaseException:
                self._file.close()
                raise

    def __len__(self) -> int:
        return len(self._clips)

    def find(self, sha256: str, prints: UInt8Array, *, submission: str, nearest: float) -> str | None:
        """The first earlier submission with the same bytes or prints nearer than ``nearest``; see `SeenClips.find`."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this ClipMemory is closed")
            at = self._at.get((submission, sha256))
            if at is None:
                at = len(self._clips)
                seen = _Seen(submission, sha256, prints.copy())
                if self._file is not None:
                    self._file.append(_line(seen))
                self._keep(seen)
            before = self._clips[:at]
        others = (c for c in before if c.submission != submission)
        return next((c.submission for c in others if c.sha256 == sha256 or clip_distance(prints, c.prints) < nearest), None)

    def close(self) -> None:
        """Flush the file and let another process have it; nothing is looked for afterwards."""
        with self._lock:
            if self._file is not None and not self._closed:
                self._file.close()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _keep(self, seen: _Seen) -> None:
        if (key := (seen.submission, seen.sha256)) not in self._at:
            self._at[key] = len(self._clips)
            self._clips.append(seen)

    def _read_back(self, file: LineFile) -> None:
        for number, line in enumerate(file.whole_lines(), start=1):
            try:
                row = json.loads(line)
                prints = np.frombuffer(base64.b64decode(row["prints"], validate=True), np.uint8).reshape(-1, _PRINT_BYTES)
                self._keep(_Seen(_text(row["submission"]), _text(row["sha256"]), prints))
            except (ValueError, KeyError, TypeError, binascii.Error) as error:
                raise SchemaError(
                    file.path, f"line {number} is no remembered clip ({error!r})", "restore the file, or name another"
                ) from error
        # Only what a killed process left of a line of ours is cut off.
        torn = file.torn()[: len(_LINE_START)]
        if torn != _LINE_START[: len(torn)]:
            raise InputError(file.path, "ends with something that is no remembered clip", "restore the file, or name another")
        file.repair()


def _line(seen: _Seen) -> str:
    prints = base64.b64encode(seen.prints.tobytes()).decode("ascii")
    return json.dumps({"submission": seen.submission, "sha256": seen.sha256, "prints": prints})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
