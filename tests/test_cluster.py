"""Campaigns: what is shared is found and said, what is not shared joins nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import settings_in
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kyc_guard import ConfigError, InputError, Settings, cluster
from kyc_guard.cli import app
from kyc_guard.cluster import Link, Traits
from kyc_guard.config import Policy
from kyc_guard.demo import _waved, portrait_rgb
from kyc_guard.faces import track_faces
from kyc_guard.forensics import frame_prints
from kyc_guard.media.encode import mp4
from kyc_guard.types import Clip, ContainerFacts, Float32Array, UInt8Array

LIMITS = Policy.load(Settings().policy_path).cluster


def face(person: int, session: int = 0) -> Float32Array:
    """Three embeddings of one person in one session: persons lie far apart, sessions of one near each other."""
    rng = np.random.default_rng([person, session])
    centre = np.random.default_rng(person).normal(0, 0.1, 128)
    return (centre + rng.normal(0, 0.01, (3, 128))).astype(np.float32)


def room(number: int) -> Float32Array:
    """(18, 24, 3) Lab of a room with furniture, the person cut out of the middle."""
    rng = np.random.default_rng(number)
    lab = cv2.resize(rng.uniform(10, 90, (7, 9, 3)).astype(np.float32), (24, 18), interpolation=cv2.INTER_NEAREST)
    lab[4:, 8:16] = np.nan
    return lab


def clip(number: int) -> UInt8Array:
    return np.random.default_rng(number).integers(0, 256, (6, 32), dtype=np.uint8)


def stranger(number: int) -> Traits:
    """A submission that shares nothing with another."""
    return Traits(
        f"s{number}", f"applicant {number}", None, {"selfie": f"{number}"}, clip(number), face(number), room(number), f"model={number}"
    )


def found(*traits: Traits) -> dict[frozenset[str], dict[str, int]]:
    """Members -> kinds of links of every group."""
    return {frozenset(m["id"] for m in g["members"]): g["kinds"] for g in cluster.campaigns(traits, LIMITS)["groups"]}


A, B, C = stranger(1), stranger(2), stranger(3)


def test_unrelated_submissions_form_no_group() -> None:
    report = cluster.campaigns([A, B, C], LIMITS)
    assert report["groups"] == []
    assert [report["chance"][kind]["compared"] for kind in cluster.MEASURED] == [3, 3, 3]


@pytest.mark.parametrize(
    ("shared", "kinds"),
    [
        ({"background": room(1)}, {"background": 1}),  # two faces before one wall
        ({"faces": face(1, session=5)}, {"face": 1}),  # one face with two accounts
        ({"prints": clip(1)}, {"clip": 1}),
        ({"files": {"selfie": "1", "document 1": "x"}}, {"file": 1}),
        ({"background": room(1), "faces": face(1)}, {"face": 1, "background": 1}),
        # What honest people share joins nobody by itself, and stands beside what does.
        ({"device": "model=1"}, None),
        ({"device": "model=1", "faces": face(1)}, {"face": 1, "device": 1}),
    ],
)
def test_what_is_shared_joins_and_is_named(shared: Mapping[str, Any], kinds: dict[str, int] | None) -> None:
    assert found(A, replace(B, **shared), C) == ({} if kinds is None else {frozenset({"s1", "s2"}): kinds})


def test_a_template_on_one_kind_of_device_joins_and_either_alone_does_not() -> None:
    lines = np.random.default_rng(0).uniform(0.1, 0.9, (12, 3)).astype(np.float32)
    one, two = replace(A, layout=lines, device="d"), replace(B, layout=lines + np.float32(0.004), device="d")
    assert found(one, two) == {frozenset({"s1", "s2"}): {"device": 1, "layout": 1}}
    assert found(one, replace(two, device="another")) == {}
    moved = np.random.default_rng(1).uniform(0.1, 0.9, (12, 3)).astype(np.float32)
    assert found(one, replace(two, layout=moved)) == {}


def test_links_chain_and_the_group_says_how_loosely() -> None:
    chain = [A, replace(B, faces=face(1)), replace(C, background=B.background), stranger(4)]
    report = cluster.campaigns(chain, LIMITS)
    assert [m["id"] for m in report["groups"][0]["members"]] == ["s1", "s2", "s3"]
    assert report["groups"][0]["share_of_pairs_linked"] == pytest.approx(2 / 3)
    link = report["groups"][0]["links"][0]
    assert (link["first"], link["second"], link["kind"]) == ("s1", "s2", "face")
    assert link["value"] <= link["limit"] == LIMITS["face_distance"]


def test_one_applicants_own_attempts_are_not_a_campaign() -> None:
    assert found(A, replace(A, id="again")) == {}
    unnamed = replace(A, subject=None)
    assert found(unnamed, replace(unnamed, id="again")) != {}


def test_the_links_expected_by_chance_grow_with_the_pairs() -> None:
    chance = cluster.campaigns([stranger(n) for n in range(20)], LIMITS)["chance"]["face"]
    assert chance["compared"] == 190
    assert chance["expected_false_links"] == pytest.approx(190 * LIMITS["face_false_rate"])
    assert chance["per_new_submission"] == pytest.approx(19 * LIMITS["face_false_rate"])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_groups_are_the_connected_parts(pairs: list[tuple[int, int]]) -> None:
    names = [str(n) for n in range(10)]
    parts = cluster._joined(names, [Link(str(a), str(b), "face", 0.1, 0.2) for a, b in pairs])
    of = {name: i for i, part in enumerate(parts) for name in part}
    assert all(a == b or of[str(a)] == of[str(b)] for a, b in pairs)
    reachable = {n: {n} for n in names}
    for _ in names:
        for a, b in ((str(a), str(b)) for a, b in pairs):
            both = reachable[a] | reachable[b]
            for n in both:
                reachable[n] = reachable[n] | both
    assert {frozenset(p) for p in parts} == {frozenset(r) for r in reachable.values() if len(r) > 1}


def compare_rooms(a: Float32Array, b: Float32Array) -> float | None:
    return cluster.likeness(a, b, min_contrast=LIMITS["background_min_contrast"], min_share=LIMITS["background_min_share"])


def test_a_background_is_known_again_when_darker_shifted_and_behind_another_head() -> None:
    shifted = np.roll(room(1), 1, axis=1) * np.float32(0.7) + 5
    shifted[2:, 6:13] = np.nan
    alike, other = compare_rooms(room(1), shifted), compare_rooms(room(1), room(2))
    assert alike is not None
    assert other is not None
    assert alike >= LIMITS["background_likeness"] > other


def test_a_plain_wall_and_a_face_that_fills_the_picture_are_nobodys_background() -> None:
    wall = np.full((18, 24, 3), 60, np.float32) + np.random.default_rng(0).normal(0, 0.3, (18, 24, 3)).astype(np.float32)
    assert compare_rooms(wall, wall) is None
    filled = room(1)
    filled[:, 2:] = np.nan
    assert compare_rooms(filled, filled) is None


def test_the_background_of_a_clip_leaves_the_person_out() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, :] = (40, 90, 160)
    frame[:320, 200:440] = portrait_rgb()[:320, 120:360]
    still = Clip(frame[None], np.zeros(1), frame[:0][None], np.zeros(0), is_still=True, facts=ContainerFacts("x", 1, "0"))
    seen = cluster.background(still, track_faces(frame[None], other_face_ratio=1.0))
    assert seen is not None
    blue = cv2.cvtColor(np.float32([[[40, 90, 160]]]) / np.float32(255), cv2.COLOR_RGB2LAB)[0, 0]
    assert np.isnan(seen[9, 12]).all()
    assert np.isfinite(seen).mean() > 0.15
    assert np.abs(np.nan_to_num(seen - blue)).max() < 25  # no skin, no white suit


# ------------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person with two accounts, the second clip smaller and coarser; one unreadable submission."""
    folder = tmp_path_factory.mktemp("submissions")
    frames = np.ascontiguousarray(_waved(portrait_rgb())[:48:4])
    smaller = np.stack([cv2.resize(f, (240, 320), interpolation=cv2.INTER_AREA) for f in frames])
    for name, selfie in (("anna", mp4(frames, fps=12)), ("maria", mp4(smaller, fps=12, crf=30)), ("torn", b"no video")):
        (folder / name).mkdir()
        (folder / name / "selfie.mp4").write_bytes(selfie)
        (folder / name / "submission.toml").write_text(f'selfie = "selfie.mp4"\nsubject = "{name}"\n[device]\nmodel = "X1"\n')
    return folder


def test_a_run_finds_one_face_in_two_accounts_and_tells_what_it_could_not_read(source: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    line = {"submission": "anna", "outcome": "review", "inputs": {"selfie.mp4": "0"}, "device": {"model": "X1"}}
    results.write_text(json.dumps(line) + "\n" + json.dumps({"submission": "lost", "outcome": "error", "error": {}}) + "\n")
    before = sorted(p.name for p in source.rglob("*"))
    report = cluster.run([source, results], workers=1)
    assert [e["submission"] for e in report["errors"]] == ["torn"]
    (group,) = report["groups"]
    assert group["members"] == [{"id": "anna", "outcome": "review"}, {"id": "maria", "outcome": None}]
    assert {"face", "clip"} <= set(group["kinds"])
    assert sorted(p.name for p in source.rglob("*")) == before
    json.dumps(report, allow_nan=False)


def test_result_files_alone_join_what_was_sent_twice(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    lines = [{"submission": n, "outcome": "accept", "inputs": {"selfie.mp4": sha}} for n, sha in (("a", "1"), ("b", "1"), ("c", "2"))]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (group,) = cluster.run([results], workers=1)["groups"]
    assert ([m["id"] for m in group["members"]], group["kinds"]) == (["a", "b"], {"file": 1})


@pytest.mark.parametrize("text", ['{"submission": "a"}\n', '{"submission": \n', '{"submission": "a", "outcome": "accept", "inputs": 3}\n'])
def test_a_damaged_result_file_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(InputError, match="line 1 is no result line"):
        cluster.run([tmp_path / "results.jsonl"], workers=1)


def test_a_policy_without_the_limits_links_nothing_by_guess(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[cluster\] lacks"):
        cluster.run([source], settings=settings_in(tmp_path), workers=1)


def test_the_command_shows_the_groups_with_reasons_and_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = cluster.campaigns([A, replace(B, faces=face(1), outcome="accept"), C], LIMITS) | {"errors": []}
    monkeypatch.setattr(cluster, "run", lambda *_, **__: report)
    result = CliRunner().invoke(app, ["cluster", str(tmp_path)])
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for expected in ("3 submissions, 1 groups", "s2 (accept)", "1 x face", "3 pairs compared", "expected by chance"):
        assert expected in text
    assert json.loads(CliRunner().invoke(app, ["cluster", str(tmp_path), "--json"]).stdout) == report


def test_prints_of_one_scene_lie_closer_than_the_limit_after_shrinking() -> None:
    frames = _waved(portrait_rgb())[:24:8]
    small = np.stack([cv2.resize(f, (120, 160), interpolation=cv2.INTER_AREA) for f in frames])
    a, b = (Traits(n, prints=frame_prints(f)) for n, f in (("a", frames), ("b", small)))
    assert [x.kind for x in cluster.compare(a, b, LIMITS) if isinstance(x, Link)] == ["clip"]
