"""ONNX Runtime sessions: one place that chooses providers, threads and batch shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from kyc_guard.errors import ModelError
from kyc_guard.weights import Weight


class Net:
    """A loaded network. ``run`` may be called from several threads at once."""

    def __init__(self, weight: Weight, *, threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads steal the cores from decoders in the same process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = [p for p in providers if p in ort.get_available_providers()]
        if not available:
            raise ModelError(f"none of the providers {list(providers)} is available. Remedy: use CPUExecutionProvider")
        try:
            self._session = ort.InferenceSession(str(weight.path), options, providers=available)
        except Exception as error:  # onnxruntime raises its own untyped family; all mean "unusable model"
            raise ModelError(f"{weight.path}: cannot be loaded ({error})") from error
        self.weight = weight
        self.providers = tuple(available)
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.inputs: Mapping[str, tuple[Any, ...]] = {i.name: tuple(i.shape) for i in self._session.get_inputs()}

    def run(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Named arrays in, named arrays out; the first axis is the batch."""
        values = self._session.run(self._outputs, {k: np.ascontiguousarray(v) for k, v in inputs.items()})
        return dict(zip(self._outputs, values, strict=True))
