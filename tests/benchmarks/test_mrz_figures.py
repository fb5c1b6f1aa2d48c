"""The benchmark of zones: what it makes up is a zone, and what it counts as silent is silent."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mrz import TODAY, Shot, Trial, _read_trials, figures, goals, invented, page, photograph, printed
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


def _trial(*wrong: str, holds: bool = True, certainty: float = 0.99, found: bool = True, misread: int = 0, collides: bool = False) -> Trial:
    return Trial("TD3", found, wrong, holds, certainty, repaired=0, cpu_ms=1.0, misread=misread, collides=collides)


def test_only_what_is_accepted_and_wrong_is_silent() -> None:
    trials = [
        _trial(),
        _trial("document_number", misread=1, collides=True),
        _trial("surname"),
        _trial("surname", certainty=0.5),
        _trial("document_number", holds=False),
        _trial(*["surname"] * 11, holds=False, found=False),
    ]
    found = figures(trials, 0.6)
    assert [found[k].errors for k in ("silent_under_digits", "silent_without_digits", "sent_back", "zones_exact")] == [1, 1, 3, 1]
    assert (found["silent_collisions"].errors, found["silent_beyond_collisions"].errors) == (1, 0)
    assert found["silent_fields"] == {"document_number": 1, "surname": 1}
    assert found["fields_exact"].errors == 6 * 11 - 15


def test_the_page_says_whether_the_goal_is_met() -> None:
    from benchmarks.record import plain

    found = plain({"command": "c", "about": {"font": "F"}, **figures([_trial()], 0.6)})
    found["goals"] = [goal.to_json() for goal in goals(found)]
    assert "| fields read exactly | >= 0.97 | 1.000 | yes |" in page(found)


def _read(lines: tuple[str, ...], **changes: str) -> Trial:
    """What comes of TD3 ``lines`` with the characters at the named columns of the second line exchanged."""
    second = list(lines[1])
    for column, character in changes.items():
        second[int(column[1:])] = character
    truth, read = parse(lines, today=TODAY), parse((lines[0], "".join(second)), today=TODAY)
    assert truth is not None
    return Trial.of(truth, read, cpu_ms=1.0)


_ANNA = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")


@pytest.mark.parametrize(
    ("changes", "holds", "collides", "expected"),
    [
        ({}, True, False, 0.0),
        ({"c0": "1"}, True, True, 0.08),  # L is 21: no digit tells it from 1
        ({"c0": "I"}, False, False, 0.08),
        ({"c0": "M", "c9": "3"}, False, False, 0.01),  # its own digit misread to fit; the composite notices
    ],
)
def test_a_misreading_the_printed_digits_cannot_tell_is_a_collision(
    changes: dict[str, str], holds: bool, collides: bool, expected: float
) -> None:
    trial = _read(_ANNA, **changes)
    assert (trial.misread, trial.holds, trial.collides) == (len(changes), holds, collides)
    assert trial.chance == pytest.approx(expected, abs=0.03)


def test_an_interrupted_run_goes_on_from_its_trials(tmp_path: Path) -> None:
    kept = tmp_path / "trials.jsonl"
    trials = [_trial("surname"), _trial()]
    kept.write_text("".join(json.dumps(asdict(t)) + "\n" for t in trials))
    assert _read_trials(kept) == trials
    assert _read_trials(None) == []
