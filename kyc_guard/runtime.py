"""ONNX Runtime sessions: one place that chooses where and how precisely a net computes, threads and batch shape.

A device that is not there is replaced by the next best one, and the net says why; `kyc_guard.doctor` shows it. Nothing here
imports CUDA: ONNX Runtime's GPU package loads it when a session asks for it. On a GPU, which is faster the more it gets at once,
pictures of different submissions go into one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kyc_guard.config import Device, Precision
from kyc_guard.errors import ModelError
from kyc_guard.ray_nets import ActorSession
from kyc_guard.stages import stage
from kyc_guard.weights import Weight

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_WANTED: Mapping[str, tuple[str, ...]] = {
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
    "auto": (CUDA, CPU),  # TensorRT spends minutes on building an engine for every machine: it has to be asked for
}
_INSTALL = "pip install --force-reinstall --no-deps onnxruntime-gpu"  # it writes over the package onnxruntime, which has no GPU
_NEEDS = {CUDA: f"an NVIDIA driver and {_INSTALL}", TENSORRT: f"TensorRT's libraries and {_INSTALL}"}


class Net:
    """A loaded network. ``run`` may be called from several threads at once.

    Attributes:
        provider: ONNX Runtime's execution provider that the net runs on.
        fallback: why that is not what was asked for; empty where it is.
        inputs: name -> shape.
    """

    def __init__(self, weight: Weight, *, threads: int = 1, device: Device = "cpu", precision: Precision = "fp32", batch: int = 8) -> None:
        """Load.

        Args:
            precision: fp16 is for TensorRT, which rounds the net while it builds an engine; other providers compute as the file says.
            batch: how many pictures the net takes at once; more are cut into such portions, which changes no result. Nets of figures
                instead of pictures take all of them.

        Raises:
            ModelError: the file cannot be loaded, not even on the CPU.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Memory kept from call to call costs every worker 90 MB and, with portions this small, saves no time.
        options.enable_cpu_mem_arena = False
        self.weight, self._batch = weight, batch
        self._session, missed = _elsewhere(weight) if device == "ray" else _session(weight, options, device, precision)
        self.provider: str = self._session.get_providers()[0]
        if precision == "fp16" and self.provider != TENSORRT and device != "ray":
            missed.append(f"fp16 needs {TENSORRT}")
        # With auto, the CPU is as good an answer as any.
        self.fallback = "" if device == "auto" and precision == "fp32" else "; ".join(missed)
        self.inputs: Mapping[str, tuple[Any, ...]] = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        self.outputs: Mapping[str, tuple[Any, ...]] = {o.name: tuple(o.shape) for o in self._session.get_outputs()}
        self._sees = any(len(shape) == 4 for shape in self.inputs.values())
        on_gpu = self.provider != CPU and device != "ray"
        self._compute = self._run_bound if on_gpu else self._run
        self._ask = _Together(self._in_portions) if on_gpu and self._sees else self._in_portions

    @stage("nets")
    def run(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Named arrays in, named arrays out; the first axis is the batch."""
        return dict(zip(self.outputs, self._ask(inputs), strict=True))

    def _in_portions(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        parts = [self._compute(part) for part in _portions(inputs, self._batch)] if self._sees else [self._compute(inputs)]
        return parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        values: list[NDArray[Any]] = self._session.run(list(self.outputs), dict(inputs))
        return values

    def _run_bound(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As `_run`, with all outputs copied from the device together after the last of them is computed."""
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, "cpu" if self.provider == CPU else "cuda")
        self._session.run_with_iobinding(binding)
        values: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return values


_Asked: TypeAlias = tuple[Mapping[str, NDArray[Any]], "Future[list[NDArray[Any]]]"]


class _Together:
    """Calls that come while another is computed are computed together, by whichever of them gets its turn first.

    Nobody waits for company: a call that finds the net idle is computed at once. Who else asked changes no result.
    """

    def __init__(self, compute: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]) -> None:
        self._compute = compute
        self._change, self._busy = threading.Condition(), False
        self._waiting: list[_Asked] = []

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        answer = Future[list[NDArray[Any]]]()
        with self._change:
            self._waiting.append((inputs, answer))
            self._change.wait_for(lambda: answer.done() or not self._busy)
            if answer.done():
                return answer.result()
            self._busy = True
            asked, self._waiting = self._waiting, []
        try:
            # Pictures of one size and type fit into one batch.
            alike: dict[Any, list[_Asked]] = {}
            for given, theirs in asked:
                kind = tuple((name, value.dtype, value.shape[1:]) for name, value in sorted(given.items()))
                alike.setdefault(kind, []).append((given, theirs))
            for group in alike.values():
                self._answer(group)
        finally:
            with self._change:
                self._busy = False
                self._change.notify_all()
        return answer.result()

    def _answer(self, asked: list[_Asked]) -> None:
        lengths = [len(next(iter(given.values()))) for given, _ in asked]
        try:
            values = self._compute({name: np.concatenate([given[name] for given, _ in asked]) for name in asked[0][0]})
        except BaseException as error:  # noqa: BLE001 - handed to all who asked
            for _, answer in asked:
                answer.set_exception(error)
            return
        ends = np.cumsum(lengths)[:-1]
        for (_, answer), *parts in zip(asked, *(np.split(value, ends) for value in values), strict=True):
            answer.set_result(list(parts))


def _elsewhere(weight: Weight) -> tuple[Any, list[str]]:
    """A net that an actor of the cluster holds, and why it does not run on what that was asked for."""
    session = ActorSession(weight)
    return session, [session.fallback] if session.fallback else []


def _session(weight: Weight, options: Any, device: Device, precision: Precision) -> tuple[Any, list[str]]:
    """A session on the first provider of ``device`` that starts, and why those before it did not."""
    missed: list[str] = []
    for wanted in _WANTED[device]:
        if wanted not in ort.get_available_providers():
            missed.append(f"{wanted} is not in this ONNX Runtime: it needs {_NEEDS.get(wanted, 'another build')}")
            continue
        settings = {"trt_fp16_enable": "1"} if wanted == TENSORRT and precision == "fp16" else {}
        # What the GPU has no kernel for runs on the CPU.
        chain = [(wanted, settings)] + ([(CPU, {})] if wanted != CPU else [])
        try:
            session = ort.InferenceSession(str(weight.path), options, providers=chain)
        except Exception as error:  # onnxruntime raises its own untyped family
            if wanted == CPU:
                raise ModelError(f"{weight.path}: cannot be loaded ({error})") from error
            missed.append(f"{wanted} does not start ({error})")
            continue
        if session.get_providers()[0] == wanted:
            return session, missed
        missed.append(f"{wanted} does not start: it needs {_NEEDS[wanted]}")
    raise ModelError(f"{weight.path}: {'; '.join(missed)}. Remedy: use the device cpu")


def _portions(inputs: Mapping[str, NDArray[Any]], batch: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The inputs, at most ``batch`` of the first axis at once."""
    length = len(next(iter(inputs.values())))
    for start in range(0, max(length, 1), batch):
        yield {name: np.ascontiguousarray(value[start : start + batch]) for name, value in inputs.items()}
