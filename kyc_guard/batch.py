"""Many submissions, one result line each, in a file that a killed run leaves whole and ``resume`` goes on with.

A line is a decision (see `Decision.to_json`) with the ``device`` that the client declared, or
``{"submission": ID, "outcome": "error", "error": {...}}``. Lines stand in the order in which the submissions were done;
``took_ms`` and ``judged_on`` alone depend on the clock. After a kill and a resume the file equals that of an
uninterrupted run, sorted and without ``took_ms``.
"""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kyc_guard import pool
from kyc_guard.config import Settings
from kyc_guard.errors import ConfigError, InputError, SchemaError, UnreadableError
from kyc_guard.progress import Advance, silent
from kyc_guard.provenance import identity
from kyc_guard.result_lines import LineFile
from kyc_guard.submission import Submission, inside

if TYPE_CHECKING:
    from kyc_guard.pipeline import Verifier


class Judged(Protocol):
    """What a line is made of: a `Decision`, or something that has all its fields and more."""

    def to_json(self) -> dict[str, Any]: ...


Verify: TypeAlias = Callable[[Submission], Judged]
ERROR = "error"
"""The outcome of a line that holds no decision."""

_DEVICE_FIELDS = ("platform", "model", "camera")
"""What of the declared device `kyc_guard.monitor` counts; the rest would only make lines longer."""
_CSV_COLUMNS = {"id", "subject", "selfie", "document"}
_LINE_STARTS = b'{"submission": '


@dataclass(frozen=True, slots=True)
class Job:
    """One line to come.

    Attributes:
        id: the line's key, unique in the file.
        place: where it was named, for messages: a folder or ``manifest:line``.
        data: a manifest row; ``None`` = read submission.toml in ``root``.
        error: why it cannot be judged at all.
    """

    id: str
    place: str
    root: Path
    data: Mapping[str, Any] | None = None
    error: InputError | None = None

    def submission(self) -> Submission:
        """What was named; raises InputError where that cannot be judged."""
        if self.error is not None:
            raise self.error
        if self.data is None:
            return Submission.from_dir(self.root)
        return Submission.from_mapping(self.data, root=self.root, default_id=self.id, source=self.place)


@dataclass(slots=True)
class Summary:
    """What the result file holds, and how fast this run was."""

    total: int = 0
    earlier: int = 0
    """Lines that were there before this run."""
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Reason codes and error types, each counted once a submission."""
    took_s: float = 0.0

    @property
    def errors(self) -> int:
        return self.outcomes[ERROR]

    @property
    def judged(self) -> int:
        """Lines that this run wrote."""
        return sum(self.outcomes.values()) - self.earlier

    def add(self, row: Mapping[str, Any]) -> None:
        self.outcomes[row["outcome"]] += 1
        codes = [row["error"]["type"]] if row["outcome"] == ERROR else [r["code"] for r in row["reasons"]]
        self.reasons.update(set(codes))

    def to_json(self) -> dict[str, Any]:
        return {
            "submissions": self.total,
            "earlier": self.earlier,
            "outcomes": dict(self.outcomes.most_common()),
            "reasons": dict(self.reasons.most_common()),
            "took_s": round(self.took_s, 3),
            "per_s": round(self.judged / self.took_s, 3) if self.took_s else None,
        }


@dataclass(frozen=True, slots=True)
class LoadVerifier:
    """What a worker process is started with."""

    settings: Settings

    def __call__(self) -> Verify:
        return verifier_on_one_core(self.settings).verify


def verifier_on_one_core(settings: Settings) -> Verifier:
    """For a worker process: the other cores belong to the other workers."""
    import cv2  # only worker processes pay for loading these

    from kyc_guard.pipeline import Verifier

    cv2.setNumThreads(1)
    return Verifier(settings.model_copy(update={"threads": 1}))


def run(
    source: Path,
    out: Path,
    *,
    settings: Settings | None = None,
    workers: int | None = None,
    resume: bool = False,
    timeout_s: float | None = None,
    make_verify: Callable[[], Verify] | None = None,
    judged_with: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], contextlib.AbstractContextManager[Advance]] = silent,
    engine: pool.Engine = pool.ProcessCrew,
) -> Summary:
    """Judge every submission of ``source`` and append its line to ``out``.

    Args:
        source: a folder of submission folders, or a manifest: ``.csv`` with columns id, subject, selfie, document (several
            names separated by ``;``) and claims.*, or ``.jsonl`` whose rows are like submission.toml. Paths in a manifest
            are relative to it and may not leave its folder.
        resume: go on with an existing ``out``; ids that have a line, error lines included, are not judged again.
        timeout_s: a submission that takes longer, twice, becomes an error line.
        make_verify: what judges; called once in each worker process, must be picklable.
        judged_with: fields of every line of ``out`` without which it was begun with another bundle; by default those of ``settings``
            where nobody else judges.
        engine: where the workers run; neither it nor ``workers`` changes a result.

    Raises:
        InputError: ``source`` cannot be read or is empty; ``out`` exists without ``resume``, is no result file, or was
            begun with another policy, thresholds or models.
        OutputError: ``out`` cannot be written.
        ConfigError, ModelError: nothing may be judged, or a worker judged with another bundle than ``judged_with``.
    """
    settings = settings or Settings()
    if judged_with is None:
        judged_with = {} if make_verify is not None else identity(settings)
    places = _places(source)
    started = time.monotonic()
    with LineFile(out, resume=resume) as file:
        summary = Summary(total=len(places))
        done = _read_back(file, judged_with, summary)
        file.repair()
        summary.earlier = len(done & places.keys())
        tasks = _pending(source, places, done)
        work = _Judge(make_verify or LoadVerifier(settings))
        results = pool.run(work, tasks, workers=workers, timeout_s=timeout_s, engine=engine)
        with contextlib.closing(results), progress(summary.total, summary.earlier) as advance:
            for job, result in results:
                line = result if isinstance(result, str) else _error_line(job.id, result.code, result.detail)
                row = json.loads(line)
                if (other := _judged_with_another(row, judged_with)) is not None:
                    raise ConfigError(f"{job.id}: a worker judged with another {other}. Remedy: give every machine the same bundle")
                file.append(line)
                summary.add(row)
                advance()
    summary.took_s = time.monotonic() - started
    return summary


def submissions(source: Path) -> Iterator[tuple[str, Submission | InputError]]:
    """Id and content of every submission, or why it cannot be judged, for commands that look at all of them together.

    Args:
        source: the folder of one submission, or a source of `run`.

    Raises:
        InputError: ``source`` cannot be read or is empty.
    """
    one = (source / "submission.toml").is_file()
    for job in [Job(source.resolve().name, str(source), source)] if one else _pending(source, _places(source), set()):
        try:
            yield job.id, job.submission()
        except InputError as error:
            yield job.id, error


@dataclass(frozen=True, slots=True)
class _Judge:
    """Job -> result line, in a worker process."""

    make_verify: Callable[[], Verify]

    def __call__(self) -> Callable[[Job], str]:
        verify = self.make_verify()

        def judge(job: Job) -> str:
            try:
                submission = job.submission()
                row = verify(submission).to_json()
                row["device"] = {k: str(submission.device[k]) for k in _DEVICE_FIELDS if k in submission.device}
            except InputError as error:
                return _error_line(job.id, type(error).__name__, error.problem, path=error.path, remedy=error.remedy)
            # allow_nan=False: a number that is none must become an error line, never a result.
            return json.dumps({"submission": job.id} | {k: v for k, v in row.items() if k != "submission"}, allow_nan=False)

        return judge


def _error_line(submission: str, kind: str, message: str, **where: str) -> str:
    return json.dumps({"submission": submission, "outcome": ERROR, "error": {"type": kind, "message": message, **where}})


def _read_back(file: LineFile, judged_with: Mapping[str, Any], summary: Summary) -> set[str]:
    """The ids that have a line already.

    Raises:
        InputError: a line is damaged, doubled, not ours, or lacks a field of ``judged_with``.
    """
    done: set[str] = set()
    for number, line in enumerate(file.whole_lines(), start=1):
        try:
            row = json.loads(line)
            submission = row["submission"]
            summary.add(row)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(file.path, f"line {number} is no result line", "restore the file, or name another one") from error
        if submission in done:
            raise InputError(file.path, f"line {number} repeats submission {submission!r}", "remove one of the two lines")
        if (other := _judged_with_another(row, judged_with)) is not None:
            raise InputError(
                file.path, f"line {number} was judged with another {other}", "use the bundle it was begun with, or name another file"
            )
        done.add(submission)
    torn = file.torn()[: len(_LINE_STARTS)]
    if torn != _LINE_STARTS[: len(torn)]:
        raise InputError(file.path, "ends with something that is no result line", "restore the file, or name another one")
    return done


def _judged_with_another(row: Mapping[str, Any], judged_with: Mapping[str, Any]) -> str | None:
    """The first field in which a decision's bundle is another one; error lines have none."""
    return next((key for key, value in judged_with.items() if row["outcome"] != ERROR and row.get(key) != value), None)


def _places(source: Path) -> dict[str, list[str]]:
    """Submission id -> every place that names it; the whole source is read once, so that a broken one is found first."""
    places: dict[str, list[str]] = {}
    for job in _jobs(source):
        places.setdefault(job.id, []).append(job.place)
    if not places:
        raise SchemaError(source, "names no submissions", "give a folder of submission folders, or a CSV or JSONL manifest with rows")
    return places


def _pending(source: Path, places: Mapping[str, list[str]], done: set[str]) -> Iterator[Job]:
    """The jobs without a line; an id that is used twice becomes one error, since nobody knows which was meant."""
    for job in _jobs(source):
        same = places.get(job.id, [job.place])
        if job.id in done or job.place != same[0]:
            continue
        if len(same) > 1:
            error = SchemaError(source, f"id {job.id!r} is used by {', '.join(same)}", "give every submission an id of its own")
            yield Job(job.id, job.place, job.root, error=error)
        else:
            yield job


def _jobs(source: Path) -> Iterator[Job]:
    if source.is_dir():
        return _jobs_of_folder(source)
    match source.suffix.lower():
        case ".csv":
            return _jobs_of_manifest(source, _csv_rows)
        case ".jsonl":
            return _jobs_of_manifest(source, _jsonl_rows)
        case _:
            raise UnreadableError(source, "is neither a folder nor a .csv or .jsonl manifest", "name one of these")


def _jobs_of_folder(folder: Path) -> Iterator[Job]:
    if (folder / "submission.toml").is_file():
        raise SchemaError(folder, "is itself a submission", "use kyc-guard verify, or name the folder above it")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UnreadableError(folder, f"cannot be read ({error.strerror})", "name a folder you may read") from error
    for name in names:
        path = folder / name
        try:
            yield Job(Submission.from_dir(inside(folder, name, folder)).id, str(path), path)
        except InputError as error:
            yield Job(name, str(path), path, error=error)


def _jobs_of_manifest(manifest: Path, rows: Callable[[Path], Iterator[tuple[int, Any]]]) -> Iterator[Job]:
    try:
        for line, row in rows(manifest):
            place = f"{manifest.name}:{line}"
            submission = row.get("id") if isinstance(row, dict) else None
            if isinstance(row, InputError):
                yield Job(place, place, manifest.parent, error=row)
            elif not isinstance(submission, str) or not submission:
                yield Job(place, place, manifest.parent, error=SchemaError(place, "has no id", "give every row an id of its own"))
            else:
                yield Job(submission, place, manifest.parent, data=row)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(manifest, f"cannot be read ({error})", "name a readable UTF-8 file") from error
    except csv.Error as error:
        raise SchemaError(manifest, f"is not valid CSV ({error})", "save it as comma-separated UTF-8") from error


def _csv_rows(manifest: Path) -> Iterator[tuple[int, Any]]:
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        wrong = [c for c in columns if c not in _CSV_COLUMNS and not c.startswith("claims.")]
        if wrong or "id" not in columns:
            problem = f"has an unknown column {wrong[0]!r}" if wrong else "has no column id"
            raise SchemaError(manifest, problem, "use id, subject, selfie, document, claims.*; a JSONL manifest can say more")
        for cells in reader:
            line = reader.line_num
            if None in cells or None in cells.values():
                yield (
                    line,
                    SchemaError(f"{manifest.name}:{line}", "has more or fewer cells than the header", "quote cells that contain commas"),
                )
                continue
            row: dict[str, Any] = {k: v for k, v in cells.items() if v and not k.startswith("claims.")}
            if "document" in row:
                row["document"] = [name.strip() for name in row["document"].split(";")]
            claims = {k.removeprefix("claims."): v for k, v in cells.items() if v and k.startswith("claims.")}
            yield line, row | ({"claims": claims} if claims else {})


def _jsonl_rows(manifest: Path) -> Iterator[tuple[int, Any]]:
    with manifest.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                yield line, json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, SchemaError(f"{manifest.name}:{line}", f"is not valid JSON ({error})", "write one JSON object a line")
