"""Timing itself, the made submission, and the page: no figure is asserted that a busy machine could change."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_fakes import MakeRed

import benchmarks
from benchmarks import nets, plots, roof, standin, submission, throughput
from benchmarks.timing import rivals
from kyc_guard import batch
from kyc_guard.config import Settings
from kyc_guard.media import read_clip
from kyc_guard.submission import Submission
from kyc_guard.weights import Weight


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission") / "one"
    submission.build(folder, seconds=1.0, fps=10, size=(320, 240))
    return folder


def test_rivals_are_called_in_turn_and_the_first_call_is_kept_apart() -> None:
    calls: list[str] = []
    times = rivals({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0.0, least=3)
    assert calls == ["a", "b", "a", "b", *["a", "b"] * 3]  # first, warm-up, three rounds
    assert times["a"]["rounds"] == 3
    assert 0 < times["a"]["best_ms"] <= times["a"]["median_ms"] <= times["a"]["p95_ms"] <= times["a"]["p99_ms"]


def test_the_made_submission_is_one_that_can_be_judged(one: Path) -> None:
    given = Submission.from_dir(one)
    assert given.claims["surname"] == "ERIKSSON"
    assert isinstance(given.selfie, Path)
    clip = read_clip(given.selfie, Settings().sampling, Settings().limits)
    assert clip.frames_rgb.shape[1:] == (240, 320, 3)
    assert submission.decode_all(given.selfie, to_rgb=True) == submission.decode_all(given.selfie, to_rgb=False) == 10


def test_the_whole_and_its_stages_are_timed(one: Path, tmp_path: Path) -> None:
    found = submission.end_to_end(one, MakeRed(tmp_path), Settings(), seconds=0.0, cores=2)
    assert set(found["times"]) == {"decode only", "decode to RGB", "verify, threads 1", "verify, threads 2"}
    times = found["times"]
    assert found["ratio_to_decoding"] == pytest.approx(times["verify, threads 1"]["cpu_ms"] / times["decode only"]["cpu_ms"])
    assert found["ratio_to_decoding_wall"] == pytest.approx(times["verify, threads 2"]["median_ms"] / times["decode only"]["median_ms"])
    assert {"decode", "find faces", "face_attack", "rest"} <= {s["stage"] for s in found["profile"]["stages"]}
    assert found["peak_memory_mb"] > 50
    stages = submission.stages(one, MakeRed(tmp_path), Settings(), rounds=1)
    assert {"decode the document", "decode the clip as sampled", "find faces in the sampled frames", "detector face_attack"} <= set(stages)
    assert {"decode only", "asked: follow the face"} <= set(stages)
    assert submission.liveness_over_decoding(stages) is None  # of three detectors none is there


def test_what_liveness_adds_counts_finding_faces_for_it_and_reading_beyond_decoding_once() -> None:
    stages = {
        "decode only": times(100.0),
        "decode the clip as sampled": times(130.0),
        "find faces in the burst": times(20.0),
        "detector liveness": times(15.0),
        "detector injection": times(5.0),
        "asked: follow the face": times(50.0),
        "asked: detector challenge": times(10.0),
    }
    assert submission.liveness_over_decoding(stages) == pytest.approx({"without actions": 0.7, "with actions": 1.3})


def test_a_batch_is_timed_with_and_without_loading(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(source: Path, out: Path, *, progress: Any, **_: Any) -> batch.Summary:
        with progress(3, 0) as advance:
            for folder in source.iterdir():
                advance()
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"submission": folder.name, "took_ms": {"all": 100.0}}) + "\n")
        return batch.Summary(total=3, outcomes=Counter(accept=3), took_s=1.5)

    monkeypatch.setattr(batch, "run", judged)
    found = submission.in_batch(one, tmp_path, Settings(), count=3, workers=1)
    assert (found["total"], found["errors"], found["submissions_per_second"]) == (3, 0, 2.0)
    assert found["once_loaded_per_second"] > 0
    assert found["latency_ms"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
    assert {f.name for f in (tmp_path / "submissions" / "00002").iterdir()} == {"selfie.mp4", "document.jpg", "submission.toml"}


def test_a_face_is_timed_with_every_view_as_a_still_and_with_one_window_in_a_clip(tmp_path: Path) -> None:
    with MakeRed(tmp_path)() as verifier:
        rows = nets.faces(verifier, seconds=0.0, batches=(2,))
    assert {row["kind"]: row["looks_per_face"] for row in rows} == {"still": 22, "portrait": 6, "clip": 2}
    assert all(row["faces_per_second"] == pytest.approx(2000 / row["median_ms"]) for row in rows)
    assert all(row["cpu_ms_per_face"] == pytest.approx(row["cpu_ms"] / 2) for row in rows)


@pytest.mark.torch
def test_the_stand_in_pair_has_the_size_it_claims_and_is_timed_beside_bare_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the onnx package (extra train) is absent")
    weights, written = nets.standins(tmp_path)
    for net, millions in zip(written, (0.435, 0.414), strict=True):
        assert net.parameters == pytest.approx(millions * 1e6, rel=0.01)
        assert net.multiply_adds == pytest.approx(40.7e6, rel=0.01)
    rows = nets.sweep(weights, threads=[1], seconds=0.0, portion=8, batches=(1, 2))
    assert [(r["net"], r["batch"]) for r in rows] == [("standin_a", 1), ("standin_a", 2), ("standin_b", 1), ("standin_b", 2)]
    assert {r["device"] for r in rows} <= {device for device, _, _ in nets.MODES}
    assert {b["net"]: sorted(b["more"]) for b in nets.best_batches(rows)} == {"standin_a": ["1", "2"], "standin_b": ["1", "2"]}
    assert rows[0]["multiply_adds"] == written[0].multiply_adds
    first = nets.pair_rates(rows)[0]
    assert first["ms_per_face"] == pytest.approx(rows[0]["median_ms"] + rows[2]["median_ms"])


def test_without_the_onnx_package_there_is_no_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Path) -> list[standin.Standin]:
        raise ImportError("No module named 'onnx'")

    monkeypatch.setattr(standin, "write_pair", absent)
    assert nets.standins(tmp_path) == ([], [])


def times(ms: float) -> dict[str, Any]:
    return {"median_ms": ms, "p95_ms": ms, "p99_ms": ms, "best_ms": ms, "cpu_ms": ms, "first_ms": 9 * ms, "rounds": 5}


CPU = {"device": "cpu", "precision": "fp32", "threads": 1}
FOUND: dict[str, Any] = {
    "command": "python -m benchmarks.throughput",
    "machine": {
        "cpu": "some CPU",
        "cores": 2,
        "load_average_1min": 0.1,
        "system": "Linux",
        "python": "3.11",
        "packages": {"onnxruntime": "1.31"},
    },
    "nets": {
        "rows": [
            {
                "net": "face_attack_face",
                **CPU,
                "batch": 1,
                **times(3.0),
                "per_second": 333.3,
                "share_of_bare": 0.6,
                "ms_per_picture": 3.0,
                "multiply_adds": 120e6,
            }
        ],
        "best": [{"net": "face_attack_face", **CPU, "batch": 1, "ms_per_picture": 3.0, "more": {"1": 0.0, "8": 0.1}}],
        "roof": {"1": {"gemm": 100e9, "conv": 90e9}},
        "faces": [
            {
                "kind": "clip",
                "faces": 1,
                "looks_per_face": 2,
                "ms_per_face": 3.5,
                "cpu_ms_per_face": 3.4,
                "faces_per_second": 285.7,
                **times(3.5),
            },
            {
                "kind": "still",
                "faces": 1,
                "looks_per_face": 18,
                "ms_per_face": 22.5,
                "cpu_ms_per_face": 22.0,
                "faces_per_second": 44.4,
                **times(22.5),
            },
            {
                "kind": "clip",
                "faces": 32,
                "looks_per_face": 2,
                "ms_per_face": 2.5,
                "cpu_ms_per_face": 2.5,
                "faces_per_second": 400.0,
                **times(80.0),
            },
        ],
        "standin": {
            "nets": [{"name": "standin_a", "parameters": 434_691, "multiply_adds": 40_753_920}],
            "pair": [{**CPU, "batch": 32, "ms_per_face": 4.1, "cpu_ms_per_face": 4.0, "faces_per_second": 250.0}],
        },
    },
    "submission": {
        "made": {"clip": "1280x720", "clip_mbit_s": 2.0, "document": "specimen", "frames": 300},
        "whole": {
            "times": {"decode only": times(300.0), "verify, threads 1": times(900.0), "verify, threads 2": times(700.0)},
            "outcome": "review",
            "ratio_to_decoding": 3.0,
            "ratio_to_decoding_wall": 2.3,
            "profile": {"stages": [{"stage": "decode", "calls": 2, "wall_ms": 200.0, "cpu_ms": 190.0}]},
            "load_ms": 900.0,
            "peak_memory_mb": 700.0,
        },
        "stages": {"decode the document": times(10.0)},
        "liveness": {"without actions": 0.55, "with actions": 1.7},
        "batch": [
            {
                "workers": 1,
                "total": 200,
                "took_s": 100.0,
                "errors": 0,
                "submissions_per_second": 2.0,
                "once_loaded_per_second": 2.1,
                "latency_ms": {"p50": 400.0, "p95": 500.0, "p99": 600.0},
                "peak_memory_mb": 900.0,
            },
            {
                "workers": 2,
                "total": 200,
                "took_s": 50.0,
                "errors": 0,
                "submissions_per_second": 4.0,
                "once_loaded_per_second": 4.2,
                "latency_ms": None,
                "peak_memory_mb": 1400.0,
            },
        ],
        "growth": [
            {"seconds": 2.0, "faces": 1, "decode_cpu_ms": 60.0, "verify_cpu_ms": 400.0},
            {"seconds": 10.0, "faces": 1, "decode_cpu_ms": 300.0, "verify_cpu_ms": 900.0},
            {"seconds": 2.0, "faces": 4, "decode_cpu_ms": 60.0, "verify_cpu_ms": 500.0},
        ],
        "cost_per_million": {"price_per_core_hour": 0.05, "cost": 12.5},
    },
}


def test_goals_are_those_of_what_was_measured() -> None:
    met = [(g.value, g.met) for g in throughput.goals(FOUND)]
    assert met == [
        (3.5, True),
        (22.5, False),
        (1.6, True),
        (0.6, False),
        (700.0, True),
        (2.3, False),
        (0.55, True),
        (1.7, False),
        (2.0, True),
        (1400.0, True),
    ]
    few = {**FOUND["submission"], "batch": [{**run, "total": 4} for run in FOUND["submission"]["batch"]]}
    assert len(throughput.goals({**FOUND, "submission": few})) == len(met) - 2
    alone = {**FOUND, "nets": {**FOUND["nets"], "standin": None, "faces": []}}
    del alone["submission"]
    assert [g.met for g in throughput.goals(alone)] == [None, None, None, False]


def test_the_page_says_what_is_a_stand_in_and_what_is_missing() -> None:
    found = {**FOUND, "goals": [g.to_json() for g in throughput.goals(FOUND)]}
    page = throughput.page(found)
    for words in (
        "random weights, 0.43 M parameters and 40.8 M multiply-adds, not the real nets",
        "| face_attack_face |",
        "costs 3.00 times decoding",
        "| 0.40 |",  # of the roof: 120 million multiply-adds in 3 ms
        "| one still, every look, batch 1, one thread: ms | <= 4 | 22.500 | **no** |",
        "1.11 submissions or 333 frames of video a second",
        "1: +0%, 8: +10%",
        "| 2 | 4 | 60 | 500 |",
    ):
        assert words in page
    assert "cuda" not in page.lower()
    assert plots.speed(found).startswith("<?xml")
    assert "was not measured" in throughput.page({**found, "nets": {**FOUND["nets"], "standin": None}})


@pytest.mark.torch
def test_the_roof_is_measured_and_a_nets_work_is_counted(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package (extra train) is absent")
    found = roof.measured(tmp_path, threads=1, seconds=0.0)
    assert found is not None
    assert min(found.values()) > 1e8
    assert roof.multiply_adds(tmp_path / "roof_conv.onnx") == 64 * 64 * 9 * 56 * 56
    weight = onnx.numpy_helper.from_array(np.zeros((5, 7), np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("x", 7), ("y", 5))]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], "g", ends[:1], ends[1:], [weight])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "gemm.onnx"))
    assert roof.multiply_adds(tmp_path / "gemm.onnx") == 35


def test_the_cost_grows_with_the_clips_length_and_the_people_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def build(folder: Path, *, seconds: float, faces: int) -> None:
        asked.append((seconds, faces))
        made(folder, seconds=seconds, fps=5, size=(320, 240), faces=faces)

    made = submission.build
    monkeypatch.setattr(submission, "build", build)
    rows = submission.growth(tmp_path, MakeRed(tmp_path), Settings(), lengths_s=[0.4, 0.6], faces=[1, 3], rounds=1)
    assert [(r["seconds"], r["faces"]) for r in rows] == asked == [(0.4, 1), (0.6, 1), (0.4, 3)]
    assert all(r["verify_cpu_ms"] > 0 for r in rows)


@pytest.mark.torch
def test_a_net_that_does_not_take_a_batch_gives_no_row_for_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the onnx package (extra train) is absent")
    (first, *_), _ = nets.standins(tmp_path)
    model = onnx.load(str(first.path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    fixed: Weight = dataclasses.replace(first, path=tmp_path / "fixed.onnx")
    assert [row["batch"] for row in nets.sweep([fixed], threads=[1], seconds=0.0, portion=8, batches=(1, 2))] == [1]


@pytest.mark.parametrize("file", sorted(Path(benchmarks.__file__).parent.glob("*.py")), ids=lambda f: f.name)
def test_benchmarks_judge_what_ships_and_import_neither_training_nor_torch(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert not {"torch", "training", "sklearn", "timm"} & {name.split(".")[0] for name in names}
