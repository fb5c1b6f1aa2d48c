"""Signals -> verdict, by policy and thresholds. A pure function: the same inputs give the same verdict, for ever.

The gravest finding wins (reject > review > retry > accept). Nothing is averaged into acceptance: a mandatory check that is
missing or could not judge, a reason the policy does not know, and a score that is not a number each forbid it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from kyc_guard.config import CheckPolicy, Policy, Thresholds
from kyc_guard.errors import ConfigError
from kyc_guard.types import Modality, Outcome, Reason, Signal

_ABSENT = frozenset(f"no_{modality}" for modality in Modality)


class Verdict(NamedTuple):
    """What `decide` found; see `Decision` for the meaning of the fields."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    message: str
    score: float | None


class _Finding(NamedTuple):
    outcome: Outcome
    reason: Reason


def decide(signals: Sequence[Signal], policy: Policy, thresholds: Thresholds) -> Verdict:
    """Judge one submission from all its signals.

    Raises:
        ConfigError: the policy does not name a signal's detector, or names an operating point that thresholds.toml lacks.
    """
    unknown = sorted({s.detector for s in signals} - set(policy.checks))
    if unknown:
        raise ConfigError(f"policy.toml: no [checks.{unknown[0]}]. Remedy: say what that detector's answer is worth")
    findings: list[_Finding] = []
    for name, check in policy.checks.items():
        mine = [s for s in signals if s.detector == name]
        if not mine and check.mandatory:
            findings.append(_Finding(check.on_abstain, Reason("check_missing", f"{name} did not run")))
        for signal in mine:
            findings.extend(_findings(signal, check, policy, thresholds))
    score = attack_score(signals, thresholds)
    findings.extend(_together(signals, score, policy, thresholds))
    findings.extend(_challenge_required(signals, score, policy, thresholds))
    findings.sort(key=lambda f: -f.outcome.severity)
    outcome = findings[0].outcome if findings else Outcome.ACCEPT
    reasons = tuple(dict.fromkeys(f.reason for f in findings))
    return Verdict(outcome, reasons, applicant_message(outcome, findings), score)


def rejects(signal: Signal, policy: Policy, thresholds: Thresholds) -> bool:
    """Whether this signal alone settles that the submission is rejected, whatever the others say."""
    return any(f.outcome is Outcome.REJECT for f in _findings(signal, policy.checks[signal.detector], policy, thresholds))


def _findings(signal: Signal, check: CheckPolicy, policy: Policy, thresholds: Thresholds) -> Iterator[_Finding]:
    """Everything one signal says, each with the outcome it asks for."""
    for reason in signal.reasons:
        # What the policy does not know it cannot have weighed: a person looks.
        floor = policy.reasons.get(reason.code, Outcome.REVIEW)
        if not check.mandatory and reason.code in _ABSENT:
            floor = Outcome.ACCEPT
        yield _Finding(floor, reason)
    if signal.score is None:
        if check.mandatory:
            yield _Finding(check.on_abstain, Reason("could_not_judge", signal.detector))
        return
    for point, outcome in ((check.reject_at, Outcome.REJECT), (check.review_at, Outcome.REVIEW)):
        # "not below" instead of "above", so that a NaN is on the wrong side of every limit.
        if point is not None and not signal.score < (limit := thresholds.point(signal.detector, point)):
            yield _Finding(outcome, Reason(f"{signal.detector}_suspected", f"score {signal.score:.3f} is not below {point} = {limit:.3f}"))
            return


def _together(signals: Sequence[Signal], score: float | None, policy: Policy, thresholds: Thresholds) -> Iterator[_Finding]:
    """Several mild suspicions of different detectors, each below its own review point, may add up."""
    weights = fusion_weights(thresholds)
    judged = [s.detector for s in signals if s.detector in weights and s.score is not None]
    if policy.together_review_at is None or score is None or len(judged) < 2:
        return
    if not score < (limit := thresholds.point("fusion", policy.together_review_at)):
        detail = f"{' and '.join(judged)}: fused score {score:.3f} is not below {policy.together_review_at} = {limit:.3f}"
        yield _Finding(Outcome.REVIEW, Reason("suspected_together", detail))


def _challenge_required(signals: Sequence[Signal], score: float | None, policy: Policy, thresholds: Thresholds) -> Iterator[_Finding]:
    """Where an active challenge is required and none was answered: one that was asked and failed speaks by its own check."""
    judged = {s.detector: s.score for s in signals if s.score is not None and f"{s.detector}_not_asked" not in {r.code for r in s.reasons}}
    if any(name in judged for name in policy.challenge.answered_by):
        return
    why = [f"no answer of {name}" for name in policy.challenge.required_without if name not in judged]
    for name, point in policy.challenge.required_from.items():
        value, limit = score if name == "fusion" else judged.get(name), thresholds.point(name, point)
        # "not below": what could not be judged, and a NaN, are below nothing.
        if value is None or not value < limit:
            why.append(f"{name} {'has no score' if value is None else f'{value:.3f}'}, not below {point} = {limit:.3f}")
    if why:
        yield _Finding(policy.reasons.get("challenge_required", Outcome.REVIEW), Reason("challenge_required", "; ".join(why)))


def fusion_weights(thresholds: Thresholds) -> Mapping[str, float]:
    """Detector -> weight of its log-odds in the fused score; its keys are the presentation-attack detectors.

    Raises:
        ConfigError: ``[fusion.weights]`` is missing, empty, or has a weight that is not a positive number.
    """
    table = thresholds.table("fusion").get("weights")
    if not isinstance(table, dict) or not table or not all(isinstance(w, int | float) and 0 < w < math.inf for w in table.values()):
        raise ConfigError(f"{thresholds.path}: [fusion.weights] needs a positive weight a detector. Remedy: run the calibrate command")
    return {name: float(weight) for name, weight in table.items()}


def attack_score(signals: Sequence[Signal], thresholds: Thresholds) -> float | None:
    """Fused P(attack): weighted mean of log-odds over the presentation-attack detectors that judged.

    Returns:
        ``None`` if none judged; never NaN.
    """
    weights = fusion_weights(thresholds)
    judged = [(weights[s.detector], s.score) for s in signals if s.detector in weights and s.score is not None]
    if not judged:
        return None
    mean = sum(w * _log_odds(score) for w, score in judged) / sum(w for w, _ in judged)
    return 1.0 / (1.0 + math.exp(-mean))


def _log_odds(score: float) -> float:
    # A float cannot tell certainties apart; without this bound one 0.0 or 1.0 would silence every other detector.
    # min() goes first and in this order: it turns a NaN into the upper bound.
    p = max(min(1 - 1e-9, score), 1e-9)
    return math.log(p / (1 - p))


def applicant_message(outcome: Outcome, findings: Sequence[_Finding]) -> str:
    """What the applicant may read. Only a retry is explained: explaining a suspicion would coach the attacker."""
    outcomes, sentences = _messages()
    if outcome is Outcome.RETRY:
        said = [sentences[f.reason.code] for f in findings if f.outcome is Outcome.RETRY and f.reason.code in sentences]
        if said:
            return " ".join(dict.fromkeys(said))
    return outcomes[outcome]


@cache
def _messages() -> tuple[dict[str, str], dict[str, str]]:
    text = (resources.files("kyc_guard") / "content" / "messages.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return data["outcomes"], data["reasons"]
