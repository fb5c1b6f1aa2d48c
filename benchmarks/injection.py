"""How often each finding of the injection check fires on real clips and on files made to show it, and whether its score means what it says.

    python -m benchmarks.injection [--manifest ../shared/data/manifest.csv] [--made 20]

Writes ``results/injection.json`` and ``injection.md``. Real clips of every split are judged as the files they are: nothing of this check
was fitted on any of them, though its limits were set with most of them in view. Made files come from one window of one honest clip a
source: what the red team's tools write, and one more way for every finding that a file alone can show. Findings that need a session, a
declared device, keys or earlier submissions cannot fire here and are listed as not asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from benchmarks.accuracy import MANIFEST
from benchmarks.record import RESULTS, machine, number, plain, save, share, table
from kyc_guard import redteam_tools
from kyc_guard.attacks.optics import Rng
from kyc_guard.cli import reporting
from kyc_guard.config import Limits, Sampling, Settings, Thresholds
from kyc_guard.detectors.injection import FINDINGS, Injection
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import InputError
from kyc_guard.forensics import frame_rate_hz
from kyc_guard.media import AUDIO_RATE_HZ, read_clip
from kyc_guard.media.encode import mp4
from kyc_guard.media.sampling import shrunk
from kyc_guard.progress import bar
from kyc_guard.provenance import identity
from kyc_guard.redteam_tools import Material
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.metrics import Rate, auc
from kyc_guard.reports.presentations import Presentation
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, Float32Array, UInt8Array

NOT_ASKED = (
    "injection_outside_session", "injection_device_differs", "injection_seen_before", "injection_signature_wrong", "injection_unsigned",
    "injection_c2pa_invalid", "injection_c2pa_unknown_signer", "injection_c2pa_no_camera",
)  # fmt: skip
HONEST, ATTACK = "bona fide", "real attack"
_FRAMES = 100
_SIDE_PX = 480
_BINS = (0.0, 0.05, 0.1, 0.2, 0.45, 0.9, 1.0)
"""Edges; the last two are those of the shipped points."""

Write = Callable[[Rng, Material, UInt8Array], bytes]
"""(generator, the window, frames of another scene) -> file."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the check said of one file."""

    kind: str
    """`HONEST`, `ATTACK`, or what was done to an honest clip."""
    source: str
    subject: str
    score: float | None
    codes: tuple[str, ...]


def _tool(species: str, strength: int) -> Write:
    tool = next(t for t in redteam_tools.TOOLS if (t.species, t.strength) == (species, strength))
    return lambda rng, own, _other: tool.make(rng, own, None).data


def _fine(rng: Rng, own: Material, _other: UInt8Array, *, change: Callable[[Rng, UInt8Array], UInt8Array]) -> bytes:
    """Pixels changed, written at a rate that keeps noise."""
    return mp4(change(rng, own.frames_rgb), fps=own.fps, crf=4, options={"bf": "0"})


def _smoothed(_rng: Rng, frames_rgb: UInt8Array) -> UInt8Array:
    """What hard denoising leaves: the mean of neighbouring frames, smoothed and in steps of four grey levels."""
    padded = np.concatenate([frames_rgb[:2], frames_rgb, frames_rgb[-2:]]).astype(np.float32)
    means = np.mean([padded[k : k + len(frames_rgb)] for k in range(5)], axis=0)
    return np.asarray([cv2.GaussianBlur(m, (0, 0), 3) // 4 * 4 for m in means], np.uint8)


def _grained(rng: Rng, frames_rgb: UInt8Array) -> UInt8Array:
    """White noise of four grey levels."""
    return np.stack([np.clip(f + rng.normal(0, 4, f.shape[:2])[..., None], 0, 255).astype(np.uint8) for f in frames_rgb])


def _twice(_rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    """x264 with a keyframe every 12 frames at a low rate, then H.264 in one group."""
    first = mp4(own.frames_rgb, fps=own.fps, crf=34, options={"g": "12", "bf": "0", "sc_threshold": "0"})
    again = read_clip(first, Sampling(frames=1, burst_frames=512), Limits()).burst_rgb
    return mp4(again, fps=own.fps, crf=18, options={"bf": "0", "g": "250", "sc_threshold": "0"})


def _still(_rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    return mp4(np.repeat(own.frames_rgb[:1], len(own.frames_rgb), axis=0), fps=own.fps)


def _doubled(_rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    return mp4(np.repeat(own.frames_rgb[: (len(own.frames_rgb) + 1) // 2], 2, axis=0), fps=own.fps)


def _spliced(_rng: Rng, own: Material, other: UInt8Array) -> bytes:
    half = len(own.frames_rgb) // 2
    height, width = own.frames_rgb.shape[1:3]
    return mp4(np.concatenate([own.frames_rgb[:half], [cv2.resize(f, (width, height)) for f in other[:half]]]), fps=own.fps)


def _paused(_rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    times_s = np.arange(len(own.frames_rgb)) / own.fps
    return mp4(own.frames_rgb, fps=own.fps, times_s=times_s + 1.5 * (times_s > times_s[-1] / 2))


def _crowded(_rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    times_s = np.arange(len(own.frames_rgb)) / own.fps
    middle = len(times_s) // 2
    times_s[middle - 10 : middle + 10] = times_s[middle] + np.arange(-10, 10) / 9_000
    return mp4(own.frames_rgb, fps=own.fps, times_s=times_s)


def _long_sound(rng: Rng, own: Material, _other: UInt8Array) -> bytes:
    sound: Float32Array = rng.normal(0, 0.05, round((len(own.frames_rgb) / own.fps + 3) * AUDIO_RATE_HZ)).astype(np.float32)
    return mp4(own.frames_rgb, fps=own.fps, sound=sound)


MADE: Mapping[str, tuple[str | None, Write]] = {
    "re-encoded as hardware does, with jitter": (None, _tool("injection", 3)),
    "re-encoded by x264": ("injection_even_times", _tool("injection", 2)),
    "virtual camera that names itself": ("injection_studio", _tool("injection", 1)),
    "one picture": ("injection_frozen", _still),
    "stream that freezes": ("injection_frozen", _tool("loop", 1)),
    "loop with a jump": ("injection_loop", _tool("loop", 2)),
    "loop there and back": ("injection_loop", _tool("loop", 3)),
    "every frame twice": ("injection_repeated_frames", _doubled),
    "two scenes": ("injection_splice", _spliced),
    "a pause of 1.5 s": ("injection_gap", _paused),
    "20 frames in 2 ms": ("injection_faulty_times", _crowded),
    "sound 3 s longer": ("injection_sound_apart", _long_sound),
    "noise taken out": ("injection_no_noise", partial(_fine, change=_smoothed)),
    "white noise added": ("injection_added_noise", partial(_fine, change=_grained)),
    "encoded twice by x264": ("injection_reencoded", _twice),
}
"""What is done to an honest clip -> the finding it is made to show, and the writer."""


@reporting(as_json=False)
def main(
    *,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,subject,split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    made: Annotated[int, typer.Option(help="Sources of whose honest clips files are made.")] = 20,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Judge every clip of the manifest by its file alone, and files made from honest ones."""
    settings = Settings(capture_keys={})
    detector = Injection.load(Bundle.load(settings))
    rows = [r for r in read_manifest(manifest, root or manifest.parent) if r.path.startswith("clips/") and r.file is not None]
    trials: list[Trial] = []
    with bar(len(rows), 0) as advance:
        for row in rows:
            trials.append(_judged(detector, row, HONEST if row.label == "bona_fide" else ATTACK, row.file, settings))
            advance()
    honest = {t.source: r for t, r in zip(trials, rows, strict=True) if t.kind == HONEST and t.score is not None}
    chosen = list(honest.values())[:made]
    with bar(len(chosen), 0) as advance:
        for i, row in enumerate(chosen):
            trials += _made(detector, row, chosen[i - 1], settings, i)
            advance()
    points = {name: Thresholds.load(settings.thresholds_path).point("injection", name) for name in ("review", "reject")}
    found = plain(
        {
            "command": f"python -m benchmarks.injection --made {made}",
            "about": {"manifest": manifest.name, "machine": machine(), **identity(settings)},
            **figures(trials, points),
        }
    )
    save(out, "injection", found, page(found))
    typer.echo(page(found))


def _judged(detector: Injection, row: Presentation, kind: str, media: Path | bytes | None, settings: Settings) -> Trial:
    assert media is not None
    clip = read_clip(media, settings.sampling, settings.limits, name=row.path)
    signal = detector(Evidence(Submission(id="benchmark", selfie=media), clip=clip))
    return Trial(kind, row.source, row.subject or row.path, signal.score, tuple(r.code for r in signal.reasons))


def _made(detector: Injection, row: Presentation, other: Presentation, settings: Settings, seed: int) -> Iterator[Trial]:
    own, scene = _window(row), _window(other).frames_rgb
    for k, (name, (_, write)) in enumerate(MADE.items()):
        yield _judged(detector, row, name, write(np.random.default_rng([seed, k]), own, scene), settings)


def _window(row: Presentation) -> Material:
    """The middle of a clip, shrunk; nobody's mesh is needed to write a stream anew."""
    assert row.file is not None
    clip = read_clip(row.file, Sampling(frames=1, burst_frames=_FRAMES), Limits())
    frames = np.stack([shrunk(f, _SIDE_PX) for f in clip.burst_rgb])
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    mesh = np.zeros((478, 2), np.float32)
    return Material(frames, (mesh,) * len(frames), frame_rate_hz(clip.facts) or 25.0, None, ())


def figures(trials: Sequence[Trial], points: Mapping[str, float]) -> dict[str, Any]:
    """Everything the page shows, from the trials alone.

    Raises:
        InputError: no honest clip could be judged.
    """
    judged = [t for t in trials if t.score is not None]
    honest, attacks = ([t for t in judged if t.kind == kind] for kind in (HONEST, ATTACK))
    if not honest:
        raise InputError("the manifest", "has no honest clip that can be judged", "give one with files under clips/")
    made = [t for t in judged if t.kind not in (HONEST, ATTACK)]
    people = sorted({(t.source, t.subject) for t in honest})
    return {
        "honest": len(honest),
        "people": len(people),
        "not_judged": len(trials) - len(judged),
        "points": dict(points),
        "alarms": {name: _reach(honest, point) for name, point in points.items()},
        "attacks_reached": {name: _reach(attacks, point) for name, point in points.items()},
        "findings": {
            code: {
                "honest": _fired(honest, code),
                "people": Rate.of(len({(t.source, t.subject) for t in honest if code in t.codes}), len(people)),
                "attacks": _fired(attacks, code),
                "sources": {
                    source: _fired([t for t in honest if t.source == source], code)
                    for source in sorted({t.source for t in honest if code in t.codes})
                },
            }
            for code in FINDINGS
            if code not in NOT_ASKED
        },
        "not_asked": list(NOT_ASKED),
        "made": {
            name: {
                "finding": code,
                "found": _fired(mine, code) if code else None,
                "reached": {point: _reach(mine, value) for point, value in points.items()},
            }
            for name, (code, _) in MADE.items()
            if (mine := [t for t in made if t.kind == name])
        },
        "calibration": _calibration(honest, made),
    }


def _fired(trials: Sequence[Trial], code: str) -> Rate:
    return Rate.of(sum(code in t.codes for t in trials), len(trials))


def _reach(trials: Sequence[Trial], point: float) -> Rate:
    return Rate.of(sum((t.score or 0.0) >= point for t in trials), len(trials))


def _calibration(honest: Sequence[Trial], made: Sequence[Trial]) -> dict[str, Any]:
    """Score against truth, honest and made files weighing the same: how many are injected in truth is not known."""
    a, b = (np.array([t.score for t in group], np.float64) for group in (honest, made))
    out: dict[str, Any] = {
        "mean_honest": float(a.mean()),
        "mean_made": float(b.mean()) if b.size else None,
        "auc": auc(a, b) if b.size else None,
        "brier": float((np.square(a).mean() + np.square(1 - b).mean()) / 2) if b.size else None,
        "bins": [],
    }
    for low, high in itertools.pairwise(_BINS):
        inside = [int(((s >= low) & ((s < high) | (high == 1.0))).sum()) for s in (a, b)]
        shares = [n / len(s) if len(s) else 0.0 for n, s in zip(inside, (a, b), strict=True)]
        out["bins"].append(
            {
                "from": low,
                "to": high,
                "honest": inside[0],
                "made": inside[1],
                "made_share": shares[1] / sum(shares) if sum(shares) else None,
            }
        )
    return out


def page(found: Mapping[str, Any]) -> str:
    points, fit = found["points"], found["calibration"]
    text = (
        f"# Injection\n\n`{found['command']}`. {found['honest']} honest clips of {found['people']} people, as files; {found['not_judged']} "
        f"files are no recordings and are not judged. Exact 95 % intervals; clips of one person resemble one another.\n\n"
        "## False alarms\n\n"
        + table(
            ("at", "score from", "honest clips", "real attacks' files"),
            ((p, f"{points[p]:g}", share(found["alarms"][p]), share(found["attacks_reached"][p])) for p in points),
        )
        + "Real attacks went through the same libraries as the honest clips; none is known to have been injected.\n\n"
        "## Findings\n\n"
    )
    rows = []
    for code, row in found["findings"].items():
        where = ", ".join(f"{s} {r['errors']}/{r['n']}" for s, r in row["sources"].items())
        rows.append((code.removeprefix("injection_"), share(row["honest"]), share(row["people"]), share(row["attacks"]), where))
    text += table(("finding", "honest clips", "people", "real attacks' files", "honest sources"), rows)
    text += f"Not asked, because no session, device, key or earlier clip is there: {', '.join(found['not_asked'])}.\n\n## Made files\n\n"
    done = []
    for name, row in found["made"].items():
        reached = [share(row["reached"][p]) for p in points]
        done.append((name, (row["finding"] or "none").removeprefix("injection_"), share(row["found"]), *reached))
    text += table(("what was done", "finding it is made for", "found", *(f"at {p}" for p in points)), done)
    text += (
        f"## Calibration\n\nMean score of honest clips {number(fit['mean_honest'])}, of made files {number(fit['mean_made'])}; AUC "
        f"{number(fit['auc'])}, Brier score {number(fit['brier'])} (.250 = always one half). Honest and made files weigh the same here.\n\n"
    )
    bins = [(f"{b['from']:g} to {b['to']:g}", b["honest"], b["made"], number(b["made_share"], 2)) for b in fit["bins"]]
    return text + table(("score", "honest clips", "made files", "share made"), bins)


if __name__ == "__main__":
    typer.run(main)
