"""A submission in, a decision out: gather once, ask every detector, fuse."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self, TypeVar

from kyc_guard import detectors as room
from kyc_guard import fusion, process
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle, Detector, Memory, Remembering, SeenClips, SessionBook, abstain
from kyc_guard.errors import ConfigError
from kyc_guard.faces import face_finder
from kyc_guard.gathering import Gatherer, together
from kyc_guard.inputs import declared_sha256, judged_inputs
from kyc_guard.provenance import software
from kyc_guard.stages import stage
from kyc_guard.submission import Media, Submission
from kyc_guard.types import Decision, Evidence, Modality, Reason, Signal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AttackScore:
    """The presentation-attack detectors' answer to one picture or clip."""

    score: float | None
    """Fused P(attack) in [0, 1]; ``None`` = could not judge."""
    reason: str | None
    """Code of the first reason when ``score`` is ``None``."""
    species: str | None
    """Likeliest PAI species, from the detector with the highest score."""
    signals: tuple[Signal, ...]


class Verifier:
    """Judges submissions. One instance may be shared between threads; a ``with`` closes it.

    Args:
        sessions: the sessions this server issued. With them no submission is accepted that names none, or not its own.
        seen: clips of earlier submissions, such as `kyc_guard.seen_clips.ClipMemory`.

    Raises:
        ConfigError: policy, thresholds and detectors do not fit together, or no detector would ask what was handed in. ModelError: a
            weight is missing or altered.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        detectors: Sequence[type[Detector]] | None = None,
        sessions: SessionBook | None = None,
        seen: SeenClips | None = None,
    ) -> None:
        self.settings = settings or Settings()
        process.settle()
        # Not when the first face is looked for: what MediaPipe imports keeps an exception, whose frames would hold on to that clip.
        face_finder()
        self.bundle = Bundle.load(self.settings)
        self.detectors = tuple(kind.load(self.bundle) for kind in (room.DETECTORS if detectors is None else detectors))
        self._demand_agreement()
        self.detectors = _remembering(self.detectors, Memory(sessions, seen))
        weights = self.bundle.weights
        self.models: Mapping[str, str] = MappingProxyType({name: weights.get(name).sha256 for name in weights.names()})
        """Model name -> sha256 of its verified file."""
        providers = sorted({net.provider for net in self.bundle.nets.values()})
        self._software = MappingProxyType({**software(), "nets": f"{' and '.join(providers) or 'none'}, {self.settings.precision}"})
        self._pool = ThreadPoolExecutor(self.settings.threads - 1, "kyc-guard") if self.settings.threads > 1 else None
        policy = self.bundle.policy
        self._gatherer = Gatherer(self.settings.limits, self.settings.sampling, policy, policy.gate("other_face_ratio"), self._share)

    def verify(self, submission: Submission) -> Decision:
        """Decode, ask every detector, fuse.

        Raises:
            InputError: a file of the submission cannot be read or passes a limit.
        """
        return self.examine(submission)[0]

    def examine(self, submission: Submission, *, judged_on: date | None = None) -> tuple[Decision, Evidence]:
        """As `verify`, with the evidence for those who draw it or judge it again.

        Args:
            judged_on: the day that counts as today, to replay an earlier decision.
        """
        started = time.perf_counter()
        evidence, answers = self._judge(submission, judged_on)
        return self._decide(evidence, answers, started), evidence

    def judge(self, evidence: Evidence) -> Decision:
        """Judge what was gathered already, by this verifier or by one with the same sampling and quality gates."""
        started = time.perf_counter()
        return self._decide(evidence, self._ask_in_turn(evidence), started)

    def _decide(self, evidence: Evidence, answers: Mapping[str, _Answer], started: float) -> Decision:
        signals = tuple(answer.signal for answer in answers.values())
        inputs = judged_inputs(evidence)
        verdict = fusion.decide(signals, self.bundle.policy, self.bundle.thresholds)
        return Decision(
            submission=evidence.submission.id,
            outcome=verdict.outcome,
            score=verdict.score,
            reasons=verdict.reasons,
            message=verdict.message,
            signals=signals,
            policy_sha256=self.bundle.policy.sha256,
            thresholds_sha256=self.bundle.thresholds.sha256,
            models=self.models,
            inputs=inputs,
            declared_sha256=declared_sha256(evidence.submission, inputs),
            judged_on=evidence.judged_on,
            sampling=MappingProxyType(self.settings.sampling.model_dump()),
            software=self._software,
            took_ms={"all": (time.perf_counter() - started) * 1000, **{name: answer.took_ms for name, answer in answers.items()}},
        )

    def gather(self, submission: Submission) -> Evidence:
        """Decode everything the detectors need, once.

        What was not sent becomes a problem entry, which detectors turn into an abstention.

        Raises:
            InputError: a file that was sent cannot be read or passes a limit.
        """
        needs = _needs(self.detectors)
        return together(self._gatherer.documents(submission, needs), self._gatherer.selfie(submission, needs))

    def attack_score(self, media: Media, name: str) -> AttackScore:
        """Run only the presentation-attack detectors (those with a weight in ``[fusion.weights]``) on a picture or clip.

        Args:
            media: a file, its bytes, or (H, W, 3) or (T, H, W, 3) uint8 RGB.
            name: what to call it in errors.

        Raises:
            InputError: the media cannot be read or passes a limit.
        """
        weights = fusion.fusion_weights(self.bundle.thresholds)
        asked = tuple(d for d in self.detectors if d.name in weights)
        evidence = self._gatherer.selfie(Submission(id=name, selfie=media), _needs(asked))
        signals = tuple(detector(evidence) for detector in asked)
        score = fusion.attack_score(signals, self.bundle.thresholds)
        judged = [s for s in signals if s.score is not None]
        return AttackScore(
            score=score,
            reason=None if score is not None else signals[0].reasons[0].code,
            species=max(judged, key=lambda s: s.score or 0.0).species if judged else None,
            signals=signals,
        )

    def _judge(self, submission: Submission, judged_on: date | None) -> tuple[Evidence, Mapping[str, _Answer]]:
        """Evidence, and one answer a detector in their order.

        With more than one thread the document is read and judged while the selfie is still being decoded, and everything else by
        whichever thread is free. Which one it was changes no answer.
        """
        begun = self._share(partial(self._begin, submission, judged_on))
        selfie = self._gatherer.selfie(submission, _needs(self.detectors))
        documents, asked = begun()
        evidence = together(documents, selfie)
        if self.bundle.policy.stop_at_reject:
            return evidence, self._ask_in_turn(evidence)
        asked |= {d.name: self._share(partial(_ask, d, evidence)) for d in self.detectors if d.name not in asked}
        # Other threads begin with the first: so this one meets them halfway.
        answers = {name: answer() for name, answer in reversed(asked.items())}
        return evidence, {d.name: answers[d.name] for d in self.detectors}

    def _begin(self, submission: Submission, judged_on: date | None) -> tuple[Evidence, dict[str, Callable[[], _Answer]]]:
        """Evidence of the documents alone, and what those say of it who ask for nothing else.

        On one thread both come first, so that reading a page and a clip's frames are not in memory together.
        """
        documents = self._gatherer.documents(submission, _needs(self.detectors))
        if judged_on is not None:
            documents = replace(documents, judged_on=judged_on)
        if self.bundle.policy.stop_at_reject:
            return documents, {}
        early = [d for d in self.detectors if d.needs == {Modality.DOCUMENT}]  # one that needs nothing may still look at everything
        return documents, {d.name: self._share(partial(_ask, d, documents)) for d in early}

    def _ask_in_turn(self, evidence: Evidence) -> Mapping[str, _Answer]:
        """One answer a detector in their order; where the policy wants that, those after one that rejects are not asked."""
        answers, settled = dict[str, _Answer](), None
        for detector in self.detectors:
            if settled is not None:
                answers[detector.name] = _Answer(abstain(detector, Reason("not_asked", f"{settled} rejects already")), 0.0)
                continue
            answers[detector.name] = answer = _ask(detector, evidence)
            if self.bundle.policy.stop_at_reject and fusion.rejects(answer.signal, self.bundle.policy, self.bundle.thresholds):
                settled = detector.name
        return answers

    def _share(self, work: Callable[[], T]) -> Callable[[], T]:
        """Offer ``work`` to another thread; without one it is done at once. Calling what is returned gives its result, done here where no
        thread has begun it.
        """
        if self._pool is None:
            done = work()
            return lambda: done
        future = self._pool.submit(work)
        return lambda: work() if future.cancel() else future.result()

    def remembering(self, memory: Memory) -> Verifier:
        """The same verifier with another memory. Models and threads are shared: close only the first."""
        twin = copy(self)
        twin.detectors = _remembering(self.detectors, memory)
        return twin

    def close(self) -> None:
        """Let go of the models; the verifier judges nothing afterwards."""
        self.detectors = ()
        if self._pool:
            self._pool.shutdown()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _demand_agreement(self) -> None:
        """Policy, thresholds and detectors must speak of the same things; half a policy judges nothing."""
        policy, thresholds, path = self.bundle.policy, self.bundle.thresholds, self.settings.policy_path
        have = {d.name for d in self.detectors}
        for name in sorted(have - set(policy.checks)):
            raise ConfigError(f"{path}: no [checks.{name}]. Remedy: say what that detector's answer is worth")
        for name in sorted(set(policy.checks) - have):
            raise ConfigError(f"{path}: [checks.{name}] names no detector. Remedy: remove or correct it")
        for name in sorted(set(fusion.fusion_weights(thresholds)) - have):
            raise ConfigError(f"{thresholds.path}: [fusion.weights] names no detector: {name}. Remedy: run the calibrate command")
        for name, point in policy.challenge.required_from.items():
            thresholds.point(name, point)
        for name, check in policy.checks.items():
            review, reject = (None if p is None else thresholds.point(name, p) for p in (check.review_at, check.reject_at))
            if review is not None and reject is not None and review > reject:
                raise ConfigError(f"{path}: [checks.{name}] would reject at {reject} what it reviews only at {review}")


def _remembering(detectors: Sequence[Detector], memory: Memory) -> tuple[Detector, ...]:
    # A book that nobody asks would look like protection.
    asked = {d.name for d in detectors if isinstance(d, Remembering)}
    for name, given in (("challenge", memory.sessions), ("injection", memory.seen)):
        if given is not None and name not in asked:
            raise ConfigError(f"no detector {name} asks the sessions or clips that were handed in. Remedy: load it, or hand none in")
    return tuple(d.remembering(memory) if isinstance(d, Remembering) else d for d in detectors)


def _needs(asked: Sequence[Detector]) -> frozenset[Modality]:
    if not asked:
        raise RuntimeError("this Verifier is closed")
    return frozenset[Modality]().union(*(d.needs for d in asked))


class _Answer(NamedTuple):
    signal: Signal
    took_ms: float


def _ask(detector: Detector, evidence: Evidence) -> _Answer:
    started = time.perf_counter()
    with stage(detector.name):
        signal = detector(evidence)
    return _Answer(signal, (time.perf_counter() - started) * 1000)
