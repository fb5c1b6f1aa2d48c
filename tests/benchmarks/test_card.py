"""The model card: made of measured figures of the very files that ship, or not at all."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy_tables import at_points
from benchmarks.figures import differentials, separation
from benchmarks.record import plain
from kyc_guard.errors import ModelError
from kyc_guard.reports.evaluation import confusion
from kyc_guard.reports.presentations import Presentation, Score, Table
from training import card

NETS = ("face_attack_face", "face_attack_patch")
POINTS = {"review": 0.5, "reject": 0.9}
ALL_POINTS = {"apcer_05": 0.3, "bpcer_01": 0.5, **POINTS}


def table() -> Table:
    rows = [
        *(
            (Presentation(f"b{i}", "bona_fide", "", "utkface_xerow03", f"p{i}", f"white|{'mf'[i % 2]}|60+"), 0.1 + 0.06 * i)
            for i in range(8)
        ),
        *((Presentation(f"a{i}", "attack", "swap", "new_source", f"q{i}"), 0.4 + 0.1 * i) for i in range(5)),
    ]
    return Table.of([row for row, _ in rows], [Score(score) for _, score in rows])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    manifest = ""
    for name in NETS:
        (folder / f"{name}.onnx").write_bytes(name.encode())
        sha = hashlib.sha256(name.encode()).hexdigest()
        facts = {
            "file": f"{name}.onnx",
            "sha256": sha,
            "version": "3",
            "licence": "research use only",
            "card": "c",
            "command": "make train",
        }
        manifest += f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in facts.items())
    (folder / "manifest.toml").write_text(manifest)
    (folder / "thresholds.toml").write_text(
        '[face_attack]\ncalibrated_on = "calibration split"\n'
        "[face_attack.points]\napcer_05 = 0.3\nbpcer_01 = 0.5\nreview = 0.5\nreject = 0.9\n"
    )
    return folder


def accuracy() -> dict[str, Any]:
    everything = table()
    figures = separation(everything, POINTS)
    models = {name: hashlib.sha256(name.encode()).hexdigest() for name in NETS}
    reserved = [
        {
            "name": "pasted_oval",
            "species": "swap",
            "against": "untouched originals",
            "above_own_original": {"errors": 9, "n": 10, "value": 0.9, "low": 0.5, "high": 1.0},
            **figures,
        }
    ]
    return plain(
        {
            "command": "python -m benchmarks.accuracy",
            "about": {"split": "validation", "manifest": "manifest.csv", "models": models},
            "default_point": "review",
            "counts": {"presentations": 13, "subjects": 13},
            "operating_points": {name: {"threshold": t} for name, t in ALL_POINTS.items()},
            "points": at_points(everything, ALL_POINTS),
            "data": [
                {"split": "validation", "source": "utkface_xerow03", "label": "bona_fide", "species": "", "n": 8},
                {"split": "train", "source": "utkface_xerow03", "label": "bona_fide", "species": "", "n": 957},
                {"split": "validation", "source": "new_source", "label": "attack", "species": "swap", "n": 5},
            ],
            "families": [
                {"name": "physical", "against": "all bona fides", "attack_clips": 0, **figures},
                {"name": "digital", "against": "all bona fides", "attack_clips": 0, **figures},
            ],
            "species": [{"species": "swap", "media": "pictures", **figures, "auc_same_sources": None}],
            "species_named": confusion(everything, POINTS),
            "as_frames": [{"name": "physical", "path": "as a frame of a clip", **figures}],
            "sources": [
                {"source": "new_source", "trained_on": False, **figures},
                {"source": "utkface_xerow03", "trained_on": True, **figures},
            ],
            "live_pairs": [
                {"clip": "x", "face_attack": {"fake": 0.9, "real": 0.1, "ranked": True}},
                {"clip": "y", "face_attack": {"fake": None, "real": 0.1, "ranked": None}},
            ],
            "reserved_simulators": {"faces": 10, "simulators": reserved, "pooled": []},
            "leave_one_source_out": {
                "means": {"short fold": 0.8, "shipped": None},
                "sources": {
                    "nuaa": {
                        "n_attack": 60,
                        "n_bona_fide": 60,
                        "kind": "short fold",
                        "against": "its own bona fides",
                        "estimate": {"value": 0.8, "low": 0.7, "high": 0.9},
                    }
                },
                "omitted": {"tiny": {"n_attack": 1, "n_bona_fide": 0, "why": "one clip"}},
            },
            "groups": differentials(everything, 0.5),
        }
    )


def write(folder: Path, **found: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, figures in found.items():
        (folder / f"{name}.json").write_text(json.dumps(figures))
    return folder


def test_nothing_measured_is_said_to_be_so(weights: Path, tmp_path: Path) -> None:
    text = card.card(write(tmp_path / "results"), weights)
    assert text.count("Not measured: run `python -m benchmarks.accuracy`.") == 3
    assert "Not measured: run `python -m benchmarks.robustness`." in text
    assert "| review | 0.500000 |" in text
    assert "- calibrated_on: calibration split" in text
    assert "| face_attack_patch | 3 |" in text


def test_measured_figures_are_on_the_card_with_counts_and_intervals(weights: Path, tmp_path: Path) -> None:
    text = card.card(write(tmp_path / "results", accuracy=accuracy()), weights)
    assert "| swap | pictures | 5 | 0.0 % [0.0, 52.2] 0/5 | 0.9" in text
    assert "non-commercial research | 957 / 0 | 8 / 0 |" in text
    assert "| new_source |  | unknown | 0 / 0 | 0 / 5 |" in text
    assert "sources without any training row: new_source." in text
    assert "1 of 2 pairs" in text
    assert "| pasted_oval | swap | untouched originals |" in text
    assert "| nuaa | short fold | its own bona fides | 60 | 60 | 0.800 [0.700, 0.900] |" in text
    assert "theirs is a floor: mean AUC\n0.800." in text
    assert "| tiny | 1 | 0 | one clip |" in text
    assert "**no clip of a print, screen or mask was judged.**" in text
    assert "| physical | as a frame of a clip | 5 |" in text
    # Four of five swaps are called attacks; the scorer named no species.
    assert "named right in 0.0 % [0.0, 60.2] 0/4." in text
    assert "the smallest group here has 4." in text
    # Of five swaps one lies below the review point.
    assert "these passed:\n- swap: 20.0 %" in text
    assert "only simulations: composite, generated, mask, print, print_cut, reenactment, replay." in text


def test_every_operating_point_stands_beside_what_it_reached(weights: Path, tmp_path: Path) -> None:
    text = card.card(write(tmp_path / "results", accuracy=accuracy()), weights)
    assert "| bpcer_01, review | 0.500000 | - | 20.0 % [0.5, 71.6] 1/5 | 12.5 % [0.3, 52.7] 1/8 |" in text
    assert "\n\n- bpcer_01 misses its name here: 12.5 % [0.3, 52.7] 1/8 of bona fides are refused, not 1 %; the interval" in text
    assert "apcer_05 misses" not in text, "no physical attack was there"


def test_the_autoencoders_stand_among_the_simulators(weights: Path, tmp_path: Path) -> None:
    text = card.card(write(tmp_path / "results"), weights)
    trained, reserved = text[text.index("Simulated attacks were made") :].split("never trained on:")
    reserved = reserved[: reserved.index("##")]
    assert {"rewritten_nearest", "rewritten_face_nearest", "rewritten_transposed", "rewritten_face_transposed"} <= set(words(trained))
    assert {"rewritten_shuffle", "rewritten_face_shuffle", "pasted_oval"} <= set(words(reserved))
    assert not set(words(trained)) & {"rewritten_shuffle", "pasted_oval"}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_a_table_of_the_card_has_as_many_cells_in_every_row(weights: Path, tmp_path: Path) -> None:
    lines = card.card(write(tmp_path / "results", accuracy=accuracy()), weights).splitlines()
    for above, below in itertools.pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|"), below


def test_figures_of_another_net_do_not_get_onto_the_card(weights: Path, tmp_path: Path) -> None:
    found = accuracy()
    found["about"]["models"]["face_attack_patch"] = "0" * 64
    with pytest.raises(ModelError, match=r"another face_attack_patch.*python -m benchmarks\.accuracy"):
        card.card(write(tmp_path / "results", accuracy=found), weights)


def test_figures_at_another_operating_point_do_not_get_onto_the_card(weights: Path, tmp_path: Path) -> None:
    found = accuracy()
    found["operating_points"]["reject"]["threshold"] = 0.8
    with pytest.raises(ModelError, match="another operating point reject"):
        card.card(write(tmp_path / "results", accuracy=found), weights)


def test_robustness_at_another_operating_point_does_not_get_onto_the_card(weights: Path, tmp_path: Path) -> None:
    found = robustness_figures()
    assert "| JPEG | 70 | 3/4 | 0.10 |" in card.card(write(tmp_path / "results", robustness=found), weights)
    found["threshold"] = 0.6
    with pytest.raises(ModelError, match=r"robustness\.json: was measured with another operating point review"):
        card.card(write(tmp_path / "results", robustness=found), weights)


def robustness_figures() -> dict[str, Any]:
    none = {"errors": 0, "n": 3, "value": 0.0, "low": 0.0, "high": 0.7}
    rates = dict.fromkeys(("flipped", "attacks_let_pass", "bona_fides_refused", "no_response"), none)
    return {
        "command": "python -m benchmarks.robustness",
        "about": accuracy()["about"],
        "default_point": "review",
        "threshold": 0.5,
        "attacks": 2,
        "bona_fides": 2,
        "transforms": [{"family": "JPEG", "strength": "70", "pictures": 4, "changed": 3, "drift_mean": 0.1, **rates}],
    }


@pytest.mark.shared
def test_every_shared_source_has_its_terms_stated(shared_data: Path) -> None:
    with (shared_data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        sources = {row["source"] for row in csv.DictReader(file)}
    stated = tomllib.loads(card.SOURCES.read_text(encoding="utf-8"))
    assert sources <= set(stated)
    assert all(s["what"] and s["licence"] for s in stated.values())
