"""The one writer of weights/thresholds.toml: replaces one detector's table, keeps the others, atomically.

    python -m training.thresholds training/configs/document.toml

copies every table of a file of expert priors (numbers nobody can measure yet, with their grounds in its comments).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kyc_guard.toml_text import toml_text

THRESHOLDS = Path(__file__).resolve().parent.parent / "weights" / "thresholds.toml"
_HEADER = "# Written by the calibrate commands in training/; not to be edited. Its sha256 stands in every decision.\n"


def write_table(path: Path, detector: str, table: Mapping[str, Any]) -> None:
    """Replace ``[detector]`` in ``path`` by ``table``; other tables keep their values.

    Two writers at once wait for each other; a reader sees the old file or the new one, never half of one. The same tables
    give the same bytes, whatever the order they were written in.

    Args:
        path: thresholds.toml; made if absent.
        detector: name of the top-level table.
        table: text, booleans, finite numbers, lists of these, and tables; floats are rounded to six decimals.

    Raises:
        ValueError: a number that is not finite, or a value TOML cannot hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        tables = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        tables[detector] = dict(table)
        text = _HEADER + toml_text(tables)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def nets_behind(manifest: Path, prefix: str) -> dict[str, str]:
    """Model name -> sha256, as the manifest has them now, of those whose name begins so: what a table's ``nets`` ties it to."""
    tables = tomllib.loads(manifest.read_text(encoding="utf-8"))
    return {name: table["sha256"] for name, table in tables.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The folder itself is the lock, so that no lock file ends in a wheel.
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def main() -> None:
    for source in sys.argv[1:]:
        for detector, table in tomllib.loads(Path(source).read_text(encoding="utf-8")).items():
            write_table(THRESHOLDS, detector, table)
            print(f"{source}: [{detector}] -> {THRESHOLDS}")


if __name__ == "__main__":
    main()
