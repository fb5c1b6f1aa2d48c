"""What int8 costs: counted from pairs of answers to the same pictures."""

from __future__ import annotations

import pytest

from benchmarks import int8
from benchmarks.record import plain
from kyc_guard.reports.presentations import Presentation


def row(label: str, species: str = "") -> Presentation:
    return Presentation(f"{label}{species}.png", label, species)


FAR = -9.0
SAME = [(row("bona_fide"), ((FAR, FAR), (FAR, FAR))), (row("attack", "print"), ((3.0, FAR), (3.0, FAR)))] * 3


def page_of(judged: list[tuple[Presentation, int8.Pair]]) -> tuple[dict[str, object], str]:
    found = plain({"command": "c", "about": {"split": "validation"}, "default_point": "review", **int8.figures(judged, 0.5)})
    found["goals"] = [goal.to_json() for goal in int8.goals(found)]
    return found, int8.page(found)


def test_equal_answers_lose_nothing() -> None:
    found, page = page_of(SAME)
    assert found["auc"] == {"physical": {"attacks": 3, "fp32": 1.0, "int8": 1.0}, "digital": {"attacks": 0, "fp32": None, "int8": None}}
    assert (found["changed"], found["largest_difference"]) == (0, 0.0)
    assert "| AUC of digital attacks: fp32 less int8 | <= 0.002 | - | not measured |" in page


def test_an_attack_that_int8_alone_lets_pass_and_a_person_it_refuses_are_counted() -> None:
    found, page = page_of([*SAME, (row("attack", "swap"), ((FAR, 2.0), (FAR, -2.0))), (row("bona_fide"), ((-2.0, FAR), (2.0, FAR)))])
    assert (found["changed"], found["attacks_lost"], found["bona_fides_lost"]) == (2, 1, 1)
    assert found["largest_difference"] == pytest.approx(0.7616, abs=1e-3)
    assert "computes in fp32" in page
