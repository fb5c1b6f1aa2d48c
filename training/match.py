"""Calibrate the face match: distance of two faces -> P(another person), with operating points and what they cost.

    python -m training.match --data ../shared/data

Thresholds come from the train identities, the reported rates from the validation identities; pairs are drawn within one
source, since pairs across sources are told apart by their cameras. Writes [match] into weights/thresholds.toml.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from kyc_guard.calibration import Platt
from kyc_guard.faces import face_finder, face_square
from kyc_guard.faces.embedding import MODEL_NAME, MODEL_SHA256, embedder, face_chip
from kyc_guard.types import Float32Array, Float64Array, UInt8Array
from training.thresholds import THRESHOLDS, write_table

SOURCES = ("youtube_faces_udacity", "muxspace_lfw350")
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Faces:
    """Embedded faces of named people; row i of all three belongs together."""

    vectors: Float32Array
    """(N, 128)."""
    subjects: NDArray[np.str_]
    sources: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Distances of all pairs within one source."""

    distances: Float64Array
    genuine: NDArray[np.bool_]
    first: NDArray[np.int64]
    """Number of the first face's subject, for resampling people instead of pairs."""
    second: NDArray[np.int64]


def embed_split(data: Path, split: str) -> tuple[Faces, int]:
    """Every findable face of a split, and in how many pictures none was found."""
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["source"] in SOURCES and r["split"] == split]
    chips: list[UInt8Array] = []
    kept: list[dict[str, str]] = []
    for row in rows:
        chip = _central_face(data / row["path"])
        if chip is not None:
            chips.append(chip)
            kept.append(row)
    vectors = np.concatenate([embedder().embed(chips[i : i + 16]) for i in range(0, len(chips), 16)])
    return Faces(vectors, np.array([r["subject"] for r in kept]), np.array([r["source"] for r in kept])), len(rows) - len(kept)


def _central_face(path: Path) -> UInt8Array | None:
    # These collections put the person they name in the middle; bystanders may be larger.
    image_rgb = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
    middle = np.array(image_rgb.shape[1::-1]) / 2
    faces = face_finder().find(image_rgb)
    if not faces:
        return None
    return face_chip(image_rgb, min(faces, key=lambda f: float(np.linalg.norm(np.array(face_square(f)[0]) - middle))))


def pairs(faces: Faces) -> Pairs:
    numbers = np.unique(faces.subjects, return_inverse=True)[1].astype(np.int64)
    a, b = np.triu_indices(len(faces.subjects), k=1)
    same_source = faces.sources[a] == faces.sources[b]
    a, b = a[same_source], b[same_source]
    distances = np.linalg.norm(faces.vectors[a].astype(np.float64) - faces.vectors[b], axis=1)
    return Pairs(distances, numbers[a] == numbers[b], numbers[a], numbers[b])


def fit_platt(p: Pairs) -> Platt:
    """Logistic fit of "another person" on the distance, both kinds of pair weighing the same (a prior of one half)."""
    other = ~p.genuine
    weight = np.where(other, 0.5 / other.sum(), 0.5 / p.genuine.sum())

    def loss(theta: Float64Array) -> float:
        z = theta[0] * p.distances + theta[1]
        return float((weight * np.logaddexp(0.0, np.where(other, -z, z))).sum())

    slope, offset = minimize(loss, np.array([20.0, -12.0]), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-10}).x
    return Platt(float(slope), float(offset))


def rates(p: Pairs, threshold: float, *, seed: int = 0) -> dict[str, Any]:
    """TAR and FMR at a distance, with 95 % intervals from resampling people (pairs of one person are not independent)."""
    rng = np.random.default_rng(seed)
    people = int(max(p.first.max(), p.second.max())) + 1
    below = p.distances < threshold
    tars, fmrs = [], []
    for _ in range(BOOTSTRAPS):
        times = np.bincount(rng.integers(0, people, people), minlength=people)
        weight = np.where(p.genuine, times[p.first], times[p.first] * times[p.second])
        tars.append(np.average(below[p.genuine], weights=weight[p.genuine]))
        fmrs.append(np.average(below[~p.genuine], weights=weight[~p.genuine]))
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


def table(train: Pairs, validation: Pairs, missed: Sequence[int]) -> dict[str, Any]:
    """[match] of thresholds.toml."""
    platt = fit_platt(train)
    distances = {
        "fmr_1e3": float(np.quantile(train.distances[~train.genuine], 1e-3)),
        "fmr_1e2": float(np.quantile(train.distances[~train.genuine], 1e-2)),
        "fnmr_1e2": float(np.quantile(train.distances[train.genuine], 0.99)),
    }
    return {
        "command": "python -m training.match",
        "model": MODEL_NAME,
        "model_sha256": MODEL_SHA256,
        "sources": list(SOURCES),
        "no_face": {"train": missed[0], "validation": missed[1]},
        "calibration": {"slope": platt.slope, "offset": platt.offset},
        "points": {name: platt(d) for name, d in distances.items()},
        "train": {name: rates(train, d) for name, d in distances.items()},
        "validation": {"auc": auc(validation), **{name: rates(validation, d) for name, d in distances.items()}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=THRESHOLDS)
    args = parser.parse_args()
    train, missed_train = embed_split(args.data, "train")
    validation, missed_validation = embed_split(args.data, "validation")
    measured = table(pairs(train), pairs(validation), (missed_train, missed_validation))
    write_table(args.out, "match", measured)
    for name, row in measured["validation"].items():
        print(name, row)


if __name__ == "__main__":
    main()
