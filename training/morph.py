"""Fit the hint that a document portrait lies in between two people, one of whom is in front of the camera.

    python -m training.morph --data ../shared/data

Morphs are made of calibration people (the embedding learned from the train people, whose distances are therefore too small) and measured
on validation people, with other shares, another way of joining and other printers. The partner is one of the five most alike strangers,
as a forger would choose. Writes [morph] into weights/thresholds.toml.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.attacks import blending, hulls, mesh
from kyc_guard.attacks.optics import Rng
from kyc_guard.faces import face_finder, face_square, square_crop
from kyc_guard.faces.embedding import Embedder, aligned
from kyc_guard.faces.shape import shape_gap
from kyc_guard.recoding import jpeg
from kyc_guard.reports.metrics import auc, auc_interval, clopper_pearson
from kyc_guard.types import Float32Array, Float64Array, UInt8Array
from training.data import read_manifest
from training.fitting import logistic
from training.match import SOURCES, central_face
from training.thresholds import THRESHOLDS, write_table
from training.wear import HELD_OUT_PRINTERS, PRINTERS, laminated, printed, small

_SIDE_PX = 220
_NEIGHBOURS = 5
_PICTURES = 3
"""Documents a selfie is held against, at most: people with many pictures must not rule."""
_BPCER = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A face with its surround: (220, 220, 3) uint8 RGB, mesh (478, 3) in its pixels."""

    image_rgb: UInt8Array
    mesh_px: Float32Array
    person: str
    source: str


@dataclass(frozen=True, slots=True)
class Way:
    """How morphs of one split are made. ``joins``: the whole picture, or a mask of `hulls` over the host's."""

    shares: tuple[float, float]
    joins: tuple[str, ...]
    printers: Sequence[Any]


FITTED = Way((0.4, 0.6), ("whole", "oval"), PRINTERS)
HELD_OUT = Way((0.3, 0.7), ("core", "jaw"), HELD_OUT_PRINTERS)


def pictures(data: Path, split: str) -> list[Picture]:
    found = []
    for row in read_manifest(data):
        if row.split != split or row.source not in SOURCES:
            continue
        image_rgb = np.ascontiguousarray(cv2.imread(str(data / row.path))[:, :, ::-1])
        face = central_face(image_rgb)
        if face is None:
            continue
        centre, side = face_square(face)
        crop = np.ascontiguousarray(square_crop(image_rgb, centre, 1.9 * side, _SIDE_PX))
        again = face_finder().find(crop)
        if again:
            found.append(Picture(crop, again[0].landmarks_px, f"{row.source}/{row.subject}", row.source))
    return found


def morphed(rng: Rng, host: Picture, guest: Picture, way: Way) -> UInt8Array:
    """Shape and texture in between, each by a share of its own; in the host's frame, so that hair and background are the host's."""
    shape_share, texture_share = rng.uniform(*way.shares, 2)
    a, b = host.mesh_px[:, :2], guest.mesh_px[:, :2]
    shape = (a + np.float32(shape_share) * (mesh.move(mesh.align(b, a), b) - a)).astype(np.float32)
    first, second = (mesh.warp_mesh(p.image_rgb, p.mesh_px[:, :2], shape, _SIDE_PX, _SIDE_PX) for p in (host, guest))
    join = way.joins[rng.integers(len(way.joins))]
    if join == "whole":
        mixed: UInt8Array = cv2.addWeighted(first, 1.0 - texture_share, second, texture_share, 0.0)
        return mixed
    mask = cv2.GaussianBlur(hulls.hull_mask(join, shape, _SIDE_PX, _SIDE_PX), (0, 0), 4)
    matched = blending.match_colour(second, first, mask, strength=0.8)
    return blending.blend(matched, first, mask * np.float32(texture_share))


def as_document(rng: Rng, image_rgb: UInt8Array, way: Way) -> UInt8Array:
    """Uploaded as a file, or printed and laminated, at half odds; honest portraits and morphs alike."""
    if rng.random() < 0.5:
        return jpeg(image_rgb, 90)
    worn = laminated(rng, printed(rng, image_rgb, way.printers[rng.integers(len(way.printers))]))
    return jpeg(small(worn, rng.uniform(0.5, 1.0)), int(rng.integers(50, 95)))


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """figures (N, 2): distance, shape gap; row i of all belongs together."""

    figures: Float64Array
    is_morph: NDArray[np.bool_]
    people: NDArray[np.str_]
    """Whose selfie it is."""


def cases(given: Sequence[Picture], way: Way, embedder: Embedder) -> Cases:
    """Every picture as the selfie of its person, against honest documents and against morphs in which they are host or guest."""
    vectors = embedder.embed([aligned(p.image_rgb, p.mesh_px) for p in given])
    rows = [row for i in range(len(given)) for row in _against(i, given, vectors, way, embedder)]
    return Cases(
        np.array([figures for figures, _, _ in rows]),
        np.array([morph for _, morph, _ in rows]),
        np.array([person for _, _, person in rows]),
    )


def _against(
    i: int, given: Sequence[Picture], vectors: Float32Array, way: Way, embedder: Embedder
) -> Iterator[tuple[tuple[float, float], bool, str]]:
    rng, me = np.random.default_rng(i), given[i]
    own = [j for j, p in enumerate(given) if p.person == me.person and j != i][:_PICTURES]
    strangers = [j for j, p in enumerate(given) if p.person != me.person and p.source == me.source]
    alike = sorted(strangers, key=lambda j: -float(vectors[i] @ vectors[j]))[:_NEIGHBOURS]
    for j in own:
        partner = given[int(rng.choice(alike))]
        documents = [(given[j].image_rgb, False)]
        if abs(mesh.yaw(given[j].mesh_px[:, :2]) - mesh.yaw(partner.mesh_px[:, :2])) < 0.3:
            host, guest = (given[j], partner) if rng.random() < 0.5 else (partner, given[j])
            documents.append((morphed(rng, host, guest, way), True))
        for image_rgb, is_morph in documents:
            shown = as_document(rng, image_rgb, way)
            faces = face_finder().find(shown)
            if faces:
                vector = embedder.embed([aligned(shown, faces[0].landmarks_px)])[0]
                figures = (float(np.linalg.norm(vector - vectors[i])), shape_gap(faces[0].landmarks_px, me.mesh_px))
                yield figures, is_morph, me.person


def fit(c: Cases) -> Float64Array:
    """Weights of distance and shape gap, and the offset: logistic, morphs and honest portraits weighing the same."""
    weight = np.where(c.is_morph, 0.5 / c.is_morph.sum(), 0.5 / (~c.is_morph).sum())
    weights, offset = logistic(c.figures, c.is_morph, weight, ridge=2e-3)
    return np.array([*weights, offset])


def measured(c: Cases, scores: Float64Array, limit: float) -> dict[str, Any]:
    """AUC with its interval from resampling people, and what the limit finds."""
    found = {}
    for name, mine in (("morphs", c.is_morph), ("honest", ~c.is_morph)):
        hits, count = int((scores[mine] >= limit).sum()), int(mine.sum())
        found[name] = {"suspected": hits, "of": count, "interval_95": list(clopper_pearson(hits, count))}
    interval = auc_interval(scores, c.is_morph, c.people.tolist())
    assert interval is not None
    return {"auc": auc(scores[~c.is_morph], scores[c.is_morph]), "auc_95": list(interval), "people": len(np.unique(c.people)), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=THRESHOLDS)
    args = parser.parse_args()
    embedder = Embedder.load(THRESHOLDS.parent)
    fitted = cases(pictures(args.data, "calibration"), FITTED, embedder)
    held_out = cases(pictures(args.data, "validation"), HELD_OUT, embedder)
    distance, shape, offset = fit(fitted)
    scores = [1.0 / (1.0 + np.exp(-(c.figures @ (distance, shape) + offset))) for c in (fitted, held_out)]
    limit = float(np.quantile(scores[0][~fitted.is_morph], 1 - _BPCER))
    table = {
        "command": "python -m training.morph",
        "weights": {"distance": distance, "shape": shape, "offset": offset},
        "points": {"suspected": limit},
        "calibration_people": measured(fitted, scores[0], limit),
        "validation_held_out": measured(held_out, scores[1], limit),
    }
    write_table(args.out, "morph", table)
    for name, value in table.items():
        print(name, value)


if __name__ == "__main__":
    main()
