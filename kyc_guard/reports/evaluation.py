"""Labelled scores -> the figures of an ISO/IEC 30107-3 report, as JSON and as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kyc_guard.reports import metrics
from kyc_guard.reports.differences import against_others, needed
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import ERRORS, Presentation, Score, Table
from kyc_guard.reports.rehearsal import NOTICE, rehearse
from kyc_guard.whole_file import write_whole

_WORST = 10
_CURVE_STEPS = 40
"""Points of a DET curve a standard deviation."""


def report_from_scores(
    rows: Sequence[Presentation],
    scores: Sequence[Score],
    out: Path,
    *,
    points: Mapping[str, float] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Work out the figures of ``rows`` with their ``scores`` (in the same order); write report.json and report.html into ``out``.

    Args:
        points: name -> threshold fixed beforehand, at which APCER and BPCER are reported.
        about: what was judged by what; goes into the report as it is.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    from kyc_guard.reports.evaluation_page import page  # matplotlib and jinja2 take a second; reading figures needs neither

    report = figures(rows, scores, points=points or {}, about=about or {})
    write_whole(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_whole(out / "report.html", page(report))
    return report


def figures(
    rows: Sequence[Presentation], scores: Sequence[Score], *, points: Mapping[str, float], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything report.json holds. Rates are ``{errors, n, value, low, high}`` with exact 95 % intervals."""
    table = Table.of(rows, scores)
    heard = table.where(~table.silent)
    reliability = metrics.reliability(heard.scores, heard.is_attack)
    report = {
        "standard": f"Figures as defined in ISO/IEC 30107-3:2023. {NOTICE}",
        "confidence": metrics.CONFIDENCE,
        "about": dict(about),
        "counts": _counts(table, rows, scores),
        "operating_points": {name: _at_threshold(table, t) for name, t in points.items()},
        "bpcer_at_apcer": [
            {"name": name, **asdict(point)}
            for name, target in metrics.BPCER_POINTS.items()
            for over in ("max_species", "pooled")
            if (point := metrics.bpcer_at_apcer(table.bona_fide, table.attacks, target, over))
        ],
        "non_response": _non_response(table),
        "impostors": _impostors(table, points),
        "secondary": _secondary(table),
        "species": _species(table, points),
        "confusion": confusion(table, points),
        "sources": _slices(table, table.source, points),
        "groups": _slices(table, table.group, points) if np.any(table.group != "") else [],
        "differentials": [d for of, key in _divisions(table) for d in _differentials(table, of, key, points)],
        "rehearsal": _rehearsal(table, points),
        "reliability": reliability,
        "calibration_error": metrics.calibration_error(reliability),
        "brier": metrics.brier(heard.scores, heard.is_attack),
        "det": _curves(table),
        "histogram": _histogram(table),
        "worst": _worst_rows(table),
        "errors": _error_rows(rows, scores),
    }
    return cast("dict[str, Any]", _plain(report))


def _counts(table: Table, rows: Sequence[Presentation], scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "presentations": table.scores.size,
        "bona_fide": int(np.count_nonzero(~table.is_attack)),
        "attack": int(np.count_nonzero(table.is_attack)),
        "no_response": int(np.count_nonzero(table.silent)),
        "subjects": len(np.unique(table.cluster)),
        "errors": sum(r.problem is not None or s.reason in ERRORS for r, s in zip(rows, scores, strict=True)),
    }


def _at_threshold(table: Table, threshold: float) -> dict[str, Any]:
    """Both error rates at one threshold; with non-responses left out, and with them counted as called an attack."""
    by_species = {name: metrics.apcer(a, threshold) for name, a in table.attacks.items()}
    bpcer = metrics.bpcer(table.bona_fide, threshold)
    asked = Counter(table.species[table.is_attack].tolist())
    closed = {name: Rate.of(rate.errors, asked[name]) for name, rate in by_species.items()}
    silent_bona_fide = int(np.count_nonzero(table.silent & ~table.is_attack))
    return {
        "threshold": threshold,
        "apcer_max": _named(metrics.worst(by_species)),
        "apcer_pooled": metrics.apcer(table.attack, threshold),
        "bpcer": bpcer,
        "no_response_is_attack": {
            "apcer_max": _named(metrics.worst(closed)),
            "bpcer": Rate.of(bpcer.errors + silent_bona_fide, bpcer.n + silent_bona_fide),
        },
    }


def _named(worst: tuple[str, Rate] | None) -> dict[str, Any] | None:
    return None if worst is None else {"species": worst[0], **asdict(worst[1])}


def _non_response(table: Table) -> dict[str, Any]:
    def of(mask: NDArray[np.bool_]) -> Rate:
        return metrics.non_response(int(np.count_nonzero(table.silent & mask)), int(np.count_nonzero(mask)))

    apnrr = {str(s): of(table.is_attack & (table.species == s)) for s in np.unique(table.species[table.is_attack])}
    return {
        "bpnrr": of(~table.is_attack),
        "apnrr_max": _named(metrics.worst(apnrr)),
        "apnrr": apnrr,
        "reasons": dict(Counter(table.reason[table.silent].tolist()).most_common()),
    }


def _secondary(table: Table) -> dict[str, Any]:
    """Threshold-free figures, useful to compare models; the standard asks for none of them."""
    if not table.bona_fide.size or not table.attack.size:
        return {"eer": None, "auc": None, "auc_low": None, "auc_high": None}
    heard = table.where(~table.silent)
    low, high = metrics.auc_interval(heard.scores, heard.is_attack, heard.cluster.tolist()) or (None, None)
    curve = metrics.det(table.bona_fide, table.attack)
    return {"eer": metrics.eer(curve), "auc": metrics.auc(table.bona_fide, table.attack), "auc_low": low, "auc_high": high}


def _species(table: Table, points: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = []
    for name, scored in table.attacks.items():
        mine = table.is_attack & (table.species == name)
        rows.append(
            {
                "species": name,
                "n": int(np.count_nonzero(mine)),
                "subjects": len(np.unique(table.cluster[mine])),
                "apnrr": metrics.non_response(int(np.count_nonzero(table.silent & mine)), int(np.count_nonzero(mine))),
                "apcer": {point: metrics.apcer(scored, threshold) for point, threshold in points.items()},
                "auc": metrics.auc(table.bona_fide, scored) if scored.size and table.bona_fide.size else None,
            }
        )
    return rows


def _slices(table: Table, key: NDArray[np.str_], points: Mapping[str, float]) -> list[dict[str, Any]]:
    """The same few figures for every value of a column: sources, groups of people."""
    rows = []
    for name in np.unique(key):
        part = table.where(key == name)
        rows.append(
            {
                "name": str(name),
                "bona_fide": int(np.count_nonzero(~part.is_attack)),
                "attack": int(np.count_nonzero(part.is_attack)),
                "no_response": Rate.of(int(np.count_nonzero(part.silent)), part.scores.size),
                "bpcer": {point: metrics.bpcer(part.bona_fide, threshold) for point, threshold in points.items()},
                "apcer": {point: metrics.apcer(part.attack, threshold) for point, threshold in points.items()},
                "auc": metrics.auc(part.bona_fide, part.attack) if part.bona_fide.size and part.attack.size else None,
            }
        )
    return rows


def _impostors(table: Table, points: Mapping[str, float]) -> dict[str, Any] | None:
    """IAPMR and IAPAR of each species, over the attacks whose comparison is known; ``None`` where none is."""
    known = table.where(table.is_attack & ~np.isnan(table.matched))
    if not known.scores.size or not points:
        return None
    name, threshold = _accepting_below(points)
    matched = known.matched == 1.0
    accepted = matched & (known.scores < threshold)  # no score is NaN: not below, not accepted
    iapmr, iapar = {}, {}
    for species in np.unique(known.species).tolist():
        mine = known.species == species
        iapmr[species] = Rate.of(int(np.count_nonzero(matched & mine)), int(np.count_nonzero(mine)))
        iapar[species] = Rate.of(int(np.count_nonzero(accepted & mine)), int(np.count_nonzero(mine)))
    return {
        "point": name,
        "threshold": threshold,
        "iapar_max": _named(metrics.worst(iapar)),
        "species": [{"species": species, "iapmr": iapmr[species], "iapar": iapar[species]} for species in iapar],
    }


def _accepting_below(points: Mapping[str, float]) -> tuple[str, float]:
    """The lowest operating point: from there on a submission is not accepted, whatever else happens to it."""
    return min(points.items(), key=lambda point: point[1])


def confusion(table: Table, points: Mapping[str, float]) -> dict[str, Any] | None:
    """What was presented against what it was taken for, at the lowest operating point."""
    if not points or not table.scores.size:
        return None
    name, threshold = _accepting_below(points)
    truth = np.where(table.is_attack, table.species, "bona fide")
    named = np.where(table.predicted == "", "unnamed attack", table.predicted)
    taken_for = np.where(table.silent, "no score", np.where(table.scores < threshold, "bona fide", named))
    columns = sorted(set(taken_for.tolist()), key=lambda c: (c == "no score", c != "bona fide", c))
    rows = []
    for kind in sorted(set(truth.tolist()), key=lambda k: (k != "bona fide", k)):
        counts = Counter(taken_for[truth == kind].tolist())
        rows.append({"name": kind, "n": sum(counts.values()), "counts": [counts[c] for c in columns]})
    caught = table.is_attack & ~np.isin(taken_for, ["no score", "bona fide"])
    return {
        "point": name,
        "threshold": threshold,
        "columns": columns,
        "rows": rows,
        "named_right": Rate.of(int(np.count_nonzero(caught & (taken_for == truth))), int(np.count_nonzero(caught))),
    }


def _divisions(table: Table) -> Iterator[tuple[str, NDArray[np.str_]]]:
    """By what presentations are told apart: source, group, and each part of a group such as ``f|18-30``."""
    yield "source", table.source
    yield "group", table.group
    parts = [g.split("|") for g in table.group.tolist()]
    most = max(map(len, parts), default=0)
    for place in range(most if most > 1 else 0):
        yield f"part {place + 1} of group", np.array([p[place] if place < len(p) else "" for p in parts], dtype=np.str_)


def _differentials(table: Table, of: str, key: NDArray[np.str_], points: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Each group's BPCER and APCER against all others', where there are two groups at least; rows without a name are left out."""
    known = table.where((key != "") & ~table.silent)
    key = key[(key != "") & ~table.silent]
    names, place = np.unique(key, return_inverse=True)
    for rate, mine in (("BPCER", ~known.is_attack), ("APCER", known.is_attack)):
        n = np.bincount(place[mine], minlength=names.size)
        for point, threshold in points.items():
            wrong = mine & ((known.scores >= threshold) != known.is_attack)
            errors = np.bincount(place[wrong], minlength=names.size)
            rates = {str(g): Rate.of(int(e), int(m)) for g, e, m in zip(names, errors, n, strict=True) if m}
            if len(rates) > 1:
                overall = Rate.of(int(errors.sum()), int(n.sum()))
                base = max(overall.value or 0.0, 0.01)  # of a rate of 0 no doubling can be spoken of
                yield {
                    "of": of,
                    "rate": rate,
                    "point": point,
                    "overall": overall,
                    "base": base,
                    "needed_for_double": needed(base, 2 * base) if base < 1.0 else None,
                    "groups": [asdict(d) for d in against_others(rates)],
                }


def _rehearsal(table: Table, points: Mapping[str, float]) -> dict[str, Any] | None:
    """The shape of an iBeta test; see `kyc_guard.reports.rehearsal`."""
    if not points:
        return None
    name, threshold = _accepting_below(points)
    asked = Counter(table.species[table.is_attack].tolist())
    apcer = {species: Rate.of(metrics.apcer(a, threshold).errors, asked[species]) for species, a in table.attacks.items()}
    bpcer = metrics.bpcer(table.bona_fide, threshold)
    return {
        "notice": NOTICE,
        "point": name,
        "threshold": threshold,
        "apcer": [{"species": species, **asdict(rate)} for species, rate in apcer.items()],
        "bpcer": bpcer,
        "levels": rehearse(apcer, bpcer),
    }


def _curves(table: Table) -> list[dict[str, Any]]:
    """DET curves, thinned: all attacks, then each species."""
    if not table.bona_fide.size:
        return []
    curves = []
    for name, scored in ({"all attacks": table.attack} | (table.attacks if len(table.attacks) > 1 else {})).items():
        if scored.size:
            curve = metrics.det(table.bona_fide, scored)
            # Thinned on normal-deviate axes, so that the rare errors at both ends keep their steps.
            grid = np.column_stack([(_CURVE_STEPS * ndtri(np.clip(e, 1e-4, 1 - 1e-4))).round() for e in (curve.apcer, curve.bpcer)])
            keep = np.flatnonzero(np.any(np.diff(grid, axis=0, prepend=np.nan) != 0, axis=1))
            curves.append({"name": name, "apcer": curve.apcer[keep].tolist(), "bpcer": curve.bpcer[keep].tolist()})
    return curves


def _histogram(table: Table) -> dict[str, Any]:
    edges = np.linspace(0.0, 1.0, 41)
    return {
        "edges": edges.tolist(),
        "bona_fide": np.histogram(table.bona_fide, edges)[0].tolist(),
        "attack": np.histogram(table.attack, edges)[0].tolist(),
    }


def _worst_rows(table: Table) -> dict[str, Any]:
    """The attacks that looked most like people, and the people that looked most like attacks."""
    heard = table.where(~table.silent)

    def rows(mask: NDArray[np.bool_], sign: int) -> list[dict[str, Any]]:
        part = heard.where(mask)
        order = np.lexsort((part.path, sign * part.scores))[:_WORST]
        return [
            {"path": str(part.path[i]), "score": float(part.scores[i]), "species": str(part.species[i]), "source": str(part.source[i])}
            for i in order
        ]

    return {"attacks": rows(heard.is_attack, 1), "bona_fides": rows(~heard.is_attack, -1)}


def _error_rows(rows: Sequence[Presentation], scores: Sequence[Score], most: int = 50) -> list[dict[str, str]]:
    found = [
        {"path": r.path, "reason": r.problem[0] if r.problem else s.reason or "", "detail": r.problem[1] if r.problem else ""}
        for r, s in zip(rows, scores, strict=True)
        if r.problem is not None or s.reason in ERRORS
    ]
    return found[:most]


def _plain(value: Any) -> Any:
    """Dataclasses inside -> dicts, so that the page and the JSON read the same."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
