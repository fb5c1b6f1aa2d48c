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
    yield f"{counts['presentations']} presentations of {counts['subjects']} subjects, scored by face_attack alone (liveness, half of a "
    yield f"clip's fused score, has its own card). Default operating point: {point}. "
    yield "AUC and BPCER10/20/100 with 95 % intervals from resampling subjects, rates at an operating point with exact ones.\n\n"
    yield "## Goals\n\n" + goals_table(found["goals"])
    yield "## Operating points\n\nWhat was measured here at each; they are set on other people and cameras, so a name may not hold.\n\n"
    yield _points(found["points"])
    yield "## Families\n\n" + _clips(found["families"]) + _separations(found["families"], point, "name", "against")
    yield "## Species, against all bona fides of their own medium\n\n" + _separations(found["species"], point, "species", "media")
    if named := found["species_named"]:
        yield f"## Species named, at {named['point']}\n\nOf the attacks caught, the species was named right in "
        yield f"{share(named['named_right'])}.\n\n"
        yield table(("presented", "n", *named["columns"]), ((r["name"], r["n"], *r["counts"]) for r in named["rows"]))
    if found["as_frames"]:
        yield "## Pictures judged as frames of a clip\n\nA still gets every look in every zoom, a clip's frame one look of each view, and "
        yield "the speed goal is of the latter. The same pictures by both paths, against all bona fide pictures; the frames' scores are "
        yield "the mean over as many turns as there are windows.\n\n"
        yield _separations(found["as_frames"], point, "name", "path")
    yield f"## Sources\n\nMean AUC over the sources with both classes: {number(found['mean_auc_over_sources'])}.\n\n"
    yield _separations(found["sources"], point, "source", "trained_on")
    if found["live_pairs"]:
        yield "## Live swaps, each beside its own original\n\n" + _pairs(found["live_pairs"])
    if (reserved := found["reserved_simulators"])["faces"]:
        yield f"## Reserved simulators on {reserved['faces']} bona fide faces\n\nA print or screen has been through a simulated camera, "
        yield "its untouched original has not: the row against originals seen through a camera is the one that speaks of the attack.\n\n"
        yield _separations(reserved["pooled"], point, "name", "against")
        rows = ((s["name"], s["species"], s["against"], between(s["auc"]), share(s["above_own_original"])) for s in reserved["simulators"])
        yield table(("simulator", "species", "against", "AUC", "above its own original"), rows)
    if left_out := found["leave_one_source_out"]:
        yield "## Leave one source out\n\n" + _left_out(left_out)
    for axis in found["groups"]:
        yield f"## BPCER by {axis['axis']} at {point}\n\nOverall {share(axis['overall'])}. "
        yield f"To notice twice a rate of {100 * axis['base']:.1f} % in a group, {axis['needed_per_group']} people a group are needed.\n\n"
        yield table((axis["axis"], "BPCER"), ((g["group"], share(g["bpcer"])) for g in axis["groups"]))


def _points(points: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        (", ".join(p["names"]), f"{p['threshold']:.4f}", *(share(p[kind]) for kind in ("physical", "digital", "bona_fide"))) for p in points
    )
    text = table(("point", "threshold", "APCER physical", "APCER digital", "BPCER"), rows)
    misses = "".join(f"- {sentence}\n" for p in points for sentence in p["misses"])
    return text + (misses + "\n" if misses else "")


def _clips(families: Sequence[Mapping[str, Any]]) -> str:
    physical = next(f for f in families if f["name"] == "physical")
    if physical["attack_clips"]:
        return ""
    return f"All {physical['attacks']} physical attacks are single pictures: no clip of a print, screen or mask was judged here.\n\n"


def _left_out(left_out: Mapping[str, Any]) -> str:
    means = left_out["means"]
    text = f"Mean AUC {number(means['short fold'])} of short trainings without the source (far fewer pairs than what ships: a floor), "
    text += f"{number(means['shipped'])} of the shipped nets on sources they never had. The two are not to be mixed.\n\n"
    rows = (
        (name, s["kind"], s["against"], s["n_attack"], s["n_bona_fide"], between(s["estimate"]))
        for name, s in sorted(left_out["sources"].items(), key=lambda item: (item[1]["kind"] != "short fold", item[0]))
    )
    text += table(("source", "nets", "against", "attacks", "bona fides", "AUC"), rows)
    if left_out["omitted"]:
        text += "Sources with attacks that have no figure:\n\n"
        without = ((name, s["n_attack"], s["n_bona_fide"], s["why"]) for name, s in sorted(left_out["omitted"].items()))
        text += table(("source", "attacks", "bona fides", "why"), without)
    return text


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
