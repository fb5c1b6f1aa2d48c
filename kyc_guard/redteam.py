"""Attacks made from bona fide submissions, judged as any other, and what got through.

``DIR/files`` holds what was made, a folder an original; ``DIR/attacks.jsonl`` is the batch that `kyc_guard.batch` judges into
``results.jsonl``; ``manifest.csv`` names the clips for ``kyc-guard evaluate``. The same seed and originals give the same files, byte
for byte. report.json and gallery.html are made of these alone.

An attack *got through* when nothing stopped it that did not also stop its control, the same clip without an attack: what a check
says of the encoder, of a missing document or of the window is said of both. Where the control itself is suspected, nothing can be
said of an attack that shows no more, and it is *undecided*.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from kyc_guard import batch, pool
from kyc_guard.config import Limits, Policy, Settings
from kyc_guard.errors import InputError, OutputError, SchemaError, UnreadableError
from kyc_guard.media import media_sha256
from kyc_guard.progress import Watch, silent
from kyc_guard.redteam_tools import SPECIES, STRENGTHS, TOOLS, Material, NotApplicableError, Tool, control
from kyc_guard.reports import redteam_page
from kyc_guard.reports.metrics import Rate
from kyc_guard.submission import Submission
from kyc_guard.types import Outcome
from kyc_guard.whole_file import write_whole

NOTICE = (
    "Personal data: this folder holds faces and documents of the originals, and attacks made of them. It stays on this machine; "
    "erase it when the originals are erased. The attacks are simulations: what passes here would be worth an attacker's try, "
    "what is stopped here says little of attacks made by other means."
)
_CONTROL = Tool("control", 0, "the same window, nothing done to it", control)
_SKIPPED = ".skipped"


@dataclass(frozen=True, slots=True)
class Original:
    """A bona fide submission; ``folder`` is its name among the files, ``facts`` what a manifest row says beside the files."""

    folder: str
    id: str
    person: str
    selfie: Path
    documents: tuple[Path, ...]
    facts: dict[str, Any] = field(compare=False)

    @classmethod
    def of(cls, number: int, sent: Submission) -> Original:
        """Raises InputError where there is no selfie to attack."""
        if not isinstance(sent.selfie, Path):
            raise UnreadableError(sent.id, "has no selfie", "give a submission with a selfie video or photo")
        challenge = {} if sent.challenge is None else {key: value for key, value in asdict(sent.challenge).items() if value}
        device = {key: value if isinstance(value, int | float) else str(value) for key, value in sent.device.items()}
        facts = {"subject": sent.subject, "claims": dict(sent.claims), "challenge": challenge, "device": device}
        return cls(
            folder=f"{number:03d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', sent.id)[:40]}",
            id=sent.id,
            person=sent.subject or sent.id,
            selfie=sent.selfie,
            documents=tuple(page for page in sent.document if isinstance(page, Path)),
            facts={key: value for key, value in facts.items() if value},
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One file to be made. ``place`` is its path without suffix."""

    original: Original
    donor: Original | None
    tool: Tool
    seed: int
    place: Path

    @property
    def id(self) -> str:
        return f"{self.original.folder}-{self.place.name}"

    @property
    def file(self) -> Path | None:
        """What was made, or the reason why nothing was, as a file ending in ``.skipped``."""
        return next((f for f in self.place.parent.glob(f"{self.place.name}.*") if not f.name.endswith(".part")), None)


def run(
    source: Path,
    out: Path,
    *,
    settings: Settings | None = None,
    seed: int = 0,
    species: Sequence[str] = SPECIES,
    strengths: Sequence[int] = STRENGTHS,
    seconds: float = 3.0,
    resume: bool = False,
    workers: int | None = None,
    timeout_s: float | None = None,
    make_verify: Callable[[], batch.Verify] | None = None,
    making: Watch = silent,
    judging: Watch = silent,
) -> dict[str, Any]:
    """Make, judge and report; see the module.

    Args:
        source: bona fide submissions: the folder of one, or a source of `batch.run`.
        out: a new folder, or with ``resume`` one that an interrupted run left.
        species, strengths: of `redteam_tools.TOOLS`. seconds: of each clip, from its middle.
        timeout_s: for making one file, or judging one.

    Returns:
        The report, as in report.json.

    Raises:
        InputError: ``source`` has no usable submission, a species is not known, ``out`` exists or was begun otherwise.
        OutputError: ``out`` cannot be written. ConfigError, ModelError: nothing may be judged.
    """
    settings = settings or Settings()
    for wrong in (*(s for s in species if s not in SPECIES), *(s for s in strengths if s not in STRENGTHS)):
        raise SchemaError(str(wrong), "is no species or strength", f"use {', '.join(SPECIES)}; strengths {', '.join(map(str, STRENGTHS))}")
    originals, errors = _originals(source, settings.limits)
    if not originals:
        raise SchemaError(source, "has no submission with a readable selfie", "give bona fide submissions")
    about: dict[str, Any] = {"seed": seed, "species": list(species), "strengths": list(strengths), "seconds": seconds}
    about["originals"] = {o.folder: media_sha256(o.selfie, settings.limits) for o in originals}
    _begin(out, about, resume=resume)
    tasks = list(_planned(originals, out, seed, [t for t in TOOLS if t.species in species and t.strength in strengths]))
    todo = [t for t in tasks if t.file is None]
    work = _MakeFiles(seconds, settings.limits)
    results = pool.run(work, todo, workers=workers or pool.default_workers(), timeout_s=timeout_s)
    with contextlib.closing(results), making(len(tasks), len(tasks) - len(todo)) as advance:
        for task, problem in results:
            if problem is not None:
                row = {"original": task.original.id, "error": problem.detail if isinstance(problem, pool.Failure) else problem}
                errors += [row] if row not in errors else []
            advance()
    made = [t for t in tasks if t.file is not None and t.file.suffix != _SKIPPED]
    if not made:
        raise SchemaError(source, "gave no attack", f"see {errors[0]['error']}" if errors else "name other species")
    _write_lists(out, originals, made)
    batch.run(
        out / "attacks.jsonl",
        out / "results.jsonl",
        settings=settings,
        workers=workers,
        resume=(out / "results.jsonl").exists(),
        timeout_s=timeout_s,
        make_verify=make_verify,
        progress=judging,
    )
    report = report_on(out, originals, tasks, errors=errors, about=about, policy=Policy.load(settings.policy_path))
    write_whole(out / "report.json", json.dumps(report, indent=1) + "\n")
    write_whole(out / "gallery.html", redteam_page.page(report, out, settings.limits), mode=0o600)
    return report


def _originals(source: Path, limits: Limits) -> tuple[list[Original], list[dict[str, str]]]:
    """The submissions that can be attacked, and an error row for each other; of those only the selfie's bytes were read."""
    originals: list[Original] = []
    errors: list[dict[str, str]] = []
    for number, (name, sent) in enumerate(batch.submissions(source)):
        try:
            if isinstance(sent, InputError):
                raise sent
            originals.append(Original.of(number, sent))
            media_sha256(originals[-1].selfie, limits)
        except InputError as error:
            errors.append({"original": name, "error": str(error)})
    return [o for o in originals if o.id not in {e["original"] for e in errors}], errors


def _begin(out: Path, about: Mapping[str, Any], *, resume: bool) -> None:
    """A new folder, or one that was begun with the same choices."""
    record = out / "run.json"
    if record.is_file() and resume:
        try:
            before = dict(json.loads(record.read_bytes()))
        except (ValueError, TypeError) as error:
            raise InputError(record, f"does not say what the run was begun with ({error})", "name another folder") from error
        changed = [key for key, value in about.items() if before.get(key) != value]
        if changed:
            raise InputError(out, f"was begun with another {changed[0]}", "resume with what it was begun with, or name another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(out, "exists already and is never overwritten", "add --resume to go on with it, or name another folder")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)  # faces: nobody else's business
        (out / "files").mkdir()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}). Remedy: name a folder you may write to") from error
    write_whole(record, json.dumps(about, indent=1) + "\n")


def _planned(originals: Sequence[Original], out: Path, seed: int, tools: Sequence[Tool]) -> Iterator[Task]:
    """Every file to be made, the control of each original first; the donor is the next original of another person."""
    for number, original in enumerate(originals):
        turned = [*originals[number + 1 :], *originals[:number]]
        donor = next((o for o in turned if o.person != original.person), None)
        for tool in (_CONTROL, *tools):
            name = tool.species if tool is _CONTROL else f"{tool.species}-{tool.strength}"
            # Seeded by names, not by order: the same attack comes out whatever else is made beside it.
            own_seed = crc32(f"{seed}/{original.id}/{name}".encode())
            yield Task(original, donor, tool, own_seed, out / "files" / original.folder / name)


@dataclass(frozen=True, slots=True)
class _MakeFiles:
    """Task -> why it could not be made, in a worker process; the file is on the disk then."""

    seconds: float
    limits: Limits

    def __call__(self) -> Callable[[Task], str | None]:
        import cv2

        cv2.setNumThreads(1)

        @lru_cache(maxsize=3)  # an original, its donor, and the donor's turn next
        def material(original: Original) -> Material | str:
            try:
                return Material.read(original.selfie, original.documents, seconds=self.seconds, limits=self.limits)
            except InputError as error:
                return str(error)

        def make(task: Task) -> str | None:
            own = material(task.original)
            donor = material(task.donor) if task.donor is not None else None
            if isinstance(own, str):
                return own
            try:
                made = task.tool.make(np.random.default_rng(task.seed), own, None if isinstance(donor, str) else donor)
                data, suffix = made.data, made.suffix
            except NotApplicableError as why:
                data, suffix = str(why).encode(), _SKIPPED
            task.place.parent.mkdir(parents=True, exist_ok=True)
            part = task.place.with_name(f"{task.place.name}.{os.getpid()}.part")
            part.write_bytes(data)
            part.replace(task.place.with_name(task.place.name + suffix))
            return None

        return make


# ----------------------------------------------------------------------------------------------------------------- lists


def _write_lists(out: Path, originals: Sequence[Original], made: Sequence[Task]) -> None:
    """attacks.jsonl for the batch and manifest.csv for evaluate; originals are copied in, for manifests may not name what lies outside."""
    lines, table = io.StringIO(), io.StringIO()
    sheet = csv.writer(table, lineterminator="\n")
    sheet.writerow(("path", "label", "attack_type", "source", "subject"))
    attacked = [o for o in originals if any(t.original == o for t in made)]
    rows = {original.folder: _original_row(original, out) for original in attacked}
    for original in attacked:
        lines.write(json.dumps(rows[original.folder]) + "\n")
        sheet.writerow((rows[original.folder]["selfie"], "bona_fide", "", "redteam-original", original.person))
        for task in (t for t in made if t.original == original):
            assert task.file is not None
            lines.write(json.dumps(_attack_row(task, task.file.relative_to(out).as_posix(), rows)) + "\n")
            if task.tool.role == "selfie":  # evaluate judges selfies
                kind = ("bona_fide", "", "redteam-control")
                if task.tool is not _CONTROL:
                    kind = ("attack", task.tool.species, f"redteam-strength-{task.tool.strength}")
                sheet.writerow((task.file.relative_to(out).as_posix(), *kind, original.person))
    write_whole(out / "attacks.jsonl", lines.getvalue())
    write_whole(out / "manifest.csv", table.getvalue())


def _original_row(original: Original, out: Path) -> dict[str, Any]:
    """The bona fide submission as a line of attacks.jsonl, its files copied."""
    folder = out / "files" / original.folder
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / f"original-{i}{file.suffix}" for i, file in enumerate((original.selfie, *original.documents))]
    for file, copy in zip((original.selfie, *original.documents), copies, strict=True):
        copy.write_bytes(file.read_bytes())
    selfie, *documents = (copy.relative_to(out).as_posix() for copy in copies)
    return {"id": f"{original.folder}-original", "selfie": selfie, "document": documents, **original.facts}


def _attack_row(task: Task, file: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    row = {**rows[task.original.folder], "id": task.id}
    other = rows.get(task.donor.folder, row) if task.donor is not None and task.tool.as_donor else row
    if task.tool.role == "selfie":
        # Who wears another's face brings that person's documents.
        return row | {"selfie": file, "document": other["document"], "claims": other.get("claims", {})}
    return row | {"selfie": other["selfie"], "document": [file, *row["document"][1:]]}


# ---------------------------------------------------------------------------------------------------------------- report


def report_on(
    out: Path,
    originals: Sequence[Original],
    tasks: Sequence[Task],
    *,
    errors: Sequence[Mapping[str, str]],
    about: Mapping[str, Any],
    policy: Policy,
) -> dict[str, Any]:
    """What came of every attack, and the weakest of each species that got through; of results.jsonl."""
    lines = {row["submission"]: row for row in map(json.loads, (out / "results.jsonl").read_text(encoding="utf-8").splitlines())}
    attacks = [_verdict(task, task.file, lines, policy) for task in tasks if task.tool is not _CONTROL and task.file is not None]
    judged = [a for a in attacks if a["verdict"] in {"through", "stopped", "undecided"}]
    return {
        "notice": NOTICE,
        **{key: value for key, value in about.items() if key != "originals"},
        "judged_by": {key: next(iter(lines.values())).get(key) for key in ("policy_sha256", "thresholds_sha256", "models")},
        "originals": [
            {
                "id": o.id,
                "folder": o.folder,
                **{kind: _brief(lines.get(f"{o.folder}-{kind}"), policy) for kind in ("original", "control")},
            }
            for o in originals
            if f"{o.folder}-original" in lines
        ],
        "errors": [*errors, *({"original": a["original"], "attack": a["id"], "error": a["error"]} for a in attacks if "error" in a)],
        "species": {name: _species([a for a in judged if a["species"] == name]) for name in about["species"]},
        "attacks": attacks,
    }


def _brief(line: Mapping[str, Any] | None, policy: Policy) -> dict[str, Any] | None:
    return None if line is None else {"outcome": line["outcome"], "score": line.get("score"), "stops": sorted(_stops(line, policy))}


def _stops(line: Mapping[str, Any], policy: Policy) -> set[str]:
    """The reason codes of a result line that keep it from being accepted."""
    return set() if line["outcome"] == Outcome.ACCEPT else _weighty(line, policy)


def _weighty(line: Mapping[str, Any], policy: Policy) -> set[str]:
    """The reason codes that may keep a submission from being accepted, whether or not they did so here."""
    codes = {line["error"]["type"]} if line["outcome"] == batch.ERROR else {reason["code"] for reason in line["reasons"]}
    return {code for code in codes if policy.reasons.get(code) is not Outcome.ACCEPT}


def _is_suspicion(code: str, policy: Policy) -> bool:
    """Whether a code speaks for an attack, rather than for something missing or to be mended."""
    return code not in {"could_not_judge", "check_missing"} and policy.reasons.get(code) is not Outcome.RETRY


def _verdict(task: Task, file: Path, lines: Mapping[str, Mapping[str, Any]], policy: Policy) -> dict[str, Any]:
    tool = task.tool
    told: dict[str, Any] = {
        "id": task.id,
        "original": task.original.id,
        "donor": task.donor.id if task.donor is not None else None,
        "species": tool.species,
        "strength": tool.strength,
        "tool": tool.name,
        "seed": task.seed,
    }
    if file.suffix == _SKIPPED:
        return told | {"verdict": "skipped", "why": file.read_text(encoding="utf-8")}
    line = lines[task.id]
    told |= {"file": f"files/{task.original.folder}/{file.name}", "outcome": line["outcome"], "score": line.get("score")}
    if line["outcome"] == batch.ERROR:
        return told | {"verdict": "error", "error": line["error"]["message"]}
    # An injected stream and a document stand beside the clip as it was sent: there the encoding, or nothing, is the attack.
    against = "original" if tool.species == "injection" or tool.role == "document" else "control"
    beside = [f"{task.original.folder}-{against}"]
    if tool.as_donor and task.donor is not None:
        beside.append(f"{task.donor.folder}-original")
    known = set().union(*(_weighty(lines[name], policy) for name in beside if name in lines))
    stopped_by = sorted(_stops(line, policy) - known)
    unsure = any(_is_suspicion(code, policy) for code in known)
    verdict = "stopped" if stopped_by else "undecided" if unsure else "through"
    return told | {"verdict": verdict, "stopped_by": stopped_by, "scores": {s["detector"]: s["score"] for s in line["signals"]}}


def _species(judged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many got through at each strength, and the weakest of them: the lowest strength, then the lowest score."""
    through = sorted((a for a in judged if a["verdict"] == "through"), key=lambda a: (a["strength"], a["score"] or 0.0, a["id"]))
    by_strength = {}
    for strength in sorted({a["strength"] for a in judged}):
        here = [a for a in judged if a["strength"] == strength]
        counts = {v: sum(a["verdict"] == v for a in here) for v in ("through", "stopped", "undecided")}
        decided = counts["through"] + counts["stopped"]
        by_strength[str(strength)] = {
            **counts,
            "accepted": sum(a["outcome"] == Outcome.ACCEPT for a in here),
            "rate": asdict(Rate.of(counts["through"], decided)),
            "tool": here[0]["tool"],
        }
    return {"weakest": through[0]["id"] if through else None, "strengths": by_strength}
