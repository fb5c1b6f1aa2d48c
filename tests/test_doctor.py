"""The doctor finds what would make verdicts worthless, above all swapped colours."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import THRESHOLDS, fake, settings_in, usual
from typer.testing import CliRunner

import kyc_guard.detectors
from kyc_guard import ModelError, Settings, doctor, gathering, media
from kyc_guard.cli import app
from kyc_guard.types import Evidence, Modality


def redness(evidence: Evidence) -> float:
    """A detector that looks at colour: red minus blue of the picture."""
    assert evidence.clip is not None
    red, _, blue = evidence.clip.frames_rgb[0].mean(axis=(0, 1))
    return 1 / (1 + math.exp(-(red - blue) / 10))


def blueness(evidence: Evidence) -> float:
    """The same detector after somebody swapped the channels in its preprocessing."""
    return 1 - redness(evidence)


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(redness))
    settings = settings_in(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"model")
    sha = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    (tmp_path / "manifest.toml").write_text(
        f'[m]\nfile="m.onnx"\nsha256="{sha}"\nversion="1"\nlicence="x"\ncard="m.md"\n', encoding="utf-8"
    )
    doctor.write_selftest(settings)
    return settings


def failed(settings: Settings) -> dict[str, str]:
    return {c.name: c.detail for c in doctor.examine(settings) if not c.ok}


def test_a_healthy_installation_passes_every_check(healthy: Settings) -> None:
    checks = doctor.examine(healthy)
    assert {c.name: c.detail for c in checks if not c.ok} == {}
    assert {c.name for c in checks} >= {
        "versions",
        "nets",
        "models",
        "policy",
        "thresholds",
        "colour order",
        "video colours",
        "disk",
        "speed",
    }


def test_colours_swapped_in_a_detector_are_noticed(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(blueness))
    assert list(failed(healthy)) == ["colour order"]


def test_colours_swapped_in_decoding_are_noticed(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(*args: Any, **kwargs: Any) -> Any:
        clip = media.read_clip(*args, **kwargs)
        return dataclasses.replace(clip, frames_rgb=clip.frames_rgb[..., ::-1], burst_rgb=clip.burst_rgb[..., ::-1])

    monkeypatch.setattr(gathering, "read_clip", swapped)
    monkeypatch.setattr(doctor, "read_clip", swapped)
    assert set(failed(healthy)) == {"picture colours", "video colours", "colour order"}


def test_a_detector_that_no_longer_judges_the_probe_is_noticed(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = fake("face_attack", 0.1, Modality.AUDIO)
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", (silent, usual()[1]))
    assert "colour order" in failed(healthy)


def test_a_probe_that_cannot_notice_swapped_colours_is_not_written(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(0.3))
    with pytest.raises(ModelError, match="tells RGB from BGR"):
        doctor.write_selftest(healthy)


def test_a_written_probe_without_power_is_not_believed(healthy: Settings) -> None:
    path = healthy.weights_dir / "selftest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["log_odds"]["face_attack"]["bgr"] = data["log_odds"]["face_attack"]["rgb"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert "no expectation" in failed(healthy)["colour order"]


@pytest.mark.parametrize(
    ("file", "content", "check", "says"),
    [
        ("selftest.json", None, "colour order", "selftest.json"),
        ("selftest.json", "{}", "colour order", "log_odds"),
        ("thresholds.toml", "[", "thresholds", "not valid TOML"),
        ("policy.toml", "[checks]", "policy", "policy schema"),
        ("m.onnx", "altered", "models", "sha256"),
        ("m.onnx", None, "models", "m.onnx"),
        ("manifest.toml", None, "models", "manifest.toml"),
    ],
)
def test_a_missing_or_altered_file_is_named(healthy: Settings, file: str, content: str | None, check: str, says: str) -> None:
    path = healthy.weights_dir / file
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    assert says in failed(healthy)[check]


def test_recalibrating_another_detector_leaves_the_probe_valid_and_a_stale_probe_is_called_stale(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (healthy.weights_dir / "thresholds.toml").write_text(THRESHOLDS + "[other.points]\nreview = 0.5\n", encoding="utf-8")
    assert failed(healthy) == {}
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(blueness))
    assert "was written for other thresholds" in failed(healthy)["colour order"]


def test_a_full_disk_is_noticed(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert set(failed(healthy)) == {"disk"}


def test_the_command_exits_with_1_when_something_fails(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(healthy.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(healthy.policy_path))
    well = CliRunner().invoke(app, ["doctor"])
    (healthy.weights_dir / "m.onnx").write_bytes(b"altered")
    ill = CliRunner().invoke(app, ["doctor", "--json"])
    assert well.exit_code == 0
    assert "FAIL" not in well.stdout
    assert ill.exit_code == 1
    report = json.loads(ill.stdout)
    assert report["ok"] is False
    assert not next(c for c in report["checks"] if c["name"] == "models")["ok"]
