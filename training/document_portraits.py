"""How well the face-attack nets tell generated, swapped and composed faces once these are portraits of photographed documents.

    python -m training.document_portraits [--people 50]     prints AUC and median log-odds of each kind; writes nothing

Run it after new nets ship. On those of 2026-11-22 the digital log-odds reach AUC 0.61 to 0.64, which is why no detector asks them about the
portrait: a print photographed again has lost the traces they look for. The physical ones see a print, which a portrait is.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from kyc_guard.config import Settings
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces import face_finder
from kyc_guard.reports.metrics import auc, auc_interval
from training.chips import ChipStore
from training.document_attacks import case, honest
from training.document_pages import layout
from training.documents import Config
from training.places import CACHE

_KINDS = ("bona_fide", "generated", "swap", "composite")


def chosen(store: ChipStore, sources: tuple[str, ...]) -> dict[str, list[int]]:
    """Chips the nets were not trained on: one a person of bona fide portraits and of every kind of digital attack."""
    found: dict[tuple[str, str, str], int] = {}
    for i, row in enumerate(store.rows):
        kind = row.attack_type if row.is_attack else "bona_fide"
        usable = kind in _KINDS and row.split != "train" and (row.is_attack or row.source in sources)
        if usable:
            found.setdefault((kind, row.source, row.subject or row.path), i)
    kinds: dict[str, list[int]] = defaultdict(list)
    for (kind, _, _), i in found.items():
        kinds[kind].append(i)
    return kinds


def digital(store: ChipStore, i: int, nets: FaceAttack, layouts: int) -> float | None:
    """Log-odds of a digital attack on the portrait of a photographed document that shows this chip; ``None`` where no face is found."""
    rng = np.random.default_rng(i)
    made = honest(rng, case(rng, layout(int(rng.integers(layouts)), "train"), store[i], store[i], "train"))
    faces = face_finder().find(made.image_rgb)
    return nets.score_faces([(made.image_rgb, faces[0])], still=True)[0].log_odds[1] if faces else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--people", type=int, default=50, help="of each kind")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    config, store = Config.load(), ChipStore(args.cache / "real")
    nets = FaceAttack.load(Bundle.load(Settings()))
    rng = np.random.default_rng(0)
    scores = {}
    for kind, rows in sorted(chosen(store, config.sources).items()):
        some = rng.permutation(rows)[: args.people]
        scores[kind] = np.array([z for i in some if (z := digital(store, int(i), nets, config.layouts)) is not None])
    for kind, found in scores.items():
        line = f"{kind:10} {len(found):4} portraits, median log-odds {np.median(found):+.2f}"
        if kind != "bona_fide":
            both = np.concatenate([scores["bona_fide"], found])
            labels = np.arange(len(both)) >= len(scores["bona_fide"])
            low, high = auc_interval(both, labels, [str(i) for i in range(len(both))]) or (0.0, 1.0)
            line += f", AUC {auc(scores['bona_fide'], found):.3f} [{low:.3f}, {high:.3f}]"
        print(line)


if __name__ == "__main__":
    main()
