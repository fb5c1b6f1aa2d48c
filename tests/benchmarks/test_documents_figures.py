"""The benchmark of doubt: what counts as found, as suspected and as not judged, and that specimens are photographed again the same way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.documents import Task, Trial, _photographed_again, figures, page, rendered
from benchmarks.record import plain
from kyc_guard.detectors.document import DOUBTS
from kyc_guard.errors import InputError


def _trial(tool: str = "", species: str = "", score: float | None = 0.1, *, held_out: bool = False, cluster: str = "a") -> Trial:
    task = Task(Path("a.png"), tool, species, held_out, cluster)
    kind = species or "recapture"
    doubts = {} if score is None else dict.fromkeys(DOUBTS, 0.05) | {kind: score}
    return Trial(task, score is not None, doubts, (kind,) if (score or 0) >= 0.5 else (), 1.0)


def test_tools_are_held_against_the_honest_pictures_and_what_was_not_judged_is_said() -> None:
    found = figures(
        [
            _trial(score=0.1, cluster="a"),
            _trial(score=0.6, cluster="b"),
            _trial(score=None),
            _trial("screen", "recapture", 0.9, cluster="a"),
            _trial("screen", "recapture", 0.4, cluster="b"),
            _trial("print", "recapture", None, held_out=True),
            _trial("pasted", "portrait", 0.7, cluster="b"),
        ]
    )
    assert (found["honest"], found["honest_not_judged"].errors, found["honest_suspected"].errors, found["honest_suspected"].n) == (
        3,
        1,
        1,
        2,
    )
    recapture = found["kinds"]["recapture"]
    assert (recapture["honest_suspected"].errors, recapture["honest_suspected"].n) == (1, 2)
    screen = recapture["tools"]["screen"]
    assert (screen["pictures"], screen["found"].errors, screen["auc"]["value"]) == (2, 1, 0.75)
    assert (recapture["tools"]["print"]["not_judged"], recapture["tools"]["print"]["auc"]) == (1, None)
    assert recapture["tools"]["known tools"]["pictures"] == 2
    assert recapture["tools"]["held-out tools"]["pictures"] == 1
    assert found["kinds"]["text"]["tools"] == {}


def test_the_page_names_every_kind_and_marks_held_out_tools() -> None:
    part = figures([_trial(), _trial("print", "recapture", 0.9, held_out=True, cluster="b")])
    text = page(plain({"command": "c", "rendered": part, "specimens": part}))
    assert all(f"**{kind}**" in text for kind in DOUBTS)
    assert "print (held out)" in text


def test_only_validation_pictures_are_judged_and_so_many_a_tool(tmp_path: Path) -> None:
    facts = {"layout": 1, "species": "", "held_out": False}
    rows = [{"file": f"{i}.png", "split": "validation", "tool": "t", **facts} for i in range(5)]
    rows += [{"file": "own.png", "split": "train", "tool": "t", **facts}, {"file": "h.png", "split": "validation", "tool": "", **facts}]
    (tmp_path / "index.json").write_text(json.dumps(rows))
    assert [t.path.name for t in rendered(tmp_path, 2)] == ["h.png", "0.png", "1.png"]


def test_without_pictures_it_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training\.documents make"):
        rendered(tmp_path, 2)


def test_a_specimen_is_photographed_again_the_same_way_every_time() -> None:
    image = np.random.default_rng(0).integers(100, 200, (120, 180, 3), dtype=np.uint8)
    task = Task(Path("a.png"), "screen_phone", "recapture", held_out=True, cluster="a", again=3)
    again = [_photographed_again(image, task) for _ in range(2)]
    assert np.array_equal(*again)
    assert not np.array_equal(again[0], image)
