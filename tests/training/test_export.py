"""What is shipped is what was trained: ONNX against torch, int8 against float."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import blotches

from kyc_guard.runtime import Net
from kyc_guard.weights import Weight
from training import export
from training.export import OUTPUTS, TOLERANCE, export_onnx, quantise, sha256
from training.models import AttackNet, Exported

# PyTorch calls the exporter that export.py uses (dynamo=False) deprecated.
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:You are using the legacy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
]

VIEWS = np.stack([np.kron(blotches(s), np.ones((2, 2, 1), np.uint8)) for s in range(8)])


@pytest.fixture(scope="module")
def net() -> AttackNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return AttackNet(5).eval()


@pytest.fixture(scope="module")
def shipped(net: AttackNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.onnx"
    with pytest.warns(DeprecationWarning, match="legacy TorchScript-based ONNX export"):
        assert export_onnx(net, path, 128) <= TOLERANCE
    return path


def opened(path: Path) -> Net:
    return Net(Weight("net", path, "", "1", "", path))


def test_every_output_is_torchs_to_1e_4_for_any_batch(net: AttackNet, shipped: Path) -> None:
    loaded = opened(shipped)
    for views in (VIEWS[:1], VIEWS[:3], VIEWS):
        with torch.inference_mode():
            expected = Exported(net).eval()(torch.from_numpy(views))
        got = loaded.run(rgb=views)
        assert tuple(got) == OUTPUTS
        for name, value in zip(OUTPUTS, expected, strict=True):
            assert got[name].shape == tuple(value.shape)
            assert np.abs(got[name] - value.numpy()).max() <= 1e-4, name


def test_it_takes_pixels_as_they_are(shipped: Path) -> None:
    assert opened(shipped).inputs == {"rgb": ("batch", 128, 128, 3)}


def test_a_file_that_differs_from_torch_is_refused(net: AttackNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"net\.onnx: ONNX differs from torch by"):
        export_onnx(net, tmp_path / "net.onnx", 128)


def test_int8_is_smaller_and_says_about_the_same(shipped: Path) -> None:
    small = shipped.with_name("small.onnx")
    quantise(shipped, small, list(VIEWS))
    assert small.stat().st_size < 0.5 * shipped.stat().st_size
    assert sorted(p.name for p in shipped.parent.iterdir()) == ["net.onnx", "small.onnx"]
    exact, rough = (opened(path).run(rgb=VIEWS)["logits"] for path in (shipped, small))
    assert np.abs(exact - rough).mean() < 0.5 * exact.std()


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"bytes").hexdigest()
