"""Signals to verdict: the gravest finding wins, and nothing that failed can pass."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.config import ChallengePolicy, CheckPolicy, Policy, Thresholds
from kyc_guard.errors import ConfigError
from kyc_guard.fusion import attack_score, decide, fusion_weights
from kyc_guard.types import Outcome, Reason, Signal

CHECK = CheckPolicy(mandatory=True, reject_at="reject", review_at="review", on_abstain=Outcome.RETRY)
OPTIONAL = CheckPolicy(mandatory=False, reject_at="reject", review_at="review", on_abstain=Outcome.RETRY)
REASONS = {
    "fine": Outcome.ACCEPT,
    "no_face": Outcome.RETRY,
    "no_document": Outcome.RETRY,
    "face_blurred": Outcome.RETRY,
    "second_face": Outcome.REVIEW,
    "known_fraud": Outcome.REJECT,
    "challenge_not_asked": Outcome.ACCEPT,
    "challenge_required": Outcome.RETRY,
}
POINTS = {"points": {"review": 0.5, "reject": 0.9}}


def policy(together: str | None = None, **checks: CheckPolicy) -> Policy:
    return Policy(checks=checks or {"face_attack": CHECK}, together_review_at=together, reasons=REASONS, quality={}, sha256="p")


def thresholds(weights: Any = None, **tables: Any) -> Thresholds:
    base = dict.fromkeys(("face_attack", "liveness", "document", "match"), POINTS)
    fusion = {"fusion": {"weights": {"face_attack": 1.0, "liveness": 3.0} if weights is None else weights}}
    return Thresholds(tables={**base, **fusion, **tables}, sha256="t", path=Path("thresholds.toml"))


def signal(score: float | None = 0.1, *codes: str, detector: str = "face_attack") -> Signal:
    return Signal(detector=detector, version="1", score=score, reasons=tuple(Reason(c) for c in codes))


@pytest.mark.parametrize(
    ("score", "codes", "expected"),
    [
        (0.0, (), Outcome.ACCEPT),
        (0.4999, (), Outcome.ACCEPT),
        (0.5, (), Outcome.REVIEW),
        (0.8999, (), Outcome.REVIEW),
        (0.9, (), Outcome.REJECT),
        (1.0, (), Outcome.REJECT),
        (0.1, ("fine",), Outcome.ACCEPT),
        (0.1, ("face_blurred",), Outcome.RETRY),
        (0.1, ("second_face",), Outcome.REVIEW),
        (0.1, ("known_fraud",), Outcome.REJECT),
        (0.1, ("nobody_told_the_policy",), Outcome.REVIEW),
        (0.95, ("face_blurred",), Outcome.REJECT),
        (0.6, ("face_blurred", "fine"), Outcome.REVIEW),
        (None, ("fine",), Outcome.RETRY),
        (None, ("no_face",), Outcome.RETRY),
        (None, ("second_face",), Outcome.REVIEW),
        (None, ("nobody_told_the_policy",), Outcome.REVIEW),
    ],
)
def test_the_gravest_finding_decides(score: float | None, codes: tuple[str, ...], expected: Outcome) -> None:
    assert decide([signal(score, *codes)], policy(), thresholds()).outcome is expected


@pytest.mark.parametrize(
    ("face", "live", "expected"),
    [
        (0.45, 0.45, Outcome.REVIEW),  # each below its own review point of 0.5, together not below 0.4
        (0.45, 0.10, Outcome.ACCEPT),
        (0.10, 0.30, Outcome.ACCEPT),
        (0.45, None, Outcome.RETRY),  # one answer alone cannot add up; liveness is mandatory
    ],
)
def test_mild_suspicions_of_two_detectors_add_up(face: float, live: float | None, expected: Outcome) -> None:
    signals = [signal(face), signal(live, *([] if live is not None else ["no_face"]), detector="liveness")]
    rules = policy("even", face_attack=CHECK, liveness=CHECK)
    levels = thresholds(fusion={"weights": {"face_attack": 1.0, "liveness": 1.0}, "points": {"even": 0.4}})
    verdict = decide(signals, rules, levels)
    assert verdict.outcome is expected
    assert ("suspected_together" in [r.code for r in verdict.reasons]) == (expected is Outcome.REVIEW)
    assert decide(signals, policy(face_attack=CHECK, liveness=CHECK), levels).outcome is not Outcome.REVIEW


MILD = {"points": {"review": 0.5, "reject": 0.9, "mild": 0.3}}
ASKED_FROM = ChallengePolicy(("challenge", "phrase"), {"face_attack": "mild"}, ())
ASKED_WITHOUT = ChallengePolicy(("challenge", "phrase"), {}, ("injection",))


def required(rule: ChallengePolicy, *signals: Signal, **reasons: Outcome) -> tuple[Outcome, set[str]]:
    checks = {"face_attack": CHECK, **dict.fromkeys(("challenge", "phrase", "injection"), OPTIONAL)}
    rules = replace(policy(**checks), challenge=rule, reasons=REASONS | reasons)
    tables = dict.fromkeys(("face_attack", "challenge", "phrase", "injection"), MILD)
    verdict = decide(signals, rules, thresholds({"face_attack": 1.0}, **tables))
    return verdict.outcome, {r.code for r in verdict.reasons}


NOT_ASKED = signal(None, "challenge_not_asked", detector="challenge")


@pytest.mark.parametrize(
    ("rule", "signals", "outcome"),
    [
        (ChallengePolicy(), [signal(0.4), NOT_ASKED], Outcome.ACCEPT),
        (ASKED_FROM, [signal(0.29), NOT_ASKED], Outcome.ACCEPT),
        (ASKED_FROM, [signal(0.3), NOT_ASKED], Outcome.RETRY),
        (ASKED_FROM, [signal(0.3)], Outcome.RETRY),
        (ASKED_FROM, [signal(0.3), signal(0.1, detector="challenge")], Outcome.ACCEPT),
        (ASKED_FROM, [signal(0.3), signal(0.1, detector="phrase"), NOT_ASKED], Outcome.ACCEPT),
        (
            ASKED_FROM,
            [signal(0.3), signal(0.1, "challenge_not_asked", detector="challenge")],
            Outcome.RETRY,
        ),  # only its session
        (ASKED_FROM, [signal(0.3), signal(None, "fine", detector="challenge")], Outcome.RETRY),
        (ASKED_FROM, [signal(0.3), signal(0.95, detector="challenge")], Outcome.REJECT),
        (ASKED_FROM, [signal(0.6), NOT_ASKED], Outcome.REVIEW),
        (ASKED_WITHOUT, [signal(0.0), NOT_ASKED, signal(0.1, detector="injection")], Outcome.ACCEPT),
        (ASKED_WITHOUT, [signal(0.0), NOT_ASKED, signal(None, "fine", detector="injection")], Outcome.RETRY),
        (ASKED_WITHOUT, [signal(0.0), NOT_ASKED], Outcome.RETRY),
        (ASKED_WITHOUT, [signal(0.0), signal(0.1, detector="phrase")], Outcome.ACCEPT),
    ],
)
def test_a_challenge_is_required_where_the_policy_says_so_and_none_was_answered(
    rule: ChallengePolicy, signals: list[Signal], outcome: Outcome
) -> None:
    found, reasons = required(rule, *signals)
    assert found is outcome
    answered = any(s.detector in rule.answered_by and s.score is not None and not s.reasons for s in signals)
    assert not (answered and "challenge_required" in reasons)
    assert outcome is not Outcome.RETRY or "challenge_required" in reasons


def test_a_required_challenge_counts_as_the_policy_weighs_it_and_as_review_where_it_does_not() -> None:
    assert required(ASKED_FROM, signal(0.3), challenge_required=Outcome.REJECT)[0] is Outcome.REJECT
    unlisted = replace(policy(face_attack=CHECK, challenge=OPTIONAL, phrase=OPTIONAL), challenge=ASKED_FROM, reasons={})
    assert decide([signal(0.3)], unlisted, thresholds(face_attack=MILD)).outcome is Outcome.REVIEW


@pytest.mark.parametrize(("score", "outcome"), [(0.2, Outcome.ACCEPT), (0.3, Outcome.RETRY), (None, Outcome.RETRY)])
def test_the_fused_score_may_require_a_challenge(score: float | None, outcome: Outcome) -> None:
    rule = ChallengePolicy(("challenge",), {"fusion": "mild"}, ())
    rules = replace(policy(face_attack=CHECK, challenge=OPTIONAL), challenge=rule)
    levels = thresholds(fusion={"weights": {"face_attack": 1.0}, "points": {"mild": 0.25}})
    verdict = decide([signal(score, *(() if score is not None else ("no_face",)))], rules, levels)
    assert verdict.outcome is outcome
    assert ("challenge_required" in {r.code for r in verdict.reasons}) is (outcome is Outcome.RETRY)


@given(st.none() | st.floats(0, 1), st.none() | st.floats(0, 1), st.sampled_from([ASKED_FROM, ASKED_WITHOUT]))
def test_requiring_a_challenge_never_makes_an_outcome_milder(face: float | None, acted: float | None, rule: ChallengePolicy) -> None:
    signals = [signal(face, *(() if face is not None else ("no_face",)))]
    signals += [NOT_ASKED if acted is None else signal(acted, detector="challenge")]
    assert required(rule, *signals)[0].severity >= required(ChallengePolicy(), *signals)[0].severity


def test_reasons_come_gravest_first_and_once() -> None:
    verdict = decide(
        [signal(0.95, "fine", "face_blurred"), signal(0.2, "face_blurred", "second_face", detector="liveness")],
        policy(face_attack=CHECK, liveness=CHECK),
        thresholds(),
    )
    assert [r.code for r in verdict.reasons] == ["face_attack_suspected", "second_face", "face_blurred", "fine"]


def test_a_mandatory_check_that_did_not_run_forbids_accept() -> None:
    verdict = decide([signal(0.0)], policy(face_attack=CHECK, liveness=CHECK), thresholds())
    assert verdict.outcome is Outcome.RETRY
    assert verdict.reasons == (Reason("check_missing", "liveness did not run"),)


def test_no_signals_at_all_forbid_accept() -> None:
    assert decide([], policy(), thresholds()).outcome is Outcome.RETRY


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([], Outcome.ACCEPT),
        ([signal(None, "no_document", detector="document")], Outcome.ACCEPT),
        ([signal(None, "second_face", detector="document")], Outcome.REVIEW),
        ([signal(0.99, detector="document")], Outcome.REJECT),
    ],
)
def test_an_optional_check_may_be_absent_but_is_believed_where_it_speaks(signals: list[Signal], expected: Outcome) -> None:
    both = policy(face_attack=CHECK, document=OPTIONAL)
    assert decide([signal(0.0), *signals], both, thresholds()).outcome is expected


def test_a_score_that_is_not_a_number_cannot_pass() -> None:
    broken = signal(0.0)
    object.__setattr__(broken, "score", math.nan)  # past the guard in Signal, as a faulty detector might
    assert decide([broken], policy(), thresholds()).outcome is Outcome.REJECT
    assert attack_score([broken], thresholds()) == pytest.approx(1.0)


def test_a_signal_the_policy_does_not_name_stops_the_decision() -> None:
    with pytest.raises(ConfigError, match="voice"):
        decide([signal(0.0), signal(0.0, detector="voice")], policy(), thresholds())


@pytest.mark.parametrize("points", [{}, {"review": 0.5}, {"review": 0.5, "reject": math.nan}, {"review": 0.5, "reject": 1.5}])
def test_a_missing_or_unusable_operating_point_stops_the_decision(points: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="reject"):
        decide([signal(0.6)], policy(), thresholds(face_attack={"points": points}))


def test_only_a_retry_is_explained_to_the_applicant() -> None:
    retry = decide([signal(None, "no_face")], policy(), thresholds()).message
    review = decide([signal(None, "no_face", "second_face")], policy(), thresholds()).message
    reject = decide([signal(0.99, "no_face")], policy(), thresholds()).message
    assert "face" in retry
    assert "face" not in review + reject
    assert review == decide([signal(0.6)], policy(), thresholds()).message


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({}, None),
        ({"face_attack": None, "liveness": None}, None),
        ({"face_attack": 0.7}, 0.7),
        ({"face_attack": 0.7, "liveness": None}, 0.7),
        ({"document": 0.9, "match": 0.9}, None),
        ({"face_attack": 0.2, "liveness": 0.2}, 0.2),
        ({"face_attack": 0.9, "liveness": 0.1}, 1 / (1 + math.exp(0.5 * math.log(9)))),
    ],
)
def test_the_fused_score_is_the_weighted_mean_of_log_odds(scores: dict[str, float | None], expected: float | None) -> None:
    signals = [signal(s, *(() if s is not None else ("no_face",)), detector=d) for d, s in scores.items()]
    assert attack_score(signals, thresholds()) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("weights", [{}, {"face_attack": 0.0}, {"face_attack": -1.0}, {"face_attack": math.nan}, {"face_attack": "1"}, 3])
def test_unusable_fusion_weights_are_refused(weights: Any) -> None:
    with pytest.raises(ConfigError, match="weights"):
        fusion_weights(thresholds(weights))


SCORES = st.none() | st.floats(0, 1)
CODES = st.lists(st.sampled_from([*REASONS, "unknown"]), min_size=1, max_size=3)


@given(SCORES, SCORES, CODES, CODES)
def test_accept_means_that_every_mandatory_check_judged_and_nobody_objected(
    a: float | None, b: float | None, codes_a: list[str], codes_b: list[str]
) -> None:
    verdict = decide(
        [signal(a, *codes_a), signal(b, *codes_b, detector="liveness")], policy(face_attack=CHECK, liveness=CHECK), thresholds()
    )
    clean = a is not None and b is not None and max(a, b) < 0.5 and {*codes_a, *codes_b} == {"fine"}
    assert (verdict.outcome is Outcome.ACCEPT) == clean


@given(SCORES, SCORES, CODES)
def test_a_higher_score_never_makes_the_outcome_milder(a: float | None, b: float | None, codes: list[str]) -> None:
    low, high = sorted([0.0 if a is None else a, 0.0 if b is None else b])
    outcomes = [decide([signal(s, *codes)], policy(), thresholds()).outcome.severity for s in (low, high)]
    assert outcomes[0] <= outcomes[1]


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_fused_score_lies_between_its_parts(a: float, b: float) -> None:
    fused = attack_score([signal(a), signal(b, detector="liveness")], thresholds())
    assert fused is not None
    assert min(a, b) - 1e-6 <= fused <= max(a, b) + 1e-6
