"""A map over tasks in worker processes that outlives its workers.

Each worker has a pipe of its own and holds one task, so a death (out of memory, a crash in native code, a decoder that
hangs) is known to belong to exactly that task; `concurrent.futures` cannot tell, and breaks as a whole. A worker whose
parent is gone, even by ``kill -9``, reads end-of-file from its pipe and leaves. Processes are spawned, never forked:
mediapipe and ONNX Runtime keep threads and locks that do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, cast

from kyc_guard.errors import ConfigError, KycGuardError, ModelError

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
MakeWorker: TypeAlias = Callable[[], Callable[[T], R]]
"""Called once in each worker process; what it returns is called for every task. Must be picklable."""

_WINDOW_PER_WORKER = 64
"""Ordered runs: how many finished results may wait for a slow one before it."""

_GRACE_S = 5.0
"""How long a worker may take to leave after its pipe closed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that brought no result. ``code``: worker_died | timeout | internal_error."""

    code: str
    detail: str


Held: TypeAlias = tuple[int, T, bool]
"""A task with its index, and whether this is its last try."""


class Crew(Protocol[T, R_co]):
    """Workers that hold one task each, replaced when they die; a ``with`` starts and ends them.

    Nothing is given while nobody is idle. One that has not loaded its models yet need not count as idle.
    """

    @property
    def size(self) -> int: ...

    @property
    def idle(self) -> Sequence[Any]: ...

    @property
    def busy(self) -> Sequence[Any]: ...

    def give(self, held: Held[T]) -> None: ...

    def collect(self) -> Sequence[tuple[Held[T], R_co | Failure]]:
        """Wait until a worker answers, dies, runs out of time or has loaded; return what came."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...


class Engine(Protocol):
    """Makes a crew: `ProcessCrew`, or `kyc_guard.ray_pool.RayCrew`."""

    def __call__(self, make_worker: MakeWorker[T, R], workers: int | None, timeout_s: float | None) -> Crew[T, R]: ...


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    make_worker: MakeWorker[T, R],
    tasks: Iterable[T],
    *,
    workers: int | None = None,
    timeout_s: float | None = None,
    ordered: bool = False,
    engine: Engine | None = None,
) -> Generator[tuple[T, R | Failure], None, None]:
    """Yield every task with its result, as they finish or (``ordered``) in the order given; closing it ends the workers.

    ``tasks`` is read no faster than results are taken. A task whose worker died or passed ``timeout_s`` is tried once
    more, alone on the machine as far as this pool goes, and then given up as a `Failure`; the others go on.

    Args:
        workers: how many; one a core unless given.
        engine: where they run; processes of this machine unless given.

    Raises:
        ConfigError, ModelError: raised by a worker; nothing may be judged, so all stop.
        KycGuardError: workers die or raise before they take a task.
    """
    with (engine or ProcessCrew)(make_worker, workers, timeout_s) as crew:
        finished = _schedule(crew, tasks, window=crew.size * _WINDOW_PER_WORKER if ordered else None)
        if not ordered:
            yield from ((task, result) for _, task, result in finished)
            return
        early: dict[int, tuple[T, R | Failure]] = {}
        turn = 0
        for index, task, result in finished:
            early[index] = (task, result)
            while turn in early:
                yield early.pop(turn)
                turn += 1


def _schedule(crew: Crew[T, R], tasks: Iterable[T], window: int | None) -> Iterator[tuple[int, T, R | Failure]]:
    """Hand tasks out and results back, unordered, each with its index."""
    source = enumerate(tasks)
    suspects: deque[tuple[int, T]] = deque()
    oldest, newest, done = 0, -1, set[int]()
    exhausted = False
    while True:
        if suspects:
            if crew.idle and not crew.busy:
                crew.give((*suspects.popleft(), True))
        else:
            while not exhausted and crew.idle:
                # One slow clip must not let the results behind it pile up without bound.
                if window is not None and crew.busy and newest - oldest >= window:
                    break
                item = next(source, None)
                if item is None:
                    exhausted = True
                else:
                    newest = item[0]
                    crew.give((*item, False))
        if not crew.busy and not suspects and exhausted:
            return
        for (index, task, last_try), result in crew.collect():
            if isinstance(result, Failure) and result.code != "internal_error" and not last_try:
                suspects.append((index, task))
                continue
            done.add(index)
            while oldest in done:
                done.remove(oldest)
                oldest += 1
            yield index, task, result


class ProcessCrew(Generic[T, R]):
    """Worker processes of this machine."""

    def __init__(self, make_worker: MakeWorker[T, R], workers: int | None, timeout_s: float | None) -> None:
        self._make_worker, self._timeout_s = make_worker, timeout_s
        self.size = max(1, workers or default_workers())
        self.idle: list[_Worker[T]] = []
        self.busy: list[_Worker[T]] = []
        self._context = multiprocessing.get_context("spawn")

    def __enter__(self) -> Self:
        self.idle = [_Worker(self._context, self._make_worker) for _ in range(self.size)]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self.idle:
            worker.pipe.close()
        for worker in self.busy:
            worker.stop(grace_s=0.0)
        for worker in self.idle:
            worker.stop(grace_s=_GRACE_S)

    def give(self, held: Held[T]) -> None:
        """Hand a task to an idle worker, a fresh one if that has died meanwhile."""
        worker = self.idle.pop()
        try:
            worker.give(held, self._timeout_s)
        except OSError:
            worker.stop(grace_s=0.0)
            worker = _Worker(self._context, self._make_worker)
            worker.give(held, self._timeout_s)
        self.busy.append(worker)

    def collect(self) -> list[tuple[Held[T], R | Failure]]:
        """See `Crew`."""
        deadlines = [w.deadline for w in self.busy if w.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = wait([w.pipe for w in self.busy], patience)
        answers: list[tuple[Held[T], R | Failure]] = []
        for worker in list(self.busy):
            if worker.pipe in ready:
                result = self._receive(worker)
            elif worker.deadline is not None and worker.deadline <= time.monotonic():
                worker.stop(grace_s=0.0)
                result = out_of_time(self._timeout_s)
            else:
                continue
            if isinstance(result, _Started):
                worker.start_clock(self._timeout_s)
                continue
            self.busy.remove(worker)
            self.idle.append(worker if worker.alive else _Worker(self._context, self._make_worker))
            answers.append((worker.held, result))
        return answers

    def _receive(self, worker: _Worker[T]) -> R | Failure | _Started:
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.stop(grace_s=_GRACE_S)
            if not worker.started:
                raise KycGuardError(
                    f"a worker process ended before it could take work ({worker.epitaph}). Remedy: run kyc-guard doctor"
                ) from None
            return Failure("worker_died", f"the worker process ended ({worker.epitaph})")
        if isinstance(answer, KycGuardError):
            raise answer
        return cast("R | Failure | _Started", answer)


@dataclass(frozen=True, slots=True)
class _Started:
    """A worker's first word: its models are loaded."""


class _Worker(Generic[T]):
    """One process, its pipe, and the task it holds."""

    def __init__(self, context: multiprocessing.context.SpawnContext, make_worker: MakeWorker[T, Any]) -> None:
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make_worker), daemon=True)
        # Blocked before the process exists: a Ctrl-C while it still imports is the parent's to answer, too. The tracker, which
        # the first process brings with it, would unblock it again.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.alive, self.started = True, False
        self.deadline: float | None = None
        self._held: Held[T] | None = None

    @property
    def held(self) -> Held[T]:
        assert self._held is not None
        return self._held

    @property
    def epitaph(self) -> str:
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"signal {signal.Signals(-code).name}"

    def give(self, held: Held[T], timeout_s: float | None) -> None:
        self.pipe.send(held[1])
        self._held = held
        # Loading models does not count against the first task.
        self.deadline = time.monotonic() + timeout_s if timeout_s is not None and self.started else None

    def start_clock(self, timeout_s: float | None) -> None:
        self.started = True
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def stop(self, *, grace_s: float) -> None:
        """End the process: it leaves by itself when its pipe closes, unless it is at work or stuck."""
        self.alive = False
        self.pipe.close()
        self._process.join(grace_s)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, make_worker: MakeWorker[Any, Any]) -> None:
    """The worker process: load once, then answer until the pipe closes."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    work = load(make_worker)
    if isinstance(work, KycGuardError):
        pipe.send(work)
        return
    try:
        pipe.send(_Started())
        while True:
            pipe.send(answer(work, pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def load(make_worker: MakeWorker[T, R]) -> Callable[[T], R] | KycGuardError:
    """What does the work in a worker process, or why there is none."""
    try:
        return make_worker()
    except KycGuardError as error:
        return error
    except Exception as error:  # noqa: BLE001 - told to the parent, which stops
        traceback.print_exc()
        return KycGuardError(f"a worker process could not start: {type(error).__name__}: {error}")


def answer(work: Callable[[T], R], task: T) -> R | Failure | KycGuardError:
    """What a worker process sends back; an error of this package means that nothing may be judged."""
    try:
        return work(task)
    except (ConfigError, ModelError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - the worker boundary: one task's bug is one row's error
        return Failure("internal_error", f"{type(error).__name__}: {error}")


def out_of_time(timeout_s: float | None) -> Failure:
    return Failure("timeout", f"no result within {timeout_s:g} s")
