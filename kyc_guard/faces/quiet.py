"""MediaPipe's native start-up logs, silenced."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_silence = threading.Lock()
_silenced: list[int] = []
"""One copy of the real stderr for every thread inside `quiet_native_logs`."""


@contextlib.contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Silence C++ start-up logs (they ignore every Python setting) while a finder is built; tracebacks still work.

    Stderr belongs to the whole process: the first thread in turns it off, the last one out turns it on again.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    with _silence:
        if not _silenced:
            sys.stderr.flush()
            keep, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(void, 2)
            os.close(void)
        else:
            keep = os.dup(_silenced[0])
        _silenced.append(keep)
    try:
        yield
    finally:
        with _silence:
            keep = _silenced.pop()
            if not _silenced:
                os.dup2(keep, 2)
            os.close(keep)
