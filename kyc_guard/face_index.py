"""Faces of earlier accounts, one vector each, in one encrypted file: has this face been here under another name?

    with changed(path, key, model_sha256) as accounts: accounts["a-17"] = Account(...)
    FaceIndex.load(path, key, model_sha256, chance).search(vector, top=5)

Nobody is enrolled by being judged: an account comes in by its own step, with a note of its consent, and leaves by its id. The file is
rewritten whole: AES-256-GCM under a fresh nonce, moved into place atomically, so that a crash leaves the old file.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kyc_guard.config import Settings, Thresholds
from kyc_guard.errors import ConfigError, OutputError
from kyc_guard.faces.embedding import WIDTH
from kyc_guard.types import Float32Array
from kyc_guard.whole_file import write_whole

_MAGIC = b"KYCFACE1"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_FILE = "file:"


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """One enrolled person."""

    vector: Float32Array
    """(128,) float32 of length one."""
    enrolled_on: str
    """ISO 8601 day."""
    consent: str
    """What the holder agreed to, in the operator's words, such as the version of its terms."""


class Hit(NamedTuple):
    """An account near the face that was searched for."""

    account: str
    distance: float


@dataclass(frozen=True, slots=True)
class Chance:
    """How often a stranger looks like an account, measured: [match.known_face] of thresholds.toml."""

    distance: float
    """An account is a hit up to this distance."""
    fmr: float
    """Share of strangers among whom one comparison is a hit ..."""
    fmr_high: float
    """... and the upper end of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. ``hits`` are the nearest few of the ``within``."""

    searched: int
    within: int
    hits: tuple[Hit, ...]
    chance: Chance

    @property
    def expected_false_hits(self) -> float:
        """Strangers that a search of so many accounts finds on average: N x FMR."""
        return self.searched * self.chance.fmr

    def __str__(self) -> str:
        high = self.searched * self.chance.fmr_high
        expected = f"{self.expected_false_hits:.2g} of them (up to {high:.2g}) by chance"
        return f"{self.within} of {self.searched} earlier accounts have a face like this, {expected}"

    def to_json(self) -> dict[str, Any]:
        """No vectors: ids and distances of the hits, and what chance alone would find."""
        return {
            "searched": self.searched,
            "within": self.within,
            "hits": [{"account": hit.account, "distance": round(hit.distance, 4)} for hit in self.hits],
            "distance": self.chance.distance,
            "fmr": self.chance.fmr,
            "expected_false_hits": self.expected_false_hits,
            "expected_false_hits_high": self.searched * self.chance.fmr_high,
        }


def index_key(settings: Settings) -> bytes:
    """The 32 bytes of ``settings.face_index_key``: base64, or ``file:<path>`` of a file that holds it.

    Raises:
        ConfigError: none is set, or it is neither. The message never holds the key.
    """
    text = "" if settings.face_index_key is None else settings.face_index_key.get_secret_value()
    if text.startswith(_FILE):
        path = Path(text.removeprefix(_FILE))
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: the key of the face index cannot be read. Remedy: name a readable file with its base64") from error
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        remedy = "KYC_GUARD_FACE_INDEX_KEY=$(openssl rand -base64 32), or file:PATH"
        raise ConfigError(f"the key of the face index must be the base64 of 32 bytes. Remedy: {remedy}")
    return key


@dataclass(frozen=True, slots=True, eq=False)
class FaceIndex:
    """All enrolled accounts, for searching.

    Attributes:
        vectors: (N, 128) float32 unit vectors, in the order of ``ids``.
        sha256: of the file, so that a decision can say which index it searched.
    """

    ids: tuple[str, ...]
    vectors: Float32Array
    sha256: str
    chance: Chance

    @classmethod
    def load(cls, path: Path, key: bytes, model_sha256: str, chance: Chance) -> Self:
        """Read ``path``.

        Raises:
            ConfigError: it cannot be read or opened with the key, was altered, or holds vectors of another model.
        """
        try:
            sealed = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: the face index cannot be read ({error.strerror}). Remedy: kyc-guard accounts-enroll") from error
        accounts = _opened(sealed, key, model_sha256, path)
        vectors = np.array([a.vector for a in accounts.values()], np.float32).reshape(-1, WIDTH)
        return cls(tuple(accounts), vectors, hashlib.sha256(sealed).hexdigest(), chance)

    def search(self, vector: Float32Array, *, top: int, but: str | None = None) -> Found:
        """The accounts whose face lies near a (128,) unit vector, the nearest ``top`` of them named.

        Args:
            but: the applicant's own account, which is no duplicate.
        """
        others = np.array([name != but for name in self.ids], bool)
        distances = np.sqrt(np.maximum(2.0 - 2.0 * (self.vectors @ vector), 0.0))
        near = np.flatnonzero(others & (distances <= self.chance.distance))
        nearest = near[np.argsort(distances[near], kind="stable")][:top]
        return Found(int(others.sum()), len(near), tuple(Hit(self.ids[i], float(distances[i])) for i in nearest), self.chance)


def configured_index(settings: Settings, thresholds: Thresholds, model_sha256: str) -> FaceIndex | None:
    """The index that the settings name; ``None`` where they name none, as shipped.

    Raises:
        ConfigError: as `FaceIndex.load`, or the settings name an index without its key.
    """
    if settings.face_index is None:
        return None
    return FaceIndex.load(settings.face_index, index_key(settings), model_sha256, measured_chance(thresholds))


def measured_chance(thresholds: Thresholds) -> Chance:
    """Raises ConfigError where [match.known_face] of thresholds.toml lacks it."""
    try:
        known = thresholds.table("match")["known_face"]
        return Chance(float(known["distance"]), float(known["fmr"]), float(known["fmr_95"][1]))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ConfigError(f"{thresholds.path}: [match.known_face] lacks {error}. Remedy: python -m training.match") from error


@contextlib.contextmanager
def changed(path: Path, key: bytes, model_sha256: str) -> Iterator[dict[str, Account]]:
    """The accounts of ``path`` by id, to be changed; written back if the block ends without an error. Made if absent.

    Two writers at once wait for each other.

    Raises:
        ConfigError: as `FaceIndex.load`. OutputError: it cannot be written.
    """
    try:
        # The folder is the lock: a lock on the file itself would be lost when it is replaced.
        handle = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Remedy: name a folder that exists") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        accounts = _opened(path.read_bytes(), key, model_sha256, path) if path.exists() else {}
        yield accounts
        write_whole(path, _sealed(accounts, key, model_sha256), mode=0o600)
    finally:
        os.close(handle)


def _sealed(accounts: dict[str, Account], key: bytes, model_sha256: str) -> bytes:
    """Magic, nonce, and the encrypted rest: a line of JSON (model, and id, day, consent of each), then the vectors."""
    rows = [[name, a.enrolled_on, a.consent] for name, a in accounts.items()]
    head = json.dumps({"model_sha256": model_sha256, "accounts": rows}).encode("utf-8")
    vectors = b"".join(np.asarray(a.vector, "<f4").tobytes() for a in accounts.values())
    nonce = os.urandom(_NONCE_BYTES)
    return _MAGIC + nonce + AESGCM(key).encrypt(nonce, head + b"\n" + vectors, _MAGIC)


def _opened(sealed: bytes, key: bytes, model_sha256: str, path: Path) -> dict[str, Account]:
    start = len(_MAGIC) + _NONCE_BYTES
    try:
        plain = AESGCM(key).decrypt(sealed[len(_MAGIC) : start], sealed[start:], sealed[: len(_MAGIC)])
    except (InvalidTag, ValueError) as error:
        raise ConfigError(f"{path}: is no face index, was altered, or belongs to another key. Remedy: restore it or its key") from error
    head, _, raw = plain.partition(b"\n")
    table: dict[str, Any] = json.loads(head)
    if table["model_sha256"] != model_sha256:
        raise ConfigError(
            f"{path}: its faces were embedded by model {table['model_sha256'][:12]}…, not {model_sha256[:12]}…. Remedy: enroll them again"
        )
    vectors = np.frombuffer(raw, "<f4").reshape(-1, WIDTH)
    return {name: Account(vector, day, consent) for (name, day, consent), vector in zip(table["accounts"], vectors, strict=True)}
