"""How many machine-readable zones are read right, how many are sent back, and how many are read wrong without anybody noticing.

    python -m benchmarks.mrz [--count 1000] [--seed 0] [--trials trials.jsonl]

Writes ``results/mrz.json`` and ``mrz.md``. Invented holders in all five formats, printed in OCR-B where the font is installed
(Debian: fonts-ocr-b), tilted, blurred, darkened, with noise and JPEG, at 9 to 20 pixels a character. Needs no data.

A zone accepted with a misreading under its check digits is a collision where the digits as printed hold over the text as read: no
reader of digits can notice. How many that must be is counted too: of each misread zone, the share of random misreadings in the same
places under which every digit holds.
"""

from __future__ import annotations

import json
import string
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from benchmarks.record import RESULTS, Goal, goals_table, machine, number, plain, save, share, table
from kyc_guard import pool
from kyc_guard.cli import reporting
from kyc_guard.config import Settings, Thresholds
from kyc_guard.documents.mrz import Mrz, encode, parse
from kyc_guard.documents.page import read_page
from kyc_guard.documents.zone_layouts import ALPHABET, FILLER, FORMATS, Format, check_digit
from kyc_guard.errors import KycGuardError
from kyc_guard.progress import bar
from kyc_guard.recoding import jpeg
from kyc_guard.reports.metrics import Rate
from kyc_guard.types import UInt8Array

TODAY = date(2026, 1, 1)
_FONTS = (
    Path("/usr/share/fonts/opentype/ocr-b/OCRB.otf"),
    Path(str(resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSansMono.ttf")),
)
_PX_PER_MM = 10
_PITCH_MM, _LINE_MM = 2.54, 6.35
"""Ten characters an inch, and the usual distance of the lines. Source: ICAO 9303-3, 4.1."""
CHECKED = ("document_number", "birth_date", "expiry_date")
"""Fields a check digit stands over in every format."""
UNCHECKED = ("document_code", "issuing_state", "surname", "given_names", "nationality", "sex", "optional", "optional_2")
"""Fields without; but for the optional data of TD1, TD2 and TD3."""
_DRAWS = 1000
"""Random misreadings of a misread zone."""


@dataclass(frozen=True, slots=True)
class Shot:
    """How one zone was photographed."""

    pitch_px: float
    """Distance of two characters."""
    tilt_deg: float
    blur_pitch: float
    """Sigma of the blur over the distance of two characters."""
    noise: float
    quality: int
    shade: float
    """Brightness of the darkest corner over the brightest."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Shot:
        return cls(
            pitch_px=float(rng.uniform(9, 20)),
            tilt_deg=float(rng.uniform(-8, 8)),
            blur_pitch=float(rng.uniform(0.02, 0.13)),
            noise=float(rng.uniform(0, 14)),
            quality=int(rng.integers(35, 96)),
            shade=float(rng.uniform(0.5, 1.0)),
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one zone."""

    layout: str
    found: bool
    wrong: tuple[str, ...]
    """Fields that were not read as printed; all of them where no zone was found."""
    holds: bool
    """Every check digit does, and the names were read: without them the detector asks again."""
    certainty: float
    """Chance of the least certain character where no check digit decides; see `Mrz.confidence`."""
    repaired: int
    cpu_ms: float
    misread: int = 0
    """Characters under a check digit, digits included, that were not read as printed."""
    collides: bool = False
    """Whether the digits as printed hold over the text as read."""
    chance: float = 0.0
    """Share of random misreadings in the same places under which every digit holds; 0 where nothing was misread."""

    @classmethod
    def of(cls, truth: Mrz, read: Mrz | None, cpu_ms: float) -> Trial:
        fields = (*CHECKED, *UNCHECKED)
        if read is None:
            return cls(truth.format, found=False, wrong=fields, holds=False, certainty=0.0, repaired=0, cpu_ms=cpu_ms)
        wrong = tuple(f for f in fields if getattr(read, f) != getattr(truth, f))
        certainty = min(read.confidence.get(f, 1.0) for f in ("names", "document_number", "issuing_state", "nationality", "sex"))
        layout = FORMATS[truth.format]
        groups = _under_digits(layout)
        places = {cell for group in groups for cell in group}
        holds = not read.failed_checks and bool(read.surname)
        if read.format != truth.format or not read.surname:
            return cls(truth.format, True, wrong, holds, certainty, read.repaired, cpu_ms, misread=len(places))
        misread = sorted((i, k) for i, k in places if read.lines[i][k] != truth.lines[i][k])
        digits = {group[-1] for group in groups}
        as_printed = [
            [t if (i, k) in digits else r for k, (r, t) in enumerate(zip(read.lines[i], truth.lines[i], strict=True))]
            for i in range(layout.rows)
        ]
        return cls(
            truth.format,
            found=True,
            wrong=wrong,
            holds=holds,
            certainty=certainty,
            repaired=read.repaired,
            cpu_ms=cpu_ms,
            misread=len(misread),
            collides=bool(misread) and _hold(as_printed, groups),
            chance=_chance(truth, groups, misread),
        )

    def accepted(self, least: float) -> bool:
        """Whether nothing is sent back: every digit holds, and where none stands no character is less certain than ``least``."""
        return self.holds and self.certainty >= least


def _under_digits(layout: Format) -> list[list[tuple[int, int]]]:
    """For each check digit the cells (line, column) it stands over, its own last."""
    groups = [[(f.line, k) for k in (*range(f.start, f.stop), f.check)] for f in layout.fields if f.check is not None]
    composite = [(i, k) for i, a, b in layout.composite for k in range(a, b)]
    return [*groups, [*composite, (1, layout.width - 1)]] if composite else groups


def _hold(lines: Sequence[Sequence[str]], groups: Sequence[Sequence[tuple[int, int]]]) -> bool:
    """Whether every digit holds; a filler in the place of a digit stands over nothing but fillers and counts as 0."""
    return all(check_digit("".join(lines[i][k] for i, k in cells)) == lines[at[0]][at[1]].replace(FILLER, "0") for *cells, at in groups)


def _chance(truth: Mrz, groups: Sequence[Sequence[tuple[int, int]]], misread: Sequence[tuple[int, int]]) -> float:
    if not misread:
        return 0.0
    rng = np.random.default_rng(0)
    kinds = {(f.line, k): f.kind for f in FORMATS[truth.format].fields for k in range(f.start, f.stop)}
    missed = 0
    for _ in range(_DRAWS):
        lines = [list(line) for line in truth.lines]
        for i, k in misread:
            others = string.digits if kinds.get((i, k), "check") in {"date", "check"} else ALPHABET
            lines[i][k] = str(rng.choice([c for c in others if c != truth.lines[i][k]]))
        missed += _hold(lines, groups)
    return missed / _DRAWS


@reporting(as_json=False)
def main(
    *,
    count: Annotated[int, typer.Option(help="How many zones.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of holders and photographs.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
    kept: Annotated[
        Path | None, typer.Option("--trials", help="Zones read so far, one a line; an interrupted run goes on from it.")
    ] = None,
) -> None:
    """Read rendered zones under blur, tilt, noise and JPEG."""
    settings = Settings()
    least = float(Thresholds.load(settings.thresholds_path).table("document")["limits"]["character"])
    trials = _read_trials(kept)[:count]
    with bar(count, len(trials)) as advance:
        for _, trial in pool.run(Reader(seed), range(len(trials), count), workers=workers or pool.default_workers(), ordered=True):
            if isinstance(trial, pool.Failure):
                raise KycGuardError(f"{trial.code} {trial.detail}")
            trials.append(trial)
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")
            advance()
    about = {"count": count, "seed": seed, "font": _font_path().name, "machine": machine()}
    found = plain({"command": f"python -m benchmarks.mrz --count {count} --seed {seed}", "about": about, **figures(trials, least)})
    found["goals"] = [goal.to_json() for goal in goals(found)]
    save(out, "mrz", found, page(found))
    typer.echo(page(found))


def _read_trials(kept: Path | None) -> list[Trial]:
    lines = kept.read_text(encoding="utf-8").splitlines() if kept is not None and kept.exists() else []
    return [Trial(**{**row, "wrong": tuple(row["wrong"])}) for row in map(json.loads, lines)]


@dataclass(frozen=True, slots=True)
class Reader:
    """Number of a zone -> its `Trial`, in a worker process."""

    seed: int

    def __call__(self) -> Callable[[int], Trial]:
        return self.work

    def work(self, i: int) -> Trial:
        rng = np.random.default_rng([self.seed, i])
        layout = list(FORMATS)[i % len(FORMATS)]
        lines = invented(rng, layout)
        truth = parse(lines, today=TODAY)
        assert truth is not None
        shot = Shot.draw(rng)
        picture = photograph(rng, printed(rng, lines), shot)
        started = time.process_time()
        result = read_page(picture, today=TODAY)
        return Trial.of(truth, result.mrz, (time.process_time() - started) * 1000)


def invented(rng: np.random.Generator, layout: str) -> tuple[str, ...]:
    """The zone of somebody who does not exist."""

    def word(low: int, high: int) -> str:
        return "".join(rng.choice(list(string.ascii_uppercase), rng.integers(low, high + 1)))

    def code(length: int) -> str:
        return "".join(rng.choice(list(string.ascii_uppercase + string.digits), length))

    state = word(3, 3)
    birth = date(1930, 1, 1) + timedelta(days=int(rng.integers(0, 34_000)))
    expiry = date(2026, 1, 1) + timedelta(days=int(rng.integers(0, 3_650)))
    return encode(
        layout,
        document_code=FORMATS[layout].codes[0],
        issuing_state=state,
        surname=word(3, 10),
        given_names=" ".join(word(2, 7) for _ in range(rng.integers(1, 3))),
        document_number=code(int(rng.integers(7, 10))),
        nationality=state,
        birth_date=birth.strftime("%y%m%d"),
        sex=str(rng.choice(["M", "F", "X"])),
        expiry_date=expiry.strftime("%y%m%d"),
        optional=code(int(rng.integers(0, 7))),
    )


def _font_path() -> Path:
    return next(path for path in _FONTS if path.exists())


def printed(rng: np.random.Generator, lines: Sequence[str]) -> UInt8Array:
    """The lower strip of a page, at 10 px/mm: zone on a light, wavy paper."""
    height = round((len(lines) * _LINE_MM + 16) * _PX_PER_MM)
    width = round((max(map(len, lines)) * _PITCH_MM + 14) * _PX_PER_MM)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin(x / rng.uniform(6, 12) + 5 * np.sin(y / 70)) + np.sin(y / rng.uniform(6, 12) + 5 * np.sin(x / 90))
    paper = rng.uniform(190, 240, 3) + wave[..., None] * rng.uniform(2, 7, 3)
    sheet = Image.fromarray(paper.clip(0, 255).astype(np.uint8))
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(_font_path()), 42)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            at = ((7 + (column + 0.5) * _PITCH_MM) * _PX_PER_MM, (8 + (row + 0.5) * _LINE_MM) * _PX_PER_MM)
            draw.text(at, character, font=font, fill=(20, 20, 24), anchor="ms")
    return np.asarray(sheet, np.uint8).copy()


def photograph(rng: np.random.Generator, sheet: UInt8Array, shot: Shot) -> UInt8Array:
    """The sheet on a table, seen askew."""
    height, width = sheet.shape[:2]
    unit = shot.pitch_px / (_PITCH_MM * _PX_PER_MM)
    turn = np.deg2rad(shot.tilt_deg)
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    seen = (corners - corners.mean(axis=0)) @ spin.T * unit + rng.uniform(-0.012, 0.012, (4, 2)) * width * unit
    seen += 20 - seen.min(axis=0)
    size = np.ceil(seen.max(axis=0) + 20).astype(int)
    sharp = cv2.warpPerspective(
        sheet, cv2.getPerspectiveTransform(corners, seen.astype(np.float32)), size.tolist(), flags=cv2.INTER_AREA,
        borderValue=rng.uniform(30, 150, 3).tolist(),
    )  # fmt: skip
    blurred = cv2.GaussianBlur(sharp, (0, 0), max(0.1, shot.blur_pitch * shot.pitch_px))
    ramp = np.linspace(shot.shade, 1.0, size[0])[None, :, None]
    noisy = blurred * ramp + rng.normal(0, shot.noise, blurred.shape)
    return jpeg(noisy.clip(0, 255).astype(np.uint8), shot.quality)


def figures(trials: Sequence[Trial], least: float) -> dict[str, Any]:
    """Rates over all zones; ``errors`` of a rate counts what its name says."""
    fields = len(CHECKED) + len(UNCHECKED)
    accepted = [t for t in trials if t.accepted(least) and t.wrong]
    silent = [t.wrong for t in accepted]
    under = [t for t in accepted if t.misread]
    return {
        "fields_exact": Rate.of(sum(fields - len(t.wrong) for t in trials), fields * len(trials)),
        "zones_exact": Rate.of(sum(t.accepted(least) and not t.wrong for t in trials), len(trials)),
        "sent_back": Rate.of(sum(not t.accepted(least) for t in trials), len(trials)),
        "silent_under_digits": Rate.of(len(under), len(trials)),
        "silent_collisions": Rate.of(sum(t.collides for t in under), len(trials)),
        "silent_beyond_collisions": Rate.of(sum(not t.collides for t in under), len(trials)),
        "misread_under_digits": Rate.of(sum(t.misread > 0 for t in trials), len(trials)),
        "collisions_expected": sum(t.chance for t in trials),
        "silent_without_digits": Rate.of(len(silent) - len(under), len(trials)),
        "repaired": Rate.of(sum(t.repaired > 0 for t in trials), len(trials)),
        "not_found": sum(not t.found for t in trials),
        "silent_fields": dict(Counter(field for wrong in silent for field in wrong).most_common()),
        "wrong_fields": dict(Counter(field for t in trials for field in t.wrong).most_common()),
        "zones_exact_by_format": {f: _exact([t for t in trials if t.layout == f]) for f in FORMATS},
        "cpu_ms_median": float(np.median([t.cpu_ms for t in trials])),
    }


def _exact(trials: Sequence[Trial]) -> Rate:
    return Rate.of(sum(not t.wrong for t in trials), len(trials))


def goals(found: Mapping[str, Any]) -> list[Goal]:
    return [
        Goal("fields read exactly", found["fields_exact"]["value"], 0.97, at_least=True),
        Goal("accepted with a misreading its check digits do tell", found["silent_beyond_collisions"]["errors"], 0, at_least=False),
    ]


def page(found: Mapping[str, Any]) -> str:
    rows = [
        (name, share(found[key]))
        for name, key in (
            ("fields exact", "fields_exact"),
            ("zones exact and accepted", "zones_exact"),
            ("sent back: not read, or a check digit fails", "sent_back"),
            ("misread in a place a check digit stands over, however the zone was judged", "misread_under_digits"),
            ("accepted with such a misreading", "silent_under_digits"),
            ("of these collisions: the printed digits hold over what was read", "silent_collisions"),
            ("of these not collisions: a digit was misread or repaired to fit", "silent_beyond_collisions"),
            ("accepted with a wrong field no digit stands over", "silent_without_digits"),
        )
    ]
    return (
        f"# Machine-readable zones\n\n`{found['command']}`, font {found['about']['font']}.\n\n"
        + goals_table(found["goals"])
        + table(("what", "share [95 %] count"), rows)
        + f"Random misreadings in the same places would have passed every digit {number(found['collisions_expected'], 1)} times.\n\n"
        + table(("format", "zones exact"), ((name, share(rate)) for name, rate in found["zones_exact_by_format"].items()))
    )


if __name__ == "__main__":
    typer.run(main)
