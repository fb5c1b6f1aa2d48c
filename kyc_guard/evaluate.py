"""Score a labelled manifest of pictures and clips, and report on it.

``DIR/scores.csv`` has the columns ``path, score, abstained, reason, predicted_type`` and one a detector, rows in the
manifest's order; other tools read it, so its columns are fixed. ``score`` is P(attack), empty where the row abstained. It is
written row by row while the models run, and resumed after a kill. The report is made of the manifest and that file alone.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kyc_guard import pool
from kyc_guard.batch import verifier_on_one_core
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.errors import InputError, LimitError, UnreadableError
from kyc_guard.fusion import fusion_weights
from kyc_guard.progress import Advance, silent
from kyc_guard.provenance import identity
from kyc_guard.reports.evaluation import report_from_scores
from kyc_guard.reports.labelled import COLUMNS, joined, probability, read_manifest, read_scores
from kyc_guard.reports.presentations import Presentation, Score
from kyc_guard.result_lines import LineFile
from kyc_guard.submission import inside
from kyc_guard.whole_file import write_whole

if TYPE_CHECKING:
    from kyc_guard.pipeline import AttackScore

ScoreMedia: TypeAlias = "Callable[[Path, str], AttackScore]"


@dataclass(frozen=True, slots=True)
class LoadScorer:
    """What a worker process is started with."""

    settings: Settings

    def __call__(self) -> ScoreMedia:
        return verifier_on_one_core(self.settings).attack_score


@dataclass(frozen=True, slots=True)
class Scorer:
    """What scores. ``make`` is called once in each worker process, must be picklable.

    Attributes:
        detectors: the columns behind `COLUMNS`.
        points: name -> threshold on the fused score at which APCER and BPCER are reported.
        identity: facts that must not change between a run and its resumption.
    """

    make: Callable[[], ScoreMedia]
    detectors: tuple[str, ...]
    points: Mapping[str, float]
    identity: Mapping[str, Any]

    @classmethod
    def from_settings(cls, settings: Settings) -> Scorer:
        """The shipped models; their operating points are those policy.toml names for face_attack.

        Raises:
            ConfigError, ModelError: nothing may be judged.
        """
        thresholds = Thresholds.load(settings.thresholds_path)
        return cls(LoadScorer(settings), tuple(fusion_weights(thresholds)), operating_points(settings), identity(settings))


def operating_points(settings: Settings) -> dict[str, float]:
    """Threshold by name: where policy.toml sends a face_attack score to review and to reject."""
    thresholds = Thresholds.load(settings.thresholds_path)
    check = Policy.load(settings.policy_path).checks["face_attack"]
    return {name: thresholds.point("face_attack", name) for name in (check.review_at, check.reject_at) if name is not None}


def run(
    manifest: Path,
    out: Path,
    *,
    root: Path | None = None,
    split: str | None = None,
    scorer: Scorer | None = None,
    workers: int | None = None,
    resume: bool = False,
    timeout_s: float | None = None,
    gallery: bool = False,
    progress: Callable[[int, int], contextlib.AbstractContextManager[Advance]] = silent,
) -> dict[str, Any]:
    """Score every row of ``manifest`` (of ``split``), write scores.csv, report.json and report.html into ``out``.

    Args:
        manifest: CSV with columns path, label (bona_fide | attack) and, where known, attack_type, source, subject, group,
            split, matched (1 | 0: whether the face matcher took it for the person on record). Paths are relative to
            ``root``, else to the manifest's folder, and may not leave it.
        resume: go on with the scores.csv that is there.
        timeout_s: a row that takes longer, twice, is a non-response.
        gallery: write gallery.html too, which shows the faces of the worst errors.

    Returns:
        The report, as in report.json.

    Raises:
        InputError: the manifest cannot be used, or ``out`` holds scores already (or, resuming, those of another run).
        OutputError: ``out`` cannot be written. ConfigError, ModelError: nothing may be judged.
    """
    scorer = scorer or Scorer.from_settings(Settings())
    root = root or manifest.parent
    # Reading the whole manifest first finds its faults before hours of work, and counts the rows for the time left.
    total = sum(1 for _ in read_manifest(manifest, root, split))
    about = {"manifest": manifest.name, "manifest_sha256": _sha256(manifest), "split": split, **scorer.identity}
    with _open_scores(out, scorer, about, resume=resume) as file:
        done = _already_scored(file, scorer.detectors, manifest, root, split)
        file.repair()
        if not any(True for _ in file.whole_lines()):
            file.append(_csv_line((*COLUMNS, *scorer.detectors)))
        tasks = (row for i, row in enumerate(read_manifest(manifest, root, split)) if i >= done)
        work = _Work(scorer.make, scorer.detectors)
        results = pool.run(work, tasks, workers=workers, timeout_s=timeout_s, ordered=True)
        with contextlib.closing(results), progress(total, done) as advance:
            for row, result in results:
                score = Score(None, result.code, None, (None,) * len(scorer.detectors)) if isinstance(result, pool.Failure) else result
                file.append(_csv_line(_cells(row, score)))
                advance()
    rows = list(read_manifest(manifest, root, split))
    scores = [score for _, score in read_scores(out / "scores.csv")]
    report = report_from_scores(rows, scores, out, points=scorer.points, about=about)
    if gallery:
        _write_gallery(out, report, {row.path: row.file for row in rows if row.file is not None})
    return report


def _write_gallery(out: Path, report: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    from kyc_guard.reports import gallery  # decoding pictures takes seconds to import

    gallery.write(out / "gallery.html", report, files, Settings().limits)


@dataclass(frozen=True, slots=True)
class _Work:
    """Presentation -> Score, in a worker process."""

    make: Callable[[], ScoreMedia]
    detectors: tuple[str, ...]

    def __call__(self) -> Callable[[Presentation], Score]:
        score_media = self.make()
        nothing = (None,) * len(self.detectors)

        def work(row: Presentation) -> Score:
            if row.problem is not None:
                return Score(None, row.problem[0], None, nothing)
            assert row.file is not None
            try:
                answer = score_media(row.file, row.path)
            except InputError as error:
                return Score(None, _code(error), None, nothing)
            by_name = {s.detector: s.score for s in answer.signals}
            detectors = tuple(probability(by_name.get(name)) for name in self.detectors)
            if answer.score is not None and probability(answer.score) is None:
                return Score(None, "invalid_score", None, detectors)
            return Score(answer.score, answer.reason, answer.species, detectors)

        return work


def _code(error: InputError) -> str:
    match error:
        case LimitError():
            return "limit"
        case UnreadableError():
            return "unreadable"
        case _:
            return "bad_input"


def report_on(
    manifest: Path,
    scores_csv: Path,
    out: Path,
    *,
    root: Path | None = None,
    split: str | None = None,
    points: Mapping[str, float],
    gallery: bool = False,
) -> dict[str, Any]:
    """Report on scores that are there already, from whatever model; no model is run, and media are opened for the gallery alone.

    Raises:
        InputError: manifest or scores cannot be used, or a row of the manifest has no score row. OutputError: as `run`.
    """
    pairs = joined(manifest, scores_csv, split=split)
    out.mkdir(parents=True, exist_ok=True)
    about = {"manifest": manifest.name, "manifest_sha256": _sha256(manifest), "split": split, "scores": scores_csv.name}
    report = report_from_scores([row for row, _ in pairs], [score for _, score in pairs], out, points=points, about=about)
    if gallery:
        worst = [row["path"] for rows in report["worst"].values() for row in rows]
        _write_gallery(out, report, {path: inside(root or manifest.parent, path, manifest) for path in worst})
    return report


def _open_scores(out: Path, scorer: Scorer, about: Mapping[str, Any], *, resume: bool) -> LineFile:
    """scores.csv, new or to be gone on with; run.json beside it says what it was begun with."""
    with contextlib.suppress(OSError):  # the next open names the trouble better
        out.mkdir(parents=True, exist_ok=True)
    file = LineFile(out / "scores.csv", resume=resume)
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        _same_run(out / "run.json", {**about, "detectors": list(scorer.detectors)}, begun=any(True for _ in file.whole_lines()))
        undo.pop_all()
    return file


def _same_run(record: Path, run: Mapping[str, Any], *, begun: bool) -> None:
    if not begun:
        write_whole(record, json.dumps(run, indent=1) + "\n")
        return
    try:
        before = dict(json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(record, f"does not say what scores.csv was begun with ({error})", "name another folder") from error
    changed = [key for key, value in run.items() if before.get(key) != value]
    if changed:
        raise InputError(
            record.parent, f"was begun with another {changed[0]}", "resume with what it was begun with, or name another folder"
        )


def _already_scored(file: LineFile, detectors: Sequence[str], manifest: Path, root: Path, split: str | None) -> int:
    """How many of the manifest's first rows have their line.

    Raises:
        InputError: the lines are not the beginning of this run.
    """
    header = _csv_line((*COLUMNS, *detectors))
    wrong = InputError(file.path, "is not the beginning of this run", "name another folder")
    lines = file.whole_lines()
    first = next(lines, None)
    if first is None:
        torn = file.torn()
        if torn != (header + "\n").encode()[: len(torn)]:
            raise wrong
        return 0
    if first.decode(errors="replace") != header:
        raise wrong
    wanted = read_manifest(manifest, root, split)
    done = 0
    for cells in csv.reader(line.decode(errors="replace") for line in lines):
        row = next(wanted, None)
        if row is None or len(cells) != len(COLUMNS) + len(detectors) or cells[0] != row.path:
            raise wrong
        done += 1
    return done


def _cells(row: Presentation, score: Score) -> Iterable[str]:
    def text(value: str | None) -> str:
        return " ".join((value or "").split())

    yield row.path
    yield _decimal(score.score)
    yield "1" if score.score is None else "0"
    yield text(score.reason)
    yield text(score.predicted_type)
    yield from map(_decimal, score.detectors)


def _decimal(score: float | None) -> str:
    return "" if score is None else repr(float(score))


def _csv_line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
