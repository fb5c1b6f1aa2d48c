"""Clips that were sent before: found by bytes and by prints, never by their own submission, and after a crash too."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.errors import InputError, OutputError
from kyc_guard.seen_clips import ClipMemory
from kyc_guard.types import UInt8Array

NEAREST = 0.10


def prints(seed: int, frames: int = 12) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32), dtype=np.uint8)


def altered(of: UInt8Array, bits: int) -> UInt8Array:
    """With the first ``bits`` of each frame's 256 the other way."""
    flipped = np.unpackbits(of, axis=1)
    flipped[:, :bits] ^= 1
    return np.packbits(flipped, axis=1)


def find(memory: ClipMemory, submission: str, sha256: str, of: UInt8Array) -> str | None:
    return memory.find(sha256, of, submission=submission, nearest=NEAREST)


@pytest.mark.parametrize(
    ("sha256", "of", "found"),
    [
        ("one", prints(2), "a1"),  # the same bytes, whatever the prints
        ("two", prints(1), "a1"),
        ("two", altered(prints(1), 25), "a1"),
        ("two", altered(prints(1), 26), None),
        ("two", prints(1)[3:8], "a1"),
        ("two", prints(2), None),
        ("two", prints(1, 0), None),
    ],
)
def test_the_same_bytes_or_near_prints_of_another_submission_are_found(sha256: str, of: UInt8Array, found: str | None) -> None:
    memory = ClipMemory()
    assert find(memory, "a1", "one", prints(1)) is None
    assert find(memory, "a2", sha256, of) == found


def test_a_submission_judged_again_gets_the_answer_it_got_first() -> None:
    memory = ClipMemory()
    for _ in range(2):
        assert find(memory, "a1", "one", prints(1)) is None
        assert find(memory, "a2", "one", prints(1)) == "a1"
        assert find(memory, "a3", "one", prints(1)) == "a1"
    assert find(memory, "a1", "again", prints(1)) == "a2", "another file under the old name came last"
    assert len(memory) == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12))
def test_whatever_comes_in_whatever_order_the_first_to_send_it_is_named(sent: list[tuple[str, int]]) -> None:
    memory = ClipMemory()
    for submission, clip in sent:
        answer = find(memory, submission, str(clip), prints(clip))
        first = sent.index((submission, clip))
        assert answer == next((s for s, c in sent[:first] if c == clip and s != submission), None)


def test_of_two_copies_at_once_one_is_found() -> None:
    for seed in range(20):
        memory = ClipMemory()
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda name: find(memory, name, "one", prints(seed)), ("a1", "a2")))  # noqa: B023
        assert sorted(answers, key=str) in ([None, "a1"], [None, "a2"])


def test_a_file_keeps_hashes_and_prints_alone_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    with ClipMemory(path) as memory:
        find(memory, "a1", "one", prints(1))
        find(memory, "a1", "one", prints(1))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(row) for row in rows] == [{"submission", "sha256", "prints"}]
    with ClipMemory(path) as memory:
        assert find(memory, "a2", "other", altered(prints(1), 10)) == "a1"
        assert find(memory, "a3", "third", prints(3)) is None
    with ClipMemory(path) as memory:
        assert len(memory) == 3


def test_a_line_that_a_crash_cut_short_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    with ClipMemory(path) as memory:
        find(memory, "a1", "one", prints(1))
        find(memory, "a2", "two", prints(2))
    path.write_bytes(path.read_bytes()[:-7])
    with ClipMemory(path) as memory:
        assert len(memory) == 1
        assert find(memory, "a3", "one", prints(9)) == "a1"
    with ClipMemory(path) as memory:
        assert len(memory) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"submission": "a"}\n',
        "not json\n",
        '{"submission": 3, "sha256": "x", "prints": ""}\n',
        '{"submission": "a", "sha256": "x", "prints": "AAA="}\n',
        "[]\n",
        "a letter to a friend",
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "letter.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="letter"):
        ClipMemory(path)
    assert path.read_text() == text


def test_one_process_writes_and_a_closed_memory_answers_nothing(tmp_path: Path) -> None:
    memory = ClipMemory(tmp_path / "seen.jsonl")
    with pytest.raises(InputError, match="another run"):
        ClipMemory(tmp_path / "seen.jsonl")
    memory.close()
    memory.close()
    with pytest.raises(RuntimeError, match="closed"):
        find(memory, "a1", "one", prints(1))
    ClipMemory(tmp_path / "seen.jsonl").close()


def test_a_clip_that_cannot_be_kept_stops_the_judging(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        ClipMemory(tmp_path / "nowhere" / "seen.jsonl")
