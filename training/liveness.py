"""Train, judge and export the liveness net.

python -m training.liveness clips      make the clips (an hour on one core; resumable)
python -m training.liveness report     out of source on train, validation, what ships at its points
python -m training.liveness ablation   with and without each group of figures; the shortcut baseline
python -m training.liveness export     fit on train, write weights, manifest and thresholds
python -m training.liveness variants   a hundred of each attack that must never be missed, judged by what ships (resumable)
python -m training.liveness fused      with the scores of the face-attack nets that ship
"""

from __future__ import annotations

import argparse
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from scipy.special import expit, logit

from kyc_guard.calibration import either
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.detectors.liveness import SPECIES
from kyc_guard.motion import GROUPS, POOLED_NAMES
from kyc_guard.reports.metrics import auc, clopper_pearson
from training import liveness_clips, liveness_variants
from training.discriminant import FAMILIES, LIVE_PAIRS, SHOWN, Array, Discriminant, Weighing, family_of, fit, platt, type_of
from training.liveness_clips import STREAM_ATTACKS, ClipRow
from training.liveness_figures import Table, balance, measure, measure_face_attack, measure_stills, measure_streams
from training.liveness_onnx import Exported, write_onnx
from training.places import CACHE, CONFIGS, DATA
from training.thresholds import write_table

SHORTCUTS = ("width", "height", "rate", "bytes a pixel", "brightness", "face size")
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True, slots=True)
class Config:
    variants: int
    sims: int
    review_bpcer: float
    reject_bpcer: float
    shown_slope: float
    live_offset: float
    weighing: Weighing

    @classmethod
    def load(cls, path: Path) -> Config:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        weighing = Weighing(**{f.name: table.pop(f.name) for f in fields(Weighing)})
        return cls(weighing=weighing, **table)


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Clips and stills, and which columns of theirs are looked at."""

    table: Table
    stills: NDArray[np.float32]
    names: tuple[str, ...] = POOLED_NAMES

    @property
    def belongs(self) -> Array:
        """(F, groups): 1 where a figure belongs to a group."""
        return np.array([[float(n in members) for members in GROUPS.values()] for n in self.names])

    def take(self, mask: NDArray[np.bool_]) -> Material:
        return replace(self, table=self.table.take(mask))

    def only(self, names: Sequence[str]) -> Material:
        """The same with some figures alone."""
        columns = [i for i, n in enumerate(POOLED_NAMES) if n in set(names)]
        stills = [i for i in columns if i < self.stills.shape[1]]
        table = replace(self.table, figures=self.table.figures[:, columns])
        return Material(table, self.stills[:, stills], tuple(POOLED_NAMES[i] for i in columns))

    def fit(self, how: Weighing, kinds: Sequence[str] = FAMILIES, kind_of: Callable[[ClipRow], str] = family_of) -> Discriminant:
        return fit(self.table.rows, self.table.figures, self.stills, kinds, kind_of, how=how)


def folds(rows: Sequence[ClipRow]) -> list[NDArray[np.bool_]]:
    """Leave-one-source-out; live-swap pairs in five folds of people, HDTF's people held together over their sources."""

    def key(row: ClipRow) -> str:
        if row.source == LIVE_PAIRS:
            return f"live {int(row.subject.split('+')[0].removeprefix('dfl_d')) % 5}"
        return "hdtf" if row.subject.startswith("hdtf_") else row.source

    keys = [key(r) for r in rows]
    return [np.array([k == one for k in keys]) for one in sorted(set(keys))]


def out_of_source(material: Material, how: Weighing) -> tuple[Array, Array]:
    """Every clip judged by a fit that never saw its source (of live pairs: its person).

    Returns:
        (N, families) logits and (N, families, groups) contributions of the groups of figures.
    """
    rows, figures = material.table.rows, material.table.figures
    logits, parts = np.zeros((len(rows), len(FAMILIES))), np.zeros((len(rows), len(FAMILIES), len(GROUPS)))
    for held in folds(rows):
        # Thresholds are set on calibration people too, but nothing is learnt from them.
        net = material.take(~held & material.table.where(split="train")).fit(how)
        logits[held], parts[held] = net(figures[held]), net.parts(figures[held], material.belongs)
    return logits, parts


def calibrate(rows: Sequence[ClipRow], logits: Array, config: Config) -> tuple[Array, Array]:
    """Slope and offset of each family's logit, so that they may be joined."""
    attack = np.array([r.is_attack for r in rows])
    judged = np.array([r.attack not in STREAM_ATTACKS for r in rows])
    fits = [platt(logits[:, k], attack, balance(rows, (family,)) * judged) for k, family in enumerate(FAMILIES)]
    boost = np.array([config.shown_slope if family in ("print", "replay") else 1.0 for family in FAMILIES])
    slopes, offsets = boost * [f[0] for f in fits], boost * [f[1] for f in fits]
    offsets[FAMILIES.index("live")] += config.live_offset
    return slopes, offsets


def joined(logits: Array) -> Array:
    """An attack is of one family or the other: odds add."""
    return np.asarray(np.logaddexp.reduce(logits, axis=1))


def export(material: Material, cache: Path, config: Config) -> None:
    """Fit on train, calibrate out of source on train and calibration people, write weights, manifest and thresholds."""
    how = config.weighing
    seen = material.take(~material.table.where(split="validation"))
    rows, attack = seen.table.rows, seen.table.attack
    logits, parts = out_of_source(seen, how)
    slopes, offsets = calibrate(rows, logits, config)
    heads = logits * slopes + offsets
    scores = joined(heads)
    slope, offset = platt(scores, attack, balance(rows, FAMILIES))
    bona = 1 / (1 + np.exp(-(slope * scores[~attack] + offset)))
    shares = {"review": config.review_bpcer, "reject": config.reject_bpcer}
    points = {name: float(np.quantile(bona, 1 - share, method="higher")) for name, share in shares.items()}
    train = material.take(material.table.where(split="train"))
    families = train.fit(how).calibrated(slopes, offsets)
    net = Exported(families, train.fit(how, SPECIES, type_of), material.belongs).eval()
    voice = np.exp(heads - scores[:, None])
    spoken = (voice[:, :, None] * parts * slopes[:, None]).sum(axis=1)[~attack]
    findings = _findings(cache, rows, Policy.load(Settings().policy_path))
    path = WEIGHTS / "liveness.onnx"
    write_onnx(net, path, material.table.figures)
    command = "python -m training.liveness export"
    table = {
        "command": command,
        "calibration": {"slope": slope, "offset": offset},
        "points": points,
        "findings": findings,
        "groups": {g: float(np.quantile(spoken[:, i], 0.98)) for i, g in enumerate(GROUPS)},
        "fitted_on": {"bona_fide_clips": int((~attack).sum()), "attack_clips": int(attack.sum()), "scores": "out of source"},
        "validation": _shipped(material, families, slope, offset, points),
    }
    write_table(WEIGHTS / "thresholds.toml", "liveness", table)
    from training.export import sha256

    entry = {"file": path.name, "sha256": sha256(path), "version": "1", "licence": "research use only: see the card"}
    write_table(WEIGHTS / "manifest.toml", "liveness", {**entry, "card": "cards/liveness.md", "command": command})
    print(f"{path}: {path.stat().st_size} bytes; slopes {slopes.round(3)}, {points}, {findings}")


def _findings(cache: Path, rows: Sequence[ClipRow], policy: Policy) -> dict[str, float]:
    """How sure a frozen or a looped clip makes us: the share of attacks among bona fide and stream clips that pass the policy's limit."""
    asked = [r for r in rows if not r.is_attack or r.attack in STREAM_ATTACKS]
    attack, out = np.array([r.is_attack for r in asked]), {}
    for code, fired in zip(("frozen_clip", "looped_clip"), fired_findings(cache, asked, policy).T, strict=True):
        # Laplace's rule of succession: never certain from a finite count.
        out[code] = float((fired & attack).sum() + 1) / float(fired.sum() + 2)
    return out


def fired_findings(cache: Path, rows: Sequence[ClipRow], policy: Policy) -> NDArray[np.bool_]:
    """(N, 2) whether a clip is frozen, whether it is looped, by the policy's limits; not asked of attacks that repeat nothing."""
    fired = np.zeros((len(rows), 2), np.bool_)
    asked = [i for i, r in enumerate(rows) if not r.is_attack or r.attack_type == "replay"]
    frozen_s, unrest, brief, likeness = measure_streams(cache, [rows[i] for i in asked]).T
    fired[asked, 0] = frozen_s > policy.gate("liveness_max_frozen_s")
    fired[asked, 0] |= (unrest < policy.gate("liveness_min_unrest")) | (brief < policy.gate("liveness_min_brief_unrest"))
    fired[asked, 1] = likeness > policy.gate("liveness_max_return")
    return fired


def _shipped(material: Material, families: Discriminant, slope: float, offset: float, points: Mapping[str, float]) -> dict[str, float]:
    """What the shipped net reaches on validation clips; stream attacks are the findings' business and left out."""
    held = material.take(material.table.where(split="validation"))
    rows, attack = held.table.rows, held.table.attack
    score = 1 / (1 + np.exp(-(slope * joined(families(held.table.figures)) + offset)))
    judged = np.array([r.attack not in STREAM_ATTACKS for r in rows])
    reserved = np.array([r.held_out for r in rows])
    return {
        "auc": auc(score[~attack], score[attack & judged]),
        "auc_reserved_simulators": auc(score[~attack], score[attack & judged & reserved]),
        "bpcer_at_review": float((score[~attack] >= points["review"]).mean()),
        "apcer_at_review": float((score[attack & judged] < points["review"]).mean()),
        "bona_fide_clips": float((~attack).sum()),
        "attack_clips": float((attack & judged).sum()),
    }


def summary(rows: Sequence[ClipRow], logits: Array) -> dict[str, str]:
    """Clip-level figures with counts; whole clips and windows apart, because windows of one clip are near-duplicates."""
    attack = np.array([r.is_attack for r in rows])
    real = np.array([not r.attack for r in rows])
    whole = np.array([r.variant == 0 for r in rows])
    live = np.array([r.source == LIVE_PAIRS and not r.attack for r in rows])
    stream = np.array([r.attack in STREAM_ATTACKS for r in rows])
    shown = np.array([r.attack_type in SHOWN for r in rows])
    out: dict[str, str] = {}

    def say(name: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
        if a.any() and b.any():
            people = len({r.subject for r, m in zip(rows, b, strict=True) if m})
            out[name] = f"AUC {auc(logits[b], logits[a]):.3f} ({a.sum()} attacks, {b.sum()} bona fide clips of {people} people)"

    say("all attacks but frozen and looped", attack & ~stream, ~attack)
    say("shown pictures, simulated", attack & ~real & shown & ~stream, ~attack)
    say("altered faces, simulated", attack & ~real & ~shown, ~attack)
    say("real attacks, whole clips", attack & real & whole, ~attack & whole)
    say("live swaps against webcams, whole clips", attack & live & whole, ~attack & live & whole)
    say("live swaps against webcams, windows", attack & live & ~whole, ~attack & live & ~whole)
    say("live swaps against all bona fide", attack & live, ~attack)
    for chosen, name in ((whole, "whole clips"), (~whole, "windows")):
        by = {(r.group, r.is_attack): logits[i] for i, r in enumerate(rows) if live[i] and chosen[i]}
        ranked = [by[g, True] > by[g, False] for g, a in by if a and (g, False) in by]
        if ranked:
            low, high = clopper_pearson(sum(ranked), len(ranked))
            out[f"live pairs ranked right, {name}"] = f"{sum(ranked)} of {len(ranked)} [{low:.2f}, {high:.2f}]"
    for source in sorted({r.source for r, a, t in zip(rows, attack, real, strict=True) if a and t}):
        say(f"  real {source}", attack & real & np.array([r.source == source for r in rows]), ~attack)
    for kind in sorted({r.attack for r in rows if r.attack}):
        reserved = any(r.held_out for r in rows if r.attack == kind)
        say(f"  {kind}{' (reserved)' if reserved else ''}", np.array([r.attack == kind for r in rows]), ~attack)
    return out


def report(material: Material, cache: Path, config: Config) -> None:
    """Print all that the card states."""
    table, how = material.table, config.weighing
    train, held = (material.take(m) for m in (~table.where(split="validation"), table.where(split="validation")))
    print(f"{len(train.table.rows)} train and calibration clips, {len(held.table.rows)} validation clips, {len(material.stills)} stills")
    logits, _ = out_of_source(train, how)
    slopes, offsets = calibrate(train.table.rows, logits, config)
    net = train.take(train.table.where(split="train")).fit(how).calibrated(slopes, offsets)
    for title, part, heads in (("out of source", train, logits * slopes + offsets), ("validation", held, net(held.table.figures))):
        print(f"\n== {title}")
        for name, value in summary(part.table.rows, joined(heads)).items():
            print(f"{name:45s} {value}")
    print("\n== the shipped net and its findings: called an attack at the review point, at the reject point")
    for name, value in called(table, cache).items():
        print(f"{name:45s} {value}")


def ablation(material: Material, cache: Path, config: Config) -> None:
    """Print each group's worth, alone and missing; a dozen times the work of `report`."""
    del cache
    how = config.weighing
    train, held = (material.take(m) for m in (~material.table.where(split="validation"), material.table.where(split="validation")))
    everything = {
        "all figures": POOLED_NAMES,
        **{f"without {g}": tuple(n for n in POOLED_NAMES if n not in members) for g, members in GROUPS.items()},
        **{f"{g} alone": members for g, members in GROUPS.items()},
    }
    for what, names in everything.items():
        print(f"{what:20s} {_own(train.only(names), held.only(names), how)}")
    bare = [Material(replace(m.table, figures=m.table.shortcuts), m.stills[:, :0], SHORTCUTS) for m in (train, held)]
    print(f"{'shortcuts':20s} {_own(bare[0], bare[1], how)}")


def called(table: Table, cache: Path) -> dict[str, str]:
    """Of each kind of validation clip, how many `kyc_guard.detectors.liveness` calls an attack by what ships in weights/.

    Frozen and looped clips are counted over every split: nothing of them was fitted.
    """
    asked = table.take(np.array([r.split == "validation" or r.attack in STREAM_ATTACKS for r in table.rows]))
    policy, shipped = Policy.load(Settings().policy_path), Thresholds.load(WEIGHTS / "thresholds.toml").table("liveness")
    session = ort.InferenceSession(str(WEIGHTS / "liveness.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(["logit"], {"figures": asked.figures})[0].astype(np.float64)
    spared = 1 - expit(shipped["calibration"]["slope"] * logits + shipped["calibration"]["offset"])
    for code, fired in zip(("frozen_clip", "looped_clip"), fired_findings(cache, asked.rows, policy).T, strict=True):
        spared[fired] *= 1 - shipped["findings"][code]
    counts: dict[str, list[float]] = defaultdict(list)
    for row, score in zip(asked.rows, 1 - spared, strict=True):
        counts[f"{row.attack or f'real {row.attack_type}'}{' (reserved)' if row.held_out else ''}"].append(score)
    out = {}
    for kind, scores in sorted(counts.items()):
        review, reject = (sum(s >= shipped["points"][point] for s in scores) for point in ("review", "reject"))
        low, high = clopper_pearson(review, len(scores))
        out[kind] = f"{review} of {len(scores)} [{low:.3f}, {high:.3f}], {reject}"
    return out


def _own(train: Material, held: Material, how: Weighing) -> str:
    """AUC of shown and altered clips by their families' own directions, and live pairs ranked right, out of source and on validation."""
    seen, _ = out_of_source(train, how)
    unseen = train.take(train.table.where(split="train")).fit(how)(held.table.figures)
    live = FAMILIES.index("live")
    columns = (slice(0, live), slice(live, None), slice(live, live + 1))
    lines = ("shown pictures, simulated", "altered faces, simulated", "live swaps against webcams, windows")
    found = [[summary(m.table.rows, joined(logits[:, c])) for c in columns] for m, logits in ((train, seen), (held, unseen))]
    text = [f"{name}: " + " / ".join(f[k][name].split(" (")[0].removeprefix("AUC ") for f in found) for k, name in enumerate(lines)]
    pairs = " / ".join(f[-1]["live pairs ranked right, windows"].split(" [")[0] for f in found)
    return "; ".join([*text, f"pairs: {pairs}"])


def judge_variants(data: Path, cache: Path, draws: int) -> None:
    """Make and judge `training.liveness_variants`, plain and disguised."""
    liveness_variants.build(data, cache, draws=draws)
    for kind, line in called(measure(cache), cache).items():
        print(f"{kind:40s} {line}")


def fused(material: Material, cache: Path, config: Config) -> None:
    """Print what the sum of the face-attack nets' log-odds and this net's reaches on validation clips.

    The nets were trained on frames of the train clips, so only validation can be told.
    """
    train = material.take(~material.table.where(split="validation"))
    held = material.take(material.table.where(split="validation") & np.array([r.attack not in STREAM_ATTACKS for r in material.table.rows]))
    slopes, offsets = calibrate(train.table.rows, out_of_source(train, config.weighing)[0], config)
    net = train.take(train.table.where(split="train")).fit(config.weighing).calibrated(slopes, offsets)
    alone, frames = joined(net(held.table.figures)), measure_face_attack(cache, held.table.rows)
    mean, known = frames.mean(axis=1), np.isfinite(frames).all(axis=(1, 2))
    both = np.array([logit(either(*pair)) for pair in mean])
    ways = {"liveness": alone, "face_attack": both, "face_attack, deviation over frames": frames[:, :, 1].std(axis=1), "sum": alone + both}
    rows = [r for r, k in zip(held.table.rows, known, strict=True) if k]
    for way, scores in ways.items():
        print(f"\n== {way}")
        for name, value in summary(rows, scores[known]).items():
            if not name.startswith("  "):
                print(f"{name:45s} {value}")


STEPS = {"report": report, "ablation": ablation, "export": export, "fused": fused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("clips", *STEPS, "variants"))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, default=CACHE / "liveness" / "clips")
    parser.add_argument("--config", type=Path, default=CONFIGS / "liveness.toml")
    parser.add_argument("--part", default="0/1", help="k/n: with clips, do only every n-th source clip from k on")
    parser.add_argument("--draws", type=int, default=6, help="with variants, how many of each kind are made of each of 18 clips")
    args = parser.parse_args()
    config = Config.load(args.config)
    if args.step == "clips":
        k, n = (int(v) for v in args.part.split("/"))
        liveness_clips.build(args.data, args.cache, variants=config.variants, sims=config.sims, part=(k, n))
        return
    if args.step == "variants":
        judge_variants(args.data, args.cache.parent / "variants", args.draws)
        return
    material = Material(measure(args.cache), measure_stills(args.data, args.cache.parent))
    STEPS[args.step](material, args.cache, config)


if __name__ == "__main__":
    main()
