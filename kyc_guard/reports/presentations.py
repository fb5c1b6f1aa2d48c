"""What was presented and what came out, row by row and as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kyc_guard.types import Float64Array

NO_PRESENTATION = frozenset({"invalid_row", "invalid_path", "missing_file"})
"""Reasons that say the manifest is at fault: nothing was presented, so the row is in no rate."""
ERRORS = NO_PRESENTATION | {"unreadable", "limit", "bad_input", "internal_error", "worker_died", "timeout", "invalid_score"}
"""Reasons an operator should look at; the others are a detector's own abstentions."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """One row of an evaluation manifest: what was presented."""

    path: str
    label: str
    """bona_fide | attack; anything else comes with a ``problem``."""
    species: str
    """PAI species; empty for bona fide."""
    source: str = ""
    subject: str = ""
    group: str = ""
    file: Path | None = None
    problem: tuple[str, str] | None = None
    """Code and detail of why the row cannot be used."""
    matched: bool | None = None
    """Whether the face matcher took the presented face for the one on record; ``None`` where no matching was involved."""


@dataclass(frozen=True, slots=True)
class Score:
    """One row of scores.csv: what came out."""

    score: float | None
    """P(attack); ``None`` = no response."""
    reason: str | None = None
    predicted_type: str | None = None
    detectors: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """All presentations by column; rows that presented nothing are left out."""

    is_attack: NDArray[np.bool_]
    species: NDArray[np.str_]
    scores: Float64Array
    """NaN where there was no response."""
    source: NDArray[np.str_]
    group: NDArray[np.str_]
    cluster: NDArray[np.str_]
    """Rows of one person have one name; a row without a subject is a person of its own."""
    matched: Float64Array
    """1 or 0; NaN where no matching was involved."""
    reason: NDArray[np.str_]
    predicted: NDArray[np.str_]
    """PAI species that the scorer named; empty for none."""
    path: NDArray[np.str_]

    @classmethod
    def of(cls, rows: Sequence[Presentation], scores: Sequence[Score]) -> Table:
        pairs = [(r, s) for r, s in zip(rows, scores, strict=True) if r.problem is None and s.reason not in NO_PRESENTATION]

        def text(values: list[str]) -> NDArray[np.str_]:
            return np.array(values, dtype=np.str_)

        return cls(
            is_attack=np.array([r.label == "attack" for r, _ in pairs], dtype=bool),
            species=text([r.species for r, _ in pairs]),
            scores=np.array([np.nan if s.score is None else s.score for _, s in pairs], dtype=np.float64),
            source=text([r.source for r, _ in pairs]),
            group=text([r.group for r, _ in pairs]),
            cluster=text([f"{r.source}/{r.subject}" if r.subject else f"row {r.path}" for r, _ in pairs]),
            matched=np.array([np.nan if r.matched is None else r.matched for r, _ in pairs], dtype=np.float64),
            predicted=text([s.predicted_type or "" for _, s in pairs]),
            reason=text([s.reason or "" for _, s in pairs]),
            path=text([r.path for r, _ in pairs]),
        )

    def where(self, mask: NDArray[np.bool_]) -> Table:
        return Table(**{name: getattr(self, name)[mask] for name in self.__slots__})

    @property
    def silent(self) -> NDArray[np.bool_]:
        return np.isnan(self.scores)

    @property
    def bona_fide(self) -> Float64Array:
        """Scores of the bona fides that got one."""
        return self.scores[~self.is_attack & ~self.silent]

    @property
    def attack(self) -> Float64Array:
        return self.scores[self.is_attack & ~self.silent]

    @property
    def attacks(self) -> dict[str, Float64Array]:
        """PAI species -> scores of its attacks that got one; every species of the table is there."""
        return {str(s): self.scores[(self.species == s) & self.is_attack & ~self.silent] for s in np.unique(self.species[self.is_attack])}
