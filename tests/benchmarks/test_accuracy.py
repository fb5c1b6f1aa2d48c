"""The accuracy benchmark from a manifest to its files, with models that read the score in a file's name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from bench_fakes import MakeRed
from fake_workers import SCORER

from benchmarks import accuracy
from kyc_guard.config import Settings
from kyc_guard.errors import InputError
from kyc_guard.reports.presentations import Presentation, Score

ROWS = [
    *[f"bf_{n}.png,bona_fide,,cam,p{n},white|f|18-29,validation" for n in (5, 10, 20, 30, 60)],
    *[f"print_{n}.png,attack,print,cam,p{n},,validation" for n in (40, 70, 90)],
    *[f"swap_{n}.png,attack,swap,new,p{n},,validation" for n in (55, 85)],
    *[f"new_{n}.png,bona_fide,,new,p{n},,validation" for n in (15, 52)],
    "deep/fake/a_fake_70.png,attack,swap,deepfacelive_pairs,d1+model,,validation",
    "deep/real/a_real_70.png,bona_fide,,deepfacelive_pairs,d1,,validation",
    "train_5.png,bona_fide,,cam,p99,,train",
    "train_6.png,bona_fide,,deepfacelive_pairs,p98,,train",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accuracy")
    for row in ROWS:
        file = folder / row.split(",")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder / "manifest.csv").write_text("path,label,attack_type,source,subject,group,split\n" + "\n".join(ROWS) + "\n")
    return folder


def run(folder: Path, scorer: Any = SCORER) -> dict[str, Any]:
    return accuracy.run(
        folder / "manifest.csv",
        "validation",
        folder / "scores",
        folder / "results",
        settings=Settings(),
        scorer=scorer,
        make=MakeRed(folder),
        point="review",
        faces=0,
        workers=1,
    )


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    (folder / "results").mkdir()
    left_out = {
        "cam": {"auc": 0.9, "ci": [0.8, 0.95], "n_attack": 3, "n_bona_fide": 5},
        "new": {"auc": 0.7, "ci": [0.5, 0.9], "n_attack": 2, "n_bona_fide": 2},
        "live only": {"auc": None, "ci": None, "n_attack": 0, "n_bona_fide": 9},
    }
    (folder / "results" / "loso.json").write_text(json.dumps(left_out))
    return run(folder)


def test_the_files_hold_what_is_returned(folder: Path, found: dict[str, Any]) -> None:
    assert json.loads((folder / "results" / "accuracy.json").read_text()) == found
    assert {p.name for p in (folder / "results").iterdir()} >= {
        "accuracy.md",
        "accuracy_species.svg",
        "accuracy_sources.svg",
        "accuracy_reliability.svg",
    }


def test_families_are_judged_against_their_own_sources_and_against_all(found: dict[str, Any]) -> None:
    by_name = {(f["name"], f["against"]): (f["attacks"], f["bona_fides"]) for f in found["families"]}
    assert by_name["physical", accuracy.OWN] == (3, 5)
    assert by_name["physical", accuracy.ALL] == (3, 8)
    assert by_name["digital", accuracy.OWN] == (3, 3)
    assert by_name["digital, sources not trained on", accuracy.ALL] == (2, 8)


def test_sources_say_whether_they_were_trained_on_and_who_was_refused(found: dict[str, Any]) -> None:
    sources = {s["source"]: s for s in found["sources"]}
    assert {name: s["trained_on"] for name, s in sources.items()} == {"cam": True, "deepfacelive_pairs": True, "new": False}
    refused = sources["new"]["points"]["review"]["bpcer"]
    assert (refused["errors"], refused["n"]) == (1, 2)
    assert found["bona_fides_of_unseen_sources"] == refused
    assert found["mean_auc_over_sources"] == pytest.approx((14 / 15 + 1.0 + 0.5) / 3)


def test_goals_name_what_is_met_what_is_not_and_what_was_not_measured(found: dict[str, Any]) -> None:
    goals = {g["name"]: (g["value"], g["met"]) for g in found["goals"]}
    assert goals["leave one source out: mean AUC"] == (pytest.approx(0.8), False)
    assert goals["physical attacks pooled: AUC"] == (pytest.approx(14 / 15), False)
    assert goals["digital attacks of sources not trained on: AUC"] == (pytest.approx(14 / 16), False)
    assert goals["digital attacks of reserved simulators: AUC"] == (None, None)
    assert goals["bona fides of sources not trained on, at review: BPCER"] == (0.5, False)


def test_the_page_shows_every_section_that_was_measured(folder: Path, found: dict[str, Any]) -> None:
    page = (folder / "results" / "accuracy.md").read_text()
    for words in (
        "## Goals",
        "| print | 3 |",
        "## Leave one source out",
        "| cam | 3 | 5 | 0.900 [0.800, 0.950] |",
        "## BPCER by race at review",
    ):
        assert words in page
    assert "Reserved simulators on" not in page


def test_finished_scores_are_only_read(folder: Path, found: dict[str, Any]) -> None:
    before = (folder / "scores" / "scores.csv").read_bytes()
    assert run(folder) == found
    assert (folder / "scores" / "scores.csv").read_bytes() == before


def test_scores_of_other_models_are_refused(folder: Path, found: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="another policy_sha256"):
        run(folder, dataclasses.replace(SCORER, identity={"policy_sha256": "other"}))


@pytest.mark.parametrize(
    ("fake", "real", "ranked"), [(0.7, 0.6, True), (0.6, 0.6, False), (0.5, 0.6, False), (None, 0.6, None), (0.7, None, None)]
)
def test_a_live_pair_is_ranked_right_only_if_both_are_judged_and_the_fake_is_above(
    fake: float | None, real: float | None, ranked: bool | None
) -> None:
    rows = [
        Presentation("c/fake/x_fake.mp4", "attack", "swap", accuracy.LIVE_PAIRS, "d+m"),
        Presentation("c/real/x_real.mp4", "bona_fide", "", accuracy.LIVE_PAIRS, "d"),
        Presentation("c/fake/y_fake.mp4", "attack", "swap", "elsewhere", "e"),
    ]
    scores = [Score(s, None if s is not None else "no_face", None, (s,)) for s in (fake, real, 0.9)]
    (pair,) = accuracy.live_pairs(rows, scores, ["face_attack"])
    assert pair["clip"] == "x_fake"
    assert pair["score"] == pair["face_attack"] == {"fake": fake, "real": real, "ranked": ranked}
