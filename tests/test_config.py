"""Settings and thresholds; policy.toml has tests of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from kyc_guard.config import Limits, Sampling, Settings, Thresholds
from kyc_guard.errors import ConfigError


def thresholds(folder: Path, text: str) -> Thresholds:
    path = folder / "thresholds.toml"
    path.write_text(text, encoding="utf-8")
    return Thresholds.load(path)


def test_the_shipped_files_are_found_without_being_told() -> None:
    settings = Settings()
    assert settings.policy_path.is_file()
    assert (settings.weights_dir / "thresholds.toml").is_file()


def test_the_environment_sets_what_the_caller_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KYC_GUARD_THREADS", "4")
    monkeypatch.setenv("KYC_GUARD_LIMITS__MAX_BYTES", "1000")
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(tmp_path))
    assert (Settings().threads, Settings().limits.max_bytes, Settings().weights_dir) == (4, 1000, tmp_path)
    assert Settings(threads=2).threads == 2


@pytest.mark.parametrize(
    ("name", "value"), [("THREADS", "0"), ("THREADS", "many"), ("SAMPLING__FRAMES", "0"), ("SAMPLING__MOTION_HZ", "-1")]
)
def test_a_setting_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"KYC_GUARD_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("settings", [Settings(), Limits(), Sampling()], ids=lambda s: type(s).__name__)
def test_settings_cannot_be_changed_afterwards(settings: Settings | Limits | Sampling) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, next(iter(type(settings).model_fields)), 1)


def test_a_point_and_a_table_are_read_and_the_file_is_hashed(tmp_path: Path) -> None:
    text = "[d]\nn = 3\n[d.points]\nreview = 0.25\nreject = 1\n"
    read = thresholds(tmp_path, text)
    assert (read.point("d", "review"), read.point("d", "reject")) == (0.25, 1.0)
    assert read.table("d")["n"] == 3
    assert read.table("absent") == {}
    assert read.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[d]",
        "[d.points]\nreject = 0.5",
        "[d.points]\nreview = nan",
        "[d.points]\nreview = inf",
        "[d.points]\nreview = -0.1",
        "[d.points]\nreview = 1.1",
        '[d.points]\nreview = "low"',
        "[d.points]\nreview = [0.5]",
        "[d]\npoints = 0.5",
        "d = 0.5",
    ],
)
def test_a_point_that_is_missing_or_no_probability_stops_everything(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"thresholds\.toml: \[d\.points\] lacks a usable review\. Remedy"):
        thresholds(tmp_path, text).point("d", "review")


@pytest.mark.parametrize("data", [None, b"[d", b"\xff\xfe"], ids=["missing", "torn", "not UTF-8"])
def test_thresholds_that_cannot_be_read_stop_everything(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "thresholds.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"thresholds\.toml"):
        Thresholds.load(path)
