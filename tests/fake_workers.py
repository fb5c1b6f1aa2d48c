"""Fast stand-ins for the models, importable by worker processes; run as a program they are a batch to be killed.

What a fake does is told by the submission's id or the picture's name.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from kyc_guard import batch, evaluate
from kyc_guard.errors import ModelError, UnreadableError
from kyc_guard.pool import ProcessCrew
from kyc_guard.ray_pool import RayCrew
from kyc_guard.submission import Submission
from kyc_guard.types import Decision, Outcome, Reason, Signal

if TYPE_CHECKING:
    from kyc_guard.pipeline import AttackScore


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def decision(submission: Submission, score: float, outcome: Outcome) -> Decision:
    return Decision(
        submission=submission.id,
        outcome=outcome,
        score=score,
        reasons=(Reason("fake_reason", "made up"),),
        message="",
        signals=(Signal("face_attack", "1", score),),
        policy_sha256="p",
        thresholds_sha256="t",
        models={},
        inputs={},
        declared_sha256="d",
        judged_on=date(2026, 1, 31),
        sampling={},
        software={},
        took_ms={"all": time.perf_counter()},
    )


class Interruptible:
    """A maker of workers; what one makes says for every task whether Ctrl-C could reach its process before it was made."""

    def __reduce__(self) -> tuple[Callable[[], Callable[[], Callable[[int], bool]]], tuple[()]]:
        return _as_it_arrives, ()

    def __call__(self) -> Callable[[int], bool]:
        raise AssertionError("made where it was sent from")


def _as_it_arrives() -> Callable[[], Callable[[int], bool]]:
    reached = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return lambda: lambda _: reached


@dataclass(frozen=True)
class FakeVerifier:
    pause_s: float = 0.0
    pids: Path | None = None
    """A folder in which every worker leaves its process id."""

    def __call__(self) -> Callable[[Submission], Decision]:
        if self.pids is not None:
            (self.pids / str(os.getpid())).touch()
        return self.verify

    def verify(self, submission: Submission) -> Decision:
        time.sleep(self.pause_s)
        name = submission.id
        if name.startswith("unreadable"):
            raise UnreadableError(f"{name}.mp4", "is truncated", "send it again")
        if name.startswith("poison"):
            die()
        if name.startswith("nan"):
            return decision(submission, float("nan"), Outcome.ACCEPT)
        if name.startswith("hang"):
            time.sleep(600)
        score = (sum(name.encode()) % 100) / 100
        return decision(submission, score, Outcome.REJECT if score > 0.5 else Outcome.ACCEPT)


@dataclass(frozen=True)
class FakeAnswer:
    """Has the fields of `pipeline.AttackScore`, whose module takes seconds to import."""

    score: float | None
    reason: str | None
    species: str | None
    signals: tuple[Signal, ...]


@dataclass(frozen=True)
class FakeModel:
    """Scores by the number in a file's name: x_73.png gets 0.73."""

    pause_s: float = 0.0

    def __call__(self) -> Callable[[Path, str], FakeAnswer]:
        return self.attack_score

    def attack_score(self, file: Path, name: str) -> FakeAnswer:
        time.sleep(self.pause_s)
        if "unreadable" in name:
            raise UnreadableError(name, "is truncated", "send it again")
        if "poison" in name:
            die()
        if "bug" in name:
            raise ZeroDivisionError
        if "nan" in name:
            return FakeAnswer(float("nan"), None, None, ())
        silent = Signal("liveness", "1", None, reasons=(Reason("no_clip"),))
        if "noface" in name:
            return FakeAnswer(None, "no_face", None, (Signal("face_attack", "1", None, reasons=(Reason("no_face"),)), silent))
        score = int(Path(name).stem.rpartition("_")[2]) / 100
        return FakeAnswer(score, None, "replay", (Signal("face_attack", "1", score), silent))


@dataclass(frozen=True)
class RealPipeline:
    """The real decoding, faces, fusion and policy, with detectors that answer the picture's mean brightness; see `fakes`."""

    folder: Path

    def __call__(self) -> Callable[[Path, str], AttackScore]:
        from fakes import settings_in, usual

        from kyc_guard.pipeline import Verifier

        return Verifier(settings_in(self.folder), detectors=usual(lambda e: float(e.clip.frames_rgb.mean()) / 255)).attack_score


SCORER = evaluate.Scorer(FakeModel(), ("face_attack", "liveness"), {"review": 0.5, "reject": 0.8}, {"policy_sha256": "p"})


def times_ten() -> Callable[[int], int]:
    return lambda x: x * 10


def slow_first() -> Callable[[int], int]:
    def work(x: int) -> int:
        time.sleep(0.3 if x == 0 else 0.0)
        return x

    return work


@dataclass(frozen=True)
class DiesOn:
    """Dies on ``task``: always, or (with a folder) only the first time."""

    task: int
    folder: Path | None = None

    def __call__(self) -> Callable[[int], int]:
        return self.work

    def work(self, x: int) -> int:
        if x == self.task:
            mark = None if self.folder is None else self.folder / "died"
            if mark is None or not mark.exists():
                if mark is not None:
                    mark.touch()
                die()
        return x


def raises_on_three() -> Callable[[int], int]:
    def work(x: int) -> int:
        if x == 3:
            raise ZeroDivisionError("three")
        return x

    return work


def hangs_on_three() -> Callable[[int], int]:
    def work(x: int) -> int:
        if x == 3:
            time.sleep(600)
        return x

    return work


def no_model() -> Callable[[int], int]:
    raise ModelError("face_attack.onnx: is altered")


def dies_at_start() -> Callable[[int], int]:
    die()
    raise AssertionError


def loses_model() -> Callable[[int], int]:
    def work(_: int) -> int:
        raise ModelError("face_attack.onnx: is gone")

    return work


def make_submissions(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "submission.toml").write_text(f'id = "{name}"\n')
    return folder


def compared(out: Path) -> list[str]:
    """Result lines as they are compared between runs: sorted, without the clock."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return sorted(json.dumps({k: v for k, v in row.items() if k != "took_ms"}) for row in rows)


def wait_until_group_is_gone(group: int) -> None:
    """The workers of a run that ended, however it did, must leave by themselves."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers of an ended run are still there")


if __name__ == "__main__":
    # A test run started in the background inherits an ignored SIGINT; these runs are there to be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--pids", type=Path)
    parser.add_argument("--pause-s", type=float, default=0.02)
    arguments = parser.parse_args()
    if arguments.source.suffix == ".csv":
        scorer = dataclasses.replace(SCORER, make=FakeModel(pause_s=0.02))
        evaluate.run(arguments.source, arguments.out, workers=2, resume=arguments.resume, scorer=scorer)
    else:
        verify, engine = FakeVerifier(arguments.pause_s, arguments.pids), RayCrew if arguments.ray else ProcessCrew
        batch.run(arguments.source, arguments.out, workers=2, resume=arguments.resume, make_verify=verify, timeout_s=10.0, engine=engine)
