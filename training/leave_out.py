"""Leave one source out: what nets that never saw a source make of it. The figure that speaks of the cameras and makers to come.

Rows are of two kinds, which have a mean each: folds, trained briefly without the source, and the shipped nets on sources they never
had. A fold leaves out a physical and a digital source at once: two trainings' worth for the price of one, and harder, not easier.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kyc_guard.faces.views import VIEWS
from kyc_guard.reports.metrics import auc, auc_interval
from training.calibrate import Calibration, fit
from training.chips import ChipRow, ChipStore
from training.evaluate import score, score_split
from training.models import AttackNet
from training.places import CONFIGS
from training.train import Config, trained


@dataclass(frozen=True, slots=True)
class Plan:
    """configs/leave_out.toml: pairs a view, the folds, the sources the shipped nets never saw anyhow, and those not judged, with why."""

    pairs: Mapping[str, int]
    folds: tuple[tuple[str, ...], ...]
    never_trained_on: tuple[str, ...]
    omitted: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> Plan:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(data["pairs"], tuple(tuple(fold) for fold in data["folds"]), tuple(data["never_trained_on"]), data["omitted"])


def run_name(fold: Sequence[str], view: str) -> str:
    """Folder under CACHE/runs of the net of ``view`` that never saw ``fold``."""
    return f"without_{'_'.join(fold)}_{view}"


def judge(cache: Path, plan: Plan, shipped: Mapping[str, str], out: Path) -> dict[str, dict[str, object]]:
    """Score every left-out source with the nets that never saw it, calibrated without it, and write ``out``.

    Args:
        shipped: view -> run folder of the full nets, for the sources they never saw.

    Returns:
        Source -> auc, ci (95 %, people resampled), n_attack, n_bona_fide (pictures and clips), against, kind (``short fold`` or
        ``shipped``); of an omitted source the counts and why.
    """
    torch.set_num_threads(1)
    real, bank = ChipStore(cache / "real"), ChipStore(cache / "bank")
    found: dict[str, dict[str, object]] = {}
    for fold in (*plan.folds, plan.never_trained_on):
        kind = "shipped" if fold == plan.never_trained_on else "short fold"
        runs = dict(shipped) if kind == "shipped" else {view: run_name(fold, view) for view in VIEWS}
        nets = {view: trained(cache / "runs" / run, Config.load(CONFIGS / f"{view}.toml")) for view, run in runs.items()}
        calibration = _calibrated(nets, (real, bank), fold)
        for source in fold:
            mine = [i for i, r in enumerate(real.rows) if r.source == source]
            own = any(not real.rows[i].is_attack for i in mine)
            if not own:
                mine += [i for i, r in enumerate(real.rows) if r.split == "validation" and not r.is_attack and r.source not in fold]
            logits = {view: score(net, VIEWS[view], real, mine) for view, net in nets.items()}
            against = "its own bona fides" if own else "bona fides of the validation split"
            found[source] = {**_separation([real.rows[i] for i in mine], calibration.log_odds(logits)), "against": against, "kind": kind}
            print(source, found[source], flush=True)
    found |= {source: {**_counted(real.rows, source), "why": why} for source, why in plan.omitted.items()}
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _calibrated(nets: Mapping[str, AttackNet], stores: Sequence[ChipStore], fold: Sequence[str]) -> Calibration:
    scored = {view: score_split(net, VIEWS[view], stores, "calibration") for view, net in nets.items()}
    rows = next(iter(scored.values()))[0]
    keep = np.array([r.source not in fold for r in rows])
    share = float(tomllib.loads((CONFIGS / "calibration.toml").read_text(encoding="utf-8"))["simulated_share"])
    return fit([r for r, k in zip(rows, keep, strict=True) if k], {v: values[keep] for v, (_, values) in scored.items()}, share)


def _counted(rows: Sequence[ChipRow], source: str) -> dict[str, object]:
    """Pictures and clips of a source, as `_separation` counts them."""
    paths = {label: {r.path for r in rows if (r.source, r.label) == (source, label)} for label in ("attack", "bona_fide")}
    return {f"n_{label}": len(mine) for label, mine in paths.items()}


def _separation(rows: Sequence[ChipRow], log_odds: NDArray[np.float64]) -> dict[str, object]:
    """AUC over pictures and clips: the frames of a clip are one presentation, its log-odds their mean."""
    frames: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        frames[row.path].append(i)
    of = [members[0] for members in frames.values()]
    mean = np.array([log_odds[members].mean(axis=0) for members in frames.values()])
    probability = -np.expm1(-np.logaddexp(0, mean).sum(axis=1))
    attack = np.array([rows[i].is_attack for i in of])
    if attack.all() or not attack.any():
        return {"auc": None, "ci": None, "n_attack": int(attack.sum()), "n_bona_fide": int((~attack).sum())}
    people = [rows[i].subject.split("+")[0] for i in of]
    return {
        "auc": auc(probability[~attack], probability[attack]),
        "ci": auc_interval(probability, attack, people),
        "n_attack": int(attack.sum()),
        "n_bona_fide": int((~attack).sum()),
    }
