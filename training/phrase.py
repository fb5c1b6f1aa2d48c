"""The phrase check: its lip reader, its calibration, and how well it does.

    python -m training.phrase [--spoken FOLDER]     writes weights/phrase_lips.npz, manifest, [phrase] of thresholds.toml, its part of
                                                    benchmarks/results/speech.json and its card (ten minutes on two cores)
    python -m training.phrase --measure             keeps the fit and measures anew what another rival could change

Sound: nothing is trained. Phrases made by espeak-ng calibrate (some voices) and report (others), and so do pieces cut from the shared
clips: as they are, with one word changed, with one word left out (of pieces: one more asked than said), and with another clip's words.
FOLDER holds further recordings, named by their words (seven_lemon_two.wav); they are only reported. Lips: see `training.lip_reader`;
figures leave one person out at a time.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Limits, Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors.phrase import Margins, Phrase, Sound
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces.following import follow_face
from kyc_guard.faces.mouth import Mouth
from kyc_guard.media import AUDIO_RATE_HZ, read_audio, read_clip
from kyc_guard.reports.metrics import auc, clopper_pearson
from kyc_guard.speech.hearing import ear
from kyc_guard.speech.lips import LipReader
from kyc_guard.speech.listening import Listener
from kyc_guard.speech.words import Language, language
from kyc_guard.types import Float32Array, Float64Array
from training.data import read_manifest
from training.fitting import logistic
from training.lip_reader import Lipped, Shrunk, Spoken, chosen, everyday, nested, placed, reader_of
from training.places import CONFIGS, DATA, RESULTS
from training.speech_card import record
from training.thresholds import THRESHOLDS, write_table

WEIGHTS = THRESHOLDS.parent
COMMAND = "python -m training.phrase"
_PHRASE_WORDS = 6
_WRONG = 8
"""Other phrases every piece of a clip is held against."""
_CAUGHT = 0.96
"""Share of the phrases with one word changed that fall short of the point; 95 % are wanted of new ones."""
_FITTING = {"made calibration", "clips train"}


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One recording to be held against one phrase."""

    part: str
    kind: str
    """right, changed (one word), dropped (one word asked that is not said) or wrong (another phrase)."""
    audio: Float32Array
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What came of a trial."""

    part: str
    kind: str
    margin: float
    confidence: float


def utterances(data: Path, config: Mapping[str, Any]) -> list[Spoken]:
    """The shared clips whose words are known."""
    rows, known = {row.path: row for row in read_manifest(data)}, timed_words(data / "words.csv")
    listener, limits = Listener(ear()), Limits()
    clips = []
    for entry in config["clips"]:
        row, path = rows[entry["path"]], data / entry["path"]
        audio = read_audio(path, limits)
        if audio is None:
            raise ValueError(f"{path} has no sound")
        clip = read_clip(path, Sampling(frames=1, burst_frames=0, motion_hz=25.0), limits)
        words = tuple(entry["text"].split()) if "text" in entry else known[entry["path"]]
        loud = np.flatnonzero(ear().speech(audio) > 0.5) * 0.032
        spans = np.clip(listener.spans_s(audio, words), loud[0] - 0.1, loud[-1] + 0.1)
        clips.append(
            Spoken(
                path=entry["path"],
                person=entry.get("person", row.subject or row.source),
                split="validation" if row.split == "validation" else "train",
                words=words,
                spans_s=tuple((float(a), float(b)) for a, b in spans),
                audio=audio,
                mouth=Mouth.of(follow_face(clip.motion_rgb), clip.motion_timestamps_s),
            )
        )
    return clips


def timed_words(path: Path) -> dict[str, tuple[str, ...]]:
    """The words of every clip that the data itself has word times of."""
    said: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            said.setdefault(row["path"], []).append(row["word"])
    return {clip: tuple(w for w in words if w != "sil") for clip, words in said.items()}


def espoken(words: Sequence[str], voice: str, chance: random.Random) -> Float32Array:
    """(N,) mono at 16 kHz: espeak-ng says the words at some speed and pitch."""
    manner = ["-v", voice, "-s", str(chance.randint(115, 170)), "-p", str(chance.randint(35, 65))]
    said = chance.choice((" ", ", ")).join(words)
    wav = subprocess.run(["/usr/bin/env", "espeak-ng", *manner, "--stdout", said], capture_output=True, check=True).stdout
    audio = read_audio(wav, Limits())
    assert audio is not None
    return audio


def changed(words: Sequence[str], others: Language, chance: random.Random) -> tuple[str, ...]:
    """One word replaced: half the time by one of the eight that sound most alike."""
    at = chance.randrange(len(words))
    near = [w for w in others.near(words[at], 8) if w not in words]
    anything = [w for w in (*others.digits, *others.words) if w not in words]
    return (*words[:at], chance.choice(near if near and chance.random() < 0.5 else anything), *words[at + 1 :])


def longer(words: Sequence[str], others: Language, chance: random.Random) -> tuple[str, ...]:
    """One more word asked than said, anywhere."""
    at = chance.randrange(len(words) + 1)
    return (*words[:at], chance.choice([w for w in (*others.digits, *others.words) if w not in words]), *words[at:])


def made(config: Mapping[str, Any], part: str) -> Iterator[tuple[Float32Array, tuple[str, ...]]]:
    """Phrases as sessions ask for them, in the espeak-ng voices of one part."""
    chance = random.Random(part)
    for number in range(int(config["made"]["phrases"])):
        words = language().words_of(language().issue(chance, _PHRASE_WORDS))
        yield espoken(words, config["made"][part][number % len(config["made"][part])], chance), words


def left_out(config: Mapping[str, Any], part: str) -> Iterator[Trial]:
    """Phrases with one word left out, as often the first as the last, in the voices of one part."""
    chance = random.Random(f"drop {part}")
    for number in range(int(config["made"]["phrases"])):
        words, at = language().words_of(language().issue(chance, _PHRASE_WORDS)), number % _PHRASE_WORDS
        audio = espoken((*words[:at], *words[at + 1 :]), config["made"][part][number % len(config["made"][part])], chance)
        yield Trial(f"made {part}", "dropped", audio, words)


def held_against(recordings: Iterator[tuple[Float32Array, tuple[str, ...]]], part: str) -> Iterator[Trial]:
    """Every recording against its words and against them with one changed."""
    chance = random.Random(f"changed {part}")
    for audio, words in recordings:
        yield Trial(part, "right", audio, words)
        yield Trial(part, "changed", audio, changed(words, language(), chance))


def cut(clips: Sequence[Spoken]) -> Iterator[Trial]:
    """Six-word pieces of the shared clips against their own words, one changed, and the words of other clips."""
    chance, adding = random.Random("cut"), random.Random("longer")
    whole = [(c, i) for c in clips for i in _firsts(c)]
    for clip, first in whole:
        words, audio = _piece(clip, first)
        part = f"clips {clip.split}"
        yield Trial(part, "right", audio, words)
        yield Trial(part, "changed", audio, changed(words, language(), chance))
        yield Trial(part, "dropped", audio, longer(words, language(), adding))
        elsewhere = [(c, i) for c, i in whole if not set(c.words[i : i + _PHRASE_WORDS]) & set(words)]
        for other, at in chance.sample(elsewhere, min(_WRONG, len(elsewhere))):
            yield Trial(part, "wrong", audio, other.words[at : at + _PHRASE_WORDS])


def pairings(clips: Sequence[Spoken], how: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """Six-word pieces against the words of every piece of another person's clip without a common word: how many such pairings pass.

    No phrase's margin is more than its fit allows, so only those that could pass at all are heard in full.
    """
    listener, could, passed, tried, people = Listener(ear()), 0, 0, 0, set()
    for clip in clips:
        others = [_piece(c, i)[0] for c in clips if c.person != clip.person for i in _firsts(c)]
        for first in _firsts(clip):
            words, audio = _piece(clip, first)
            elsewhere = sorted({o for o in others if not set(o) & set(words)})
            tried += len(elsewhere)
            for other, fit in zip(elsewhere, listener.fits(audio, elsewhere), strict=True):
                if fit + float(how["fit_margin"]) > limit:
                    could += 1
                    passed += heard(Trial("pairings", "pairing", audio, other), how).margin > limit
            people.add(clip.person)
    return {"passed": passed, "could_pass": could, "of": tried, "interval_95": list(clopper_pearson(passed, tried)), "people": len(people)}


def _firsts(clip: Spoken) -> range:
    """Where the pieces of a clip begin."""
    return range(0, len(clip.words) - _PHRASE_WORDS + 1, 3)


def _piece(clip: Spoken, first: int) -> tuple[tuple[str, ...], Float32Array]:
    """Six words of a clip, and their sound."""
    words, spans = clip.words[first : first + _PHRASE_WORDS], clip.spans_s[first : first + _PHRASE_WORDS]
    start_s, end_s = max(0.0, spans[0][0] - 0.05), spans[-1][1] + 0.05
    return words, clip.audio[round(start_s * AUDIO_RATE_HZ) : round(end_s * AUDIO_RATE_HZ)]


def heard(trial: Trial, how: Mapping[str, Any]) -> Case:
    # Fewer rivals can only flatter a phrase: a wrong one that fails against one near word each would fail against all.
    near = 1 if trial.kind == "wrong" else int(how["near_words"])
    found = Listener(ear()).hear(trial.audio, trial.words, language(), near)
    margins = margins_of(how)
    return Case(trial.part, trial.kind, margins.of(found), found.confidence)


def margins_of(how: Mapping[str, Any]) -> Margins:
    return Margins(*(float(how[f"{name}_margin"]) for name in ("free", "skip", "fit")))


def platt(right: Float64Array, wrong: Float64Array) -> Platt:
    """P(wrong) from figures that are higher for wrong ones, both classes weighing the same."""
    counts = len(right), len(wrong)
    weight = np.repeat([sum(counts) / (2 * n) for n in counts], counts)
    slope, offset = logistic(np.concatenate([right, wrong])[:, None], np.repeat([False, True], counts), weight, ridge=1.0)
    return Platt(float(slope[0]), offset)


def review_margin(cases: Sequence[Case]) -> float:
    """The lowest margin at which `_CAUGHT` of the phrases with one word changed fall short."""
    got_by = sorted((c.margin for c in cases if c.kind == "changed"), reverse=True)
    return got_by[int((1 - _CAUGHT) * len(got_by))]


def counted(cases: Sequence[Case], limit: float, least_confidence: float) -> dict[str, Any]:
    """For every part and kind: k of n passed (margin above the limit, clear enough to judge), with its 95 % interval."""
    table: dict[str, Any] = {}
    for part, kind in sorted({(c.part, c.kind) for c in cases}):
        mine = [c for c in cases if (c.part, c.kind) == (part, kind)]
        passed = sum(c.margin > limit and c.confidence >= least_confidence for c in mine)
        unclear = sum(c.confidence < least_confidence for c in mine)
        interval = list(clopper_pearson(passed, len(mine)))
        table[f"{part} {kind}".replace(" ", "_")] = {"passed": passed, "of": len(mine), "interval_95": interval, "unclear": unclear}
    return table


def lipped(found: Sequence[Lipped]) -> dict[str, Any]:
    """AUC of the right words against random ones, free and at the times heard; an interval over people."""
    table: dict[str, Any] = {"pieces": len(found), "people": len({p.person for p in found})}
    for column, name in enumerate(("free", "timed")):
        right = np.array([-p.right[column] for p in found])
        wrong = np.array([-w[column] for p in found for w in p.wrong])
        people = np.array([p.person for p in found]), np.array([p.person for p in found for _ in p.wrong])
        low, high = auc_over_people(right, wrong, people)
        table[name] = {"auc": auc(right, wrong), "low": low, "high": high, "pairs": len(wrong)}
    return table


def auc_over_people(right: Float64Array, wrong: Float64Array, people: tuple[Any, Any]) -> tuple[float, float]:
    """95 % of resamples of people."""
    names, chance, values = sorted(set(people[0])), np.random.default_rng(0), []
    for _ in range(1000):
        drawn = chance.choice(len(names), len(names))
        rows = [np.concatenate([v[p == names[i]] for i in drawn]) for v, p in zip((right, wrong), people, strict=True)]
        values.append(auc(*rows))
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def with_lips(clips: Sequence[Spoken], how: Mapping[str, Any], shrunk: Shrunk, point: float) -> dict[str, Any]:
    """The shipped score, words and lips, of right six-word pieces: lips can only add suspicion to others. Each person's are read by a
    reader of the others'.
    """
    judge, listener = Phrase.load(Bundle.load(Settings())), Listener(ear())
    spoken = everyday([w for c in clips for w in c.words] + list(language().sounds))
    labels = placed(clips, spoken, how)
    table = {"of": 0, "passed_by_words": 0, "passed": 0, "lips_count": 0}
    for person in sorted({c.person for c in clips}):
        others = [i for i, c in enumerate(clips) if c.person != person]
        reader = reader_of([clips[i] for i in others], [labels[i] for i in others], how, shrunk)
        reading = replace(judge, language=spoken, reader=reader)
        for clip, first in ((c, i) for c in clips if c.person == person for i in _firsts(c)):
            words, audio = _piece(clip, first)
            said = listener.hear(audio, words, language(), judge.near_words)
            start_s = max(0.0, clip.spans_s[first][0] - 0.05)
            ratio, margin = reading.lip_ratio(clip.mouth, words, Sound(start_s, said)), judge.margins.of(said)
            table["of"] += 1
            table["passed_by_words"] += judge.score(margin, None) < point
            table["passed"] += judge.score(margin, ratio) < point
            table["lips_count"] += ratio is not None
    return table


def recorded(folder: Path) -> Iterator[tuple[Float32Array, tuple[str, ...]]]:
    for path in sorted(folder.glob("*.wav")):
        if (audio := read_audio(path, Limits())) is not None:
            yield audio, tuple(path.stem.split(".")[-1].split("_"))


def fit_lips(clips: Sequence[Spoken], how: Mapping[str, Any]) -> tuple[list[Lipped], Shrunk, LipReader]:
    """How well lips are read out of person, what is chosen with everybody, and the reader of everybody's."""
    spoken = everyday([w for c in clips for w in c.words] + list(language().sounds))
    labels = placed(clips, spoken, how)
    shrunk = chosen(clips, labels, spoken, how)
    return nested(clips, labels, spoken, how), shrunk, reader_of(clips, labels, how, shrunk)


def least_confidence() -> float:
    return Policy.load(Settings().policy_path).gate("phrase_min_confidence")


def measured_anew(cases: Sequence[Case], clips: Sequence[Spoken], config: Mapping[str, Any]) -> dict[str, Any]:
    """The results with the shipped fit's figures of ``cases`` in them; [phrase] gets the config's listener and keeps the rest."""
    table = Thresholds.load(THRESHOLDS).table("phrase")
    write_table(THRESHOLDS, "phrase", {**table, **config["listener"]})
    known = json.loads((RESULTS / "speech.json").read_text(encoding="utf-8"))["phrase"]
    kept = {name: row for name, row in known["sound"].items() if name.endswith("_wrong")}
    shrunk = Shrunk(known["lips"]["shrinkage"], known["lips"]["repeats"])
    measured = {
        **known,
        "sound": kept | counted(cases, known["margin"], least_confidence()),
        "with_lips": with_lips(clips, config["lips"], shrunk, table["points"]["review"]),
    }
    record("phrase", measured)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIGS / "phrase.toml")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--spoken", type=Path, help="Folder of recordings named by their words; only reported.")
    parser.add_argument("--measure", action="store_true", help="Keep the fit; measure anew what another rival could change.")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    config = tomllib.loads(args.config.read_text(encoding="utf-8"))
    clips = utterances(args.data, config)
    trials = [*held_against(made(config, "calibration"), "made calibration"), *held_against(made(config, "validation"), "made validation")]
    trials += [*left_out(config, "calibration"), *left_out(config, "validation")]
    trials += [*cut(clips), *(held_against(recorded(args.spoken), "recorded") if args.spoken else ())]
    if args.measure:  # a further rival only lowers margins: other phrases that were caught still are
        trials = [t for t in trials if t.kind != "wrong"]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        waiting = pool.map(partial(heard, how=config["listener"]), trials, chunksize=8)
        if args.measure:
            print(json.dumps(measured_anew(list(waiting), clips, config), indent=1))
            return
        found, shrunk, reader = fit_lips(clips, config["lips"])
        cases = list(waiting)
    path = WEIGHTS / "phrase_lips.npz"
    np.savez(path, shapes=np.array(reader.shapes), means=reader.means.astype(np.float32), precision=reader.precision.astype(np.float32))
    from training.export import sha256

    entry = {"file": path.name, "sha256": sha256(path), "version": "2", "licence": "research use only: see the card"}
    write_table(WEIGHTS / "manifest.toml", "phrase_lips", {**entry, "card": "cards/phrase.md", "command": COMMAND})

    fitting = [c for c in cases if c.part in _FITTING]
    words = platt(*(np.array([-c.margin for c in fitting if (c.kind == "right") is right]) for right in (True, False)))
    alone = platt(np.array([-p.right[0] for p in found]), np.array([-w[0] for p in found for w in p.wrong]))
    limit = review_margin(fitting)
    table = {
        "command": COMMAND,
        **config["listener"],
        "words": {"calibration": {"slope": words.slope, "offset": words.offset}},
        "lips": {"calibration": {"slope": alone.slope, "offset": alone.offset}},
        "points": {"review": words(-limit)},
    }
    write_table(THRESHOLDS, "phrase", table)
    measured = {
        "margin": limit,
        "sound": counted(cases, limit, least_confidence()),
        "with_lips": with_lips(clips, config["lips"], shrunk, words(-limit)),
        "pairings": pairings(clips, config["listener"], limit),
        "lips": {**lipped(found), "shrinkage": shrunk.shrinkage, "repeats": shrunk.repeats},
    }
    record("phrase", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
