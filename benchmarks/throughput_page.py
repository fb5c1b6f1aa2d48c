"""throughput.json -> Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.record import goals_table, number, table


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    on = found["machine"]
    text = (
        f"# Throughput\n\n`{found['command']}` on {on['cpu']}, {on['cores']} cores, {on['system']}, Python {on['python']}, ONNX Runtime "
        f"{on['packages']['onnxruntime']}; load average before the run {on['load_average_1min']}. Medians; the first call and one more of "
        "warm-up are left out. Milliseconds are wall time but where CPU stands; ratios are of CPU time on one thread.\n\n"
        + goals_table(found["goals"])
    )
    text += "![speed](throughput.svg)\n\n"
    if part := found.get("nets"):
        text += "## Nets\n\n" + _nets(part)
    if part := found.get("submission"):
        text += "## One submission\n\n" + _submission(part)
    return text


def _nets(part: Mapping[str, Any]) -> str:
    header = ("net", "device", "precision", "threads", "batch", "ms", "p95 ms", "pictures/s", "of ONNX Runtime alone", "of the roof")
    rows = (
        (
            *(row[k] for k in ("net", "device", "precision", "threads", "batch")),
            *(number(row[k], 2) for k in ("median_ms", "p95_ms")),
            number(row["per_second"], 0),
            number(row["share_of_bare"], 2),
            number(_share_of_roof(row, part["roof"]), 2),
        )
        for row in part["rows"]
    )
    text = table(header, rows)
    for threads, most in part["roof"].items():
        if most is not None:
            gemm, conv = (f"{most[k] / 1e9:.0f}" for k in ("gemm", "conv"))
            text += f"The roof on {threads} thread(s): {gemm} thousand million multiply-adds a second in a matrix product, {conv} in a "
            text += "convolution. An int8 net's roof is higher than this one of fp32.\n\n"
    text += "Batches are cut into portions of `net_batch`; ONNX Runtime alone gets them whole. Its best batch for each net, and how much "
    text += (
        "longer a picture takes at others; one submission fills a batch of 12, so a batch across submissions can only pay where more than "
    )
    text += "that is faster:\n\n"
    best = (
        (
            *(b[k] for k in ("net", "device", "precision", "threads", "batch")),
            number(b["ms_per_picture"], 2),
            ", ".join(f"{n}: {m:+.0%}" for n, m in b["more"].items()),
        )
        for b in part["best"]
    )
    text += table(("net", "device", "precision", "threads", "best batch", "ms a picture", "others"), best)
    faces = ((*(row[k] for k in ("kind", "faces", "looks_per_face")), *_per_face(row)) for row in part["faces"])
    text += (
        "One face through every view, cutting included, one thread. A frame of a clip gets one look of each view, a still every look in "
    )
    text += "every zoom: figures of accuracy on pictures are of the still's path, the speed of a clip is of the frame's:\n\n"
    text += table(("face of a", "faces at once", "looks a face", "ms a face", "CPU ms a face", "faces/s"), faces)
    if standin := part["standin"]:
        sizes = ", ".join(
            f"{n['parameters'] / 1e6:.2f} M parameters and {n['multiply_adds'] / 1e6:.1f} M multiply-adds" for n in standin["nets"]
        )
        pair = ((*(p[k] for k in ("device", "precision", "threads", "batch")), *_per_face(p)) for p in standin["pair"])
        text += f"A stand-in for the MiniFASNet pair: random weights, {sizes}, not the real nets; without cutting:\n\n"
        return text + table(("device", "precision", "threads", "batch", "ms a face", "CPU ms a face", "faces/s"), pair)
    return text + "The stand-in for the MiniFASNet pair was not measured: it is built with the onnx package (extra `train`).\n\n"


def _share_of_roof(row: Mapping[str, Any], roofs: Mapping[str, Any]) -> float | None:
    most = roofs.get(str(row["threads"]))
    if row["device"] != "cpu" or row["multiply_adds"] is None or most is None:
        return None
    return float(1000 * row["multiply_adds"] / row["ms_per_picture"] / most["gemm"])


def _per_face(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return number(row["ms_per_face"], 2), number(row["cpu_ms_per_face"], 2), number(row["faces_per_second"], 0)


def _submission(part: Mapping[str, Any]) -> str:
    made, whole = part["made"], part["whole"]

    def times(of: Mapping[str, Any]) -> str:
        columns = ("median_ms", "p95_ms", "p99_ms", "cpu_ms", "first_ms")
        rows = ((name, *(number(t[k], 0) for k in columns), t["rounds"]) for name, t in of.items())
        return table(("", "ms", "p95", "p99", "CPU ms", "first call", "rounds"), rows)

    text = f"{made['clip']}, {number(made['clip_mbit_s'], 1)} Mbit/s; {made['document']}. "
    text += f"Verify on one thread costs {number(whole['ratio_to_decoding'], 2)} times decoding the whole clip. Loading the models took "
    text += f"{number(whole['load_ms'], 0)} ms; a process of its own peaks at {number(whole['peak_memory_mb'], 0)} MB. "
    verify_s = whole["times"]["verify, threads 1"]["median_ms"] / 1000
    text += f"One thread judges {1 / verify_s:.2f} submissions or {made['frames'] / verify_s:.0f} frames of video a second. "
    text += f"The outcome ({whole['outcome']}) says nothing: the face is a photograph.\n\n"
    text += times(whole["times"]) + "Stages inside one call, one thread, each without those inside it (`kyc-guard verify --profile`):\n\n"
    inside = ((s["stage"], s["calls"], number(s["wall_ms"], 1), number(s["cpu_ms"], 1)) for s in whole["profile"]["stages"])
    text += table(("stage", "calls", "ms", "CPU ms"), inside)
    text += "Stages, one thread, each called by itself:\n\n" + times(part["stages"])
    if runs := part.get("batch"):
        header = (
            "workers",
            "submissions",
            "errors",
            "seconds",
            "per s",
            "once loaded, per s",
            "frames/s",
            "p50 ms",
            "p95",
            "p99",
            "peak MB",
        )
        rows = (
            (
                *(r[k] for k in ("workers", "total", "errors")),
                number(r["took_s"], 1),
                *(number(r[k], 2) for k in ("submissions_per_second", "once_loaded_per_second")),
                number((r["once_loaded_per_second"] or 0) * made["frames"], 0),
                *(number((r["latency_ms"] or {}).get(q), 0) for q in ("p50", "p95", "p99")),
                number(r["peak_memory_mb"], 0),
            )
            for r in runs
        )
        text += "Batches:\n\n" + table(header, rows)
    if growth := part.get("growth"):
        text += "With the clip's length and the people in it, CPU time on one thread:\n\n"
        shown = ((f"{r['seconds']:g}", r["faces"], *(number(r[k], 0) for k in ("decode_cpu_ms", "verify_cpu_ms"))) for r in growth)
        text += table(("clip s", "faces", "decode only ms", "verify ms"), shown)
    if cost := part.get("cost_per_million"):
        text += f"A million submissions cost {cost['cost']:,.0f} at {cost['price_per_core_hour']:g} a core and hour.\n\n"
    return text
