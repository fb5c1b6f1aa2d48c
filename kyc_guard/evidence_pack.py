"""One zip a decision: a page for people, the decision for machines, the rules that judged, and a signed list of hashes.

``manifest.json`` holds the sha256 of every other member, ``manifest.sig`` a signature over it where `Settings.evidence_key` is set
(``ed25519:`` or ``hmac-sha256:``, see `kyc_guard.signatures`). The same decision gives the same bytes. The redacted variant is for
the applicant who appeals; see `kyc_guard.reports.evidence_page`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyc_guard.batch import verifier_on_one_core
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError, LimitError, OutputError, UnreadableError
from kyc_guard.provenance import identity
from kyc_guard.reports.evidence_page import page, redacted_page
from kyc_guard.signatures import CaptureKey, sign_message, split
from kyc_guard.submission import Submission
from kyc_guard.types import Decision, Evidence
from kyc_guard.whole_file import write_whole

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FULL, REDACTED = "full", "redacted"
_PURPOSE = b"kyc-guard evidence 1\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The zip format's first moment: a member's time would make two packs of one decision differ."""


def build(decision: Decision, evidence: Evidence, bundle: Bundle, *, redacted: bool = False) -> bytes:
    """The bytes of a pack.

    Args:
        evidence: what the decision was made of, as `Verifier.examine` returns it. bundle: what judged, `Verifier.bundle`.
        redacted: for the applicant: no scores, thresholds, reasons or models, and nobody else's face.

    Raises:
        ConfigError: policy or thresholds on disk are no longer those that judged, or the key cannot be used.
    """
    if redacted:
        members = {"index.html": redacted_page(decision, evidence).encode(), "decision.json": _json(_redacted(decision))}
    else:
        members = {
            "index.html": page(decision, evidence, bundle).encode(),
            "decision.json": _json(decision.to_json()),
            "policy.toml": _unchanged(bundle.settings.policy_path, decision.policy_sha256),
            "thresholds.toml": _unchanged(bundle.settings.thresholds_path, decision.thresholds_sha256),
        }
    manifest = _json(
        {
            "submission": decision.submission,
            "variant": REDACTED if redacted else FULL,
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        }
    )
    members[MANIFEST] = manifest
    if bundle.settings.evidence_key is not None:
        secret = bundle.settings.evidence_key.get_secret_value()
        signature = base64.b64encode(sign_message(secret, _PURPOSE + manifest)).decode("ascii")
        members[SIGNATURE] = f"{CaptureKey.parse(secret).kind}:{signature}\n".encode()
    return _zip(members)


def write(path: Path, pack: bytes) -> None:
    """Write a pack whole or not at all, readable by its owner alone; an earlier one is replaced.

    Raises:
        OutputError: no permission, or the disk is full.
    """
    write_whole(path, pack, mode=0o600)


def batch_options(folder: Path, settings: Settings) -> dict[str, Any]:
    """What to hand to `batch.run` so that it leaves a pack of every decision in ``folder``, which is made if absent.

    Raises:
        OutputError: it cannot be made. ConfigError, ModelError: nothing may be judged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Remedy: name a folder you may write to") from error
    return {"make_verify": Packing(settings, folder), "judged_with": identity(settings)}


@dataclass(frozen=True, slots=True)
class Packing:
    """For `batch.run`: judges, and leaves a pack of every decision in ``folder``."""

    settings: Settings
    folder: Path

    def __call__(self) -> Callable[[Submission], Decision]:
        verifier = verifier_on_one_core(self.settings)

        def verify(submission: Submission) -> Decision:
            decision, evidence = verifier.examine(submission)
            write(self.folder / file_name(submission.id), build(decision, evidence, verifier.bundle))
            return decision

        return verify


def file_name(submission: str) -> str:
    """A pack's file name: the id where a file may be called so, otherwise what is left of it and a hash that tells ids apart."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", submission)[:80].lstrip(".")
    return f"{safe}.zip" if safe == submission else f"{safe}-{hashlib.sha256(submission.encode()).hexdigest()[:12]}.zip"


@dataclass(frozen=True, slots=True)
class Check:
    """What a pack turned out to be.

    Attributes:
        problems: why it must not be believed; empty = it holds.
        signature: valid | unchecked (no key was given) | absent | wrong.
    """

    submission: str
    variant: str
    members: int
    signature: str
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "submission": self.submission,
            "variant": self.variant,
            "members": self.members,
            "signature": self.signature,
            "problems": list(self.problems),
        }


def verifying_key(settings: Settings, public_key: str | None = None) -> CaptureKey | None:
    """The key to check signatures with: the one named, else the verifying half of `Settings.evidence_key`, if any.

    Raises:
        ConfigError: the key cannot be used.
    """
    if public_key is not None:
        return CaptureKey.parse(public_key)
    return None if settings.evidence_key is None else CaptureKey.verifying(settings.evidence_key.get_secret_value())


def check(path: Path, key: CaptureKey | None, *, max_bytes: int) -> Check:
    """Hold every member against the manifest, and the manifest against its signature.

    Without a key hashes show accidents only: who alters a member can write a new manifest.

    Args:
        key: the verifying half of the key packs are signed with; a pack without its signature is then not believed.

    Raises:
        UnreadableError: no such file, or no evidence pack. LimitError: its content is larger than ``max_bytes``.
    """
    remedy = "name a file that verify --pack wrote"
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
            if sum(info.file_size for info in infos) > max_bytes:
                raise LimitError(path, f"holds more than {max_bytes} bytes", remedy)
            members = {info.filename: file.read(info) for info in infos}
        manifest = json.loads(members[MANIFEST])
        listed = {str(name): str(sha256) for name, sha256 in manifest["sha256"].items()}
        submission, variant = str(manifest["submission"]), str(manifest["variant"])
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise UnreadableError(path, f"is no whole evidence pack ({type(error).__name__}: {error})", remedy) from error
    present = {name: hashlib.sha256(data).hexdigest() for name, data in members.items() if name not in {MANIFEST, SIGNATURE}}
    problems = [f"{name} is listed and missing" for name in sorted(listed.keys() - present.keys())]
    problems += [f"{name} is not listed" for name in sorted(present.keys() - listed.keys())]
    problems += [f"{name} was altered" for name in sorted(listed.keys() & present.keys()) if listed[name] != present[name]]
    problems += ["two members have one name"] if len(members) != len(infos) else []
    signature = _signature(members.get(SIGNATURE), members[MANIFEST], key)
    if key is not None and signature != "valid":
        problems.append(f"the signature is {signature}")
    return Check(submission, variant, len(listed), signature, tuple(problems))


def _signature(text: bytes | None, manifest: bytes, key: CaptureKey | None) -> str:
    if text is None:
        return "absent"
    if key is None:
        return "unchecked"
    parts = split(text.decode("ascii", "replace").strip())
    return "valid" if parts is not None and parts[0] == key.kind and key.proves(parts[1], _PURPOSE + manifest) else "wrong"


def _redacted(decision: Decision) -> dict[str, Any]:
    return {
        "submission": decision.submission,
        "outcome": str(decision.outcome),
        "message": decision.message,
        "judged_on": decision.judged_on.isoformat(),
        "inputs": dict(decision.inputs),
    }


def _unchanged(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigError(f"{path}: was changed while it judged. Remedy: judge again")
    return data


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
            file.writestr(info, data)
    return buffer.getvalue()
