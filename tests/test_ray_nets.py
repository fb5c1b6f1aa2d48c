"""Nets that an actor of a Ray cluster holds give what they give here, also after the actor was killed.

Ray is run in a process of its own: it warns as it likes, and warnings are errors here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

from kyc_guard import pool, ray_nets
from kyc_guard.config import Settings
from kyc_guard.errors import ConfigError, ModelError
from kyc_guard.ray_pool import Nets, RayCrew
from kyc_guard.runtime import Net
from kyc_guard.weights import Weights

NAME, CALLS = "face_attack_patch", 8


def answer(net: Net, number: int) -> list[float]:
    rgb = np.random.default_rng(number).integers(0, 256, (1 + number % 3, *net.inputs["rgb"][1:]), np.uint8)
    return np.concatenate([v.ravel() for v in net.run(rgb=rgb).values()]).tolist()


def ask_the_actor() -> Callable[[int], list[float]]:
    """A worker whose net is elsewhere; half-way it kills the actor that holds it."""
    import ray

    net = Net(Weights(Settings().weights_dir).get(NAME), device="ray")

    def work(number: int) -> list[float]:
        if number == CALLS // 2:
            ray.kill(net._session._actor, no_restart=False)
        return answer(net, number)

    return work


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is absent")
def test_an_actors_net_gives_what_it_gives_here_and_one_that_is_killed_is_replaced() -> None:
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True, timeout=280)
    found = {int(k): v for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
    here = Net(Weights(Settings().weights_dir).get(NAME))
    assert sorted(found) == list(range(CALLS))
    for number, values in found.items():
        np.testing.assert_allclose(values, answer(here, number), atol=1e-6)


class Cluster:
    """Stands in for Ray, with these actors, all of which hold the same model."""

    util = property(lambda self: self)

    def __init__(self, names: list[str], sha256: str = "") -> None:
        self.names, self.sha256 = names, sha256

    def is_initialized(self) -> bool:
        return True

    def list_named_actors(self) -> list[str]:
        return self.names

    def get_actor(self, name: str) -> Cluster:
        assert name in self.names
        return self

    @property
    def about(self) -> Cluster:
        return self

    def remote(self, name: str) -> ray_nets.About:
        return ray_nets.About(
            self.sha256, "CPUExecutionProvider", "", (ray_nets.Port("rgb", ("n", 8, 8, 3)),), (ray_nets.Port("y", ("n",)),)
        )

    def get(self, word: ray_nets.About) -> ray_nets.About:
        return word


def test_no_actor_and_an_actor_with_another_model_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = Weights(Settings().weights_dir).get(NAME)
    for cluster, error, says in (
        (Cluster(["other"]), ConfigError, "--net-actors 1"),
        (Cluster([ray_nets.actor_name(0)], "0" * 64), ModelError, "another model"),
    ):
        monkeypatch.setitem(sys.modules, "ray", cluster)
        with pytest.raises(error, match=says):
            Net(weight, device="ray")
    monkeypatch.setitem(sys.modules, "ray", Cluster([ray_nets.actor_name(0)], weight.sha256))
    net = Net(weight, device="ray")
    assert (dict(net.inputs), list(net.outputs), net.fallback) == ({"rgb": ("n", 8, 8, 3)}, ["y"], "")


if __name__ == "__main__":
    engine = partial(RayCrew, nets=Nets(1, Settings()))
    print(json.dumps(dict(sorted((task, result) for task, result in pool.run(ask_the_actor, range(CALLS), workers=1, engine=engine)))))
