"""report.json -> one HTML page that needs nothing else and shows no face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from kyc_guard.reports.pages import COLOURS, DASHES, plot, render

_DET_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_DET_RANGE = (0.0005, 0.97)
_MIN_BPCER = 0.0005
"""Left end of the ROC's logarithmic axis; rates below are drawn on it."""


def page(report: Mapping[str, Any]) -> str:
    """The whole page of `report.figures`."""
    pictures = {"histogram": _histogram(report)}
    if report["reliability"]:
        pictures["reliability"] = _reliability(report)
    if any(curve["apcer"] for curve in report["det"]):
        pictures |= {"det": _det(report), "roc": _roc(report)}
    return render("evaluation.html", report=report, pictures=pictures)


def _axes(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, height_in), layout="constrained")
    return figure, figure.add_subplot()


def _histogram(report: Mapping[str, Any]) -> str:
    figure, axes = _axes(3.2)
    edges = np.array(report["histogram"]["edges"])
    for label, colour, hatch in (("bona_fide", COLOURS[1], ""), ("attack", COLOURS[2], "//")):
        counts = np.array(report["histogram"][label], dtype=float)
        share = counts / max(1.0, counts.sum())
        axes.stairs(
            share, edges, fill=True, alpha=0.45, color=colour, hatch=hatch, label=f"{label.replace('_', ' ')} ({int(counts.sum())})"
        )
    for name, point in report["operating_points"].items():
        axes.axvline(point["threshold"], color="black", linewidth=1, linestyle=":")
        axes.annotate(name, (point["threshold"], 1.0), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right", fontsize=8)
    axes.set(xlim=(0, 1), xlabel="score, P(attack)", ylabel="share of its class")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return plot(figure)


def _det(report: Mapping[str, Any]) -> str:
    figure, axes = _axes(5.0)
    for i, curve in enumerate(report["det"]):
        x, y = (ndtri(np.clip(curve[k], *_DET_RANGE)) for k in ("apcer", "bpcer"))
        axes.plot(x, y, DASHES[i % len(DASHES)], color=COLOURS[i % len(COLOURS)], linewidth=2 if i == 0 else 1.2, label=curve["name"])
    # Normal-deviate axes are what makes it a DET curve: Martin et al., "The DET curve in assessment of detection task performance", 1997.
    ticks, names = ndtri(_DET_TICKS), [f"{100 * t:g}" for t in _DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    limits = tuple(ndtri(_DET_RANGE))
    axes.set(xlim=limits, ylim=limits, xlabel="APCER in %", ylabel="BPCER in %")
    axes.grid(visible=True, linewidth=0.4)
    axes.legend(fontsize=8)
    return plot(figure)


def _roc(report: Mapping[str, Any]) -> str:
    figure, axes = _axes(4.0)
    for i, curve in enumerate(report["det"]):
        x, y = np.maximum(curve["bpcer"], _MIN_BPCER), 1.0 - np.array(curve["apcer"])
        axes.plot(x, y, DASHES[i % len(DASHES)], color=COLOURS[i % len(COLOURS)], linewidth=2 if i == 0 else 1.2, label=curve["name"])
    # The few bona fides a business can afford to hold up all lie in the first hundredth of a linear axis.
    axes.set(xscale="log", xlim=(_MIN_BPCER, 1), ylim=(0, 1.01), xlabel="BPCER", ylabel="attacks caught, 1 - APCER")
    axes.grid(visible=True, linewidth=0.4)
    axes.legend(fontsize=8)
    return plot(figure)


def _reliability(report: Mapping[str, Any]) -> str:
    figure, axes = _axes(4.0)
    bins = report["reliability"]
    x = [b["mean_score"] for b in bins]
    y, low, high = (np.array([b["attacks"][k] for b in bins]) for k in ("value", "low", "high"))
    axes.plot([0, 1], [0, 1], ":", color="black", linewidth=1)
    axes.errorbar(x, y, yerr=np.maximum(0.0, [y - low, high - y]), fmt="o-", color=COLOURS[1], capsize=3)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="mean score of the bin", ylabel="share of attacks in the bin")
    axes.grid(visible=True, linewidth=0.4)
    return plot(figure)
