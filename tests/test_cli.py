"""The command line: exit codes, JSON, one clear line for an error. Detectors are small fakes."""

from __future__ import annotations

import inspect
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import makers
import pytest
from fakes import fake, settings_in, usual
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

import kyc_guard.detectors
from kyc_guard import Settings, Verifier
from kyc_guard.cli import app
from kyc_guard.detectors.injection import Injection

COMMANDS = {c.callback.__name__.replace("_", "-"): c.callback for c in app.registered_commands if c.callback}
ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every Verifier of the process one with fake detectors of the given scores."""

    def set_scores(face_attack: Any = 0.1, document: float = 0.1) -> None:
        settings = settings_in(tmp_path)
        monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(settings.weights_dir))
        monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(settings.policy_path))
        monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(face_attack, document))

    return set_scores


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "[b]a1"  # looks like markup: must come through as it is
    folder.mkdir()
    buffer = io.BytesIO()
    Image.fromarray(astronaut()).save(buffer, "PNG")
    (folder / "me.png").write_bytes(buffer.getvalue())
    (folder / "submission.toml").write_text('selfie = "me.png"\ndocument = ["me.png"]\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("scores", "code", "outcome"),
    [((0.1, 0.1), 0, "accept"), ((0.1, 0.6), 11, "review"), ((0.6, 0.1), 11, "review"), ((0.95, 0.1), 12, "reject")],
)
def test_the_exit_code_of_verify_is_the_outcome(judge: Any, inbox: Path, scores: tuple[float, float], code: int, outcome: str) -> None:
    judge(*scores)
    result = run("verify", inbox, "--json")
    assert result.exit_code == code
    decision = json.loads(result.stdout)
    assert (decision["outcome"], decision["submission"]) == (outcome, "[b]a1")


def test_a_missing_document_exits_with_retry(judge: Any, inbox: Path) -> None:
    judge()
    (inbox / "submission.toml").write_text('selfie = "me.png"\n', encoding="utf-8")
    assert run("verify", inbox).exit_code == 10


def test_verify_says_where_the_time_goes_when_asked(judge: Any, inbox: Path) -> None:
    judge()
    found = json.loads(run("verify", inbox, "--profile", "--json").stdout)
    costs = found["profile"]
    assert {"decode", "find faces", "face_attack", "document", "rest"} <= {row["stage"] for row in costs["stages"]}
    assert costs["cpu_ms"] == pytest.approx(sum(row["cpu_ms"] for row in costs["stages"]), abs=1.0)
    assert "1" in costs["wall_ms"]
    assert "profile" not in json.loads(run("verify", inbox, "--json").stdout)
    shown = run("verify", inbox, "--profile")
    assert (shown.exit_code, "find faces" in shown.stdout, "threads 1" in shown.stdout) == (0, True, True)


def test_verify_prints_a_table_with_scores_reasons_and_what_the_applicant_is_told(judge: Any, inbox: Path) -> None:
    judge(0.95)
    result = run("verify", inbox)
    for expected in ("[b]a1: REJECT", "face_attack", "0.950", "face_attack_suspected", "Told the applicant: We could not confirm"):
        assert expected in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (None, "submission.toml"),
        ("selfie = ", "not valid TOML"),
        ('selfie = "../../etc/passwd"', "leaves"),
        ('selfi = "me.png"', "selfi"),
        ('selfie = "gone.mp4"', "gone.mp4"),
        ('selfie = "submission.toml"', "submission.toml"),
    ],
)
def test_bad_input_exits_with_2_and_one_line_that_names_file_and_remedy(judge: Any, inbox: Path, toml: str | None, says: str) -> None:
    judge()
    (inbox / "submission.toml").unlink() if toml is None else (inbox / "submission.toml").write_text(toml, encoding="utf-8")
    plain, as_json = run("verify", inbox), run("verify", inbox, "--json")
    assert plain.exit_code == as_json.exit_code == 2
    assert plain.stdout == ""
    assert says in plain.stderr
    assert "Remedy: " in plain.stderr
    assert plain.stderr.count("\n") == 1
    error = json.loads(as_json.stdout)["error"]
    assert f"{error['type']}: {error['path']}: {error['message']}. Remedy: {error['remedy']}\n" == plain.stderr


def test_a_configuration_that_may_not_judge_exits_with_1(judge: Any, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge()
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(inbox))
    result = run("verify", inbox, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "ConfigError"


def test_a_fault_of_ours_exits_with_1_and_is_json_where_json_was_asked_for(judge: Any, inbox: Path) -> None:
    def broken(_: Any) -> float:
        raise ZeroDivisionError("detector bug")

    judge(broken)
    result = run("verify", inbox, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": {"type": "ZeroDivisionError", "message": "detector bug"}}


def test_a_score_that_is_not_a_number_exits_with_1_and_is_no_decision(judge: Any, inbox: Path) -> None:
    judge(math.nan)
    result = run("verify", inbox, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == {"type": "ValueError", "message": "face_attack: score nan is not a probability"}


def test_wrong_usage_exits_with_2() -> None:
    assert run("verify").exit_code == 2
    assert run("no-such-command").exit_code == 2


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented_and_speaks_json(name: str) -> None:
    assert inspect.getdoc(COMMANDS[name])
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_a_thin_skin(name: str) -> None:
    """Options apart, a command calls the library and shows what came back."""
    _, _, body = inspect.getsource(COMMANDS[name]).partition(") -> None:")
    assert len(body.splitlines()) <= 35


def test_the_help_names_every_exit_code() -> None:
    text = run("--help").stdout
    for meaning in ("0 accept", "10 retry", "11 review", "12 reject", "2 bad input", "1 internal"):
        assert meaning in " ".join(text.split())


def test_help_does_not_wait_for_the_model_runtime() -> None:
    code = "import sys, kyc_guard.cli; sys.exit('mediapipe' in sys.modules or 'rapidocr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_checkout_entry_is_the_same_app_plus_train_and_bench() -> None:
    done = subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "}
    assert set(COMMANDS) | {"train", "bench"} <= listed


def test_train_hands_its_arguments_to_the_training_package() -> None:
    done = subprocess.run([sys.executable, "cli.py", "train", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "COMMAND" in done.stdout
    assert "verify" not in done.stdout


def test_the_python_api_judges_what_the_command_line_judges(judge: Any, inbox: Path) -> None:
    judge(0.95)
    from kyc_guard import Submission

    with Verifier() as verifier:
        by_api = verifier.verify(Submission.from_dir(inbox)).to_json()
    by_cli = json.loads(run("verify", inbox, "--json").stdout)
    assert {**by_api, "took_ms": 0} == {**by_cli, "took_ms": 0}


def test_verify_remembers_clips_in_the_file_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Settings()
    settings = settings_in(tmp_path, policy=shipped.policy_path.read_text(), thresholds=shipped.thresholds_path.read_text())
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(settings.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(settings.policy_path))
    names = ("face_attack", "liveness", "document", "match", "challenge", "phrase", "lipsync", "voice", "speaker")
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", (*(fake(name, 0.0) for name in names), Injection))
    memory, data = tmp_path / "seen.jsonl", makers.clip()
    for name in ("a1", "a2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "me.mp4").write_bytes(data)
        (tmp_path / name / "submission.toml").write_text('selfie = "me.mp4"\n', encoding="utf-8")

    def found(name: str, *options: str | Path) -> bool:
        told = json.loads(run("verify", tmp_path / name, "--json", *options).stdout)
        return "injection_seen_before" in {r["code"] for r in told["reasons"]}

    assert [found(name, "--seen", memory) for name in ("a1", "a2", "a1")] == [False, True, False]
    assert not found("a2")
    assert len(memory.read_text().splitlines()) == 2
    refused = run("verify", tmp_path / "a1", "--seen", tmp_path / "a1" / "submission.toml")
    assert (refused.exit_code, "no remembered clip" in refused.stderr) == (2, True)
