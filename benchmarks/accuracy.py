"""How well face_attack tells attacks from people: per species and source, at every operating point, on reserved simulators, on live pairs.

    python -m benchmarks.accuracy [--manifest ../shared/data/manifest.csv] [--split validation] [--scores DIR]

The score is face_attack's alone: of a clip the fused one is half liveness's, of a photo it is not, so the two would not compare.
Writes ``results/accuracy.json``, ``accuracy.md`` and three plots. Scores come from ``kyc-guard evaluate``, of which DIR keeps the
output: a finished run of the same models is only read, an interrupted one is gone on with.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import as_frames, plots, simulated
from benchmarks.accuracy_page import page
from benchmarks.accuracy_tables import ALL, DETECTOR, OWN, alone, tables
from benchmarks.left_out import FOLD, SHIPPED, leave_one_source_out
from benchmarks.record import RESULTS, Goal, plain, save
from benchmarks.shipped import LoadVerifier, all_points, default_point
from kyc_guard import evaluate
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.evaluate import Scorer
from kyc_guard.pipeline import Verifier
from kyc_guard.progress import bar
from kyc_guard.reports.evaluation import confusion
from kyc_guard.reports.labelled import read_manifest, read_scores
from kyc_guard.reports.presentations import Presentation, Score, Table
from kyc_guard.whole_file import write_whole

MANIFEST = Path(__file__).resolve().parents[2] / "shared" / "data" / "manifest.csv"
SCORES = Path("out") / "accuracy"
LIVE_PAIRS = "deepfacelive_pairs"
ENOUGH = 20
"""Bona fides a source needs for its own refusal rate to be held against a goal."""


@reporting(as_json=False)
def main(
    *,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,subject[,group],split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    split: Annotated[str, typer.Option(help="Which rows of the manifest.")] = "validation",
    scores: Annotated[Path, typer.Option(help="Folder of the evaluation run: made, gone on with, or only read.")] = SCORES,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    faces: Annotated[int, typer.Option(help="Bona fide faces for the reserved simulators; 0 leaves them out.")] = 100,
    frames: Annotated[bool, typer.Option(help="Judge the pictures once more by a clip's looks.")] = True,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
) -> None:
    """Measure accuracy on a labelled manifest."""
    settings = Settings()
    found = run(
        manifest,
        split,
        scores,
        out,
        root=root,
        settings=settings,
        scorer=Scorer.from_settings(settings),
        make=LoadVerifier(settings),
        points=all_points(settings),
        point=default_point(settings)[0],
        faces=faces,
        frames=frames,
        workers=workers,
    )
    typer.echo(page(found))


def run(
    manifest: Path,
    split: str,
    scores: Path,
    out: Path,
    *,
    settings: Settings,
    scorer: Scorer,
    make: Callable[[], Verifier],
    points: Mapping[str, float],
    point: str,
    faces: int,
    frames: bool,
    root: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Score what is not scored yet, work out the figures, write them into ``out``; see `main`.

    Args:
        points: every operating point of face_attack by name, used or not; those policy.toml uses are ``scorer.points``.

    Raises:
        InputError: the manifest cannot be used, or ``scores`` holds the run of other models.
    """
    begun = (scores / "scores.csv").exists()
    report = evaluate.run(manifest, scores, root=root, split=split, scorer=scorer, workers=workers, resume=begun, progress=bar)
    rows = list(read_manifest(manifest, root or manifest.parent, split))
    fused = [score for _, score in read_scores(scores / "scores.csv")]
    judged = alone(fused, scorer.detectors)
    used = dict(scorer.points)
    data = holdings(manifest)
    trained_on = {d["source"] for d in data if d["split"] == "train"}
    table = Table.of(rows, judged)
    found: dict[str, Any] = {
        "command": "python -m benchmarks.accuracy",
        "about": report["about"],
        "default_point": point,
        "data": data,
        "counts": report["counts"],
        "operating_points": {name: {"threshold": threshold} for name, threshold in points.items()},
        **tables(table, points, used, point, frozenset({r.source for r in rows} - trained_on)),
        "species_named": confusion(table, used),
        "as_frames": as_frames.tables(as_frames.run(rows, judged, make, settings, workers=workers), used) if frames else [],
        "live_pairs": live_pairs(rows, fused, scorer.detectors),
        "reserved_simulators": simulated.figures(simulated.run(rows, make, settings, count=faces, workers=workers), used),
        "leave_one_source_out": leave_one_source_out(out / "loso.json", data),
    }
    found = plain(found)
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "accuracy", found, page(found))
    write_whole(out / "accuracy_species.svg", plots.auc_by_species(found))
    write_whole(out / "accuracy_sources.svg", plots.refusals_by_source(found))
    write_whole(out / "accuracy_reliability.svg", plots.reliability(found))
    return found


def holdings(manifest: Path) -> list[dict[str, Any]]:
    """How many rows of every split, source, label and species the manifest has."""
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        rows = Counter((r.get("split", ""), r.get("source", ""), r["label"], r.get("attack_type", "")) for r in csv.DictReader(file))
    return [dict(zip(("split", "source", "label", "species", "n"), (*key, n), strict=True)) for key, n in sorted(rows.items())]


def live_pairs(rows: Sequence[Presentation], scores: Sequence[Score], detectors: Sequence[str]) -> list[dict[str, Any]]:
    """Every live face swap beside the webcam clip it was made from: is the fake ranked above its own original?

    ``ranked`` is ``None`` where one of the two got no score.
    """
    by_path = {row.path: score for row, score in zip(rows, scores, strict=True) if row.source == LIVE_PAIRS}
    pairs = []
    for row in rows:
        twin = row.path.replace("fake", "real")
        if row.source == LIVE_PAIRS and row.label == "attack" and twin in by_path:
            pair: dict[str, Any] = {"clip": Path(row.path).stem}
            for column in ("score", *detectors):
                fake, real = (_column(by_path[path], column, detectors) for path in (row.path, twin))
                ranked = None if fake is None or real is None else fake > real
                pair[column] = {"fake": fake, "real": real, "ranked": ranked}
            pairs.append(pair)
    return pairs


def _column(score: Score, name: str, detectors: Sequence[str]) -> float | None:
    return score.score if name == "score" else score.detectors[detectors.index(name)]


def goals(found: dict[str, Any]) -> list[Goal]:
    """What issue 3 asks for."""
    point = found["default_point"]
    family = {(f["name"], f["against"]): f for f in found["families"]}
    physical = family["physical", OWN]
    fakes = family["digital, sources not trained on", ALL]
    reserved = {(p["name"], p["against"]): p for p in found["reserved_simulators"]["pooled"]}
    ranked = [pair[DETECTOR]["ranked"] for pair in found["live_pairs"]]
    refused = [s["points"][point]["bpcer"] for s in found["sources"] if s["bona_fides"] >= ENOUGH]
    means = (found["leave_one_source_out"] or {"means": {}})["means"]

    def value(estimate: Any) -> float | None:
        return estimate["value"] if estimate else None

    return [
        Goal("physical attacks pooled: AUC", value(physical["auc"]), 0.99, at_least=True),
        Goal("physical attacks pooled: BPCER at APCER 5 %", value(physical["bpcer_at_apcer"]["BPCER20"]), 0.05, at_least=False),
        Goal("leave one source out, short trainings: mean AUC", means.get(FOLD), 0.95, at_least=True),
        Goal("leave one source out, shipped nets on sources they never had: mean AUC", means.get(SHIPPED), 0.95, at_least=True),
        Goal("digital attacks of reserved simulators: AUC", value(reserved["digital", simulated.PLAIN]["auc"]), 0.93, at_least=True),
        Goal("digital attacks of sources not trained on: AUC", value(fakes["auc"]), 0.88, at_least=True),
        Goal("live swaps above their own originals", sum(r is True for r in ranked) / len(ranked) if ranked else None, 1.0, at_least=True),
        Goal(
            f"bona fides of sources not trained on, at {point}: BPCER", found["bona_fides_of_unseen_sources"]["value"], 0.05, at_least=False
        ),
        Goal(
            f"worst source of {ENOUGH} bona fides and more, at {point}: BPCER",
            max((r["value"] for r in refused if r["value"] is not None), default=None),
            0.10,
            at_least=False,
        ),
    ]


if __name__ == "__main__":
    typer.run(main)
