"""What a core can compute at most: the speed of one large matrix product and of one large convolution, measured in ONNX Runtime.

No net is faster than that. Needs the ``onnx`` package (extra ``dev``), which writes the two and counts what a net multiplies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.timing import rivals

_SIDE = 512
"""Of the matrices."""
_CHANNELS, _PIXELS = 64, 56
"""Of the convolution, 3x3: the shape of the middle of a ResNet."""


def measured(folder: Path, *, threads: int, seconds: float) -> dict[str, float] | None:
    """Multiply-adds a second: ``gemm`` and ``conv``; ``None`` without the onnx package."""
    try:
        files = _write(folder)
    except ImportError:
        return None
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    calls: dict[str, Callable[[], object]] = {}
    work: dict[str, float] = {}
    for name, (file, shape, multiply_adds) in files.items():
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        calls[name] = partial(session.run, None, {"x": np.random.default_rng(0).random(shape, dtype=np.float32)})
        work[name] = multiply_adds
    times = rivals(calls, seconds=seconds)
    # The best round: a roof is what the machine can do, not what it usually does.
    return {name: 1000 * work[name] / times[name]["best_ms"] for name in calls}


def multiply_adds(path: Path) -> float | None:
    """Of one picture through the net of an ONNX file: its convolutions and matrix products; ``None`` if the onnx package is absent
    or cannot tell the shapes.
    """
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(str(path))
    for given in model.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = 1
    graph: Any = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {w.name: list(w.dims) for w in graph.initializer}
    total = 0.0
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm", "MatMul"} and (made := shapes.get(node.output[0])):
            # A quantised net's weights pass through a DequantizeLinear that has their shape.
            weight = shapes.get(node.input[1]) or [0]
            total += float(np.prod(made)) * (np.prod(weight[1:]) if node.op_type == "Conv" else _inner(node, weight))
    return total or None


def _inner(node: Any, weight: list[int]) -> int:
    """Length of the sums of a matrix product with this second factor."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return weight[-1] if turned else weight[-2] if len(weight) > 1 else weight[0]


def _write(folder: Path) -> dict[str, tuple[Path, tuple[int, ...], float]]:
    """Both nets: file, shape of the input, multiply-adds."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    matrix, picture = (_SIDE, _SIDE), (1, _CHANNELS, _PIXELS, _PIXELS)
    weights = {"gemm": rng.random(matrix, dtype=np.float32), "conv": rng.random((_CHANNELS, _CHANNELS, 3, 3), dtype=np.float32)}
    nodes = {
        "gemm": helper.make_node("MatMul", ["x", "w"], ["y"]),
        "conv": helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    }
    done: dict[str, tuple[Path, tuple[int, ...], float]] = {}
    for name, shape in (("gemm", matrix), ("conv", picture)):
        ends = [helper.make_tensor_value_info(end, kind, list(shape)) for end in "xy"]
        graph = helper.make_graph([nodes[name]], name, ends[:1], ends[1:], [onnx.numpy_helper.from_array(weights[name], "w")])
        file = folder / f"roof_{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))
        work = _SIDE**3 if name == "gemm" else _CHANNELS**2 * 9 * _PIXELS**2
        done[name] = file, shape, float(work)
    return done
