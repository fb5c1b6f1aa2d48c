"""The worst errors as pictures, in a page of their own: faces are personal data, so the report itself shows none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError
from kyc_guard.media import read_clip
from kyc_guard.media.sampling import shrunk
from kyc_guard.reports.pages import picture, render
from kyc_guard.whole_file import write_whole

_SIDE_PX = 240
_ONE_FRAME = Sampling(frames=1, burst_frames=0)


def write(path: Path, report: Mapping[str, Any], files: Mapping[str, Path], limits: Limits) -> None:
    """Write the worst rows of ``report`` (see `kyc_guard.reports.evaluation.figures`) with a picture each.

    Args:
        path: replaced if it exists; readable by its owner alone.
        files: a row's path -> its file; a row without one, or whose file cannot be read, is shown without a picture.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    points = {name: at["threshold"] for name, at in report["operating_points"].items()}
    shown = {kind: list(_shown(report["worst"][kind], files, points, limits)) for kind in ("attacks", "bona_fides")}
    write_whole(path, render("gallery.html", about=report["about"], shown=shown), mode=0o600)


def _shown(rows: list[dict[str, Any]], files: Mapping[str, Path], points: Mapping[str, float], limits: Limits) -> Iterator[dict[str, Any]]:
    for row in rows:
        passed = [name for name, threshold in sorted(points.items(), key=lambda p: p[1]) if row["score"] >= threshold]
        found: dict[str, Any] = {**row, "reached": passed[-1] if passed else None, "picture": None, "why_not": "no file at hand"}
        if row["path"] in files:
            try:
                frame = read_clip(files[row["path"]], _ONE_FRAME, limits, row["path"]).frames_rgb[0]
                found["picture"] = picture(shrunk(frame, _SIDE_PX))
            except InputError as error:
                found["why_not"] = error.problem
        yield found
