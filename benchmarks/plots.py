"""Plots of measured figures, as SVG that stays the same for the same figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_INK, _WEAK = "#0072B2", "#999999"


def auc_by_species(found: dict[str, Any]) -> str:
    """AUC of every species against all bona fides, with subject-level intervals."""
    rows = [(f"{s['species']} ({s['attacks']})", s["auc"]) for s in found["species"] if s["auc"]]
    return _forest(rows, "AUC against all bona fides, 95 % interval over subjects", (0.5, 1.0))


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
