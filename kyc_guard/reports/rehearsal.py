"""The figures in the shape of an iBeta test: so many species, so many presentations each, one limit a level.

A rehearsal and no certification: a laboratory makes its own attacks, of crafts and costs no manifest knows, and sees the
product for the first time. Which level an attack instrument belongs to is a fact of its making; so every species is held
against the numbers of every level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kyc_guard.reports.metrics import Rate

PER_SPECIES = 150
NOTICE = "A rehearsal on the operator's own data; no certification, no accredited laboratory, and no ISO/IEC 30107-3 test report"


@dataclass(frozen=True, slots=True)
class Level:
    """What is published of one level of iBeta's presentation attack detection test; ``None`` where nothing fixed is."""

    name: str
    craft: str
    species: int | None
    bona_fides: int | None
    apcer_limit: float
    bpcer_limit: float


# Source: iBeta Quality Assurance, published descriptions of its ISO/IEC 30107-3 test levels (level 3: since June 2025).
LEVELS = (
    Level("1", "made at home in 8 hours a species, material up to 30 $", 6, 50, 0.0, 0.15),
    Level("2", "made in 2 to 4 days a species, material up to 300 $", 5, 250, 0.01, 0.15),
    Level("3", "made by experts, hyper-realistic masks; sources disagree between about 0 % and 5 % APCER", None, None, 0.05, 0.10),
)


def rehearse(apcer: Mapping[str, Rate], bpcer: Rate) -> list[dict[str, Any]]:
    """Hold the figures against every level.

    Args:
        apcer: PAI species -> share of its attacks that would have been accepted, attacks without a score counted as not.

    Returns:
        A row a level: what it asks, ``lacking`` (what these data lack in volume), ``over`` (which limits they pass), and
        ``met``: ``None`` while the volume is lacking, since too few attacks show nothing.
    """
    rows = []
    enough = {name: rate for name, rate in apcer.items() if rate.n >= PER_SPECIES}
    for level in LEVELS:
        over = [name for name, rate in sorted(apcer.items()) if rate.value is not None and rate.value > level.apcer_limit]
        if bpcer.value is not None and bpcer.value > level.bpcer_limit:
            over.append("BPCER")
        lacking = []
        if len(enough) < (wanted := level.species or 1):
            lacking.append(f"{wanted - len(enough)} more species with {PER_SPECIES} presentations")
        if bpcer.n < (people := level.bona_fides or 1):
            lacking.append(f"{people - bpcer.n} more bona fides")
        rows.append(
            {
                "level": level.name,
                "craft": level.craft,
                "species": level.species,
                "per_species": PER_SPECIES,
                "bona_fides": level.bona_fides,
                "apcer_limit": level.apcer_limit,
                "bpcer_limit": level.bpcer_limit,
                "lacking": lacking,
                "over": over,
                "met": False if over else None if lacking else True,
            }
        )
    return rows
