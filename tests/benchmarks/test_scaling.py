"""The model of a cluster and its simulation: where they must agree, and what saturates."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.scaling import Cluster, simulated
from kyc_guard.errors import InputError
from kyc_guard.pool import ProcessCrew

CLUSTER = Cluster(
    compute_s=1.0,
    spread=0.2,
    bytes_each=2e6,
    coordinator_s=1e-3,
    cores=2,
    storage_bytes_s=1e9,
    network_bytes_s=1e9,
    price_per_core_hour=0.05,
)


def test_the_first_part_to_saturate_sets_the_rate() -> None:
    assert CLUSTER.limits(10) == pytest.approx({"cores": 20, "network of the machines": 5000, "storage": 500, "coordinator": 1000})
    assert CLUSTER.saturates_at("storage") == pytest.approx(250)
    assert CLUSTER.saturates_at("coordinator") == pytest.approx(500)


@pytest.mark.parametrize(("machines", "limit"), [(1, 2.0), (10, 20.0), (500, 500.0)])
def test_the_simulation_stays_below_the_model_and_near_it(machines: int, limit: float) -> None:
    rate = simulated(CLUSTER, machines)
    assert min(CLUSTER.limits(machines).values()) == pytest.approx(limit)
    assert 0.85 * limit < rate < 1.03 * limit


def test_a_slow_coordinator_makes_machines_wait() -> None:
    slow = dataclasses.replace(CLUSTER, coordinator_s=0.1)
    assert simulated(slow, 20) == pytest.approx(10.0, rel=0.02)


def test_without_spread_and_queues_a_core_judges_one_submission_after_the_other() -> None:
    alone = dataclasses.replace(CLUSTER, spread=0.0, cores=1, coordinator_s=0.01, bytes_each=1e7)
    assert simulated(alone, 1) == pytest.approx(1 / 1.02)


def test_the_coordinators_cost_is_measured_by_a_batch_that_judges_nothing(tmp_path: Path) -> None:
    assert 0 < scaling.coordinator_s(tmp_path, ProcessCrew, count=100) < 0.1
    assert len((tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()) == 100


MEASURED: dict[str, Any] = {
    "submission": {
        "batch": [{"workers": 1, "once_loaded_per_second": 1.0}, {"workers": 2, "once_loaded_per_second": 1.8}],
        "stages": {"decode only": {"cpu_ms": 300.0}, "detector match": {"cpu_ms": 75.0}, "detector document": {"cpu_ms": 225.0}},
    }
}


def test_the_page_says_what_is_assumed_what_saturates_and_how_the_check_came_out() -> None:
    on = {"cpu": "some CPU", "cores": 2}
    found = scaling.figures(CLUSTER, MEASURED) | {"machine": on, "coordinators_s": {"local": 0.0002}}
    page = scaling.page(found)
    for words in (
        "Assumed, not measured: machines of 2 cores at 0.05",
        "from 250 machines on (storage), 500 machines on (coordinator)",
        "0.20 ms with the engine local",
        "| detector document | 225 | 75% |",
        "| 1000 | 500.0 | storage |",
    ):
        assert words in page
    assert [round(c["measured"] / c["simulated"], 1) for c in found["check"]] == [1.0, 0.9]
    assert found["machines"][0]["cost_per_million"] == pytest.approx(1e6 / 3600 * 0.05, rel=0.05)


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"submission": {"batch": [{"workers": 1}]}})])
def test_figures_without_batches_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "throughput.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="--batch 200"):
        scaling.read(tmp_path / "throughput.json")
