"""Fit and judge the face-attack nets on the portrait of a document: is it generated, swapped or put together?

    python -m training.document_portraits              scores portraits (resumable) and writes [face_attack_print] and [face_attack_chip]
    python -m training.document_portraits --report     prints what they reach and writes nothing

Run it after new face-attack nets ship. Chips the nets were not trained on are put on documents in three ways: printed and photographed, in
a file that never was on paper, and small and compressed as a passport's chip holds them. Of the nets' two answers only the digital one is
asked: the physical one sees a print, which a portrait is. Calibration and point are set on calibration people and known simulators;
validation people, other sources and simulators held out are only reported on.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from kyc_guard.attacks.optics import Rng, chance, uniform
from kyc_guard.calibration import Platt
from kyc_guard.config import Settings
from kyc_guard.detectors.face_attack import KINDS, FaceAttack, FaceScore
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.doctor import write_selftest
from kyc_guard.documents.page import find_portrait
from kyc_guard.faces import face_finder
from kyc_guard.recoding import jpeg
from kyc_guard.reports.metrics import auc, auc_interval
from kyc_guard.types import Face, Float64Array, UInt8Array
from training.chips import Chip, ChipStore
from training.document_attacks import case, honest
from training.document_pages import draw, holder, layout
from training.documents import Config
from training.fitting import logistic, shares
from training.places import CACHE
from training.thresholds import THRESHOLDS, nets_behind, write_table

COMMAND = "python -m training.document_portraits"
_REVIEW_BPCER = {"print": 0.002, "chip": 0.01}
"""Of honest portraits, the share a person may be shown, by where they stand. In print the nets are near chance: there only what hardly any
honest portrait reaches is worth a person's time, as with the other hints about photographed pages."""
_KINDS = ("generated", "swap", "composite")
_SHARP = ("tpdne_ffhq_dinablachman", "stylegan140k_ismaolen", "yonsei_real_and_fake_face")
"""Sources of honest portraits as large and clean as those a state takes. UTKFace's are small pictures from the web, which the nets tell
from generated ones by that alone: set against them every attack looks easier to find than it is."""
_PER_SIMULATOR = 20
_DRAWS = {("calibration", True): 4, ("calibration", False): 1, ("validation", True): 1, ("validation", False): 1}
"""(split, honest) -> documents a chip is put on: calibration people are few, and one in a hundred is wanted of them."""
_LAYOUTS = 40


@dataclass(frozen=True, slots=True)
class Task:
    """A chip to be put on a document."""

    store: str
    row: int
    draw: int
    split: str
    group: str
    """"honest", or the kind of attack and where it comes from."""
    person: str

    @property
    def source(self) -> str:
        return self.person.partition("/")[0]

    @property
    def seed(self) -> list[int]:
        return [self.store == "bank", self.row, self.draw]


def tasks(stores: Mapping[str, ChipStore], sources: Sequence[str]) -> Iterator[Task]:
    """One chip a person and origin, of bona fide portraits and of every kind of digital attack the nets were not trained on."""
    seen: set[tuple[str, str, str]] = set()
    made: dict[tuple[str, str], int] = defaultdict(int)
    for name, store in stores.items():
        for i in np.random.default_rng(0).permutation(len(store.rows)):
            row = store.rows[i]
            if row.split == "train" or (row.is_attack and row.attack_type not in _KINDS):
                continue
            if (name == "bank" or not row.is_attack) and row.source not in sources:
                continue
            person = f"{row.source}/{row.subject or row.path}"
            group = "honest" if not row.is_attack else f"{row.attack_type} ({'simulated' if row.attack else row.source})"
            made[row.split, row.attack] += 1
            if (group, row.attack, person) in seen or (row.attack and made[row.split, row.attack] > _PER_SIMULATOR):
                continue
            seen.add((group, row.attack, person))
            for number in range(_DRAWS[row.split, not row.is_attack]):
                yield Task(name, int(i), number, row.split, group, person)


# ------------------------------------------------------------------------------------------------------- three ways to a document

Seen = tuple[UInt8Array, Face]


def printed(rng: Rng, chip: Chip, split: str) -> Seen | None:
    """On paper or card, photographed or scanned, and sent."""
    part = _part(split)
    return _on_page(honest(rng, case(rng, layout(int(rng.integers(_LAYOUTS)), part), chip, chip, part)).image_rgb)


def born_digital(rng: Rng, chip: Chip, split: str) -> Seen | None:
    """In a file that was never on paper, as residence permits and licences come by mail."""
    page = draw(rng, layout(int(rng.integers(_LAYOUTS)), _part(split)), holder(rng), chip)
    unit = uniform(rng, 0.7, 1.15)
    small = np.asarray(cv2.resize(page.image_rgb, None, fx=unit, fy=unit, interpolation=cv2.INTER_AREA), np.uint8)
    return _on_page(jpeg(small, int(rng.integers(75, 97))) if chance(rng, 0.7) else small)


def in_chip(rng: Rng, chip: Chip, _split: str) -> Seen | None:
    """Three by four, 240 to 480 px wide, JPEG or JPEG 2000 in some 8 to 20 kB, as data group 2 holds it."""
    side = chip.image_rgb.shape[0]
    crop = round(0.75 * side)
    x0 = (side - crop) // 2
    wide = int(rng.choice([240, 300, 360, 480]))
    way = cv2.INTER_AREA if wide < crop else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(chip.image_rgb[:, x0 : x0 + crop], (wide, wide * 4 // 3), interpolation=way), np.uint8)
    stored = jpeg(picture, int(rng.integers(60, 91))) if chance(rng, 0.5) else _jpeg_2000(picture, int(rng.integers(8_000, 20_000)))
    faces = face_finder().find(stored)
    return (stored, faces[0]) if faces else None


def _part(split: str) -> str:
    """Layouts are split in two: what is fitted on, and what is only reported on."""
    return "train" if split == "calibration" else split


def _on_page(image_rgb: UInt8Array) -> Seen | None:
    found = find_portrait(image_rgb)
    return None if found is None else (found.upright_rgb, found.face)


def _jpeg_2000(image_rgb: UInt8Array, size_bytes: int) -> UInt8Array:
    buffer = io.BytesIO()
    Image.fromarray(image_rgb).save(buffer, "JPEG2000", quality_mode="rates", quality_layers=[max(1.0, image_rgb.nbytes / size_bytes)])
    return np.asarray(Image.open(buffer).convert("RGB"), np.uint8)


WAYS: Mapping[str, Callable[[Rng, Chip, str], Seen | None]] = {"print": printed, "born_digital": born_digital, "chip": in_chip}


# --------------------------------------------------------------------------------------------------------------- scores, points


@dataclass(frozen=True, slots=True)
class Score:
    """Digital log-odds of one portrait on one document, and the width of its face in px."""

    task: Task
    log_odds: float
    face_px: float


def scores(folder: Path, way: str, stores: Mapping[str, ChipStore], todo: Sequence[Task], nets: FaceAttack) -> list[Score]:
    """Of every task in which a face was found; what ``folder`` holds already is not done again. It holds each view's own digital logit,
    so that another join of the views needs no new scores.
    """
    file = folder / f"{way}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    known: dict[str, tuple[dict[str, float], float] | None] = dict(map(json.loads, lines))
    with file.open("a", encoding="utf-8") as out:
        for task in todo:
            key = "-".join(map(str, task.seed))
            if key not in known:
                seen = WAYS[way](np.random.default_rng(task.seed), stores[task.store][task.row], task.split)
                known[key] = None if seen is None else (_digital(nets.score_faces([seen], looks="plain")[0]), seen[1].quality.size_px)
                print(json.dumps([key, known[key]]), file=out, flush=True)
    join, found = nets.joins[KINDS.index("digital")], ((task, known["-".join(map(str, task.seed))]) for task in todo)
    return [Score(task, join(entry[0]), entry[1]) for task, entry in found if entry is not None]


def _digital(score: FaceScore) -> dict[str, float]:
    return {view: logits[KINDS.index("digital")] for view, logits in score.by_view.items()}


def fitted(rows: Sequence[Score], attack_share: float, review_bpcer: float) -> tuple[Platt, float]:
    """P(attack) where ``attack_share`` are attacks, and the point that ``review_bpcer`` of the worst source's honest portraits reach."""
    logits, attack = np.array([s.log_odds for s in rows]), np.array([s.task.group != "honest" for s in rows])
    weight = np.where(attack, attack_share / attack.sum(), (1 - attack_share) / (~attack).sum()) * len(attack)
    slope, offset = logistic(logits[:, None], attack, np.asarray(weight, np.float64), 1e-6)
    platt = Platt(float(slope[0]), offset)
    of_source: dict[str, list[float]] = defaultdict(list)
    for score in rows:
        if score.task.group == "honest":
            of_source[score.task.source].append(score.log_odds)
    return platt, platt(max(float(np.quantile(found, 1 - review_bpcer, method="higher")) for found in of_source.values()))


def judged(rows: Sequence[Score], platt: Platt, point: float, sharp: Sequence[str] = _SHARP) -> dict[str, Any]:
    """Findings of each group, and its AUC against the honest portraits of ``sharp`` sources."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in rows:
        groups[score.task.group].append(score)
        if score.task.group != "honest":
            groups["all attacks"].append(score)
    honest_ones = groups.pop("honest")
    out: dict[str, Any] = {"honest": shares(_probabilities(honest_ones, platt), point)}
    honest_ones = [s for s in honest_ones if s.task.source in sharp]
    quiet = _probabilities(honest_ones, platt)
    for name, found in sorted(groups.items()):
        loud = _probabilities(found, platt)
        both, labels = np.concatenate([quiet, loud]), np.arange(len(quiet) + len(loud)) >= len(quiet)
        low, high = auc_interval(both, labels, [s.task.person for s in (*honest_ones, *found)]) or (0.0, 1.0)
        out[name] = shares(loud, point) | {"auc": auc(quiet, loud), "auc_95": [low, high]}
    return out


def _probabilities(rows: Sequence[Score], platt: Platt) -> Float64Array:
    return np.array([platt(s.log_odds) for s in rows], np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--report", action="store_true", help="print what was measured and write nothing")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    settings = Settings()
    bundle = Bundle.load(settings)
    # Without what ties tables to the nets before: these very ones are about to be fitted to new nets.
    loose = {name: {k: v for k, v in table.items() if k != "nets"} for name, table in bundle.thresholds.tables.items()}
    bundle = replace(bundle, thresholds=replace(bundle.thresholds, tables=loose))
    nets = FaceAttack.load(bundle)
    min_px = bundle.policy.gate("portrait_attack_min_px")
    config, stores = Config.load(), {name: ChipStore(args.cache / name) for name in ("real", "bank")}
    todo = list(tasks(stores, config.sources))
    folder = args.cache / "document_portrait_views" / "-".join(net.weight.sha256[:8] for net in nets.nets.values())
    found: dict[str, list[Score]] = {}
    for way in WAYS:
        # A file that never was on paper comes as a page does and is judged as one: nothing is fitted on it.
        wanted = [t for t in todo if way in _REVIEW_BPCER or t.split == "validation"]
        found[way] = [s for s in scores(folder, way, stores, wanted, nets) if s.face_px >= min_px]
    for medium, bpcer in _REVIEW_BPCER.items():
        known = [s for s in found[medium] if s.task.split == "calibration"]
        platt, point = fitted(known, config.attack_share, bpcer)
        ways = ("print", "born_digital") if medium == "print" else (medium,)
        reached = {way: judged([s for s in found[way] if s.task.split == "validation"], platt, point) for way in ways}
        honest_count = sum(s.task.group == "honest" for s in known)
        table: dict[str, Any] = {
            "command": COMMAND,
            "calibration": {"slope": platt.slope, "offset": platt.offset},
            "points": {"review": point},
            "fitted_on": {"honest": honest_count, "attacks": len(known) - honest_count},
            "nets": nets_behind(THRESHOLDS.parent / "manifest.toml", "face_attack"),
            "validation": {way: {name.replace(" ", "_"): reached[way][name] for name in ("honest", "all attacks")} for way in ways},
        }
        print(f"{medium}: {table['fitted_on']}, point {point:.3f}")
        for way in ways:
            for name, group in reached[way].items():
                low, high = group.get("auc_95", (np.nan, np.nan))
                counts = f"{group['flagged']:3}/{group['of']:<3}"
                print(f"  {way:12} {name:40} {counts} auc {group.get('auc', np.nan):.3f} [{low:.3f}, {high:.3f}]")
        if not args.report:
            write_table(THRESHOLDS, f"face_attack_{medium}", table)
    if not args.report:
        print(f"{write_selftest(settings)}: written")


if __name__ == "__main__":
    main()
