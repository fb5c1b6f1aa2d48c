"""The red team's report as a page: how many got through, and a picture of every attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kyc_guard.config import Limits, Sampling
from kyc_guard.media import read_clip
from kyc_guard.media.sampling import shrunk
from kyc_guard.reports import pages

_SIDE_PX = 280
_ORDER = ("through", "undecided", "stopped")


def page(report: Mapping[str, Any], folder: Path, limits: Limits) -> str:
    """The page of a report of `kyc_guard.redteam`; ``folder`` holds the files it names."""
    groups = {name: list(_shown(report, name, folder, limits)) for name in report["species"]}
    return pages.render("redteam.html", report=report, groups=groups)


def _shown(report: Mapping[str, Any], species: str, folder: Path, limits: Limits) -> Iterator[dict[str, Any]]:
    """The judged attacks of a species, what got through first, each with its middle frame."""
    mine = [a for a in report["attacks"] if a["species"] == species and a["verdict"] in _ORDER]
    for attack in sorted(mine, key=lambda a: (_ORDER.index(a["verdict"]), a["strength"], a["id"])):
        frames = read_clip(folder / attack["file"], Sampling(frames=3, burst_frames=0), limits).frames_rgb
        yield attack | {"picture": pages.picture(shrunk(frames[len(frames) // 2], _SIDE_PX))}
