"""Two random-weight networks that cost what a MiniFASNet pair costs; a stand-in for a speed comparison, never for accuracy.

No weight and no code of that project is used. What is alike is what FACTS.md A5 and H1 state: two nets of 0.43 and 0.41 million
parameters, input 80x80, about 40.7 million multiply-adds each, depth-wise separable bottlenecks with PReLU. Needs the ``onnx``
package (extra ``train``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Stage: TypeAlias = tuple[int, int, int, int]
"""Channels out, width of the bottleneck that halves the picture, width of the others, how many others."""

SIDE_PX = 80
PAIR: dict[str, tuple[Stage, ...]] = {
    "standin_a": ((64, 104, 24, 4), (128, 192, 68, 6), (128, 256, 80, 2)),
    "standin_b": ((64, 96, 24, 4), (128, 224, 68, 6), (128, 256, 32, 2)),
}
_STEM, _HEAD, _EMBEDDING, _CLASSES = 32, 512, 128, 3


@dataclass(frozen=True, slots=True)
class Standin:
    """One written net."""

    path: Path
    parameters: int
    multiply_adds: int


def write_pair(folder: Path) -> list[Standin]:
    """Write both nets into ``folder``; the same bytes of weights every time.

    Raises:
        ImportError: the onnx package is not installed.
    """
    return [_Writer().write(folder / f"{name}.onnx", stages) for name, stages in PAIR.items()]


class _Writer:
    """Collects nodes and weights of one net, and counts them."""

    def __init__(self) -> None:
        import onnx

        self._onnx: Any = onnx
        self._rng = np.random.default_rng(0)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._parameters = 0
        self._multiply_adds = 0

    def write(self, path: Path, stages: Sequence[Stage]) -> Standin:
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        side = SIDE_PX // 2
        x = self._conv("rgb", 3, _STEM, kernel=3, side=side, stride=2)
        x = self._conv(x, _STEM, _STEM, kernel=3, side=side, groups=_STEM)
        channels = _STEM
        for out, first, wide, count in stages:
            x = self._conv(x, channels, first, side=side)
            side = -(-side // 2)
            x = self._conv(x, first, first, kernel=3, side=side, stride=2, groups=first)
            x = self._conv(x, first, out, side=side, active=False)
            channels = out
            for _ in range(count):
                y = self._conv(x, out, wide, side=side)
                y = self._conv(y, wide, wide, kernel=3, side=side, groups=wide)
                x = self._node("Add", x, self._conv(y, wide, out, side=side, active=False))
        x = self._conv(x, channels, _HEAD, side=side)
        x = self._conv(x, _HEAD, _HEAD, kernel=side, side=1, groups=_HEAD, pad=0, active=False)
        x = self._conv(x, _HEAD, _EMBEDDING, side=1, active=False)
        x = self._conv(x, _EMBEDDING, _CLASSES, side=1, active=False)
        self._nodes.append(helper.make_node("Flatten", [x], ["logits"], axis=1))
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info("rgb", kind, ["batch", 3, SIDE_PX, SIDE_PX])],
            [helper.make_tensor_value_info("logits", kind, ["batch", _CLASSES])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self._onnx.checker.check_model(model)
        self._onnx.save(model, str(path))
        return Standin(path, self._parameters, self._multiply_adds)

    def _conv(
        self,
        x: str,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 1,
        side: int,
        stride: int = 1,
        groups: int = 1,
        pad: int | None = None,
        active: bool = True,
    ) -> str:
        """A convolution whose output is ``side`` pixels square, then a PReLU if it is ``active``."""
        fan_in = channels_in // groups * kernel * kernel
        weight = self._rng.normal(0, fan_in**-0.5, (channels_out, channels_in // groups, kernel, kernel))
        around = kernel // 2 if pad is None else pad
        y = self._node(
            "Conv",
            x,
            self._weight(weight),
            self._weight(np.zeros(channels_out)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[around] * 4,
            group=groups,
        )
        self._multiply_adds += weight.size * side * side
        return self._node("PRelu", y, self._weight(np.full((channels_out, 1, 1), 0.25))) if active else y

    def _weight(self, values: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(values.astype(np.float32), name))
        self._parameters += values.size
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"y{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name
