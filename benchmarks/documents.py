"""Whether copies, replaced portraits, altered texts and generated pages of documents are noticed, and how many honest pages are suspected.

    python -m benchmarks.documents [--pages FOLDER] [--count 16] [--data FOLDER]

Writes ``results/documents.json`` and ``documents.md``. Judges with the whole document detector, reading included: the pictures of the
validation split that ``python -m training.documents make`` left (fictional layouts, people, fonts and tools that nothing was fitted on),
and the real specimens of the shared data, as they are and shown or printed and photographed again.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import RESULTS, between, machine, plain, save, share, table
from kyc_guard import pool
from kyc_guard.attacks import document, printing, screen
from kyc_guard.cli import reporting
from kyc_guard.config import Limits, Settings
from kyc_guard.detectors.document import DOUBTS, Document
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.documents.page import with_documents
from kyc_guard.errors import InputError, KycGuardError
from kyc_guard.media import read_image
from kyc_guard.progress import bar
from kyc_guard.reports.metrics import Rate, auc, auc_interval
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, UInt8Array

PAGES = Path.home() / ".cache" / "kyc_guard_training" / "documents" / "pages"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_TODAY = date(2026, 1, 1)
_SCREENS = {"monitor": screen.MONITOR, "phone": screen.PHONE, "retina": screen.RETINA, "oled": screen.OLED}
_PRINTS = {"halftone": printing.HALFTONE, "inkjet": printing.INKJET, "photo": printing.PHOTO, "laser_grey": printing.LASER_GREY}
_AGAIN = {
    **{f"screen_{name}": (document.show_page, ranges) for name, ranges in _SCREENS.items()},
    **{f"print_{name}": (document.print_page, ranges) for name, ranges in _PRINTS.items()},
}
"""How specimens are photographed again."""


@dataclass(frozen=True, slots=True)
class Task:
    """One picture to be judged."""

    path: Path
    tool: str
    """Empty = honest."""
    species: str
    held_out: bool
    cluster: str
    """Pictures of one layout, or of one specimen, resemble one another."""
    again: int | None = None
    """Seed of the second photograph, for specimens."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the detector said of one picture."""

    task: Task
    judged: bool
    """Whether the page was read at all, and large enough for the hints."""
    doubts: Mapping[str, float]
    findings: tuple[str, ...]
    """Kinds that passed their points."""
    wall_ms: float


def rendered(pages: Path, count: int) -> list[Task]:
    """The validation pictures, at most ``count`` a tool and ten times as many honest ones."""
    path = pages / "index.json"
    if not path.is_file():
        raise InputError(path, "is not there", "run python -m training.documents make, or name its folder with --pages")
    found: dict[str, list[Task]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        if row["split"] == "validation":
            task = Task(pages / row["file"], row["tool"], row["species"], row["held_out"], f"layout {row['layout']}")
            found.setdefault(row["tool"], []).append(task)
    return [task for tool, tasks in sorted(found.items()) for task in tasks[: count if tool else 10 * count]]


def specimens(data: Path) -> Iterator[Task]:
    """The real ones, and each of them photographed again in every way."""
    with (data / "documents.csv").open(newline="", encoding="utf-8") as file:
        paths = [data / row["path"] for row in csv.DictReader(file) if row["label"] == "bona_fide"]
    for i, path in enumerate(paths):
        yield Task(path, "", "", held_out=True, cluster=path.name)
        for k, tool in enumerate(_AGAIN):
            yield Task(path, tool, "recapture", held_out=True, cluster=path.name, again=100 * i + k)


@dataclass(frozen=True, slots=True)
class Judge:
    """`Task` -> `Trial`, in a worker process."""

    settings: Settings

    def __call__(self) -> Callable[[Task], Trial]:
        detector = Document.load(Bundle.load(self.settings))
        kinds = {code: kind for kind, (code, _) in DOUBTS.items()}

        def judge(task: Task) -> Trial:
            image, _ = read_image(task.path, Limits(), name=task.path.name)
            if task.again is not None:
                image = _photographed_again(image, task)
            started = time.perf_counter()
            signal = detector(with_documents(Evidence(Submission(id=task.path.stem), judged_on=_TODAY), image))
            took_ms = (time.perf_counter() - started) * 1000
            doubts = dict(signal.facts.get("doubts", {}))
            return Trial(task, bool(doubts), doubts, tuple(kinds[r.code] for r in signal.reasons if r.code in kinds), took_ms)

        return judge


def _photographed_again(image: UInt8Array, task: Task) -> UInt8Array:
    make, ranges = _AGAIN[task.tool]
    again: Any = make
    shot: document.Shot = again(np.random.default_rng(task.again), image, ranges=ranges)
    return shot.image_rgb


@reporting(as_json=False)
def main(
    *,
    pages: Annotated[Path, typer.Option(help="Pictures that python -m training.documents make left.")] = PAGES,
    data: Annotated[Path, typer.Option(help="The folder with documents.csv.")] = DATA,
    count: Annotated[int, typer.Option(help="Pictures a tool; ten times as many honest ones.")] = 16,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
) -> None:
    """Judge rendered documents nothing was fitted on, and the real specimens."""
    made, real = rendered(pages, count), list(specimens(data))
    trials: list[Trial] = []
    with bar(len(made) + len(real), 0) as advance:
        for _, trial in pool.run(Judge(Settings()), [*made, *real], workers=workers or pool.default_workers(), ordered=True):
            if isinstance(trial, pool.Failure):
                raise KycGuardError(f"{trial.code} {trial.detail}")
            trials.append(trial)
            advance()
    found = plain(
        {
            "command": f"python -m benchmarks.documents --count {count}",
            "about": {"machine": machine()},
            "rendered": figures(trials[: len(made)]),
            "specimens": figures(trials[len(made) :]),
        }
    )
    save(out, "documents", found, page(found))
    typer.echo(page(found))


def figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """Of each kind of suspicion: every tool against the honest pictures, and how many honest pictures it suspects."""
    honest = [t for t in trials if not t.task.tool]
    out: dict[str, Any] = {
        "honest": len(honest),
        "honest_not_judged": Rate.of(sum(not t.judged for t in honest), len(honest)),
        "honest_suspected": Rate.of(sum(bool(t.findings) for t in honest if t.judged), sum(t.judged for t in honest)),
        "kinds": {},
    }
    for kind in DOUBTS:
        mine = [t for t in trials if t.task.species == kind]
        groups = {
            **{tool: [t for t in mine if t.task.tool == tool] for tool in dict.fromkeys(t.task.tool for t in mine)},
            "known tools": [t for t in mine if not t.task.held_out],
            "held-out tools": [t for t in mine if t.task.held_out],
        }
        out["kinds"][kind] = {
            "honest_suspected": _suspected(honest, kind),
            "tools": {name: _against(honest, group, kind) for name, group in groups.items() if group},
        }
    return out


def _suspected(trials: Iterable[Trial], kind: str) -> Rate:
    judged = [t for t in trials if kind in t.doubts]
    return Rate.of(sum(kind in t.findings for t in judged), len(judged))


def _against(honest: Sequence[Trial], attacks: Sequence[Trial], kind: str) -> dict[str, Any]:
    heard = [t for t in (*honest, *attacks) if kind in t.doubts]
    scores, labels = np.array([t.doubts[kind] for t in heard]), np.array([bool(t.task.tool) for t in heard])
    named = sum(bool(t.findings) for t in attacks)
    out: dict[str, Any] = {
        "pictures": len(attacks),
        "held_out": all(t.task.held_out for t in attacks),
        "not_judged": sum(kind not in t.doubts for t in attacks),
        "found": _suspected(attacks, kind),
        "suspected_of_anything": Rate.of(named, len(attacks)),
        "auc": None,
    }
    if labels.any() and not labels.all():
        low, high = auc_interval(scores, labels, [t.task.cluster for t in heard]) or (None, None)
        out["auc"] = {"value": auc(scores[~labels], scores[labels]), "low": low, "high": high}
    return out


def page(found: Mapping[str, Any]) -> str:
    text = (
        f"# Doubt about documents\n\n`{found['command']}`. AUC with the 95 % interval over layouts or specimens; rates with exact ones.\n\n"
    )
    for name, title in (
        ("rendered", "Fictional documents, layouts and people nothing was fitted on"),
        ("specimens", "The real specimens of the shared data, and simulated copies of them"),
    ):
        part = found[name]
        text += f"## {title}\n\n{part['honest']} honest pictures; too small or not read: {share(part['honest_not_judged'])}; "
        text += f"suspected of anything: {share(part['honest_suspected'])}.\n\n"
        rows = []
        for kind, of_kind in part["kinds"].items():
            rows.append((f"**{kind}**", "honest pictures suspected", "", share(of_kind["honest_suspected"]), ""))
            for tool, row in of_kind["tools"].items():
                kept = " (held out)" if row["held_out"] and tool != "held-out tools" and name == "rendered" else ""
                rows.append(("", f"{tool}{kept}", between(row["auc"]), share(row["found"]), share(row["suspected_of_anything"])))
        text += table(("suspicion", "tool", "AUC", "found", "suspected of anything"), rows)
    return text


if __name__ == "__main__":
    typer.run(main)
