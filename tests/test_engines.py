"""Where a batch runs, and on how many workers, changes no result; workers killed half-way cost nothing.

Ray is run in a process of its own: it warns as it likes, and warnings are errors here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fake_workers
import pytest
from fake_workers import FakeVerifier, compared, make_submissions
from typer.testing import CliRunner

from kyc_guard import batch, pool
from kyc_guard.cli import app
from kyc_guard.errors import ConfigError, KycGuardError
from kyc_guard.ray_pool import RayCrew

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is absent")
ENGINES = ["local", pytest.param("ray", marks=needs_ray)]


def without_poison(out: Path) -> list[str]:
    """Compared result lines but that of the submission that kills workers, which says in each engine's words how."""
    return [line for line in compared(out) if '"worker_died"' not in line]


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_killed_half_way_through_a_resumed_batch_lose_and_double_nothing(tmp_path: Path, engine: str) -> None:
    source = make_submissions(tmp_path / "in", [f"s{i:03}" for i in range(40)] + ["nan", "poison", "unreadable"])
    whole, out, pids = tmp_path / "whole.jsonl", tmp_path / "out.jsonl", tmp_path / "pids"
    batch.run(source, whole, workers=1, make_verify=FakeVerifier())
    begun = whole.read_text().splitlines(keepends=True)[-5:]
    out.write_text("".join(begun))
    pids.mkdir()
    command = [sys.executable, fake_workers.__file__, source, out, "--resume", "--pids", pids, "--pause-s", "0.1"]
    process = subprocess.Popen([str(c) for c in [*command, *(["--ray"] if engine == "ray" else [])]], stderr=subprocess.DEVNULL)
    while process.poll() is None and out.read_bytes().count(b"\n") < 20:
        time.sleep(0.02)
    started = list(pids.iterdir())
    for pid in started:  # the poison ended some of them before
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.name), signal.SIGKILL)
    assert process.wait(timeout=250) == 0
    assert len(list(pids.iterdir())) > len(started)  # the dead were replaced
    assert without_poison(out) == without_poison(whole)
    poison = [json.loads(line) for line in out.read_text().splitlines() if '"poison"' in line]
    assert [row["error"]["type"] for row in poison] == ["worker_died"]


class NoActors:
    """Stands in for Ray, with a cluster of 4 cores whose every actor dies while loading."""

    class exceptions:  # noqa: N801 - as Ray names it
        class RayError(Exception):
            pass

    def __init__(self, *, gpus: int = 0, answers: bool = True) -> None:
        self.gpus, self.answers, self.started, self.ended = gpus, answers, 0, False

    def is_initialized(self) -> bool:
        return False

    def init(self, *_: Any, **__: Any) -> None:
        if not self.answers:
            raise ConnectionError("nobody there")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": float(self.gpus)}

    def remote(self, *_: Any, **options: Any) -> Any:
        """Both what ``ray.remote(num_cpus=1)`` gives, which makes a kind of actor, and what ``.remote()`` of that kind gives."""
        return (lambda _: self) if options else self

    @property
    def load(self) -> NoActors:
        self.started += 1
        return self

    def wait(self, words: list[Any], timeout: float | None) -> Any:
        return words[:1], words[1:]

    def get(self, _: Any) -> None:
        raise self.exceptions.RayError("The actor died\nand so on")

    def kill(self, _: Any) -> None: ...

    def shutdown(self) -> None:
        self.ended = True


def crew_of(monkeypatch: pytest.MonkeyPatch, ray: Any, **options: Any) -> Any:
    monkeypatch.setitem(sys.modules, "ray", ray)
    return partial(RayCrew, **options)


def test_without_ray_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'kyc-guard\[ray\]'"):
        list(pool.run(fake_workers.times_ten, range(3), engine=crew_of(monkeypatch, None)))
    monkeypatch.setattr(batch, "identity", lambda _: {})
    source = make_submissions(tmp_path / "in", ["a"])
    told = CliRunner().invoke(app, ["batch", str(source), "--out", str(tmp_path / "out.jsonl"), "--engine", "ray"])
    assert told.exit_code == 1
    assert "kyc-guard[ray]" in told.stderr


def test_workers_that_die_while_loading_are_not_started_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = NoActors()
    with pytest.raises(KycGuardError, match=r"before it could take work \(The actor died\)"):
        list(pool.run(fake_workers.times_ten, range(3), workers=2, engine=crew_of(monkeypatch, ray)))
    assert ray.started == 4  # the two, and two more
    assert ray.ended


@pytest.mark.parametrize(
    ("ray", "says"),
    [(NoActors(answers=False), "no Ray cluster at ray://head:10001"), (NoActors(gpus=1), "1 GPUs, and a worker needs 1 and 2")],
)
def test_a_cluster_that_does_not_answer_or_lacks_gpus_is_named(monkeypatch: pytest.MonkeyPatch, ray: NoActors, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        list(pool.run(fake_workers.times_ten, range(3), engine=crew_of(monkeypatch, ray, address="ray://head:10001", gpus_per_worker=2.0)))


def test_options_of_ray_without_ray_are_usage_errors(tmp_path: Path) -> None:
    for option in (["--address", "auto"], ["--gpus-per-worker", "0.5"], ["--net-actors", "1"]):
        assert CliRunner().invoke(app, ["batch", str(tmp_path), "--out", str(tmp_path / "out.jsonl"), *option]).exit_code == 2


def test_a_worker_with_another_bundle_stops_the_run_before_its_line_is_written(tmp_path: Path) -> None:
    source = make_submissions(tmp_path / "in", ["a"])
    with pytest.raises(ConfigError, match="another policy_sha256"):
        batch.run(source, tmp_path / "out.jsonl", workers=1, make_verify=FakeVerifier(), judged_with={"policy_sha256": "other"})
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_nothing_imports_ray_torch_or_cuda_unless_asked() -> None:
    code = (
        "import sys, kyc_guard.batch, kyc_guard.cli.judging, kyc_guard.ray_pool, kyc_guard.runtime\n"
        "print([m for m in ('ray', 'torch', 'tensorrt', 'cupy', 'cuda', 'pycuda') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
