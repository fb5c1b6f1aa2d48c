"""A verifier that was given a server's sessions and earlier clips asks them, fails closed, and its decisions replay without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import fake, lend, settings_in, usual
from test_forensics import encoded, scene

from kyc_guard import ConfigError, Outcome, Submission, Verifier
from kyc_guard.config import Policy, Settings
from kyc_guard.detectors import DETECTORS
from kyc_guard.detectors.challenge import ChallengeResponse
from kyc_guard.detectors.injection import Injection
from kyc_guard.detectors.protocol import Memory, SeenClips, SessionBook
from kyc_guard.replay import replay
from kyc_guard.seen_clips import ClipMemory
from kyc_guard.sessions import MemoryStore, Rules, Session, Sessions
from kyc_guard.submission import Challenge
from kyc_guard.types import Decision, Reason

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
SHIPPED = Settings()
RULES = Rules.of(Policy.load(SHIPPED.policy_path))
CLIP = encoded(scene(40), "libvpx", "webm", deadline="realtime")
OTHER = encoded(scene(40, 9), "libvpx", "webm", deadline="realtime")


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verifier]:
    """The two checks that remember, by the shipped policy, among fakes that are content with everything."""
    texts = {"policy": SHIPPED.policy_path.read_text(), "thresholds": SHIPPED.thresholds_path.read_text()}
    names = ("face_attack", "liveness", "document", "match", "phrase", "lipsync", "voice", "speaker")
    assert len(names) + 2 == len(DETECTORS)
    kinds = (*(fake(name, 0.0) for name in names), Injection, ChallengeResponse)
    settings = settings_in(tmp_path_factory.mktemp("room"), **texts)
    lend(settings, "face_embedding")  # which challenge compares performers with
    with Verifier(settings, detectors=kinds) as verifier:
        yield verifier


def session_of(sessions: Sessions) -> tuple[Session, Challenge]:
    session, challenge = sessions.issue("ada", NOW)
    assert challenge.nonce is not None
    taken = sessions.submit(session.id, challenge.nonce, NOW)
    assert isinstance(taken, Challenge)
    return session, taken


def phrase_only() -> Sessions:
    return Sessions(MemoryStore(), replace(RULES, actions=0))


def signal(decision: Decision, name: str) -> Any:
    return next(s for s in decision.signals if s.detector == name)


def codes(decision: Decision) -> set[str]:
    return {r.code for r in decision.reasons}


def replays(decision: Decision, sent: Submission, verifier: Verifier) -> bool:
    return replay(json.loads(json.dumps(decision.to_json())), sent, verifier).identical


# -------------------------------------------------------------------------------------------------------------- sessions


def test_a_phrase_of_its_own_session_passes_once_and_its_decision_still_replays(verifier: Verifier) -> None:
    sessions = phrase_only()
    session, taken = session_of(sessions)
    asked = verifier.remembering(Memory(sessions=sessions))
    sent = Submission("a1", selfie=CLIP, challenge=taken)
    first = asked.verify(sent)
    assert first.outcome is Outcome.ACCEPT
    assert signal(first, "challenge").facts == {"nonce": "checked", "session_problem": None}
    sessions.finish(session.id, first.outcome, NOW)

    again = asked.verify(sent)
    assert again.outcome is Outcome.REJECT
    assert "challenge_replayed" in codes(again)
    assert signal(again, "challenge").facts["session_problem"]["code"] == "challenge_replayed"
    # Each as it was judged, by a verifier with the used-up book, and by one with none.
    for judge in (asked, verifier):
        assert replays(first, sent, judge)
        assert replays(again, sent, judge)


@pytest.mark.parametrize(
    ("challenge", "code", "outcome"),
    [
        (None, "challenge_no_nonce", Outcome.RETRY),
        (Challenge(), "challenge_no_nonce", Outcome.RETRY),
        (Challenge(phrase="one two"), "challenge_no_nonce", Outcome.RETRY),
        (Challenge(nonce=""), "challenge_wrong_nonce", Outcome.REJECT),
        (Challenge(nonce="guess"), "challenge_wrong_nonce", Outcome.REJECT),
        (Challenge(nonce="guess", phrase="one two"), "challenge_wrong_nonce", Outcome.REJECT),
        (Challenge(nonce="guess", actions=("dance",)), "challenge_wrong_nonce", Outcome.REVIEW),
    ],
)
def test_with_a_book_no_submission_outside_a_session_is_accepted(
    verifier: Verifier, challenge: Challenge | None, code: str, outcome: Outcome
) -> None:
    sent = Submission("a1", selfie=CLIP, challenge=challenge)
    decision = verifier.remembering(Memory(sessions=phrase_only())).verify(sent)
    assert decision.outcome is outcome
    assert code in codes(decision)
    assert replays(decision, sent, verifier)


@pytest.mark.parametrize("challenge", [None, Challenge(phrase="one two"), Challenge(nonce="guess", phrase="one two")])
def test_without_a_book_no_session_is_asked_for(verifier: Verifier, challenge: Challenge | None) -> None:
    decision = verifier.verify(Submission("a1", selfie=CLIP, challenge=challenge))
    assert decision.outcome is Outcome.ACCEPT
    assert "session_problem" not in signal(decision, "challenge").facts


def test_what_the_client_changed_of_its_phrase_is_not_its_session(verifier: Verifier) -> None:
    sessions = phrase_only()
    _, taken = session_of(sessions)
    sent = Submission("a1", selfie=CLIP, challenge=replace(taken, phrase="one two"))
    assert "challenge_wrong_nonce" in codes(verifier.remembering(Memory(sessions=sessions)).verify(sent))


def test_an_action_that_cannot_be_judged_keeps_no_score_whatever_the_book_says(verifier: Verifier) -> None:
    sessions = Sessions(MemoryStore(), RULES)
    _, taken = session_of(sessions)
    decision = verifier.remembering(Memory(sessions=sessions)).verify(Submission("a1", selfie=CLIP, challenge=taken))
    assert signal(decision, "challenge").score is None
    assert codes(decision) >= {"challenge_not_shown"}
    assert decision.outcome is Outcome.RETRY


class Opinion:
    """A book that says what it is told to."""

    def __init__(self, code: str | None) -> None:
        self.code = code

    def problem(self, challenge: Challenge) -> Reason | None:
        return None if self.code is None else Reason(self.code, "so it is")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (None, Outcome.ACCEPT),
        ("challenge_expired", Outcome.RETRY),
        ("challenge_locked", Outcome.REVIEW),
        ("challenge_replayed", Outcome.REJECT),
        ("challenge_of_a_book_we_do_not_know", Outcome.REVIEW),
    ],
)
def test_every_answer_of_a_book_decides_and_replays(verifier: Verifier, code: str | None, outcome: Outcome) -> None:
    sent = Submission("a1", selfie=CLIP, challenge=Challenge(nonce="n", phrase="one two"))
    decision = verifier.remembering(Memory(sessions=Opinion(code))).verify(sent)
    assert decision.outcome is outcome
    assert replays(decision, sent, verifier)


# ----------------------------------------------------------------------------------------------------------------- clips


def test_a_clip_sent_before_is_shown_and_the_first_sender_is_not(verifier: Verifier) -> None:
    memory = ClipMemory()
    asked = verifier.remembering(Memory(seen=memory))
    sent = {name: Submission(name, selfie=data) for name, data in (("a1", CLIP), ("a2", CLIP), ("a3", OTHER))}
    decisions = {name: asked.verify(one) for name, one in sent.items()}
    assert {name: "injection_seen_before" in codes(d) for name, d in decisions.items()} == {"a1": False, "a2": True, "a3": False}
    assert decisions["a1"].outcome is decisions["a3"].outcome is Outcome.ACCEPT
    assert decisions["a2"].outcome is Outcome.REJECT
    assert [signal(d, "injection").facts["seen_before"] for d in decisions.values()] == [None, "a1", None]
    assert len(memory) == 3
    for name, decision in decisions.items():
        assert replays(decision, sent[name], asked)
        assert replays(decision, sent[name], verifier)
    assert len(memory) == 3, "a replay is no submission"


# ---------------------------------------------------------------------------------------------------------------- wiring


def test_what_is_handed_to_the_verifier_reaches_its_detectors() -> None:
    sessions, seen = phrase_only(), ClipMemory()
    with Verifier(sessions=sessions, seen=seen) as verifier:
        by_name: dict[str, Any] = {d.name: d for d in verifier.detectors}
    assert by_name["challenge"].sessions is sessions
    assert by_name["injection"].seen is seen


@pytest.mark.parametrize(("sessions", "seen"), [(Opinion(None), None), (None, ClipMemory())])
def test_a_memory_that_nobody_would_ask_stops_everything(tmp_path: Path, sessions: SessionBook | None, seen: SeenClips | None) -> None:
    with pytest.raises(ConfigError, match="no detector"):
        Verifier(settings_in(tmp_path), detectors=usual(), sessions=sessions, seen=seen)
