"""What was measured of phrase, lip-sync, voice and speaker: one file of results, and the four cards made of it.

    python -m training.speech_card      writes weights/cards/{phrase,lipsync,voice,speaker}.md anew

`python -m training.phrase`, `.lipsync`, `.voice` and `.speaker` write their part of benchmarks/results/speech.json and their card
themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kyc_guard.config import Thresholds
from kyc_guard.reports.metrics import clopper_pearson
from kyc_guard.whole_file import write_whole
from training.places import CONFIGS, RESULTS
from training.thresholds import THRESHOLDS

PARTS = ("phrase", "lipsync", "voice", "speaker")
_RESULTS = RESULTS / "speech.json"


def record(part: str, measured: Mapping[str, Any]) -> None:
    """Replace one of `PARTS` in the results, and its card."""
    known = json.loads(_RESULTS.read_text(encoding="utf-8")) if _RESULTS.exists() else {}
    write_whole(_RESULTS, json.dumps(known | {part: measured}, indent=1, sort_keys=True) + "\n")
    _write(part)


def _write(part: str) -> None:
    write_whole(THRESHOLDS.parent / "cards" / f"{part}.md", card(part))


def card(part: str) -> str:
    """The card of one of `PARTS` as Markdown, from the results and thresholds.toml.

    Raises:
        OSError: nothing was measured yet.
        KeyError: not this part.
    """
    loader = FileSystemLoader(CONFIGS.parent / "cards")
    environment = Environment(loader=loader, autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - no HTML
    environment.filters |= {"of": _of, "auc": _auc}
    measured = json.loads(_RESULTS.read_text(encoding="utf-8"))[part]
    return environment.get_template(f"{part}.md.j2").render(m=measured, t=Thresholds.load(THRESHOLDS).table(part)) + "\n"


def _of(row: Mapping[str, Any], key: str = "flagged", *, without: bool = False) -> str:
    """``12 of 40, 30 % [17, 47]``: how many, or ``without`` how many not, with the exact interval of independent trials."""
    count = row["of"] - row[key] if without else row[key]
    low, high = clopper_pearson(count, row["of"])
    return f"{count:,} of {row['of']:,}, {count / row['of']:.1%} [{low:.1%}, {high:.1%}]".replace("%", " %")


def _auc(row: Mapping[str, Any]) -> str:
    return f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main() -> None:
    for part in PARTS:
        _write(part)


if __name__ == "__main__":
    main()
