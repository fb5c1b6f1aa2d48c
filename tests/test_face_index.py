"""The encrypted index of earlier accounts: what goes in comes out, for the holder of the key alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from skimage import data
from typer.testing import CliRunner

from kyc_guard import ConfigError, OutputError, Settings
from kyc_guard.cli import app
from kyc_guard.config import Thresholds
from kyc_guard.face_index import Account, Chance, FaceIndex, changed, configured_index, index_key, measured_chance
from kyc_guard.types import Float32Array

KEY = bytes(range(32))
MODEL = "ab" * 32
CHANCE = Chance(distance=0.5, fmr=1e-3, fmr_high=2e-3)


def unit(seed: int) -> Float32Array:
    vector = np.random.default_rng(seed).normal(size=128)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def account(seed: int) -> Account:
    return Account(unit(seed), "2026-11-22", "terms 3")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "faces.index"
    with changed(path, KEY, MODEL) as accounts:
        accounts |= {f"a-{seed}": account(seed) for seed in range(3)}
    return path


def load(path: Path, key: bytes = KEY, model: str = MODEL) -> FaceIndex:
    return FaceIndex.load(path, key, model, CHANCE)


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 10**6), max_size=5), st.text(max_size=30))
def test_what_is_enrolled_is_found_again_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, people: dict[str, int], consent: str
) -> None:
    path = tmp_path_factory.mktemp("index") / "faces.index"
    with changed(path, KEY, MODEL) as accounts:
        accounts |= {name: Account(unit(seed), "2026-11-22", consent) for name, seed in people.items()}
    index = load(path)
    assert set(index.ids) == set(people)
    for name, seed in people.items():
        found = index.search(unit(seed), top=5)
        assert name in [hit.account for hit in found.hits]
        assert found.hits[0].distance == pytest.approx(0.0, abs=1e-3)
    with changed(path, KEY, MODEL) as accounts:
        assert all(a.consent == consent for a in accounts.values())


def test_strangers_are_not_found_and_chance_grows_with_the_accounts(filled: Path) -> None:
    found = load(filled).search(unit(99), top=5)
    assert (found.searched, found.within, found.hits) == (3, 0, ())
    assert found.expected_false_hits == pytest.approx(3e-3)
    assert found.to_json()["expected_false_hits_high"] == pytest.approx(6e-3)


def test_neither_faces_nor_names_can_be_read_without_the_key(filled: Path) -> None:
    sealed = filled.read_bytes()
    assert b"a-1" not in sealed
    assert unit(1).tobytes()[:16] not in sealed
    assert filled.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("place", [0, 9, 25, -1])
def test_a_changed_byte_anywhere_is_refused(filled: Path, place: int) -> None:
    sealed = bytearray(filled.read_bytes())
    sealed[place] ^= 1
    filled.write_bytes(bytes(sealed))
    with pytest.raises(ConfigError, match="altered"):
        load(filled)


@pytest.mark.parametrize("content", [b"", b"KYCFACE1", b"\x00" * 100])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigError, match=r"faces? index|altered"):
        load(tmp_path / "f")


def test_another_key_another_model_and_no_file_are_told_apart(filled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another key"):
        load(filled, key=bytes(32))
    with pytest.raises(ConfigError, match="enroll them again"):
        load(filled, model="cd" * 32)
    with pytest.raises(ConfigError, match="accounts-enroll"):
        load(tmp_path / "none")


def test_a_block_that_fails_leaves_the_old_file(filled: Path) -> None:
    before = filled.read_bytes()
    with pytest.raises(KeyError), changed(filled, KEY, MODEL) as accounts:
        accounts.pop("a-1"), accounts.pop("a-1")
    assert filled.read_bytes() == before
    assert list(filled.parent.iterdir()) == [filled]


def test_an_index_in_no_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder that exists"), changed(tmp_path / "no" / "f", KEY, MODEL):
        pass


def test_writing_the_same_accounts_twice_gives_other_bytes(filled: Path) -> None:
    before = filled.read_bytes()
    with changed(filled, KEY, MODEL):
        pass
    assert filled.read_bytes() != before, "a nonce must not serve twice"


ENCODED = base64.b64encode(KEY).decode()


def test_the_key_comes_from_the_setting_or_from_a_file_it_names(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(ENCODED + "\n")
    for text in (ENCODED, f"file:{tmp_path / 'key'}"):
        assert index_key(Settings(face_index_key=SecretStr(text))) == KEY


@pytest.mark.parametrize("text", [None, "", "c2hvcnQ=", "not base64!", "file:/nowhere/key"])
def test_a_key_that_is_none_is_refused_without_being_shown(text: str | None) -> None:
    with pytest.raises(ConfigError, match="key of the face index") as told:
        index_key(Settings(face_index_key=None if text is None else SecretStr(text)))
    assert "c2hvcnQ" not in str(told.value)


def test_nothing_is_searched_unless_the_settings_name_an_index(filled: Path) -> None:
    thresholds = Thresholds.load(Settings().thresholds_path)
    assert configured_index(Settings(), thresholds, MODEL) is None
    with pytest.raises(ConfigError, match="key of the face index"):
        configured_index(Settings(face_index=filled), thresholds, MODEL)
    index = configured_index(Settings(face_index=filled, face_index_key=SecretStr(ENCODED)), thresholds, MODEL)
    assert index is not None
    assert index.chance == measured_chance(thresholds)
    assert 0 < index.chance.fmr < index.chance.fmr_high < 0.01


def test_thresholds_without_a_measured_chance_are_refused() -> None:
    with pytest.raises(ConfigError, match="known_face"):
        measured_chance(Thresholds({"match": {}}, "", Path("thresholds.toml")))


# ------------------------------------------------------------------------------------------------------------ command line


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def applicants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from PIL import Image

    monkeypatch.setenv("KYC_GUARD_FACE_INDEX", str(tmp_path / "faces.index"))
    monkeypatch.setenv("KYC_GUARD_FACE_INDEX_KEY", ENCODED)
    pictures = {
        "one": data.astronaut()[0:300, 80:360],
        "again": data.astronaut()[0:280, 90:350, ::1] // 2 + 60,
        "nobody": np.full((200, 200, 3), 99),
    }
    for name, picture in pictures.items():
        folder = tmp_path / "inbox" / name
        folder.mkdir(parents=True)
        Image.fromarray(picture.astype(np.uint8)).save(folder / "selfie.png")
        subject = "" if name == "nobody" else f'subject = "account-{name}"\n'
        (folder / "submission.toml").write_text(f'id = "{name}"\n{subject}selfie = "selfie.png"\n')
    return tmp_path / "inbox"


def test_enrolled_found_under_another_account_and_forgotten(applicants: Path) -> None:
    done = run("accounts-enroll", applicants / "one", "--consent", "terms 3", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"submission": "one", "account": "account-one", "status": "enrolled"})
    again = run("accounts-search", applicants / "again", "--json")
    found = json.loads(again.stdout)
    assert (again.exit_code, [hit["account"] for hit in found["hits"]], found["searched"]) == (11, ["account-one"], 1)
    own = run("accounts-search", applicants / "one")
    assert (own.exit_code, "0 of 0 earlier accounts" in own.stdout) == (0, True)
    gone = run("accounts-remove", "account-one", "--json")
    assert (gone.exit_code, json.loads(gone.stdout)) == (0, {"removed": ["account-one"], "left": 0})
    assert run("accounts-search", applicants / "again").exit_code == 0


def test_a_batch_is_enrolled_line_by_line_and_what_cannot_be_is_said(applicants: Path) -> None:
    done = run("accounts-enroll", applicants, "--consent", "terms 3", "--json")
    lines = {line["submission"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.exit_code == 2
    assert (lines["one"]["status"], lines["again"]["status"]) == ("enrolled", "enrolled")
    assert "names no subject" in lines["nobody"]["error"]["message"]
    assert run("accounts-enroll", applicants / "one", "--consent", "terms 4").stdout == "one: account-one replaced\n"
    assert run("accounts-remove", "account-one", "no-such").exit_code == 2
    assert run("accounts-remove", "account-one", "account-again").exit_code == 0


def test_commands_say_how_to_switch_the_index_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KYC_GUARD_FACE_INDEX", raising=False)
    done = run("accounts-remove", "a")
    assert (done.exit_code, "KYC_GUARD_FACE_INDEX" in done.stderr) == (1, True)
