"""What an applicant sent and a client declared: paths and facts, checked as they are read. Nothing is decoded here."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kyc_guard.errors import SchemaError, UnreadableError

Media: TypeAlias = Path | bytes | NDArray[np.uint8]
"""A file, its bytes, or decoded pixels: (H, W, 3) or (T, H, W, 3) uint8 RGB."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server asked of this applicant in this session.

    Raises:
        ValueError: ``prompts_s`` are not finite times from 0 on that rise, one an action.
    """

    nonce: str | None = None
    phrase: str | None = None
    actions: tuple[str, ...] = ()
    issued_at: str | None = None
    expires_at: str | None = None
    prompts_s: tuple[float, ...] = ()
    """When in the clip each action was asked, seconds from its start; empty: one after the other, at the applicant's own pace."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(p) and p >= 0 for p in self.prompts_s):
            raise ValueError("prompts_s must be seconds from the clip's start")
        if self.prompts_s and (len(self.prompts_s) != len(self.actions) or sorted(self.prompts_s) != list(self.prompts_s)):
            raise ValueError("prompts_s must rise and have one entry an action")


_TOML_KEYS = {"id", "subject", "document", "selfie", "enrolled_voice", "challenge", "claims", "device", "chip"}


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """Paths (or bytes, or arrays) and declared facts; nothing is decoded yet.

    Attributes:
        id: names the submission in every result line.
        subject: the applicant's pseudonym in the caller's system.
        document: front, back ... of the identity document.
        selfie: selfie video or photo.
        claims: what the applicant typed: surname, given_names, birth_date (ISO 8601), document_number,
            expiry_date, nationality (ISO 3166 alpha-3), sex (M, F, X). All optional.
        device: what the capture client declared: model, platform, camera, width_px, height_px, fps, signature
            (see `kyc_guard.signatures`). All optional.
        enrolled_voice: an earlier recording of the applicant, sound or video; compared only where policy asks for it.
        chip: what a phone read out of the document's chip: ``sod``, ``dg1`` and any other data group -> file (or bytes).
    """

    id: str
    selfie: Media | None = None
    document: tuple[Media, ...] = ()
    subject: str | None = None
    challenge: Challenge | None = None
    claims: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    device: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    chip: Mapping[str, Path | bytes] = field(default_factory=lambda: _EMPTY)
    enrolled_voice: Path | bytes | None = None

    @classmethod
    def from_dir(cls, directory: Path | str) -> Submission:
        """Read ``submission.toml`` in ``directory``; every file it names must lie inside ``directory``.

        Raises:
            UnreadableError: no such directory or toml.
            SchemaError: unknown keys, wrong types, or a path that leaves the directory (.., absolute, symlink).
        """
        root = Path(directory)
        toml = root / "submission.toml"
        try:
            text = toml.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableError(
                toml, f"cannot be read ({error})", "add a UTF-8 submission.toml naming the selfie and document"
            ) from error
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SchemaError(toml, f"is not valid TOML ({error})", "see the submission schema in the README") from error
        return cls.from_mapping(data, root=root, default_id=root.resolve().name, source=toml)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], *, root: Path, default_id: str, source: Path | str) -> Submission:
        """Validate a decoded submission.toml or manifest row; see `from_dir`."""
        unknown = sorted(set(data) - _TOML_KEYS)
        if unknown:
            raise SchemaError(source, f"unknown key {unknown[0]!r}", f"use only {', '.join(sorted(_TOML_KEYS))}")
        documents = data.get("document", [])
        if isinstance(documents, str):
            documents = [documents]
        if not isinstance(documents, Sequence) or not all(isinstance(d, str) for d in documents):
            raise SchemaError(source, "document must be a file name or a list of file names", 'write document = ["front.jpg"]')
        selfie, voice = data.get("selfie"), data.get("enrolled_voice")
        return cls(
            id=_string(data.get("id", default_id), "id", source),
            subject=None if data.get("subject") is None else _string(data["subject"], "subject", source),
            selfie=None if selfie is None else inside(root, _string(selfie, "selfie", source), source),
            document=tuple(inside(root, d, source) for d in documents),
            challenge=_challenge(_table(data, "challenge", source), source),
            claims=MappingProxyType({k: _string(v, f"claims.{k}", source) for k, v in _table(data, "claims", source).items()}),
            device=MappingProxyType(dict(_table(data, "device", source))),
            chip=_chip(_table(data, "chip", source), root, source),
            enrolled_voice=None if voice is None else inside(root, _string(voice, "enrolled_voice", source), source),
        )


def inside(root: Path, name: str, source: Path | str) -> Path:
    """``root / name`` if that stays inside ``root`` after following links; no file is opened.

    Raises:
        SchemaError: the name is absolute, climbs out, or passes through a symlink that leaves ``root``.
    """
    candidate = root / name
    if "\x00" in name or not candidate.resolve().is_relative_to(root.resolve()):
        raise SchemaError(source, f"{name!r} leaves {root}", "name only files inside the submission's own folder or root")
    return candidate


def _table(data: Mapping[str, Any], key: str, source: Path | str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise SchemaError(source, f"{key} must be a table", f"write [{key}]")
    return value


def _chip(table: Mapping[str, Any], root: Path, source: Path | str) -> Mapping[str, Path]:
    if wrong := sorted(set(table) - {"sod", *(f"dg{n}" for n in range(1, 17))}):
        raise SchemaError(source, f"unknown key chip.{wrong[0]}", "use sod and dg1 to dg16")
    if table and not {"sod", "dg1"} <= set(table):
        raise SchemaError(source, "chip needs sod and dg1", 'write chip = { sod = "sod.bin", dg1 = "dg1.bin", dg2 = "dg2.bin" }')
    return MappingProxyType({k: inside(root, _string(v, f"chip.{k}", source), source) for k, v in table.items()})


def _challenge(table: Mapping[str, Any], source: Path | str) -> Challenge | None:
    if not table:
        return None
    if wrong := sorted(set(table) - {"nonce", "phrase", "actions", "prompts_s", "issued_at", "expires_at"}):
        raise SchemaError(source, f"unknown key challenge.{wrong[0]}", "use nonce, phrase, actions, prompts_s, issued_at, expires_at")
    actions = table.get("actions", [])
    if not isinstance(actions, list | tuple):
        raise SchemaError(source, "challenge.actions must be a list of names", 'write actions = ["blink"]')
    prompts = table.get("prompts_s", [])
    if not isinstance(prompts, list | tuple) or not all(isinstance(p, int | float) for p in prompts):
        raise SchemaError(source, "challenge.prompts_s must be a list of seconds", "write prompts_s = [1.0, 4.2]")
    texts = {k: _string(v, f"challenge.{k}", source) for k, v in table.items() if k not in {"actions", "prompts_s"}}
    named = tuple(_string(a, "challenge.actions", source) for a in actions)
    try:
        return Challenge(**texts, actions=named, prompts_s=tuple(float(p) for p in prompts))
    except (ValueError, OverflowError) as error:  # TOML and JSON know integers that no float holds
        raise SchemaError(source, f"challenge: {error}", "write one rising time for every action, such as [1.0, 6.2]") from error


def _string(value: Any, key: str, source: Path | str) -> str:
    # TOML dates are a natural way to write birth_date; anything else that is not text is a mistake.
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if not isinstance(value, str) or not value:
        raise SchemaError(source, f"{key} must be text", f'write {key} = "..."')
    return value
