"""Enrolling, searching and removing the faces of accounts in the index that `KYC_GUARD_FACE_INDEX` names; see `kyc_guard.face_index`.

An account's id is its submission's ``subject``. Enroll applicants who were accepted and agreed to it; the note of their agreement is
kept beside the face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kyc_guard.batch import submissions
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.errors import ConfigError, InputError
from kyc_guard.face_index import Account, FaceIndex, Found, changed, index_key, measured_chance
from kyc_guard.faces import track_faces
from kyc_guard.faces.embedding import MODEL, Embedder, aligned, best_faces, together
from kyc_guard.media import read_clip
from kyc_guard.submission import Submission
from kyc_guard.types import Float32Array
from kyc_guard.weights import Weights


class Accounts:
    """The configured index, and the net that embeds for it.

    Raises:
        ConfigError: no index or no key is configured. ModelError: the net cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.face_index is None:
            raise ConfigError("no face index is configured. Remedy: KYC_GUARD_FACE_INDEX=PATH")
        self._path, self._key = settings.face_index, index_key(settings)
        self._settings = settings
        self._policy = Policy.load(settings.policy_path)
        self._weight = Weights(settings.weights_dir).get(MODEL)

    def enroll(self, source: Path, consent: str) -> Iterator[dict[str, Any]]:
        """One line a submission, in their order: enrolled, replaced, or why not. The index is written at the end.

        Args:
            source: one submission's folder, a folder of such folders, or a manifest as `batch.run` takes it.
            consent: what they agreed to, in the operator's words.

        Raises:
            InputError: the source cannot be read. ConfigError: the index cannot be opened. OutputError: it cannot be written.
        """
        embedder, today = Embedder.load(self._settings.weights_dir), datetime.now(UTC).date().isoformat()
        with changed(self._path, self._key, self._weight.sha256) as accounts:
            for name, submission in submissions(source):
                try:
                    if isinstance(submission, InputError):
                        raise submission
                    if submission.subject is None:
                        raise InputError(name, "names no subject", "name the account as its subject")  # noqa: TRY301
                    vector = self._vector(submission, embedder)
                except InputError as error:
                    yield {"submission": name, "error": {"type": type(error).__name__, "message": str(error)}}
                    continue
                status = "replaced" if submission.subject in accounts else "enrolled"
                accounts[submission.subject] = Account(vector, today, consent)
                yield {"submission": name, "account": submission.subject, "status": status}

    def search(self, directory: Path) -> Found:
        """The accounts that look like the selfie of a submission, its own subject left out.

        Raises:
            InputError: the submission cannot be read or shows no face. ConfigError: the index cannot be opened.
        """
        submission = Submission.from_dir(directory)
        chance = measured_chance(Thresholds.load(self._settings.thresholds_path))
        index = FaceIndex.load(self._path, self._key, self._weight.sha256, chance)
        vector = self._vector(submission, Embedder.load(self._settings.weights_dir))
        return index.search(vector, top=int(self._policy.gate("match_top_accounts")), but=submission.subject)

    def remove(self, ids: Sequence[str]) -> int:
        """Delete accounts and say how many are left. Nothing is deleted unless all are there.

        Raises:
            InputError: an id is not enrolled. ConfigError, OutputError: as `enroll`.
        """
        with changed(self._path, self._key, self._weight.sha256) as accounts:
            if missing := [name for name in ids if name not in accounts]:
                raise InputError(self._path, f"no account {missing[0]!r} is enrolled", "name enrolled accounts only")
            for name in set(ids):
                del accounts[name]
            return len(accounts)

    def _vector(self, submission: Submission, embedder: Embedder) -> Float32Array:
        if submission.selfie is None:
            raise InputError(submission.id, "has no selfie", "send one")
        sampling = self._settings.sampling.model_copy(update={"burst_frames": 0})
        clip = read_clip(submission.selfie, sampling, self._settings.limits)
        least_px = self._policy.gate("match_min_selfie_px")
        shown = best_faces(track_faces(clip.frames_rgb, other_face_ratio=1.0).faces, min_px=least_px)
        if not shown:
            raise InputError(submission.id, f"no selfie face is {least_px:.0f} px wide", "send a selfie that shows the face larger")
        vectors = embedder.embed([aligned(clip.frames_rgb[s.frame], s.face.landmarks_px) for s in shown])
        return together(vectors, [s.weight for s in shown])
