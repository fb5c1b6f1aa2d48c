"""Labelled scores -> the figures of an ISO/IEC 30107-3 report, as JSON and as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kyc_guard.errors import OutputError
from kyc_guard.reports import metrics
from kyc_guard.reports.metrics import Rate
from kyc_guard.types import Float64Array

NO_PRESENTATION = frozenset({"invalid_row", "invalid_path", "missing_file"})
"""Reasons that say the manifest is at fault: nothing was presented, so the row is in no rate."""
ERRORS = NO_PRESENTATION | {"unreadable", "limit", "bad_input", "internal_error", "worker_died", "timeout", "invalid_score"}
"""Reasons an operator should look at; the others are a detector's own abstentions."""

_WORST = 10
_CURVE_STEPS = 40
"""Points of a DET curve a standard deviation."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """One row of an evaluation manifest: what was presented."""

    path: str
    label: str
    """bona_fide | attack; anything else comes with a ``problem``."""
    species: str
    """PAI species; empty for bona fide."""
    source: str = ""
    subject: str = ""
    group: str = ""
    file: Path | None = None
    problem: tuple[str, str] | None = None
    """Code and detail of why the row cannot be used."""

    def without_file(self) -> Presentation:
        """The row as it stands when only its scores are looked at."""
        return replace(self, file=None, problem=self.problem if self.problem and self.problem[0] == "invalid_row" else None)


@dataclass(frozen=True, slots=True)
class Score:
    """One row of scores.csv: what came out."""

    score: float | None
    """P(attack); ``None`` = no response."""
    reason: str | None = None
    predicted_type: str | None = None
    detectors: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """All presentations by column; rows that presented nothing are left out."""

    is_attack: NDArray[np.bool_]
    species: NDArray[np.str_]
    scores: Float64Array
    """NaN where there was no response."""
    source: NDArray[np.str_]
    group: NDArray[np.str_]
    cluster: NDArray[np.str_]
    """Rows of one person have one name; a row without a subject is a person of its own."""
    reason: NDArray[np.str_]
    path: NDArray[np.str_]

    @classmethod
    def of(cls, rows: Sequence[Presentation], scores: Sequence[Score]) -> Table:
        pairs = [(r, s) for r, s in zip(rows, scores, strict=True) if r.problem is None and s.reason not in NO_PRESENTATION]

        def text(values: list[str]) -> NDArray[np.str_]:
            return np.array(values, dtype=np.str_)

        return cls(
            is_attack=np.array([r.label == "attack" for r, _ in pairs], dtype=bool),
            species=text([r.species for r, _ in pairs]),
            scores=np.array([np.nan if s.score is None else s.score for _, s in pairs], dtype=np.float64),
            source=text([r.source for r, _ in pairs]),
            group=text([r.group for r, _ in pairs]),
            cluster=text([f"{r.source}/{r.subject}" if r.subject else f"row {r.path}" for r, _ in pairs]),
            reason=text([s.reason or "" for _, s in pairs]),
            path=text([r.path for r, _ in pairs]),
        )

    def where(self, mask: NDArray[np.bool_]) -> Table:
        return Table(**{name: getattr(self, name)[mask] for name in self.__slots__})

    @property
    def silent(self) -> NDArray[np.bool_]:
        return np.isnan(self.scores)

    @property
    def bona_fide(self) -> Float64Array:
        """Scores of the bona fides that got one."""
        return self.scores[~self.is_attack & ~self.silent]

    @property
    def attack(self) -> Float64Array:
        return self.scores[self.is_attack & ~self.silent]

    @property
    def attacks(self) -> dict[str, Float64Array]:
        """PAI species -> scores of its attacks that got one; every species of the table is there."""
        return {str(s): self.scores[(self.species == s) & self.is_attack & ~self.silent] for s in np.unique(self.species[self.is_attack])}


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
    report = {
        "standard": "Figures as defined in ISO/IEC 30107-3:2023; a rehearsal on the operator's own data, no certification",
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
        "secondary": _secondary(table),
        "species": _species(table, points),
        "sources": _slices(table, table.source, points),
        "groups": _slices(table, table.group, points) if np.any(table.group != "") else [],
        "reliability": metrics.reliability(table.scores[~table.silent], table.is_attack[~table.silent]),
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


def percent(value: float | None) -> str:
    """A share for human eyes."""
    return "-" if value is None else f"{100 * value:.2f} %"


def in_words(rate: Mapping[str, Any] | None) -> str:
    """A rate with its interval and counts, on one line."""
    if rate is None or rate["value"] is None:
        return "-"
    return f"{percent(rate['value'])} [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}] {rate['errors']}/{rate['n']}"


def write_whole(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, whole or not at all.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Remedy: make room or name a folder you may write to") from error
