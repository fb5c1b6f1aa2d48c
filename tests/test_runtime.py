"""ONNX sessions: named arrays in and out, from several threads, and nothing that cannot be loaded."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from kyc_guard import runtime
from kyc_guard.errors import ConfigError, ModelError
from kyc_guard.runtime import CPU, CUDA, TENSORRT, Net
from kyc_guard.weights import Weight


def _field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field, short enough for one-byte lengths."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def _array(name: str) -> bytes:
    shape = _field(1, _field(2, "batch")) + _field(1, _field(1, 3))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))  # element type 1: float


def _long(number: int, data: bytes) -> bytes:
    assert 128 <= len(data) < 1 << 14
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data


def model_bytes() -> bytes:
    """An ONNX file: x (batch, 3) -> twice (batch, 3), square (batch, 3). Source: onnx.proto3 of ONNX 1.16."""
    nodes = [("Add", "twice"), ("Mul", "square")]
    graph = b"".join(_field(1, _field(1, "x") + _field(1, "x") + _field(2, out) + _field(4, op)) for op, out in nodes)
    graph += _field(2, "g") + _field(11, _array("x")) + b"".join(_field(12, _array(out)) for _, out in nodes)
    return _field(1, 8) + _field(8, _field(2, 17)) + _long(7, graph)


@pytest.fixture
def weight(tmp_path: Path) -> Weight:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model_bytes())
    return Weight("tiny", path, "", "1", "", tmp_path)


def test_named_arrays_go_in_and_named_arrays_come_out(weight: Weight) -> None:
    net = Net(weight)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = net.run(x=x)
    assert set(out) == {"twice", "square"}
    assert np.array_equal(out["twice"], 2 * x)
    assert np.array_equal(out["square"], x * x)
    assert net.inputs == {"x": ("batch", 3)}
    assert net.weight is weight


def test_a_batch_gives_what_its_members_give_alone(weight: Weight) -> None:
    net = Net(weight)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert np.array_equal(net.run(x=x)["square"], np.concatenate([net.run(x=x[i : i + 1])["square"] for i in range(5)]))


def test_an_array_in_any_memory_order_is_taken(weight: Weight) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2).T
    assert not x.flags.c_contiguous
    assert np.array_equal(Net(weight).run(x=x)["twice"], 2 * x)


def test_several_threads_share_a_net(weight: Weight) -> None:
    net = Net(weight, threads=2)
    inputs = [np.full((4, 3), i, np.float32) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for x, out in zip(inputs, pool.map(lambda x: net.run(x=x), inputs), strict=True):
            assert np.array_equal(out["square"], x * x)


class Sessions:
    """ONNX Runtime on a machine with other providers: some start, some raise, some give way to the CPU without a word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, there: str, *, raising: str = "", giving_way: str = "") -> None:
        self.chains: list[list[tuple[str, dict[str, str]]]] = []
        self._real, self._raising, self._giving_way = ort.InferenceSession, raising.split(), giving_way.split()
        monkeypatch.setattr(ort, "get_available_providers", lambda: [*there.split(), CPU])
        monkeypatch.setattr(ort, "InferenceSession", self.start)

    def start(self, path: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        self.chains.append(providers)
        first = providers[0][0]
        if first in self._raising:
            raise RuntimeError("no driver")
        session = self._real(path, options, providers=[CPU])
        if first not in self._giving_way:
            session.get_providers = lambda: [name for name, _ in providers]
        return session


@pytest.mark.parametrize(
    ("device", "machine", "runs_on", "because"),
    [
        ("cpu", {"there": f"{TENSORRT} {CUDA}"}, CPU, ""),
        ("cuda", {"there": CUDA}, CUDA, ""),
        ("cuda", {"there": ""}, CPU, r"CUDAExecutionProvider is not in this ONNX Runtime: .* onnxruntime-gpu"),
        ("cuda", {"there": CUDA, "raising": CUDA}, CPU, "CUDAExecutionProvider does not start .no driver"),
        ("cuda", {"there": CUDA, "giving_way": CUDA}, CPU, "CUDAExecutionProvider does not start: it needs an NVIDIA driver"),
        ("tensorrt", {"there": f"{TENSORRT} {CUDA}"}, TENSORRT, ""),
        ("tensorrt", {"there": f"{TENSORRT} {CUDA}", "giving_way": TENSORRT}, CUDA, "TensorrtExecutionProvider does not start"),
        ("tensorrt", {"there": ""}, CPU, "TensorrtExecutionProvider is not in .*; CUDAExecutionProvider is not in"),
        ("auto", {"there": f"{TENSORRT} {CUDA}"}, CUDA, ""),
        ("auto", {"there": ""}, CPU, ""),
    ],
)
def test_a_device_that_is_missing_is_replaced_by_the_next_best_and_the_net_says_why(
    weight: Weight, monkeypatch: pytest.MonkeyPatch, *, device: Any, machine: dict[str, str], runs_on: str, because: str
) -> None:
    Sessions(monkeypatch, **machine)
    net = Net(weight, device=device)
    assert net.provider == runs_on
    assert re.search(because, net.fallback) if because else net.fallback == ""


def test_fp16_is_tensorrts_business_and_others_say_so(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Sessions(monkeypatch, f"{TENSORRT} {CUDA}")
    assert Net(weight, device="tensorrt", precision="fp16").fallback == ""
    assert machine.chains == [[(TENSORRT, {"trt_fp16_enable": "1"}), (CPU, {})]]
    assert Net(weight, device="auto", precision="fp16").fallback == f"fp16 needs {TENSORRT}"


def test_a_file_that_no_provider_takes_is_refused(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    Sessions(monkeypatch, CUDA, raising=f"{CUDA} {CPU}")
    with pytest.raises(ModelError, match=r"tiny\.onnx: cannot be loaded"):
        Net(weight, device="cuda")


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_results_depend_neither_on_the_portions_nor_on_how_outputs_come_back(weight: Weight, batch: int) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    net = Net(weight, batch=batch)
    for run in (net.run, lambda x: dict(zip(("twice", "square"), net._run_bound({"x": x}), strict=True))):
        out = run(x=x)
        assert np.array_equal(out["twice"], 2 * x)
        assert np.array_equal(out["square"], x * x)


def seeing(weight: Weight, monkeypatch: pytest.MonkeyPatch, *, batch: int = 64) -> tuple[Net, list[int]]:
    """A net as on a GPU, told that its rows are pictures, and how many it is given each time."""
    Sessions(monkeypatch, CUDA)
    monkeypatch.setattr(Net, "_run_bound", Net._run)
    net, sizes = Net(weight, device="cuda", batch=batch), list[int]()
    compute = net._compute

    def counted(inputs: Any) -> Any:
        sizes.append(len(inputs["x"]))
        return compute(inputs)

    net._compute, net._sees = counted, True
    net._ask = runtime._Together(net._in_portions)
    return net, sizes


def while_busy(net: Net, ask: list[Callable[[], Any]]) -> list[Any]:
    """What is answered to those who ask while the net computes for somebody else."""
    with net._ask._change:
        net._ask._busy = True
    answers = [one() for one in ask]
    while len(net._ask._waiting) < len(ask):
        time.sleep(0.001)
    with net._ask._change:
        net._ask._busy = False
        net._ask._change.notify_all()
    return answers


def test_callers_that_find_the_gpu_busy_go_into_one_batch_and_get_their_own_back(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    net, sizes = seeing(weight, monkeypatch)
    inputs = [np.full((1 + i % 3, 3), i, np.float32) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = while_busy(net, [partial(pool.submit, net.run, x=x) for x in inputs])
        for x, answer in zip(inputs, answers, strict=True):
            assert np.array_equal(answer.result()["square"], x * x)
    assert sizes == [sum(map(len, inputs))]


def test_a_merged_batch_is_cut_into_portions_as_any_other(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    net, sizes = seeing(weight, monkeypatch, batch=4)
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    assert np.array_equal(net.run(x=x)["twice"], 2 * x)
    assert sizes == [4, 4, 2]


def test_what_cannot_be_computed_fails_for_those_who_asked_for_it_alone(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = seeing(weight, monkeypatch)
    good, bad = np.ones((2, 3), np.float32), np.ones((2, 5), np.float32)
    with ThreadPoolExecutor(2) as pool:
        answers = while_busy(net, [partial(pool.submit, net.run, x=x) for x in (good, bad)])
        assert np.array_equal(answers[0].result()["twice"], 2 * good)
        with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
            answers[1].result()


def test_without_a_cluster_the_device_ray_says_what_is_missing(weight: Weight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'kyc-guard\[ray\]'"):
        Net(weight, device="ray")


def test_no_pictures_give_no_answers(weight: Weight) -> None:
    assert Net(weight).run(x=np.empty((0, 3), np.float32))["twice"].shape == (0, 3)


@pytest.mark.parametrize("data", [b"", b"not a model", model_bytes()[:-30]], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_model_is_refused_by_name(weight: Weight, data: bytes) -> None:
    weight.path.write_bytes(data)
    with pytest.raises(ModelError, match=r"tiny\.onnx: cannot be loaded"):
        Net(weight)


def test_a_missing_file_is_refused_by_name(weight: Weight) -> None:
    weight.path.unlink()
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        Net(weight)
