"""Judge again what was judged before: the same bytes and the same bundle give the same verdict, bit for bit.

A decision carries the hashes of its inputs, the day that counted as today, the sampling, and what judged it; the files
themselves, and the claims beside them, are the caller's to keep. They are checked before anything is judged. With another
bundle a replay answers *what would have become of this submission*, as a list of changes.

What the server remembered then, of the session and of earlier clips, is taken from the decision and not asked again: a session is
used up by its first answer, and the clip itself is remembered since. So a replay says nothing about the books of today.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from kyc_guard import batch
from kyc_guard.config import Sampling, Settings
from kyc_guard.detectors.protocol import Bundle, Memory
from kyc_guard.errors import InputError, SchemaError, UnreadableError
from kyc_guard.inputs import declared_sha256, sent_inputs
from kyc_guard.pipeline import Verifier
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Decision, Evidence, Reason, UInt8Array

_BUNDLE = ("policy_sha256", "thresholds_sha256", "models", "software")
"""The fields of a decision that say what judged; all others but the time it took are the verdict."""
_NOT_VERDICT = {*_BUNDLE, "took_ms"}
_ABSENT = "(absent)"
_REMEMBERED = {"session_problem", "seen_before"}
"""The facts in which signals keep what a server's memory answered."""


@dataclass(frozen=True, slots=True)
class Change:
    """One place in which two decisions differ; ``path`` is dotted, a signal is named by its detector."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What came of judging again."""

    decision: Decision
    evidence: Evidence
    judge: Bundle
    verdict: tuple[Change, ...]
    """Empty = bit for bit the recorded verdict: outcome, scores, reasons, facts."""
    bundle: tuple[Change, ...]
    """What judges differently from then: policy, thresholds, models, software."""

    @property
    def identical(self) -> bool:
        return not self.verdict

    def to_json(self) -> dict[str, Any]:
        def listed(changes: Sequence[Change]) -> list[dict[str, Any]]:
            return [{"path": c.path, "before": c.before, "after": c.after} for c in changes]

        return {
            "submission": self.decision.submission,
            "identical": self.identical,
            "verdict": listed(self.verdict),
            "bundle": listed(self.bundle),
        }


def read_decisions(path: Path) -> list[dict[str, Any]]:
    """The decisions of a file: what ``verify --json`` prints, or the result lines of a batch without its error lines.

    Raises:
        UnreadableError, SchemaError: no such file, or something in it is no decision that can be replayed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(path, f"cannot be read ({error})", "name what verify --json printed, or a result file") from error
    try:
        rows = [json.loads(text)]
    except ValueError:
        rows = [_parsed(path, number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    rows = [row for row in rows if not (isinstance(row, dict) and row.get("outcome") == batch.ERROR)]
    for row in rows:
        _demand_decision(path, row)
    if not rows:
        raise SchemaError(path, "holds no decision", "name what verify --json printed, or a result file with decisions")
    return rows


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise SchemaError(path, f"line {number} is not JSON ({error})", "restore the file") from error


def _demand_decision(path: Path, row: Any) -> None:
    kinds = {"submission": str, "outcome": str, "inputs": dict, "declared_sha256": str, "judged_on": str, "sampling": dict, "signals": list}
    for key, kind in kinds.items():
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            raise SchemaError(path, f"is no decision that can be replayed: no usable {key!r}", "name a decision of this version or later")
    try:
        date.fromisoformat(row["judged_on"])
        Sampling.model_validate(row["sampling"])
    except ValueError as error:
        raise SchemaError(path, f"judged_on or sampling cannot be read ({error})", "restore the file") from error


def replay_all(records: Sequence[Mapping[str, Any]], source: Path, settings: Settings) -> Iterator[tuple[str, Replay | InputError]]:
    """Replay every record, or say why one cannot be: (submission, replay or error), in their order.

    Args:
        source: the folder of the one submission, or a source of `batch.run` that names them all.

    Raises:
        InputError: ``source`` cannot be read. ConfigError, ModelError: nothing may be judged.
    """
    sent = dict(batch.submissions(source))
    if len(records) == len(sent) == 1:  # a single folder may have been renamed; the hashes tell whether it is the one
        sent = {records[0]["submission"]: next(iter(sent.values()))}
    verifier: Verifier | None = None
    try:
        for record in records:
            name, sampling = record["submission"], Sampling.model_validate(record["sampling"])
            if verifier is None or verifier.settings.sampling != sampling:
                if verifier is not None:
                    verifier.close()
                verifier = Verifier(settings.model_copy(update={"sampling": sampling}))
            found = sent.get(name, UnreadableError(source, f"names no submission {name!r}", "name the folder or manifest it came from"))
            try:
                yield name, found if isinstance(found, InputError) else replay(record, found, verifier)
            except InputError as error:
                yield name, error
    finally:
        if verifier is not None:
            verifier.close()


def replay(record: Mapping[str, Any], submission: Submission, verifier: Verifier) -> Replay:
    """Judge ``submission`` as on the day of ``record``, a decision's JSON, and compare.

    Raises:
        InputError: a file is missing or is not what was judged, or other claims, device or challenge were declared.
    """
    _demand_same_inputs(record, submission, verifier.settings)
    submission = dataclasses.replace(submission, id=record["submission"])  # its folder may have been renamed
    decision, evidence = verifier.remembering(_recorded(record)).examine(submission, judged_on=date.fromisoformat(record["judged_on"]))
    # Through JSON, as the record went: floats come back bit for bit, tuples as lists.
    again = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    differing = [key for key in again if again[key] != record.get(key)]
    found = {key: tuple(changes(record.get(key), again[key], key)) or (Change(key, record.get(key), again[key]),) for key in differing}
    return Replay(
        decision=decision,
        evidence=evidence,
        judge=verifier.bundle,
        verdict=tuple(c for key, some in found.items() if key not in _NOT_VERDICT for c in some),
        bundle=tuple(c for key, some in found.items() if key in _BUNDLE for c in some),
    )


@dataclass(frozen=True, slots=True)
class _RecordedSession:
    """What the session book said of the one submission of a decision."""

    answer: Reason | None

    def problem(self, challenge: Challenge) -> Reason | None:  # noqa: ARG002 - whatever is asked, the answer was given then
        return self.answer


@dataclass(frozen=True, slots=True)
class _RecordedClip:
    """Which submission a decision's clip was found in."""

    earlier: str | None

    def find(self, sha256: str, prints: UInt8Array, *, submission: str, nearest: float) -> str | None:  # noqa: ARG002
        return self.earlier


def _recorded(record: Mapping[str, Any]) -> Memory:
    """The answers that a decision's signals hold; no book where none was asked."""
    facts = {key: value for signal in record["signals"] for key, value in signal.get("facts", {}).items() if key in _REMEMBERED}
    problem = facts.get("session_problem")
    return Memory(
        sessions=_RecordedSession(problem and Reason(problem["code"], problem["detail"])) if "session_problem" in facts else None,
        seen=_RecordedClip(facts["seen_before"]) if "seen_before" in facts else None,
    )


def _demand_same_inputs(record: Mapping[str, Any], submission: Submission, settings: Settings) -> None:
    sent, judged = sent_inputs(submission, settings.limits), record["inputs"]
    for name in judged.keys() | sent.keys():
        where = f"{record['submission']}: {name}"
        if name not in sent:
            raise UnreadableError(where, "was judged and is missing", "restore the file and its place in submission.toml")
        if name not in judged:
            raise InputError(where, "was not part of what was judged", "restore submission.toml as it was")
        if sent[name] != judged[name]:
            raise InputError(
                where, f"is not what was judged: sha256 {sent[name][:12]}…, then {judged[name][:12]}…", "restore the file as it was sent"
            )
    if declared_sha256(submission, sent) != record["declared_sha256"]:
        raise InputError(
            record["submission"], "declares other claims, device or challenge, or other roles of its files", "restore submission.toml"
        )


def changes(before: Any, after: Any, path: str) -> Iterator[Change]:
    """Where two JSON values differ, as finely as it helps a reader."""
    before, after = _named(before), _named(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from changes(before.get(key, _ABSENT), after.get(key, _ABSENT), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changes(one, other, f"{path}.{i}")
    elif before != after:
        yield Change(path, before, after)


def _named(value: Any) -> Any:
    """Signals by detector and reasons by code, so that one more of them does not shift all others."""
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        if all("detector" in v for v in value):
            return {v["detector"]: v for v in value}
        if all(set(v) == {"code", "detail"} for v in value):
            return {code: "; ".join(v["detail"] for v in value if v["code"] == code) for code in dict.fromkeys(v["code"] for v in value)}
    return value
