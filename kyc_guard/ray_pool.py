"""Workers on a Ray cluster, for `kyc_guard.pool.run`: one actor each, with the models loaded, holding one task.

Ray (the extra ``ray``) is imported when a crew is made, never before. Every machine of the cluster needs this package in the same
version, the weights, and the submissions under the same paths; tasks and result lines alone travel. Where the nets belong on GPUs and
decoding does not, actors of their own hold them for all workers (see `Nets`), and what the nets look at and say travels as well.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, cast

from numpy.typing import NDArray

from kyc_guard import pool
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError, KycGuardError
from kyc_guard.pool import Failure, Held, MakeWorker, R, T
from kyc_guard.ray_nets import About, Port, actor_name
from kyc_guard.runtime import Net

_MOST_FAILED_STARTS = 3
"""Workers in a row that may die before they have loaded: a machine may go down meanwhile, but models that kill every worker must not be
loaded for ever."""
_STORE_BYTES = 100_000_000
"""For Ray's object store where we start Ray: paths, result lines and a net's portion of cut faces go through it, and its own default is
a third of the memory.
"""
_CALLS_AT_ONCE = 64
"""Of an actor that holds nets; those that wait are computed together."""


@dataclass(frozen=True, slots=True)
class Nets:
    """Actors that hold the nets, for workers whose settings name the device ``ray``.

    Attributes:
        actors: how many. Each takes a GPU, or its share where there are fewer; on a cluster without one they compute on its CPUs.
        settings: with the device the nets run on there.
    """

    actors: int
    settings: Settings


class RayCrew(Generic[T, R]):
    """Actors of a Ray cluster.

    Args:
        workers: how many actors; one a core of the cluster unless given.
        address: of a running cluster, such as ``ray://head:10001`` or ``auto``; unless given, Ray is started on this machine and ended
            afterwards.
        gpus_per_worker: share of a GPU that each actor reserves, for settings whose nets run on one.
        nets: actors beside the workers that hold the nets for them.

    Raises:
        ConfigError: Ray is not installed, no cluster answers, or it lacks what a worker needs.
    """

    def __init__(
        self,
        make_worker: MakeWorker[T, R],
        workers: int | None,
        timeout_s: float | None,
        *,
        address: str | None = None,
        gpus_per_worker: float = 0.0,
        nets: Nets | None = None,
    ) -> None:
        # Ray would tell its makers over the network what runs here.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError("Ray is not installed. Remedy: pip install 'kyc-guard[ray]', or use the engine local") from error
        self._ray: Any = ray
        self._make_worker, self._timeout_s, self._address = make_worker, timeout_s, address
        self._workers, self._gpus_per_worker, self._nets = workers, gpus_per_worker, nets
        self._holders: list[Any] = []
        self.size = 0
        self.loading: list[_Actor[T, R]] = []
        self.idle: list[_Actor[T, R]] = []
        self.busy: list[_Actor[T, R]] = []
        self._failed_starts = 0
        self._started_ray = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            self._connect()
        has = self._ray.cluster_resources()
        self.size = max(1, self._workers or int(has.get("CPU", 0)))
        if has.get("CPU", 0) < 1 or has.get("GPU", 0) < self._gpus_per_worker:
            self._leave()
            raise ConfigError(
                f"the Ray cluster has {has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs, and a worker needs 1 and "
                f"{self._gpus_per_worker:g}. Remedy: add machines, or ask for less"
            )
        if self._nets is not None:
            self._hold(self._nets, has.get("GPU", 0))
        self._kind = self._ray.remote(num_cpus=1, num_gpus=self._gpus_per_worker, max_restarts=0)(_Work)
        self.loading = [self._start() for _ in range(self.size)]
        return self

    def _hold(self, nets: Nets, gpus: float) -> None:
        share = min(1.0, gpus / nets.actors)
        # They hold no state but the nets, so one that dies is started anew and asked again.
        kind = self._ray.remote(num_cpus=0, num_gpus=share, max_concurrency=_CALLS_AT_ONCE, max_restarts=-1, max_task_retries=-1)(_Holder)
        self._holders = [kind.options(name=actor_name(i)).remote(nets.settings) for i in range(nets.actors)]
        for error in self._ray.get([holder.ready.remote() for holder in self._holders]):
            if error is not None:
                self.__exit__(None, None, None)
                raise error

    def _connect(self) -> None:
        quiet = {"log_to_driver": False, "configure_logging": False}
        local = {"num_cpus": self._workers or pool.default_workers(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        try:
            self._ray.init(self._address or "local", **quiet, **({} if self._address else local))
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"no Ray cluster at {self._address or 'this machine'} ({error}). Remedy: check the address and `ray status`"
            ) from error
        self._started_ray = True

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for handle in (*(actor.handle for actor in (*self.loading, *self.idle, *self.busy)), *self._holders):
            self._ray.kill(handle)
        self._leave()

    def _leave(self) -> None:
        if self._started_ray:
            self._ray.shutdown()

    def give(self, held: Held[T]) -> None:
        """Hand a task to an idle actor; whether that is still alive is found out by `collect`."""
        actor = self.idle.pop()
        actor.held = held
        actor.word = actor.handle.answer.remote(held[1])
        actor.deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        self.busy.append(actor)

    def collect(self) -> list[tuple[Held[T], R | Failure]]:
        """See `pool.Crew`."""
        deadlines = [a.deadline for a in self.busy if a.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready, _ = self._ray.wait([a.word for a in (*self.loading, *self.busy)], timeout=patience)
        for actor in [a for a in self.loading if a.word in ready]:
            self._welcome(actor)
        answers: list[tuple[Held[T], R | Failure]] = []
        for actor in list(self.busy):
            if actor.word in ready:
                result, alive = self._hear(actor)
            elif actor.deadline is not None and actor.deadline <= time.monotonic():
                result, alive = pool.out_of_time(self._timeout_s), False
            else:
                continue
            assert actor.held is not None
            self.busy.remove(actor)
            if alive:
                self.idle.append(actor)
            else:
                # Also where Ray only lost sight of it: what it may still find is not asked for again, so nothing comes twice.
                self._ray.kill(actor.handle)
                self.loading.append(self._start())
            answers.append((actor.held, result))
        return answers

    def _start(self) -> _Actor[T, R]:
        handle = self._kind.remote()
        return _Actor(handle, handle.load.remote(self._make_worker))

    def _welcome(self, actor: _Actor[T, R]) -> None:
        """One that has loaded is idle; one that died meanwhile is replaced."""
        self.loading.remove(actor)
        try:
            error = self._ray.get(actor.word)
        except self._ray.exceptions.RayError as died:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise KycGuardError(
                    f"a Ray worker ended before it could take work ({_first_line(died)}). Remedy: run kyc-guard doctor on its machine"
                ) from died
            self.loading.append(self._start())
            return
        if error is not None:
            raise error
        self._failed_starts = 0
        self.idle.append(actor)

    def _hear(self, actor: _Actor[T, R]) -> tuple[R | Failure, bool]:
        """What an actor answered, and whether it lives."""
        try:
            answer = self._ray.get(actor.word)
        except self._ray.exceptions.RayError as died:
            return Failure("worker_died", f"the Ray worker ended ({_first_line(died)})"), False
        if isinstance(answer, KycGuardError):
            raise answer
        return cast("R | Failure", answer), True


class _Actor(Generic[T, R]):
    """A handle, the word that is awaited from it, and the task it holds."""

    def __init__(self, handle: Any, word: Any) -> None:
        self.handle, self.word = handle, word
        self.held: Held[T] | None = None
        self.deadline: float | None = None


class _Work:
    """What runs in the actor."""

    def load(self, make_worker: MakeWorker[Any, Any]) -> KycGuardError | None:
        loaded = pool.load(make_worker)
        if isinstance(loaded, KycGuardError):
            return loaded
        self._work: Callable[[Any], Any] = loaded
        return None

    def answer(self, task: Any) -> Any:
        return pool.answer(self._work, task)


class _Holder:
    """What runs in an actor that holds nets."""

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._error: KycGuardError | None = None
        try:
            self._bundle = Bundle.load(settings)
        except KycGuardError as error:
            self._error = error

    def ready(self) -> KycGuardError | None:
        return self._error

    def about(self, name: str) -> About:
        net = self._net(name)
        inputs, outputs = (tuple(Port(*port) for port in ports.items()) for ports in (net.inputs, net.outputs))
        return About(net.weight.sha256, net.provider, net.fallback, inputs, outputs)

    def run(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return self._net(name).run(**inputs)

    def _net(self, name: str) -> Net:
        with self._lock:
            return self._bundle.nets.get(name) or self._bundle.net(name)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
