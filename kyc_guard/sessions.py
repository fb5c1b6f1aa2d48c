"""The server's side of a capture: issue a challenge, take one answer, let a person try again, lock after too many attempts.

    issued --submit--> submitted --finish(accept, review, reject)--> consumed
      |  ^                 '------finish(retry)--> issued, with a fresh nonce and fresh actions
      |  '-- wrong nonce, an attempt lost
      |----- too late --> expired
      '----- no attempt left --> locked

A nonce has 256 random bits and is good for one answer. It is stored as a hash, so that a copy of the store answers nothing, and
compared in constant time. Every change is one compare-and-swap, so that two answers at once cannot both be taken. Clocks are passed
in. Nothing here looks at a clip: `kyc_guard.detectors.challenge` does, and asks `Sessions.problem` where `Verifier(sessions=...)` was
given the book. Judge only what `submit` took, once: between `submit` and `finish` the book cannot tell one clip from another.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from threading import Lock
from typing import Protocol, Self

from kyc_guard.config import Policy, Settings
from kyc_guard.faces.movements import KINDS
from kyc_guard.speech.words import language
from kyc_guard.submission import Challenge
from kyc_guard.types import Outcome, Reason

_NONCE_BYTES = 32
STRESSING = frozenset({"hand_over_face", "profile_left", "profile_right"})
"""Actions that live face generators do worst; every challenge has one. Source: Mittal et al., "GOTCHA", 2022."""


class State(StrEnum):
    ISSUED = "issued"
    SUBMITTED = "submitted"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Session:
    """What the server remembers of one capture; ``version`` grows by one with every change."""

    id: str
    subject: str
    state: State
    nonce_sha256: str
    challenge: Challenge
    """As issued, without its nonce."""
    issued_at: datetime
    expires_at: datetime
    attempts_left: int
    possible: tuple[str, ...]
    """Actions this person can do."""
    version: int = 0


class SessionStore(Protocol):
    """Where sessions are kept."""

    def add(self, session: Session) -> None: ...

    def get(self, session_id: str) -> Session | None: ...

    def by_nonce(self, nonce_sha256: str) -> Session | None:
        """The session that issued this nonce, now or earlier."""
        ...

    def swap(self, old: Session, new: Session) -> bool:
        """Put ``new`` in the place of ``old``; ``False``, and nothing changes, if the store holds another version."""
        ...


@dataclass(slots=True)
class MemoryStore:
    """Sessions of one process, for tests and single servers; lost with it, which only makes applicants start again.

    Those that ended longer than ``keep`` ago are forgotten when another is added. Until then a late or repeated answer is told
    what it is, and a decision may still come. A nonce that is forgotten is as good as one that was never issued.
    """

    keep: timedelta = timedelta(hours=1)
    """Housekeeping: no answer is taken after a session's end, however long it is kept."""
    _sessions: dict[str, Session] = field(default_factory=dict)
    """In the order in which their present challenges were issued, so that the first end first."""
    _nonces: dict[str, str] = field(default_factory=dict)
    """Hash of every nonce -> its session."""
    _issued: dict[str, list[str]] = field(default_factory=dict)
    """Session -> the hashes of its nonces, earlier ones too."""
    _lock: Lock = field(default_factory=Lock)

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        with self._lock:
            self._forget(session.issued_at)
            self._sessions[session.id] = session
            self._nonces[session.nonce_sha256] = session.id
            self._issued[session.id] = [session.nonce_sha256]

    def get(self, session_id: str) -> Session | None:
        with self._lock:
            return self._sessions.get(session_id)

    def by_nonce(self, nonce_sha256: str) -> Session | None:
        with self._lock:
            return self._sessions.get(self._nonces.get(nonce_sha256, ""))

    def swap(self, old: Session, new: Session) -> bool:
        with self._lock:
            current = self._sessions.get(old.id)
            if current is None or current.version != old.version:
                return False
            if new.nonce_sha256 != current.nonce_sha256:
                del self._sessions[new.id]  # a fresh challenge ends later: to the end of the queue
                self._nonces[new.nonce_sha256] = new.id
                self._issued[new.id].append(new.nonce_sha256)
            self._sessions[new.id] = new
            return True

    def _forget(self, now: datetime) -> None:
        for session in list(takewhile(lambda s: s.expires_at + self.keep <= now, self._sessions.values())):
            del self._sessions[session.id]
            for nonce in self._issued.pop(session.id):
                del self._nonces[nonce]


@dataclass(frozen=True, slots=True)
class Rules:
    """How long and how often; [quality] of policy.toml."""

    lifetime: timedelta
    attempts: int
    actions: int
    """Of a challenge; 0 = only a phrase, or only a nonce."""
    window_s: float
    words: int
    """Of the phrase; 0 = none is asked."""
    fresh: int
    """A phrase is not issued again among this many."""

    @classmethod
    def of(cls, policy: Policy) -> Self:
        return cls(
            lifetime=timedelta(seconds=policy.gate("challenge_session_s")),
            attempts=int(policy.gate("challenge_attempts")),
            actions=int(policy.gate("challenge_actions")),
            window_s=policy.gate("challenge_window_s"),
            words=int(policy.gate("phrase_words")),
            fresh=int(policy.gate("phrase_fresh")),
        )


class Sessions:
    """Issues challenges and takes answers. Also the `SessionBook` that the challenge check asks."""

    def __init__(self, store: SessionStore, rules: Rules, *, chance: random.Random | None = None) -> None:
        """``chance`` picks actions, phrases and prompt times (tests pass a seeded one); nonces are always the system's.

        Raises:
            ValueError: phrases so short that they would have to come again.
        """
        if rules.words and 2 ** language().entropy_bits(rules.words) < 2 * rules.fresh:
            raise ValueError(f"phrases of {rules.words} words cannot stay fresh among {rules.fresh}; ask for more words")
        self._store = store
        self._rules = rules
        self._chance = chance or secrets.SystemRandom()
        self._phrases: deque[str] = deque(maxlen=rules.fresh)

    @classmethod
    def of(cls, settings: Settings, store: SessionStore | None = None) -> Self:
        """With the rules of the policy that ``settings`` name; kept in memory unless a ``store`` is given.

        Raises:
            ConfigError: the policy cannot be read. ValueError: as the constructor.
        """
        return cls(MemoryStore() if store is None else store, Rules.of(Policy.load(settings.policy_path)))

    def issue(self, subject: str, now: datetime, *, possible: Collection[str] = tuple(KINDS)) -> tuple[Session, Challenge]:
        """A new session, and the challenge to send to the client: the only time its nonce is seen.

        Args:
            possible: actions this person can do; who cannot raise a hand or turn far is not to be sent away.

        Raises:
            ValueError: fewer possible actions than a challenge has, or an unknown one.
        """
        nonce, challenge, expires = self._challenge(now, possible)
        session = Session(
            id=secrets.token_urlsafe(16),
            subject=subject,
            state=State.ISSUED,
            nonce_sha256=_digest(nonce),
            challenge=challenge,
            issued_at=now,
            expires_at=expires,
            attempts_left=self._rules.attempts,
            possible=tuple(possible),
        )
        self._store.add(session)
        return session, replace(challenge, nonce=nonce)

    def submit(self, session_id: str, nonce: str, now: datetime) -> Challenge | Reason:
        """Take an answer: the challenge to judge it by, or why it is not taken. Of two at once one is taken."""
        session = self._store.get(session_id)
        if session is None:
            return Reason("challenge_wrong_nonce", "no such session")
        right = hmac.compare_digest(session.nonce_sha256, _digest(nonce))
        match session.state:
            case State.SUBMITTED | State.CONSUMED:
                return Reason("challenge_replayed", f"session {session.id} already has an answer")
            case State.EXPIRED:
                return Reason("challenge_expired", f"session {session.id} ended at {session.expires_at.isoformat()}")
            case State.LOCKED:
                return Reason("challenge_locked", f"session {session.id} has no attempt left")
        if now >= session.expires_at:
            self._store.swap(session, _next(session, state=State.EXPIRED))
            return Reason("challenge_expired", f"session {session.id} ended at {session.expires_at.isoformat()}")
        if not right:
            left = session.attempts_left - 1
            if not self._store.swap(session, _next(session, state=State.ISSUED if left else State.LOCKED, attempts_left=left)):
                return self.submit(session_id, nonce, now)  # a wrong guess costs an attempt, however many are made at once
            earlier = self._store.by_nonce(_digest(nonce))
            if earlier is not None:
                return Reason("challenge_replayed", f"the nonce belongs to an earlier challenge of session {earlier.id}")
            return Reason("challenge_wrong_nonce", f"{left} attempts left")
        if not self._store.swap(session, _next(session, state=State.SUBMITTED)):
            return self.submit(session_id, nonce, now)
        return replace(session.challenge, nonce=nonce)

    def finish(self, session_id: str, outcome: Outcome, now: datetime) -> Challenge | None:
        """Close an answered session by its decision; after a retry with an attempt left, the fresh challenge to send.

        Raises:
            ValueError: the session has no answer to decide on.
        """
        session = self._store.get(session_id)
        if session is None or session.state is not State.SUBMITTED:
            raise ValueError(f"session {session_id} is {session.state if session else 'unknown'}, not submitted")
        if outcome is not Outcome.RETRY:
            new, fresh = _next(session, state=State.CONSUMED), None
        elif session.attempts_left <= 1:
            new, fresh = _next(session, state=State.LOCKED, attempts_left=0), None
        else:
            nonce, challenge, expires = self._challenge(now, session.possible)
            fresh = replace(challenge, nonce=nonce)
            new = _next(
                session,
                state=State.ISSUED,
                attempts_left=session.attempts_left - 1,
                nonce_sha256=_digest(nonce),
                challenge=challenge,
                issued_at=now,
                expires_at=expires,
            )
        if not self._store.swap(session, new):
            raise ValueError(f"session {session_id} was decided on already")
        return fresh

    def expire(self, session_id: str, now: datetime) -> bool:
        """Mark an unanswered session that is over; for the worker that tidies up."""
        session = self._store.get(session_id)
        over = session is not None and session.state is State.ISSUED and now >= session.expires_at
        return bool(over and session and self._store.swap(session, _next(session, state=State.EXPIRED)))

    def problem(self, challenge: Challenge) -> Reason | None:
        """Why a submission with this challenge must not count; ``None`` if its session waits for just this decision."""
        session = self._store.by_nonce(_digest(challenge.nonce or ""))
        if session is None:
            return Reason("challenge_wrong_nonce", "no session issued this nonce, or it is long over")
        if not hmac.compare_digest(session.nonce_sha256, _digest(challenge.nonce or "")) or session.state is State.CONSUMED:
            return Reason("challenge_replayed", f"session {session.id} already has an answer to it")
        if session.state is State.EXPIRED:
            return Reason("challenge_expired", f"session {session.id} ended at {session.expires_at.isoformat()}")
        if session.state is State.LOCKED:
            return Reason("challenge_locked", f"session {session.id} has no attempt left")
        if session.state is not State.SUBMITTED or replace(challenge, nonce=None) != session.challenge:
            return Reason("challenge_wrong_nonce", f"session {session.id} took no such answer")
        return None

    def _challenge(self, now: datetime, possible: Collection[str]) -> tuple[str, Challenge, datetime]:
        """A nonce, a challenge without it, and when it ends."""
        known = sorted(set(possible))
        if unknown := [a for a in known if a not in KINDS]:
            raise ValueError(f"unknown action {unknown[0]!r}; known are {', '.join(KINDS)}")
        if len(known) < self._rules.actions:
            raise ValueError(f"{len(known)} possible actions, {self._rules.actions} are asked")
        stressing = [a for a in known if a in STRESSING] if self._rules.actions else []
        actions = self._chance.sample(stressing, 1) if stressing else []
        actions += self._chance.sample([a for a in known if a not in actions], self._rules.actions - len(actions))
        self._chance.shuffle(actions)
        # Jittered, so that no clip made for one session's times fits another's windows. It hides nothing from a client that is handed
        # the whole challenge before it records: whether a prompt surprises lies with the server, which may send them one at a time.
        at_s, prompts_s = 1.0, []
        for _ in actions:
            at_s += self._chance.uniform(0.2, 1.0)
            prompts_s.append(round(at_s, 3))
            at_s += self._rules.window_s
        expires = now + self._rules.lifetime
        challenge = Challenge(
            phrase=self._phrase() if self._rules.words else None,
            actions=tuple(actions),
            issued_at=now.isoformat(),
            expires_at=expires.isoformat(),
            prompts_s=tuple(prompts_s),
        )
        return secrets.token_urlsafe(_NONCE_BYTES), challenge, expires

    def _phrase(self) -> str:
        """Words to say that this process has not asked for lately: a clip of another session says others."""
        while (phrase := language().issue(self._chance, self._rules.words)) in self._phrases:
            pass
        self._phrases.append(phrase)
        return phrase


def _next(session: Session, **changes: object) -> Session:
    return replace(session, version=session.version + 1, **changes)  # type: ignore[arg-type]


def _digest(nonce: str) -> str:
    return hashlib.sha256(nonce.encode()).hexdigest()
