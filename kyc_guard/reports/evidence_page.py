"""One decision as one HTML page: pictures inside, no script, no network, readable on a phone and printable.

`page` is for the fraud team and the court: everything. `redacted_page` is for the applicant who appeals: the own pictures and
the outcome; no score, threshold or reason, which would coach an attacker, and nobody else's face.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kyc_guard.config import CheckPolicy
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.reports import evidence_pictures as pictures
from kyc_guard.reports.pages import render
from kyc_guard.types import ContainerFacts, Decision, Evidence, Signal


def page(decision: Decision, evidence: Evidence, bundle: Bundle) -> str:
    """Everything that led to the decision."""
    challenge = evidence.submission.challenge
    marks_s = challenge.prompts_s if challenge is not None else ()
    return render(
        "evidence.html",
        decision=decision,
        frames=pictures.framed(evidence),
        documents=pictures.documents_boxed(evidence, next((s for s in decision.signals if s.detector == "document"), None)),
        signals=[_signal(s, bundle, marks_s) for s in decision.signals],
        declared=list(_rows(_declared(evidence))),
        files=[(name, list(_rows(facts))) for name, facts in _files(evidence)],
        models=[(name, sha256, _weight(bundle, name)) for name, sha256 in decision.models.items()],
    )


def redacted_page(decision: Decision, evidence: Evidence) -> str:
    """What the applicant may have."""
    shown = {"frames": pictures.faces_alone(evidence), "documents": pictures.documents(evidence)}
    return render("evidence_redacted.html", decision=decision, **shown)


def _signal(signal: Signal, bundle: Bundle, marks_s: tuple[float, ...]) -> dict[str, Any]:
    check = bundle.policy.checks.get(signal.detector)
    return {
        "signal": signal,
        "points": {} if check is None else _points(signal.detector, check, bundle),
        "mandatory": check is not None and check.mandatory,
        "facts": list(_rows(signal.facts)),
        "pictures": pictures.of_signal(signal, marks_s=marks_s),
    }


def _points(detector: str, check: CheckPolicy, bundle: Bundle) -> dict[str, float]:
    named = {"review": check.review_at, "reject": check.reject_at}
    return {what: bundle.thresholds.point(detector, point) for what, point in named.items() if point is not None}


def _weight(bundle: Bundle, name: str) -> str:
    weight = bundle.weights.get(name)
    return f"version {weight.version}, {weight.licence}"


def _declared(evidence: Evidence) -> dict[str, Any]:
    submission = evidence.submission
    challenge = submission.challenge
    return {
        "subject": submission.subject,
        "claims": dict(submission.claims),
        "device": dict(submission.device),
        "challenge": None
        if challenge is None
        else {name: getattr(challenge, name) for name in ("nonce", "phrase", "actions", "prompts_s", "issued_at", "expires_at")},
    }


def _files(evidence: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    if evidence.clip is not None:
        yield "selfie", _file(evidence.clip.facts)
    for number, facts in enumerate(evidence.document_facts, start=1):
        yield f"document {number}", _file(facts)


def _file(facts: ContainerFacts) -> dict[str, Any]:
    streams = [
        " ".join(
            str(v) for v in (s.kind, s.codec, s.profile, s.width_px and f"{s.width_px}x{s.height_px}", s.fps and f"{s.fps:g} fps") if v
        )
        for s in facts.streams
    ]
    return {
        "format": facts.format,
        "bytes": facts.size_bytes,
        "duration_s": facts.duration_s,
        "streams": "; ".join(streams),
        "rotation_deg": facts.rotation_deg,
        "tags": dict(facts.tags),
        "encoder_notes": "; ".join(facts.encoder_notes),
        "has_c2pa": facts.has_c2pa,
    }


def _rows(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (dotted name, text); curves are drawn instead, empty ones left out."""
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
            for number, one in enumerate(value, start=1):
                yield from _rows(one, f"{name} {number}.")
        elif not pictures.is_curve(value) and value is not None and value not in ("", [], ()):
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
