"""report.json -> one HTML page: pictures inside, no script, no network, readable on a phone and printable."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy.special import ndtri

from kyc_guard.reports.evaluation import in_words, percent

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes help in print.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")
_DET_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_DET_RANGE = (0.0005, 0.97)


def page(report: Mapping[str, Any]) -> str:
    """The whole page of `report.figures`."""
    pictures = {"histogram": _histogram(report)}
    if any(curve["apcer"] for curve in report["det"]):
        pictures["det"] = _det(report)
    return _template().render(report=report, pictures=pictures)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("kyc_guard", "content"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"rate": _rate, "percent": percent, "number": lambda v: "-" if v is None else f"{v:.3f}"}
    return environment.get_template("evaluation.html")


def _rate(rate: Mapping[str, Any] | None) -> Markup:
    """The interval goes on a second line: a phone shows twice the columns."""
    value, bracket, rest = in_words(rate).partition(" [")
    return Markup("{}<small>{}</small>").format(value, bracket.strip() + rest)


def _histogram(report: Mapping[str, Any]) -> str:
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    edges = np.array(report["histogram"]["edges"])
    for label, colour, hatch in (("bona_fide", _COLOURS[1], ""), ("attack", _COLOURS[2], "//")):
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
    return _png(figure)


def _det(report: Mapping[str, Any]) -> str:
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for i, curve in enumerate(report["det"]):
        x, y = (ndtri(np.clip(curve[k], *_DET_RANGE)) for k in ("apcer", "bpcer"))
        axes.plot(x, y, _DASHES[i % len(_DASHES)], color=_COLOURS[i % len(_COLOURS)], linewidth=2 if i == 0 else 1.2, label=curve["name"])
    # Normal-deviate axes are what makes it a DET curve: Martin et al., "The DET curve in assessment of detection task performance", 1997.
    ticks, names = ndtri(_DET_TICKS), [f"{100 * t:g}" for t in _DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    limits = tuple(ndtri(_DET_RANGE))
    axes.set(xlim=limits, ylim=limits, xlabel="APCER in %", ylabel="BPCER in %")
    axes.grid(visible=True, linewidth=0.4)
    axes.legend(fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
