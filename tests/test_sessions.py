"""Sessions: one answer a nonce, attempts that run out, clocks that end, and two clients at once."""

from __future__ import annotations

import base64
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kyc_guard.config import Policy, Settings
from kyc_guard.faces.movements import KINDS
from kyc_guard.sessions import STRESSING, MemoryStore, Rules, Session, Sessions, State
from kyc_guard.speech.words import language
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Outcome, Reason

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
RULES = Rules(lifetime=timedelta(seconds=180), attempts=3, actions=3, window_s=4.0, words=6, fresh=50)
LATER = NOW + RULES.lifetime


def fresh(seed: int = 0) -> tuple[Sessions, MemoryStore]:
    store = MemoryStore()
    return Sessions(store, RULES, chance=random.Random(seed)), store


def code(answer: Challenge | Reason | None) -> str | None:
    return answer.code if isinstance(answer, Reason) else None


def nonce_of(challenge: Challenge | None) -> str:
    assert challenge is not None
    assert challenge.nonce is not None
    return challenge.nonce


def test_a_right_answer_is_taken_once_and_ends_the_session() -> None:
    sessions, store = fresh()
    session, challenge = sessions.issue("ada", NOW)
    nonce = nonce_of(challenge)
    assert sessions.submit(session.id, nonce, NOW) == challenge
    assert sessions.problem(challenge) is None
    assert code(sessions.submit(session.id, nonce, NOW)) == "challenge_replayed"
    assert sessions.finish(session.id, Outcome.ACCEPT, NOW) is None
    assert store.get(session.id).state is State.CONSUMED  # type: ignore[union-attr]
    assert code(sessions.submit(session.id, nonce, NOW)) == "challenge_replayed"
    assert code(sessions.problem(challenge)) == "challenge_replayed"


def test_a_retry_gives_a_fresh_nonce_and_the_old_one_is_a_replay() -> None:
    sessions, _ = fresh()
    session, first = sessions.issue("ada", NOW)
    sessions.submit(session.id, nonce_of(first), NOW)
    second = sessions.finish(session.id, Outcome.RETRY, NOW)
    assert nonce_of(second) != nonce_of(first)
    assert code(sessions.problem(first)) == "challenge_replayed"
    assert code(sessions.submit(session.id, nonce_of(first), NOW)) == "challenge_replayed"
    assert sessions.submit(session.id, nonce_of(second), NOW) == second


def test_retries_run_out() -> None:
    sessions, store = fresh()
    session, challenge = sessions.issue("ada", NOW)
    for _ in range(RULES.attempts - 1):
        sessions.submit(session.id, nonce_of(challenge), NOW)
        challenge = sessions.finish(session.id, Outcome.RETRY, NOW)  # type: ignore[assignment]
    sessions.submit(session.id, nonce_of(challenge), NOW)
    assert sessions.finish(session.id, Outcome.RETRY, NOW) is None
    assert store.get(session.id).state is State.LOCKED  # type: ignore[union-attr]
    assert code(sessions.submit(session.id, nonce_of(challenge), NOW)) == "challenge_locked"
    assert code(sessions.problem(challenge)) == "challenge_locked"


def test_wrong_nonces_lock_a_session_even_for_the_right_one() -> None:
    sessions, _ = fresh()
    session, challenge = sessions.issue("ada", NOW)
    assert [code(sessions.submit(session.id, guess, NOW)) for guess in ("a", "b", "c", "d")] == [
        "challenge_wrong_nonce", "challenge_wrong_nonce", "challenge_wrong_nonce", "challenge_locked",
    ]  # fmt: skip
    assert code(sessions.submit(session.id, nonce_of(challenge), NOW)) == "challenge_locked"


@pytest.mark.parametrize(
    ("after_s", "taken"),
    [(0, True), (RULES.lifetime.total_seconds() - 1, True), (RULES.lifetime.total_seconds(), False), (10_000, False)],
)
def test_an_answer_must_come_in_time(after_s: float, taken: bool) -> None:
    sessions, store = fresh()
    session, challenge = sessions.issue("ada", NOW)
    answer = sessions.submit(session.id, nonce_of(challenge), NOW + timedelta(seconds=after_s))
    assert code(answer) == (None if taken else "challenge_expired")
    assert store.get(session.id).state is (State.SUBMITTED if taken else State.EXPIRED)  # type: ignore[union-attr]
    assert code(sessions.problem(challenge)) == (None if taken else "challenge_expired")


def test_only_unanswered_sessions_that_are_over_are_expired() -> None:
    sessions, _ = fresh()
    session, challenge = sessions.issue("ada", NOW)
    assert not sessions.expire(session.id, NOW)
    assert sessions.expire(session.id, LATER)
    assert not sessions.expire(session.id, LATER)
    assert not sessions.expire("nobody", LATER)
    other, challenge = sessions.issue("bob", NOW)
    sessions.submit(other.id, nonce_of(challenge), NOW)
    assert not sessions.expire(other.id, LATER)


@pytest.mark.parametrize("state", ["issued", "consumed"])
def test_only_an_answered_session_can_be_decided_on(state: str) -> None:
    sessions, _ = fresh()
    session, challenge = sessions.issue("ada", NOW)
    if state == "consumed":
        sessions.submit(session.id, nonce_of(challenge), NOW)
        sessions.finish(session.id, Outcome.REVIEW, NOW)
    with pytest.raises(ValueError, match="submitted"):
        sessions.finish(session.id, Outcome.ACCEPT, NOW)


@pytest.mark.parametrize(
    "change",
    [{"nonce": None}, {"nonce": "x"}, {"actions": ("blink",) * 3}, {"phrase": "one"}, {"prompts_s": ()}, {"expires_at": None}],
)
def test_a_submission_that_alters_its_challenge_does_not_count(change: dict[str, object]) -> None:
    sessions, _ = fresh()
    session, challenge = sessions.issue("ada", NOW)
    sessions.submit(session.id, nonce_of(challenge), NOW)
    assert code(sessions.problem(replace(challenge, **change))) == "challenge_wrong_nonce"  # type: ignore[arg-type]


def test_an_answer_that_was_never_taken_does_not_count() -> None:
    sessions, _ = fresh()
    _, challenge = sessions.issue("ada", NOW)
    assert code(sessions.problem(challenge)) == "challenge_wrong_nonce"
    assert code(sessions.submit("nobody", nonce_of(challenge), NOW)) == "challenge_wrong_nonce"


def test_of_two_answers_at_once_one_is_taken() -> None:
    for seed in range(20):
        sessions, _ = fresh(seed)
        session, challenge = sessions.issue("ada", NOW)
        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(sessions.submit, session.id, nonce_of(challenge), NOW) for _ in range(4)]
        assert sorted((code(a.result()) for a in answers), key=str) == [None, *["challenge_replayed"] * 3]


def test_sessions_that_are_long_over_are_forgotten_and_no_others() -> None:
    store = MemoryStore(keep=timedelta(seconds=60))
    sessions = Sessions(store, RULES)
    issued = [sessions.issue("ada", NOW + timedelta(seconds=i)) for i in range(50)]
    used, answer = issued[-1]
    sessions.submit(used.id, nonce_of(answer), NOW)
    sessions.finish(used.id, Outcome.ACCEPT, NOW)

    sessions.issue("bob", LATER + timedelta(seconds=59))
    assert len(store) == 51, "ended, but remembered for a minute"
    assert code(sessions.problem(answer)) == "challenge_replayed"
    assert code(sessions.submit(issued[0][0].id, nonce_of(issued[0][1]), LATER)) == "challenge_expired"

    sessions.issue("bob", LATER + timedelta(seconds=60 + 48))
    assert len(store) == 3, "the last of the fifty, and Bob's"
    assert store.get(issued[0][0].id) is None
    assert code(sessions.problem(issued[0][1])) == "challenge_wrong_nonce"
    assert code(sessions.problem(answer)) == "challenge_replayed"

    sessions.issue("bob", LATER + timedelta(seconds=60 + 49))
    assert store.get(used.id) is None
    assert code(sessions.problem(answer)) == "challenge_wrong_nonce", "forgotten, and still no answer to anything"


def test_a_session_that_was_given_another_try_is_kept_by_its_new_end() -> None:
    store = MemoryStore(keep=timedelta(0))
    sessions = Sessions(store, RULES)
    session, first = sessions.issue("ada", NOW)
    other, _ = sessions.issue("bob", NOW + timedelta(seconds=1))
    sessions.submit(session.id, nonce_of(first), NOW)
    second = sessions.finish(session.id, Outcome.RETRY, NOW + timedelta(seconds=100))
    sessions.issue("eve", LATER + timedelta(seconds=1))
    assert store.get(other.id) is None
    assert code(sessions.problem(first)) == "challenge_replayed"
    assert sessions.submit(session.id, nonce_of(second), LATER + timedelta(seconds=2)) == second


# --------------------------------------------------------------------------------------------------------------- contents


def test_a_nonce_has_256_random_bits_and_is_kept_as_a_hash() -> None:
    sessions, store = fresh()
    issued = [sessions.issue("ada", NOW) for _ in range(200)]
    nonces = [nonce_of(c) for _, c in issued]
    assert len(set(nonces)) == 200
    assert all(len(base64.urlsafe_b64decode(n + "==")) >= 16 for n in nonces)
    assert not any(n in repr(store.get(s.id)) for (s, _), n in zip(issued, nonces, strict=True))


def test_the_same_chance_gives_other_nonces() -> None:
    assert nonce_of(fresh(1)[0].issue("ada", NOW)[1]) != nonce_of(fresh(1)[0].issue("ada", NOW)[1])


@given(st.integers(0, 10**9))
def test_every_challenge_stresses_a_generator_and_leaves_room_for_each_action(seed: int) -> None:
    sessions, _ = fresh(seed)
    _, challenge = sessions.issue("ada", NOW)
    assert len(set(challenge.actions)) == RULES.actions
    assert set(challenge.actions) <= set(KINDS)
    assert STRESSING & set(challenge.actions)
    gaps = [b - a for a, b in zip(challenge.prompts_s, challenge.prompts_s[1:], strict=False)]
    assert challenge.prompts_s[0] >= 1.0
    assert all(RULES.window_s <= gap <= RULES.window_s + 1.001 for gap in gaps)
    assert len((challenge.phrase or "").split()) == 6
    Submission.from_mapping(
        {"challenge": {"nonce": challenge.nonce, "actions": list(challenge.actions), "prompts_s": list(challenge.prompts_s)}},
        root=Path(),
        default_id="a",
        source="test",
    )


def test_challenges_differ() -> None:
    sessions, _ = fresh()
    orders = {sessions.issue("ada", NOW)[1].actions for _ in range(100)}
    assert len(orders) > 60


def test_what_a_person_cannot_do_is_not_asked_not_even_at_a_retry() -> None:
    sessions, _ = fresh()
    able = ("blink", "smile", "open_mouth", "look_up")
    session, challenge = sessions.issue("ada", NOW, possible=able)
    for _ in range(2):
        assert set(challenge.actions) <= set(able)
        sessions.submit(session.id, nonce_of(challenge), NOW)
        challenge = sessions.finish(session.id, Outcome.RETRY, NOW)  # type: ignore[assignment]
    assert set(challenge.actions) <= set(able)


@pytest.mark.parametrize("possible", [("blink",), ("blink", "smile", "dance")])
def test_too_few_or_unknown_actions_are_refused(possible: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="action"):
        fresh()[0].issue("ada", NOW, possible=possible)


def test_the_rules_come_from_the_policy() -> None:
    rules = Rules.of(Policy.load(Settings().policy_path))
    assert rules.attempts >= 1
    assert rules.actions <= len(KINDS)
    assert rules.lifetime.total_seconds() > rules.actions * (rules.window_s + 1) + 1


# ---------------------------------------------------------------------------------------------------------- state machine


class Life(RuleBasedStateMachine):
    """Any sequence of answers, guesses, decisions and waiting."""

    @initialize()
    def begin(self) -> None:
        self.sessions, self.store = fresh()
        self.now = NOW
        self.session, self.challenge = self.sessions.issue("ada", NOW)
        self.taken: list[str] = []
        self.spent = 0

    @property
    def current(self) -> Session:
        session = self.store.get(self.session.id)
        assert session is not None
        return session

    @rule()
    def answer(self) -> None:
        before, nonce = self.current, nonce_of(self.challenge)
        answer = self.sessions.submit(self.session.id, nonce, self.now)
        if isinstance(answer, Challenge):
            assert before.state is State.ISSUED
            assert self.now < before.expires_at
            assert nonce not in self.taken
            assert answer == self.challenge
            self.taken.append(nonce)
        else:
            assert before.state is not State.ISSUED or self.now >= before.expires_at

    @rule(guess=st.text(max_size=8))
    def guess(self, guess: str) -> None:
        before = self.current
        assert isinstance(self.sessions.submit(self.session.id, guess, self.now), Reason)
        if before.state is State.ISSUED and self.now < before.expires_at:
            self.spent += 1
            assert self.current.attempts_left == before.attempts_left - 1

    @rule(outcome=st.sampled_from(Outcome))
    @precondition(lambda self: self.current.state is State.SUBMITTED)
    def decide(self, outcome: Outcome) -> None:
        following = self.sessions.finish(self.session.id, outcome, self.now)
        self.spent += outcome is Outcome.RETRY
        assert (following is None) is (outcome is not Outcome.RETRY or self.spent >= RULES.attempts)
        self.challenge = following or self.challenge

    @rule(seconds=st.integers(0, 100))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.sessions.expire(self.session.id, self.now)

    @invariant()
    def no_nonce_is_taken_twice_and_attempts_are_kept(self) -> None:
        assert len(set(self.taken)) == len(self.taken) <= RULES.attempts
        assert self.current.attempts_left == max(RULES.attempts - self.spent, 0)
        assert (self.current.state is State.LOCKED) is (self.spent >= RULES.attempts)

    @invariant()
    def only_an_answer_that_waits_for_its_decision_counts(self) -> None:
        counts = self.sessions.problem(self.challenge) is None
        assert counts is (self.current.state is State.SUBMITTED)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


class Crowd(RuleBasedStateMachine):
    """Many sessions in one store that forgets."""

    @initialize(keep_s=st.integers(0, 300))
    def begin(self, keep_s: int) -> None:
        self.store = MemoryStore(keep=timedelta(seconds=keep_s))
        self.sessions = Sessions(self.store, RULES)
        self.now = self.last_issue = NOW
        self.open: list[tuple[Session, Challenge]] = []
        self.used: list[Challenge] = []

    @rule()
    def issue(self) -> None:
        self.last_issue = self.now
        self.open.append(self.sessions.issue("ada", self.now))

    @rule(which=st.integers(0, 9), outcome=st.sampled_from(Outcome))
    @precondition(lambda self: self.open)
    def answer_and_decide(self, which: int, outcome: Outcome) -> None:
        session, challenge = self.open.pop(which % len(self.open))
        answer = self.sessions.submit(session.id, nonce_of(challenge), self.now)
        if not isinstance(answer, Challenge):
            assert code(answer) in {"challenge_expired", "challenge_wrong_nonce"}
            known = self.store.get(session.id)
            assert self.now >= (session if known is None else known).expires_at
            return
        assert self.sessions.problem(answer) is None
        self.used.append(answer)
        fresh = self.sessions.finish(session.id, outcome, self.now)
        if fresh is not None:
            renewed = self.store.get(session.id)
            assert renewed is not None
            self.open.append((renewed, fresh))

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def what_was_used_never_counts_again(self) -> None:
        assert all(code(self.sessions.problem(c)) in {"challenge_replayed", "challenge_locked", "challenge_wrong_nonce"} for c in self.used)

    @invariant()
    def nobody_is_forgotten_early_and_nobody_kept_after_the_next_came(self) -> None:
        for session, _ in self.open:
            kept = self.store.get(session.id) is not None
            assert kept is (session.expires_at + self.store.keep > self.last_issue)


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_phrase_is_words_that_can_be_judged_and_does_not_come_again_soon() -> None:
    rules = replace(RULES, words=2, fresh=600)  # so few phrases that 600 drawn without memory would repeat dozens
    sessions = Sessions(MemoryStore(), rules)
    phrases = [sessions.issue("ada", NOW)[1].phrase or "" for _ in range(rules.fresh)]
    assert len(set(phrases)) == len(phrases)
    known = language().sounds
    assert all(len(p.split()) == rules.words and set(p.split()) <= set(known) for p in phrases)


def test_a_session_may_ask_for_a_phrase_alone() -> None:
    store = MemoryStore()
    sessions = Sessions(store, replace(RULES, actions=0), chance=random.Random(0))
    session, challenge = sessions.issue("ada", NOW, possible=())
    assert (challenge.actions, challenge.prompts_s) == ((), ())
    assert len((challenge.phrase or "").split()) == RULES.words
    assert sessions.submit(session.id, nonce_of(challenge), NOW) == challenge
    assert sessions.problem(challenge) is None
    assert code(sessions.problem(replace(challenge, phrase="another one"))) == "challenge_wrong_nonce"


def test_no_phrase_is_asked_where_the_policy_wants_none_and_too_short_ones_are_refused() -> None:
    assert Sessions(MemoryStore(), replace(RULES, words=0)).issue("ada", NOW)[1].phrase is None
    with pytest.raises(ValueError, match="cannot stay fresh"):
        Sessions(MemoryStore(), replace(RULES, words=1))
