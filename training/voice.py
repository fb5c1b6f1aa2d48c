"""Fit and judge the voice hint: real speech against the same speech through vocoders, and espeak-ng.

    python -m training.voice            writes [voice] of thresholds.toml, its part of benchmarks/results/speech.json and its card
                                        (three minutes; needs Debian's espeak-ng)

Both halves of a pair go through the same codec and get the same noise, so that the recording carries no label. Windows are judged out
of source for the points; the validation split, one vocoder, and one collection with an unnamed synthesiser are never learnt from.
"""

from __future__ import annotations

import argparse
import csv
import io
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from scipy.signal import butter, sosfilt

from kyc_guard.calibration import Hint
from kyc_guard.config import Limits, Policy, Settings
from kyc_guard.media import AUDIO_RATE_HZ, read_audio
from kyc_guard.reports.metrics import auc
from kyc_guard.speech.hearing import SPEECH_STEP_S, ear
from kyc_guard.speech.recording import unfit_sound
from kyc_guard.speech.timbre import FIGURES, timbre
from kyc_guard.types import Float32Array, Float64Array
from training.fitting import logistic, shares
from training.places import CONFIGS, DATA
from training.speech_card import record
from training.thresholds import THRESHOLDS, write_table
from training.vocoders import VOCODERS, espeak

COMMAND = "python -m training.voice"
_WORDS = tuple("please confirm open my account river seven nine two blue garden four table six window eight paper one mother five".split())  # noqa: SIM905  # reads as what it is


@dataclass(frozen=True, slots=True)
class Config:
    sources: tuple[str, ...]
    unseen: str
    window_s: float
    codecs: tuple[str, ...]
    codec_bit_rate: int
    noise_db: tuple[float, float]
    espeak_voices: tuple[str, ...]
    held_out: str
    ridge: float
    cut: float
    review_bpcer: float

    @classmethod
    def load(cls, path: Path) -> Config:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Figures of one window."""

    kind: str
    """real, a vocoder, espeak, synthetic (of the unseen collection) or replayed."""
    home: str
    person: str
    validation: bool
    figures: Float64Array


def rows(data: Path, config: Config) -> Iterator[Row]:
    """Real windows and what is made of them."""
    rng = np.random.default_rng(0)
    for path, label, source, subject, validation in _recordings(data, config):
        audio = read_audio(data / path, Limits())
        if audio is None:
            continue
        home = "hdtf" if subject.startswith("hdtf_") else source
        for window in _windows(audio, config.window_s):
            if label == "attack":
                yield from _row("synthetic", home, subject, validation, window)
                continue
            codec, noise_db = str(rng.choice(config.codecs)), float(rng.uniform(*config.noise_db)) if rng.random() < 0.5 else None
            if source == config.unseen:  # both of its classes as they are
                yield from _row("real", home, subject, validation, window)
                continue
            spoken = " ".join(rng.choice(_WORDS, 8))
            made = {"real": window, **{name: vocoder(window, rng) for name, vocoder in VOCODERS.items()}, "replayed": replayed(window, rng)}
            made["espeak"] = _level_as(espeak(spoken, str(rng.choice(config.espeak_voices))), window)
            floor_db = noise_db if noise_db is not None else _floor_db(window)
            for kind, sound in made.items():
                noisy = sound if noise_db is None and kind != "espeak" else _noisy(sound, floor_db, rng)
                yield from _row(kind, home, subject or path, validation, coded(noisy, codec, config.codec_bit_rate))


def _recordings(data: Path, config: Config) -> Iterator[tuple[str, str, str, str, bool]]:
    for name in ("manifest.csv", "audio.csv"):
        with (data / name).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                speech = row["path"].startswith(("clips/", "audio/")) and row["source"] in (*config.sources, config.unseen)
                if speech and (row["label"] == "bona_fide" or row["source"] == config.unseen):
                    validation = row["split"] == "validation" or row["source"] == config.unseen
                    yield row["path"], row["label"], row["source"], row["subject"], validation


def _windows(audio: Float32Array, window_s: float) -> list[Float32Array]:
    length = round(window_s * AUDIO_RATE_HZ)
    return [audio[i : i + length] for i in range(0, max(len(audio) - length, 0) + 1, length)]


def _row(kind: str, home: str, person: str, validation: bool, sound: Float32Array) -> Iterator[Row]:
    policy = Policy.load(Settings().policy_path)
    speech = ear().speech(sound)
    if unfit_sound(sound, policy) is None and float((speech > 0.5).sum()) * SPEECH_STEP_S >= policy.gate("speech_min_s"):
        found = timbre(sound, speech)
        yield Row(kind, home, person, validation, np.array([found[name] for name in FIGURES]))


def _floor_db(audio: Float32Array) -> float:
    """Level of the quietest tenth against the whole, for noise under sounds that have none."""
    power = np.square(audio[: len(audio) // 320 * 320].reshape(-1, 320)).mean(axis=1)
    return float(10 * np.log10((np.percentile(power, 10) + 1e-9) / (power.mean() + 1e-9)))


def _level_as(sound: Float32Array, other: Float32Array) -> Float32Array:
    scale = float(np.sqrt(np.mean(other**2)) / (np.sqrt(np.mean(sound**2)) + 1e-9))
    return np.clip(sound * np.float32(scale), -1.0, 1.0)


def _noisy(sound: Float32Array, below_db: float, rng: np.random.Generator) -> Float32Array:
    noise = rng.normal(0, np.sqrt(np.mean(sound**2)) * 10 ** (below_db / 20), len(sound))
    return np.clip(sound + noise, -1.0, 1.0).astype(np.float32)


def replayed(audio: Float32Array, rng: np.random.Generator) -> Float32Array:
    """A small loudspeaker in a room, heard by a microphone: band, resonance, echoes. Simulated; only reported on."""
    band = sosfilt(butter(2, [rng.uniform(150, 400), rng.uniform(5500, 7000)], "bandpass", fs=AUDIO_RATE_HZ, output="sos"), audio)
    tail = rng.normal(size=4000) * np.exp(-np.arange(4000) / (AUDIO_RATE_HZ * rng.uniform(0.03, 0.08)))
    tail *= 0.5 / np.linalg.norm(tail)
    tail[0] += 1.0
    return _level_as(np.convolve(band, tail)[: len(audio)].astype(np.float32), audio)


def coded(audio: Float32Array, codec: str, bit_rate: int) -> Float32Array:
    """There and back through a lossy codec in memory."""
    if codec == "none":
        return audio
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream: Any = out.add_stream(codec, rate=AUDIO_RATE_HZ, layout="mono")
        stream.bit_rate = bit_rate
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=AUDIO_RATE_HZ, frame_size=stream.frame_size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None], np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE_HZ, 0, Fraction(1, AUDIO_RATE_HZ)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            out.mux(stream.encode(piece))
    heard = read_audio(buffer.getvalue(), Limits())
    assert heard is not None
    return heard


# ---- weights, points, report


def logits(hint: Hint, found: Sequence[Row]) -> Float64Array:
    return hint(np.stack([r.figures for r in found]))


def fit(found: Sequence[Row], config: Config) -> Hint:
    """Real and attacks weigh the same, so do the kinds of attack, so do homes."""
    x = np.stack([r.figures for r in found])
    attack = np.array([r.kind != "real" for r in found])
    centre, scale = x[~attack].mean(axis=0), x[~attack].std(axis=0) + 1e-6
    keys = [(r.kind, r.home) for r in found]
    counts = {key: keys.count(key) for key in set(keys)}
    kinds = len({r.kind for r in found}) - 1
    weight = np.array([10 / counts[key] / (1 if key[0] == "real" else kinds) for key in keys])
    z = np.clip((x - centre) / scale, -config.cut, config.cut)
    weights, offset = logistic(np.concatenate([z, np.abs(z)], axis=1), attack, weight, config.ridge)
    signed, away = np.split(weights, 2)
    return Hint(centre, scale, signed, away, offset, config.cut)


def report(found: Sequence[Row], hint: Hint, logit: float) -> dict[str, Any]:
    """Windows flagged at the point, and AUC against the real windows, by kind."""
    scores = logits(hint, found)
    kinds = np.array([r.kind for r in found])
    out: dict[str, Any] = {"real": shares(scores[kinds == "real"], logit)}
    for kind in sorted(set(kinds) - {"real"}):
        out[kind] = shares(scores[kinds == kind], logit) | {"auc": auc(scores[kinds == "real"], scores[kinds == kind])}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--config", type=Path, default=CONFIGS / "voice.toml")
    parser.add_argument("--report", action="store_true", help="print what was measured and write nothing")
    args = parser.parse_args()
    config = Config.load(args.config)
    found = list(rows(args.data, config))
    learnt = [r for r in found if not r.validation and r.kind not in {config.held_out, "replayed"}]
    out_of_source: list[float] = []
    for home in sorted({r.home for r in learnt}):
        hint = fit([r for r in learnt if r.home != home], config)
        out_of_source += logits(hint, [r for r in learnt if r.home == home and r.kind == "real"]).tolist()
    logit = float(np.quantile(out_of_source, 1 - config.review_bpcer, method="higher"))
    hint = fit(learnt, config)
    measured = {
        "validation": report([r for r in found if r.validation and r.home != config.unseen], hint, logit),
        "unseen": report([r for r in found if r.home == config.unseen], hint, logit),
    }
    for part, kinds in measured.items():
        for kind, row in kinds.items():
            print(f"{part:11} {kind:16} {row['flagged']}/{row['of']}  auc {row.get('auc', float('nan')):.3f}")
    print({name: round(float(w), 2) for name, w in zip(FIGURES, hint.weights, strict=True)}, round(logit, 2))
    if args.report:
        return
    table = {
        "command": COMMAND,
        "cut": config.cut,
        "offset": hint.offset,
        **{key: dict(zip(FIGURES, getattr(hint, key).tolist(), strict=True)) for key in ("centre", "scale", "weights", "away")},
        "points": {"review": float(1 / (1 + np.exp(-logit)))},
        "fitted_on": {"real_windows": sum(r.kind == "real" for r in learnt), "people": len({r.person for r in learnt})},
    }
    write_table(THRESHOLDS, "voice", table)
    record("voice", measured)


if __name__ == "__main__":
    main()
