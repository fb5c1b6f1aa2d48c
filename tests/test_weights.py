"""The manifest of weights: what is unknown, missing or altered is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kyc_guard.config import Settings
from kyc_guard.errors import ModelError
from kyc_guard.weights import Weights

MODEL = b"a model"
ENTRY = {
    "file": "m.onnx",
    "sha256": hashlib.sha256(MODEL).hexdigest(),
    "version": "3",
    "licence": "Apache-2.0",
    "card": "cards/m.md",
}


def folder(where: Path, entry: dict[str, str] | None = None, model: bytes | None = MODEL) -> Path:
    lines = [f'{k} = "{v}"' for k, v in (ENTRY if entry is None else entry).items()]
    (where / "manifest.toml").write_text("[m]\n" + "\n".join(lines), encoding="utf-8")
    if model is not None:
        (where / "m.onnx").write_bytes(model)
    return where


def test_a_listed_file_is_verified_and_described(tmp_path: Path) -> None:
    weights = Weights(folder(tmp_path))
    weight = weights.get("m")
    assert weight.path == tmp_path / "m.onnx"
    assert weight.sha256 == ENTRY["sha256"]
    assert (weight.name, weight.version, weight.licence) == ("m", "3", "Apache-2.0")
    assert weight.card == tmp_path / "cards" / "m.md"
    assert weights.names() == ("m",)
    assert weights.has("m")


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    weights = Weights(folder(tmp_path))
    assert not weights.has("n")
    with pytest.raises(ModelError, match=r"manifest\.toml: no model 'n'"):
        weights.get("n")


@pytest.mark.parametrize("model", [b"A model", b"a model ", b""], ids=["one bit", "one byte more", "emptied"])
def test_an_altered_file_is_refused(tmp_path: Path, model: bytes) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: sha256 .* is not the manifest's .*Remedy"):
        Weights(folder(tmp_path, model=model)).get("m")


def test_a_file_altered_between_two_processes_is_refused_by_the_second(tmp_path: Path) -> None:
    Weights(folder(tmp_path)).get("m")
    (tmp_path / "m.onnx").write_bytes(b"another")
    with pytest.raises(ModelError):
        Weights(tmp_path).get("m")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: cannot be read .*Remedy"):
        Weights(folder(tmp_path, model=None)).get("m")


@pytest.mark.parametrize("key", sorted(ENTRY))
def test_an_incomplete_entry_is_refused_by_what_it_lacks(tmp_path: Path, key: str) -> None:
    entry = {k: v for k, v in ENTRY.items() if k != key}
    with pytest.raises(ModelError, match=rf"manifest\.toml: \[m\] .*{key}"):
        Weights(folder(tmp_path, entry)).get("m")


def test_an_entry_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text("m = 3", encoding="utf-8")
    with pytest.raises(ModelError, match=r"manifest\.toml: \[m\]"):
        Weights(tmp_path).get("m")


@pytest.mark.parametrize("text", [None, b"[m", b"\xff\xfe"], ids=["missing", "torn", "not UTF-8"])
def test_without_a_readable_manifest_there_are_no_weights(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "manifest.toml").write_bytes(text)
    with pytest.raises(ModelError, match=r"manifest\.toml: cannot be read .*KYC_GUARD_WEIGHTS_DIR"):
        Weights(tmp_path)


def test_every_shipped_model_is_what_the_manifest_says_and_has_a_card() -> None:
    directory = Settings().weights_dir
    if not (directory / "manifest.toml").is_file():
        pytest.skip(f"{directory}/manifest.toml is absent: the models are not trained yet")
    weights = Weights(directory)
    assert [name for name in weights.names() if not weights.get(name).card.is_file()] == []
    listed = {weights.get(name).path for name in weights.names()}
    assert {p for p in directory.iterdir() if p.suffix in {".onnx", ".npz"}} == listed
