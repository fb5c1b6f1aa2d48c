"""The figures of README.md are those of benchmarks/results, so that neither is rerun without the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy_tables import ALL, OWN
from benchmarks.record import RESULTS

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
FAMILIES = {
    "physical, pooled": ("physical", ALL),
    "physical, a source never trained on": ("physical, sources not trained on", ALL),
    "digital, pooled": ("digital", ALL),
    "digital, against bona fides of the same sources": ("digital", OWN),
}
SPECIES = {
    "- print": "print",
    "- cut print": "print_cut",
    "- screen replay": "replay",
    "- generated": "generated",
    "- composite": "composite",
}
SPECIES |= {"- video swap, live webcam swaps among them, against the 18 bona fide clips": "swap"}


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def row(first: str) -> list[str]:
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def accuracy() -> Any:
    found = results("accuracy")
    if "points" not in found:
        pytest.skip("accuracy.json is of an older benchmark: run python -m benchmarks.accuracy")
    return found


@pytest.mark.parametrize("name", [*FAMILIES, *SPECIES])
def test_a_row_of_the_table_is_that_of_the_results(name: str, accuracy: Any) -> None:
    if name in FAMILIES:
        (found,) = (f for f in accuracy["families"] if (f["name"], f["against"]) == FAMILIES[name])
    else:
        (found,) = (s for s in accuracy["species"] if s["species"] == SPECIES[name])
    _, presentations, auc, bpcer, apcer = row(name)
    missed = found["points"][accuracy["default_point"]]["apcer"]
    assert int(presentations) == found["attacks"]
    assert auc.split()[0] == f"{found['auc']['value']:.3f}".removeprefix("0")
    assert bpcer.split()[0] == f"{100 * found['bpcer_at_apcer']['BPCER20']['value']:.1f}"
    assert apcer.startswith((f"{100 * missed['value']:.1f} %", f"{missed['errors']} of {missed['n']}"))


def test_the_speed_of_a_face_is_that_of_the_results() -> None:
    one = {f["kind"]: f["ms_per_face"] for f in results("throughput")["nets"]["faces"] if f["faces"] == 1}
    (clip, still), *_ = re.findall(r"a face of a clip ([\d.]+) ms on one thread \(cutting included\), a still ([\d.]+) ms", README)
    assert (clip, still) == (f"{one['clip']:.1f}", f"{one['still']:.1f}")


def test_what_is_said_of_leaving_sources_out_is_that_of_the_results() -> None:
    text = (Path(__file__).resolve().parents[2] / "training" / "README.md").read_text(encoding="utf-8")
    for kind, words in (("short fold", "eight sources of the short folds"), ("shipped", "four the shipped nets\nnever had")):
        values = [s["auc"] for s in results("loso").values() if s.get("kind") == kind]
        assert f"{words} **{sum(values) / len(values):.3f}**".replace("**0.", "**.") in text
