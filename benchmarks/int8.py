"""What int8 costs: every picture of a labelled split judged by the face-attack nets in fp32 and in int8, on the same views.

    python -m benchmarks.int8 [--manifest ../shared/data/manifest.csv] [--split validation] [--per-kind 60]

Writes ``results/int8.json`` and ``int8.md``. A clip is judged by the picture in its middle. The product computes in fp32, with which its
thresholds are measured; int8 may be taken only where nothing is lost here and thresholds are calibrated with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.accuracy import MANIFEST
from benchmarks.record import RESULTS, Goal, goals_table, number, plain, save, table
from benchmarks.sample import face_picture, spread
from benchmarks.shipped import LoadVerifier, default_point
from kyc_guard import pool
from kyc_guard.calibration import either
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.detectors.face_attack import KINDS, FaceAttack
from kyc_guard.errors import KycGuardError
from kyc_guard.pipeline import Verifier
from kyc_guard.progress import bar
from kyc_guard.provenance import identity
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.metrics import auc
from kyc_guard.reports.presentations import Presentation
from kyc_guard.types import DIGITAL, PHYSICAL

_NO_LOSS_AUC, _NO_LOSS_CHANGED = 0.002, 0.01
"""What counts as no loss: so much less AUC, and such a share of decisions changed."""

Pair = tuple[tuple[float, float], tuple[float, float]]
"""Physical and digital log-odds, in fp32 and in int8."""


@dataclass(frozen=True, slots=True)
class Both:
    """Presentation -> its `Pair`, in a worker process; ``None`` if no face was found in it."""

    make: Callable[[], Verifier]
    settings: Settings

    def __call__(self) -> Callable[[Presentation], Pair | None]:
        verifier = self.make()
        full = next(d for d in verifier.detectors if isinstance(d, FaceAttack))
        small = replace(full, nets={view: verifier.bundle.net(f"face_attack_{view.name}_int8") for view in full.nets})

        def work(row: Presentation) -> Pair | None:
            assert row.file is not None
            found = face_picture(row.file, self.settings.limits)
            if found is None:
                return None
            first, second = (detector.score_faces([found], looks="all")[0].log_odds for detector in (full, small))
            return first, second

        return work


@reporting(as_json=False)
def main(
    *,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,subject,split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    split: Annotated[str, typer.Option(help="Which rows of the manifest.")] = "validation",
    per_kind: Annotated[int, typer.Option(help="Pictures of each source and species.")] = 60,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
) -> None:
    """Measure what int8 costs in accuracy."""
    settings = Settings()
    rows = spread(read_manifest(manifest, root or manifest.parent, split), per_kind=per_kind)
    judged = run(rows, LoadVerifier(settings), settings, workers=workers)
    name, threshold = default_point(settings)
    about = {"manifest": manifest.name, "split": split, "per_kind": per_kind, **identity(settings)}
    found = plain({"command": "python -m benchmarks.int8", "about": about, "default_point": name, **figures(judged, threshold)})
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "int8", found, page(found))
    typer.echo(page(found))


def run(
    rows: Sequence[Presentation], make: Callable[[], Verifier], settings: Settings, *, workers: int | None
) -> list[tuple[Presentation, Pair]]:
    """Both answers to every row that shows a face.

    Raises:
        KycGuardError: a picture could not be judged.
    """
    judged = []
    with bar(len(rows), 0) as advance:
        for row, pair in pool.run(Both(make, settings), rows, workers=workers, ordered=True):
            if isinstance(pair, pool.Failure):
                raise KycGuardError(f"{row.path}: {pair.code} {pair.detail}")
            if pair is not None:
                judged.append((row, pair))
            advance()
    return judged


def figures(judged: Sequence[tuple[Presentation, Pair]], threshold: float) -> dict[str, Any]:
    """AUC of physical and digital attacks in both precisions, differences of P(attack), and decisions that change."""
    scores = np.array([[either(*pair[0]), either(*pair[1])] for _, pair in judged])
    genuine = np.array([row.label == "bona_fide" for row, _ in judged])
    kinds = {}
    for name, species in zip(KINDS, (PHYSICAL, DIGITAL), strict=True):
        own = np.array([row.species in species for row, _ in judged])
        fp32, int8 = (auc(scores[genuine, k], scores[own, k]) if own.any() and genuine.any() else None for k in range(2))
        kinds[name] = {"attacks": int(own.sum()), "fp32": fp32, "int8": int8}
    apart = np.abs(scores[:, 0] - scores[:, 1])
    above = scores >= threshold
    changed = above[:, 0] != above[:, 1]
    return {
        "threshold": threshold,
        "pictures": len(judged),
        "bona_fides": int(genuine.sum()),
        "auc": kinds,
        "largest_difference": float(apart.max()),
        "median_difference": float(np.median(apart)),
        "changed": int(changed.sum()),
        "attacks_lost": int((changed & ~genuine & above[:, 0]).sum()),
        "bona_fides_lost": int((changed & genuine & above[:, 1]).sum()),
    }


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """What would have to hold before int8 may judge."""
    losses = {name: None if a["fp32"] is None else a["fp32"] - a["int8"] for name, a in found["auc"].items()}
    wanted = [Goal(f"AUC of {name} attacks: fp32 less int8", loss, _NO_LOSS_AUC, at_least=False) for name, loss in losses.items()]
    return [*wanted, Goal("share of decisions changed", found["changed"] / found["pictures"], _NO_LOSS_CHANGED, at_least=False)]


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    rows = ((f"{name} ({a['attacks']})", number(a["fp32"], 4), number(a["int8"], 4)) for name, a in found["auc"].items())
    may = all(goal["met"] for goal in found["goals"])
    return (
        f"# int8 against fp32\n\n`{found['command']}`, split {found['about']['split']}: {found['pictures']} pictures with a face, "
        f"{found['bona_fides']} of them bona fide, each judged by the fp32 and by the int8 nets.\n\n"
        + goals_table(found["goals"])
        + table(("AUC of attacks", "fp32", "int8"), rows)
        + f"P(attack) differs by {found['median_difference']:.4f} in the median and {found['largest_difference']:.3f} at most. At the "
        f"default operating point ({found['default_point']}, {found['threshold']:.3f}) {found['changed']} decisions change: "
        f"{found['attacks_lost']} attacks are lost and {found['bona_fides_lost']} bona fides refused by int8 alone. "
        + ("Nothing is lost: int8 may be calibrated and used.\n" if may else "The product computes in fp32.\n")
    )


if __name__ == "__main__":
    typer.run(main)
