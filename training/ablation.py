"""What each ingredient buys: short trainings that differ in one thing from the first, judged on the validation split.

Every figure is of one view alone, by the head that is asked. Short trainings rank ingredients; what the shipped nets reach stands
in benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard.faces.views import VIEWS
from kyc_guard.types import DIGITAL, PHYSICAL
from training.chips import ChipStore
from training.evaluate import score_split, summary
from training.places import CONFIGS
from training.train import Config, train, trained, with_tuples


@dataclass(frozen=True, slots=True)
class Plan:
    """configs/ablation.toml for one view: its pairs, and by name what each variant changes in the view's config."""

    pairs: int
    variants: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, path: Path, view: str) -> Plan:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        chosen = {v["name"]: v.get("changes", {}) for v in data["variants"] if view in v["views"]}
        return cls(data["pairs"][view], chosen)


def run(cache: Path, view: str, out: Path) -> None:
    """Train what is not trained yet, judge every variant of ``view`` and write ``out``; short of nothing but time to resume."""
    plan = Plan.load(CONFIGS / "ablation.toml", view)
    config = Config.load(CONFIGS / f"{view}.toml").shortened(plan.pairs)
    stores = ChipStore(cache / "real"), ChipStore(cache / "bank")
    found: dict[str, dict[str, float]] = {}
    for name, changes in plan.variants.items():
        variant = replace(config, **with_tuples(changes))
        folder = cache / "runs" / f"ablation_{view}_{name.replace(' ', '_')}"
        if not (folder / "net.pt").exists():
            train(variant, cache, folder, resume=True)
        found[name] = judged(summary(*score_split(trained(folder, variant), VIEWS[view], stores, "validation", share=1 / 3)))
        print(name, found[name], flush=True)
        out.write_text(json.dumps({"pairs": plan.pairs, "variants": found}, indent=1) + "\n", encoding="utf-8")


def judged(figures: dict[str, float]) -> dict[str, float]:
    """The four figures an ingredient is judged by, out of `training.evaluate.summary`."""

    def mean(kinds: frozenset[str]) -> float:
        return float(np.mean([v for k, v in figures.items() if k.startswith("simulated ") and k.removeprefix("simulated ") in kinds]))

    return {
        "physical": figures["physical pooled"],
        "digital": figures["digital pooled"],
        "reserved physical simulators": mean(PHYSICAL),
        "reserved digital simulators": mean(DIGITAL),
    }
