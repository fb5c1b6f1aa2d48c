"""Batch runs: one line each, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_workers
import pytest
from fake_workers import FakeVerifier, compared, make_submissions, wait_until_group_is_gone

from kyc_guard import batch, result_lines
from kyc_guard.config import Settings
from kyc_guard.errors import InputError, OutputError, SchemaError, UnreadableError


def rows(out: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({row["submission"] for row in found}) == len(found)
    return {row["submission"]: row for row in found}


def run(source: Path, out: Path, **options: Any) -> batch.Summary:
    return batch.run(source, out, **({"workers": 1, "make_verify": FakeVerifier()} | options))


def test_a_folder_gives_one_line_a_submission(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "b", "c"])
    summary = run(source, tmp_path / "out.jsonl", workers=2)
    found = rows(tmp_path / "out.jsonl")
    assert set(found) == {"a", "b", "c"}
    assert all(row["outcome"] in {"accept", "reject"} and row["score"] is not None for row in found.values())
    assert (summary.total, summary.errors, sum(summary.outcomes.values())) == (3, 0, 3)
    assert summary.reasons["fake_reason"] == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [("unreadable", "UnreadableError"), ("poison", "worker_died"), ("nan", "internal_error")],
)
def test_a_bad_submission_becomes_an_error_line_and_the_others_are_judged(tmp_path: Path, name: str, kind: str) -> None:
    source = make_submissions(tmp_path / "in", ["a", name, "z"])
    summary = run(source, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert found[name]["outcome"] == "error"
    assert found[name]["error"]["type"] == kind
    assert "score" not in found[name]
    assert found["a"]["outcome"] != "error"
    assert found["z"]["outcome"] != "error"
    assert summary.errors == 1


def test_a_submission_that_hangs_becomes_an_error_line(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "hang"])
    run(source, tmp_path / "out.jsonl", timeout_s=2.0)
    assert rows(tmp_path / "out.jsonl")["hang"]["error"]["type"] == "timeout"


def test_broken_folders_become_error_lines(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["good", "toml"])
    (source / "toml" / "submission.toml").write_text("id = ")
    (source / "empty").mkdir()
    outside = make_submissions(tmp_path / "elsewhere", ["secret"])
    (source / "link").symlink_to(outside / "secret")
    (source / "note.txt").write_text("not a folder")
    run(source, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert {k: v.get("error", {}).get("type") for k, v in found.items()} == {
        "good": None,
        "toml": "SchemaError",
        "empty": "UnreadableError",
        "link": "SchemaError",
    }


def test_an_unreadable_toml_becomes_an_error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_submissions(tmp_path / "in", ["good", "locked"])
    toml = source / "locked" / "submission.toml"
    toml.unlink()
    toml.mkdir()  # reading it fails for root as well, which file modes do not
    run(source, tmp_path / "out.jsonl")
    assert rows(tmp_path / "out.jsonl")["locked"]["error"]["type"] == "UnreadableError"


def test_a_doubled_id_becomes_one_error_line_naming_both_places(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "b", "c"])
    (source / "b" / "submission.toml").write_text('id = "a"\n')
    summary = run(source, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert set(found) == {"a", "c"}
    assert str(source / "a") in found["a"]["error"]["message"]
    assert str(source / "b") in found["a"]["error"]["message"]
    assert summary.total == 2


def test_a_csv_manifest_carries_paths_and_claims(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    outside = tmp_path.parent / "outside.mp4"
    (tmp_path / "link.mp4").symlink_to(outside)
    manifest.write_text(
        "id,selfie,document,claims.surname\n"
        "fine,selfie.mp4,front.jpg;back.jpg,Doe\n"
        "climbs,../outside.mp4,,\n"
        f"absolute,{outside},,\n"
        "link,link.mp4,,\n"
        ",selfie.mp4,,\n"
        "short\n"
    )
    run(manifest, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert found["fine"]["outcome"] != "error"
    errors = {k: v["error"] for k, v in found.items() if v["outcome"] == "error"}
    assert set(errors) == {"climbs", "absolute", "link", "manifest.csv:6", "manifest.csv:7"}
    assert all(e["type"] == "SchemaError" and e["remedy"] for e in errors.values())
    job = next(batch._jobs(manifest))
    assert job.data == {"id": "fine", "selfie": "selfie.mp4", "document": ["front.jpg", "back.jpg"], "claims": {"surname": "Doe"}}


def test_a_jsonl_manifest_has_rows_like_submission_toml(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    lines_ = [
        '{"id": "a", "selfie": "s.mp4", "device": {"fps": 30}}',
        "",
        "not json",
        "[1]",
        '{"id": "b", "nonsense": 1}',
        '{"id": 7}',
        "[" * 100_000,
    ]
    manifest.write_text("\n".join(lines_))
    run(manifest, tmp_path / "out.jsonl")
    found = rows(tmp_path / "out.jsonl")
    assert found["a"]["outcome"] != "error"
    assert {k for k, v in found.items() if v["outcome"] == "error"} == {"b"} | {f"manifest.jsonl:{n}" for n in (3, 4, 6, 7)}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("m.csv", "id,selfie,whatever\na,b,c\n", SchemaError),
        ("m.csv", "selfie\nb\n", SchemaError),
        ("m.csv", "id,selfie\n", SchemaError),
        ("m.csv", "", SchemaError),
        ("m.jsonl", "", SchemaError),
        ("m.txt", "a", UnreadableError),
        ("m.csv", b"id,selfie\n\xff\xfe,b\n", UnreadableError),
        ("m.csv", "id,selfie\n" + "a" * 200_000 + ",b\n", SchemaError),
    ],
)
def test_a_broken_manifest_is_refused_before_anything_is_judged(
    tmp_path: Path, name: str, content: str | bytes, error: type[InputError]
) -> None:
    manifest = tmp_path / name
    manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error):
        run(manifest, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_missing_or_empty_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        run(tmp_path / "absent.csv", tmp_path / "out.jsonl")
    with pytest.raises(SchemaError):
        run(tmp_path, tmp_path / "out.jsonl")
    single = make_submissions(tmp_path / "in", ["one"]) / "one"
    with pytest.raises(SchemaError, match="kyc-guard verify"):
        run(single, tmp_path / "out.jsonl")


def test_an_existing_result_file_is_never_overwritten(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    (tmp_path / "out.jsonl").write_text("precious\n")
    with pytest.raises(InputError, match="--resume"):
        run(source, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(
    "content", ["precious\n", '{"a": 1}\n', "precious without a line end", '{"submission": "a", "outcome": "error"}\n']
)
def test_resuming_a_file_that_holds_no_results_is_refused(tmp_path: Path, content: str) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    (tmp_path / "out.jsonl").write_text(content)
    with pytest.raises(InputError):
        run(source, tmp_path / "out.jsonl", resume=True)
    assert (tmp_path / "out.jsonl").read_text() == content


@pytest.mark.parametrize("cut", [5, 40, 0])
def test_a_torn_last_line_is_judged_again(tmp_path: Path, cut: int) -> None:
    source = make_submissions(tmp_path / "in", ["a", "b", "c"])
    run(source, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    torn = whole[:-1] if cut == 0 else whole[: whole[:-1].rfind(b"\n") + 1 + cut]
    (tmp_path / "out.jsonl").write_bytes(torn)
    summary = run(source, tmp_path / "out.jsonl", resume=True)
    assert compared(tmp_path / "out.jsonl") == compared(tmp_path / "whole.jsonl")
    assert (summary.total, summary.earlier) == (3, 2)
    assert sum(summary.outcomes.values()) == 3


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a", "unreadable"])
    run(source, tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    summary = run(source, tmp_path / "out.jsonl", resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert summary.earlier == summary.total == 2


def test_a_run_killed_at_any_time_is_resumed_with_nothing_lost_or_doubled(tmp_path: Path) -> None:
    names = [f"s{i:03}" for i in range(40)] + ["unreadable", "nan"]
    source = make_submissions(tmp_path / "in", names)
    run(source, tmp_path / "whole.jsonl", workers=2)
    out = tmp_path / "out.jsonl"
    command = [sys.executable, fake_workers.__file__, str(source), str(out)]
    for wanted in (5, 20):
        process = subprocess.Popen([*command, *(["--resume"] if out.exists() else [])], start_new_session=True)
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline and (not out.exists() or out.read_bytes().count(b"\n") < wanted):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert wanted <= out.read_bytes().count(b"\n") < len(names)
        wait_until_group_is_gone(process.pid)
    with out.open("ab") as file:
        file.write(b'{"submission": "s0')
    subprocess.run([*command, "--resume"], check=True, timeout=250)
    assert compared(out) == compared(tmp_path / "whole.jsonl")


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    with result_lines.LineFile(tmp_path / "out.jsonl", resume=False), pytest.raises(InputError, match="another run"):
        run(source, tmp_path / "out.jsonl", resume=True)


def half_then_full(room: int, write: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
    def limited(fd: int, data: bytes) -> int:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return write(fd, data)
        left = room - os.fstat(fd).st_size
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:left])

    return limited


@pytest.mark.parametrize("room", [0, 500])
def test_a_full_disk_stops_the_run_with_whole_lines_and_resume_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    source = make_submissions(tmp_path / "in", ["a", "b", "c", "d"])
    run(source, tmp_path / "whole.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(result_lines.os, "write", half_then_full(room, os.write))
        with pytest.raises(OutputError, match="--resume"):
            run(source, tmp_path / "out.jsonl")
    kept = (tmp_path / "out.jsonl").read_bytes()
    assert kept == b"" or kept.endswith(b"\n")
    run(source, tmp_path / "out.jsonl", resume=True)
    assert compared(tmp_path / "out.jsonl") == compared(tmp_path / "whole.jsonl")


def test_an_output_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    with pytest.raises(OutputError, match="absent"):
        run(source, tmp_path / "absent" / "out.jsonl")


def test_results_of_another_policy_are_not_mixed(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    run(source, tmp_path / "out.jsonl")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "manifest.toml").write_text("")
    (weights / "thresholds.toml").write_text("")
    with pytest.raises(InputError, match="another policy_sha256"):
        batch.run(source, tmp_path / "out.jsonl", settings=Settings(weights_dir=weights), resume=True)


def test_progress_starts_behind_what_an_earlier_run_did(tmp_path: Path) -> None:
    import contextlib

    source = make_submissions(tmp_path / "in", ["a", "b", "c"])
    run(source, tmp_path / "out.jsonl")
    first = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)[0]
    (tmp_path / "out.jsonl").write_text(first)
    seen: list[tuple[int, int]] = []
    steps: list[int] = []

    def progress(total: int, done: int) -> contextlib.AbstractContextManager[Callable[[], None]]:
        seen.append((total, done))
        return contextlib.nullcontext(lambda: steps.append(1))

    run(source, tmp_path / "out.jsonl", resume=True, progress=progress)
    assert seen == [(3, 1)]
    assert len(steps) == 2
