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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

from kyc_guard.errors import ConfigError, KycGuardError, ModelError

T = TypeVar("T")
R = TypeVar("R")
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


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    make_worker: MakeWorker[T, R], tasks: Iterable[T], *, workers: int, timeout_s: float | None = None, ordered: bool = False
) -> Generator[tuple[T, R | Failure], None, None]:
    """Yield every task with its result, as they finish or (``ordered``) in the order given; closing it ends the workers.

    ``tasks`` is read no faster than results are taken. A task whose worker died or passed ``timeout_s`` is tried once
    more, alone on the machine as far as this pool goes, and then given up as a `Failure`; the others go on.

    Raises:
        ConfigError, ModelError: raised by a worker; nothing may be judged, so all stop.
        KycGuardError: workers die or raise before they take a task.
    """
    with _Crew(make_worker, workers, timeout_s) as crew:
        finished = _schedule(crew, tasks, window=workers * _WINDOW_PER_WORKER if ordered else None)
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


def _schedule(crew: _Crew[T, R], tasks: Iterable[T], window: int | None) -> Iterator[tuple[int, T, R | Failure]]:
    """Hand tasks out and results back, unordered, each with its index."""
    source = enumerate(tasks)
    suspects: deque[tuple[int, T]] = deque()
    oldest, done = 0, set[int]()
    exhausted = False
    while True:
        if suspects:
            if not crew.busy:
                crew.give(*suspects.popleft(), last_try=True)
        else:
            while not exhausted and crew.idle:
                # One slow clip must not let the results behind it pile up without bound.
                if window is not None and crew.busy and crew.last_given - oldest >= window:
                    break
                item = next(source, None)
                if item is None:
                    exhausted = True
                else:
                    crew.give(*item, last_try=False)
        if not crew.busy and not suspects and exhausted:
            return
        for worker, result in crew.collect():
            index, task, last_try = worker
            if isinstance(result, Failure) and result.code != "internal_error" and not last_try:
                suspects.append((index, task))
                continue
            done.add(index)
            while oldest in done:
                done.remove(oldest)
                oldest += 1
            yield index, task, result


class _Crew(Generic[T, R]):
    """The worker processes; replaces the dead."""

    def __init__(self, make_worker: MakeWorker[T, R], size: int, timeout_s: float | None) -> None:
        self._make_worker, self._timeout_s = make_worker, timeout_s
        self.idle: list[_Worker[T]] = []
        self.busy: list[_Worker[T]] = []
        self.last_given = -1
        self._context = multiprocessing.get_context("spawn")
        self._size = max(1, size)

    def __enter__(self) -> Self:
        self.idle = [_Worker(self._context, self._make_worker) for _ in range(self._size)]
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self.idle:
            worker.pipe.close()
        for worker in self.busy:
            worker.stop(grace_s=0.0)
        for worker in self.idle:
            worker.stop(grace_s=_GRACE_S)

    def give(self, index: int, task: T, *, last_try: bool) -> None:
        """Hand a task to an idle worker, a fresh one if that has died meanwhile."""
        worker = self.idle.pop()
        try:
            worker.give(index, task, last_try, self._timeout_s)
        except OSError:
            worker.stop(grace_s=0.0)
            worker = _Worker(self._context, self._make_worker)
            worker.give(index, task, last_try, self._timeout_s)
        self.busy.append(worker)
        self.last_given = max(self.last_given, index)

    def collect(self) -> list[tuple[tuple[int, T, bool], R | Failure]]:
        """Wait until a worker answers, dies or runs out of time; return what came."""
        deadlines = [w.deadline for w in self.busy if w.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = wait([w.pipe for w in self.busy], patience)
        answers: list[tuple[tuple[int, T, bool], R | Failure]] = []
        for worker in list(self.busy):
            if worker.pipe in ready:
                result = self._receive(worker)
            elif worker.deadline is not None and worker.deadline <= time.monotonic():
                worker.stop(grace_s=0.0)
                result = Failure("timeout", f"no result within {self._timeout_s:g} s")
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
        self._process.start()
        theirs.close()
        self.alive, self.started = True, False
        self.deadline: float | None = None
        self._held: tuple[int, T, bool] | None = None

    @property
    def held(self) -> tuple[int, T, bool]:
        assert self._held is not None
        return self._held

    @property
    def epitaph(self) -> str:
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"signal {signal.Signals(-code).name}"

    def give(self, index: int, task: T, last_try: bool, timeout_s: float | None) -> None:
        self.pipe.send(task)
        self._held = (index, task, last_try)
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
    try:
        work = make_worker()
    except KycGuardError as error:
        pipe.send(error)
        return
    except Exception as error:
        pipe.send(KycGuardError(f"a worker process could not start: {type(error).__name__}: {error}"))
        raise
    try:
        pipe.send(_Started())
        while True:
            pipe.send(_answer(work, pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(work: Callable[[Any], Any], task: Any) -> Any:
    try:
        return work(task)
    except (ConfigError, ModelError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - the worker boundary: one task's bug is one row's error
        return Failure("internal_error", f"{type(error).__name__}: {error}")
