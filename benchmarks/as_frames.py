"""The pictures of a split judged once more as a clip's frames are: one look of each view a frame, frames taking turns.

A still gets every look in every zoom and costs several times a frame's time, so accuracy on stills and the speed of clips speak of two
different paths. Here a picture is judged as a clip would be whose frames all show it: its faces take the turns, and the log-odds are
averaged. What averaging over frames that differ buys or costs is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.accuracy_tables import is_clip
from kyc_guard import pool
from kyc_guard.calibration import either
from kyc_guard.config import Sampling, Settings
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.errors import KycGuardError
from kyc_guard.faces import face_finder
from kyc_guard.media import read_clip
from kyc_guard.pipeline import Verifier
from kyc_guard.progress import bar
from kyc_guard.reports.presentations import Presentation, Score, Table
from kyc_guard.types import DIGITAL, PHYSICAL

STILL, FRAME = "as a still", "as a frame of a clip"


@dataclass(frozen=True, slots=True)
class Turns:
    """Presentation -> P(attack) of its picture by a clip's looks, in a worker process; ``None`` if no face was found."""

    make: Callable[[], Verifier]
    settings: Settings

    def __call__(self) -> Callable[[Presentation], float | None]:
        detector = next(d for d in self.make().detectors if isinstance(d, FaceAttack))
        turns = max(len(view.anchors) for view in detector.nets)

        def work(row: Presentation) -> float | None:
            assert row.file is not None
            picture = read_clip(row.file, Sampling(frames=1, burst_frames=0), self.settings.limits).frames_rgb[0]
            faces = face_finder().find(picture)
            if not faces:
                return None
            scores = detector.score_faces([(picture, faces[0])] * turns, looks="one")
            physical, digital = (float(np.mean([s.log_odds[k] for s in scores])) for k in range(2))
            return either(physical, digital)

        return work


def run(
    rows: Sequence[Presentation],
    stills: Sequence[Score],
    make: Callable[[], Verifier],
    settings: Settings,
    *,
    workers: int | None,
) -> list[tuple[Presentation, Score, Score]]:
    """Every picture that got a score as a still: the row, that score, and the one by a clip's looks.

    Args:
        stills: what face_attack said of ``rows``.

    Raises:
        KycGuardError: a picture could not be judged; a benchmark that leaves some out would flatter.
    """
    table = Table.of(rows, stills)
    pictures = set(table.path[~is_clip(table) & ~table.silent].tolist())
    chosen = {row: score for row, score in zip(rows, stills, strict=True) if row.path in pictures}
    judged = []
    with bar(len(chosen), 0) as advance:
        for row, score in pool.run(Turns(make, settings), chosen, workers=workers or pool.default_workers(), ordered=True):
            if isinstance(score, pool.Failure):
                raise KycGuardError(f"{row.path}: {score.code} {score.detail}")
            judged.append((row, chosen[row], replace(chosen[row], score=score)))
            advance()
    return judged


def tables(judged: Sequence[tuple[Presentation, Score, Score]], points: Mapping[str, float]) -> list[dict[str, Any]]:
    """Physical and digital attacks against all bona fide pictures, judged as stills and as frames of a clip."""
    rows = [row for row, _, _ in judged]
    found = []
    for path, scores in ((STILL, [s for _, s, _ in judged]), (FRAME, [s for _, _, s in judged])):
        table = Table.of(rows, scores)
        for name, kinds in (("physical", PHYSICAL), ("digital", DIGITAL)):
            mine = ~table.is_attack | np.isin(table.species, sorted(kinds))
            found.append({"name": name, "path": path, **figures.separation(table.where(mine), points)})
    return found
