"""weights/manifest.toml -> a verified local file. Unknown or altered weights are refused.

manifest.toml has one table a model::

    [face_attack]
    file = "face_attack.onnx"
    sha256 = "..."
    version = "1"
    licence = "research use only"
    card = "cards/face_attack.md"
    command = "python -m training ..."
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kyc_guard.errors import ModelError

_ENTRY = ("file", "sha256", "version", "licence", "card")


@dataclass(frozen=True, slots=True)
class Weight:
    """One shipped model file, verified."""

    name: str
    path: Path
    sha256: str
    version: str
    licence: str
    card: Path


class Weights:
    """The weights folder; every file is hashed once, when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / "manifest.toml"
        try:
            self._tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({error}). Remedy: point KYC_GUARD_WEIGHTS_DIR at a weights folder") from error
        self._verified: dict[str, Weight] = {}

    def names(self) -> tuple[str, ...]:
        return tuple(self._tables)

    def has(self, name: str) -> bool:
        return name in self._tables

    def get(self, name: str) -> Weight:
        """The verified file of model ``name``.

        Raises:
            ModelError: not in the manifest or described there by half, missing on disk, or its sha256 is not the manifest's.
        """
        if name in self._verified:
            return self._verified[name]
        if name not in self._tables:
            raise ModelError(f"{self.directory / 'manifest.toml'}: no model {name!r}")
        table = self._tables[name]
        if lacks := [key for key in _ENTRY if not (isinstance(table, dict) and isinstance(table.get(key), str))]:
            raise ModelError(f"{self.directory / 'manifest.toml'}: [{name}] lacks {', '.join(lacks)}. Remedy: reinstall the weights")
        path = self.directory / table["file"]
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror}). Remedy: reinstall the weights") from error
        if digest != table["sha256"]:
            raise ModelError(
                f"{path}: sha256 {digest[:12]}… is not the manifest's {table['sha256'][:12]}…. "
                "Remedy: reinstall; do not use altered weights"
            )
        weight = Weight(name, path, digest, table["version"], table["licence"], self.directory / table["card"])
        self._verified[name] = weight
        return weight


def demand_sha256(path: Path, sha256: str, package: str) -> None:
    """Refuse a model that a dependency carries unless its bytes are the ones that thresholds were measured with.

    Args:
        package: requirement that carries it, for the remedy.

    Raises:
        ModelError: ``path`` cannot be read or is another file.
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Remedy: reinstall {package}") from error
    if found != sha256:
        raise ModelError(f"{path}: sha256 {found[:12]}… is not {sha256[:12]}…. Remedy: reinstall {package}")
