"""The commands batch and evaluate: exit codes, tables, JSON, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_workers
import pytest
from fake_workers import SCORER, FakeVerifier, make_submissions, wait_until_group_is_gone
from typer.testing import CliRunner, Result

from kyc_guard import batch, evaluate
from kyc_guard.cli import app


@pytest.fixture(autouse=True)
def _fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LoadVerifier", lambda _: FakeVerifier())
    monkeypatch.setattr(batch, "identity", lambda _: {})
    monkeypatch.setattr(evaluate.Scorer, "from_settings", lambda _: SCORER)
    monkeypatch.setattr(evaluate, "operating_points", lambda _: {"review": 0.5})


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_batch_exits_0_when_all_were_judged_and_shows_a_summary(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "b"])
    result = run("batch", source, "--out", tmp_path / "out.jsonl", "--workers", "1")
    assert result.exit_code == 0
    for expected in ("2 submissions, 2 judged", "fake_reason"):
        assert expected in result.stdout
    assert "2/2" in result.stderr


def test_batch_exits_2_when_some_lines_are_errors(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "unreadable"])
    result = run("batch", source, "--out", tmp_path / "out.jsonl", "--workers", "1", "--json")
    assert result.exit_code == 2
    summary = json.loads(result.stdout)
    assert (summary["submissions"], summary["outcomes"]["error"], summary["reasons"]["UnreadableError"]) == (2, 1, 1)


def test_batch_refuses_to_overwrite_with_exit_code_2(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    (tmp_path / "out.jsonl").touch()
    result = run("batch", source, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 2
    assert "--resume" in result.stderr


def test_batch_exits_1_when_it_cannot_write(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    result = run("batch", source, "--out", tmp_path / "absent" / "out.jsonl")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("option", ["--workers=0", "--timeout-s=0"])
def test_senseless_options_are_usage_errors(tmp_path: Path, option: str) -> None:
    assert run("batch", tmp_path, "--out", tmp_path / "o", option).exit_code == 2


def make_manifest(folder: Path, *, bad: bool = False) -> Path:
    folder.mkdir()
    names = [("bf_10.png", "bona_fide,"), ("bf_60.png", "bona_fide,"), ("x_90.png", "attack,print")]
    for name, _ in names:
        (folder / name).touch()
    rows = [f"{name},{label}" for name, label in names] + (["absent.png,attack,print"] if bad else [])
    (folder / "m.csv").write_text("path,label,attack_type\n" + "\n".join(rows))
    return folder / "m.csv"


def test_evaluate_writes_its_three_files_and_shows_the_headline(tmp_path: Path) -> None:
    result = run("evaluate", make_manifest(tmp_path / "data"), "--out", tmp_path / "out", "--workers", "1")
    assert result.exit_code == 0
    for expected in (
        "2 bona fide, 1 attacks",
        "APCER at review, worst species (print)",
        "50.00 % [1.26, 98.74] 1/2",
        "BPCER20",
        "report.html",
    ):
        assert expected in result.stdout
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"scores.csv", "report.json", "report.html", "run.json"}


def test_evaluate_exits_2_when_some_rows_are_errors(tmp_path: Path) -> None:
    result = run("evaluate", make_manifest(tmp_path / "data", bad=True), "--out", tmp_path / "out", "--workers", "1", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["errors"][0]["reason"] == "missing_file"


def test_evaluate_reports_on_ready_scores(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data")
    (tmp_path / "s.csv").write_text("path,score\nx_90.png,0.9\nbf_10.png,0.1\nbf_60.png,\n")
    result = run("evaluate", manifest, "--out", tmp_path / "out", "--scores", tmp_path / "s.csv", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"]["no_response"] == 1


def test_ctrl_c_keeps_what_is_done_and_leaves_no_workers(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", [f"s{i}" for i in range(200)])
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [sys.executable, fake_workers.__file__, str(source), str(out)], start_new_session=True, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and (not out.exists() or out.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=250)
    assert process.returncode != 0
    assert stderr.count(b"Traceback") == 1  # the parent's, no worker's; the command line turns it into one sentence
    assert out.read_bytes().endswith(b"\n")
    wait_until_group_is_gone(process.pid)


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "run", interrupted)
    result = run("batch", tmp_path, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 130
    assert "--resume" in result.stderr
