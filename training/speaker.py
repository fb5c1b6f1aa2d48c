"""Teach the voice print: it begins as Resemblyzer's network and learns to say of worn speech what that says of clean.

    python -m pip download --no-deps --dest ~/.cache/kyc_guard_training Resemblyzer==0.1.4
    python -m training.speaker      writes weights/speaker.onnx, [speaker] of thresholds.toml, its part of benchmarks/results/speech.json
                                    and its card (ten minutes on one core)

The teacher's wheel is only read, never installed. People are few, so points come from two nets that each learnt from one half of the train
people and judge the other; what ships learnt from all of them, and is measured on people of the validation split.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt
from torch import Tensor, nn
from torch.nn import functional

from kyc_guard.config import Limits, Settings
from kyc_guard.doctor import write_selftest
from kyc_guard.media import AUDIO_RATE_HZ, read_audio
from kyc_guard.reports.metrics import auc
from kyc_guard.speech.hearing import SPEECH_STEP_S, ear
from kyc_guard.speech.voice_print import MELS, MODEL, WINDOW_FRAMES, spoken, unit, windows
from kyc_guard.types import Float32Array, Float64Array
from kyc_guard.weights import demand_sha256
from training.export import TOLERANCE, sha256
from training.fitting import logistic, shares
from training.places import CACHE, CONFIGS, DATA
from training.speech_card import record
from training.thresholds import THRESHOLDS, write_table
from training.voice import coded

COMMAND = "python -m training.speaker"
TEACHER = "Resemblyzer-0.1.4-py3-none-any.whl"
_TEACHER_SHA256 = "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f"
_WIDTH = 256
_FOLDS = 2
_SHARP = 20.0
"""Likenesses times this are the log-odds of who spoke."""
_WEIGHTS = THRESHOLDS.parent
_LICENCE = "research use only: derived from Resemblyzer's network (Apache-2.0), taught on footage for research, see the card"


@dataclass(frozen=True, slots=True)
class Config:
    """configs/speaker.toml, where each field is explained."""

    sources: tuple[str, ...]
    reader: str
    reader_recordings: int
    piece_s: float
    least_piece_s: float
    batch: int
    steps: int
    learning_rate: float
    contrast: float
    clean_share: float
    average_decay: float
    codecs: tuple[str, ...]
    codec_bit_rate: tuple[int, int]
    noise_db: tuple[float, float]
    ceiling_hz: tuple[float, float]
    seed: int
    review_bpcer: float

    @classmethod
    def load(cls, path: Path) -> Config:
        return cls(**tomllib.loads(path.read_text(encoding="utf-8")))


class SpeakerNet(nn.Module):
    """Mel windows (N, 160, 40) -> unit vectors (N, 256); Resemblyzer's shapes and names."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, _WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, mel: Tensor) -> Tensor:
        heard, _ = self.lstm(mel)
        return functional.normalize(functional.relu(self.linear(heard[:, -1])))


def teacher(wheel: Path) -> SpeakerNet:
    """Resemblyzer's network, out of its wheel.

    Raises:
        ModelError: the file is another one, or is not there.
    """
    demand_sha256(wheel, _TEACHER_SHA256, f"the file: python -m pip download --no-deps --dest {wheel.parent} Resemblyzer==0.1.4")
    with zipfile.ZipFile(wheel) as file:
        state = torch.load(io.BytesIO(file.read("resemblyzer/pretrained.pt")), map_location="cpu", weights_only=True)["model_state"]
    net = SpeakerNet()
    net.load_state_dict({k: v for k, v in state.items() if k.startswith(("lstm.", "linear."))})
    return net.eval()


class Piece(NamedTuple):
    """A few seconds of one person's speech."""

    person: str
    home: str
    validation: bool
    voice: Float32Array


def pieces(data: Path, config: Config) -> list[Piece]:
    """Of every recording of the wanted sources, as long as `Config.piece_s`, the last as long as is left."""
    found, seen = [], defaultdict[str, int](int)
    for name in ("manifest.csv", "audio.csv"):
        with (data / name).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                person = row["subject"] or row["path"]
                mine = row["source"] in config.sources and row["label"] == "bona_fide" and row["path"].startswith(("clips/", "audio/"))
                if not mine or (person.startswith("anmol") and person != config.reader):
                    continue
                audio = read_audio(data / row["path"], Limits())
                speech = None if audio is None else ear().speech(audio)
                if audio is None or speech is None or float((speech > 0.5).sum()) * SPEECH_STEP_S < config.least_piece_s:
                    continue
                seen[person] += 1
                if person == config.reader and seen[person] > config.reader_recordings:
                    continue
                voice = spoken(audio, speech)
                length = round(config.piece_s * AUDIO_RATE_HZ)
                home = "hdtf" if person.startswith("hdtf_") else row["source"]
                for start in range(0, len(voice), length):
                    part = voice[start : start + length]
                    if len(part) >= config.least_piece_s * AUDIO_RATE_HZ:
                        found.append(Piece(person, home, row["split"] == "validation", part))
    return found


def worn(voice: Float32Array, config: Config, rng: np.random.Generator) -> Float32Array:
    """The same words by another microphone, in another room, through a codec: band, tilt, echoes, noise. Some of these, not all."""
    out = voice.astype(np.float64)
    if rng.random() < 0.5:
        ceiling = float(rng.uniform(*config.ceiling_hz))
        out = sosfilt(butter(4, ceiling, fs=AUDIO_RATE_HZ, output="sos"), out)
    if rng.random() < 0.5:
        lean = float(rng.uniform(-0.6, 0.6))
        out = sosfilt(np.array([[1.0, lean, 0.0, 1.0, 0.0, 0.0]]), out)
    if rng.random() < 0.4:
        tail = rng.normal(size=4800) * np.exp(-np.arange(4800) / (AUDIO_RATE_HZ * rng.uniform(0.02, 0.1)))
        tail *= rng.uniform(0.2, 0.7) / np.linalg.norm(tail)
        tail[0] += 1.0
        out = np.convolve(out, tail)[: len(voice)]
    if rng.random() < 0.6:
        out = out + rng.normal(0, np.sqrt(np.mean(out**2)) * 10 ** (rng.uniform(*config.noise_db) / 20), len(out))
    out *= 0.5 / max(float(np.abs(out).max()), 1e-6)
    return coded(out.astype(np.float32), str(rng.choice(config.codecs)), int(rng.uniform(*config.codec_bit_rate)))


def taught(wheel: Path, known: Sequence[Piece], config: Config) -> SpeakerNet:
    """A copy of the teacher that learnt to say of every worn window what the teacher says of all the clean speech of its person."""
    master = teacher(wheel)
    prints = {id(p): embed(master, p.voice) for p in known}
    people = {name: unit(np.mean([prints[id(p)] for p in known if p.person == name], axis=0)) for name in {p.person for p in known}}
    chance = np.array([1 / sum(q.person == p.person for q in known) for p in known])  # people count alike, not seconds
    names, targets = list(people), torch.from_numpy(np.stack(list(people.values())))
    net, rng = copy.deepcopy(master).train(), np.random.default_rng(config.seed)
    average = copy.deepcopy(master)
    optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=1e-4)
    for step in range(config.steps):
        chosen = [known[i] for i in rng.choice(len(known), config.batch, p=chance / chance.sum())]
        heard = [windows(p.voice if rng.random() < config.clean_share else worn(p.voice, config, rng)) for p in chosen]
        mel = torch.from_numpy(np.stack([w[rng.integers(len(w))] for w in heard]))
        wanted = torch.from_numpy(np.stack([unit(prints[id(p)] + people[p.person]) for p in chosen]))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 10, 2 * (config.steps - step) / config.steps)
        said, who = net(mel), torch.tensor([names.index(p.person) for p in chosen])
        # Nearer to one's own print alone would draw everybody together.
        loss = (1.0 - (said * wanted).sum(1)).mean() + config.contrast * functional.cross_entropy(said @ targets.T * _SHARP, who)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        decay = min(config.average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(new, 1.0 - decay)
        if (step + 1) % 20 == 0:
            print(f"step {step + 1} of {config.steps}: loss {loss.item():.4f}", flush=True)
    return average.eval()


@torch.inference_mode()
def embed(net: SpeakerNet, voice: Float32Array) -> Float32Array:
    """(256,) unit vector, as `kyc_guard.speech.voice_print.VoicePrints` makes it."""
    return unit(net(torch.from_numpy(windows(voice))).numpy().mean(axis=0))


# ---- pairs, points, report


class Pairs(NamedTuple):
    """Likeness (cosine) of pairs of pieces, one heard as it is and one worn or not."""

    likeness: Float64Array
    same: NDArray[np.bool_]
    """(N,): one person's."""
    home: NDArray[np.bool_]
    """(N,): both from one source, so that the recording does not tell them apart."""


def pairs_of(net: SpeakerNet, found: Sequence[Piece], config: Config, *, wear: bool) -> Pairs:
    """Every two pieces, in both directions where the second is worn."""
    rng = np.random.default_rng(config.seed)
    clean = np.stack([embed(net, p.voice) for p in found])
    other = np.stack([embed(net, worn(p.voice, config, rng)) for p in found]) if wear else clean
    every = [(i, j) for i in range(len(found)) for j in range(len(found)) if (i != j if wear else i < j)]
    return Pairs(
        np.array([float(clean[i] @ other[j]) for i, j in every]),
        np.array([found[i].person == found[j].person for i, j in every]),
        np.array([found[i].home == found[j].home for i, j in every]),
    )


def told_apart(pairs: Pairs, point: float) -> dict[str, Any]:
    """Pairs flagged at a likeness: a person's own, all strangers' and those of strangers from one source; AUC of these two against own."""
    out: dict[str, Any] = {"own": shares(-pairs.likeness[pairs.same], -point)}
    for name, strangers in (("strangers", ~pairs.same), ("strangers of one source", ~pairs.same & pairs.home)):
        own, apart = pairs.likeness[pairs.same], pairs.likeness[strangers]
        out[name] = shares(-apart, -point) | {"auc": auc(-own, -apart)}
    return out


def folded(wheel: Path, found: Sequence[Piece], config: Config) -> Pairs:
    """Pairs of the train people, clean and worn, each judged by a net that learnt from neither."""
    people = sorted({p.person for p in found})
    parts = []
    for fold in range(_FOLDS):
        theirs = set(people[fold::_FOLDS])
        net = taught(wheel, [p for p in found if p.person not in theirs], config)
        parts += [pairs_of(net, [p for p in found if p.person in theirs], config, wear=wear) for wear in (False, True)]
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def export(net: SpeakerNet) -> None:
    """Write weights/speaker.onnx and its manifest entry.

    Raises:
        ValueError: ONNX says something else than torch.
    """
    path, probe = _WEIGHTS / f"{MODEL}.onnx", torch.rand(3, WINDOW_FRAMES, MELS, generator=torch.Generator().manual_seed(0))
    axes = {"mel": {0: "batch"}, "embedding": {0: "batch"}}
    torch.onnx.export(
        net,
        (probe,),
        str(path),
        input_names=["mel"],
        output_names=["embedding"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    said = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"mel": probe.numpy()})[0]
    with torch.inference_mode():
        difference = float(np.abs(said - net(probe).numpy()).max())
    if difference > TOLERANCE:
        raise ValueError(f"{path.name} differs from torch by {difference:.2e}")
    entry = {"file": path.name, "sha256": sha256(path), "version": "1", "licence": _LICENCE}
    write_table(_WEIGHTS / "manifest.toml", MODEL, {**entry, "card": "cards/speaker.md", "command": COMMAND})
    print(f"{path.name}: {path.stat().st_size:,} bytes, torch - ONNX {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--config", type=Path, default=CONFIGS / "speaker.toml")
    parser.add_argument("--teacher", type=Path, default=CACHE / TEACHER, help="Resemblyzer's wheel")
    parser.add_argument("--report", action="store_true", help="print what was measured and write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Config.load(args.config)
    found = pieces(args.data, config)
    known, strangers = [p for p in found if not p.validation], [p for p in found if p.validation]
    own = folded(args.teacher, known, config)
    point = float(np.quantile(own.likeness[own.same], config.review_bpcer, method="lower"))
    weight = np.asarray(np.where(own.same, 50 / own.same.sum(), 50 / (~own.same).sum()), np.float64)
    slopes, offset = logistic(own.likeness[:, None], ~own.same, weight, 1.0)
    net = taught(args.teacher, known, config)
    measured: Mapping[str, Any] = {
        "people": {"train": len({p.person for p in known}), "validation": len({p.person for p in strangers})},
        "pieces": {"train": len(known), "validation": len(strangers)},
        "folds": told_apart(own, point),
        "clean": told_apart(pairs_of(net, strangers, config, wear=False), point),
        "worn": told_apart(pairs_of(net, strangers, config, wear=True), point),
        "teacher": {
            name: told_apart(pairs_of(teacher(args.teacher), strangers, config, wear=name == "worn"), point) for name in ("clean", "worn")
        },
        "likeness": point,
    }
    for name in ("folds", "clean", "worn"):
        print(name, {k: (f"{v['flagged']}/{v['of']}", round(v.get("auc", 0.0), 4)) for k, v in measured[name].items()})
    for name, row in measured["teacher"].items():
        print("teacher", name, {k: (f"{v['flagged']}/{v['of']}", round(v.get("auc", 0.0), 4)) for k, v in row.items()})
    slope = -float(slopes[0])
    print(f"likeness {point:.3f}, slope {slope:.2f}, offset {offset:.2f}")
    if args.report:
        return
    export(net)
    score = float(1 / (1 + np.exp(slope * point - offset)))
    table = {
        "command": COMMAND,
        "calibration": {"slope": slope, "offset": offset},
        "points": {"review": score},
        "model_sha256": sha256(_WEIGHTS / f"{MODEL}.onnx"),
        "fitted_on": {"people": measured["people"]["train"], "own_pairs": int(own.same.sum()), "strangers_pairs": int((~own.same).sum())},
    }
    write_table(THRESHOLDS, "speaker", table)
    record("speaker", measured)
    print(f"{write_selftest(Settings())}: written")


if __name__ == "__main__":
    main()
