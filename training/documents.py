"""Fit and judge the hints of doubt about documents: recapture, replaced portrait, altered text, generated page.

    python -m training.documents make [--part k/n]   renders pictures and their figures into the cache (resumable)
    python -m training.documents fit                 writes [document_doubt] of thresholds.toml

Honest and attacked pictures go through one camera, one set of lights and one way of sending. Layouts, people, fonts and the tools marked
held out are the validation split's alone. Points and calibrations are set on scores out of fold: of layouts and people that the weights
behind those scores were not fitted on.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np

from kyc_guard.calibration import Hint, Platt
from kyc_guard.documents import lettering, planes, seams, surface
from kyc_guard.documents.doubt import NAMES, Suspicion
from kyc_guard.documents.planes import Planes
from kyc_guard.reports.metrics import auc, auc_interval
from kyc_guard.types import Float32Array, Float64Array, UInt8Array
from training.chips import Chip, ChipStore
from training.document_attacks import TOOLS, Case, Made, Tool, case, honest
from training.document_pages import layout
from training.fitting import logistic, shares
from training.places import CACHE, CONFIGS
from training.thresholds import THRESHOLDS, write_table

COMMAND = "python -m training.documents fit"
SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Config:
    seed: int
    sources: tuple[str, ...]
    layouts: int
    folds: int
    ridge: float
    cut: float
    attack_share: float
    review_bpcer: float
    honest: dict[str, int]
    attacks: dict[str, int]

    @classmethod
    def load(cls, path: Path = CONFIGS / "document_doubt.toml") -> Config:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be made: its tool (``None`` = honest), its place in the split."""

    split: str
    tool: Tool | None
    number: int

    @property
    def name(self) -> str:
        return f"{self.split}-{'honest' if self.tool is None else self.tool.name}-{self.number:04d}"

    def layout(self, config: Config) -> int:
        """Which country's; its remainder by the folds is the picture's fold."""
        return int(np.random.default_rng([config.seed, crc32(self.name.encode()), 1]).integers(config.layouts))


def jobs(config: Config) -> Iterator[Job]:
    """In an order that any beginning of is balanced."""
    todo: list[tuple[float, Job]] = []
    for split in SPLITS:
        todo += [(i / config.honest[split], Job(split, None, i)) for i in range(config.honest[split])]
        allowed = [t for t in TOOLS if split == "validation" or not t.held_out]
        for tool in allowed:
            count = config.attacks[split]
            if split != "validation":
                count = -(-count // sum(t.species == tool.species for t in allowed))
            todo += [(i / count, Job(split, tool, i)) for i in range(count)]
    yield from (job for _, job in sorted(todo, key=lambda pair: (pair[0], pair[1].name)))


class Faces:
    """Chips of bona fide portraits by split, one a person."""

    def __init__(self, store: ChipStore, sources: Sequence[str]) -> None:
        self._store = store
        self._rows: dict[str, list[int]] = {split: [] for split in SPLITS}
        seen: set[tuple[str, str]] = set()
        for i, row in enumerate(store.rows):
            if row.split in SPLITS and row.label == "bona_fide" and row.source in sources and (row.source, row.subject) not in seen:
                seen.add((row.source, row.subject))
                self._rows[row.split].append(i)

    def draw(self, rng: np.random.Generator, split: str, fold: int, folds: int) -> tuple[Chip, Chip]:
        """Two people of a fold."""
        a, b = rng.choice(self._rows[split][fold::folds], 2, replace=False)
        return self._store[int(a)], self._store[int(b)]


def make(config: Config, faces: Faces, job: Job) -> Made:
    """The picture of a job; the same job gives the same picture."""
    rng = np.random.default_rng([config.seed, crc32(job.name.encode())])
    number = job.layout(config)
    chip, donor = faces.draw(rng, job.split, number % config.folds, config.folds)
    made: Case = case(rng, layout(number, job.split), chip, donor, job.split)
    return honest(rng, made) if job.tool is None else job.tool.make(rng, made)


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Of one picture."""

    surface: Float64Array
    seams: Float64Array
    lines: Float64Array
    altered: np.ndarray[tuple[int], np.dtype[np.bool_]]


def measure(image_rgb: UInt8Array, lines_xyxy: Float32Array, face_xyxy: Float32Array | None, altered: Sequence[int] = ()) -> Figures:
    seen = Planes.of(image_rgb, lines_xyxy, face_xyxy)
    lines, which = lettering.rows(seen)
    return Figures(surface.row(seen), seams.row(seen), lines, np.array([i in altered for i in which], bool))


def measured(folder: Path, job: Job, config: Config, faces: Faces) -> Figures:
    """Figures of a job; the picture is kept, and its figures under a name that changes with the code that measures."""
    found = folder / f"figures-{_version():08x}" / f"{job.name}.npz"
    if found.exists():
        with np.load(found) as stored:
            return Figures(**{k: stored[k] for k in Figures.__slots__})
    picture, places = folder / "pages" / f"{job.name}.png", folder / "pages" / f"{job.name}.npz"
    if not places.exists():
        made = make(config, faces, job)
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), made.image_rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        np.savez(places, lines=made.lines_xyxy, mesh=made.landmarks_px, altered=np.array(made.altered, int))
    image = np.asarray(cv2.imread(str(picture), cv2.IMREAD_COLOR)[..., ::-1], np.uint8)
    with np.load(places) as stored:
        rng = np.random.default_rng(crc32(job.name.encode()))
        figures = measure(image, _as_read(rng, stored["lines"]), _box(stored["mesh"]), stored["altered"].tolist())
    found.parent.mkdir(parents=True, exist_ok=True)
    np.savez(found, **{k: getattr(figures, k) for k in Figures.__slots__})
    return figures


def _as_read(rng: np.random.Generator, boxes: Float32Array) -> Float32Array:
    """Boxes as an OCR gives them: a little too large, never quite in place."""
    tall = (boxes[:, 3] - boxes[:, 1])[:, None]
    return np.asarray(boxes + tall * (np.array([-0.12, -0.15, 0.12, 0.15]) + rng.normal(0, 0.05, boxes.shape)), np.float32)


def _box(mesh: Float32Array) -> Float32Array:
    return np.asarray(np.concatenate([mesh.min(axis=0), mesh.max(axis=0)]), np.float32)


@lru_cache(maxsize=1)
def _version() -> int:
    # The syntax tree, so that a comment or a line break measures nothing anew.
    source = "".join(ast.dump(ast.parse(inspect.getsource(m))) for m in (planes, surface, seams, lettering))
    return crc32(source.encode())


# ---- weights, points, report


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A finished picture."""

    job: Job
    layout: int
    figures: Figures

    def of(self, kind: str) -> Float64Array:
        """(N, F) figures a hint judges: one row a line for altered text, else one."""
        if kind == "text":
            return self.figures.lines
        return (self.figures.seams if kind == "portrait" else self.figures.surface)[None]

    def is_attack(self, kind: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) which of these rows an attack of this kind made."""
        mine = self.job.tool is not None and self.job.tool.species == kind
        return self.figures.altered if kind == "text" else np.array([mine])


def fit_hint(rows: Sequence[Row], kind: str, config: Config) -> Hint:
    """Of honest pictures against those of one kind of attack."""
    used = [r for r in rows if r.job.tool is None or r.job.tool.species == kind]
    figures, attack = np.concatenate([r.of(kind) for r in used]), np.concatenate([r.is_attack(kind) for r in used])
    centre = _medians(figures[~attack])
    scale = 1.4826 * _medians(np.abs(figures[~attack] - centre)) + 1e-3
    z = np.nan_to_num(np.clip((figures - centre) / scale, -config.cut, config.cut), nan=0.0)
    weight = np.asarray(np.where(attack, 0.5 / attack.sum(), 0.5 / (~attack).sum()), np.float64) * len(used)
    answer, offset = logistic(np.concatenate([z, np.abs(z)], axis=1), attack, weight, config.ridge)
    weights, away = np.split(answer, 2)
    return Hint(centre, scale, weights, away, offset, config.cut)


def _medians(table: Float64Array) -> Float64Array:
    """Of each column, of what could be measured; 0 where nothing could."""
    known = [column[np.isfinite(column)] for column in table.T]
    return np.array([np.median(column) if len(column) else 0.0 for column in known])


def logit_of(hint: Hint, row: Row, kind: str) -> float:
    """Of a whole picture; that of a page without judgeable lines is the least suspicious."""
    logits = hint(row.of(kind))
    return float(logits.max()) if len(logits) else -10.0


def out_of_fold(rows: Sequence[Row], kind: str, config: Config) -> Float64Array:
    """(N,) logits of training pictures by weights that know neither their country nor their people."""
    logits = np.zeros(len(rows))
    for fold in range(config.folds):
        hint = fit_hint([r for r in rows if r.layout % config.folds != fold], kind, config)
        for i, row in enumerate(rows):
            if row.layout % config.folds == fold:
                logits[i] = logit_of(hint, row, kind)
    return logits


def calibrated(hint: Hint, logits: Float64Array, attack: np.ndarray[tuple[int], np.dtype[np.bool_]], config: Config) -> Suspicion:
    """The hint with P(attack) where `Config.attack_share` of pictures are attacks, and its point."""
    weight = np.asarray(
        np.where(attack, config.attack_share / attack.sum(), (1 - config.attack_share) / (~attack).sum()), np.float64
    ) * len(attack)
    slope, offset = logistic(logits[:, None], attack, weight, 1e-6)
    platt = Platt(float(slope[0]), offset)
    at = float(np.quantile(logits[~attack], 1 - config.review_bpcer, method="higher"))
    return Suspicion(hint, platt, platt(at))


def report(rows: Sequence[Row], suspicion: Suspicion, kind: str) -> dict[str, Any]:
    """AUC and findings of each tool on the validation split's layouts and people; of other kinds' tools too, whom it should not name."""
    honest_rows = [r for r in rows if r.job.tool is None]
    quiet = np.array([suspicion.platt(logit_of(suspicion.hint, r, kind)) for r in honest_rows])
    out: dict[str, Any] = {"honest": shares(quiet, suspicion.point)}
    groups = {t.name: [r for r in rows if r.job.tool is t] for t in TOOLS}
    mine = [t for t in TOOLS if t.species == kind]
    for name, chosen in (
        *((t.name, [t]) for t in mine),
        ("known_tools", [t for t in mine if not t.held_out]),
        ("held_out_tools", [t for t in mine if t.held_out]),
        ("other_attacks", [t for t in TOOLS if t.species != kind]),
    ):
        found = [r for t in chosen for r in groups[t.name]]
        if not found:
            continue
        loud = np.array([suspicion.platt(logit_of(suspicion.hint, r, kind)) for r in found])
        both, labels = np.concatenate([quiet, loud]), np.array([False] * len(quiet) + [True] * len(loud))
        low, high = auc_interval(both, labels, [str(r.layout) for r in (*honest_rows, *found)]) or (0.0, 1.0)
        out[name] = shares(loud, suspicion.point) | {"auc": auc(quiet, loud), "auc_95": [low, high]}
    return out


def finished(folder: Path, config: Config, faces: Faces) -> list[Row]:
    """All pictures that were made, their figures measured anew where the code that measures changed."""
    made = [j for j in jobs(config) if (folder / "pages" / f"{j.name}.npz").exists()]
    return [Row(j, j.layout(config), measured(folder, j, config, faces)) for j in made]


def write_index(folder: Path, rows: Iterable[Row]) -> None:
    """What benchmarks.documents needs to know of the pictures."""
    facts = [
        {
            "file": f"{row.job.name}.png",
            "split": row.job.split,
            "layout": row.layout,
            "tool": "" if row.job.tool is None else row.job.tool.name,
            "species": "" if row.job.tool is None else row.job.tool.species,
            "held_out": row.job.tool is not None and row.job.tool.held_out,
        }
        for row in rows
    ]
    (folder / "pages" / "index.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def fit(folder: Path, config: Config, faces: Faces, *, write: bool) -> None:
    """Fit every hint, print what it reaches and, on demand, write ``[document_doubt]``."""
    rows = finished(folder, config, faces)
    write_index(folder, rows)
    learnt, unseen = ([r for r in rows if r.job.split == split] for split in SPLITS)
    table: dict[str, Any] = {"command": COMMAND}
    for kind, names in NAMES.items():
        used = [r for r in learnt if r.job.tool is None or r.job.tool.species == kind]
        attack = np.array([r.job.tool is not None for r in used])
        logits = out_of_fold(used, kind, config)
        suspicion = calibrated(fit_hint(used, kind, config), logits, attack, config)
        judged = report(unseen, suspicion, kind)
        fitted_on = {"honest": int((~attack).sum()), "attacks": int(attack.sum()), "auc_out_of_fold": auc(logits[~attack], logits[attack])}
        print(f"{kind}: {fitted_on}, point {suspicion.point:.3f}")
        for name, found in judged.items():
            print(f"  {name:32} {found['flagged']:3}/{found['of']:<3} auc {found.get('auc', float('nan')):.3f}")
        table[kind] = {
            "figures": list(names),
            **{key: getattr(suspicion.hint, key).tolist() for key in ("centre", "scale", "weights", "away")},
            "offset": suspicion.hint.offset,
            "cut": suspicion.hint.cut,
            "calibration": {"slope": suspicion.platt.slope, "offset": suspicion.platt.offset},
            "points": {"review": suspicion.point},
            "fitted_on": fitted_on,
            "validation": {name: judged[name] for name in ("honest", "known_tools", "held_out_tools") if name in judged},
        }
    if write:
        write_table(THRESHOLDS, "document_doubt", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "fit"))
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--part", default="0/1", help="k/n: make every n-th picture from k on")
    parser.add_argument("--report", action="store_true", help="print what was measured and write nothing")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    config, folder = Config.load(), args.cache / "documents"
    faces = Faces(ChipStore(args.cache / "real"), config.sources)
    if args.what == "make":
        k, n = (int(v) for v in args.part.split("/"))
        for job in list(jobs(config))[k::n]:
            measured(folder, job, config, faces)
    else:
        fit(folder, config, faces, write=not args.report)


if __name__ == "__main__":
    main()
