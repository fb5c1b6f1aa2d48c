"""Faces of earlier accounts: enroll, search, remove. Off unless KYC_GUARD_FACE_INDEX names a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kyc_guard.cli.frame import EXIT_BAD_INPUT, EXIT_CODES, AsJson, app, reporting
from kyc_guard.config import Settings
from kyc_guard.types import Outcome


@app.command()
def accounts_enroll(
    source: Annotated[Path, typer.Argument(help="A submission's folder, a folder of such folders, or a .csv or .jsonl manifest.")],
    *,
    consent: Annotated[str, typer.Option(help="What the holders agreed to, such as the version of your terms; kept beside the face.")],
    as_json: AsJson = False,
) -> None:
    """Keep the faces of accepted applicants, one an account (the submission's subject). Exit code 2 if some could not be enrolled."""
    from kyc_guard.accounts import Accounts

    failed = 0
    with reporting(as_json):
        for line in Accounts(Settings()).enroll(source, consent):
            failed += "error" in line
            if as_json:
                print(json.dumps(line))
            else:
                print(f"{line['submission']}: " + (line["error"]["message"] if "error" in line else f"{line['account']} {line['status']}"))
    raise typer.Exit(EXIT_BAD_INPUT if failed else 0)


@app.command()
def accounts_search(
    submission_dir: Annotated[Path, typer.Argument(help="Folder with submission.toml and the selfie.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Which other accounts have the face of this selfie. Exit code 0 if none, 11 if a person should look."""
    from kyc_guard.accounts import Accounts

    with reporting(as_json):
        found = Accounts(Settings()).search(submission_dir)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        print(f"{found}.")
        print("\n".join(f"{hit.account}  distance {hit.distance:.3f}" for hit in found.hits))
    raise typer.Exit(EXIT_CODES[Outcome.REVIEW] if found.within else 0)


@app.command()
def accounts_remove(
    accounts: Annotated[list[str], typer.Argument(help="Accounts to forget.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Forget the faces of accounts. Nothing is removed unless all are enrolled."""
    from kyc_guard.accounts import Accounts

    with reporting(as_json):
        left = Accounts(Settings()).remove(accounts)
    if as_json:
        print(json.dumps({"removed": accounts, "left": left}))
    else:
        print(f"{', '.join(accounts)} removed; {left} accounts left.")
