"""Does a long batch stay within its memory: many short submissions through the worker processes, memory sampled all along.

    python -m benchmarks.soak [--count 2000] [--workers 2]

Writes ``results/soak.json``, ``soak.md`` and ``soak.svg``. The submissions are clips of one to two seconds in several sizes, every
eighth with a document, and now and then a file that is cut off: the work of a real batch in small. Memory is that of all processes
of the command, pages they share counted once (PSS); only Linux tells it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import submission
from benchmarks.memory import Sample, watched
from benchmarks.plots import memory_over_time
from benchmarks.record import RESULTS, Goal, goals_table, machine, number, plain, save, table
from kyc_guard.cli import reporting
from kyc_guard.cli.frame import EXIT_BAD_INPUT
from kyc_guard.config import Settings
from kyc_guard.errors import KycGuardError
from kyc_guard.pool import default_workers
from kyc_guard.provenance import identity
from kyc_guard.whole_file import write_whole

_KINDS: tuple[Mapping[str, Any], ...] = (
    {"seconds": 1.0, "size": (480, 360), "document": True},
    {"seconds": 1.0, "size": (640, 360)},
    {"seconds": 1.5, "size": (480, 640)},
    {"seconds": 1.0, "size": (640, 480), "faces": 2},
    {"seconds": 2.0, "size": (480, 360)},
    {"seconds": 1.0, "size": (360, 480)},
    {"seconds": 1.0, "size": (960, 540)},
    {"seconds": 1.0, "size": (480, 360)},
)
_BROKEN = 7
"""The kind whose clip is cut off, which gives an error line."""
_MOST_MB, _MOST_GROWTH = 1500.0, 1.05


@reporting(as_json=False)
def main(
    *,
    count: Annotated[int, typer.Option(min=8, help="How many submissions.")] = 2000,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one a core unless given.")] = None,
    every_s: Annotated[float, typer.Option(help="Seconds between two looks at the memory.")] = 2.0,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Watch the memory of a long batch."""
    workers = workers or default_workers()
    with tempfile.TemporaryDirectory(prefix="kyc-guard-soak-") as scratch:
        summary, samples = run(Path(scratch), count=count, workers=workers, every_s=every_s)
    found = plain(
        {
            "command": f"python -m benchmarks.soak --count {count}",
            "about": identity(Settings()),
            "machine": machine(),
            "workers": workers,
            **summary,
            **figures(samples, count),
            "samples": [asdict(s) for s in thinned(samples)],
        }
    )
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "soak", found, page(found))
    write_whole(out / "soak.svg", memory_over_time(found))
    typer.echo(page(found))


def run(scratch: Path, *, count: int, workers: int, every_s: float) -> tuple[dict[str, Any], list[Sample]]:
    """Make the submissions, judge them by the command that an operator runs, and look at its memory meanwhile.

    Returns:
        What the command printed, and the memory over time.

    Raises:
        KycGuardError: it did not end as a batch with some bad files does.
    """
    for i, kind in enumerate(_KINDS):
        submission.build(scratch / f"kind{i}", **{"fps": 25, "document": False, **kind})
    clip = scratch / f"kind{_BROKEN}" / "selfie.mp4"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    submission.copies([scratch / f"kind{i}" for i in range(len(_KINDS))], scratch / "submissions", count)
    out = scratch / "results.jsonl"
    command = ["-c", "from kyc_guard.cli import app; app()", "batch", str(scratch / "submissions"), "--out", str(out), "--json"]
    with (scratch / "summary.json").open("w+", encoding="utf-8") as printed:
        process = subprocess.Popen([sys.executable, *command, "--workers", str(workers)], stdout=printed)
        with watched(lambda: out.read_bytes().count(b"\n") if out.exists() else 0, root=process.pid, every_s=every_s) as samples:
            code = process.wait()
        printed.seek(0)
        if code != EXIT_BAD_INPUT:
            raise KycGuardError(f"kyc-guard batch ended with {code}: {printed.read()}")
        return json.loads(printed.read()), samples


def figures(samples: Sequence[Sample], count: int) -> dict[str, Any]:
    """Peak, and growth: the median of the last quarter of the submissions over that of the second, once everything is loaded."""
    quarters = [[s.total_mb for s in samples if q * count / 4 <= s.done < (q + 1) * count / 4] for q in range(4)]
    second, last = (float(np.median(q)) if q else None for q in (quarters[1], quarters[3]))
    return {
        "peak_mb": max((s.total_mb for s in samples), default=None),
        "largest_process_mb": max((s.largest_mb for s in samples), default=None),
        "second_quarter_mb": second,
        "last_quarter_mb": last,
        "growth": last / second if second and last else None,
    }


def thinned(samples: Sequence[Sample], most: int = 300) -> list[Sample]:
    """Evenly chosen ones, the first and the last among them."""
    if len(samples) <= most:
        return list(samples)
    return [samples[i] for i in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def goals(found: Mapping[str, Any]) -> list[Goal]:
    return [
        Goal("memory of all processes of a batch at its peak: MB", found["peak_mb"], _MOST_MB, at_least=False),
        Goal("memory in the last quarter over the second", found["growth"], _MOST_GROWTH, at_least=False),
    ]


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    on = found["machine"]
    header = (
        "submissions",
        "errors",
        "workers",
        "seconds",
        "per s",
        "peak MB",
        "largest process MB",
        "second quarter MB",
        "last quarter MB",
    )
    memory = (number(found[k], 0) for k in ("peak_mb", "largest_process_mb", "second_quarter_mb", "last_quarter_mb"))
    row = (found["submissions"], found["outcomes"].get("error", 0), found["workers"], found["took_s"], found["per_s"], *memory)
    return (
        f"# A long batch\n\n`{found['command']}` on {on['cpu']}, {on['cores']} cores, {on['memory_gb']} GB; load average before the run "
        f"{on['load_average_1min']}. Short clips, every eighth submission with a document, every eighth cut off. Memory of all processes, "
        "shared pages counted once.\n\n" + goals_table(found["goals"]) + table(header, [row]) + "![memory over time](soak.svg)\n"
    )


if __name__ == "__main__":
    typer.run(main)
