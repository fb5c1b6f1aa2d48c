"""What a benchmark leaves: its figures as JSON beside what measured them, and tables for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kyc_guard.whole_file import write_whole

RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("numpy", "onnxruntime", "opencv-python", "mediapipe", "av", "rapidocr")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure the project wants to reach; ``value`` is ``None`` where it was not measured."""

    name: str
    value: float | None
    limit: float
    at_least: bool
    """Whether the value must be at least or at most the limit."""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would give them back: dataclasses inside become dicts.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return dict(json.loads(json.dumps(figures, default=asdict, allow_nan=False)))


def save(folder: Path, name: str, figures: Mapping[str, Any], page: str) -> None:
    """Write ``folder/name.json`` and, for people, ``folder/name.md``.

    Raises:
        OutputError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_whole(folder / f"{name}.md", page)


def machine() -> dict[str, Any]:
    """What the figures were measured on; the load average tells a busy machine from a quiet one."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1) if hasattr(os, "sysconf") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ends with an empty line."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines) + "\n"


def goals_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """What was wanted, what was measured, and whether it is met."""
    words = {None: "not measured", True: "yes", False: "**no**"}
    rows = ((g["name"], f"{'>=' if g['at_least'] else '<='} {g['limit']:g}", number(g["value"]), words[g["met"]]) for g in goals)
    return table(("goal", "wanted", "measured", "met"), rows)


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def between(estimate: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``value [low, high]``."""
    if estimate is None or estimate["value"] is None:
        return "-"
    inside = ", ".join(number(estimate[k], digits) for k in ("low", "high"))
    return f"{number(estimate['value'], digits)} [{inside}]"


def share(rate: Mapping[str, Any] | None) -> str:
    """A rate in percent with its exact interval and its counts."""
    if rate is None or rate["value"] is None:
        return "-"
    return f"{100 * rate['value']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}] {rate['errors']}/{rate['n']}"
