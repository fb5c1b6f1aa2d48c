"""submission.toml: what follows the schema is read, everything else is refused with file and remedy, and no path leaves the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard import Challenge, InputError, SchemaError, Submission, UnreadableError


def read(folder: Path, toml: str | bytes) -> Submission:
    data = toml if isinstance(toml, bytes) else toml.encode()
    (folder / "submission.toml").write_bytes(data)
    return Submission.from_dir(folder)


def test_nothing_is_required_and_the_folder_names_the_submission(tmp_path: Path) -> None:
    sent = read(tmp_path, "")
    assert (sent.id, sent.selfie, sent.document, sent.challenge, dict(sent.claims)) == (tmp_path.name, None, (), None, {})


def test_files_are_named_relative_to_the_folder(tmp_path: Path) -> None:
    sent = read(tmp_path, 'selfie = "a.mp4"\ndocument = "sub/b.jpg"')
    assert (sent.selfie, sent.document) == (tmp_path / "a.mp4", (tmp_path / "sub/b.jpg",))


def test_a_challenge_may_hold_toml_times(tmp_path: Path) -> None:
    sent = read(tmp_path, '[challenge]\nissued_at = 2026-01-31T12:00:00Z\nactions = ["blink"]\nphrase = "4 7 1"')
    assert sent.challenge == Challenge(phrase="4 7 1", actions=("blink",), issued_at="2026-01-31T12:00:00+00:00")


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("selfie = 3", "selfie must be text"),
        ('selfie = ""', "selfie must be text"),
        ("document = 3", "document must be"),
        ('document = ["a", 3]', "document must be"),
        ('name = "x"', "unknown key 'name'"),
        ('id = ""', "id must be text"),
        ("claims = 3", "claims must be a table"),
        ("[claims]\nsurname = 3", "claims.surname must be text"),
        ("device = []", "device must be a table"),
        ('[challenge]\nword = "x"', "unknown key challenge.word"),
        ('[challenge]\nactions = "blink"', "challenge.actions must be a list"),
        ("[challenge]\nactions = [3]", "challenge.actions must be text"),
        ("[challenge]\nnonce = 3", "challenge.nonce must be text"),
        ('[challenge]\nactions = ["blink"]\nprompts_s = ["soon"]', "challenge.prompts_s must be a list of seconds"),
        ('[challenge]\nactions = ["blink"]\nprompts_s = [-1]', "seconds from the clip's start"),
        ('[challenge]\nactions = ["blink"]\nprompts_s = [inf]', "seconds from the clip's start"),
        ('[challenge]\nactions = ["blink"]\nprompts_s = [1, 2]', "one entry an action"),
        ('[challenge]\nactions = ["blink", "smile"]\nprompts_s = [2, 1]', "must rise"),
        (f'[challenge]\nactions = ["blink"]\nprompts_s = [1{"0" * 400}]', "too large"),
        ('chip = "sod.bin"', "chip must be a table"),
        ('chip = { sod = "sod.bin" }', "chip needs sod and dg1"),
        ('chip = { sod = "sod.bin", dg1 = 3 }', "chip.dg1 must be text"),
        ('chip = { sod = "sod.bin", dg1 = "dg1.bin", dg17 = "x" }', "unknown key chip.dg17"),
        ("selfie = ", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_does_not_follow_the_schema_is_refused(tmp_path: Path, toml: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path, toml)
    assert caught.value.path == str(tmp_path / "submission.toml")
    assert caught.value.remedy


@pytest.mark.parametrize("prompts_s", [(1.0,), (1.0, 2.0, 3.0), (2.0, 1.0), (-1.0, 1.0), (1.0, float("nan"))])
def test_a_challenge_made_in_python_follows_the_same_rules(prompts_s: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="prompts_s"):
        Challenge(actions=("blink", "smile"), prompts_s=prompts_s)
    assert Challenge(actions=("blink", "smile"), prompts_s=(1.0, 2.0)).prompts_s == (1.0, 2.0)
    assert Challenge(actions=("blink", "smile")).prompts_s == ()


@pytest.mark.parametrize("name", ["../other/a.mp4", "/etc/passwd", "sub/../../a.mp4", "out/passwd", "out-file", "a\\u0000b"])
@pytest.mark.parametrize("key", ["selfie", "document"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str, key: str) -> None:
    folder = tmp_path / "a1"
    folder.mkdir()
    (folder / "out").symlink_to("/etc")
    (folder / "out-file").symlink_to("/etc/passwd")
    with pytest.raises(SchemaError, match="leaves"):
        read(folder, f'{key} = "{name}"')
    with pytest.raises(SchemaError, match="leaves"):
        read(folder, f'chip = {{ sod = "sod.bin", dg1 = "{name}" }}')


def test_the_files_of_a_chip_are_named_by_data_group(tmp_path: Path) -> None:
    chip = read(tmp_path, 'chip = { sod = "sod.bin", dg1 = "dg1.bin", dg14 = "dg14.bin" }').chip
    assert chip == {"sod": tmp_path / "sod.bin", "dg1": tmp_path / "dg1.bin", "dg14": tmp_path / "dg14.bin"}


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"x")
    (tmp_path / "selfie.mp4").symlink_to("real.mp4")
    assert read(tmp_path, 'selfie = "selfie.mp4"').selfie == tmp_path / "selfie.mp4"


@pytest.mark.parametrize("missing", ["folder", "toml"])
def test_a_missing_folder_or_toml_is_named(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "gone" if missing == "folder" else tmp_path
    with pytest.raises(UnreadableError, match=r"submission\.toml"):
        Submission.from_dir(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["id", "subject", "document", "selfie", "challenge", "claims", "device", "chip"]) | st.text(max_size=5)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_mapping_is_a_submission_or_bad_input_and_never_a_crash(data: dict[str, Any]) -> None:
    try:
        sent = Submission.from_mapping(data, root=Path("/nowhere"), default_id="x", source="row 1")
    except InputError:
        pass
    else:
        assert sent.id
        assert all(isinstance(v, str) for v in sent.claims.values())
