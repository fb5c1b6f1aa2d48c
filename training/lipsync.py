"""Fit, judge and export the lip-sync net: what lips a sound asks for, and whether the lips seen are those.

    python -m training.lipsync          everything: weights/lipsync.onnx, manifest, [lipsync] of thresholds.toml, its part of
                                        benchmarks/results/speech.json and its card (two minutes)
    python -m training.lipsync --measure    keeps the shipped net, weights and point and measures them anew, the training people by fits
                                        without their source

The train split fits; every clip of it is scored by a fit without its source, and those scores set the weights and points. The validation
split is only reported on. What is judged is whole clips and windows of them.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from kyc_guard.calibration import Platt
from kyc_guard.config import Limits, Policy, Sampling, Settings, Thresholds
from kyc_guard.faces.following import follow_face
from kyc_guard.faces.mouth import Mouth
from kyc_guard.media import read_audio, read_clip
from kyc_guard.speech.agreement import CURVES, FIGURES, LIPS, REACH, Agreement, Lips, agree, correlations, envelope_db, net_input
from kyc_guard.speech.hearing import ENCODED_HZ, SPEECH_STEP_S, ear
from kyc_guard.types import Float32Array, Float64Array
from training.data import read_manifest
from training.fitting import logistic, shares
from training.places import CACHE, CONFIGS, DATA
from training.speech_card import record
from training.thresholds import THRESHOLDS, write_table

WEIGHTS = THRESHOLDS.parent
COMMAND = "python -m training.lipsync"
_TAPS = (-6, -3, 0, 3, 6)
_SMOOTH_RADIUS = 4
_LEVEL_ROWS, _DRIFT_ROWS = 2, 25


@dataclass(frozen=True, slots=True)
class Config:
    sources: tuple[str, ...]
    sound_components: int
    components: int
    ridge: float
    alignments: int
    accepted_s: tuple[float, float]
    windows_s: tuple[float, ...]
    shifts_s: tuple[float, ...]
    judged_s: float
    dubbed_shares: tuple[float, ...]
    swaps: int
    still_jitter: float
    logistic_ridge: float
    review_bpcer: float

    @classmethod
    def load(cls, path: Path) -> Config:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """A clip of somebody who speaks, as far as this net sees it."""

    path: str
    person: str
    home: str
    """Where clips look and sound alike: the source; HDTF's people are in three."""
    genuine: bool
    validation: bool
    mouth: Mouth
    encoded: Float32Array
    speech: Float64Array
    """(A,) P(speech) at the encoding's times."""
    level_db: Float64Array
    """(A,) at the same times."""


# ---- clips


def talks(data: Path, cache: Path, config: Config) -> list[Talk]:
    """Every clip of the config's sources with a face and sound; curves of mouths are kept in ``cache``, never pictures."""
    found = []
    for row in read_manifest(data):
        if row.source not in config.sources or not row.path.startswith("clips/"):
            continue
        if row.label == "attack" and row.attack_type != "reenactment":
            continue  # a face swap of a clip that is here already
        audio = read_audio(data / row.path, Limits())
        if audio is None:
            continue
        mouth = _mouth(data / row.path, cache / "mouths" / (row.path.replace("/", "__") + ".npz"))
        encoded = ear().encoded(audio)
        speech = np.interp(np.arange(len(encoded)) / ENCODED_HZ, *_steps(ear().speech(audio)))
        person = row.subject or row.path  # GRID's samples are one speaker each
        home = "hdtf" if person.startswith("hdtf_") else row.source
        level_db, genuine = envelope_db(audio)[: len(encoded)], row.label == "bona_fide"
        found.append(Talk(row.path, person, home, genuine, row.split == "validation", mouth, encoded, speech, level_db))
    return found


def _steps(speech: Float32Array) -> tuple[Float64Array, Float64Array]:
    return (np.arange(len(speech)) + 0.5) * SPEECH_STEP_S, speech.astype(np.float64)


def _mouth(path: Path, cached: Path) -> Mouth:
    names = ("times_s", *LIPS)
    if cached.exists():
        with np.load(cached) as arrays:
            return Mouth(*(arrays[name] for name in names))
    sampling = Sampling(frames=1, burst_frames=0)
    clip = read_clip(path, sampling.model_copy(update={"motion_hz": sampling.speech_hz}), Limits())
    mouth = Mouth.of(follow_face(clip.motion_rgb), clip.motion_timestamps_s)
    cached.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cached, **{name: getattr(mouth, name) for name in names})
    return mouth


# ---- the net


def fit(clips: Sequence[Talk], config: Config) -> Float32Array:
    """(7, 384, 2 REACH + 1) float32 kernel of the net.

    Fitted, every clip moved to where it agrees best, fitted again: recorders differ by a tenth of a second, which blurs the lips
    learnt of them.
    """
    lags = dict.fromkeys((t.path for t in clips), 0)
    for _ in range(config.alignments):
        kernel = _fitted(clips, lags, config)
        lags = {t.path: _met(t, kernel, config)[0] for t in clips}
    return _fitted(clips, lags, config)


def curve_counts(clips: Sequence[Talk], kernels: Mapping[str, Float32Array], config: Config) -> Float64Array:
    """(14,) how much each of `CURVES` counts: what of it the sound explains, the square of its mean correlation."""
    mean = np.mean([_met(t, kernels[t.home], config)[1] for t in clips], axis=0)
    squared = np.square(mean.clip(0))
    return np.asarray(squared / squared.sum())


def _met(talk: Talk, kernel: Float32Array, config: Config) -> tuple[int, Float64Array]:
    """By how many rows the lips come late, among the accepted lags, and (14,) the correlations there."""
    lips, asked = Lips.of(talk.mouth), expected(kernel, talk.encoded).astype(np.float64)
    assert lips is not None
    first, (low, high) = round(lips.start_s * ENCODED_HZ), (round(s * ENCODED_HZ) for s in config.accepted_s)
    count = min(len(lips.rows), len(asked) - first)
    lags = np.arange(low, high + 1)
    found = correlations(lips.rows[:count], asked[first : first + count], lags)
    best = int(np.argmax(found.mean(axis=1)))
    return int(lags[best]), found[best]


def _fitted(clips: Sequence[Talk], lags: Mapping[str, int], config: Config) -> Float32Array:
    """Ridge regression of the lips seen on principal components of five moments."""
    base = _principal(np.concatenate([t.encoded - t.encoded.mean(axis=0) for t in clips]), config.sound_components)
    designs, lips = zip(*(_design(t, base, lags[t.path]) for t in clips), strict=True)
    x, y = np.concatenate(designs), np.concatenate(lips)
    white = _principal(x, config.components)
    z = x @ white
    weights = white @ np.linalg.solve(z.T @ z / len(z) + config.ridge * np.eye(z.shape[1]), z.T @ y / len(z))
    kernel = np.zeros((len(LIPS), base.shape[0], 2 * REACH + 1))
    smoothing = gaussian_filter1d(np.eye(2 * _SMOOTH_RADIUS + 1)[_SMOOTH_RADIUS], 1.0)
    for tap, part in zip(_TAPS, np.split(weights, len(_TAPS)), strict=True):
        to_lips = (base @ part).T
        for offset, share in enumerate(smoothing, start=-_SMOOTH_RADIUS):
            kernel[:, :, REACH + tap + offset] += share * to_lips
    return kernel.astype(np.float32)


def _principal(rows: NDArray[Any], count: int) -> Float64Array:
    """(D, count) projection to whitened principal components."""
    rows = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows / len(rows))
    return np.asarray(vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count] + 1e-9))


def _design(talk: Talk, base: Float64Array, lag: int) -> tuple[Float64Array, Float64Array]:
    """Five moments of the sound's components, and the lips ``lag`` rows after the middle one."""
    lips = Lips.of(talk.mouth)
    assert lips is not None
    padded = gaussian_filter1d(net_input(talk.encoded)[0].T.astype(np.float64) @ base, 1.0, axis=0)
    moments = np.concatenate([padded[REACH + tap : len(padded) - REACH + tap] for tap in _TAPS], axis=1)
    first = round(lips.start_s * ENCODED_HZ) - lag
    skipped, stop = max(0, -first), min(len(lips.rows), len(moments) - first)
    return moments[first + skipped : first + stop], lips.rows[skipped:stop]


def expected(kernel: Float32Array, encoded: Float32Array) -> Float32Array:
    """What the exported net gives: (A, 7)."""
    padded = net_input(encoded)[0]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2], axis=1)
    return np.asarray(np.einsum("dck,cak->ad", kernel, windows, optimize=True), np.float32)


# ---- cases

Asks = Callable[[str, Talk], Float32Array]
"""(A, 7) lips that a clip's sound asks for, as they are expected where no clip of that home was seen."""


def by_net(kernels: Mapping[str, Float32Array]) -> Asks:
    return lambda home, talk: expected(kernels[home], talk.encoded)


def by_level(home: str, talk: Talk) -> Float32Array:
    """No net: the louder, the wider open; the other lips are not asked for. Drift and jitter are removed as they are of lips."""
    del home
    smooth = gaussian_filter1d(talk.level_db, _LEVEL_ROWS)
    asked = np.zeros((len(talk.encoded), len(LIPS)), np.float32)
    asked[: len(smooth), LIPS.index("opening")] = smooth - gaussian_filter1d(smooth, _DRIFT_ROWS)
    return asked


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One mouth against one sound."""

    kind: str
    """genuine, swapped, shifted or still."""
    talk: Talk
    window_s: float
    """0 = the whole clip."""
    shift_s: float
    alike: bool
    """Both sentences are GRID's: same grammar, nearly the same movements at nearly the same times."""
    found: Agreement


def cases(clips: Sequence[Talk], asks: Asks, counts: Mapping[str, Float64Array], config: Config) -> Iterator[Case]:
    """Genuine windows of every bona fide clip, and the attacks made of them, by the counts of curves for its home."""
    genuine = [t for t in clips if t.genuine]
    rng = np.random.default_rng(0)
    for talk in genuine:
        asked = {t.path: asks(talk.home, t) for t in genuine}
        still = _still(talk.mouth, config.still_jitter, rng)
        for window_s in (0.0, *config.windows_s):
            for start in _starts(talk, window_s):
                rows = slice(start, start + round(window_s * ENCODED_HZ)) if window_s else slice(0, len(talk.encoded))
                mouth = _part(talk.mouth, rows)
                own = asked[talk.path]

                def case(kind: str, mouth: Mouth, lips: Float32Array, heard: tuple[Talk, slice], shift_s: float = 0.0) -> Iterator[Case]:
                    moved = Lips.of(mouth)
                    if _can_be_judged(moved, lips, *heard):
                        alike = kind == "swapped" and all(t.home.startswith("grid") for t in (talk, heard[0]))  # noqa: B023  # consumed at once
                        found = agree(moved, lips, config.accepted_s, counts[talk.home])  # noqa: B023  # the same
                        yield Case(kind, talk, window_s, shift_s, alike, found)  # noqa: B023  # the same

                yield from case("genuine", mouth, own[rows], (talk, rows))
                yield from case("still", _part(still, rows), own[rows], (talk, rows))
                for shift_s in (s * way for s in config.shifts_s for way in (-1, 1)):
                    index = np.arange(rows.start, min(rows.stop, len(own))) - round(shift_s * ENCODED_HZ)
                    index = np.clip(index, 0, len(own) - 1)
                    yield from case("shifted", mouth, own[index], (talk, rows), shift_s)
                for other in genuine:
                    if other.person == talk.person:
                        continue
                    length = min(rows.stop - rows.start, len(other.encoded))
                    if not window_s and length < 0.7 * (rows.stop - rows.start):
                        continue
                    places = len(other.encoded) - length + 1
                    for first in rng.choice(places, min(places, config.swaps), replace=False):
                        at = slice(int(first), int(first) + length)
                        yield from case("swapped", mouth, asked[other.path][at], (other, at))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A clip as it is judged where a phrase was asked: the whole of it first, then every window."""

    kind: str
    """genuine, or dubbed_40 for 40 % of it."""
    found: Sequence[Agreement]


def judged(clips: Sequence[Talk], asks: Asks, counts: Mapping[str, Float64Array], config: Config) -> Iterator[Judged]:
    """Every bona fide clip, and those longer than a window with the sound of another person at their beginning or end."""
    genuine, rng = [t for t in clips if t.genuine], np.random.default_rng(0)
    for talk in genuine:
        asked = {t.path: asks(talk.home, t) for t in genuine}
        yield Judged("genuine", list(_whole_and_windows(talk, asked[talk.path], talk.speech, counts[talk.home], config)))
        if len(talk.encoded) <= config.judged_s * ENCODED_HZ:
            continue
        for other, share in product((t for t in genuine if t.person != talk.person), config.dubbed_shares):
            count = round(share * len(talk.encoded))
            for at in (slice(0, count), slice(len(talk.encoded) - count, len(talk.encoded))):
                if len(other.encoded) < count:
                    continue
                first = int(rng.integers(len(other.encoded) - count + 1))
                lips, speech = asked[talk.path].copy(), talk.speech.copy()
                lips[at], speech[at] = asked[other.path][first : first + count], other.speech[first : first + count]
                if np.sum(speech[at] > 0.5) / ENCODED_HZ >= _gate("speech_min_s"):
                    found = _whole_and_windows(talk, lips, speech, counts[talk.home], config)
                    yield Judged(f"dubbed_{100 * share:.0f}", list(found))


def _whole_and_windows(talk: Talk, asked: Float32Array, speech: Float64Array, counts: Float64Array, config: Config) -> Iterator[Agreement]:
    for length_s in (0.0, config.judged_s):
        for start in _starts(talk, length_s):
            rows = slice(start, start + round(length_s * ENCODED_HZ)) if length_s else slice(0, len(asked))
            lips = Lips.of(_part(talk.mouth, rows))
            if _can_be_judged(lips, asked[rows], replace(talk, speech=speech), rows):
                yield agree(lips, asked[rows], config.accepted_s, counts)


def _starts(talk: Talk, window_s: float) -> Sequence[int]:
    length = round(window_s * ENCODED_HZ)
    return range(0, len(talk.encoded) - length + 1, round(ENCODED_HZ)) if window_s else (0,)


def _part(mouth: Mouth, rows: slice) -> Mouth:
    """The mouth between two times, on a clock that starts with it."""
    start_s, stop_s = rows.start / ENCODED_HZ, rows.stop / ENCODED_HZ
    inside = (mouth.times_s >= start_s) & (mouth.times_s < stop_s)
    curves = {name: getattr(mouth, name)[inside] for name in LIPS}
    return replace(mouth, times_s=mouth.times_s[inside] - start_s, **curves)


def _still(mouth: Mouth, jitter: float, rng: np.random.Generator) -> Mouth:
    curves = {name: np.nanmedian(getattr(mouth, name)) + jitter * rng.standard_normal(len(mouth.times_s)) for name in LIPS}
    return replace(mouth, **curves)


def _can_be_judged(lips: Lips | None, asked: Float32Array, heard: Talk, rows: slice) -> TypeGuard[Lips]:
    speech_s = float(np.sum(heard.speech[rows] > 0.5)) / ENCODED_HZ
    common_s = 0.0 if lips is None else min(lips.duration_s, len(asked) / ENCODED_HZ - lips.start_s)
    return speech_s >= _gate("speech_min_s") and common_s >= _gate("lipsync_min_duration_s")


@cache
def _gate(name: str) -> float:
    return Policy.load(Settings().policy_path).gate(name)


# ---- weights and points


def balanced(made: Sequence[Case]) -> Float64Array:
    """Genuine and attack weigh the same, so do the three kinds of attack, so do people; together as much as there are people."""
    keys = [(c.kind, c.talk.person) for c in made]
    counts = {key: keys.count(key) for key in set(keys)}
    kinds = len({c.kind for c in made}) - 1
    return np.array([1 / counts[key] / (1 if key[0] == "genuine" else kinds) for key in keys])


def matrix(made: Sequence[Agreement]) -> Float64Array:
    return np.array([[a.figures[name] for name in FIGURES] for a in made])


def fit_scores(made: Sequence[Case], config: Config) -> tuple[Float64Array, float, Float64Array, float]:
    """Weights and offset of the logistic, the scores it gives, and the point from which the config's share of genuine ones is flagged."""
    attack = np.array([c.kind != "genuine" for c in made])
    weights, offset = logistic(matrix([c.found for c in made]), attack, balanced(made), config.logistic_ridge)
    scores = probability([c.found for c in made], weights, offset)
    return weights, offset, scores, float(np.quantile(scores[~attack], 1 - config.review_bpcer, method="higher"))


def report_judged(made: Sequence[Judged], weights: Float64Array, offset: float, point: float) -> dict[str, Any]:
    """Flagged by the whole clip alone, and by the whole or any window."""
    out: dict[str, Any] = {}
    for kind in sorted({j.kind for j in made}):
        scores = [probability(j.found, weights, offset) for j in made if j.kind == kind]
        out[kind] = {
            "whole": shares(np.array([s[0] for s in scores]), point),
            "windows": shares(np.array([s.max() for s in scores]), point),
            "worst": round(float(max(s.max() for s in scores)), 3),
        }
    return out


def by_correlation(train: Sequence[Talk], seen: Sequence[Talk], config: Config) -> dict[str, Any]:
    """What plain correlation of level and opening would do, weighed and reported like the net."""
    counts = np.zeros(len(CURVES))
    counts[CURVES.index("opening")] = 1.0
    homes = {t.home: counts for t in (*train, *seen)}
    made, held = list(cases(train, by_level, homes, config)), list(cases(seen, by_level, homes, config))
    weights, offset, scores, point = fit_scores(made, config)
    return {
        "train_out_of_source": report(made, scores, point),
        "validation": report(held, probability([c.found for c in held], weights, offset), point),
    }


def report(made: Sequence[Case], scores: Float64Array, point: float) -> dict[str, Any]:
    """By length of window and kind: flagged of all, and of some kinds a part; as if every case were independent."""
    out: dict[str, Any] = {}
    for window_s in sorted({c.window_s for c in made}):
        found: dict[str, list[int]] = {}
        for i, case in enumerate(made):
            if case.window_s == window_s:
                part = f"shifted_{1000 * abs(case.shift_s):.0f}ms" if case.shift_s else "swapped_alike" if case.alike else case.kind
                for name in {case.kind, part}:
                    found.setdefault(name, []).append(i)
        rows = out.setdefault(f"window_{window_s:g}s" if window_s else "whole_clips", {})
        for kind, chosen in sorted(found.items()):
            rows[kind] = shares(scores[chosen], point)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--config", type=Path, default=CONFIGS / "lipsync.toml")
    parser.add_argument("--measure", action="store_true", help="keep what is shipped; write its results and card anew")
    parser.add_argument("--report", action="store_true", help="print what was measured and write nothing")
    args = parser.parse_args()
    config = Config.load(args.config)
    clips = talks(args.data, args.cache, config)
    train = [t for t in clips if not t.validation]
    homes = sorted({t.home for t in train if t.genuine})
    kernels = {home: fit([t for t in train if t.home != home], config) for home in homes}
    genuine = [t for t in train if t.genuine]
    counts = {home: curve_counts([t for t in genuine if t.home != home], kernels, config) for home in homes}
    made = list(cases(train, by_net(kernels), counts, config))
    if args.measure:
        weights, offset, point, kernel, curves = shipped()
        scores = probability([c.found for c in made], weights, offset)
    else:
        weights, offset, scores, point = fit_scores(made, config)
        kernel, curves = fit(train, config), curve_counts(genuine, kernels, config)
    seen = [t for t in clips if t.validation]
    strangers = {t.home for t in seen}
    asks, counting = by_net(dict.fromkeys(strangers, kernel)), dict.fromkeys(strangers, curves)
    held = list(cases(seen, asks, counting, config))
    measured = {
        "train_out_of_source": report(made, scores, point),
        "validation": report(held, probability([c.found for c in held], weights, offset), point),
    }
    plain = by_correlation(train, seen, config)
    windows = {
        "train_out_of_source": report_judged(list(judged(train, by_net(kernels), counts, config)), weights, offset, point),
        "validation": report_judged(list(judged(seen, asks, counting, config)), weights, offset, point),
    }
    _show(measured)
    _show({f"correlation, {split}": rows for split, rows in plain.items()})
    print(json.dumps(windows))
    print(dict(zip(FIGURES, weights.round(3).tolist(), strict=True)), round(offset, 3), round(point, 3))
    results = {**measured, "judged": windows, "correlation": plain}
    if args.measure:
        record("lipsync", results)
    if args.measure or args.report:
        return
    _write_onnx(kernel, WEIGHTS / "lipsync.onnx")
    table = {
        "command": COMMAND,
        "accepted_s": list(config.accepted_s),
        "window_s": config.judged_s,
        "weights": {**dict(zip(FIGURES, weights.tolist(), strict=True)), "offset": offset},
        "curves": dict(zip(CURVES, curves.tolist(), strict=True)),
        "points": {"review": point},
        "fitted_on": {
            "people": len({t.person for t in train if t.genuine}),
            "genuine_clips": sum(t.genuine for t in train),
            "driven_clips": sum(not t.genuine for t in train),
            "genuine_windows": sum(c.kind == "genuine" for c in made),
        },
    }
    write_table(WEIGHTS / "thresholds.toml", "lipsync", table)
    from training.export import sha256

    path = WEIGHTS / "lipsync.onnx"
    entry = {"file": path.name, "sha256": sha256(path), "version": "2", "licence": "research use only: see the card"}
    write_table(WEIGHTS / "manifest.toml", "lipsync", {**entry, "card": "cards/lipsync.md", "command": COMMAND})
    record("lipsync", results)


def shipped() -> tuple[Float64Array, float, float, Float32Array, Float64Array]:
    """Weights, offset, point, kernel and counts of curves that are in use."""
    import onnx

    thresholds = Thresholds.load(THRESHOLDS)
    table = thresholds.table("lipsync")
    weights = np.array([table["weights"][name] for name in FIGURES])
    counts = np.array([table["curves"][name] for name in CURVES])
    kernel = onnx.numpy_helper.to_array(onnx.load(str(WEIGHTS / "lipsync.onnx")).graph.initializer[0])
    return weights, float(table["weights"]["offset"]), thresholds.point("lipsync", "review"), kernel, counts / counts.sum()


def probability(made: Sequence[Agreement], weights: Float64Array, offset: float) -> Float64Array:
    return np.array([Platt(1.0, 0.0)(float(logit)) for logit in matrix(made) @ weights + offset])


def _show(measured: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> None:
    """Flagged of all."""
    for split, windows in measured.items():
        for window, kinds in windows.items():
            told = (f"{kind} {row['flagged']}/{row['of']}" for kind, row in kinds.items())
            print(f"{split:20} {window:13}", "  ".join(told))


def _write_onnx(kernel: Float32Array, path: Path) -> None:
    """One convolution: ``encoded`` (1, 384, T + 2 REACH) -> ``lips`` (1, 7, T)."""
    from onnx import TensorProto, checker, helper, numpy_helper, save_model

    node = helper.make_node("Conv", ["encoded", "kernel"], ["lips"])
    ends = [
        helper.make_tensor_value_info("encoded", TensorProto.FLOAT, [1, kernel.shape[1], "time_and_margins"]),
        helper.make_tensor_value_info("lips", TensorProto.FLOAT, [1, kernel.shape[0], "time"]),
    ]
    graph = helper.make_graph([node], "lipsync", ends[:1], ends[1:], [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save_model(model, str(path))


if __name__ == "__main__":
    main()
