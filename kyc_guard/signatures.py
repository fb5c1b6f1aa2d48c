"""Capture signatures: the app that filmed a clip vouches for it, so that bytes swapped on the way are noticed.

A signature is text: ``<key id>:<base64>``. It covers the session's nonce and the clip's hash, so it fits one clip in one session.
It proves that a key holder sent the clip, not that the camera was real: an app on a rooted phone signs what it is fed.

    key = CaptureKey.parse("ed25519:<base64 of 32 bytes>")          # the public half, on the server
    key.verifies(signature, nonce=nonce, sha256=clip_sha256)

Kinds: ``ed25519`` (32 bytes: the seed to sign, the public key to verify) and ``hmac-sha256`` (32 bytes and more, on both sides).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kyc_guard.errors import ConfigError

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class CaptureKey:
    """A key that verifies capture signatures."""

    kind: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<kind>:<base64>``.

        Raises:
            ConfigError: an unknown kind, bytes that are not base64, or a key of the wrong length.
        """
        kind, _, encoded = text.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        fits = {"ed25519": len(key) == _KEY_BYTES, "hmac-sha256": len(key) >= _KEY_BYTES}
        if not fits.get(kind):
            raise ConfigError("a capture key must be ed25519:<base64 of 32 bytes> or hmac-sha256:<base64 of 32 bytes or more>")
        return cls(kind, key)

    @classmethod
    def verifying(cls, secret: str) -> Self:
        """The key that verifies what `sign_message` signs with ``secret``: the public half of an ed25519 seed, else the same key.

        Raises:
            ConfigError: as `parse`.
        """
        key = cls.parse(secret)
        if key.kind != "ed25519":
            return key
        return cls(key.kind, Ed25519PrivateKey.from_private_bytes(key.key).public_key().public_bytes_raw())

    def verifies(self, signature: bytes, *, nonce: str | None, sha256: str) -> bool:
        """Whether ``signature`` was made for this clip in this session by the holder of the key."""
        return self.proves(signature, _message(nonce, sha256))

    def proves(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of the key signed ``message``."""
        try:
            if self.kind == "ed25519":
                Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
            else:
                _mac(self.key, message).verify(signature)
        except InvalidSignature:
            return False
        return True


def split(text: str) -> tuple[str, bytes] | None:
    """Key id and signature of ``<key id>:<base64>``; ``None`` if it is not of that form."""
    key_id, colon, encoded = text.rpartition(":")
    try:
        return (key_id, base64.b64decode(encoded, validate=True)) if colon else None
    except (binascii.Error, ValueError):
        return None


def sign(secret: str, key_id: str, *, nonce: str | None, sha256: str) -> str:
    """Sign as a capture client does; for clients written in Python, and for tests.

    Args:
        secret: ``ed25519:<base64 of the 32-byte seed>`` or ``hmac-sha256:<base64>``.

    Raises:
        ConfigError: as `CaptureKey.parse`.
    """
    signature = sign_message(secret, _message(nonce, sha256))
    return f"{key_id}:{base64.b64encode(signature).decode('ascii')}"


def sign_message(secret: str, message: bytes) -> bytes:
    """Sign bytes; ``message`` must begin with what it is for, so that no signature serves twice. Raises as `sign`."""
    key = CaptureKey.parse(secret)
    return Ed25519PrivateKey.from_private_bytes(key.key).sign(message) if key.kind == "ed25519" else _mac(key.key, message).finalize()


def _message(nonce: str | None, sha256: str) -> bytes:
    return f"kyc-guard capture 1\n{nonce or ''}\n{sha256}".encode()


def _mac(key: bytes, message: bytes) -> hmac.HMAC:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(message)
    return mac
