"""The challenge benchmark on traces whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripted_traces import acted, cycling

from benchmarks.acting import Act, film
from benchmarks.challenge import Acted, acted_figures, goals, page, unasked_figures
from benchmarks.record import plain
from kyc_guard.config import Settings
from kyc_guard.detectors.challenge import ChallengeResponse
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces.movements import KINDS, Traces

GATES = ChallengeResponse.load(Bundle.load(Settings())).gates
TIMES_S = np.arange(0.0, 9.0, 1 / 15)


def found(real: dict[str, list[Traces]], played: list[Acted]) -> dict[str, Any]:
    counted = {"unasked": unasked_figures(real, GATES), "acted": acted_figures(played, GATES)}
    figures = plain({"command": "c", "about": {"split": "s"}, **counted})
    figures["goals"] = [goal.to_json() for goal in goals(figures)]
    return figures


ASKED = Acted("as asked", ("turn_left", "smile"), (1.5, 6.0), acted(("turn_left", 2.3, 1.0), ("smile", 6.8, 1.0)))


def test_who_does_nothing_did_nothing_and_who_turned_is_counted_once() -> None:
    figures = found({"still": [acted(times_s=TIMES_S)], "turning": [acted(("turn_left", 4.5, 1.0), times_s=TIMES_S)]}, [ASKED])
    actions = figures["unasked"]["actions"]
    assert set(actions) == set(KINDS)
    assert actions["turn_left"]["done"]["people_with"] == 1
    assert 0.0 < actions["turn_left"]["done"]["value"] < 1.0
    assert actions["smile"]["done"]["value"] == 0.0
    assert actions["smile"]["done"]["high"] == pytest.approx(0.842, abs=0.01)  # nobody of two people
    assert "turn_left" in page(figures)


def test_somebody_who_does_everything_all_the_time_would_be_called() -> None:
    besides = unasked_figures({"restless": [cycling(1)]}, GATES)["other_actions"]
    assert besides["challenges_called"] > 0.5
    assert len(besides["windows_with"]) > 2


def test_what_passes_and_what_is_said_of_the_rest_is_counted() -> None:
    half = replace(ASKED, how="half done", traces=acted(("turn_left", 2.3, 0.4), ("smile", 6.8, 0.4), noise=0.01))
    late = replace(ASKED, how="late", traces=acted(("turn_left", 2.3, 1.0), ("smile", 10.4, 1.0)))
    figures = found({"still": [acted(times_s=TIMES_S)]}, [ASKED, half, late])["acted"]
    assert figures["clips"] == 1
    assert figures["actions_failed"]["errors"] == 0
    assert figures["said_of_others"]["half done"] == {"half_done": 2}
    assert figures["said_of_others"]["late"] == {"late": 1}
    assert "done" not in figures["said_of_others"]["in another order"]
    missed = acted_figures([replace(ASKED, traces=half.traces)], GATES)
    assert missed["actions_failed"].errors == 2
    assert missed["clips_failed"].value == 1.0


def test_what_is_acted_begins_ends_and_is_as_large_as_the_script_says() -> None:
    act = Act("smile", 1.0, size=0.8, rise_s=0.5, hold_s=0.5)
    assert [round(act.amount(t), 3) for t in (0.9, 1.25, 1.7, 2.6)] == [0.0, 0.4, 0.8, 0.0]
    still, smiling = film([], 0.1, seed=1), film([replace(act, start_s=-1.0, hold_s=9.0)], 0.1, seed=2)
    assert still.shape == smiling.shape == (2, 320, 320, 3)
    assert np.abs(still[0].astype(int) - smiling[0]).mean() > 3
