"""Files are replaced whole or not at all, and are read by those alone who may."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kyc_guard import OutputError, whole_file


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "report.json").write_text("before")
    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        whole_file.write_whole(tmp_path / "report.json", "after")
    assert (tmp_path / "report.json").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_draft_that_a_crash_left_lends_nobody_its_rights(tmp_path: Path) -> None:
    (tmp_path / ".secret.part").write_text("half")
    (tmp_path / ".secret.part").chmod(0o644)
    whole_file.write_whole(tmp_path / "secret", b"\x00whole", mode=0o600)
    assert (tmp_path / "secret").read_bytes() == b"\x00whole"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
