"""Score files of the same manifest side by side, over the same families, species and sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import figures
from benchmarks.record import between, share, table
from kyc_guard.errors import InputError
from kyc_guard.reports.labelled import read_manifest, read_scores
from kyc_guard.reports.presentations import Presentation, Score, Table
from kyc_guard.types import DIGITAL, PHYSICAL


def side_by_side(manifest: Path, files: Sequence[Path], *, split: str) -> dict[str, Any]:
    """AUC and BPCER20 of every scores.csv in ``files``, named after its folder.

    Raises:
        InputError: a file cannot be read, or lacks a row of the manifest.
    """
    rows = list(read_manifest(manifest, None, split))
    by_name = {path.parent.name if path.stem == "scores" else path.stem: path for path in files}
    if len(by_name) < max(2, len(files)):
        raise InputError(
            manifest, f"would be compared over {[str(f) for f in files]}", "name two or more scores.csv in folders of different names"
        )
    tables = {name: Table.of(rows, _scores_of(path, rows)) for name, path in by_name.items()}
    parts = {name: list(_parts(t)) for name, t in tables.items()}
    return {
        "command": "python -m benchmarks.peers --compare",
        "manifest": manifest.name,
        "split": split,
        "files": {name: str(path) for name, path in by_name.items()},
        "slices": [
            {"slice": some[0][0], "of": {name: _outline(tables[name].where(mask)) for name, (_, mask) in zip(parts, some, strict=True)}}
            for some in zip(*parts.values(), strict=True)
        ],
    }


def _parts(t: Table) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Which rows of a table are compared together: name and mask."""
    yield "all", np.ones_like(t.is_attack)
    for name, kinds in (("physical", PHYSICAL), ("digital", DIGITAL)):
        mine = t.is_attack & np.isin(t.species, sorted(kinds))
        yield name, mine | (~t.is_attack & np.isin(t.source, np.unique(t.source[mine])))
    for species in np.unique(t.species[t.is_attack]):
        yield f"species {species}", ~t.is_attack | (t.species == species)
    for source in np.unique(t.source):
        yield f"source {source}", t.source == source


def _outline(part: Table) -> dict[str, Any]:
    found = figures.separation(part, {})
    kept = {k: found[k] for k in ("attacks", "bona_fides", "attacks_silent", "bona_fides_silent", "auc")}
    return {**kept, "bpcer20": found["bpcer_at_apcer"]["BPCER20"]}


def _scores_of(path: Path, rows: Sequence[Presentation]) -> list[Score]:
    scores = dict(read_scores(path))
    if lost := next((row.path for row in rows if row.path not in scores), None):
        raise InputError(path, f"has no row for {lost!r}", "score the whole split with every model")
    return [scores[row.path] for row in rows]


def page(found: Mapping[str, Any]) -> str:
    """The comparison as Markdown."""
    names = list(found["files"])

    def row(part: Mapping[str, Any]) -> tuple[Any, ...]:
        first, of = part["of"][names[0]], part["of"]
        aucs, refused = ([between(of[name][key]) for name in names] for key in ("auc", "bpcer20"))
        return (part["slice"], first["attacks"], first["bona_fides"], *aucs, *refused)

    header = ("slice", "attacks", "bona fides", *(f"AUC {name}" for name in names), *(f"BPCER20 {name}" for name in names))
    silent = found["slices"][0]["of"]
    answers = ((name, share(silent[name]["attacks_silent"]), share(silent[name]["bona_fides_silent"])) for name in names)
    return (
        f"# Side by side\n\nSplit {found['split']} of {found['manifest']}; 95 % intervals from resampling subjects. Physical and digital "
        "attacks against the bona fides of their own sources, species against all bona fides, sources among themselves.\n\n"
        + table(header, map(row, found["slices"]))
        + table(("scores", "attacks without response", "bona fides without response"), answers)
    )
