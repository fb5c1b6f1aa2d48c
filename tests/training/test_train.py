"""Twenty steps on forty made chips: the loss falls, and a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import blotches, fill, striped

from training import train as module
from training.chips import ChipStore
from training.models import AttackNet, Output
from training.train import Config, Cycle, batches, loss_of, predict, train

pytestmark = pytest.mark.torch

CONFIG = Config(
    view="patch",
    stages=5,
    cycles=(Cycle(60, 0.01), Cycle(20, 0.005)),
    batch_pairs=4,
    weight_decay=1e-3,
    simulated=0.5,
    map_weight=0.3,
    species_weight=0.3,
    seed=3,
    gentle_share=1.0,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The loss of every step that was made."""
    seen: list[float] = []

    def watched(*args: object) -> torch.Tensor:
        loss = loss_of(*args)  # type: ignore[arg-type]
        seen.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(module, "loss_of", watched)
    return seen


def test_the_loss_falls_and_the_net_tells_stripes_from_blotches(cache: Path, losses: list[float]) -> None:
    net = train(CONFIG, cache, cache / "run", resume=False)
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert not net.training
    # The average of twenty steps is nearly the start; what was learned stands in the last step's weights.
    raw = AttackNet(5, pretrained=False)
    raw.load_state_dict(torch.load(cache / "run" / "checkpoint.pt", weights_only=False)["net"])
    views = [np.kron(f(blotches(s)), np.ones((2, 2, 1), np.uint8)) for s in range(100, 106) for f in (striped, np.copy)]
    with torch.inference_mode():  # batch statistics: twenty steps do not move the running ones far
        logits = raw.train()(module.normalise(torch.from_numpy(np.stack(views)))).logits.numpy()
    assert (logits[::2].max(axis=1) > logits[1::2].max(axis=1)).mean() > 0.8


def test_an_interrupted_run_goes_on_at_its_last_checkpoint_and_ends_at_the_same_step(
    cache: Path, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_S", 0.0)
    watched, endless = module.loss_of, module.batches
    seeds: list[int] = []

    def seeded(*args: object, first_seed: int) -> Iterator[tuple[torch.Tensor, ...]]:
        seeds.append(first_seed)
        return endless(*args, first_seed=first_seed)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "batches", seeded)

    def torn(*args: object) -> torch.Tensor:
        if len(losses) == 4:
            raise KeyboardInterrupt
        return watched(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "loss_of", torn)
    short = replace(CONFIG, cycles=(Cycle(40, 0.01),))
    with pytest.raises(KeyboardInterrupt):
        train(short, cache, cache / "run", resume=True)
    checkpoint = torch.load(cache / "run" / "checkpoint.pt", weights_only=False)
    assert checkpoint["step"] == 4
    assert not (cache / "run" / "net.pt").exists()

    losses.clear()
    started: list[dict[str, torch.Tensor]] = []

    def first(*args: object) -> torch.Tensor:
        if not started:
            started.append(copy.deepcopy(kept[0].state_dict()))
        return watched(*args)  # type: ignore[arg-type]

    kept: list[AttackNet] = []
    made = module.AttackNet

    def remembered(stages: int) -> AttackNet:
        kept.append(made(stages))
        return kept[-1]

    monkeypatch.setattr(module, "AttackNet", remembered)
    monkeypatch.setattr(module, "loss_of", first)
    train(short, cache, cache / "run", resume=True)
    assert len(losses) == 6
    assert seeds == [CONFIG.seed, CONFIG.seed + 4], "what was seen before is not drawn again"
    assert torch.equal(started[0]["logits.weight"], checkpoint["net"]["logits.weight"])
    assert torch.load(cache / "run" / "checkpoint.pt", weights_only=False)["step"] == 10
    saved = torch.load(cache / "run" / "net.pt", weights_only=True)
    losses.clear()
    train(short, cache, cache / "run", resume=True)
    assert losses == [], "a finished run has nothing left to do"
    assert all(torch.equal(v, saved[k]) for k, v in torch.load(cache / "run" / "net.pt", weights_only=True).items())


def test_a_run_of_another_config_is_not_gone_on_with(cache: Path) -> None:
    short = replace(CONFIG, cycles=(Cycle(8, 0.01),))
    train(short, cache, cache / "run", resume=True)
    with pytest.raises(ValueError, match="another training"):
        train(replace(short, exclude=("here",)), cache, cache / "run", resume=True)


def test_the_learning_rate_warms_up_falls_and_starts_again_with_each_cycle() -> None:
    config = replace(CONFIG, cycles=(Cycle(4_000, 0.01), Cycle(2_000, 0.005)))
    rates = [config.lr_at(step) for step in range(1_501)]
    assert rates[1_500] is None, "nothing is learnt after the last cycle"
    falling = [r for r in rates[:1_500] if r is not None]
    assert falling[0] < falling[99] <= 0.01
    assert all(a > b for a, b in pairwise(falling[100:1_000]))
    assert falling[999] < 0.001
    assert falling[1_000] < falling[1_100] <= 0.005
    assert falling[1_499] < 0.0005


def test_the_net_is_the_mean_of_the_cycles_ends(cache: Path, losses: list[float]) -> None:
    short = replace(CONFIG, cycles=(Cycle(8, 0.01), Cycle(8, 0.01)))
    net = train(short, cache, cache / "run", resume=False)
    assert len(losses) == 4
    first, second = (torch.load(cache / "run" / f"cycle_{k}.pt", weights_only=True) for k in (1, 2))
    assert not torch.equal(first["logits.weight"], second["logits.weight"])
    assert torch.allclose(net.state_dict()["logits.weight"], (first["logits.weight"] + second["logits.weight"]) / 2)
    statistics = "neck.1.running_var"
    assert torch.allclose(net.state_dict()[statistics], (first[statistics] + second[statistics]) / 2)


def test_batches_are_pairs_and_repeat_by_their_seed(cache: Path) -> None:
    stores = ChipStore(cache / "real"), ChipStore(cache / "bank")
    made = [batches(CONFIG, *stores, first_seed=seed) for seed in (1, 1, 2)]
    (x, targets, species, where), again, other = (next(b) for b in made)
    for generator in made:
        generator.close()
    assert (tuple(x.shape), tuple(targets.shape), tuple(where.shape)) == ((8, 3, 128, 128), (8, 2), (8, 8, 8))
    assert torch.equal(x, again[0])
    assert not torch.equal(x, other[0])
    assert torch.nan_to_num(targets[::2]).abs().sum() == 0, "bona fide first"
    assert (torch.nan_to_num(targets[1::2]).max(dim=1).values == 1).all()
    assert (species[::2] == 0).all()


def test_nobody_makes_batches_any_more_once_they_are_closed(cache: Path) -> None:
    # A thread that goes on while the program ends aborts it after hours of training.
    before = threading.active_count()
    stream = batches(CONFIG, ChipStore(cache / "real"), ChipStore(cache / "bank"), first_seed=1)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_a_head_that_is_not_asked_learns_nothing() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    out = Output(logits, torch.zeros(2, 9), torch.zeros(2, 8, 8), torch.zeros(2, 160))
    targets = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    loss_of(out, targets, torch.tensor([1, 0]), torch.zeros(2, 8, 8), CONFIG).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, 0] < 0 < logits.grad[1, 1]


def test_a_map_that_is_not_known_teaches_nothing() -> None:
    where = torch.zeros(2, 8, 8, requires_grad=True)
    out = Output(torch.zeros(2, 2), torch.zeros(2, 9), where, torch.zeros(2, 160))
    truth = torch.ones(2, 8, 8)
    truth[1] = float("nan")
    loss_of(out, torch.zeros(2, 2), torch.tensor([5, 5]), truth, CONFIG).backward()
    assert where.grad is not None
    assert (where.grad[0] < 0).all()
    assert (where.grad[1] == 0).all()


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "face.toml"
    lines = [f"{k} = {json.dumps(v)}" for k, v in vars_of(CONFIG).items() if k not in {"species", "exclude", "cycles"}]
    cycles = "cycles = [{ pairs = 60, lr = 0.01 }, { pairs = 20, lr = 0.005 }]"
    path.write_text("\n".join([*lines, cycles, 'species = ["print"]']), encoding="utf-8")
    assert Config.load(path) == replace(CONFIG, species=("print",))


def vars_of(config: Config) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}


def test_predictions_do_not_depend_on_the_batch() -> None:
    net = AttackNet(5, pretrained=False).eval()
    images = [np.kron(blotches(s), np.ones((2, 2, 1), np.uint8)) for s in range(5)]
    (logits, kinds), (again, _) = predict(net, images, batch=5), predict(net, images, batch=2)
    assert (logits.shape, kinds.shape) == ((5, 2), (5, 9))
    assert np.allclose(logits, again, atol=1e-5)
    assert kinds.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert [part.shape for part in predict(net, [])] == [(0, 2), (0, 9)]
