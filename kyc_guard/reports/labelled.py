"""The two files of an evaluation: a manifest of labelled media, and scores.csv. Their columns are those of docs/results.md."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from kyc_guard.errors import InputError, SchemaError, UnreadableError
from kyc_guard.reports.presentations import Presentation, Score
from kyc_guard.submission import inside

COLUMNS = ("path", "score", "abstained", "reason", "predicted_type")


def read_manifest(manifest: Path, root: Path | None, split: str | None = None) -> Iterator[Presentation]:
    """The rows, one at a time; a row that cannot be used carries its problem.

    Args:
        root: folder of the files; ``None`` = the media need not be here, and are not looked for.

    Raises:
        UnreadableError: no such file, no UTF-8. SchemaError: wrong columns, no rows, no rows of ``split``.
    """
    count = 0
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"path", "label", *(["split"] if split is not None else [])} - set(reader.fieldnames or [])
            if missing:
                raise SchemaError(
                    manifest, f"has no column {min(missing)}", "give a CSV with path,label,attack_type,source,subject[,group][,split]"
                )
            for cells in reader:
                if split is None or cells["split"] == split:
                    count += 1
                    yield _presentation(cells, root, f"{manifest.name}:{reader.line_num}")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(manifest, f"cannot be read ({error})", "name a readable UTF-8 CSV file") from error
    except csv.Error as error:
        raise SchemaError(manifest, f"is not valid CSV ({error})", "save it as comma-separated UTF-8") from error
    if not count:
        raise SchemaError(manifest, "has no rows" if split is None else f"has no rows of split {split!r}", "check the manifest and --split")


def _presentation(cells: Mapping[str, str | None], root: Path | None, place: str) -> Presentation:
    def cell(name: str) -> str:
        return (cells.get(name) or "").strip()

    path, label, matched = cells.get("path") or "", cell("label"), cell("matched")
    if "\n" in path or "\r" in path:
        # scores.csv holds one row a line; such a path could not be told from a torn row.
        raise SchemaError(place, "the path contains a line break", "rename the file")
    problem: tuple[str, str] | None = None
    file: Path | None = None
    if not path or label not in {"bona_fide", "attack"}:
        problem = ("invalid_row", f"{place}: label is {label!r}, path {path!r}; label must be bona_fide or attack")
    elif matched not in {"", "0", "1"}:
        problem = ("invalid_row", f"{place}: matched is {matched!r}; write 1, 0 or nothing")
    elif root is not None:
        try:
            file = inside(root, path, place)
            if not file.is_file():
                problem = ("missing_file", f"{place}: no file {file}")
        except (InputError, OSError) as error:
            problem = ("invalid_path", str(error))
    species = (cell("attack_type") or "unspecified") if label == "attack" else ""
    return Presentation(
        path,
        label,
        species,
        cell("source"),
        cell("subject"),
        cell("group"),
        file,
        problem,
        matched=bool(int(matched)) if matched and not problem else None,
    )


def header(path: Path) -> tuple[str, ...]:
    """The columns of a CSV file.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(path, f"cannot be read ({error})", "name a readable UTF-8 CSV file") from error


def read_scores(path: Path) -> Iterator[tuple[str, Score]]:
    """The rows of a scores.csv: path and Score, in the file's order.

    Raises:
        InputError: it cannot be read, lacks a column, or has a score that is no probability.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            missing = {"path", "score"} - set(names)
            if missing:
                raise SchemaError(path, f"has no column {min(missing)}", f"give a CSV with {','.join(COLUMNS)}")
            detectors = [n for n in names if n not in COLUMNS]
            for cells in reader:
                place = f"{path}:{reader.line_num}"
                value = _number(cells["score"], place)
                reason = cells.get("reason") or ("unknown" if value is None else None)
                yield (
                    cells["path"],
                    Score(value, reason, cells.get("predicted_type") or None, tuple(_number(cells[d], place) for d in detectors)),
                )
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(path, f"cannot be read ({error})", "name a readable UTF-8 CSV file") from error
    except csv.Error as error:
        raise SchemaError(path, f"is not valid CSV ({error})", "save it as comma-separated UTF-8") from error


def joined(manifest: Path, scores_csv: Path, *, split: str | None = None) -> list[tuple[Presentation, Score]]:
    """The manifest's rows, each with its row of a scores.csv in any order; the media need not be here.

    Raises:
        InputError: manifest or scores cannot be used, or a row of the manifest has no score row.
    """
    rows = list(read_manifest(manifest, None, split))
    scores: dict[str, Score] = {}
    for path, score in read_scores(scores_csv):
        if scores.setdefault(path, score) != score:
            raise SchemaError(scores_csv, f"has two different rows for {path!r}", "keep one of them")
    lost = next((row.path for row in rows if row.path not in scores), None)
    if lost is not None:
        raise SchemaError(
            scores_csv, f"has no row for {lost!r}", "score every row of the manifest; write an empty score where there is none"
        )
    return [(row, scores[row.path]) for row in rows]


def _number(text: str | None, place: str) -> float | None:
    if not text:
        return None
    try:
        value = probability(float(text))
    except ValueError:
        value = None
    if value is None:
        raise SchemaError(place, f"{text!r} is no probability", "write a number from 0 to 1, or nothing where the row abstained")
    return value


def probability(score: float | None) -> float | None:
    """``score``, or ``None`` for what is no probability (NaN, for one): it must never be written as a number."""
    return score if score is not None and math.isfinite(score) and 0.0 <= score <= 1.0 else None
