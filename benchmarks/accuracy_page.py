"""accuracy.json -> Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.record import between, goals_table, number, share, table

_FIXED = ("BPCER10", "BPCER20", "BPCER100")


def page(found: Mapping[str, Any]) -> str:
    """The figures of `benchmarks.accuracy` as tables."""
    return "".join(_sections(found))


def _sections(found: Mapping[str, Any]) -> Iterator[str]:
    point, about, counts = found["default_point"], found["about"], found["counts"]
    yield f"# Accuracy\n\n`{found['command']}` on split {about['split']} of {about['manifest']}: "
    yield f"{counts['presentations']} presentations of {counts['subjects']} subjects. Default operating point: {point}. "
    yield "AUC and BPCER10/20/100 with 95 % intervals from resampling subjects, rates at an operating point with exact ones.\n\n"
    yield "## Goals\n\n" + goals_table(found["goals"])
    yield "## Families\n\n" + _separations(found["families"], point, "name", "against")
    yield "## Species, against all bona fides\n\n" + _separations(found["species"], point, "species")
    yield f"## Sources\n\nMean AUC over the sources with both classes: {number(found['mean_auc_over_sources'])}.\n\n"
    yield _separations(found["sources"], point, "source", "trained_on")
    if found["live_pairs"]:
        yield "## Live swaps, each beside its own original\n\n" + _pairs(found["live_pairs"])
    if (reserved := found["reserved_simulators"])["faces"]:
        yield f"## Reserved simulators on {reserved['faces']} bona fide faces\n\n" + _separations(reserved["pooled"], point, "name")
        rows = ((s["name"], s["species"], between(s["auc"]), share(s["above_own_original"])) for s in reserved["simulators"])
        yield table(("simulator", "species", "AUC", "above its own original"), rows)
    if left_out := found["leave_one_source_out"]:
        yield f"## Leave one source out\n\nMean AUC {number(left_out['mean_auc'])}.\n\n"
        rows = ((name, s["n_attack"], s["n_bona_fide"], between(s["estimate"])) for name, s in sorted(left_out["sources"].items()))
        yield table(("source", "attacks", "bona fides", "AUC"), rows)
    for axis in found["groups"]:
        yield f"## BPCER by {axis['axis']} at {point}\n\nOverall {share(axis['overall'])}. "
        yield f"To notice twice a rate of {100 * axis['base']:.1f} % in a group, {axis['needed_per_group']} people a group are needed.\n\n"
        yield table((axis["axis"], "BPCER"), ((g["group"], share(g["bpcer"])) for g in axis["groups"]))


def _separations(rows: Sequence[Mapping[str, Any]], point: str, *names: str) -> str:
    header = (*names, "attacks", "bona fides", "AUC", *_FIXED, f"APCER at {point}", f"BPCER at {point}")
    cells = (
        (
            *(r[name] for name in names),
            r["attacks"],
            r["bona_fides"],
            between(r["auc"]),
            *(between(r["bpcer_at_apcer"][fixed]) for fixed in _FIXED),
            share(r["points"][point]["apcer"]),
            share(r["points"][point]["bpcer"]),
        )
        for r in rows
    )
    return table(header, cells)


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    columns = [c for c in pairs[0] if c != "clip" and any(p[c]["ranked"] is not None for p in pairs)]
    words = {True: "yes", False: "no", None: "not judged"}

    def cell(pair: Mapping[str, Any]) -> str:
        return f"{words[pair['ranked']]} ({number(pair['fake'])} / {number(pair['real'])})"

    return table(("clip", *(f"{c}: fake above original" for c in columns)), ((p["clip"], *(cell(p[c]) for c in columns)) for p in pairs))
