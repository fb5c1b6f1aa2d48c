"""A trained net -> one ONNX file that takes pixels; float against torch, int8 against float, both measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.models import AttackNet, Exported

OUTPUTS = ("logits", "species", "map", "embedding")
TOLERANCE = 1e-4


def export_onnx(net: AttackNet, path: Path, side_px: int) -> float:
    """Write ``path``: input ``rgb`` (N, S, S, 3) uint8, outputs `OUTPUTS`. Returns the largest |torch - ONNX| logit difference.

    Raises:
        ValueError: the difference is above 1e-4.
    """
    import onnxruntime as ort

    model = Exported(net).eval()
    probe = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, side_px, side_px, 3), dtype=np.uint8))
    torch.onnx.export(
        model,
        (probe,),
        str(path),
        input_names=["rgb"],
        output_names=list(OUTPUTS),
        dynamic_axes={n: {0: "batch"} for n in ("rgb", *OUTPUTS)},
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(str(path))
    with torch.inference_mode():
        expected = model(probe)[0].numpy()
    got = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["logits"], {"rgb": probe.numpy()})[0]
    difference = float(np.abs(expected - got).max())
    if difference > TOLERANCE:
        raise ValueError(f"{path}: ONNX differs from torch by {difference:.2e}")
    return difference


class _Views(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter([{"rgb": np.stack(images[i : i + 16])} for i in range(0, len(images), 16)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._left, None)


def quantise(source: Path, target: Path, images: Sequence[NDArray[np.uint8]], *, exact: int = 0) -> None:
    """int8 weights and activations, ranges taken from ``images`` (calibration views, never validation ones).

    Args:
        exact: how many convolutions, from the picture on, stay in float.
    """
    ready = target.with_suffix(".pre.onnx")
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    convolutions = [node.name for node in onnx.load(str(ready)).graph.node if node.op_type == "Conv"]
    quantize_static(
        str(ready),
        str(target),
        _Views(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=convolutions[:exact],
    )
    ready.unlink()


def sha256(path: Path) -> str:
    """Of a file's bytes, as weights/manifest.toml states it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
