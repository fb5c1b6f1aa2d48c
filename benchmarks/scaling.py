"""From one machine to a thousand: what saturates first and what a million submissions cost, from what was measured on one.

    python -m benchmarks.scaling [--price 0.05] [--cores 2] [--storage-gbit 100]

Reads ``results/throughput.json`` of a run with ``--batch``, measures what handing out one submission and writing its line costs the one
process that does it (locally, and by Ray where it is installed), and writes ``scaling.md`` beside this file and ``results/scaling.json``.

The model: machines judge in parallel; the coordinator and the storage are shared. A rate is the least of what each of the three could do
alone. A simulation of the queues, seeded, with the measured spread of times, says how far below that a cluster really stays.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import RESULTS, machine, number, plain, table
from kyc_guard import batch
from kyc_guard.cli import reporting
from kyc_guard.errors import InputError
from kyc_guard.pool import Engine, ProcessCrew
from kyc_guard.ray_pool import RayCrew
from kyc_guard.whole_file import write_whole

PAGE = Path(__file__).resolve().parent / "scaling.md"
_MACHINES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_LINE_BYTES = 6000
"""Of a result line, about."""
_SIGMAS_TO_P95 = 1.645
_DECODING = "decode only"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is shared, and what a submission takes of it.

    Attributes:
        compute_s: one core's time for a submission, while all cores of its machine are at work.
        spread: standard deviation of the logarithm of that time.
        bytes_each: read from the storage for one submission.
        coordinator_s: time of the one process that hands out and writes down.
    """

    compute_s: float
    spread: float
    bytes_each: float
    coordinator_s: float
    cores: int
    storage_bytes_s: float
    network_bytes_s: float
    price_per_core_hour: float

    def limits(self, machines: int) -> dict[str, float]:
        """Submissions a second that each part alone would allow."""
        return {
            "cores": machines * self.cores / self.compute_s,
            "network of the machines": machines * self.network_bytes_s / self.bytes_each,
            "storage": self.storage_bytes_s / self.bytes_each,
            "coordinator": 1 / self.coordinator_s,
        }

    def saturates_at(self, part: str) -> float:
        """How many machines it takes until ``part``, which is shared, and not their cores, sets the rate."""
        return self.limits(1)[part] / self.limits(1)["cores"]


def simulated(cluster: Cluster, machines: int, *, each: int = 30, seed: int = 0) -> float:
    """Submissions a second of a cluster with queues: each core asks the coordinator, fetches from the storage, computes, and asks again.

    Coordinator and storage serve one after the other, first come, first served. The first and last rounds are left out.

    Args:
        each: submissions a core judges.
    """
    rng = np.random.default_rng(seed)
    workers = machines * cluster.cores
    # A log-normal time whose mean is the measured one.
    times = cluster.compute_s * rng.lognormal(-(cluster.spread**2) / 2, cluster.spread, (each, workers))
    fetch_s = cluster.bytes_each / cluster.storage_bytes_s
    asking = [(0.0, worker, 0) for worker in range(workers)]
    coordinator_free = storage_free = 0.0
    ends = []
    while asking:
        now, worker, done = heapq.heappop(asking)
        if done == each:
            continue
        coordinator_free = max(now, coordinator_free) + cluster.coordinator_s
        storage_free = max(coordinator_free, storage_free) + fetch_s
        ends.append(storage_free + float(times[done, worker]))
        heapq.heappush(asking, (ends[-1], worker, done + 1))
    ends.sort()
    first, last = len(ends) // 5, len(ends) * 4 // 5
    return (last - first) / (ends[last] - ends[first])


@dataclass(frozen=True, slots=True)
class _Line:
    """A decision as far as a result line is concerned."""

    submission: str

    def to_json(self) -> dict[str, Any]:
        return {"submission": self.submission, "outcome": "accept", "score": 0.1, "reasons": [], "message": "x" * _LINE_BYTES}


class Answering:
    """For `batch.run`: judges nothing, so that what is left is the coordinator."""

    def __call__(self) -> batch.Verify:
        return lambda submission: _Line(submission.id)


def coordinator_s(scratch: Path, engine: Engine, *, count: int) -> float:
    """CPU time that the process of a batch spends on one submission besides judging: reading its row, handing it out, writing its line."""
    manifest = scratch / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({"id": f"s{i:06d}", "selfie": f"s{i:06d}.mp4"}) + "\n" for i in range(count)), encoding="utf-8")
    marks: list[float] = []

    @contextlib.contextmanager
    def clock(_total: int, _done: int) -> Iterator[Callable[[], None]]:
        yield lambda: marks.append(time.process_time())

    out = scratch / "lines.jsonl"
    out.unlink(missing_ok=True)
    batch.run(manifest, out, workers=2, make_verify=Answering(), engine=engine, progress=clock)
    skipped = count // 4  # while the workers start
    return (marks[-1] - marks[skipped]) / (len(marks) - 1 - skipped)


@reporting(as_json=False)
def main(
    *,
    throughput: Annotated[Path, typer.Option(help="Figures of benchmarks.throughput with --batch.")] = RESULTS / "throughput.json",
    price: Annotated[float, typer.Option(help="Price of one core for one hour.")] = 0.05,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores of a machine; as many as measured unless given.")] = None,
    storage_gbit: Annotated[float, typer.Option(help="What the shared storage delivers, Gbit/s.")] = 100.0,
    network_gbit: Annotated[float, typer.Option(help="Network of one machine, Gbit/s.")] = 10.0,
    count: Annotated[int, typer.Option(min=100, help="Empty submissions for the coordinator's cost.")] = 2000,
    out: Annotated[Path, typer.Option(help="Where scaling.md goes.")] = PAGE,
) -> None:
    """Model a cluster from measured times."""
    measured = read(throughput)
    engines: dict[str, Engine] = {"local": ProcessCrew} | ({"ray": RayCrew} if find_spec("ray") is not None else {})
    with tempfile.TemporaryDirectory(prefix="kyc-guard-scaling-") as scratch:
        coordinators = {name: coordinator_s(Path(scratch), engine, count=count) for name, engine in engines.items()}
    runs = {run["workers"]: run for run in measured["submission"]["batch"]}
    most = max(runs)
    spread = runs[1]["latency_ms"]
    cluster = Cluster(
        compute_s=most / runs[most]["once_loaded_per_second"],
        spread=float(np.log(spread["p95"] / spread["p50"])) / _SIGMAS_TO_P95,
        bytes_each=measured["submission"]["made"]["submission_bytes"],
        coordinator_s=coordinators.get("ray", coordinators["local"]),
        cores=cores or most,
        storage_bytes_s=storage_gbit / 8 * 1e9,
        network_bytes_s=network_gbit / 8 * 1e9,
        price_per_core_hour=price,
    )
    found = plain(figures(cluster, measured) | {"machine": machine(), "coordinators_s": coordinators})
    write_whole(RESULTS / "scaling.json", json.dumps(found, indent=1) + "\n")
    write_whole(out, page(found))
    typer.echo(page(found))


def read(path: Path) -> dict[str, Any]:
    """The figures of a run of `benchmarks.throughput`.

    Raises:
        InputError: they lack batches with one worker and with more.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        workers = [run["workers"] for run in found["submission"]["batch"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(path, f"holds no batches ({error!r})", "run python -m benchmarks.throughput --batch 200") from error
    if 1 not in workers or max(workers) == 1:
        raise InputError(path, "lacks a batch with one worker or with more", "run python -m benchmarks.throughput --batch 200")
    return dict(found)


def figures(cluster: Cluster, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Rates by model and by simulation, for the measured machine and for up to a thousand."""
    rows = []
    for machines in _MACHINES:
        limits = cluster.limits(machines)
        part = min(limits, key=lambda name: limits[name])
        rate = simulated(cluster, machines)
        cost = 1e6 / rate / 3600 * machines * cluster.cores * cluster.price_per_core_hour
        rows.append({"machines": machines, "model": limits[part], "limited_by": part, "simulated": rate, "cost_per_million": cost})
    alone_s = 1 / next(r for r in measured["submission"]["batch"] if r["workers"] == 1)["once_loaded_per_second"]
    check = []
    for run in measured["submission"]["batch"]:
        # One machine: its cores are the workers, and its files are in memory.
        here = replace(cluster, cores=run["workers"], compute_s=alone_s, storage_bytes_s=1e12)
        check.append({"workers": run["workers"], "measured": run["once_loaded_per_second"], "simulated": simulated(here, 1, each=200)})
    shared = ("storage", "coordinator")
    stages = {name: times["cpu_ms"] for name, times in measured["submission"]["stages"].items() if not name.startswith("asked")}
    return {
        "command": "python -m benchmarks.scaling",
        "cluster": asdict(cluster),
        "saturates_at_machines": {part: cluster.saturates_at(part) for part in shared},
        "machines": rows,
        "check": check,
        "stages_cpu_ms": stages,
    }


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    cluster, on = found["cluster"], found["machine"]
    text = (
        f"# From one machine to a thousand\n\n`{found['command']}` from the figures of `benchmarks.throughput` on {on['cpu']}, "
        f"{on['cores']} cores. A submission takes {cluster['compute_s']:.2f} s of a core while all cores of its machine work, and "
        f"{cluster['bytes_each'] / 1e6:.1f} MB from the storage. Assumed, not measured: machines of {cluster['cores']} cores at "
        f"{cluster['price_per_core_hour']:g} a core and hour, {8e-9 * cluster['network_bytes_s']:g} Gbit/s each, a storage of "
        f"{8e-9 * cluster['storage_bytes_s']:g} Gbit/s, one coordinator.\n\n"
    )
    text += "The coordinator's own time for a submission (reading its row, handing it out, writing its line): "
    text += ", ".join(f"{1000 * s:.2f} ms with the engine {name}" for name, s in found["coordinators_s"].items()) + ".\n\n"
    rows = (
        (r["machines"], number(r["model"], 1), r["limited_by"], number(r["simulated"], 1), f"{r['cost_per_million']:,.0f}")
        for r in found["machines"]
    )
    text += table(("machines", "submissions/s by the model", "limited by", "simulated", "cost of a million"), rows)
    text += "The shared parts set the rate, and not the cores, from "
    text += ", ".join(f"{n:,.0f} machines on ({part})" for part, n in sorted(found["saturates_at_machines"].items(), key=lambda i: i[1]))
    text += (
        ". Whatever saturates first is doubled by splitting the source into two manifests with a result file each: submissions have "
        "nothing in common.\n\n## Inside a machine\n\nWhere the CPU time of a submission goes, each stage by itself on one thread:\n\n"
    )
    stages = sorted(((name, ms) for name, ms in found["stages_cpu_ms"].items() if name != _DECODING), key=lambda item: -item[1])
    total = sum(ms for _, ms in stages)
    text += table(("stage", "CPU ms", "share"), ((name, number(ms, 0), f"{ms / total:.0%}") for name, ms in stages if ms >= 1))
    text += f"Decoding the whole clip and nothing else takes {number(found['stages_cpu_ms'][_DECODING], 0)} ms.\n\n## Check\n\n"
    text += (
        "The simulation with one worker's measured time, against batches on this machine; what is missing is what workers take from one "
    )
    text += "another: caches, memory, clock.\n\n"
    check = (
        (c["workers"], number(c["measured"], 2), number(c["simulated"], 2), f"{c['measured'] / c['simulated']:.0%}") for c in found["check"]
    )
    return text + table(("workers", "measured, per s", "simulated", "reached"), check)


if __name__ == "__main__":
    typer.run(main)
