"""The demo: what it builds is what it says it is, and the page shows what was judged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import look
from fakes import MakeVerify, settings_in
from typer.testing import CliRunner

from kyc_guard import InputError, Settings, Submission, UnreadableError, demo, media
from kyc_guard.cli import app
from kyc_guard.faces import face_finder
from kyc_guard.reports import demo_page
from kyc_guard.types import UInt8Array


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[demo.Case]]:
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_SECONDS", 0.5)
        return folder, demo.build(folder)


def frames(folder: Path, name: str) -> UInt8Array:
    selfie = Submission.from_dir(folder / name).selfie
    assert selfie is not None
    return media.read_clip(selfie, Settings().sampling, Settings().limits).frames_rgb


def test_every_case_is_a_valid_submission_with_a_document_and_claims(built: tuple[Path, list[demo.Case]]) -> None:
    folder, cases = built
    assert {c.id for c in cases} == {p.name for p in folder.iterdir()}
    for case in cases:
        sent = Submission.from_dir(folder / case.id)
        assert len(sent.document) == 1
        assert set(sent.claims) >= {"surname", "birth_date", "document_number"}


def test_nothing_made_from_a_still_photo_is_called_bona_fide(built: tuple[Path, list[demo.Case]]) -> None:
    assert {c.truth for c in built[1]} == {"attack", "unfinished"}
    assert "are attacks" in demo.HONEST


@pytest.mark.parametrize("name", ["printed-photo", "screen-replay", "face-swap", "frozen-frame"])
def test_the_attack_clips_show_a_face_and_are_no_mere_copies(built: tuple[Path, list[demo.Case]], name: str) -> None:
    some = frames(built[0], name)
    assert all(face_finder().find(frame) for frame in some[[0, -1]])
    if name != "frozen-frame":
        original = demo._waved(demo.portrait_rgb())[0]
        assert np.abs(some[0].astype(int) - original.astype(int)).mean() > 0.5


def test_the_frozen_frame_moves_first_and_then_no_more(built: tuple[Path, list[demo.Case]]) -> None:
    some = frames(built[0], "frozen-frame").astype(int)
    assert np.abs(some[-1] - some[-2]).mean() < 1.0


def test_the_truncated_video_cannot_be_read_and_the_wrong_document_differs_in_one_digit(built: tuple[Path, list[demo.Case]]) -> None:
    with pytest.raises(UnreadableError):
        frames(built[0], "truncated-video")
    right, wrong = (cv2.imread(str(built[0] / n / "document.png")) for n in ("photo-instead-of-video", "wrong-check-digit"))
    # Both are photographed: the camera meters the whole page, so that all of it may differ by a level or two.
    changed = np.abs(right.astype(int) - wrong.astype(int)).max(axis=2) > 24
    rows, columns = np.nonzero(changed)
    assert changed.any()
    assert np.ptp(rows) < 60
    assert np.ptp(columns) < 60


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of three submissions, without the slow simulators."""
    monkeypatch.setattr(demo, "_ATTACKS", ())
    monkeypatch.setattr(demo, "_SECONDS", 0.5)


def test_a_run_judges_everything_and_shows_it_on_a_page_that_needs_nothing_else(tmp_path: Path, quick: None) -> None:
    own = tmp_path / "mine"
    (own / "<b>me").mkdir(parents=True)
    (own / "<b>me" / "submission.toml").write_text("", encoding="utf-8")
    out = tmp_path / "out"
    settings = settings_in(tmp_path)
    shown = demo.run(out, settings, own=own, workers=1, make_verify=MakeVerify(tmp_path))
    assert [(s.id, s.truth, s.outcome) for s in shown] == [
        ("photo-instead-of-video", "unfinished", "accept"),
        ("wrong-check-digit", "unfinished", "accept"),
        ("truncated-video", "unfinished", "error"),
        ("<b>me", "unknown", "retry"),
    ]
    html = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;me" in html
    assert "<b>me" not in html
    assert demo.HONEST in html
    assert html.count('src="data:image/jpeg;base64,') == 2
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script|@import', html)
    assert 'name="viewport"' in html
    assert "no movie header" in html
    assert "0.100" in html

    again = demo.run(out, settings, workers=1, make_verify=MakeVerify(tmp_path, face_attack=0.95))
    assert [s.outcome for s in again] == ["reject", "reject", "error"]
    assert look(out / "index.html") == {"wide": 0, "broken": 0, "images": 2, "requests": []}


def test_a_folder_that_the_demo_did_not_make_is_not_touched(tmp_path: Path, quick: None) -> None:
    precious = tmp_path / "submissions" / "a1" / "submission.toml"
    precious.parent.mkdir(parents=True)
    precious.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="not made by the demo"):
        demo.run(tmp_path, settings_in(tmp_path))
    assert precious.exists()


class Camera:
    """In place of cv2.VideoCapture: number 0 gives red frames, any other none."""

    def __init__(self, number: int) -> None:
        self.works = number == 0

    def get(self, _: int) -> float:
        return 10.0

    def read(self) -> tuple[bool, Any]:
        return self.works, np.dstack([np.zeros((33, 45), np.uint8)] * 2 + [np.full((33, 45), 200, np.uint8)])

    def release(self) -> None:
        pass


def test_the_camera_is_recorded_in_rgb_and_even_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames_rgb, fps = demo.record(0, seconds=0.5)
    assert (frames_rgb.shape, fps) == ((5, 32, 44, 3), 10.0)
    assert frames_rgb[..., 0].min() == 200
    with pytest.raises(UnreadableError, match="camera 7"):
        demo.record(7)


def test_the_users_own_clip_counts_as_bona_fide(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path: Path) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    cases = demo.build(tmp_path, camera=0)
    assert cases[-1].id == "your-camera"
    assert cases[-1].truth == "bona fide"
    assert len(frames(tmp_path, "your-camera")) > 0


def test_real_peoples_clips_are_of_the_validation_split_and_keep_their_label(shared_data: Path, quick: None, tmp_path: Path) -> None:
    real = [c for c in demo.build(tmp_path, data=shared_data) if c.id.startswith("real-")]
    assert {c.truth for c in real} == {"bona fide", "attack"}
    assert len(real) == 6


def test_the_command_prints_a_table_the_tally_and_the_honest_notice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = {"submission": "x", "outcome": "reject", "score": 0.9876, "reasons": [{"code": "face_attack_suspected", "detail": ""}]}
    shown = [demo_page.Shown("x", "a print", "attack", line, [])]
    monkeypatch.setattr(demo, "run", lambda *_, **__: shown)
    plain = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert plain.exit_code == 0
    text = "".join(plain.stdout.split())  # the width of the terminal breaks lines, in long paths even inside a word
    for expected in ("0.988", "face_attack_suspected", "attack: 1 judged, 1 reject", demo.HONEST, "index.html"):
        assert "".join(expected.split()) in text
    as_json = json.loads(CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--json"]).stdout)
    assert as_json["judged"] == [{"truth": "attack", **line}]


def test_the_tally_counts_every_kind() -> None:
    def of(truth: str, outcome: str) -> demo_page.Shown:
        return demo_page.Shown("x", "", truth, {"outcome": outcome, "reasons": []}, [])

    def kinds() -> Iterator[demo_page.Shown]:
        yield from (of("attack", "reject"), of("attack", "review"), of("attack", "reject"), of("bona fide", "accept"))

    assert demo_page.tally(list(kinds())) == ["attack: 3 judged, 2 reject, 1 review", "bona fide: 1 judged, 1 accept"]
