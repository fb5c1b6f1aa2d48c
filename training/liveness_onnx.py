"""The liveness discriminants as one ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.discriminant import Array, Discriminant


class Exported(nn.Module):
    """The discriminants as ONNX runs them.

    Input ``figures`` (N, F) float32, NaN where a figure could not be measured. Outputs: ``logit`` (N,); ``groups`` (N, groups), what each
    group of figures contributes to the family that speaks; ``species`` (N, species) probabilities.
    """

    centre: Tensor
    scale: Tensor
    mean: Tensor
    weights: Tensor
    bias: Tensor
    masked: Tensor
    kinds: Tensor
    rarity: Tensor

    def __init__(self, families: Discriminant, species: Discriminant, belongs: Array) -> None:
        super().__init__()
        masked = families.weights[:, :, None] * belongs[:, None, :]
        self.cut = families.cut
        for name, values in (
            ("centre", families.centre), ("scale", families.scale), ("mean", families.mean), ("weights", families.weights),
            ("bias", families.bias), ("masked", masked.reshape(len(belongs), -1)), ("kinds", species.weights), ("rarity", species.bias),
        ):  # fmt: skip
            self.register_buffer(name, torch.from_numpy(np.asarray(values, np.float32)))
        self.shape = masked.shape[1:]

    def forward(self, figures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = (figures - self.centre) / self.scale
        z = torch.where(torch.isnan(z), torch.zeros_like(z), z).clamp(-self.cut, self.cut) - self.mean
        heads = z @ self.weights + self.bias
        parts = (z @ self.masked).reshape(-1, *self.shape)
        spoken = (heads.softmax(dim=1)[:, :, None] * parts).sum(dim=1)
        return heads.logsumexp(dim=1), spoken, (z @ self.kinds + self.rarity).softmax(dim=1)


def write_onnx(net: nn.Module, path: Path, figures: NDArray[np.float32]) -> None:
    """Write ``path``; raises ValueError if ONNX and torch differ by more than 1e-3."""
    names = ["logit", "groups", "species"]
    axes = {n: {0: "batch"} for n in ("figures", *names)}
    probe = (torch.from_numpy(figures[:3]),)
    torch.onnx.export(net, probe, str(path), input_names=["figures"], output_names=names, dynamic_axes=axes, opset_version=17, dynamo=False)
    got = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["logit"], {"figures": figures})[0]
    with torch.inference_mode():
        difference = float(np.abs(got - net(torch.from_numpy(figures))[0].numpy()).max())
    if difference > 1e-3:
        raise ValueError(f"{path}: ONNX differs from torch by {difference:.2e}")
