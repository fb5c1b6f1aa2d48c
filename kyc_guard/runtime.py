"""ONNX Runtime sessions: one place that chooses where and how precisely a net computes, threads and batch shape.

A device that is not there is replaced by the next best one, and the net says why; `kyc_guard.doctor` shows it. Nothing here
imports CUDA: ONNX Runtime's GPU package loads it when a session asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kyc_guard.config import Device, Precision
from kyc_guard.errors import ModelError
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
        self._session, missed = _session(weight, options, device, precision)
        self.provider: str = self._session.get_providers()[0]
        if precision == "fp16" and self.provider != TENSORRT:
            missed.append(f"fp16 needs {TENSORRT}")
        # With auto, the CPU is as good an answer as any.
        self.fallback = "" if device == "auto" and precision == "fp32" else "; ".join(missed)
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.inputs: Mapping[str, tuple[Any, ...]] = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        self._sees = any(len(shape) == 4 for shape in self.inputs.values())

    @stage("nets")
    def run(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Named arrays in, named arrays out; the first axis is the batch."""
        run = self._run if self.provider == CPU else self._run_bound
        parts = [run(part) for part in _portions(inputs, self._batch)] if self._sees else [run(inputs)]
        values = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        return dict(zip(self._outputs, values, strict=True))

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        values: list[NDArray[Any]] = self._session.run(self._outputs, dict(inputs))
        return values

    def _run_bound(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As `_run`, with all outputs copied from the device together after the last of them is computed."""
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if self.provider == CPU else "cuda")
        self._session.run_with_iobinding(binding)
        values: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return values


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
