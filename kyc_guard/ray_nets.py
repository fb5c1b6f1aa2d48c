"""Nets that are computed elsewhere on a Ray cluster: what stands where an ONNX Runtime session would.

`kyc_guard.ray_pool` starts the actors that hold the nets; Ray is imported when a net is first asked for, never before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from kyc_guard.errors import ConfigError, ModelError
from kyc_guard.weights import Weight


class Port(NamedTuple):
    """An input or output of a net, as ONNX Runtime describes it."""

    name: str
    shape: Sequence[Any]


class About(NamedTuple):
    """What an actor says of a net it holds."""

    sha256: str
    provider: str
    fallback: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


_ACTORS = "kyc-guard-nets-"


def actor_name(number: int) -> str:
    return f"{_ACTORS}{number}"


class ActorSession:
    """A net that one of this job's actors holds; Ray starts an actor that died anew and asks again.

    Raises:
        ConfigError: there is no such actor. ModelError: it holds another model than ``weight``.
    """

    def __init__(self, weight: Weight) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("the device ray needs Ray. Remedy: pip install 'kyc-guard[ray]', or choose another device") from error
        self._ray: Any = ray
        self._name = weight.name
        names = sorted(n for n in (ray.util.list_named_actors() if ray.is_initialized() else []) if n.startswith(_ACTORS))
        if not names:
            raise ConfigError("no actor holds the nets. Remedy: kyc-guard batch --engine ray --net-actors 1, or choose another device")
        # Workers spread over the actors there are.
        self._actor = ray.get_actor(names[os.getpid() % len(names)])
        about: About = ray.get(self._actor.about.remote(self._name))
        if about.sha256 != weight.sha256:
            raise ModelError(f"{weight.path}: the cluster's actor holds another model. Remedy: give every machine the same weights")
        self.fallback, self._about = about.fallback, about

    def run(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found: Mapping[str, NDArray[Any]] = self._ray.get(self._actor.run.remote(self._name, dict(inputs)))
        return [found[name] for name in names]

    def get_providers(self) -> list[str]:
        return [self._about.provider]

    def get_inputs(self) -> Sequence[Port]:
        return self._about.inputs

    def get_outputs(self) -> Sequence[Port]:
        return self._about.outputs
