"""Examining decisions: judge again, judge beside a candidate, pack the evidence and check a pack."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kyc_guard.cli.frame import EXIT_BAD_INPUT, EXIT_DIFFERS, AsJson, Resume, TimeoutS, Workers, app, reporting, resumable
from kyc_guard.config import Settings
from kyc_guard.errors import InputError
from kyc_guard.types import Decision, Evidence

if TYPE_CHECKING:
    from kyc_guard.detectors.protocol import Bundle
    from kyc_guard.replay import Replay

Models = Annotated[Path | None, typer.Option(help="Other weights folder, with its thresholds.toml.", show_default=False)]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="Other policy file.", show_default=False)]
ThresholdsFile = Annotated[Path | None, typer.Option("--thresholds", help="Other thresholds file.", show_default=False)]
Pack = Annotated[Path | None, typer.Option(help="Write an evidence pack (zip) here. Never overwritten.", show_default=False)]
Redacted = Annotated[bool, typer.Option("--redacted", help="Make it the applicant's: own pictures and the outcome, no scores or reasons.")]


_SHOWN = 20
"""Changed outcomes on the screen; the report has all."""


def other_settings(models: Path | None, policy: Path | None, thresholds: Path | None) -> Settings:
    """The usual settings with another bundle; a weights folder brings its own thresholds unless others are named."""
    thresholds = thresholds or (models and models / "thresholds.toml")
    named: dict[str, Any] = {"weights_dir": models, "policy_path": policy, "thresholds_path": thresholds}
    return Settings(**{key: path for key, path in named.items() if path is not None})


def write_pack(path: Path, decision: Decision, evidence: Evidence, bundle: Bundle, redacted: bool) -> None:
    """Raises InputError where ``path`` exists: evidence is never overwritten."""
    from kyc_guard import evidence_pack

    if path.exists():
        raise InputError(path, "exists already and is never overwritten", "name another file")
    evidence_pack.write(path, evidence_pack.build(decision, evidence, bundle, redacted=redacted))


def pack_replayed(path: Path, one: Replay, redacted: bool) -> None:
    """Raises InputError unless it replayed: evidence must be of what was decided."""
    if not one.identical:
        raise InputError(
            one.decision.submission, "does not replay bit for bit", "name what judged it then; an evidence pack shows that alone"
        )
    write_pack(path, one.decision, one.evidence, one.judge, redacted)


@app.command()
def replay(
    decisions: Annotated[Path, typer.Argument(help="What verify --json printed, or a result file of batch.")],
    *,
    media: Annotated[
        Path | None,
        typer.Option(help="The submission's folder, or the source of the batch. [default: where DECISIONS lies]", show_default=False),
    ] = None,
    models: Models = None,
    policy: PolicyFile = None,
    thresholds: ThresholdsFile = None,
    pack: Pack = None,
    redacted: Redacted = False,
    as_json: AsJson = False,
) -> None:
    """Judge again as on that day. Exit code 0 if every verdict is the same bit for bit, 11 if one differs, 2 if one cannot be replayed."""
    from kyc_guard.replay import read_decisions, replay_all

    replays, errors = [], []
    with reporting(as_json):
        for name, result in replay_all(read_decisions(decisions), media or decisions.parent, other_settings(models, policy, thresholds)):
            if isinstance(result, InputError):
                errors.append({"submission": name, "type": type(result).__name__, "message": str(result)})
                continue
            replays.append(result.to_json())  # not itself: it holds the decoded frames
            if pack is not None:
                pack_replayed(pack, result, redacted)
    if as_json:
        print(json.dumps({"replays": replays, "errors": errors}))
    else:
        show_replays(replays, errors)
    raise typer.Exit(EXIT_BAD_INPUT if errors else 0 if all(r["identical"] for r in replays) else EXIT_DIFFERS)


@app.command()
def shadow(
    source: Annotated[Path, typer.Argument(help="Folder of submission folders, or a .csv or .jsonl manifest.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for shadow.jsonl and report.json.")],
    models: Models = None,
    policy: PolicyFile = None,
    thresholds: ThresholdsFile = None,
    workers: Workers = None,
    resume: Resume = False,
    timeout_s: TimeoutS = 300.0,
    as_json: AsJson = False,
) -> None:
    """Judge a batch with the current and a candidate bundle; report what would change. Exit code 2 if some lines are errors."""
    from kyc_guard import shadow as library
    from kyc_guard.progress import bar

    with reporting(as_json), resumable():
        candidate = other_settings(models, policy, thresholds)
        report = library.run(
            source, out, current=Settings(), candidate=candidate, workers=workers, resume=resume, timeout_s=timeout_s, progress=bar
        )
    if as_json:
        print(json.dumps(report))
    else:
        show_shadow(report)
        print(f"Report: {out / library.REPORT}, every decision: {out / library.LINES}")
    raise typer.Exit(EXIT_BAD_INPUT if report["errors"] else 0)


@app.command()
def pack_verify(
    pack: Annotated[Path, typer.Argument(help="Evidence pack that verify --pack or batch --packs wrote.")],
    *,
    public_key: Annotated[
        str | None,
        typer.Option(help="ed25519:<base64> of the signer. [default: from KYC_GUARD_EVIDENCE_KEY]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold an evidence pack against its hashes and signature. Exit code 0 if it holds, 11 if it was altered, 2 if it is no pack."""
    from kyc_guard import evidence_pack

    with reporting(as_json):
        settings = Settings()
        key = evidence_pack.verifying_key(settings, public_key)
        found = evidence_pack.check(pack, key, max_bytes=settings.limits.max_bytes)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        print(f"{found.submission}: {found.variant} pack of {found.members} members, signature {found.signature}")
        print("\n".join(found.problems) if found.problems else "Every member is the one that was listed.")
    raise typer.Exit(EXIT_DIFFERS if found.problems else 0)


def show_replays(replays: Iterable[Mapping[str, Any]], errors: Iterable[Mapping[str, str]]) -> None:
    """What changed, submission by submission, on stdout."""
    console = Console()
    for one in replays:
        verdict = "identical, bit for bit" if one["identical"] else f"{len(one['verdict'])} differences"
        console.print(f"{one['submission']}: {verdict}", markup=False, highlight=False)
        for title, changes in (("verdict", one["verdict"]), ("judged with", one["bundle"])):
            if changes:
                table = Table(box=None)
                for column in (title, "then", "now"):
                    table.add_column(column, overflow="fold")
                for change in changes:
                    values = (change[key] for key in ("path", "before", "after"))
                    table.add_row(*(Text(v if isinstance(v, str) else json.dumps(v)) for v in values))
                console.print(table)
    for error in errors:
        console.print(f"{error['type']}: {error['message']}", markup=False, highlight=False)


def show_shadow(report: Mapping[str, Any]) -> None:
    """The headline figures of a shadow run, on stdout."""
    from kyc_guard.reports.pages import in_words

    console = Console()
    outcomes = Table(title=f"{report['submissions']} submissions, {report['errors']} errors", title_justify="left")
    for column in ("outcome", "current", "candidate"):
        outcomes.add_column(column, overflow="fold")
    for outcome, rates in report["outcomes"].items():
        outcomes.add_row(outcome, in_words(rates["current"]), in_words(rates["candidate"]))
    for name in ("changed", "stricter", "milder"):
        outcomes.add_row(f"{name} outcome", "", in_words(report[name]))
    drift = Table(title="Scores, candidate minus current, where both judged; lost and gained: judged by one alone", title_justify="left")
    for column in ("detector", "both", "lost", "gained", "mean", "5 %", "95 %", "largest"):
        drift.add_column(column, no_wrap=True)
    for row in report["drift"]:
        figures = ("-" if row[key] is None else f"{row[key]:+.3f}" for key in ("mean", "p05", "p95", "largest"))
        drift.add_row(row["detector"], *(str(row[key]) for key in ("both_judged", "only_current", "only_candidate")), *figures)
    more = len(report["changes"]) - _SHOWN
    changed = Table(title="Changed outcomes" + (f", and {more} more in the report" if more > 0 else ""), title_justify="left")
    for column in ("submission", "current", "candidate", "reasons gone", "reasons new"):
        changed.add_column(column, overflow="fold")
    for row in report["changes"][:_SHOWN]:
        changed.add_row(
            Text(row["submission"]), row["from"], row["to"], Text(", ".join(row["reasons_gone"])), Text(", ".join(row["reasons_new"]))
        )
    console.print(outcomes, drift, changed)
