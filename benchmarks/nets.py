"""Speed of every shipped net, of the stand-in pair and of foreign nets: through our wrapping and through ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks import standin
from benchmarks.roof import multiply_adds
from benchmarks.timing import rivals
from kyc_guard.config import Device, Precision, Settings
from kyc_guard.demo import portrait_rgb
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.faces import face_finder
from kyc_guard.faces.views import Looks
from kyc_guard.pipeline import Verifier
from kyc_guard.runtime import CPU, CUDA, TENSORRT, Net
from kyc_guard.weights import Weight, Weights

BATCHES = (1, 4, 8, 16, 32, 64)
MODES: tuple[tuple[Device, Precision, str], ...] = (
    ("cpu", "fp32", CPU),
    ("cuda", "fp32", CUDA),
    ("tensorrt", "fp32", TENSORRT),
    ("tensorrt", "fp16", TENSORRT),
)
"""Device, precision, and the provider without which there is no row."""
_LOOKS: Mapping[str, Looks] = {"still": "all", "portrait": "plain", "clip": "one"}
"""How a face comes -> how often it is looked at."""
_KIND = ("net", "device", "precision", "threads")
_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def sweep(
    weights: Sequence[Weight], *, threads: Sequence[int], seconds: float, portion: int, batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """Milliseconds and pictures a second of each net, on every device that is there, for each precision, thread count and batch.

    Devices that this machine lacks give no row: nothing is reported that was not measured.

    Args:
        portion: how many pictures our wrapping gives the net at once (`Settings.net_batch`); ONNX Runtime alone gets the whole batch.
    """
    rows = []
    for weight in weights:
        for device, precision, provider in MODES:
            if Net(weight, device=device, precision=precision).provider == provider:
                for count in threads if device == "cpu" else (1,):
                    rows += _rows_of(weight, device, precision, count, batches=batches, seconds=seconds, portion=portion)
    return rows


def _rows_of(
    weight: Weight, device: Device, precision: Precision, threads: int, *, batches: Sequence[int], seconds: float, portion: int
) -> list[dict[str, Any]]:
    rows, work = [], multiply_adds(weight.path)
    net = Net(weight, threads=threads, device=device, precision=precision, batch=portion)
    bare, feed = _bare(weight.path, net.provider, precision, threads)
    for batch in batches:
        inputs = feed(batch)
        if inputs is None:
            continue
        times = rivals({"ours": partial(net.run, **inputs), "bare": partial(bare, inputs)}, seconds=seconds)
        # One thread's CPU time is its wall time on a quiet machine.
        clock = "cpu_ms" if device == "cpu" and threads == 1 else "median_ms"
        rows.append(
            {
                "net": weight.name,
                "device": device,
                "precision": "int8" if weight.name.endswith("_int8") else precision,
                "threads": threads,
                "batch": batch,
                **times["ours"],
                "ms_per_picture": times["ours"][clock] / batch,
                "per_second": 1000 * batch / times["ours"]["median_ms"],
                "bare_ms": times["bare"][clock],
                "bare_ms_per_picture": times["bare"][clock] / batch,
                "share_of_bare": times["bare"][clock] / times["ours"][clock],
                "multiply_adds": work,
            }
        )
    return rows


def best_batches(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every net, device, precision and thread count the batch with the least time a picture, and what other batches cost more.

    Of ONNX Runtime alone: the wrapping cuts batches into portions, whose size this is to choose.
    """
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[k] for k in _KIND), []).append(row)
    out = []
    for kind, same in kinds.items():
        best = min(same, key=lambda row: row["bare_ms_per_picture"])
        least_ms = best["bare_ms_per_picture"]
        more = {str(row["batch"]): row["bare_ms_per_picture"] / least_ms - 1 for row in same}
        out.append({**dict(zip(_KIND, kind, strict=True)), "batch": best["batch"], "ms_per_picture": least_ms, "more": more})
    return out


def _bare(
    path: Path, provider: str, precision: Precision, threads: int
) -> tuple[Callable[[Any], Any], Callable[[int], dict[str, NDArray[Any]] | None]]:
    """ONNX Runtime's own loop over a net with its own defaults, and what makes random inputs of a batch size for it.

    Inputs are ``None`` where the net does not take that batch, or anything but one array of known size.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    rounding = {"trt_fp16_enable": "1"} if precision == "fp16" else {}
    session = ort.InferenceSession(str(path), options, providers=[(provider, rounding)])
    inputs = session.get_inputs()

    def feed(batch: int) -> dict[str, NDArray[Any]] | None:
        given = inputs[0]
        first, *rest = given.shape
        if (
            len(inputs) > 1
            or given.type not in _TYPES
            or not all(isinstance(n, int) for n in rest)
            or first not in {batch, None, str(first)}
        ):
            return None
        values = np.random.default_rng(0).integers(0, 256, (batch, *rest), dtype=np.uint8)
        return {given.name: values.astype(_TYPES[given.type])}

    return lambda feeds: session.run(None, feeds), feed


def shipped(settings: Settings) -> list[Weight]:
    """Every ONNX file of the manifest, verified."""
    weights = Weights(settings.weights_dir)
    found = [weights.get(name) for name in weights.names()]
    return [w for w in found if w.path.suffix == ".onnx"]


def standins(folder: Path) -> tuple[list[Weight], list[standin.Standin]]:
    """The stand-in pair as weights; nothing where the onnx package is absent."""
    try:
        written = standin.write_pair(folder)
    except ImportError:
        return [], []
    return [Weight(s.path.stem, s.path, "", "stand-in, random weights", "", s.path) for s in written], written


def foreign(files: Sequence[Path]) -> list[Weight]:
    """Nets of others, given by path."""
    return [Weight(f.stem, f, "", "foreign", "", f) for f in files]


def pair_rates(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Faces a second of the stand-in pair: each face goes through both nets."""
    out = []
    for row in rows:
        if row["net"] == "standin_a":
            setting = {k: row[k] for k in ("device", "precision", "threads", "batch")}
            same = [r for r in rows if r["net"] == "standin_b" and setting.items() <= r.items()]
            for other in same:
                total_ms = row["median_ms"] + other["median_ms"]
                out.append(
                    {
                        **setting,
                        "ms_per_face": total_ms / row["batch"],
                        "cpu_ms_per_face": (row["cpu_ms"] + other["cpu_ms"]) / row["batch"],
                        "faces_per_second": 1000 * row["batch"] / total_ms,
                    }
                )
    return out


def faces(verifier: Verifier, *, seconds: float, batches: Sequence[int] = BATCHES) -> list[dict[str, Any]]:
    """What the whole face-attack judgement of a face costs, cutting included, as stills and as frames of a clip.

    A still gets every look of every view, a document's portrait the plain ones; the frames of a clip share those, one each.
    """
    detector = next((d for d in verifier.detectors if isinstance(d, FaceAttack)), None)
    if detector is None:
        return []
    picture = portrait_rgb()
    face = face_finder().find(picture)[0]
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    for batch in batches:
        pairs = [(picture, face)] * batch
        calls |= {(kind, batch): partial(detector.score_faces, pairs, looks=looks) for kind, looks in _LOOKS.items()}
    rows = []
    for (kind, batch), call in calls.items():
        times = rivals({"call": call}, seconds=seconds)["call"]
        looks = sum(len(view.choose(_LOOKS[kind], 0)) for view in detector.nets)
        per_face = times["median_ms"] / batch
        costs = {"ms_per_face": per_face, "cpu_ms_per_face": times["cpu_ms"] / batch, "faces_per_second": 1000 / per_face}
        rows.append({"kind": kind, "faces": batch, "looks_per_face": looks, **costs, **times})
    return rows
