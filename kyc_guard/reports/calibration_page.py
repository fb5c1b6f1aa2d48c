"""What `kyc_guard.bands` found -> one HTML page: what holds, what it costs, and what stricter or laxer would mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from kyc_guard.reports.pages import COLOURS, plot, render


def page(found: Mapping[str, Any], *, written: str, data: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        written: name of the thresholds file. data: what it was calibrated on, name of file by role.
    """
    return render("calibration.html", found=found, written=written, data=data, curve=_curve(found["curve"]))


def _curve(rows: Sequence[Mapping[str, Any]]) -> str:
    costs = [row["cost_per_1000"] for row in rows]
    priced = None not in costs
    figure = Figure(figsize=(6.4, 6.0 if priced else 3.6), layout="constrained")
    panels = figure.subplots(2 if priced else 1, sharex=True, squeeze=False)[:, 0]
    detector = next(iter(rows[0]["review_points"]))
    x = [row["review_points"][detector] for row in rows]
    lines = {"honest not accepted, BPCER": "bpcer", "attacks accepted, worst species": "apcer_max", "reviewed, of all": "review_load"}
    for (label, key), colour, dash in zip(lines.items(), COLOURS[1:], ("-", "--", "-."), strict=False):
        if rows[0][key] is not None:
            panels[0].plot(x, [100 * row[key] for row in rows], dash, color=colour, label=label)
    panels[0].set(ylabel="%", ylim=(0, None))
    panels[0].legend(fontsize=8)
    if priced:
        panels[1].plot(x, costs, color=COLOURS[0])
        panels[1].set(ylabel="cost of 1000 submissions", ylim=(0, None))
    for panel in panels:
        panel.axvline(next(row["review_points"][detector] for row in rows if row["chosen"]), color="black", linewidth=1, linestyle=":")
        panel.grid(visible=True, linewidth=0.4)
    panels[-1].set(xlim=(0, 1), xlabel=f"review from this {detector} score on (dotted: chosen)")
    return plot(figure)
