"""Train one view's net: paired batches, averaged weights, checkpoints every few minutes, resumable.

Weights are averaged twice: over the steps, exponentially, and over the ends of the learning rate's cycles (P. Izmailov et al.,
"Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018).
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import threading
import time
import tomllib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kyc_guard.attacks.codec import CODECS
from kyc_guard.detectors.face_attack import CLASSES
from kyc_guard.faces.views import VIEWS
from kyc_guard.types import Float32Array
from training.chips import ChipStore
from training.models import AttackNet, Output, normalise
from training.sampling import Jitter, PairSampler, Sample, refilm_share, sample_of

CHECKPOINT_S = 180.0
_AVERAGE = 0.998


class Cycle(NamedTuple):
    """A stretch of training over which the learning rate falls from ``lr`` along a cosine."""

    pairs: int
    lr: float


@dataclass(frozen=True, slots=True)
class Config:
    """One run, as its TOML file says."""

    view: str
    stages: int
    cycles: tuple[Cycle, ...]
    batch_pairs: int
    weight_decay: float
    simulated: float
    map_weight: float
    species_weight: float
    seed: int
    gentle_share: float = 0.4
    refilm: float = 0.0
    """Share of bona fide partners of a simulated print, screen or mask that are filmed by a simulated camera as well."""
    codecs: tuple[str, ...] = ("jpeg", "webp")
    """Of `kyc_guard.attacks.codec.CODECS`, what pictures come through."""
    species: tuple[str, ...] = ()
    """Attacks to learn; all when empty."""
    exclude: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Config:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        data["cycles"] = tuple(Cycle(**cycle) for cycle in data["cycles"])
        return cls(**with_tuples(data))

    def shortened(self, pairs: int) -> Config:
        """One cycle of so many pairs, at the first one's learning rate."""
        return replace(self, cycles=(self.cycles[0]._replace(pairs=pairs),))

    def lr_at(self, step: int) -> float | None:
        """Learning rate of a step, warming up over the first hundred of a cycle; ``None`` after the last."""
        for cycle in self.cycles:
            steps = cycle.pairs // self.batch_pairs
            if step < steps:
                return cycle.lr * min(1.0, (step + 1) / 100) * (0.49 * (1 + math.cos(math.pi * step / steps)) + 0.02)
            step -= steps
        return None

    @property
    def map_side(self) -> int:
        return VIEWS[self.view].side_px // (16 if self.stages <= 5 else 32)


def with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML's lists as `Config` holds them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def loss_of(out: Output, targets: Tensor, species: Tensor, truth_map: Tensor, config: Config) -> Tensor:
    """Both heads where they are asked, species, and map where the mask is known, as one number."""
    asked = torch.isfinite(targets)
    attack = functional.binary_cross_entropy_with_logits(out.logits[asked], targets[asked] * 0.96 + 0.02)
    kind = functional.cross_entropy(out.species, species, label_smoothing=0.05)
    known = torch.isfinite(truth_map)
    place = functional.binary_cross_entropy_with_logits(out.map[known], truth_map[known])
    return attack + config.species_weight * kind + config.map_weight * place


def batches(config: Config, real: ChipStore, bank: ChipStore, first_seed: int) -> Generator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Endless paired batches, made one ahead on a thread of their own (OpenCV and NumPy release the interpreter lock)."""
    view = VIEWS[config.view]
    codecs = [codec for codec in CODECS if codec.name in config.codecs]
    ready: queue.Queue[tuple[Tensor, Tensor, Tensor, Tensor]] = queue.Queue(maxsize=3)
    stop = threading.Event()

    def work() -> None:
        rng = np.random.default_rng(first_seed)
        sampler = PairSampler(real, bank, simulated=config.simulated, exclude=config.exclude, species=config.species)
        while not stop.is_set():
            samples: list[Sample] = []
            for _ in range(config.batch_pairs):
                jitter = Jitter.draw(rng)
                # Half the pairs also share every degradation, so that nothing but the attack tells the two apart.
                seeds = rng.integers(2**32, size=2)
                seeds[1] = seeds[0] if rng.random() < 0.5 else seeds[1]
                pair = sampler.draw(rng)
                refilm = refilm_share(pair[1][0], config.refilm)
                how: dict[str, Any] = {"map_side": config.map_side, "gentle_share": config.gentle_share, "refilm": refilm, "codecs": codecs}
                for (row, chip), seed in zip(pair, seeds, strict=True):
                    samples.append(sample_of(view, row, chip, jitter, np.random.default_rng(seed), **how))
            batch = (
                normalise(torch.from_numpy(np.stack([s.rgb for s in samples]))).contiguous(memory_format=torch.channels_last),
                torch.tensor([s.targets for s in samples], dtype=torch.float32),
                torch.tensor([s.species for s in samples]),
                torch.from_numpy(np.stack([s.map for s in samples])),
            )
            while not stop.is_set():
                try:
                    ready.put(batch, timeout=1.0)
                    break
                except queue.Full:
                    continue

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            try:
                yield ready.get(timeout=60)
            except queue.Empty:
                raise RuntimeError("the batch thread stopped; its traceback stands above") from None
    finally:
        stop.set()
        thread.join()  # at the end of the program torch and OpenCV would be torn down under it


def train(config: Config, cache: Path, out: Path, *, resume: bool) -> AttackNet:
    """Train through all cycles of ``config``, from ImageNet's weights or where an interrupted run stopped; returns the averaged net.

    Raises:
        ValueError: ``out`` holds a run of another config: going on with it would pass one training off as the other.
    """
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    real, bank = ChipStore(cache / "real"), ChipStore(cache / "bank")
    net = AttackNet(config.stages)
    net = net.to(memory_format=torch.channels_last)
    heads = [p for n, p in net.named_parameters() if not n.startswith(("stem", "stages"))]
    body = [p for n, p in net.named_parameters() if n.startswith(("stem", "stages"))]
    optimiser = torch.optim.AdamW([{"params": body}, {"params": heads}], weight_decay=config.weight_decay)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGE), use_buffers=True)
    state_path, step, spent_s = out / "checkpoint.pt", 0, 0.0
    if resume and state_path.exists():
        state = torch.load(state_path, weights_only=False)
        if state["config"] != asdict(config):
            raise ValueError(f"{state_path} is of another training ({state['config']}). Remedy: name this run otherwise, or --no-resume")
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent_s = state["step"], state["spent_s"]
    ends = list(accumulate(cycle.pairs // config.batch_pairs for cycle in config.cycles))
    started, saved, shown, losses = time.monotonic() - spent_s, time.monotonic(), time.monotonic(), []
    net.train()
    with (
        (out / "log.jsonl").open("a", encoding="utf-8") as log,
        contextlib.closing(batches(config, real, bank, first_seed=config.seed + step)) as stream,
    ):
        for x, targets, species, truth_map in stream:
            lr = config.lr_at(step)
            if lr is None:
                break
            for group, times in zip(optimiser.param_groups, (1, 3), strict=True):
                group["lr"] = lr * times
            loss = loss_of(net(x), targets, species, truth_map, config)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            average.update_parameters(net)
            step += 1
            if step in ends:
                torch.save(average.module.state_dict(), out / f"cycle_{ends.index(step) + 1}.pt")
            losses.append(float(loss.detach()))
            now = time.monotonic()
            if now - shown > 30:
                line = {"step": step, "done": round(step / ends[-1], 4), "loss": float(np.mean(losses)), "pairs": step * config.batch_pairs,
                        "spent_s": round(now - started)}  # fmt: skip
                log.write(json.dumps(line) + "\n")
                log.flush()
                print(line, flush=True)
                shown, losses = now, []
            if now - saved > CHECKPOINT_S:
                _save(state_path, config, net, average, optimiser, step=step, spent_s=now - started)
                saved = now
    _save(state_path, config, net, average, optimiser, step=step, spent_s=time.monotonic() - started)
    final = cast("AttackNet", average.module).eval()
    final.load_state_dict(mean_of([torch.load(out / f"cycle_{k + 1}.pt", weights_only=True) for k in range(len(ends))]))
    torch.save(final.state_dict(), out / "net.pt")
    return final


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several nets' weights and statistics; counters are the last one's."""
    last = states[-1]
    return {k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in last.items()}


def trained(run: Path, config: Config) -> AttackNet:
    """The finished net of a run's folder, ready to judge."""
    net = AttackNet(config.stages, pretrained=False)
    net.load_state_dict(torch.load(run / "net.pt", weights_only=True))
    return net.eval()


def _save(
    path: Path,
    config: Config,
    net: torch.nn.Module,
    average: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    step: int,
    spent_s: float,
) -> None:
    part = path.with_suffix(".part")
    state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save({**state, "config": asdict(config), "step": step, "spent_s": spent_s}, part)
    part.replace(path)


@torch.inference_mode()
def predict(net: AttackNet, images: Sequence[NDArray[np.uint8]], batch: int = 64) -> tuple[Float32Array, Float32Array]:
    """Logits (N, 2), physical and digital, and species probabilities (N, 9) of ready views."""
    logits, kinds = [], []
    for start in range(0, len(images), batch):
        out = net(normalise(torch.from_numpy(np.stack(images[start : start + batch]))).contiguous(memory_format=torch.channels_last))
        logits.append(out.logits.numpy())
        kinds.append(out.species.softmax(1).numpy())
    if not logits:
        return np.zeros((0, 2), np.float32), np.zeros((0, len(CLASSES)), np.float32)
    return np.concatenate(logits), np.concatenate(kinds)
