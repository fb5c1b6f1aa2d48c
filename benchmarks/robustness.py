"""How far a score drifts, and how often the verdict flips, when the same picture is cropped, encoded, lit or turned otherwise.

    python -m benchmarks.robustness [--manifest ../shared/data/manifest.csv] [--split validation] [--per-kind 25]

Writes ``results/robustness.json`` and ``robustness.md``. Attacks and bona fides of every source and species take part, each once
with every transform, so the exact intervals hold. Pictures only: a clip is represented by its middle frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.accuracy import MANIFEST
from benchmarks.record import RESULTS, Goal, goals_table, number, plain, save, share, table
from benchmarks.sample import face_picture, spread
from benchmarks.shipped import LoadVerifier, default_point
from benchmarks.transforms import JITTERS, TRANSFORMS, moved
from kyc_guard import pool
from kyc_guard.calibration import either
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.errors import KycGuardError
from kyc_guard.pipeline import Verifier
from kyc_guard.progress import bar
from kyc_guard.provenance import identity
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import Presentation
from kyc_guard.types import Face, UInt8Array

NAMES = tuple((t.family, t.strength) for t in TRANSFORMS) + tuple(("face box", f"±{100 * a:.0f} %") for a in JITTERS)
"""What is done to every picture, in the order of `Trials.changed`."""


@dataclass(frozen=True, slots=True)
class Trials:
    """The scores of one picture; ``None`` = no response."""

    plain: float | None
    """As it is, through the whole path."""
    changed: tuple[float | None, ...]
    """After each of `NAMES`."""
    plain_box: float | None
    """As it is, judged at the box that was found: what a moved box is compared with."""
    differs: tuple[bool, ...]
    """Whether each of `NAMES` changed the picture, or where it is looked at, at all."""


@reporting(as_json=False)
def main(
    *,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    split: Annotated[str, typer.Option(help="Which rows of the manifest.")] = "validation",
    per_kind: Annotated[int, typer.Option(help="Pictures of each source and species.")] = 25,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
) -> None:
    """Measure score drift and flip rate under everyday changes."""
    settings = Settings()
    rows = list(read_manifest(manifest, root or manifest.parent, split))
    judged = run(spread(rows, per_kind=per_kind), LoadVerifier(settings), settings, workers=workers)
    name, threshold = default_point(settings)
    about = {"manifest": manifest.name, "split": split, "per_kind": per_kind, **identity(settings)}
    found = plain({"command": "python -m benchmarks.robustness", "about": about, **figures(judged, name, threshold)})
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "robustness", found, page(found))
    typer.echo(page(found))


@dataclass(frozen=True, slots=True)
class Shaker:
    """Presentation -> its `Trials`, in a worker process; ``None`` if no face was found in it."""

    make: Callable[[], Verifier]
    settings: Settings

    def __call__(self) -> Callable[[Presentation], Trials | None]:
        verifier = self.make()
        detector = next(d for d in verifier.detectors if isinstance(d, FaceAttack))

        def at_box(picture: UInt8Array, face: Face) -> float:
            return either(*detector.score_faces([(picture, face)], looks="all")[0].log_odds)

        def work(row: Presentation) -> Trials | None:
            assert row.file is not None
            found = face_picture(row.file, self.settings.limits)
            if found is None:
                return None
            picture, face = found
            rngs = [np.random.default_rng([5, *row.path.encode(), i]) for i in range(len(NAMES))]
            changed: list[float | None] = []
            differs = []
            for transform, rng in zip(TRANSFORMS, rngs, strict=False):
                after = transform.apply(rng, picture, face)
                changed.append(verifier.attack_score(after, row.path).score)
                differs.append(not np.array_equal(after, picture))
            changed += [at_box(picture, moved(rng, face, a)) for a, rng in zip(JITTERS, rngs[len(TRANSFORMS) :], strict=True)]
            differs += [True] * len(JITTERS)
            return Trials(verifier.attack_score(picture, row.path).score, tuple(changed), at_box(picture, face), tuple(differs))

        return work


def run(
    rows: Sequence[Presentation], make: Callable[[], Verifier], settings: Settings, *, workers: int | None
) -> list[tuple[Presentation, Trials]]:
    """The trials of every row that shows a face.

    Raises:
        KycGuardError: a picture could not be judged; a benchmark that leaves some out would flatter.
    """
    judged = []
    results = pool.run(Shaker(make, settings), rows, workers=workers or pool.default_workers(), ordered=True)
    with bar(len(rows), 0) as advance:
        for row, trials in results:
            if isinstance(trials, pool.Failure):
                raise KycGuardError(f"{row.path}: {trials.code} {trials.detail}")
            if trials is not None:
                judged.append((row, trials))
            advance()
    return judged


def figures(judged: Sequence[tuple[Presentation, Trials]], point: str, threshold: float) -> dict[str, Any]:
    """Drift and flips of every transform over the pictures that it changed and that have a score before and after it."""
    return {
        "default_point": point,
        "threshold": threshold,
        "attacks": sum(row.label == "attack" for row, _ in judged),
        "bona_fides": sum(row.label == "bona_fide" for row, _ in judged),
        "no_response_unchanged": Rate.of(sum(t.plain is None for _, t in judged), len(judged)),
        "transforms": [_figures_of(judged, i, threshold) for i in range(len(NAMES))],
    }


def _figures_of(judged: Sequence[tuple[Presentation, Trials]], place: int, threshold: float) -> dict[str, Any]:
    family, strength = NAMES[place]
    befores = [(row, t, t.plain_box if family == "face box" else t.plain, t.changed[place]) for row, t in judged]
    asked = [(row, t, before, after) for row, t, before, after in befores if before is not None]
    heard = [(row, t, before, after) for row, t, before, after in asked if after is not None]
    # A picture that a transform left as it was cannot flip, and would only thin the rate.
    pairs = [(row, before, after) for row, t, before, after in heard if t.differs[place]]
    drift = np.array([abs(log_odds(after) - log_odds(before)) for _, before, after in pairs])
    caught = [after for row, before, after in pairs if row.label == "attack" and before >= threshold]
    passed = [after for row, before, after in pairs if row.label == "bona_fide" and before < threshold]
    return {
        "family": family,
        "strength": strength,
        "pictures": len(heard),
        "changed": len(pairs),
        "no_response": Rate.of(len(asked) - len(heard), len(asked)),
        "drift_mean": float(drift.mean()) if drift.size else None,
        "drift_p95": float(np.quantile(drift, 0.95)) if drift.size else None,
        "flipped": Rate.of(sum((before >= threshold) != (after >= threshold) for _, before, after in pairs), len(pairs)),
        "attacks_let_pass": Rate.of(sum(after < threshold for after in caught), len(caught)),
        "bona_fides_refused": Rate.of(sum(after >= threshold for after in passed), len(passed)),
    }


def log_odds(score: float) -> float:
    """Bounded as in fusion: a float cannot tell certainties apart."""
    p = max(min(1 - 1e-9, score), 1e-9)
    return math.log(p / (1 - p))


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """What issue 3 asks for: at most one verdict in fifty flips."""
    by_name = {(t["family"], t["strength"]): t["flipped"]["value"] for t in found["transforms"]}
    jitters = [by_name[family, f"±{a} %"] for family in ("face box", "upload crop") for a in (5, 10)]
    jpegs = [by_name["JPEG", str(quality)] for quality in (95, 90, 80, 70)]
    return [
        Goal(name, max((v for v in values if v is not None), default=None), 0.02, at_least=False)
        for name, values in (("crop jitter up to ±10 %: worst flip rate", jitters), ("JPEG 70 and better: worst flip rate", jpegs))
    ]


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    rows = (
        (
            t["family"],
            t["strength"],
            f"{t['changed']}/{t['pictures']}",
            f"{number(t['drift_mean'], 2)} ({number(t['drift_p95'], 2)})",
            *(share(t[k]) for k in ("flipped", "attacks_let_pass", "bona_fides_refused", "no_response")),
        )
        for t in found["transforms"]
    )
    header = (
        "transform",
        "strength",
        "changed",
        "drift, log-odds: mean (95 %)",
        "flipped",
        "attacks let pass",
        "bona fides refused",
        "no response",
    )
    about, point = found["about"], found["default_point"]
    return (
        f"# Robustness\n\n`{found['command']}` on split {about['split']} of {about['manifest']}: {found['attacks']} attacks and "
        f"{found['bona_fides']} bona fides, each once with every transform. A flip is a verdict that changes sides at {point} "
        f"= {found['threshold']:.4f}; no response is no flip, and pictures that a transform leaves as they were (*changed* counts the "
        "others) are in no rate of it. *Face box* moves the box the nets are cut from, *upload crop* cuts the picture at every edge before "
        "the face is looked for. Exact 95 % intervals.\n\n" + goals_table(found["goals"]) + table(header, rows)
    )


if __name__ == "__main__":
    typer.run(main)
