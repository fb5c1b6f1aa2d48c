"""What listening costs: CPU time of the checks of speech on one clip of somebody who speaks.

    python -m benchmarks.speech [--clip ../shared/data/clips/retalking_real/clips/real/2.mp4]

Writes ``results/speech_cost.json`` and ``speech_cost.md``. CPU time, because it does not depend on what else the machine does. How well
the checks judge is in ``results/speech.json``, written by the commands that fit them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.accuracy import MANIFEST
from benchmarks.record import RESULTS, Goal, goals_table, machine, plain, save, table
from benchmarks.timing import rivals
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.errors import InputError
from kyc_guard.faces.following import follow_face
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.pipeline import Verifier
from kyc_guard.submission import Challenge, Submission

_CHECKS = ("phrase", "lipsync", "voice", "speaker")
_LIMIT_S = 1.0
"""For a clip of five seconds; longer and shorter ones in proportion."""


@reporting(as_json=False)
def main(
    *,
    clip: Annotated[Path, typer.Option(help="A clip with sound of one person who speaks.")] = MANIFEST.parent
    / "clips/retalking_real/clips/real/2.mp4",
    phrase: Annotated[str, typer.Option(help="The phrase it is held against.")] = "seven lemon two pepper nine window",
    repeats: Annotated[int, typer.Option(help="Runs of each; the median counts.")] = 5,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
) -> None:
    """Measure the CPU time of following the face and of every check of speech."""
    verifier = Verifier(Settings())
    evidence = verifier.gather(Submission("cost", selfie=clip, challenge=Challenge(phrase=phrase)))
    if evidence.clip is None or evidence.audio is None:
        raise InputError(str(clip), "has no moving picture or no sound", "name a clip of somebody who speaks")
    seconds, frames = len(evidence.audio) / AUDIO_RATE_HZ, evidence.clip.motion_rgb
    evidence = replace(evidence, enrolled_voice=evidence.audio)  # as long a recording as the clip's own
    calls: dict[str, Callable[[], object]] = {"following the face": partial(follow_face, frames)}
    calls |= {detector.name: partial(detector, evidence) for detector in verifier.detectors if detector.name in _CHECKS}
    cost_s = {name: took["cpu_ms"] / 1000 for name, took in rivals(calls, seconds=0.0, least=repeats, warm_up=1).items()}
    total_s = 5.0 * sum(cost_s.values()) / seconds
    goals = [Goal("CPU seconds for 5 s of clip, all together", total_s, _LIMIT_S, at_least=False).to_json()]
    figures = {
        "command": "python -m benchmarks.speech",
        "about": machine(),
        "clip_s": seconds,
        "pictures": len(frames),
        "cpu_s": cost_s,
        "goals": goals,
    }
    rows = [(name, f"{1000 * cost:.0f}") for name, cost in cost_s.items()]
    page = f"# What listening costs\n\n{seconds:.1f} s of clip, {len(frames)} pictures; CPU time on one thread.\n\n"
    save(out, "speech_cost", plain(figures), page + table(("step", "ms"), rows) + goals_table(goals))
    typer.echo(page + table(("step", "ms"), rows) + goals_table(goals))


if __name__ == "__main__":
    typer.run(main)
