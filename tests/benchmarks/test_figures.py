"""Separation, subject-level intervals, group differentials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import figures
from kyc_guard.reports.presentations import Presentation, Score, Table


def table(*rows: tuple[str, float | None, str, str]) -> Table:
    """Rows are (label, score, subject, group)."""
    presentations = [
        Presentation(f"{i}.png", label, "print" if label == "attack" else "", "cam", subject, group)
        for i, (label, _, subject, group) in enumerate(rows)
    ]
    return Table.of(presentations, [Score(score, None if score is not None else "no_face") for _, score, _, _ in rows])


def people(bona_fide: list[float | None], attack: list[float | None], *, share: int = 1) -> Table:
    """Every ``share`` rows of a class belong to one subject."""
    return table(
        *(("bona_fide", s, f"b{i // share}", "") for i, s in enumerate(bona_fide)),
        *(("attack", s, f"a{i // share}", "") for i, s in enumerate(attack)),
    )


def test_the_figures_of_a_worked_example() -> None:
    found = figures.separation(people([0.1, 0.2, 0.3, 0.6, None], [0.5, 0.7, 0.8, 0.9]), {"review": 0.55})
    assert (found["attacks"], found["bona_fides"], found["subjects"]) == (4, 5, 9)
    assert (found["bona_fides_silent"].errors, found["attacks_silent"].errors) == (1, 0)
    assert found["auc"]["value"] == pytest.approx(15 / 16)
    point = found["points"]["review"]
    assert (point["apcer"].errors, point["apcer"].n, point["bpcer"].errors, point["bpcer"].n) == (1, 4, 1, 4)
    # No attack of four may pass at 5 %: the threshold is the lowest attack, and one bona fide lies above it.
    fixed = found["bpcer_at_apcer"]["BPCER20"]
    assert (fixed["value"], fixed["threshold"], fixed["resolved"]) == (0.25, 0.5, False)


def test_without_one_of_the_classes_there_is_no_separation_to_speak_of() -> None:
    found = figures.separation(people([0.1, 0.2], []), {"review": 0.5})
    assert found["auc"] is None
    assert found["bpcer_at_apcer"]["BPCER10"] is None
    assert found["points"]["review"]["apcer"].value is None


def test_intervals_hold_their_value_and_widen_when_pictures_share_subjects() -> None:
    rng = np.random.default_rng(0)
    live, fake = rng.normal(0.4, 0.1, 200).clip(0, 1).tolist(), rng.normal(0.6, 0.1, 200).clip(0, 1).tolist()

    def width(found: Any) -> float:
        assert found["low"] <= found["value"] <= found["high"]
        return float(found["high"] - found["low"])

    # The pictures of a person resemble one another.
    live, fake = sorted(live), sorted(fake)
    alone, together = (figures.separation(people(live, fake, share=s), {}) for s in (1, 20))
    for choose in (lambda f: f["auc"], lambda f: f["bpcer_at_apcer"]["BPCER10"]):
        assert width(choose(together)) > 1.5 * width(choose(alone))


def test_a_single_subject_gives_no_interval() -> None:
    found = figures.separation(table(("bona_fide", 0.1, "p", ""), ("attack", 0.9, "p", "")), {})
    assert found["auc"] == {"value": 1.0, "low": None, "high": None}
    assert found["bpcer_at_apcer"]["BPCER20"]["low"] is None


def test_refusals_by_group_leave_attacks_and_silence_out() -> None:
    axes = figures.differentials(
        table(
            ("bona_fide", 0.9, "p0", "white|f|18-29"),
            ("bona_fide", 0.1, "p1", "white|m|18-29"),
            ("bona_fide", 0.1, "p2", "black|m|60+"),
            ("bona_fide", None, "p3", "black|m|60+"),
            ("bona_fide", 0.9, "p4", ""),
            ("attack", 0.9, "p5", "black|f|60+"),
        ),
        0.5,
    )
    assert [a["axis"] for a in axes] == ["race", "sex", "age"]
    assert {g["group"]: (g["bpcer"].errors, g["bpcer"].n) for g in axes[1]["groups"]} == {"f": (1, 1), "m": (0, 2)}
    assert (axes[0]["overall"].errors, axes[0]["overall"].n) == (1, 3)


def test_no_groups_no_differentials() -> None:
    assert figures.differentials(people([0.1], [0.9]), 0.5) == []
