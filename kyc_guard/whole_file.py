"""Files that are there whole or not at all: a crash or a full disk leaves the earlier one."""

from __future__ import annotations

import os
from pathlib import Path

from kyc_guard.errors import OutputError


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content``, text as UTF-8; ``mode`` says who may read it.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        # Not written over: one that a crash left behind may be readable by others.
        draft.unlink(missing_ok=True)
        with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Remedy: make room or name a folder you may write to") from error
