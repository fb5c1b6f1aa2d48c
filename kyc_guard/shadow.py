"""A candidate bundle beside the current one over a batch: what would change if it judged tomorrow.

``DIR/shadow.jsonl`` holds one line a submission: the current decision, as `kyc_guard.batch` writes it, and under ``candidate`` the
other's. ``DIR/report.json`` is made of those lines alone. Nothing the candidate says decides anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard import batch
from kyc_guard.config import Settings
from kyc_guard.errors import InputError, OutputError
from kyc_guard.provenance import identity
from kyc_guard.reports.metrics import Rate
from kyc_guard.submission import Submission
from kyc_guard.types import Decision, Outcome
from kyc_guard.whole_file import write_whole

LINES, REPORT = "shadow.jsonl", "report.json"
_BUNDLE = ("policy_sha256", "thresholds_sha256", "models")
_FUSED = "fused"


@dataclass(frozen=True, slots=True)
class Both:
    """Two answers about one submission."""

    current: Decision
    candidate: Decision

    def to_json(self) -> dict[str, Any]:
        other = self.candidate.to_json()
        bundle = {key: other.pop(key) for key in _BUNDLE}
        told = ("outcome", "score", "reasons", "message", "signals", "took_ms")
        return self.current.to_json() | {"candidate": {key: other[key] for key in told}, "candidate_bundle": bundle}


@dataclass(frozen=True, slots=True)
class LoadBoth:
    """What a worker process is started with."""

    current: Settings
    candidate: Settings

    def __call__(self) -> Callable[[Submission], Both]:
        current, candidate = (batch.verifier_on_one_core(s) for s in (self.current, self.candidate))
        # Evidence follows from the settings and the policy's gates; where these are the same, decoding once serves both.
        same_sampling = current.settings.sampling == candidate.settings.sampling
        shared = same_sampling and current.bundle.policy.quality == candidate.bundle.policy.quality

        def judge(submission: Submission) -> Both:
            decision, evidence = current.examine(submission)
            if shared:
                return Both(decision, candidate.judge(evidence))
            return Both(decision, candidate.examine(submission, judged_on=evidence.judged_on)[0])

        return judge


def run(
    source: Path,
    out: Path,
    *,
    current: Settings,
    candidate: Settings,
    make_verify: Callable[[], batch.Verify] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Judge every submission of ``source`` with both bundles and report what differs.

    Args:
        source: as `batch.run`. out: a folder; made if absent.
        options: workers, resume, timeout_s and progress of `batch.run`.

    Raises:
        InputError, ConfigError, ModelError, OutputError: as `batch.run`; also where both bundles are the same.
    """
    now, then = identity(current), identity(candidate)
    if now == then:
        raise InputError(source, "the candidate is the current bundle", "name other models, thresholds or another policy")
    _make(out)
    batch.run(
        source,
        out / LINES,
        settings=current,
        make_verify=make_verify or LoadBoth(current, candidate),
        judged_with=now | {"candidate_bundle": then},
        **options,
    )
    with (out / LINES).open(encoding="utf-8") as file:
        report = {"current": now, "candidate": then} | summarise([_needed(json.loads(line)) for line in file])
    write_whole(out / REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def _needed(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `summarise` reads of a line: a batch of any length must fit into memory."""
    if row["outcome"] == batch.ERROR:
        return {"submission": row["submission"], "outcome": row["outcome"]}

    def told(one: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "outcome": one["outcome"],
            "score": one["score"],
            "reasons": [{"code": r["code"]} for r in one["reasons"]],
            "signals": [{"detector": s["detector"], "score": s["score"]} for s in one["signals"]],
        }

    return {"submission": row["submission"], **told(row), "candidate": told(row["candidate"])}


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report of a run's lines; their order plays no part."""
    rows = sorted((row for row in lines if row["outcome"] != batch.ERROR), key=lambda row: row["submission"])
    pairs = Counter((row["outcome"], row["candidate"]["outcome"]) for row in rows)
    changed = [row for row in rows if row["outcome"] != row["candidate"]["outcome"]]
    stricter = [row for row in changed if Outcome(row["candidate"]["outcome"]).severity > Outcome(row["outcome"]).severity]
    return {
        "submissions": len(rows),
        "errors": len(lines) - len(rows),
        "changed": asdict(Rate.of(len(changed), len(rows))),
        "stricter": asdict(Rate.of(len(stricter), len(rows))),
        "milder": asdict(Rate.of(len(changed) - len(stricter), len(rows))),
        "outcomes": {
            str(o): {
                "current": asdict(Rate.of(sum(n for (a, _), n in pairs.items() if a == o), len(rows))),
                "candidate": asdict(Rate.of(sum(n for (_, b), n in pairs.items() if b == o), len(rows))),
            }
            for o in Outcome
        },
        "transitions": [
            {"from": a, "to": b, **asdict(Rate.of(n, len(rows)))}
            for (a, b), n in sorted(pairs.items(), key=lambda p: (-p[1], p[0]))
            if a != b
        ],
        "drift": [_drift(name, scores) for name, scores in _scores(rows).items()],
        "changes": [_change(row) for row in changed],
    }


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    """One changed outcome, with the reasons that came and went."""
    before, after = ([r["code"] for r in one["reasons"]] for one in (row, row["candidate"]))
    return {
        "submission": row["submission"],
        "from": row["outcome"],
        "to": row["candidate"]["outcome"],
        "score": [row["score"], row["candidate"]["score"]],
        "reasons_gone": [code for code in dict.fromkeys(before) if code not in after],
        "reasons_new": [code for code in dict.fromkeys(after) if code not in before],
    }


def _scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float | None, float | None]]]:
    """Detector -> (current, candidate) score of every submission; the fused score first."""
    pairs: dict[str, list[tuple[float | None, float | None]]] = {_FUSED: []}
    for row in rows:
        pairs[_FUSED].append((row["score"], row["candidate"]["score"]))
        others = {s["detector"]: s["score"] for s in row["candidate"]["signals"]}
        for signal in row["signals"]:
            pairs.setdefault(signal["detector"], []).append((signal["score"], others.get(signal["detector"])))
    return pairs


def _drift(name: str, pairs: list[tuple[float | None, float | None]]) -> dict[str, Any]:
    """How one detector's scores moved, candidate minus current, where both judged."""
    moved = np.array([b - a for a, b in pairs if a is not None and b is not None])
    return {
        "detector": name,
        "both_judged": len(moved),
        "only_current": sum(1 for a, b in pairs if a is not None and b is None),
        "only_candidate": sum(1 for a, b in pairs if a is None and b is not None),
        "mean": float(moved.mean()) if len(moved) else None,
        "median": float(np.median(moved)) if len(moved) else None,
        "p05": float(np.quantile(moved, 0.05)) if len(moved) else None,
        "p95": float(np.quantile(moved, 0.95)) if len(moved) else None,
        "largest": float(np.abs(moved).max()) if len(moved) else None,
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Remedy: name a folder you may write to") from error
