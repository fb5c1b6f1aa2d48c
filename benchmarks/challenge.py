"""Does the challenge check know what was asked? Actions nobody was asked for, and actions acted as asked.

    python -m benchmarks.challenge [--manifest ../shared/data/manifest.csv] [--split validation] [--acted 24]

Writes ``results/challenge.json`` and ``challenge.md``. Every bona fide clip is followed once; then prompts are placed all over it,
although nobody heard them. What is acted is rendered from portraits of the split's people (`benchmarks.acting`), encoded and followed.
Traces are kept in CACHE, so that another policy is measured in seconds.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import acting
from benchmarks.accuracy import MANIFEST
from benchmarks.acting import Act, Portrait
from benchmarks.record import RESULTS, Goal, goals_table, plain, save, share, table
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.detectors.challenge import ChallengeResponse
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import KycGuardError
from kyc_guard.faces import face_finder, square_crop
from kyc_guard.faces.following import follow_face
from kyc_guard.faces.hands import covered_share, hand_finder
from kyc_guard.faces.movements import DELIBERATE, KINDS, Done, Gates, Traces, judge, unasked
from kyc_guard.media import read_audio, read_clip
from kyc_guard.media.encode import mp4
from kyc_guard.provenance import identity
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import Presentation
from kyc_guard.sessions import MemoryStore, Rules, Sessions
from kyc_guard.types import Clip, Face, UInt8Array

CACHE = Path.home() / ".cache" / "kyc_guard_benchmarks" / "challenge"
_LEAD_S, _STEP_S = 1.6, 0.25
"""A session's first prompt comes 1.2 to 2 s into the clip; prompts are placed this far apart."""
_WINDOWS = 3
"""Prompts of a challenge."""
_REPLICATES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Acted:
    """One rendered clip: what was asked, and what of it was acted how."""

    how: str
    actions: tuple[str, ...]
    prompts_s: tuple[float, ...]
    traces: Traces


@reporting(as_json=False)
def main(
    *,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,subject,split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    split: Annotated[str, typer.Option(help="Which rows of the manifest.")] = "validation",
    acted: Annotated[int, typer.Option(help="Rendered clips of three actions each; half as many more are acted wrongly.")] = 24,
    cache: Annotated[Path, typer.Option(help="Where traces are kept; never inside the repository.")] = CACHE,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measure how often challenges are met unasked, and met when acted."""
    settings = Settings()
    bundle = Bundle.load(settings)
    gates = ChallengeResponse.load(bundle).gates
    rows = [row for row in read_manifest(manifest, root or manifest.parent, split) if row.label == "bona_fide" and _is_clip(row)]
    cache.mkdir(parents=True, exist_ok=True)
    real: dict[str, list[Traces]] = {}
    for row in rows:
        if (traces := observed(row, settings, cache)) is not None and len(traces.times_s):
            real.setdefault(row.subject or row.path, []).append(traces)
    played = rendered(rows, Rules.of(bundle.policy), settings, cache, acted)
    found = plain(
        {
            "command": "python -m benchmarks.challenge",
            "about": {"manifest": manifest.name, "split": split, "acted": acted, **identity(settings)},
            "unasked": unasked_figures(real, gates),
            "acted": acted_figures(played, gates),
        }
    )
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "challenge", found, page(found))
    typer.echo(page(found))


def _is_clip(row: Presentation) -> bool:
    return row.path.startswith("clips/")


# ------------------------------------------------------------------------------------------------------------------- traces


def observed(row: Presentation, settings: Settings, cache: Path) -> Traces | None:
    """What the face in a clip does, hands included, at the rate the pipeline looks; ``None`` where nothing moves or can be read."""
    assert row.file is not None
    kept = cache / f"real-{hashlib.sha256(row.path.encode()).hexdigest()[:16]}.npz"
    if not kept.exists():
        try:
            sounds = read_audio(row.file, settings.limits, name=row.path) is not None
        except KycGuardError:
            sounds = False
        rate_hz = settings.sampling.speech_hz if sounds else settings.sampling.challenge_hz
        try:
            clip = read_clip(row.file, settings.sampling.model_copy(update={"motion_hz": rate_hz}), settings.limits, name=row.path)
        except KycGuardError:
            return None
        if clip.is_still:
            return None
        _keep(kept, traced(clip, hands=True))
    return _kept(kept)


def traced(clip: Clip, *, hands: bool) -> Traces:
    """The face followed through the evenly spread frames of a clip; without ``hands`` nobody looks for any."""
    track = follow_face(clip.motion_rgb)
    cover = np.full(len(track.faces), np.nan)
    last: Face | None = None
    for i, face in enumerate(track.faces if hands else ()):
        last = face or last
        if last is not None:
            cover[i] = covered_share(last, hand_finder().find(clip.motion_rgb[i]))
    return Traces.of(track, clip.motion_timestamps_s, cover)


def _keep(path: Path, traces: Traces) -> None:
    np.savez(path, **{name: getattr(traces, name) for name in Traces.__slots__})


def _kept(path: Path) -> Traces:
    with np.load(path) as arrays:
        return Traces(**{name: arrays[name] for name in Traces.__slots__})


def _from(traces: Traces, start_s: float) -> Traces:
    """The part of a clip from ``start_s`` on."""
    inside = traces.times_s >= start_s
    return Traces(**{name: getattr(traces, name)[inside] for name in Traces.__slots__})


# ------------------------------------------------------------------------------------------------------------------ unasked


def unasked_figures(real: Mapping[str, Sequence[Traces]], gates: Gates) -> dict[str, Any]:
    """How often nobody's answer is taken for one, by action; and how much else is done in a window."""
    faults: dict[str, dict[str, list[str]]] = {action: {} for action in KINDS}
    besides: dict[str, list[frozenset[str]]] = {}
    for person, clips in real.items():
        for traces in clips:
            last_s = float(traces.times_s[-1]) - gates.window_s
            for prompt_s in np.arange(float(traces.times_s[0]) + _LEAD_S, last_s + 1e-6, _STEP_S).tolist():
                part = _from(traces, prompt_s - _LEAD_S - 1e-6)
                for action in KINDS:
                    faults[action].setdefault(person, []).append(judge(part, [action], [prompt_s], gates)[0].fault or "done")
                besides.setdefault(person, []).append(frozenset(unasked(part, [], [prompt_s], gates)))
    return {
        "people": len(besides),
        "windows": sum(map(len, besides.values())),
        "actions": {a: {what: _by_person(people, what) for what in ("done", "too_fast")} for a, people in faults.items()},
        "other_actions": {
            "deliberate": sorted(DELIBERATE),
            "windows_with": np.bincount([len(kinds) for windows in besides.values() for kinds in windows]).tolist(),
            "limit": gates.max_unasked,
            "challenges_called": _called(besides, gates.max_unasked),
        },
    }


def _by_person(people: Mapping[str, Sequence[str]], what: str) -> dict[str, Any]:
    """Share of windows, with an interval that resamples people; of nobody at all, the bound that their number gives."""
    counts = np.array([[list(windows).count(what), len(windows)] for windows in people.values()], np.float64).reshape(-1, 2)
    if not len(counts):
        return {"value": None, "low": None, "high": None, "people_with": 0}
    drawn = np.random.default_rng(0).integers(len(counts), size=(_REPLICATES, len(counts)))
    sums = counts[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    having = int(np.count_nonzero(counts[:, 0]))
    if not having:
        high = Rate.of(0, len(counts)).high
    return {"value": float(counts[:, 0].sum() / counts[:, 1].sum()), "low": float(low), "high": float(high), "people_with": having}


def _called(besides: Mapping[str, Sequence[frozenset[str]]], limit: float) -> float | None:
    """Mean over people of P(more than ``limit`` kinds of unasked movements in three windows drawn from their own)."""
    chances = []
    for windows in besides.values():
        kinds = Counter(windows)
        chances.append(
            sum(
                math.prod(kinds[drawn] / len(windows) for drawn in three)
                for three in itertools.product(kinds, repeat=_WINDOWS)
                if len(frozenset().union(*three)) > limit
            )
        )
    return float(np.mean(chances)) if chances else None


# -------------------------------------------------------------------------------------------------------------------- acted


def portraits(rows: Sequence[Presentation], settings: Settings) -> list[Portrait]:
    """One frontal picture of each person whose clip has a large enough one."""
    found: dict[str, Portrait] = {}
    for row in rows:
        if row.subject in found or row.file is None:
            continue
        try:
            clip = read_clip(
                row.file, settings.sampling.model_copy(update={"burst_frames": 0, "frames": 4}), settings.limits, name=row.path
            )
        except KycGuardError:
            continue
        for frame in clip.frames_rgb:
            if (square := _frontal(frame)) is not None and (portrait := Portrait.of(square)) is not None:
                found[row.subject] = portrait
                break
    return list(found.values())


def _frontal(frame_rgb: UInt8Array) -> UInt8Array | None:
    faces = face_finder().find(frame_rgb)
    if not faces or faces[0].quality.size_px < 80 or max(abs(faces[0].yaw_deg), abs(faces[0].pitch_deg)) > 12:
        return None
    (x, y), (x1, y1) = faces[0].box_xyxy[:2], faces[0].box_xyxy[2:]
    return square_crop(frame_rgb, ((x + x1) / 2, (y + y1) / 2), 2.2 * float(max(x1 - x, y1 - y)), side_px=acting.SIDE_PX)


def rendered(rows: Sequence[Presentation], rules: Rules, settings: Settings, cache: Path, count: int) -> list[Acted]:
    """Clips acted as asked, then half as many of which one act is too small or too late."""
    hows = ["as asked"] * count + [("half done", "late")[i % 2] for i in range(count // 2)]
    people: list[Portrait] = []
    made = []
    for number, how in enumerate(hows):
        chance = Random(number)  # noqa: S311 - made the same way every time
        sessions = Sessions(MemoryStore(), rules, chance=chance)
        challenge = sessions.issue("s", datetime(2026, 1, 1, tzinfo=UTC), possible=acting.ACTIONS)[1]
        # As people do it: from quick to slow, read and reacted to in 0.4 to 1.6 s.
        script = [
            Act(a, p + chance.uniform(0.4, 1.6), chance.uniform(0.8, 1.1), chance.uniform(0.4, 0.9), chance.uniform(0.3, 0.8))
            for a, p in zip(challenge.actions, challenge.prompts_s, strict=True)
        ]
        if how == "half done":
            script = [replace(act, size=0.25) for act in script]
        if how == "late":
            script[-1] = replace(script[-1], start_s=challenge.prompts_s[-1] + rules.window_s + 0.2)
        seconds = challenge.prompts_s[-1] + rules.window_s + (2.4 if how == "late" else 0.2)
        rate_hz, noise, crf = chance.choice((15.0, 25.0)), chance.uniform(1.0, 5.0), chance.choice((20, 26, 32, 36))
        made_of = repr(([row.path for row in rows], number, script, seconds, rate_hz, noise, crf))
        source = hashlib.sha256(Path(acting.__file__).read_bytes() + made_of.encode()).hexdigest()
        kept = cache / f"acted-{source[:16]}.npz"
        if not kept.exists():
            people = people or portraits(rows, settings) or [acting.laughing()]
            who = people[number % len(people)]
            frames = acting.film(script, seconds, seed=number, portrait=who, rate_hz=rate_hz, noise=noise)
            sampling = settings.sampling.model_copy(update={"motion_hz": settings.sampling.challenge_hz})
            _keep(kept, traced(read_clip(mp4(frames, fps=rate_hz, crf=crf), sampling, settings.limits, name="acted"), hands=False))
        made.append(Acted(how, challenge.actions, challenge.prompts_s, _kept(kept)))
    return made


def acted_figures(played: Sequence[Acted], gates: Gates) -> dict[str, Any]:
    """What passes of what was acted as asked; what is said of what was not."""
    per_action: dict[str, list[Done]] = {}
    said: dict[str, Counter[str]] = {}
    whole = []
    for clip in played:
        done = judge(clip.traces, clip.actions, clip.prompts_s, gates)
        if clip.how == "as asked":
            whole.append(all(one.fault is None for one in done))
            for one in done:
                per_action.setdefault(one.action, []).append(one)
            turned = (*clip.actions[1:], clip.actions[0])
            # Of another order a blink may come anyway, so it is left out.
            swapped = [one for one in judge(clip.traces, turned, clip.prompts_s, gates) if not KINDS[one.action].spontaneous]
            said.setdefault("in another order", Counter()).update(one.fault or "done" for one in swapped)
        else:
            wrong = done if clip.how == "half done" else done[-1:]
            said.setdefault(clip.how, Counter()).update(one.fault or "done" for one in wrong if one.action != "blink")
    failed = [one for many in per_action.values() for one in many if one.fault is not None]
    count = sum(map(len, per_action.values()))
    return {
        "clips": len(whole),
        "clips_failed": Rate.of(whole.count(False), len(whole)),
        "actions_failed": Rate.of(len(failed), count),
        "by_action": {a: Rate.of(sum(one.fault is not None for one in many), len(many)) for a, many in sorted(per_action.items())},
        "faults": dict(Counter(f"{one.action}: {one.fault}" for one in failed)),
        "said_of_others": {how: dict(counter) for how, counter in said.items()},
    }


# --------------------------------------------------------------------------------------------------------------------- page


def goals(found: Mapping[str, Any]) -> list[Goal]:
    acted, actions = found["acted"]["actions_failed"]["value"], found["unasked"]["actions"]
    named = [a for a in actions if not KINDS[a].spontaneous]
    worst, hasty = (max((actions[a][what]["value"] or 0.0 for a in named), default=None) for what in ("done", "too_fast"))
    return [
        Goal("actions acted as asked that pass", None if acted is None else 1 - acted, 0.95, at_least=True),
        Goal("windows with the commonest unasked action, blinks apart", worst, 0.05, at_least=False),
        Goal("windows called too fast, worst action", hasty, 0.05, at_least=False),
    ]


def page(found: Mapping[str, Any]) -> str:
    nobody, acted = found["unasked"], found["acted"]
    besides = nobody["other_actions"]
    rows = [
        (action, _percent(of["done"]), of["done"]["people_with"], _percent(of["too_fast"]), of["too_fast"]["people_with"])
        for action, of in nobody["actions"].items()
    ]
    called = "-" if besides["challenges_called"] is None else f"{100 * besides['challenges_called']:.1f} %"
    return (
        f"# Challenges\n\nSplit {found['about']['split']}, `{found['command']}`.\n\n"
        f"## Nobody was asked\n\n{nobody['windows']} windows of {nobody['people']} people who talk or act for themselves; "
        "intervals resample people, neighbouring windows overlap.\n\n"
        + table(("action", "windows in which it counts as done", "people", "called too fast", "people"), rows)
        + f"Windows with 0, 1, 2 ... unasked deliberate movements: {', '.join(map(str, besides['windows_with']))}. "
        f"Challenges of three windows called `challenge_other_actions` (more than {besides['limit']:g}): {called}.\n\n"
        f"## Acted as asked\n\n{acted['clips']} rendered clips, {share(acted['clips_failed'])} with a fault.\n\n"
        + table(("action", "failed"), [("all", share(acted["actions_failed"])), *((a, share(r)) for a, r in acted["by_action"].items())])
        + f"Faults: {_listed(acted['faults']) or 'none'}.\n\n## Acted otherwise\n\n"
        + table(("how", "what was said, blinks apart"), [(how, _listed(said)) for how, said in acted["said_of_others"].items()])
        + goals_table(found["goals"])
    )


def _percent(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "-"
    return f"{100 * rate['value']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    typer.run(main)
