"""Calibrate the face match: distance of two faces -> P(another person), with operating points and what they cost.

    python -m training.match --data ../shared/data

Points and probabilities come from the calibration people, the reported rates from the validation people; the net learned from neither.
Pairs are drawn within one source, since pairs across sources are told apart by their cameras. Every pair is taken as it is and with one
side worn as document portraits are (`training.wear`), because one side is a document portrait. Writes [match] into
weights/thresholds.toml.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.calibration import Platt
from kyc_guard.faces import face_finder, face_square
from kyc_guard.faces.embedding import MODEL, Embedder, aligned
from kyc_guard.reports.metrics import clopper_pearson
from kyc_guard.types import Face, Float32Array, Float64Array, UInt8Array
from kyc_guard.weights import Weights
from training.data import ManifestRow, read_manifest
from training.fitting import logistic
from training.thresholds import THRESHOLDS, write_table
from training.wear import wear

SOURCES = ("youtube_faces_udacity", "muxspace_lfw350")
"""Named people, several pictures each, the person in the middle."""
STRANGERS = ("utkface_xerow03", "tpdne_ffhq_dinablachman", "stylegan140k_ismaolen")
"""One picture a person: pairs of strangers only."""
BOOTSTRAPS = 500
_KNOWN_SHARE = 1e-4
"""Of calibration strangers within the distance at which an earlier account is named: one of their 13,000 pairs. Larger galleries want a
smaller share, but no data here could measure it."""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Embedded faces; row i of all belongs together."""

    clean: Float32Array
    """(N, 128)."""
    worn: Float32Array
    """(N, 128), of the same pictures."""
    subjects: NDArray[np.str_]
    sources: NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs within one source."""

    distances: Float64Array
    genuine: NDArray[np.bool_]
    worn: NDArray[np.bool_]
    """Whether the first face is worn."""
    first: NDArray[np.int64]
    """Number of the first face's person, for resampling people instead of pairs."""
    second: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.distances[chosen], self.genuine[chosen], self.worn[chosen], self.first[chosen], self.second[chosen])


def embed_split(data: Path, split: str, embedder: Embedder) -> tuple[Faces, int]:
    """Every findable bona fide face of a split, and in how many pictures none was found."""
    rows = [r for r in read_manifest(data) if r.split == split and r.label == "bona_fide" and r.source in (*SOURCES, *STRANGERS)]
    rng = np.random.default_rng(0)
    kept: list[ManifestRow] = []
    clean: list[UInt8Array] = []
    worn: list[UInt8Array] = []
    for row in rows:
        image_rgb = np.ascontiguousarray(cv2.imread(str(data / row.path))[:, :, ::-1])
        face = central_face(image_rgb)
        if face is not None:
            kept.append(row)
            clean.append(aligned(image_rgb, face.landmarks_px))
            worn.append(wear(rng, clean[-1]))
    faces = Faces(embedder.embed(clean), embedder.embed(worn), np.array([r.subject for r in kept]), np.array([r.source for r in kept]))
    return faces, len(rows) - len(kept)


def central_face(image_rgb: UInt8Array) -> Face | None:
    """These collections put the person they name in the middle; bystanders may be larger."""
    middle = np.array(image_rgb.shape[1::-1]) / 2
    return min(face_finder().find(image_rgb), key=lambda f: float(np.linalg.norm(np.array(face_square(f)[0]) - middle)), default=None)


def pairs(faces: Faces) -> Pairs:
    """All pairs of clean faces, and of every worn face with every other clean one."""
    numbers = np.unique(np.char.add(faces.sources, faces.subjects), return_inverse=True)[1].astype(np.int64)
    parts = []
    for worn in (False, True):
        a, b = np.nonzero(~np.eye(len(numbers), dtype=bool)) if worn else np.triu_indices(len(numbers), k=1)
        near = faces.sources[a] == faces.sources[b]
        a, b = a[near], b[near]
        likeness = np.einsum("ij,ij->i", (faces.worn if worn else faces.clean)[a], faces.clean[b], dtype=np.float64)
        distances = np.sqrt(np.maximum(2.0 - 2.0 * likeness, 0.0))
        parts.append(Pairs(distances, numbers[a] == numbers[b], np.full(len(a), worn), numbers[a], numbers[b]))
    return Pairs(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("distances", "genuine", "worn", "first", "second")))


def fit_platt(p: Pairs) -> Platt:
    """Logistic fit of "another person" on the distance, both kinds of pair weighing the same (a prior of one half)."""
    other = ~p.genuine
    weight = np.where(other, 0.5 / other.sum(), 0.5 / p.genuine.sum())
    slope, offset = logistic(p.distances[:, None], other, weight, ridge=0.0)
    return Platt(float(slope[0]), offset)


def rates(p: Pairs, threshold: float, *, seed: int = 0) -> dict[str, Any]:
    """TAR and FMR at a distance, with 95 % intervals from resampling people (pairs of one person are not independent)."""
    rng = np.random.default_rng(seed)
    people = int(max(p.first.max(), p.second.max())) + 1
    below = p.distances < threshold
    own, others = p.where(p.genuine), p.where(~p.genuine)
    tars, fmrs = [], []
    for _ in range(BOOTSTRAPS):
        times = np.bincount(rng.integers(0, people, people), minlength=people)
        tars.append(np.average(below[p.genuine], weights=times[own.first]))
        fmrs.append(np.average(below[~p.genuine], weights=times[others.first] * times[others.second]))
    return {
        "distance": threshold,
        "tar": float(below[p.genuine].mean()),
        "tar_95": [float(v) for v in np.percentile(tars, (2.5, 97.5))],
        "fmr": float(below[~p.genuine].mean()),
        "fmr_95": [float(v) for v in np.percentile(fmrs, (2.5, 97.5))],
        "genuine_pairs": int(p.genuine.sum()),
        "impostor_pairs": int((~p.genuine).sum()),
        "people": people,
    }


def auc(p: Pairs) -> float:
    """P(a genuine pair is nearer than an impostor pair)."""
    impostors = np.sort(p.distances[~p.genuine])
    farther = len(impostors) - np.searchsorted(impostors, p.distances[p.genuine], side="right")
    return float(farther.mean() / len(impostors))


def known_face(calibration: Pairs, validation: Pairs) -> dict[str, Any]:
    """From which distance an earlier account is named, and how often that joins strangers: clean pairs, since both are selfies."""
    strangers = calibration.where(~calibration.genuine & ~calibration.worn)
    threshold = float(np.quantile(strangers.distances, _KNOWN_SHARE))
    measured = rates(validation.where(~validation.worn), threshold)
    false, compared = round(measured["fmr"] * measured["impostor_pairs"]), measured["impostor_pairs"]
    # Where no pair is near, resampling people says zero; the exact bound does not.
    high = max(measured["fmr_95"][1], clopper_pearson(false, compared)[1])
    return {**measured, "fmr_95": [measured["fmr_95"][0], high], "calibration_pairs": len(strangers.distances)}


def table(calibration: Pairs, validation: Pairs, missed: tuple[int, int], model_sha256: str) -> dict[str, Any]:
    """[match] of thresholds.toml."""
    platt = fit_platt(calibration)
    other = ~calibration.genuine
    distances = {
        "fmr_1e3": float(np.quantile(calibration.distances[other], 1e-3)),
        "fmr_1e2": float(np.quantile(calibration.distances[other], 1e-2)),
        "fnmr_1e2": float(np.quantile(calibration.distances[~other], 0.99)),
    }
    clean, worn = validation.where(~validation.worn), validation.where(validation.worn)
    return {
        "command": "python -m training.match",
        "model": MODEL,
        "model_sha256": model_sha256,
        "sources": [*SOURCES, *STRANGERS],
        "no_face": {"calibration": missed[0], "validation": missed[1]},
        "calibration": {"slope": platt.slope, "offset": platt.offset},
        "points": {name: platt(d) for name, d in distances.items()},
        "known_face": known_face(calibration, validation),
        "calibration_people": {"auc": auc(calibration), **{name: rates(calibration, d) for name, d in distances.items()}},
        "validation": {"auc": auc(clean), **{name: rates(clean, d) for name, d in distances.items()}},
        "validation_worn": {"auc": auc(worn), **{name: rates(worn, d) for name, d in distances.items()}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=THRESHOLDS)
    args = parser.parse_args()
    embedder = Embedder.load(THRESHOLDS.parent)
    calibration, missed_calibration = embed_split(args.data, "calibration", embedder)
    validation, missed_validation = embed_split(args.data, "validation", embedder)
    missed = (missed_calibration, missed_validation)
    measured = table(pairs(calibration), pairs(validation), missed, Weights(THRESHOLDS.parent).get(MODEL).sha256)
    write_table(args.out, "match", measured)
    for part in ("calibration_people", "validation", "validation_worn"):
        for name, row in measured[part].items():
            print(part, name, row)
    print("known_face", measured["known_face"])


if __name__ == "__main__":
    main()
