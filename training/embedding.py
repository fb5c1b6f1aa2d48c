"""Teach the face embedding: it begins as dlib's network and learns to say of worn faces what that says of clean ones.

    python -m training.embedding            # pool, train, export; each step resumes where it was interrupted

*pool* aligns every face of the train split and asks the teacher for all of them, once; *train* starts from the teacher's own weights;
*export* writes weights/face_embedding.onnx (int8) and its manifest entry. The teacher is asked for the mean over several views, mirrored
ones among them, which is better than any single answer of it.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch.nn import functional

from kyc_guard.faces.embedding import MODEL, SIDE_PX, WIDTH, aligned
from kyc_guard.types import Float32Array, UInt8Array
from training.chips import ChipRow, ChipStore
from training.dlib_teacher import FaceNet, teacher
from training.export import TOLERANCE, quantise, sha256
from training.thresholds import THRESHOLDS, write_table
from training.wear import wear

CONFIG = Path(__file__).resolve().parent / "configs" / "embedding.toml"
CACHE = Path("~/.cache/kyc_guard_training")
POOL_SIDE_PX = 182
"""Chips of the pool are wider than what the net sees, so that shifts and turns show what really lies beside the face."""
IDENTITY_SOURCES = frozenset({"youtube_faces_udacity", "muxspace_lfw350"})
_STRANGER = 0.6
"""A picture further than this from the mean of its person's pictures (unit vectors) is a bystander, and pulled nowhere."""
_EVERY = 100
_RANGE_VIEWS = 256
WEIGHTS = THRESHOLDS.parent
LICENCE = "research use only: derived from dlib's network (CC0), taught on YouTube Faces, LFW, UTKFace, FFHQ and others, see the card"


@dataclass(frozen=True, slots=True)
class Config:
    """configs/embedding.toml, where each field is explained."""

    clip_stride: int
    teacher_views: int
    identity_pull: float
    batch: int
    steps: int
    learning_rate: float
    clean_share: float
    average_decay: float
    seed: int

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


# ---------------------------------------------------------------------------------------------------------------- pool


def make_pool(store: ChipStore, folder: Path, config: Config) -> None:
    """Write ``chips.npy`` (N, 182, 182, 3) uint8 and ``targets.npy`` (N, 128) float32 unit vectors; skipped if already there."""
    if (folder / "targets.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = [i for i, r in enumerate(store.rows) if r.split == "train" and r.frame % config.clip_stride == 0]
    chips = np.stack([aligned(chip.image_rgb, chip.landmarks_px, frame_px=POOL_SIDE_PX) for chip in map(store.__getitem__, rows)])
    np.save(folder / "chips.npy", chips)
    targets = ask(teacher(), chips, config, np.random.default_rng(config.seed))
    np.save(folder / "targets.npy", pulled(targets, [store.rows[i] for i in rows], config.identity_pull))
    print(f"pool: {len(rows)} faces", flush=True)


def ask(net: FaceNet, chips: NDArray[np.uint8], config: Config, rng: np.random.Generator) -> Float32Array:
    """(N, 128) float32 unit vectors: the mean over views of each chip, half of them mirrored."""
    sums = np.zeros((len(chips), WIDTH), np.float32)
    with torch.inference_mode():
        for start in range(0, len(chips), config.batch):
            some = chips[start : start + config.batch]
            for view in range(config.teacher_views):
                # The first two are the face as it lies and its mirror image.
                views = np.stack([viewed(rng, chip, amount=1.0 if view > 1 else 0.0, mirrored=view % 2 == 1) for chip in some])
                sums[start : start + len(some)] += net(torch.from_numpy(views)).numpy()
    return _unit(sums)


def viewed(rng: np.random.Generator, chip_rgb: UInt8Array, *, amount: float, mirrored: bool) -> UInt8Array:
    """The middle (150, 150, 3) of a chip of the pool, shifted, turned and scaled by ``amount`` times a landmark's error."""
    middle = (POOL_SIDE_PX - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), amount * rng.normal(0, 3.0), 1.0 + amount * rng.normal(0, 0.04))
    turn[:, 2] += amount * rng.normal(0, 2.5, 2) - (POOL_SIDE_PX - SIDE_PX) / 2
    view: UInt8Array = cv2.warpAffine(chip_rgb, turn, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(view[:, ::-1]) if mirrored else view


def pulled(targets: Float32Array, rows: Sequence[ChipRow], share: float) -> Float32Array:
    """Targets moved towards the mean of their person's pictures; the identity labels' part in the lesson."""
    moved = targets.copy()
    people = np.array([f"{r.source}/{r.subject}" if r.source in IDENTITY_SOURCES else "" for r in rows])
    for person in np.unique(people[people != ""]):
        own = np.flatnonzero(people == person)
        near = own[np.linalg.norm(targets[own] - _unit(targets[own].mean(axis=0)), axis=1) < _STRANGER]
        if len(near) > 1:
            moved[near] += np.float32(share) * (_unit(targets[near].mean(axis=0)) - targets[near])
    return _unit(moved)


def _unit(vectors: Float32Array) -> Float32Array:
    scaled: Float32Array = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


# --------------------------------------------------------------------------------------------------------------- train


def train(store: ChipStore, folder: Path, config: Config) -> FaceNet:
    """The averaged net after ``config.steps``; checkpoints on the way, from which an interrupted run goes on."""
    chips = np.load(folder / "chips.npy", mmap_mode="r")
    targets = torch.from_numpy(np.load(folder / "targets.npy"))
    net = teacher().train().requires_grad_()
    average = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps, pct_start=0.1)
    done = 0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(kept["net"])
        average.load_state_dict(kept["average"])
        optimiser.load_state_dict(kept["optimiser"])
        plan.load_state_dict(kept["plan"])
        done = kept["done"]
    probe = Probe(store)
    losses: list[float] = []
    started = time.process_time()
    for step in range(done, config.steps):
        rng = np.random.default_rng((config.seed, step))
        chosen = rng.choice(len(chips), config.batch, replace=False)
        shown = np.stack([_shown(rng, chips[i], config) for i in chosen])
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor has it, and steps are small beside its rounding
            said = net(torch.from_numpy(shown))
        loss = (1.0 - (functional.normalize(said.float()) * targets[torch.from_numpy(chosen)]).sum(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        plan.step()
        decay = min(config.average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(new, 1.0 - decay)
        losses.append(loss.item())
        if (step + 1) % _EVERY == 0 or step + 1 == config.steps:
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "plan": plan.state_dict(),
            }
            torch.save({**state, "done": step + 1}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            line = {
                "step": step + 1,
                "loss": round(float(np.mean(losses)), 4),
                **probe(average),
                "cpu_s": round(time.process_time() - started),
            }
            print(json.dumps(line), flush=True)
            losses = []
    return average.eval()


def _shown(rng: np.random.Generator, chip_rgb: UInt8Array, config: Config) -> UInt8Array:
    view = viewed(rng, chip_rgb, amount=1.0, mirrored=bool(rng.random() < 0.5))
    return view if rng.random() < config.clean_share else wear(rng, view)


class Probe:
    """How far calibration people are told apart, clean against clean and clean against worn: to look on, nothing is chosen by it."""

    def __init__(self, store: ChipStore) -> None:
        rows = [i for i, r in enumerate(store.rows) if r.split == "calibration" and r.source in IDENTITY_SOURCES]
        rng = np.random.default_rng(0)
        self._people = np.array([store.rows[i].subject for i in rows])
        self._sources = np.array([store.rows[i].source for i in rows])
        clean = [aligned(store[i].image_rgb, store[i].landmarks_px) for i in rows]
        self._clean, self._worn = np.stack(clean), np.stack([wear(rng, chip) for chip in clean])

    def __call__(self, net: FaceNet) -> dict[str, float]:
        clean, worn = (embed(net, chips) for chips in (self._clean, self._worn))
        a, b = np.triu_indices(len(clean), k=1)
        a, b = (side[self._sources[a] == self._sources[b]] for side in (a, b))
        same = self._people[a] == self._people[b]
        return {"auc": _auc((clean[a] * clean[b]).sum(1), same), "auc_worn": _auc((clean[a] * worn[b]).sum(1), same)}


def embed(net: FaceNet, chips: NDArray[np.uint8]) -> Float32Array:
    """(N, 150, 150, 3) uint8 -> (N, 128) float32 unit vectors."""
    with torch.inference_mode():
        parts = [net(torch.from_numpy(chips[i : i + 64])).numpy() for i in range(0, len(chips), 64)]
    return _unit(np.concatenate(parts))


def _auc(likeness: NDArray[Any], same: NDArray[np.bool_]) -> float:
    strangers = np.sort(likeness[~same])
    return round(float(np.searchsorted(strangers, likeness[same]).mean() / len(strangers)), 5)


# -------------------------------------------------------------------------------------------------------------- export


def export(net: FaceNet, chips: NDArray[np.uint8]) -> None:
    """Write weights/face_embedding.onnx, int8 with ranges taken from chips of the pool, and enter it in the manifest.

    Raises:
        ValueError: the float net says something else in ONNX than in torch.
    """
    views = np.stack([viewed(np.random.default_rng(0), chip, amount=0.0, mirrored=False) for chip in chips[:: len(chips) // _RANGE_VIEWS]])
    path = WEIGHTS / f"{MODEL}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "float.onnx"
        torch.onnx.export(
            net,
            (torch.from_numpy(views[:1]),),
            str(exact),
            input_names=["rgb"],
            output_names=["embedding"],
            dynamic_axes={"rgb": {0: "batch"}, "embedding": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
        said = _unit(ort.InferenceSession(str(exact), providers=["CPUExecutionProvider"]).run(None, {"rgb": views})[0])
        difference = float(np.abs(said - embed(net, views)).max())
        if difference > TOLERANCE:
            raise ValueError(f"{exact.name} differs from torch by {difference:.2e}")
        quantise(exact, path, list(views))
    small = _unit(ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"rgb": views})[0])
    apart = np.linalg.norm(small - said, axis=1)
    entry = {"file": path.name, "sha256": sha256(path), "version": "1", "licence": LICENCE, "card": "cards/match.md"}
    write_table(WEIGHTS / "manifest.toml", MODEL, {**entry, "command": "python -m training.embedding"})
    print(f"{path.name}: {path.stat().st_size:,} bytes, torch - ONNX {difference:.1e}, float - int8 {apart.mean():.3f} on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--cache", type=Path, default=CACHE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config, cache = Config.load(args.config), args.cache.expanduser()
    store, folder = ChipStore(cache / "real"), cache / "embedding"
    make_pool(store, folder, config)
    net = train(store, folder, config)
    torch.save(net.state_dict(), folder / "net.pt")
    export(net, np.load(folder / "chips.npy", mmap_mode="r"))


if __name__ == "__main__":
    main()
