"""Thresholds for an operator's own users: labelled submissions in, a new thresholds file and its page out; see `kyc_guard.bands`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard import evaluate
from kyc_guard.bands import Data, Target, fit, log_odds, probability
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.errors import InputError, OutputError, SchemaError
from kyc_guard.fusion import fusion_weights
from kyc_guard.progress import Advance, silent
from kyc_guard.provenance import identity
from kyc_guard.reports import metrics
from kyc_guard.reports.labelled import COLUMNS, header, joined
from kyc_guard.reports.presentations import NO_PRESENTATION, Table
from kyc_guard.toml_text import toml_text
from kyc_guard.whole_file import write_whole


def run(
    source: Path,
    out: Path,
    target: Target,
    settings: Settings,
    *,
    manifest: Path | None = None,
    scores_dir: Path,
    root: Path | None = None,
    split: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: Callable[[int, int], contextlib.AbstractContextManager[Advance]] = silent,
) -> dict[str, Any]:
    """Calibrate and write the new thresholds file ``out`` and its page.

    Args:
        source: scores.csv of `kyc_guard.evaluate`, whose labels ``manifest`` has; or a manifest, scored into ``scores_dir`` first.

    Returns:
        What `kyc_guard.bands.fit` found.

    Raises:
        InputError: ``out`` exists, the files cannot be used, or too few presentations for the claim.
    """
    from kyc_guard.reports import calibration_page  # matplotlib takes a second

    if out.exists():
        raise _exists(out)
    if "label" in header(source):
        scorer = evaluate.Scorer.from_settings(settings)
        evaluate.run(source, scores_dir, root=root, split=split, scorer=scorer, workers=workers, resume=resume, progress=progress)
        manifest, scores_csv = source, scores_dir / "scores.csv"
    elif manifest is None:
        raise InputError(source, "has no labels", "add --manifest, the CSV that evaluate was run on")
    else:
        scores_csv = source
    policy, thresholds = Policy.load(settings.policy_path), Thresholds.load(settings.thresholds_path)
    found = fit(read(manifest, scores_csv, settings, split=split), target, policy, thresholds)
    files = {"manifest": manifest, "scores": scores_csv}
    write(out, found, thresholds, settings, files=files, command=_command(target))
    write_whole(out.with_suffix(".html"), calibration_page.page(found, written=out.name, data={k: str(v) for k, v in files.items()}))
    return found


def _command(target: Target) -> str:
    rejecting = f" --reject-bpcer {100 * target.reject_bpcer:g}%" if target.reject_bpcer is not None else ""
    return f"kyc-guard calibrate --target-{target.kind} {100 * target.limit:g}%{rejecting}"


def _exists(out: Path) -> InputError:
    return InputError(out, "exists already; a thresholds file is never replaced", "name another file")


def read(manifest: Path, scores_csv: Path, settings: Settings, *, split: str | None = None) -> Data:
    """The rows of ``manifest`` with their detectors' scores.

    Raises:
        InputError: the files cannot be used or do not belong together, or other models made the scores.
    """
    thresholds = Thresholds.load(settings.thresholds_path)
    weights = fusion_weights(thresholds)
    names = tuple(name for name in header(scores_csv) if name not in COLUMNS)
    if missing := sorted(set(weights) - set(names)):
        raise SchemaError(scores_csv, f"has no column {missing[0]}", "give the scores.csv that kyc-guard evaluate wrote")
    _demand_same_models(scores_csv, thresholds, settings)
    pairs = joined(manifest, scores_csv, split=split)
    everything = Table.of([row for row, _ in pairs], [score for _, score in pairs])
    heard = [(row, s) for row, s in pairs if row.problem is None and s.reason not in NO_PRESENTATION and s.score is not None]
    table = Table.of([row for row, _ in heard], [score for _, score in heard])
    columns = np.array([score.detectors for _, score in heard], dtype=np.float64).reshape(len(heard), len(names))
    by_name = {name: columns[:, names.index(name)] for name in weights}
    judged = np.stack([~np.isnan(c) for c in by_name.values()])
    weight = np.array(list(weights.values()))[:, None] * judged
    evidence = np.nan_to_num(log_odds(np.stack(list(by_name.values()))))
    fused = probability((weight * evidence).sum(axis=0) / np.where(judged.any(axis=0), weight.sum(axis=0), 1.0))
    return Data(
        is_attack=table.is_attack,
        species=table.species,
        person=table.cluster,
        scores={**by_name, "fusion": np.where(judged.sum(axis=0) > 1, fused, np.nan)},
        silent={
            name: metrics.non_response(int(np.count_nonzero(everything.silent & mine)), int(np.count_nonzero(mine)))
            for name, mine in (("bpnrr", ~everything.is_attack), ("apnrr", everything.is_attack))
        },
    )


def _demand_same_models(scores_csv: Path, thresholds: Thresholds, settings: Settings) -> None:
    """A threshold fits the scores of one bundle only."""
    record = scores_csv.with_name("run.json")
    try:
        made_by = json.loads(record.read_bytes())
        made_models, made_with = made_by["models"], made_by["thresholds_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(scores_csv, f"does not say which models made it ({record.name}: {error!r})", "keep run.json beside it") from error
    # The scores do not depend on the points that an earlier calibration moved.
    if made_models != identity(settings)["models"] or made_with not in {thresholds.sha256, _record(thresholds).get("parent_sha256")}:
        raise InputError(scores_csv, "was made by other models or thresholds than the present ones", "score the manifest again")


def _record(thresholds: Thresholds) -> Mapping[str, Any]:
    return thresholds.table("calibrated")


def write(
    out: Path, found: Mapping[str, Any], thresholds: Thresholds, settings: Settings, *, files: Mapping[str, Path], command: str
) -> None:
    """Write a new thresholds file: the present one with the points of ``found``, and ``[calibrated]``, which says whence they come.

    Args:
        files: what was calibrated on, by name; their hashes are recorded.

    Raises:
        InputError: ``out`` exists; a thresholds file is never replaced. OutputError: it cannot be written.
    """
    tables = {name: dict(table) for name, table in thresholds.tables.items()}
    for detector, points in found["points"].items():
        table = tables[detector]
        table["points"] = {**table["points"], **points}
        if "points_named_after" in table:
            table["points_named_after"] = {k: v for k, v in table["points_named_after"].items() if k not in points}
    tables["calibrated"] = {
        "version": int(_record(thresholds).get("version", 0)) + 1,
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "parent_sha256": thresholds.sha256,
        "data_sha256": {name: _sha256(path) for name, path in files.items()},
        "models": identity(settings)["models"],
        "bounds": {bound["of"]: {k: v for k, v in bound.items() if k != "of"} for bound in found["bounds"]},
    }
    text = "# Written by kyc-guard calibrate; not to be edited. Use it by KYC_GUARD_THRESHOLDS_PATH.\n" + toml_text(tables)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise _exists(out) from error
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}). Remedy: name a file in a folder you may write to") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
