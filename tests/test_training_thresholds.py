"""The writer of thresholds.toml, and the arithmetic of the match calibration."""

from __future__ import annotations

import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kyc_guard.config import Thresholds
from kyc_guard.types import Float32Array, Float64Array
from training.match import Faces, Pairs, auc, fit_platt, pairs, rates, table
from training.thresholds import THRESHOLDS, write_table

TABLE = {
    "points": {"review": 0.25, "reject": 0.5},
    "sources": ["a", "b"],
    "n": 3,
    "ok": True,
    "note": 'a "quoted"\nline',
    "deep": {"x": {"y": 1}},
}


def test_what_is_written_is_read_back_and_other_tables_stay(tmp_path: Path) -> None:
    path = tmp_path / "weights" / "thresholds.toml"
    write_table(path, "one", TABLE)
    write_table(path, "two", {"points": {"p": 1e-05}})
    write_table(path, "one", {"n": 4})
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {"one": {"n": 4}, "two": {"points": {"p": 1e-05}}}
    assert Thresholds.load(path).point("two", "p") == pytest.approx(1e-05)
    assert sorted(p.name for p in path.parent.iterdir()) == ["thresholds.toml"]


def test_the_order_of_writing_does_not_change_the_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    write_table(a, "one", TABLE)
    write_table(a, "two", {"z": 1, "a": 2})
    write_table(b, "two", {"a": 2, "z": 1})
    write_table(b, "one", dict(reversed(TABLE.items())))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, object()])
def test_a_value_toml_cannot_hold_leaves_the_file_as_it_was(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "thresholds.toml"
    write_table(path, "one", TABLE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot hold"):
        write_table(path, "one", {"x": value})
    assert path.read_bytes() == before


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.toml"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_table(path, f"d{i}", {"n": i}), range(24)))
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {f"d{i}": {"n": i} for i in range(24)}


def test_the_shipped_document_table_is_that_of_its_config() -> None:
    config = THRESHOLDS.parent.parent / "training" / "configs" / "document.toml"
    expected = tomllib.loads(config.read_text(encoding="utf-8"))["document"]
    assert Thresholds.load(THRESHOLDS).table("document") == expected


def _people(seed: int, people: int = 40, pictures: int = 3) -> Faces:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.035, (people, 128))
    clean, worn = ((centres[:, None] + rng.normal(0, spread, (people, pictures, 128))).reshape(-1, 128) for spread in (0.05, 0.06))
    names = np.repeat([f"p{i}" for i in range(people)], pictures)
    return Faces(_unit(clean), _unit(worn), names, np.where(np.arange(len(names)) < len(names) // 2, "a", "b"))


def _unit(vectors: Float64Array) -> Float32Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_pairs_stay_within_one_source() -> None:
    unlike = np.eye(4, 128, dtype=np.float32)
    p = pairs(Faces(unlike, unlike, np.array(["x", "x", "y", "y"]), np.array(["a", "a", "a", "b"])))
    clean, worn = p.where(~p.worn), p.where(p.worn)
    assert (len(clean.distances), int(clean.genuine.sum())) == (3, 1)
    assert (len(worn.distances), int(worn.genuine.sum())) == (6, 2), "every worn face with every other clean one"
    assert p.distances == pytest.approx([2**0.5] * 9)


def test_probability_of_another_person_rises_with_distance_and_is_half_where_both_are_as_likely() -> None:
    rng = np.random.default_rng(0)
    distances = np.concatenate([rng.normal(0.4, 0.1, 2000), rng.normal(0.8, 0.1, 20000)])
    genuine = np.arange(len(distances)) < 2000
    platt = fit_platt(
        Pairs(distances, genuine, np.zeros(len(distances), bool), np.zeros(len(distances), np.int64), np.ones(len(distances), np.int64))
    )
    assert platt.slope > 0
    assert -platt.offset / platt.slope == pytest.approx(0.6, abs=0.02)


def test_the_operating_points_keep_what_they_promise() -> None:
    measured = table(pairs(_people(0)), pairs(_people(1)), (0, 0), "0" * 64)
    set_on = measured["calibration_people"]
    assert set_on["fmr_1e2"]["fmr"] == pytest.approx(1e-2, rel=0.1)
    assert set_on["fmr_1e3"]["fmr"] <= 1e-3 + 1 / set_on["fmr_1e3"]["impostor_pairs"]
    points = measured["points"]
    assert 0 < points["fmr_1e3"] < points["fmr_1e2"] < 1
    row = measured["validation"]["fmr_1e2"]
    assert row["tar_95"][0] <= row["tar"] <= row["tar_95"][1]
    assert measured["validation_worn"]["fmr_1e2"]["tar"] <= row["tar"], "a worn face is matched less often"


def test_auc_counts_the_pairs_in_the_right_order() -> None:
    number = np.zeros(4, np.int64)
    assert auc(Pairs(np.array([0.1, 0.5, 0.4, 0.9]), np.array([True, True, False, False]), number > 0, number, number)) == 0.75


def test_intervals_are_those_of_people_not_pairs() -> None:
    p = pairs(_people(2, people=10, pictures=8))
    threshold = float(np.median(p.distances[p.genuine]))
    assert rates(p, threshold)["tar_95"][1] - rates(p, threshold)["tar_95"][0] > 0.05
