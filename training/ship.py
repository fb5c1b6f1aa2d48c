"""Trained nets -> weights/: exported, quantised, calibrated together, entered in the manifest."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import torch

from kyc_guard.faces.views import VIEWS
from training.calibrate import fit, table
from training.chips import ChipStore
from training.evaluate import score_split, summary, views_of
from training.export import export_onnx, quantise, sha256
from training.models import AttackNet
from training.places import CONFIGS
from training.thresholds import THRESHOLDS, nets_behind, write_table
from training.train import Config, trained

WEIGHTS = THRESHOLDS.parent
LICENCE = "research use only: trained on CASIA-FASD, NUAA, UTKFace, FFHQ and others, see the card"
_RANGE_VIEWS = 256
_EXACT = 5
"""Convolutions kept in float: the finest traces are lost in the first. On calibration views logits in int8 and float correlate by .991 and
more with five, by -.16 to .34 (patch) with none."""


def ship(cache: Path, runs: dict[str, str]) -> None:
    """Write face_attack_<view>.onnx (float and int8), their manifest entries and the [face_attack] thresholds.

    Args:
        runs: view -> run folder under ``cache/runs``; a view's own name where it is not named.
    """
    torch.set_num_threads(1)
    stores = (ChipStore(cache / "real"), ChipStore(cache / "bank"))
    nets: dict[str, AttackNet] = {}
    for name, view in VIEWS.items():
        config = Config.load(CONFIGS / f"{name}.toml")
        nets[name] = net = trained(cache / "runs" / runs.get(name, name), config)
        path = WEIGHTS / f"face_attack_{name}.onnx"
        difference = export_onnx(net, path, view.side_px)
        small = WEIGHTS / f"face_attack_{name}_int8.onnx"
        real = stores[0]
        chosen = [i for i, r in enumerate(real.rows) if r.split == "calibration"]
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, _RANGE_VIEWS).round().astype(int)]
        quantise(path, small, [views_of(view, real, i)[0] for i in chosen], exact=_EXACT)
        for file, key in ((path, f"face_attack_{name}"), (small, f"face_attack_{name}_int8")):
            entry = {"file": file.name, "sha256": sha256(file), "version": "1", "licence": LICENCE}
            write_table(WEIGHTS / "manifest.toml", key, {**entry, "card": "cards/face_attack.md", "command": "make train"})
        print(f"{path.name}: {path.stat().st_size:,} bytes, torch - ONNX {difference:.1e}; {small.name}: {small.stat().st_size:,} bytes")
    scored = {name: score_split(net, VIEWS[name], stores, "calibration") for name, net in nets.items()}
    share = float(tomllib.loads((CONFIGS / "calibration.toml").read_text(encoding="utf-8"))["simulated_share"])
    rows = next(iter(scored.values()))[0]
    logits = {name: values for name, (_, values) in scored.items()}
    calibration = fit(rows, logits, share)
    points = table(rows, calibration, logits, CONFIGS / "calibration.toml")
    write_table(THRESHOLDS, "face_attack", points | {"nets": nets_behind(WEIGHTS / "manifest.toml", "face_attack")})
    print(json.dumps(calibration.to_table(), indent=1))
    print(json.dumps({k: round(v, 4) for k, v in summary(rows, calibration.log_odds(logits).astype(np.float32)).items()}, indent=1))
    print("Hints on portraits were fitted to the nets before these, so nothing loads until python -m training.document_portraits has run")
