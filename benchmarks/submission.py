"""One whole submission, made on the spot: what judging it costs, stage by stage, beside only decoding its clip."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.memory import watched
from benchmarks.timing import rivals
from kyc_guard import batch, pool
from kyc_guard.config import Settings
from kyc_guard.demo import portrait_rgb
from kyc_guard.documents import specimen
from kyc_guard.faces import track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.media import read_clip, read_image
from kyc_guard.media.encode import jpeg
from kyc_guard.pipeline import Verifier
from kyc_guard.profiling import profile
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Modality, UInt8Array

_BIT_RATE = 1_600_000
"""A 10 s clip of 2 MB. Source: FACTS.md H3, 1.6 to 2.5 MB."""
_ASKED = Challenge(actions=("turn_left", "open_mouth", "blink"), prompts_s=(0.1, 0.3, 0.5))
"""What the portrait is asked, and does not do: following it costs the same."""
_READ = "decode the clip as sampled"


def build(
    folder: Path, *, seconds: float = 10.0, fps: int = 30, size: tuple[int, int] = (1280, 720), faces: int = 1, document: bool = True
) -> dict[str, Any]:
    """Write a submission: a clip of a face swaying before a camera, and a specimen document that shows the same face.

    The clip is like a webcam's: sensor noise, H.264 of 1.6 Mbit/s, a keyframe a second. The face is a photograph, so the outcome
    says nothing; the work is that of any other submission.

    Args:
        faces: how many people are to be seen; those behind the first are a third of its size.
        document: whether there is a document.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True)
    count = round(seconds * fps)
    with av.open(str(folder / "selfie.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"preset": "veryfast", "g": str(fps)})
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", _BIT_RATE
        for frame in _swaying(size, count, fps, faces):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    told = 'selfie = "selfie.mp4"\n'
    if document:
        holder = specimen.Holder()
        (folder / "document.jpg").write_bytes(jpeg(specimen.render(holder, portrait_rgb())))
        told += 'document = "document.jpg"\n\n[claims]\n' + "".join(f'{key} = "{value}"\n' for key, value in holder.claims.items())
    (folder / "submission.toml").write_text(told, encoding="utf-8")
    size_bytes = (folder / "selfie.mp4").stat().st_size
    return {
        "clip": f"{size[0]}x{size[1]}, {fps} frames/s, {seconds:g} s, H.264 veryfast, a keyframe a second",
        "frames": count,
        "clip_bytes": size_bytes,
        "submission_bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "clip_mbit_s": 8e-6 * size_bytes / seconds,
        "document": "specimen passport page, JPEG" if document else "no document",
    }


def _swaying(size: tuple[int, int], count: int, fps: int, faces: int) -> Iterator[UInt8Array]:
    """(H, W, 3) uint8 RGB frames: the portrait over a soft background, moved as a head moves, with fresh noise."""
    width, height = size
    rng = np.random.default_rng(0)
    background = cv2.resize(rng.integers(60, 190, (6, 9, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    portrait = cv2.resize(portrait_rgb(), (round(height * 0.75), height), interpolation=cv2.INTER_AREA)
    background[:, (width - portrait.shape[1]) // 2 :][:, : portrait.shape[1]] = portrait
    small = cv2.resize(portrait, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    for i in range(faces - 1):  # left and right in turn, from the bottom upwards
        top, left = height - (i // 2 + 1) * small.shape[0], (0, width - small.shape[1])[i % 2]
        background[top:, left:][: small.shape[0], : small.shape[1]] = small
    noises = [rng.normal(0, 3.0, (height, width, 3)).astype(np.int8) for _ in range(8)]
    for i in range(count):
        t = i / fps
        sway = np.array([[1, 0, 0.012 * width * np.sin(1.9 * t)], [0, 1, 0.01 * height * np.sin(2.7 * t + 1)]], np.float32)
        frame = cv2.warpAffine(background, sway, size, borderMode=cv2.BORDER_REFLECT_101)
        yield cv2.add(frame.astype(np.int16), noises[i % len(noises)].astype(np.int16)).clip(0, 255).astype(np.uint8)


def decode_all(clip: Path, *, to_rgb: bool) -> int:
    """Decode every frame on one core, as YUV or further to RGB; the number of frames."""
    frames = 0
    with av.open(str(clip)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            if to_rgb:
                frame.to_ndarray(format="rgb24")
            frames += 1
    return frames


def end_to_end(folder: Path, make: Callable[[Settings], Verifier], settings: Settings, *, seconds: float, cores: int) -> dict[str, Any]:
    """Whole submissions from files on one thread and on every core, in turn with decoding their clip.

    Returns:
        Times by name; ``ratio_to_decoding``, the CPU time of verify on one thread over that of decoding every frame, and
        ``ratio_to_decoding_wall``, how long it takes on every core over how long decoding every frame takes on one; the stages inside
        of it; loading time and peak memory of a process that judges it alone.
    """
    clip, given = folder / "selfie.mp4", Submission.from_dir(folder)
    cv2.setNumThreads(1)
    calls: dict[str, Callable[[], object]] = {
        "decode only": lambda: decode_all(clip, to_rgb=False),
        "decode to RGB": lambda: decode_all(clip, to_rgb=True),
    }
    started = time.perf_counter()
    judges = {1: make(settings.model_copy(update={"threads": 1}))}
    load_s = time.perf_counter() - started
    if cores > 1:
        judges[cores] = make(settings.model_copy(update={"threads": cores}))
    calls |= {f"verify, threads {n}": partial(judge.verify, given) for n, judge in judges.items()}
    try:
        times = rivals(calls, seconds=seconds)
        outcome = str(judges[1].verify(given).outcome)
    finally:
        for judge in judges.values():
            judge.close()
    one, decoding = times["verify, threads 1"], times["decode only"]
    (peak_mb,) = (peak for _, peak in pool.run(_JudgeAlone(make, settings), [folder], workers=1))
    return {
        "times": times,
        "outcome": outcome,
        "ratio_to_decoding": one["cpu_ms"] / decoding["cpu_ms"],
        "ratio_to_decoding_wall": times[f"verify, threads {max(judges)}"]["median_ms"] / decoding["median_ms"],
        "profile": profile(given, settings.model_copy(update={"threads": 1}), make=make).to_json(),
        "load_ms": 1000 * load_s,
        "peak_memory_mb": peak_mb if isinstance(peak_mb, float) else None,
    }


@dataclass(frozen=True, slots=True)
class _JudgeAlone:
    """Submission folder -> peak memory in MB of a process that does nothing but judge it."""

    make: Callable[[Settings], Verifier]
    settings: Settings

    def __call__(self) -> Callable[[Path], float]:
        verifier = self.make(self.settings)

        def work(folder: Path) -> float:
            for _ in range(3):
                verifier.verify(Submission.from_dir(folder))
            return _peak_mb()

        return work


def stages(folder: Path, make: Callable[[Settings], Verifier], settings: Settings, *, rounds: int = 5) -> dict[str, dict[str, Any]]:
    """Where the time of one submission goes, on one thread: each stage called by itself on the same evidence, in turn with decoding.

    Stages named "asked: ..." are those of a session that asks for actions, and come on top or instead.
    """
    given = Submission.from_dir(folder)
    with make(settings.model_copy(update={"threads": 1})) as verifier:
        evidence = verifier.gather(given)
        asked = verifier.gather(replace(given, challenge=_ASKED))
        assert evidence.clip is not None
        assert asked.clip is not None
        assert isinstance(given.selfie, Path)
        clip, motion_rgb, ratio, limits = (
            evidence.clip,
            asked.clip.motion_rgb,
            verifier.bundle.policy.gate("other_face_ratio"),
            settings.limits,
        )
        moving = any(Modality.CLIP in d.needs for d in verifier.detectors)
        sampling = settings.sampling.model_copy(update={"motion_hz": settings.sampling.challenge_hz if moving else 0.0})
        selfie, pages = given.selfie, given.document
        calls: dict[str, Callable[[], object]] = {
            "decode only": lambda: decode_all(selfie, to_rgb=False),
            "decode the document": lambda: [read_image(page, limits) for page in pages],
            _READ: lambda: read_clip(selfie, sampling, limits),
            "find faces in the sampled frames": lambda: track_faces(clip.frames_rgb, other_face_ratio=ratio),
        }
        if moving:
            calls["find faces in the burst"] = lambda: track_faces(clip.burst_rgb, other_face_ratio=ratio, quality=False)
        calls |= {f"detector {d.name}": partial(d, evidence) for d in verifier.detectors}
        calls["asked: follow the face"] = lambda: follow_face(motion_rgb)
        calls |= {f"asked: detector {d.name}": partial(d, asked) for d in verifier.detectors if d.name == "challenge"}
        return rivals(calls, seconds=0.0, least=rounds, warm_up=1)


def growth(
    scratch: Path,
    make: Callable[[Settings], Verifier],
    settings: Settings,
    *,
    lengths_s: Sequence[float],
    faces: Sequence[int],
    rounds: int = 3,
) -> list[dict[str, Any]]:
    """How the cost of a submission on one thread grows with the clip's length and with the people in it, beside decoding that clip."""
    rows = []
    shapes = [(length_s, 1) for length_s in lengths_s] + [(lengths_s[0], people) for people in faces]
    with make(settings.model_copy(update={"threads": 1})) as verifier:
        for seconds, people in dict.fromkeys(shapes):
            folder = scratch / f"{seconds:g}s_{people}"
            build(folder, seconds=seconds, faces=people)
            given = Submission.from_dir(folder)
            calls: dict[str, Callable[[], object]] = {
                "decode": partial(decode_all, folder / "selfie.mp4", to_rgb=False),
                "verify": partial(verifier.verify, given),
            }
            times = rivals(calls, seconds=0.0, least=rounds, warm_up=1)
            rows.append({"seconds": seconds, "faces": people, **{f"{name}_cpu_ms": t["cpu_ms"] for name, t in times.items()}})
    return rows


def liveness_over_decoding(times: Mapping[str, Mapping[str, float]]) -> dict[str, float] | None:
    """CPU time that liveness, injection and challenge add, over that of decoding every frame of the clip.

    Frames for the burst and for following are decoding as well: reading counts where it is dearer than decoding the clip once.

    Args:
        times: what `stages` gave.

    Returns:
        Ratios without and with actions; ``None`` where a stage was not measured.
    """
    plain = ("find faces in the burst", "detector liveness", "detector injection")
    acting = ("asked: follow the face", "asked: detector challenge")
    if not {*plain, *acting, _READ, "decode only"} <= set(times):
        return None
    cpu = {name: t["cpu_ms"] for name, t in times.items()}
    decoding = cpu["decode only"]
    always = sum(cpu[name] for name in plain) + max(cpu[_READ] - decoding, 0.0)
    asked = always + sum(cpu[name] for name in acting)
    return {"without actions": always / decoding, "with actions": asked / decoding}


def in_batch(folder: Path, scratch: Path, settings: Settings, *, count: int, workers: int) -> dict[str, Any]:
    """Rates of `kyc_guard.batch` over ``count`` copies of the submission: with loading the models, and from each worker's second on."""
    source = scratch / "submissions"
    if not source.exists():
        copies([folder], source, count)
    done_s: list[float] = []

    @contextlib.contextmanager
    def clock(_total: int, _done: int) -> Iterator[Callable[[], None]]:
        yield lambda: done_s.append(time.perf_counter())

    out = scratch / f"results_{workers}.jsonl"
    with watched(lambda: len(done_s)) as memory:
        summary = batch.run(source, out, settings=settings, workers=workers, progress=clock)
    loaded = done_s[workers - 1 :]
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    took_ms = [line["took_ms"]["all"] for line in lines if "took_ms" in line]
    return {
        "workers": workers,
        "total": summary.total,
        "errors": summary.errors,
        "took_s": summary.took_s,
        "submissions_per_second": summary.judged / summary.took_s,
        "once_loaded_per_second": (len(loaded) - 1) / (loaded[-1] - loaded[0]) if len(loaded) > 1 else None,
        "latency_ms": {f"p{q}": float(np.percentile(took_ms, q)) for q in (50, 95, 99)} if took_ms else None,
        "peak_memory_mb": max((sample.total_mb for sample in memory), default=None),
    }


def copies(folders: Sequence[Path], source: Path, count: int) -> None:
    """``count`` submissions in ``source``, the folders' in turn; hard links where the disk has them."""
    for i in range(count):
        (source / f"{i:05d}").mkdir(parents=True)
        for file in folders[i % len(folders)].iterdir():
            _copy(file, source / f"{i:05d}" / file.name)


def _copy(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copy(file, target)


def _peak_mb() -> float:
    """Most memory this process ever held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        # macOS counts bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    # Not ru_maxrss: under Linux a process begins with that of the one that started it.
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1.024e-3
