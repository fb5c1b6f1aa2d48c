"""Drift: by hand, against scipy, calm where nothing changed, loud where something did, whatever the order of the lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from typer.testing import CliRunner, Result

from kyc_guard import batch, monitor
from kyc_guard.cli import app
from kyc_guard.config import Policy, Settings
from kyc_guard.errors import ConfigError, SchemaError, UnreadableError
from kyc_guard.monitor import Decisions
from kyc_guard.submission import Submission

POLICY = Policy.load(Settings().policy_path)


def line(
    name: str, outcome: str = "accept", score: float | None = 0.2, *, day: str = "2026-01-05", camera: str = "front", bundle: str = "a"
) -> dict[str, Any]:
    if outcome == "error":
        return {"submission": name, "outcome": "error", "error": {"type": "UnreadableError", "message": "is torn"}}
    return {
        "submission": name,
        "outcome": outcome,
        "score": score,
        "reasons": [],
        "signals": [{"detector": "face_attack", "score": score, "quality": None if score is None else 1.0 - score / 2}],
        "policy_sha256": "p",
        "thresholds_sha256": bundle,
        "models": {},
        "judged_on": day,
        "device": {"platform": "android", "camera": camera},
    }


def lines(n: int, seed: int, *, shift: float = 0.0, review: float = 0.05, silent: float = 0.02, **more: Any) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        line(
            f"s{seed}-{i}",
            "review" if rng.random() < review else "accept",
            None if rng.random() < silent else min(1.0, rng.betavariate(2, 8) + shift),
            day=f"2026-01-{5 + i % 3:02}",
            **more,
        )
        for i in range(n)
    ]


def decisions(rows: list[dict[str, Any]]) -> Decisions:
    found = Decisions()
    for row in rows:
        found.add(row)
    return found


def look(now: list[dict[str, Any]], then: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return monitor.monitor(decisions(now), decisions(then), POLICY, **more)


def test_psi_by_hand() -> None:
    then, now = np.array([50, 50]), np.array([80, 20])
    p, q = 50.5 / 101, np.array([80.5, 20.5]) / 101
    assert monitor.psi(then, now) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert monitor.psi(then, then) == 0.0
    assert monitor.psi(np.array([100, 0]), np.array([0, 100])) < 20  # an empty bin is not infinity


def test_the_same_traffic_is_calm_and_its_ks_is_that_of_scipy() -> None:
    now, then = lines(800, 1), lines(900, 2)
    found = look(now, then)
    assert found["alarms"] == []
    a, b = ([row["score"] for row in rows if row["score"] is not None] for rows in (then, now))
    ks = next(f for f in found["figures"] if (f["name"], f["measure"]) == ("fused score", "KS"))
    assert (ks["value"], ks["chance"]) == pytest.approx(ks_2samp(a, b, method="asymp"))
    assert [day["day"] for day in found["days"]] == ["2026-01-05", "2026-01-06", "2026-01-07"]


@pytest.mark.parametrize(
    ("change", "alarms"),
    [
        ({"shift": 0.2}, {"fused score: PSI", "fused score: KS", "face_attack score: KS", "face_attack quality: PSI"}),
        ({"review": 0.4}, {"outcome review: rise", "review load of 2026-01-06: rise"}),
        ({"silent": 0.3}, {"face_attack abstentions: rise", "fused abstentions: rise"}),
        ({"camera": "OBS Virtual Camera"}, {"device camera: PSI"}),
    ],
)
def test_each_kind_of_drift_raises_its_alarm(change: dict[str, Any], alarms: set[str]) -> None:
    found = set(look(lines(600, 1, **change), lines(600, 2))["alarms"])
    assert alarms <= found
    if "shift" not in change:
        assert not [a for a in found if "score" in a]


def test_errors_that_rise_are_an_alarm() -> None:
    found = look(lines(500, 1) + [line(f"e{i}", "error") for i in range(80)], lines(500, 2))
    assert "outcome error: rise" in found["alarms"]


def test_a_few_submissions_shift_by_chance_and_raise_no_alarm() -> None:
    found = look(lines(12, 1), lines(500, 2))
    assert found["alarms"] == []
    assert any(f["measure"] == "PSI" and f["value"] > f["limit"] for f in found["figures"])


def test_another_bundle_is_noted() -> None:
    found = look(lines(100, 1, bundle="b"), lines(100, 2))
    assert any("100 of 100 were judged by a policy, thresholds or models" in note for note in found["notes"])
    assert look(lines(100, 1), lines(100, 2))["notes"] == []


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_the_order_of_lines_changes_nothing(seed: int) -> None:
    now, then = lines(150, 3, shift=0.1), lines(150, 4)
    before = look(now, then, reviewed={row["submission"]: True for row in now[:20]})
    random.Random(seed).shuffle(now)
    random.Random(seed + 1).shuffle(then)
    assert look(now, then, reviewed={row["submission"]: True for row in sorted(now, key=lambda r: int(r["submission"][3:]))[:20]}) == before


def outcomes(**counts: int) -> Decisions:
    return decisions([line(f"{outcome}{i}", outcome) for outcome, n in counts.items() for i in range(n)])


def test_bpcer_from_reviewed_cases_by_hand() -> None:
    # 900 accepted (taken for honest), 60 reviewed of which 20 looked at, 15 honest; 40 rejected, all looked at, 4 honest
    reviewed = {f"review{i}": i < 15 for i in range(20)} | {f"reject{i}": i < 4 for i in range(40)} | {"gone": True}
    found = monitor.estimate_bpcer(outcomes(accept=900, review=60, reject=40, retry=500), reviewed)
    assert found["value"] == pytest.approx((45 + 4) / (900 + 45 + 4))
    assert found["low"] < found["value"] < found["high"]
    assert (found["n"], found["unknown"]) == (60, 1)
    everybody = {f"{o}{i}": True for o, n in (("accept", 9), ("review", 2), ("reject", 1)) for i in range(n)}
    exact = monitor.estimate_bpcer(outcomes(accept=9, review=2, reject=1), everybody)
    assert (exact["value"], exact["low"], exact["high"]) == (0.25, 0.25, 0.25)


def test_what_nobody_looked_at_may_be_anything() -> None:
    found = monitor.estimate_bpcer(outcomes(accept=90, review=10, reject=10), {f"review{i}": True for i in range(10)})
    assert (found["value"], found["low"], found["high"]) == (None, 10 / 100, 20 / 110)


def test_the_interval_holds_the_truth_in_19_of_20_cases() -> None:
    rng = np.random.default_rng(5)
    held, stored = 0, outcomes(accept=880, review=120)
    for _ in range(150):
        honest = rng.random(120) < 0.6  # of 120 reviewed; 880 accepted are honest
        truth = honest.sum() / (880 + honest.sum())
        chosen = rng.choice(120, 30, replace=False)
        found = monitor.estimate_bpcer(stored, {f"review{i}": bool(honest[i]) for i in chosen})
        held += found["low"] <= truth <= found["high"]
    assert held >= 0.95 * 150


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_is_calm_or_exits_with_11(tmp_path: Path) -> None:
    then, now = write(tmp_path / "then.jsonl", lines(400, 1)), write(tmp_path / "now.jsonl", lines(400, 2))
    shifted = write(tmp_path / "shifted.jsonl", lines(400, 3, shift=0.3))
    calm = run("monitor", now, "--baseline", then)
    assert (calm.exit_code, "0 alarms" in calm.stdout) == (0, True)
    loud = run("monitor", now, shifted, "--baseline", then)
    assert loud.exit_code == 11
    assert "ALARM" in loud.stdout
    (tmp_path / "reviewed.csv").write_text("submission,label\n" + "".join(f"s2-{i},bona_fide\n" for i in range(400)))
    found = json.loads(run("monitor", now, "--baseline", then, "--reviewed", tmp_path / "reviewed.csv", "--json").stdout)
    held = sum(row["outcome"] == "review" for row in lines(400, 2))
    assert found["bpcer"]["value"] == found["bpcer"]["low"] == held / 400
    assert ("BPCER: lower bound" in found["alarms"]) == (held / 400 > POLICY.monitor["bpcer"])


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "now.jsonl", lines(5, 1))
    path.write_text(path.read_text() + '{"submission": "torn')
    assert len(monitor.read([path]).ids) == 5


@pytest.mark.parametrize("content", ["", "x\n", "[]\n", '{"submission": "a", "outcome": "accept"}\n', "{}\n"])
def test_what_holds_no_decisions_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(SchemaError):
        monitor.read([tmp_path / "r.jsonl"])
    with pytest.raises(UnreadableError):
        monitor.read([tmp_path / "absent.jsonl"])


@pytest.mark.parametrize("content", ["id,label\na,attack\n", "submission,label\na,good\n", "submission,label\na,attack\na,bona_fide\n"])
def test_unusable_reviews_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "reviewed.csv").write_text(content)
    with pytest.raises(SchemaError):
        monitor.read_reviewed(tmp_path / "reviewed.csv")


def test_a_policy_without_a_limit_is_refused() -> None:
    without = Policy(POLICY.checks, None, {}, {}, "p", monitor={"significance": 0.001})
    with pytest.raises(ConfigError, match=r"\[monitor\] lacks psi"):
        monitor.monitor(outcomes(accept=3), outcomes(accept=3), without)


def test_lines_of_a_real_batch_are_read_with_their_devices(tmp_path: Path) -> None:
    from fake_workers import FakeVerifier

    manifest = tmp_path / "in.jsonl"
    rows = [{"id": f"a{i}", "device": {"platform": "ios", "camera": "back", "fps": 30}} for i in range(4)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch.run(manifest, tmp_path / "out.jsonl", workers=1, make_verify=FakeVerifier())
    found = monitor.read([tmp_path / "out.jsonl"])
    assert found.devices["platform"] == {"ios": 4}
    assert found.devices["model"] == {"not declared": 4}
    assert Submission("x").device == {}
    assert set(found.days) != {"unknown"}


def test_the_shipped_policy_names_every_limit_and_no_other() -> None:
    assert set(POLICY.monitor) == {"significance", "psi", "ks", "share_rise", "review_load_rise", "bpcer"}
