"""Judged again, a decision is the same; where it is not, the difference is named, and other inputs are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import POLICY, THRESHOLDS, fake, settings_in, usual
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

import kyc_guard.detectors
from kyc_guard import InputError, SchemaError, Submission, Verifier
from kyc_guard.cli import app
from kyc_guard.replay import Change, changes, read_decisions, replay
from kyc_guard.types import Modality

TOML = 'selfie = "me.png"\ndocument = "card.png"\n[claims]\nsurname = "Eriksson"\n'
Mischief = Callable[[Path], Any]


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(settings.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(settings.policy_path))
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(0.3))


def make(folder: Path, toml: str = TOML) -> Path:
    folder.mkdir(parents=True)
    Image.fromarray(astronaut()).save(folder / "me.png")
    Image.fromarray(np.full((64, 64, 3), 127, np.uint8)).save(folder / "card.png")
    (folder / "submission.toml").write_text(toml, encoding="utf-8")
    return folder


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return make(tmp_path / "inbox" / "a1")


@pytest.fixture
def decision(inbox: Path) -> Path:
    """What verify --json printed, beside the submission."""
    path = inbox / "decision.json"
    path.write_text(run("verify", inbox, "--json").stdout, encoding="utf-8")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_same_bytes_and_bundle_give_the_same_verdict_also_from_a_renamed_folder(decision: Path, inbox: Path) -> None:
    moved = inbox.rename(inbox.with_name("elsewhere"))
    result = run("replay", moved / "decision.json", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "replays": [{"submission": "a1", "identical": True, "verdict": [], "bundle": []}],
        "errors": [],
    }
    assert "a1: identical, bit for bit" in run("replay", moved / "decision.json").stdout


def test_the_evidence_of_an_earlier_decision_is_packed_where_it_replays(decision: Path, tmp_path: Path) -> None:
    assert run("replay", decision, "--pack", tmp_path / "p.zip", "--redacted").exit_code == 0
    assert run("pack-verify", tmp_path / "p.zip").exit_code == 0
    (tmp_path / "other.toml").write_text(THRESHOLDS.replace("review = 0.5\nreject", "review = 0.25\nreject"), encoding="utf-8")
    refused = run("replay", decision, "--thresholds", tmp_path / "other.toml", "--pack", tmp_path / "q.zip")
    assert (refused.exit_code, (tmp_path / "q.zip").exists()) == (2, False)


def test_a_reason_that_names_a_file_replays_from_another_folder(inbox: Path) -> None:
    shutil.copy(inbox / "card.png", inbox / "me.png")  # nobody on it
    decision = json.loads(run("verify", inbox, "--json").stdout)
    assert "no_face" in {r["code"] for r in decision["reasons"]}
    moved = inbox.rename(inbox.with_name("elsewhere"))
    with Verifier() as verifier:
        assert replay(decision, Submission.from_dir(moved), verifier).identical


def test_another_bundle_gives_a_readable_difference(decision: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(THRESHOLDS.replace("review = 0.5\nreject", "review = 0.25\nreject"), encoding="utf-8")
    result = run("replay", decision, "--thresholds", tmp_path / "other.toml", "--json")
    assert result.exit_code == 11
    told = json.loads(result.stdout)["replays"][0]
    differing = {c["path"]: (c["before"], c["after"]) for c in told["verdict"]}
    assert differing["outcome"] == ("accept", "review")
    assert any(path.startswith("reasons") for path in differing)
    assert not any(path.startswith("signals") for path in differing)
    assert [c["path"] for c in told["bundle"]] == ["thresholds_sha256"]
    plain = run("replay", decision, "--thresholds", tmp_path / "other.toml").stdout
    for expected in ("a1: ", "differences", "outcome", "accept", "review", "thresholds_sha256"):
        assert expected in plain


def test_another_bundle_that_judges_alike_is_named_and_is_no_difference(decision: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(POLICY + "# the same, with a remark\n", encoding="utf-8")
    result = run("replay", decision, "--policy", tmp_path / "other.toml", "--json")
    assert result.exit_code == 0
    assert [c["path"] for c in json.loads(result.stdout)["replays"][0]["bundle"]] == ["policy_sha256"]


def test_changed_weights_bring_their_own_thresholds(decision: Path, tmp_path: Path) -> None:
    other = tmp_path / "models"
    other.mkdir()
    settings_in(other, thresholds=THRESHOLDS.replace("review = 0.5\nreject", "review = 0.25\nreject"))
    assert run("replay", decision, "--models", other).exit_code == 11


def test_a_changed_score_is_named_by_its_detector(decision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(0.30000000000000004))
    told = json.loads(run("replay", decision, "--json").stdout)["replays"][0]
    assert {"path": "signals.face_attack.score", "before": 0.3, "after": 0.30000000000000004} in told["verdict"]


@pytest.mark.parametrize(
    ("mischief", "says"),
    [
        (lambda d: (d / "me.png").write_bytes((d / "card.png").read_bytes()), "me.png: is not what was judged"),
        (lambda d: (d / "card.png").unlink(), "card.png"),
        (lambda d: (d / "submission.toml").write_text('selfie = "me.png"\n'), "card.png: was judged and is missing"),
        (lambda d: (d / "submission.toml").write_text(TOML.replace('"card.png"', '["card.png", "decision.json"]')), "was not part of"),
        (lambda d: (d / "submission.toml").write_text(TOML.replace("Eriksson", "Lindqvist")), "declares other claims"),
        (lambda d: (d / "submission.toml").write_text(TOML + "[device]\nfps = 30\n"), "declares other claims"),
        (lambda d: (d / "submission.toml").write_text(TOML.replace("card", "x").replace("me.png", "card.png").replace("x", "me")), "roles"),
        (lambda d: (d / "submission.toml").unlink(), "names no submissions"),
    ],
)
def test_what_was_not_judged_is_refused_by_name(decision: Path, inbox: Path, mischief: Mischief, says: str) -> None:
    mischief(inbox)
    result = run("replay", decision, "--media", inbox)
    assert result.exit_code == 2
    assert says in " ".join(f"{result.stdout}{result.stderr}".split())


def test_the_clock_is_the_records(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that lives by the calendar, as the check of the expiry does."""
    by_day = fake("document", lambda e: e.judged_on.toordinal() / 1e6, Modality.DOCUMENT)
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", (usual()[0], by_day))
    record = json.loads(run("verify", inbox, "--json").stdout)
    with Verifier() as verifier:
        sent = Submission.from_dir(inbox)
        assert replay(record, sent, verifier).identical
        earlier = replay(record | {"judged_on": "2001-02-03"}, sent, verifier)
    assert earlier.decision.judged_on.isoformat() == "2001-02-03"
    assert earlier.decision.signals[1].score == pytest.approx(0.730519)


def test_the_sampling_is_the_records(decision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KYC_GUARD_SAMPLING__FRAMES", "3")
    assert run("replay", decision).exit_code == 0


def test_every_line_of_a_batch_is_replayed_its_error_lines_left_out_and_a_lost_one_named(inbox: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("a1", "a2", "a3"):
        folder = inbox if name == "a1" else make(inbox.with_name(name))
        rows.append(run("verify", folder, "--json").stdout.strip())
    results = tmp_path / "results.jsonl"
    error = '{"submission": "a0", "outcome": "error", "error": {"type": "UnreadableError"}}'
    results.write_text("\n".join([error, *rows]) + "\n", encoding="utf-8")
    whole = run("replay", results, "--media", inbox.parent, "--json")
    assert whole.exit_code == 0
    assert [(r["submission"], r["identical"]) for r in json.loads(whole.stdout)["replays"]] == [("a1", True), ("a2", True), ("a3", True)]
    shutil.rmtree(inbox.with_name("a2"))
    lost = run("replay", results, "--media", inbox.parent, "--json")
    assert lost.exit_code == 2
    told = json.loads(lost.stdout)
    assert len(told["replays"]) == 2
    assert [(e["submission"], "names no submission 'a2'" in e["message"]) for e in told["errors"]] == [("a2", True)]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "not json", '{"submission": "a"}', '{"outcome": "error"}', '{"submission": "a"}\n{"submission', "null", '"x"'],
)
def test_what_is_no_decision_is_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"d\.json"):
        read_decisions(path)


@pytest.mark.parametrize(
    "change", [{"judged_on": "yesterday"}, {"sampling": {"frames": "many"}}, {"inputs": []}, {"declared_sha256": None}]
)
def test_a_decision_with_a_broken_field_is_bad_input(decision: Path, change: dict[str, Any]) -> None:
    decision.write_text(json.dumps(json.loads(decision.read_text()) | change), encoding="utf-8")
    with pytest.raises(SchemaError, match=r"decision\.json"):
        read_decisions(decision)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("x.a", 1, 2)]),
        ({"a": 1}, {}, [("x.a", 1, "(absent)")]),
        ([1, 2], [1, 3], [("x.1", 2, 3)]),
        ([1, 2], [1], [("x", [1, 2], [1])]),
        ([{"detector": "d", "score": 1}], [{"detector": "d", "score": None}], [("x.d.score", 1, None)]),
        (
            [{"code": "r", "detail": "old"}],
            [{"code": "s", "detail": ""}, {"code": "r", "detail": "new"}],
            [("x.r", "old", "new"), ("x.s", "(absent)", "")],
        ),
    ],
)
def test_a_difference_is_as_fine_as_helps_the_reader(before: Any, after: Any, expected: list[tuple[str, Any, Any]]) -> None:
    assert list(changes(before, after, "x")) == [Change(*one) for one in expected]


def test_reasons_in_another_order_are_a_difference(decision: Path, inbox: Path) -> None:
    (inbox / "submission.toml").write_text("", encoding="utf-8")
    record = json.loads(run("verify", inbox, "--json").stdout)
    record["reasons"].reverse()
    with Verifier() as verifier:
        assert [c.path.split(".")[0] for c in replay(record, Submission.from_dir(inbox), verifier).verdict] == ["reasons"]
