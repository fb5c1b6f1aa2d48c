"""The nouns keep their promises; `Submission` has tests of its own."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from datetime import date

import numpy as np
import pytest

from kyc_guard.errors import InputError, LimitError, SchemaError, UnreadableError
from kyc_guard.submission import Submission
from kyc_guard.types import Clip, ContainerFacts, Decision, Evidence, FaceTrack, Modality, Outcome, Reason, Signal

FACTS = ContainerFacts("test", 0, "")
DAY = date(2026, 1, 31)


def clip(*, is_still: bool) -> Clip:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    return Clip(frames, np.arange(2) / 10, frames[:0], np.zeros(0), is_still=is_still, facts=FACTS)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -1e-9, 1.0 + 1e-9, 2.0])
def test_a_score_that_is_no_probability_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="is not a probability"):
        Signal("d", "1", score=score)


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_a_probability_is_taken(score: float) -> None:
    assert Signal("d", "1", score=score).score == score


def test_an_abstention_says_why() -> None:
    with pytest.raises(ValueError, match="abstained without a reason"):
        Signal("d", "1", score=None)
    assert Signal("d", "1", score=None, reasons=(Reason("no_face"),)).score is None


def test_outcomes_are_ordered_by_severity() -> None:
    assert sorted(Outcome, key=lambda o: o.severity) == [Outcome.ACCEPT, Outcome.RETRY, Outcome.REVIEW, Outcome.REJECT]


@pytest.mark.parametrize(
    ("evidence", "has"),
    [
        (Evidence(Submission("x")), set()),
        (Evidence(Submission("x"), clip=clip(is_still=True), track=FaceTrack((None, None), 0)), set()),
        (Evidence(Submission("x"), clip=clip(is_still=False)), {Modality.CLIP}),
        (Evidence(Submission("x"), audio=np.zeros(3, np.float32)), {Modality.AUDIO}),
        (Evidence(Submission("x"), pages_rgb=(np.zeros((2, 2, 3), np.uint8),)), {Modality.DOCUMENT}),
    ],
)
def test_evidence_has_what_can_be_judged(evidence: Evidence, has: set[Modality]) -> None:
    assert {m for m in Modality if evidence.has(m)} == has


def test_a_missing_modality_names_its_problem_or_else_its_absence() -> None:
    evidence = Evidence(Submission("x"), problems={Modality.FACE: Reason("no_selfie", "none was sent")})
    assert evidence.why_missing(Modality.FACE) == Reason("no_selfie", "none was sent")
    assert evidence.why_missing(Modality.AUDIO).code == "no_audio"


def test_a_decision_is_json_without_its_arrays() -> None:
    signal = Signal("d", "1", score=0.5, facts={"n": [1, 2.5]}, artefacts={"map": np.zeros((2, 2))}, reasons=(Reason("r", "why"),))
    decision = Decision(
        "s",
        Outcome.REVIEW,
        0.5,
        (Reason("r"),),
        "message",
        (signal,),
        "p",
        "t",
        {"m": "1"},
        {"f": "2"},
        "d",
        DAY,
        {"frames": 12},
        {"numpy": "1"},
        {"all": 12.34, "d": 1.0},
    )
    data = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert data["outcome"] == "review"
    assert data["took_ms"] == {"all": 12.3, "d": 1.0}
    assert data["judged_on"] == "2026-01-31"
    assert data["signals"][0]["reasons"] == [{"code": "r", "detail": "why"}]
    assert "artefacts" not in data["signals"][0]


@pytest.mark.parametrize("noun", [Reason("r"), Signal("d", "1", score=0.1), Submission("x"), Evidence(Submission("x")), FACTS])
def test_nouns_cannot_be_changed(noun: object) -> None:
    name = next(iter(dataclasses.fields(noun))).name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, name, "other")


@pytest.mark.parametrize("kind", [InputError, LimitError, UnreadableError, SchemaError])
def test_an_input_error_names_file_problem_and_remedy_and_survives_the_way_from_a_worker(kind: type[InputError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a.mp4", "is empty", "send it again")))
    assert type(error) is kind
    assert str(error) == "a.mp4: is empty. Remedy: send it again"
    assert (error.path, error.problem, error.remedy) == ("a.mp4", "is empty", "send it again")
    assert Reason.of(error, "unreadable") == Reason("unreadable", str(error))
