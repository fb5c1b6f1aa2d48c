"""Train, judge and export the liveness net.

python -m training.liveness clips     make the clips (hours on a busy machine; resumable)
python -m training.liveness figures   measure every clip
python -m training.liveness report    leave-one-source-out on train, validation, ablation, the shortcut baseline
python -m training.liveness export    train on all of train, write weights, thresholds and the report
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kyc_guard.config import Policy, Settings
from kyc_guard.detectors.liveness import SPECIES
from kyc_guard.metrics import auc
from kyc_guard.motion import GROUPS, POOLED_NAMES
from training import liveness_clips
from training.__main__ import CACHE, CONFIGS, DATA
from training.export import sha256
from training.liveness_clips import ClipRow
from training.liveness_figures import Table, balance, measure
from training.thresholds import write_table

FAMILIES = {"shown": ("print", "print_cut", "replay"), "altered": ("swap", "reenactment")}
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True, slots=True)
class Config:
    variants: int
    sims: int
    hidden: int
    dropout: float
    input_noise: float
    weight_decay: float
    lr: float
    epochs: int
    pair_weight: float
    members: int
    seed: int
    review_bpcer: float
    reject_bpcer: float

    @classmethod
    def load(cls, path: Path) -> Config:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


class LivenessNet(nn.Module):
    """Two experts, one for shown pictures and one for altered faces, each a sum of small nets over groups of figures.

    An attack is one or the other, so their logits join by logsumexp; what a print gives away (everything moves as one) is the
    opposite of what a swap does, and one sum could not say both. Input (N, F) float32 with NaN where a figure could not be
    measured; outputs logit (N,), contributions (N, groups) weighted by how much each expert counts, species (N, species)
    probabilities.
    """

    def __init__(self, figures: NDArray[np.float32], hidden: int, dropout: float, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        centre = np.nan_to_num(np.nanmedian(figures, axis=0))
        low, high = np.nanpercentile(figures, [16, 84], axis=0)
        scale = np.nan_to_num((high - low) / 2, nan=1.0)
        self.register_buffer("centre", torch.from_numpy(centre.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(np.maximum(scale, 1e-3).astype(np.float32)))
        self.centre: Tensor
        self.scale: Tensor
        self.groups = [list(g) for g in groups]
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Dropout(dropout), nn.Linear(len(g), hidden), nn.Tanh(), nn.Linear(hidden, len(FAMILIES), bias=False))
            for g in self.groups
        )
        self.bias = nn.Parameter(torch.zeros(len(FAMILIES)))
        self.species = nn.Linear(figures.shape[1], len(SPECIES))

    def standard(self, figures: Tensor) -> Tensor:
        """Robust standard scores, cut at 4, 0 where unknown."""
        z = (figures - self.centre) / self.scale
        return torch.where(torch.isnan(z), torch.zeros_like(z), z).clamp(-4.0, 4.0)

    def experts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(N, families) logits and (N, families, groups) contributions."""
        parts = torch.stack([part(z[:, g]) for part, g in zip(self.parts, self.groups, strict=True)], dim=2)
        return parts.sum(dim=2) + self.bias, parts

    def forward(self, figures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.standard(figures)
        heads, parts = self.experts(z)
        spoken = (heads.softmax(dim=1)[:, :, None] * parts).sum(dim=1)
        return heads.logsumexp(dim=1), spoken, self.species(z).softmax(dim=1)


class Averaged(nn.Module):
    """The mean of several nets."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, figures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outs = [m(figures) for m in self.members]
        return tuple(torch.stack([o[i] for o in outs]).mean(dim=0) for i in range(3))  # type: ignore[return-value]


def fit(table: Table, config: Config, seed: int, groups: Sequence[Sequence[int]]) -> LivenessNet:
    """One net on all of ``table``: each expert against bona fide, and every attack above the clip it was made from."""
    torch.manual_seed(seed)
    net = LivenessNet(table.figures, config.hidden, config.dropout, groups)
    x = net.standard(torch.from_numpy(table.figures))
    y = torch.from_numpy(table.attack.astype(np.float32))
    weights = torch.from_numpy(np.stack([balance(table.rows, family) for family in FAMILIES.values()], axis=1))
    species = torch.tensor([SPECIES.index(r.attack_type) if r.attack_type in SPECIES else -100 for r in table.rows])
    pairs = _pairs(table.rows)
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=config.lr, total_steps=config.epochs)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(config.epochs):
        noisy = x + config.input_noise * torch.randn(x.shape, generator=generator)
        heads, _ = net.experts(noisy)
        losses = nn.functional.binary_cross_entropy_with_logits(heads, y[:, None].expand_as(heads), reduction="none")
        loss = (losses * weights).sum() + 0.05 * nn.functional.cross_entropy(net.species(noisy), species, ignore_index=-100)
        if len(pairs[0]):
            logit = heads.logsumexp(dim=1)
            loss = loss + config.pair_weight * (nn.functional.softplus(logit[pairs[1]] - logit[pairs[0]]) * pairs[2]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def _pairs(rows: Sequence[ClipRow]) -> tuple[Tensor, Tensor, Tensor]:
    """Every attack with the bona fide clip of its window, and weights that give real pairs and simulated ones half each."""
    bona = {r.group: i for i, r in enumerate(rows) if not r.is_attack}
    found = [(i, bona[r.group], r.attack == "") for i, r in enumerate(rows) if r.is_attack and r.group in bona]
    real = np.array([f[2] for f in found], bool)
    weight = np.where(real, 0.5 / max(real.sum(), 1), 0.5 / max((~real).sum(), 1))
    return (
        torch.tensor([f[0] for f in found]).long(),
        torch.tensor([f[1] for f in found]).long(),
        torch.from_numpy(weight.astype(np.float32)),
    )


def ensemble(table: Table, config: Config, groups: Sequence[Sequence[int]], members: int | None = None) -> Averaged:
    return Averaged([fit(table, config, config.seed + k, groups) for k in range(members or config.members)]).eval()


def scores(net: nn.Module, figures: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(net(torch.from_numpy(figures))[0].numpy())


def folds(rows: Sequence[ClipRow]) -> list[NDArray[np.bool_]]:
    """Leave-one-source-out over the train split; live-swap pairs in five folds of people, HDTF people held together."""

    def key(row: ClipRow) -> str:
        if row.source == "deepfacelive_pairs":
            return f"dfl{int(row.subject.split('+')[0].removeprefix('dfl_d')) % 5}"
        return "hdtf" if row.subject.startswith("hdtf_") else row.source

    keys = [key(r) for r in rows]
    return [np.array([k == one for k in keys]) for one in sorted(set(keys))]


def out_of_source(
    table: Table, config: Config, groups: Sequence[Sequence[int]], members: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N,) logits and (N, groups) contributions from nets that never saw a clip's source (of live pairs: its person)."""
    logits = np.full(len(table.rows), np.nan, np.float32)
    parts = np.full((len(table.rows), len(groups)), np.nan, np.float32)
    for held in folds(table.rows):
        net = ensemble(table.take(~held), config, groups, members)
        with torch.inference_mode():
            out = net(torch.from_numpy(table.figures[held]))
        logits[held], parts[held] = out[0].numpy(), out[1].numpy()
    return logits, parts


def summary(rows: Sequence[ClipRow], logits: NDArray[np.float32]) -> dict[str, str]:
    """Clip-level figures with counts."""
    attack = np.array([r.is_attack for r in rows])
    real = np.array([not r.attack for r in rows])
    whole = np.array([r.variant == 0 for r in rows])
    out: dict[str, str] = {}

    def say(name: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
        if a.any() and b.any():
            out[name] = (
                f"AUC {auc(logits[b].astype(np.float64), logits[a].astype(np.float64)):.3f} ({a.sum()} attacks, {b.sum()} bona fide)"
            )

    bona = ~attack
    say("real attacks, whole clips", attack & real & whole, bona & whole)
    say("real attacks, windows", attack & real & ~whole, bona & ~whole)
    say("simulated, all", attack & ~real, bona & ~whole)
    dfl = np.array([r.source == "deepfacelive_pairs" and not r.attack for r in rows])
    say("live swaps, whole clips", attack & dfl & whole, bona & dfl & whole)
    say("live swaps, windows", attack & dfl & ~whole, bona & dfl & ~whole)
    for chosen, name in ((whole, "whole clips"), (~whole, "windows")):
        by = {(r.group, r.is_attack): logits[i] for i, r in enumerate(rows) if dfl[i] and chosen[i]}
        ranked = [by[g, True] > by[g, False] for g, a in by if a and (g, False) in by]
        if ranked:
            out[f"live pairs ranked right, {name}"] = f"{sum(ranked)} of {len(ranked)}"
    for source in sorted({r.source for r, a, t in zip(rows, attack, real, strict=True) if a and t}):
        say(f"  real {source}", attack & real & np.array([r.source == source for r in rows]), bona)
    for kind in sorted({r.attack for r in rows if r.attack}):
        say(f"  {kind}", np.array([r.attack == kind for r in rows]), bona & ~whole)
    return out


def group_indices(leave_out: str = "", only: str = "") -> list[list[int]]:
    names = list(POOLED_NAMES)
    return [[names.index(n) for n in members] for group, members in GROUPS.items() if group != leave_out and only in {"", group}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("clips", "figures", "report", "export"))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, default=CACHE / "liveness" / "clips")
    parser.add_argument("--config", type=Path, default=CONFIGS / "liveness.toml")
    parser.add_argument("--part", default="0/1")
    args = parser.parse_args()
    config = Config.load(args.config)
    torch.set_num_threads(1)
    if args.step == "clips":
        k, n = (int(v) for v in args.part.split("/"))
        liveness_clips.build(args.data, args.cache, variants=config.variants, sims=config.sims, part=(k, n))
        return
    table = measure(args.cache)
    if args.step == "report":
        report(table, config)
    elif args.step == "export":
        export(table, config)


def report(table: Table, config: Config) -> None:
    groups = group_indices()
    train = table.take(~table.where(split="validation"))
    validation = table.take(table.where(split="validation"))
    print(f"{len(train.rows)} train and calibration clips, {len(validation.rows)} validation clips")
    _print("out of source", summary(train.rows, out_of_source(train, config, groups)[0]))
    _print("validation", summary(validation.rows, scores(ensemble(train, config, groups), validation.figures)))


def _print(title: str, figures: Mapping[str, str]) -> None:
    print(f"\n== {title}")
    for name, value in figures.items():
        print(f"{name:45s} {value}")


def platt(logits: NDArray[np.float32], attack: NDArray[np.bool_], weight: NDArray[np.float32]) -> tuple[float, float]:
    """Slope and offset of the weighted logistic fit; both classes weigh alike, so 0.5 is an even prior."""
    slope, offset = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    x, y, w = (torch.from_numpy(np.asarray(v, np.float32)) for v in (logits, attack, weight))
    optimiser = torch.optim.LBFGS([slope, offset], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (nn.functional.binary_cross_entropy_with_logits(slope * x + offset, y, reduction="none") * w).sum() / w.sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(slope.item()), float(offset.item())


def export(table: Table, config: Config) -> None:
    """Train on train, calibrate out of source on train and calibration, write weights, manifest and thresholds."""
    groups = group_indices()
    seen = table.take(~table.where(split="validation"))
    logits, parts = out_of_source(seen, config, groups)
    attack = seen.attack
    weight = np.sum([balance(seen.rows, family) for family in FAMILIES.values()], axis=0)
    slope, offset = platt(logits, attack, weight)
    bona = 1 / (1 + np.exp(-(slope * logits[~attack] + offset)))
    points = {
        name: float(np.quantile(bona, 1 - share, method="higher"))
        for name, share in (("review", config.review_bpcer), ("reject", config.reject_bpcer))
    }
    net = ensemble(seen.take(seen.where(split="train")), config, groups)
    policy = Policy.load(Settings().policy_path)
    findings = {}
    for code, values, gate in (
        ("frozen_clip", seen.frozen_s, "liveness_max_frozen_s"),
        ("looped_clip", seen.repeats, "liveness_max_repeats"),
    ):
        fired = values > policy.gate(gate)
        # Laplace's rule of succession: never certain from a finite count.
        findings[code] = float((fired & attack).sum() + 1) / float(fired.sum() + 2)
    path = WEIGHTS / "liveness.onnx"
    export_onnx(net, path, table.figures)
    write_table(
        WEIGHTS / "thresholds.toml",
        "liveness",
        {
            "command": "python -m training.liveness export",
            "calibration": {"slope": slope, "offset": offset},
            "points": points,
            "findings": findings,
            "groups": {g: float(np.quantile(parts[~attack, i], 0.98)) for i, g in enumerate(GROUPS)},
            "fitted_on": {"bona_fide_clips": int((~attack).sum()), "attack_clips": int(attack.sum()), "scores": "out of source"},
        },
    )
    write_table(
        WEIGHTS / "manifest.toml",
        "liveness",
        {
            "file": path.name, "sha256": sha256(path), "version": "1", "licence": "research use only",
            "card": "cards/liveness.md", "command": "python -m training.liveness export",
        },
    )  # fmt: skip
    print(f"{path}: {path.stat().st_size} bytes; slope {slope:.3f}, offset {offset:.3f}, {points}, {findings}")


def export_onnx(net: nn.Module, path: Path, figures: NDArray[np.float32]) -> None:
    """Write ``path``: input ``figures`` (N, F) float32, outputs logit (N,), groups (N, G), species (N, S).

    Raises:
        ValueError: ONNX and torch differ by more than 1e-4.
    """
    import onnxruntime as ort

    names = ["logit", "groups", "species"]
    axes = {n: {0: "batch"} for n in ("figures", *names)}
    torch.onnx.export(
        net,
        (torch.from_numpy(figures[:3]),),
        str(path),
        input_names=["figures"],
        output_names=names,
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    got = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["logit"], {"figures": figures})[0]
    difference = float(np.abs(got - scores(net, figures)).max())
    if difference > 1e-4:
        raise ValueError(f"{path}: ONNX differs from torch by {difference:.2e}")


if __name__ == "__main__":
    main()
