"""A candidate beside the current bundle: each judges as it would alone, and what differs is counted right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import POLICY, THRESHOLDS, settings_in, usual
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

import kyc_guard.detectors
from kyc_guard import InputError, Submission, Verifier, gathering, shadow
from kyc_guard.cli import app
from kyc_guard.config import Settings
from kyc_guard.reports.metrics import clopper_pearson

STRICTER = THRESHOLDS.replace("review = 0.5\nreject", "review = 0.25\nreject")
TIGHTER_GATE = POLICY.replace("other_face_ratio = 0.5", "other_face_ratio = 0.6")


def bundle(folder: Path, **files: str) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    return settings_in(folder, **files)


def submissions(folder: Path, names: list[str]) -> Path:
    """Each with a picture of a face that is its document too."""
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.fromarray(astronaut()[:256, 100:356]).save(folder / name / "me.png")
        (folder / name / "submission.toml").write_text('selfie = "me.png"\ndocument = "me.png"\n', encoding="utf-8")
    return folder


@dataclass(frozen=True)
class FakeBoth:
    """For spawned workers: `LoadBoth` with the usual fakes."""

    current: Settings
    candidate: Settings

    def __call__(self) -> Callable[[Submission], Any]:
        kyc_guard.detectors.DETECTORS = DETECTORS  # type: ignore[assignment]
        return _LoadBoth(self.current, self.candidate)()


DETECTORS = usual(0.3)
_LoadBoth = shadow.LoadBoth


def test_each_judges_as_it_would_alone_and_what_both_see_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual(0.3))
    current, candidate = bundle(tmp_path / "now"), bundle(tmp_path / "then", thresholds=STRICTER)
    sent = Submission.from_dir(submissions(tmp_path / "in", ["a"]) / "a")
    read = []
    monkeypatch.setattr(gathering, "read_clip", lambda *a, real=gathering.read_clip, **k: read.append(1) or real(*a, **k))
    both = shadow.LoadBoth(current, candidate)()(sent)
    assert len(read) == 1
    for settings, decision in ((current, both.current), (candidate, both.candidate)):
        with Verifier(settings) as alone:
            assert {**alone.verify(sent).to_json(), "took_ms": 0} == {**decision.to_json(), "took_ms": 0}
    row = both.to_json()
    assert row["thresholds_sha256"] != row["candidate_bundle"]["thresholds_sha256"]
    assert row["candidate"]["outcome"] == str(both.candidate.outcome)


def test_a_candidate_with_other_quality_gates_gathers_its_own_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual())
    judge = shadow.LoadBoth(bundle(tmp_path / "now"), bundle(tmp_path / "then", policy=TIGHTER_GATE))()
    read = []
    monkeypatch.setattr(gathering, "read_clip", lambda *a, real=gathering.read_clip, **k: read.append(1) or real(*a, **k))
    judge(Submission.from_dir(submissions(tmp_path / "in", ["a"]) / "a"))
    assert len(read) == 2


def line(name: str, outcome: str, other: str, *scores: float | None, reasons: tuple[str, str] = ("r", "r")) -> dict[str, Any]:
    def one(outcome: str, score: float | None, reason: str) -> dict[str, Any]:
        signals = [{"detector": "face_attack", "score": score}]
        return {"outcome": outcome, "score": score, "reasons": [{"code": reason, "detail": ""}], "signals": signals}

    return {"submission": name, **one(outcome, scores[0], reasons[0]), "candidate": one(other, scores[1], reasons[1])}


LINES = [
    line("a", "accept", "accept", 0.1, 0.2),
    line("b", "accept", "reject", 0.2, 0.9, reasons=("fine", "face_attack_suspected")),
    line("c", "review", "accept", 0.5, 0.4),
    line("d", "retry", "retry", None, 0.3),
    {"submission": "e", "outcome": "error", "error": {"type": "UnreadableError"}},
]


def test_the_report_counts_what_changed_with_intervals_and_says_why() -> None:
    report = shadow.summarise(LINES)
    assert (report["submissions"], report["errors"]) == (4, 1)
    low, high = clopper_pearson(2, 4)
    assert report["changed"] == {"errors": 2, "n": 4, "value": 0.5, "low": low, "high": high}
    assert (report["stricter"]["errors"], report["milder"]["errors"]) == (1, 1)
    assert {name: (r["current"]["errors"], r["candidate"]["errors"]) for name, r in report["outcomes"].items()} == {
        "accept": (2, 2),
        "retry": (1, 1),
        "review": (1, 0),
        "reject": (0, 1),
    }
    assert [(t["from"], t["to"], t["errors"]) for t in report["transitions"]] == [("accept", "reject", 1), ("review", "accept", 1)]
    assert report["changes"][0] == {
        "submission": "b",
        "from": "accept",
        "to": "reject",
        "score": [0.2, 0.9],
        "reasons_gone": ["fine"],
        "reasons_new": ["face_attack_suspected"],
    }
    fused, face = report["drift"]
    assert (fused["detector"], face["detector"]) == ("fused", "face_attack")
    assert (face["both_judged"], face["only_current"], face["only_candidate"]) == (3, 0, 1)
    assert face["mean"] == pytest.approx((0.1 + 0.7 - 0.1) / 3)
    assert face["largest"] == pytest.approx(0.7)


@given(st.permutations(LINES))
def test_the_order_of_the_lines_plays_no_part(lines: list[dict[str, Any]]) -> None:
    assert shadow.summarise(lines) == shadow.summarise(LINES)


def test_nothing_judged_is_no_division_by_zero() -> None:
    report = shadow.summarise([])
    assert report["changed"]["value"] is None
    assert report["changes"] == []


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """The command's arguments; the current bundle is in force, workers judge with fakes."""
    now = bundle(tmp_path / "now")
    (tmp_path / "strict.toml").write_text(STRICTER.replace("review = 0.5\n", "review = 0.05\n"), encoding="utf-8")
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(now.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(now.policy_path))
    monkeypatch.setattr(shadow, "LoadBoth", FakeBoth)
    source = submissions(tmp_path / "in", ["a", "b"])
    return ["shadow", source, "--thresholds", tmp_path / "strict.toml", "--out", tmp_path / "out", "--workers", "1"]


def test_the_command_reports_resumes_and_refuses_another_candidate(shadowed: list[str | Path], tmp_path: Path) -> None:
    first = run(*shadowed)
    assert first.exit_code == 0, first.output
    for expected in ("2 submissions, 0 errors", "changed outcome", "fused", "report.json"):
        assert expected in first.stdout
    report = json.loads((tmp_path / "out" / shadow.REPORT).read_text())
    assert report["submissions"] == 2
    assert report["current"]["thresholds_sha256"] != report["candidate"]["thresholds_sha256"]
    lines = (tmp_path / "out" / shadow.LINES).read_text().splitlines()
    (tmp_path / "out" / shadow.LINES).write_text(lines[0] + "\n" + lines[1][:50], encoding="utf-8")
    assert run(*shadowed).exit_code == 2
    resumed = run(*shadowed, "--resume", "--json")
    assert resumed.exit_code == 0, resumed.output
    assert json.loads(resumed.stdout) == report
    (tmp_path / "strict.toml").write_text(STRICTER, encoding="utf-8")
    other = run(*shadowed, "--resume")
    assert other.exit_code == 2
    assert "another candidate_bundle" in other.stderr


def test_the_current_bundle_is_no_candidate(shadowed: list[str | Path], tmp_path: Path) -> None:
    result = run("shadow", shadowed[1], "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "the candidate is the current bundle" in result.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError):
        shadow.run(tmp_path, tmp_path / "x", current=Settings(), candidate=Settings())
