"""The files of a submission by name and hash: what was judged, and what was sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from kyc_guard.config import Limits
from kyc_guard.media import media_sha256
from kyc_guard.submission import Media, Submission
from kyc_guard.types import Evidence

ENROLLED = "enrolled voice"


def file_name(submission: Submission, media: Media, role: str) -> str:
    """What errors call it."""
    return str(media) if isinstance(media, Path) else f"{submission.id}: {role}"


def judged_inputs(evidence: Evidence) -> Mapping[str, str]:
    """File name -> sha256 of what was judged."""
    judged = {f"document {i}": facts.sha256 for i, facts in enumerate(evidence.document_facts, start=1)}
    judged |= {f"chip {part}": hashlib.sha256(data).hexdigest() for part, data in evidence.chip.items()}
    if evidence.enrolled_sha256 is not None:
        judged |= {ENROLLED: evidence.enrolled_sha256}
    if evidence.clip is not None:
        judged = {"selfie": evidence.clip.facts.sha256} | judged
    return _by_name(evidence.submission, judged)


def sent_inputs(submission: Submission, limits: Limits) -> Mapping[str, str]:
    """What `Decision.inputs` would say of a submission, without decoding it.

    Raises:
        InputError: a file cannot be read or passes a limit.
    """
    return _by_name(submission, {role: media_sha256(media, limits) for role, media in _roles(submission).items()})


def declared_sha256(submission: Submission, inputs: Mapping[str, str]) -> str:
    """`Decision.declared_sha256`. The hashes of the files are in it, so nobody without the files can guess a claim from it."""
    challenge = None if submission.challenge is None else asdict(submission.challenge)
    said = [list(inputs.items()), dict(submission.claims), dict(submission.device), challenge]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _roles(submission: Submission) -> dict[str, Media]:
    selfie = {} if submission.selfie is None else {"selfie": submission.selfie}
    documents = {f"document {i}": media for i, media in enumerate(submission.document, start=1)}
    voice = {} if submission.enrolled_voice is None else {ENROLLED: submission.enrolled_voice}
    return selfie | documents | {f"chip {part}": media for part, media in submission.chip.items()} | voice


def _by_name(submission: Submission, hashes: Mapping[str, str]) -> Mapping[str, str]:
    """File name -> hash from role -> hash; a second file of the same name is told apart by its role."""
    sent, named = _roles(submission), dict[str, str]()
    for role, sha256 in hashes.items():
        media = sent[role]
        name = media.name if isinstance(media, Path) else role
        named[name if named.get(name, sha256) == sha256 else f"{name} ({role})"] = sha256
    return MappingProxyType(named)
