"""Do the decisions of these days still look like those of the baseline? Reads result files; no model is run, no media opened.

A figure raises an alarm when it passes its limit in ``[monitor]`` of policy.toml and the shift is more than chance: small
batches shift by themselves. Submissions are taken for independent; one applicant sending ten makes chance look too small.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2, ks_2samp

from kyc_guard.config import Policy
from kyc_guard.errors import ConfigError, SchemaError, UnreadableError
from kyc_guard.reports.differences import chance
from kyc_guard.reports.metrics import CONFIDENCE, Rate, clopper_pearson
from kyc_guard.types import Outcome

_BINS = 10
_RARE = 5
"""Kinds seen less often, both sides together, are counted as one: Cochran's rule for tables of counts."""
_JUDGED = (Outcome.ACCEPT, Outcome.REVIEW, Outcome.REJECT)


@dataclass(slots=True)
class Decisions:
    """Stored decisions, by column."""

    ids: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """Of `Outcome`, or ``error``."""
    days: list[str] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """``fused`` or detector -> P(attack), NaN where it abstained; errors are left out."""
    quality: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Detector -> quality of what it judged; where it says so."""
    devices: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """platform, model, camera -> how often each was declared."""
    bundles: Counter[str] = field(default_factory=Counter)
    """What judged: policy, thresholds and models, as one text."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one result line; see docs/results.md."""
        outcome = str(row["outcome"])
        if outcome != "error":
            for signal in row["signals"]:
                self.scores[signal["detector"]].append(_number(signal["score"]))
                if signal.get("quality") is not None:
                    self.quality[signal["detector"]].append(float(signal["quality"]))
            self.scores["fused"].append(_number(row["score"]))
            for kind in ("platform", "model", "camera"):
                self.devices[kind][str(row.get("device", {}).get(kind, "not declared"))] += 1
            self.bundles[json.dumps([row["policy_sha256"], row["thresholds_sha256"], row["models"]], sort_keys=True)] += 1
        self.ids.append(str(row["submission"]))
        self.outcomes.append(outcome)
        self.days.append(str(row.get("judged_on", "unknown")))


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)


def read(paths: Sequence[Path]) -> Decisions:
    """All result lines of ``paths``; a last line without its end, which a running batch is still writing, is left out.

    Raises:
        UnreadableError: a file cannot be read. SchemaError: a line is no result line, or there is none.
    """
    found = Decisions()
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith("\n"):
                        break
                    try:
                        found.add(json.loads(line))
                    except (ValueError, KeyError, TypeError, AttributeError) as error:
                        raise SchemaError(
                            f"{path}:{number}", f"is no result line ({error!r})", "give files that kyc-guard batch wrote"
                        ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableError(path, f"cannot be read ({error})", "name a readable result file") from error
    if not found.ids:
        raise SchemaError(", ".join(map(str, paths)), "holds no decision", "give files that kyc-guard batch wrote")
    return found


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing looked at.

    Attributes:
        value: what is held against ``limit``: a PSI, a KS distance, a rise of a share, or a lower bound.
        chance: probability of such a shift by chance; ``None`` where ``value`` is itself a bound.
        alarm: beyond the limit, and not by chance.
    """

    name: str
    measure: str
    baseline: float | None
    current: float | None
    value: float
    limit: float
    chance: float | None
    alarm: bool


def monitor(current: Decisions, baseline: Decisions, policy: Policy, reviewed: Mapping[str, bool] | None = None) -> dict[str, Any]:
    """Hold ``current`` against ``baseline``.

    Args:
        reviewed: submission -> whether a reviewer found it honest.

    Returns:
        JSON-able: ``alarms`` (names), ``figures`` (see `Figure`), ``days``, ``bpcer`` (``None`` without ``reviewed``), ``notes``.

    Raises:
        ConfigError: policy.toml lacks a limit.
    """
    limits = _Limits(policy)
    figures = [*_drifts(current, baseline, limits), *_devices(current, baseline, limits), *_shares(current, baseline, limits)]
    days = list(_days(current, baseline, limits))
    bpcer = None if reviewed is None else estimate_bpcer(current, reviewed)
    figures += [day for _, _, day in days if day.alarm]
    if bpcer is not None and bpcer["n"]:
        limit = limits["bpcer"]
        figures.append(Figure("BPCER", "lower bound", None, bpcer["value"], bpcer["low"], limit, None, alarm=bpcer["low"] > limit))
    return {
        "decisions": len(current.ids),
        "baseline_decisions": len(baseline.ids),
        "alarms": [f"{f.name}: {f.measure}" for f in figures if f.alarm],
        "figures": [asdict(f) for f in figures],
        "days": [{"day": day, "reviews": asdict(rate), "alarm": figure.alarm} for day, rate, figure in days],
        "bpcer": bpcer,
        "notes": list(_notes(current, baseline)),
    }


class _Limits:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __getitem__(self, name: str) -> float:
        try:
            return self._policy.monitor[name]
        except KeyError:
            raise ConfigError(f"policy.toml: [monitor] lacks {name}. Remedy: copy it from the shipped policy.toml") from None


def _drifts(current: Decisions, baseline: Decisions, limits: _Limits) -> Iterator[Figure]:
    """Scores and qualities: PSI over the baseline's tenths, and the distance of Kolmogorov and Smirnov."""
    for what, now, then in (("score", current.scores, baseline.scores), ("quality", current.quality, baseline.quality)):
        for name in sorted(set(now) & set(then)):
            a, b = (np.array([v for v in column[name] if not math.isnan(v)]) for column in (then, now))
            if not a.size or not b.size:
                continue
            edges = np.unique(np.quantile(a, np.arange(1, _BINS) / _BINS))
            counts = [np.bincount(np.searchsorted(edges, side, side="right"), minlength=edges.size + 1) for side in (a, b)]
            yield _psi_figure(f"{name} {what}", counts[0], counts[1], limits, (float(np.median(a)), float(np.median(b))))
            test = ks_2samp(a, b, method="asymp")
            distance, p = float(test.statistic), float(test.pvalue)
            alarm = distance > limits["ks"] and p < limits["significance"]
            yield Figure(f"{name} {what}", "KS", float(np.median(a)), float(np.median(b)), distance, limits["ks"], p, alarm)


def _devices(current: Decisions, baseline: Decisions, limits: _Limits) -> Iterator[Figure]:
    for kind in sorted(set(current.devices) & set(baseline.devices)):
        now, then = current.devices[kind], baseline.devices[kind]
        common = sorted(name for name, n in (now + then).items() if n >= _RARE)
        counts = [np.array([*(side[c] for c in common), sum(n for name, n in side.items() if name not in common)]) for side in (then, now)]
        used = counts[0] + counts[1] > 0
        yield _psi_figure(f"device {kind}", counts[0][used], counts[1][used], limits, (None, None))


def _psi_figure(name: str, then: Any, now: Any, limits: _Limits, medians: tuple[float | None, float | None]) -> Figure:
    value = psi(then, now)
    # Without a shift, PSI / (1/n + 1/m) is chi-squared distributed: Yurdakul, "Statistical properties of population stability index", 2018.
    p = float(chi2.sf(value / (1.0 / then.sum() + 1.0 / now.sum()), max(1, then.size - 1)))
    return Figure(name, "PSI", *medians, value, limits["psi"], p, value > limits["psi"] and p < limits["significance"])


def psi(then: Any, now: Any) -> float:
    """Population stability index of two counts by bin: sum of (q - p) ln(q / p); half a case a bin keeps empty ones finite.

    Args:
        then, now: (B,) counts of the same bins.
    """
    p, q = ((side + 0.5) / (side.sum() + 0.5 * side.size) for side in (np.asarray(then, float), np.asarray(now, float)))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(current: Decisions, baseline: Decisions, limits: _Limits) -> Iterator[Figure]:
    """Shares that rose: of every outcome, and of every detector's abstentions."""
    for outcome in (*Outcome, "error"):
        now, then = (Rate.of(side.outcomes.count(outcome), len(side.outcomes)) for side in (current, baseline))
        yield _rise(f"outcome {outcome}", now, then, limits["share_rise"], limits)
    for name in sorted(set(current.scores) & set(baseline.scores)):
        now, then = (Rate.of(int(np.isnan(side.scores[name]).sum()), len(side.scores[name])) for side in (current, baseline))
        yield _rise(f"{name} abstentions", now, then, limits["share_rise"], limits)


def _rise(name: str, now: Rate, then: Rate, limit: float, limits: _Limits) -> Figure:
    rise, p = (now.value or 0.0) - (then.value or 0.0), chance(now, then)
    return Figure(name, "rise", then.value, now.value, rise, limit, p, rise > limit and p < limits["significance"])


def _days(current: Decisions, baseline: Decisions, limits: _Limits) -> Iterator[tuple[str, Rate, Figure]]:
    """Each day's review load against that of the whole baseline."""
    usual = Rate.of(baseline.outcomes.count(Outcome.REVIEW), len(baseline.outcomes))
    every, reviews = Counter(current.days), Counter(d for d, o in zip(current.days, current.outcomes, strict=True) if o == Outcome.REVIEW)
    for day, n in sorted(every.items()):
        rate = Rate.of(reviews[day], n)
        yield day, rate, _rise(f"review load of {day}", rate, usual, limits["review_load_rise"], limits)


def _notes(current: Decisions, baseline: Decisions) -> Iterator[str]:
    if strange := set(current.bundles) - set(baseline.bundles):
        n = sum(current.bundles[b] for b in strange)
        yield f"{n} of {len(current.ids)} were judged by a policy, thresholds or models that judged nothing of the baseline: expect shifts"
    for name in sorted(set(current.scores) ^ set(baseline.scores)):
        yield f"{name} judged on one side only: not compared"


def read_reviewed(path: Path) -> dict[str, bool]:
    """Submission -> whether a reviewer found it honest, from a CSV with the columns submission, label (bona_fide | attack).

    Raises:
        UnreadableError: it cannot be read. SchemaError: columns, labels, or two labels for one submission.
    """
    found: dict[str, bool] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := {"submission", "label"} - set(reader.fieldnames or []):
                raise SchemaError(path, f"has no column {min(missing)}", "give a CSV with submission,label")
            for cells in reader:
                name, label = cells["submission"], (cells["label"] or "").strip()
                if label not in {"bona_fide", "attack"}:
                    raise SchemaError(f"{path}:{reader.line_num}", f"label is {label!r}", "write bona_fide or attack")
                if found.setdefault(name, label == "bona_fide") != (label == "bona_fide"):
                    raise SchemaError(f"{path}:{reader.line_num}", f"{name!r} has two labels", "keep one of them")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(path, f"cannot be read ({error})", "name a readable UTF-8 CSV file") from error
    return found


def estimate_bpcer(decisions: Decisions, reviewed: Mapping[str, bool]) -> dict[str, Any]:
    """Share of honest applicants among all decisions but retries that were not accepted, from those a person looked at.

    Reviewed cases are no sample of all cases: so the share of honest ones is estimated within each outcome and weighted by how
    many there are. Accepted cases nobody looked at are taken for honest; rejected or reviewed ones nobody looked at may be
    anything, and widen the interval to that.

    Returns:
        value (``None`` where an outcome has no reviewed case), low, high, n (reviewed cases that count), unknown (reviewed
        cases that are no decision here), confidence, strata.

    Source: exact interval of each outcome's share at a Bonferroni-corrected level; the rate rises or falls with each alone.
    """
    strata: dict[str, dict[str, Any]] = {}
    seen = {
        o: [reviewed[i] for i, out in zip(decisions.ids, decisions.outcomes, strict=True) if out == o and i in reviewed] for o in _JUDGED
    }
    level = 1.0 - (1.0 - CONFIDENCE) / max(1, sum(bool(labels) for labels in seen.values()))
    for outcome, labels in seen.items():
        every = decisions.outcomes.count(outcome)
        strata[outcome] = {
            "decisions": every,
            "reviewed": len(labels),
            "honest": sum(labels),
            **_honest_share(outcome, labels, every, level),
        }
    rates = {end: _not_accepted(strata, low_if_held=end == "low") for end in ("low", "high")}
    known = all(s["value"] is not None for s in strata.values() if s["decisions"])
    value = _share_of({o: s["decisions"] * (s["value"] or 0.0) for o, s in strata.items()}) if known else None
    return {
        "value": value,
        **rates,
        "n": sum(map(len, seen.values())),
        "unknown": len(set(reviewed) - set(decisions.ids)),
        "confidence": CONFIDENCE,
        "strata": strata,
    }


def _honest_share(outcome: Outcome, labels: Sequence[bool], every: int, level: float) -> dict[str, float | None]:
    if not labels:
        return {"value": 1.0, "low": 1.0, "high": 1.0} if outcome is Outcome.ACCEPT else {"value": None, "low": 0.0, "high": 1.0}
    value = sum(labels) / len(labels)
    low, high = (value, value) if len(labels) == every else clopper_pearson(sum(labels), len(labels), level)
    return {"value": value, "low": low, "high": high}


def _not_accepted(strata: Mapping[str, Mapping[str, Any]], *, low_if_held: bool) -> float:
    # The rate rises with the honest among the held and falls with the honest among the accepted.
    ends = {o: "low" if (o != Outcome.ACCEPT) == low_if_held else "high" for o in strata}
    return _share_of({o: s["decisions"] * s[ends[o]] for o, s in strata.items()})


def _share_of(honest: Mapping[str, float]) -> float:
    total = sum(honest.values())
    return (total - honest[Outcome.ACCEPT]) / total if total else 0.0
