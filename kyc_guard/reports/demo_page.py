"""One self-contained HTML page of judged submissions: pictures inside, no script, readable on a phone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kyc_guard.reports.pages import picture, render
from kyc_guard.types import UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One submission, what it truly is, and its result line (see `kyc_guard.batch`)."""

    id: str
    story: str
    truth: str
    line: dict[str, Any]
    crops_rgb: Sequence[UInt8Array]
    """Face crops, each (H, W, 3) uint8 RGB."""

    @property
    def outcome(self) -> str:
        return str(self.line["outcome"])

    @property
    def score(self) -> float | None:
        """Fused P(attack); ``None`` = could not be judged."""
        return self.line.get("score")

    @property
    def reasons(self) -> list[dict[str, str]]:
        """Code and detail, gravest first; an error is its own reason."""
        if error := self.line.get("error"):
            return [{"code": error["type"], "detail": error["message"] + (f". Remedy: {error['remedy']}" if "remedy" in error else "")}]
        return list(self.line["reasons"])

    @property
    def pictures(self) -> list[str]:
        """The crops as data: URIs."""
        return [picture(crop) for crop in self.crops_rgb]


def tally(shown: Sequence[Shown]) -> list[str]:
    """What came of each kind, one sentence a kind, in numbers that cannot be misread."""
    outcomes = {kind: Counter(s.outcome for s in shown if s.truth == kind) for kind in dict.fromkeys(s.truth for s in shown)}
    return [
        f"{kind}: {sum(counts.values())} judged, " + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
        for kind, counts in outcomes.items()
    ]


def write(path: Path, shown: Sequence[Shown], notice: str) -> None:
    """Write the page.

    Args:
        path: replaced if it exists; its folder is made.
        shown: in the order in which they are to stand.
        notice: what the reader must know before believing anything.
    """
    html = render("demo.html", shown=shown, notice=notice, tally=tally(shown))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
