"""What judging costs: each net, one face, one whole submission beside only decoding its clip, and batches.

    python -m benchmarks.throughput [--quick] [--only nets] [--only submission] [--batch 200] [--price 0.05] [--peer A.onnx]

Writes ``results/throughput.json``, ``throughput.md`` and ``throughput.svg``. Rivals are timed in turn in one process and their ratios
taken of CPU time, so ratios hold on a busy machine and milliseconds do not; the load average stands in the results. Nothing is printed
that was not measured: without a GPU there is no GPU row (on a machine with one the same command adds them), without the onnx package no
stand-in for the MiniFASNet pair.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import nets, roof, submission
from benchmarks.plots import speed
from benchmarks.record import RESULTS, Goal, machine, plain, save
from benchmarks.throughput_page import page
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.pipeline import Verifier
from kyc_guard.pool import default_workers
from kyc_guard.provenance import identity
from kyc_guard.whole_file import write_whole

_PARTS = ("nets", "submission")
_ENOUGH = 50
"""Submissions from which the rates of batches are worth comparing."""


@reporting(as_json=False)
def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: fewer batch sizes, shorter clips, less repetition.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="nets or submission, the other stays as it was; both unless given.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to time each net and batch size; a submission five times that.")] = 1.0,
    threads: Annotated[list[int] | None, typer.Option(help="Threads of the nets (repeatable); 1 and one a core unless given.")] = None,
    clip_s: Annotated[float, typer.Option(help="Length of the made clip.")] = 10.0,
    batch: Annotated[int, typer.Option(help="Also judge that many submissions in batches with one worker and with one a core.")] = 0,
    peer: Annotated[list[Path] | None, typer.Option(help="ONNX file of another model, timed like ours (repeatable).")] = None,
    price: Annotated[float | None, typer.Option(help="Price of one core for one hour, for the cost of a million submissions.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measure the speed of nets and of whole submissions."""
    parts = only or list(_PARTS)
    if unknown := set(parts) - set(_PARTS):
        raise typer.BadParameter(f"--only {unknown.pop()}: there are {' and '.join(_PARTS)}")
    settings, cores = Settings(), default_workers()
    batches, lengths_s, faces = [*nets.BATCHES], [2.0, 5.0, 10.0, 20.0], [1, 2, 4]
    if quick:
        seconds, clip_s, threads = 0.1, 3.0, [1]
        batches, lengths_s, faces = [1, 8, 32], [1.0, 3.0], [1, 3]
    about, before = plain(identity(settings)), out / "throughput.json"
    found: dict[str, Any] = json.loads(before.read_text(encoding="utf-8")) if only and before.exists() else {}
    if found.get("about") != about:
        found = {}
    found |= {
        "command": "python -m benchmarks.throughput" + (" --quick" if quick else ""),
        "about": about,
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="kyc-guard-bench-") as scratch:
        if "nets" in parts:
            counts = threads or sorted({1, cores})
            found["nets"] = of_nets(settings, Path(scratch), threads=counts, batches=batches, seconds=seconds, peers=peer or [])
        if "submission" in parts:
            found["submission"] = of_submission(settings, Path(scratch), clip_s=clip_s, seconds=seconds, batch=batch, price=price)
            found["submission"]["growth"] = submission.growth(Path(scratch), Verifier, settings, lengths_s=lengths_s, faces=faces)
    found = plain(found)
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "throughput", found, page(found))
    write_whole(out / "throughput.svg", speed(found))
    typer.echo(page(found))


def of_nets(
    settings: Settings, scratch: Path, *, threads: list[int], batches: Sequence[int], seconds: float, peers: list[Path]
) -> dict[str, Any]:
    """Ours, foreign ones and the stand-in pair; what one face costs through all views; and what the machine can compute at most."""
    pair, written = nets.standins(scratch)
    weights = [*nets.shipped(settings), *nets.foreign(peers), *pair]
    rows = nets.sweep(weights, threads=threads, seconds=seconds, portion=settings.net_batch, batches=batches)
    with Verifier(settings.model_copy(update={"threads": 1})) as verifier:
        faces = nets.faces(verifier, seconds=seconds)
    about = [{"name": s.path.stem, "parameters": s.parameters, "multiply_adds": s.multiply_adds} for s in written]
    roofs = {str(count): roof.measured(scratch, threads=count, seconds=seconds) for count in threads}
    return {
        "rows": rows,
        "best": nets.best_batches(rows),
        "faces": faces,
        "roof": roofs,
        "standin": {"nets": about, "pair": nets.pair_rates(rows)} if pair else None,
    }


def of_submission(settings: Settings, scratch: Path, *, clip_s: float, seconds: float, batch: int, price: float | None) -> dict[str, Any]:
    """One submission end to end, its stages, and batches of it."""
    cores = default_workers()
    made = submission.build(scratch / "one", seconds=clip_s)
    whole = submission.end_to_end(scratch / "one", Verifier, settings, seconds=5 * seconds, cores=cores)
    stages = submission.stages(scratch / "one", Verifier, settings)
    found: dict[str, Any] = {"made": made, "whole": whole, "stages": stages, "liveness": submission.liveness_over_decoding(stages)}
    if batch:
        found["batch"] = [
            submission.in_batch(scratch / "one", scratch, settings, count=batch, workers=workers) for workers in sorted({1, cores})
        ]
    if price is not None:
        core_s = whole["times"]["verify, threads 1"]["cpu_ms"] / 1000
        found["cost_per_million"] = {"price_per_core_hour": price, "cost": 1e6 * core_s / 3600 * price}
    return found


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """What issues 2, 3, 4 and 7 ask for, of what was measured."""
    wanted = []
    if part := found.get("nets"):
        clip, still = ({row["faces"]: row for row in part["faces"] if row["kind"] == kind} for kind in ("clip", "still"))
        pair = {(p["batch"], p["threads"]): p for p in (part["standin"] or {"pair": []})["pair"] if p["device"] == "cpu"}
        faster = pair[32, 1]["cpu_ms_per_face"] / clip[32]["cpu_ms_per_face"] if 32 in clip and (32, 1) in pair else None
        ours = [row["share_of_bare"] for row in part["rows"] if not row["net"].startswith("standin")]
        wanted += [
            Goal(
                "one face of a clip, all views, batch 1, one thread: ms", clip[1]["ms_per_face"] if 1 in clip else None, 4.0, at_least=False
            ),
            # Accuracy on pictures is that of this path, so its time stands beside the same limit.
            Goal("one still, every look, batch 1, one thread: ms", still[1]["ms_per_face"] if 1 in still else None, 4.0, at_least=False),
            Goal("faces/s of a clip at batch 32 over those of the stand-in pair", faster, 1.0, at_least=True),
            Goal("slowest net's share of the speed of ONNX Runtime alone", min(ours, default=None), 0.7, at_least=True),
        ]
    if part := found.get("submission"):
        times = part["whole"]["times"]
        most = max((name for name in times if name.startswith("verify")), key=lambda name: int(name.rsplit(" ", 1)[1]))
        wanted += [
            Goal(f"one submission, {most}: ms", times[most]["median_ms"], 1500.0, at_least=False),
            Goal(
                f"one submission, {most}: wall time over decoding its clip on one",
                part["whole"]["ratio_to_decoding_wall"],
                2.0,
                at_least=False,
            ),
            *(
                Goal(f"liveness, challenge and injection over decoding the clip, session {kind}", ratio, 0.6, at_least=False)
                for kind, ratio in (part["liveness"] or {}).items()
            ),
        ]
        if len(runs := part.get("batch", [])) > 1 and runs[0]["total"] >= _ENOUGH:
            speed_up = runs[-1]["once_loaded_per_second"] / runs[0]["once_loaded_per_second"]
            wanted.append(Goal("batch: rate with every core over that of one process", speed_up, 1.7, at_least=True))
            wanted.append(Goal("batch: memory of all processes at its peak, MB", runs[-1]["peak_memory_mb"], 1500.0, at_least=False))
    return wanted


if __name__ == "__main__":
    typer.run(main)
