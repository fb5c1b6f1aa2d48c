"""Judging: one submission, many, the demo, and the health of this installation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.cli.examining import Pack, Redacted, write_pack
from kyc_guard.cli.frame import EXIT_BAD_INPUT, EXIT_CODES, EXIT_INTERNAL, AsJson, Resume, TimeoutS, Workers, app, reporting, resumable
from kyc_guard.config import Settings
from kyc_guard.submission import Submission
from kyc_guard.types import Decision


@app.command()
def verify(
    submission_dir: Annotated[Path, typer.Argument(help="Folder with submission.toml, the selfie and the document.")],
    *,
    pack: Pack = None,
    redacted: Redacted = False,
    seen: Annotated[
        Path | None,
        typer.Option(
            help="File of the clips judged so far (hashes, no pixels), made if absent: was this one sent before?", show_default=False
        ),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also say where the time goes; judges the submission some ten times.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge one submission. The exit code is the outcome: 0 accept, 10 retry, 11 review, 12 reject."""
    from kyc_guard import profiling
    from kyc_guard.pipeline import Verifier  # mediapipe and onnxruntime take seconds; --help must not wait for them
    from kyc_guard.seen_clips import ClipMemory

    with reporting(as_json):
        submission = Submission.from_dir(submission_dir)
        with contextlib.nullcontext() if seen is None else ClipMemory(seen) as memory, Verifier(Settings(), seen=memory) as verifier:
            decision, evidence = verifier.examine(submission)
            if pack is not None:
                write_pack(pack, decision, evidence, verifier.bundle, redacted)
        costs = profiling.profile(submission, Settings()) if profile else None
        # allow_nan=False: a number that is none must become an error, never a result.
        text = json.dumps(decision.to_json() | ({"profile": costs.to_json()} if costs else {}), allow_nan=False)
    if as_json:
        print(text)
    else:
        show(decision)
        if costs:
            show_costs(costs.to_json())
    raise typer.Exit(EXIT_CODES[decision.outcome])


class Engine(StrEnum):
    """Where the workers of a batch run."""

    LOCAL = "local"
    RAY = "ray"


@app.command()
def batch(
    source: Annotated[Path, typer.Argument(help="Folder of submission folders, or a .csv or .jsonl manifest.")],
    *,
    out: Annotated[Path, typer.Option(help="Result file: one JSON line a submission. Never overwritten.")],
    workers: Workers = None,
    packs: Annotated[Path | None, typer.Option(help="Folder for an evidence pack of every decision.", show_default=False)] = None,
    resume: Resume = False,
    timeout_s: TimeoutS = 300.0,
    engine: Annotated[Engine, typer.Option(help="Processes of this machine, or actors of a Ray cluster (extra ray).")] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, such as ray://head:10001; Ray is started here unless given.", show_default=False),
    ] = None,
    gpus_per_worker: Annotated[float, typer.Option(min=0.0, help="Share of a GPU that each Ray worker reserves.")] = 0.0,
    net_actors: Annotated[
        int, typer.Option(min=0, help="Ray actors that hold the nets for all workers, each on a GPU where the cluster has one.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Judge many submissions. Exit code 0 if all were judged, 2 if some lines are errors, 130 if interrupted."""
    from kyc_guard import evidence_pack
    from kyc_guard.batch import run
    from kyc_guard.pool import ProcessCrew
    from kyc_guard.progress import bar
    from kyc_guard.ray_pool import Nets, RayCrew

    if engine is Engine.LOCAL and (address or gpus_per_worker or net_actors):
        raise typer.BadParameter("--address, --gpus-per-worker and --net-actors belong to --engine ray")
    with reporting(as_json), resumable():
        settings = Settings()
        nets = Nets(net_actors, settings) if net_actors else None
        crew = partial(RayCrew, address=address, gpus_per_worker=gpus_per_worker, nets=nets) if engine is Engine.RAY else ProcessCrew
        settings = settings.model_copy(update={"device": "ray"}) if nets else settings
        options = {} if packs is None else evidence_pack.batch_options(packs, settings)
        options |= {"workers": workers, "resume": resume, "timeout_s": timeout_s, "engine": crew, "progress": bar}
        summary = run(source, out, settings=settings, **options)
    if as_json:
        print(json.dumps(summary.to_json()))
    else:
        table = Table(title=f"{summary.total} submissions, {summary.judged} judged in {summary.took_s:.1f} s", title_justify="left")
        for column in ("outcome", "submissions", "top reasons and errors", "submissions"):
            table.add_column(column, overflow="fold")
        for (outcome, n), (reason, m) in zip_longest(summary.outcomes.most_common(), summary.reasons.most_common(8), fillvalue=("", "")):
            table.add_row(outcome, str(n), Text(reason), str(m))
        Console().print(table)
    raise typer.Exit(EXIT_BAD_INPUT if summary.errors else 0)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Examine this installation: versions, models, policy, colour order, disk, speed. Exit code 1 when something fails."""
    from kyc_guard.doctor import examine

    with reporting(as_json):
        checks = examine(Settings())
    if as_json:
        print(json.dumps({"ok": all(c.ok for c in checks), "checks": [asdict(c) for c in checks]}))
    else:
        table = Table(box=None)
        for column in ("", "check", "found"):
            table.add_column(column, overflow="fold")
        for check in checks:
            table.add_row("[green]ok[/]" if check.ok else "[bold red]FAIL[/]", check.name, Text(check.detail))
        Console().print(table)
    raise typer.Exit(0 if all(c.ok for c in checks) else EXIT_INTERNAL)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for submissions, results and the page; an earlier demo in it is replaced.")] = Path(
        "demo-out"
    ),
    camera: Annotated[int | None, typer.Option(help="Record yourself with this camera (0 is usual) and judge that too.")] = None,
    submissions: Annotated[Path | None, typer.Option(help="Judge your own submission folders too.")] = None,
    data: Annotated[Path, typer.Option(help="Shared data; clips of real people are judged too where it exists.")] = Path("../shared/data"),
    as_json: AsJson = False,
) -> None:
    """Build submissions from a public-domain portrait, judge them, and write a page with faces, scores and reasons."""
    from kyc_guard.demo import HONEST, run
    from kyc_guard.reports.demo_page import tally

    with reporting(as_json):
        shown = run(out, Settings(), camera=camera, own=submissions, data=data)
    if as_json:
        print(json.dumps({"notice": HONEST, "page": str(out / "index.html"), "judged": [{"truth": s.truth, **s.line} for s in shown]}))
        return
    table = Table(box=None)
    for column in ("submission", "in truth", "outcome", "P(attack)", "reasons"):
        table.add_column(column, overflow="fold")
    for one in shown:
        score = "-" if one.score is None else f"{one.score:.3f}"
        table.add_row(Text(one.id), one.truth, f"[bold]{one.outcome}[/]", score, Text(gravest(r["code"] for r in one.reasons)))
    console = Console()
    console.print(table)
    for sentence in (*tally(shown), HONEST, f"Page with faces, scores and reasons: {out / 'index.html'}"):
        console.print(sentence, markup=False, highlight=False)


def gravest(codes: Iterable[str], count: int = 3) -> str:
    """The first few of ``codes``, which come gravest first, and how many more there are."""
    every = list(codes)
    return ", ".join(every[:count]) + (f" +{len(every) - count}" if len(every) > count else "")


def show(decision: Decision) -> None:
    """One decision for human eyes, on stdout."""
    table = Table(title=Text(f"{decision.submission}: {decision.outcome.upper()}"), title_justify="left")
    for column in ("check", "P(attack)", "reasons"):
        table.add_column(column, overflow="fold")
    for signal in decision.signals:
        score = "could not judge" if signal.score is None else f"{signal.score:.3f}"
        # Text, because file names in a reason may look like markup.
        table.add_row(signal.detector, score, Text("\n".join(f"{r.code}: {r.detail}" for r in signal.reasons)))
    console = Console()
    console.print(table)
    for reason in decision.reasons:
        console.print(f"- {reason.code}: {reason.detail}", markup=False, highlight=False)
    console.print(f"Told the applicant: {decision.message}", markup=False, highlight=False)


def show_costs(costs: Mapping[str, Any]) -> None:
    """What `kyc_guard.profiling.Profile.to_json` gives, for human eyes."""
    table = Table(title=f"One thread: {costs['cpu_ms']:.0f} ms of CPU", title_justify="left")
    for column in ("stage", "calls", "wall ms", "CPU ms"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in costs["stages"]:
        table.add_row(row["stage"], str(row["calls"]), f"{row['wall_ms']:.1f}", f"{row['cpu_ms']:.1f}")
    console = Console()
    console.print(table)
    for threads, ms in costs["wall_ms"].items():
        console.print(f"Whole, threads {threads}: {ms:.0f} ms of wall time")
