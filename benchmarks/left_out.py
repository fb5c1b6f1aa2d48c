"""What training wrote of nets that never saw one source, and the sources of which it wrote nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures

FOLD, SHIPPED = "short fold", "shipped"
"""Kinds of rows: nets trained briefly without the source, or the shipped nets, which never had it."""


def leave_one_source_out(path: Path, data: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """``loso.json`` with a mean for each kind of row, which are not to be mixed: one is of short trainings, the other of the shipped nets.

    Args:
        path: {source: {auc, ci, n_attack, n_bona_fide, against, kind}}, or {source: {n_attack, n_bona_fide, why}} of a source not judged.
        data: rows of the manifest as counted by `benchmarks.accuracy.holdings`.

    Returns:
        ``sources`` by name, ``means`` by kind, and ``omitted``: every source with attacks that has no figure, and why; ``None`` without
        the file.
    """
    if not path.is_file():
        return None
    sources, omitted = {}, {}
    for name, s in json.loads(path.read_text(encoding="utf-8")).items():
        counts = {key: s[key] for key in ("n_attack", "n_bona_fide")}
        if s.get("auc") is None:
            omitted[name] = {**counts, "why": s.get("why", "one class alone")}
        else:
            low, high = s["ci"] or (None, None)
            sources[name] = {
                **counts,
                "kind": s["kind"],
                "against": s["against"],
                "estimate": {"value": s["auc"], "low": low, "high": high},
            }
    for name in sorted({d["source"] for d in data if d["label"] == "attack"} - {*sources, *omitted}):
        counts = {
            f"n_{label}": sum(d["n"] for d in data if (d["source"], d["label"]) == (name, label)) for label in ("attack", "bona_fide")
        }
        omitted[name] = {**counts, "why": "left out without a reason"}
    means = {kind: figures.mean_of([s["estimate"]["value"] for s in sources.values() if s["kind"] == kind]) for kind in (FOLD, SHIPPED)}
    return {"sources": sources, "means": means, "omitted": omitted}
