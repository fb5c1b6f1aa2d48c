"""Plots of measured figures, as SVG that stays the same for the same figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_INK, _WEAK = "#0072B2", "#999999"


def auc_by_species(found: dict[str, Any]) -> str:
    """AUC of every species against all bona fides of its medium, with subject-level intervals."""
    rows = [(f"{s['species']} ({s['attacks']})", s["auc"]) for s in found["species"] if s["auc"]]
    return _forest(rows, "AUC against all bona fides of its medium, 95 % interval over subjects", (0.5, 1.0))


def refusals_by_source(found: dict[str, Any]) -> str:
    """BPCER of every source at the default operating point, with exact intervals."""
    point = found["default_point"]
    rates = [(f"{s['source']} ({s['bona_fides']})", s["points"][point]["bpcer"]) for s in found["sources"]]
    rows = [(name, rate) for name, rate in rates if rate["value"] is not None]
    return _forest(rows, f"BPCER at {point}, exact 95 % interval", (0.0, 1.0))


def reliability(found: dict[str, Any]) -> str:
    """Share of attacks by score, with exact intervals: on the diagonal a score is the probability it claims to be."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_WEAK, linewidth=1, linestyle="--")
    for part in found["reliability"]:
        share = part["attacks"]
        axes.plot([part["mean_score"]] * 2, [share["low"], share["high"]], color=_WEAK, linewidth=2)
        axes.plot(part["mean_score"], share["value"], "o", color=_INK, markersize=5)
        axes.annotate(str(share["n"]), (part["mean_score"], share["value"]), xytext=(5, -9), textcoords="offset points", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score, P(attack)", ylabel="share of attacks, of as many presentations")
    return _svg(figure)


def memory_over_time(found: dict[str, Any]) -> str:
    """Memory of a long batch by how many submissions are done."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    done = [s["done"] for s in found["samples"]]
    for key, colour, name in (("total_mb", _INK, "all processes, shared pages once"), ("largest_mb", _WEAK, "largest process")):
        axes.plot(done, [s[key] for s in found["samples"]], color=colour, linewidth=1.2, label=name)
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="submissions judged", ylabel="MB")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.grid(visible=True, linewidth=0.4)
    return _svg(figure)


def speed(found: dict[str, Any]) -> str:
    """Four pictures of throughput: nets by batch, batches by workers, a submission by the clip's length and by the people in it."""
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    by_batch, by_workers, by_length, by_faces = figure.subplots(2, 2).ravel()
    rows = [r for r in found.get("nets", {}).get("rows", ()) if r["threads"] == 1 and r["net"].startswith("face_attack")]
    for kind in dict.fromkeys((r["net"], r["device"], r["precision"]) for r in rows):
        own = [r for r in rows if (r["net"], r["device"], r["precision"]) == kind]
        by_batch.plot([r["batch"] for r in own], [1000 / r["ms_per_picture"] for r in own], "o-", markersize=3, label=" ".join(kind))
    by_batch.set(xlabel="batch, one thread", ylabel="pictures/s", ylim=(0, None))
    by_batch.set_xscale("log", base=2)
    batches = sorted({r["batch"] for r in rows})
    by_batch.set_xticks(batches, [str(batch) for batch in batches])
    part = found.get("submission", {})
    runs = part.get("batch", ())
    by_workers.plot([r["workers"] for r in runs], [r["once_loaded_per_second"] for r in runs], "o-", color=_INK)
    by_workers.set(xlabel="worker processes", ylabel="submissions/s", xlim=(0, None), ylim=(0, None))
    growth = part.get("growth", ())
    for axes, key, label in ((by_length, "seconds", "length of the clip, s"), (by_faces, "faces", "faces in the clip")):
        other = "faces" if key == "seconds" else "seconds"
        own = [r for r in growth if r[other] == growth[0][other]]
        for name, colour in (("verify", _INK), ("decode", _WEAK)):
            axes.plot([r[key] for r in own], [r[f"{name}_cpu_ms"] for r in own], "o-", color=colour, label=name)
        axes.set(xlabel=label, ylabel="CPU ms", xlim=(0, None), ylim=(0, None))
    for axes in (by_batch, by_length, by_faces):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, frameon=False)
    for axes in (by_batch, by_workers, by_length, by_faces):
        axes.grid(visible=True, linewidth=0.4)
    return _svg(figure)


def _forest(rows: Sequence[tuple[str, dict[str, Any]]], label: str, limits: tuple[float, float]) -> str:
    figure = Figure(figsize=(6.4, 0.8 + 0.28 * max(1, len(rows))), layout="constrained")
    axes = figure.add_subplot()
    for y, (_, estimate) in enumerate(rows):
        if estimate["low"] is not None and estimate["high"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [y, y], color=_WEAK, linewidth=3, solid_capstyle="butt")
        axes.plot([estimate["value"]], [y], "o", color=_INK, markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlim=limits, xlabel=label)
    axes.grid(visible=True, axis="x", linewidth=0.4)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # A fixed salt and no date: the same figures give the same file. Text stays text, which keeps it small.
    with mpl.rc_context({"svg.hashsalt": "kyc_guard", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
