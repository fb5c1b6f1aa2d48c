"""The benchmark of zones: what it makes up is a zone, and what it counts as silent is silent."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.mrz import TODAY, Shot, Trial, figures, goals, invented, page, photograph, printed
from kyc_guard.documents.mrz import parse
from kyc_guard.documents.zone_layouts import FORMATS


@pytest.mark.parametrize("layout", FORMATS)
def test_invented_holders_have_valid_zones_and_the_same_photograph_again(layout: str) -> None:
    pictures = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        lines = invented(rng, layout)
        zone = parse(lines, today=TODAY)
        assert zone is not None
        assert (zone.format, zone.failed_checks, zone.repaired) == (layout, (), 0)
        shot = Shot.draw(rng)
        pictures.append(photograph(rng, printed(rng, lines), shot))
    assert np.array_equal(*pictures)
    assert pictures[0].shape[1] > 25 * shot.pitch_px


def _trial(*wrong: str, holds: bool = True, certainty: float = 0.99, found: bool = True) -> Trial:
    return Trial("TD3", found, wrong, holds, certainty, repaired=0, cpu_ms=1.0)


def test_only_what_is_accepted_and_wrong_is_silent() -> None:
    trials = [
        _trial(),
        _trial("document_number"),
        _trial("surname"),
        _trial("surname", certainty=0.5),
        _trial("document_number", holds=False),
        _trial(*["surname"] * 11, holds=False, found=False),
    ]
    found = figures(trials, 0.6)
    assert [found[k].errors for k in ("silent_under_digits", "silent_without_digits", "sent_back", "zones_exact")] == [1, 1, 3, 1]
    assert found["silent_fields"] == {"document_number": 1, "surname": 1}
    assert found["fields_exact"].errors == 6 * 11 - 15


def test_the_page_says_whether_the_goal_is_met() -> None:
    from benchmarks.record import plain

    found = plain({"command": "c", "about": {"font": "F"}, **figures([_trial()], 0.6)})
    found["goals"] = [goal.to_json() for goal in goals(found)]
    assert "| fields read exactly | >= 0.97 | 1.000 | yes |" in page(found)
