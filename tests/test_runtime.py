"""ONNX sessions: named arrays in and out, from several threads, and nothing that cannot be loaded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kyc_guard.errors import ModelError
from kyc_guard.runtime import Net
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


def test_the_first_available_providers_are_taken(weight: Weight) -> None:
    assert Net(weight, providers=("NoSuchProvider", "CPUExecutionProvider")).providers == ("CPUExecutionProvider",)


def test_without_an_available_provider_nothing_is_loaded(weight: Weight) -> None:
    with pytest.raises(ModelError, match=r"NoSuchProvider.*Remedy"):
        Net(weight, providers=("NoSuchProvider",))


@pytest.mark.parametrize("data", [b"", b"not a model", model_bytes()[:-30]], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_model_is_refused_by_name(weight: Weight, data: bytes) -> None:
    weight.path.write_bytes(data)
    with pytest.raises(ModelError, match=r"tiny\.onnx: cannot be loaded"):
        Net(weight)


def test_a_missing_file_is_refused_by_name(weight: Weight) -> None:
    weight.path.unlink()
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        Net(weight)
