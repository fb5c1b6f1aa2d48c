"""Logits to thresholds: more suspicion is never less probability, contradicting nets are refused, points keep their promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_chips import attack, row

from kyc_guard.calibration import Join, either
from kyc_guard.config import Thresholds
from training.calibrate import Calibration, Logits, fit, loosest, points, refused_most, table, weights_of
from training.chips import ChipRow
from training.thresholds import write_table

pytestmark = pytest.mark.torch

CONFIG = Path(__file__).resolve().parents[2] / "training" / "configs" / "calibration.toml"


def clip(rows: list[ChipRow], path: str) -> list[ChipRow]:
    """The rows as frames of one clip."""
    return [replace(r, path=path, frame=i) for i, r in enumerate(rows)]


def pictures(rows: list[ChipRow]) -> list[ChipRow]:
    """The rows as pictures, each a presentation of its own."""
    return [replace(r, path=f"images/{i}.jpg") for i, r in enumerate(rows)]


def made(seed: int = 0, sign: float = 1.0, count: int = 400) -> tuple[list[ChipRow], Logits]:
    """Rows of four kinds and what two views said of them; the views overlap, the heads answer for their own kind."""
    rng = np.random.default_rng(seed)
    rows: list[ChipRow] = []
    for i in range(count):
        source = f"source_{i % 3}"
        rows += [
            row(source=source),
            attack("replay", source=source),
            attack("swap", source=source),
            attack("print", source=source, attack="maker"),
        ]
    rows = pictures(rows)
    physical = np.array([r.attack_type in {"replay", "print"} for r in rows])
    digital = np.array([r.attack_type == "swap" for r in rows])
    says = np.stack([physical, digital], axis=1) * 4.0 - 2.0
    views = {name: (sign * (says + rng.normal(0, 1.5, says.shape))).astype(np.float32) for name in ("face", "patch")}
    return rows, views


@pytest.fixture(scope="module")
def calibrated() -> tuple[list[ChipRow], Logits, Calibration]:
    rows, logits = made()
    return rows, logits, fit(rows, logits, 0.3)


def test_the_probability_tells_attacks_from_faces(calibrated: tuple[list[ChipRow], Logits, Calibration]) -> None:
    rows, logits, calibration = calibrated
    is_attack = np.array([r.is_attack for r in rows])
    p = calibration.probability(logits)
    assert p[is_attack].mean() > 0.8
    assert p[~is_attack].mean() < 0.3
    weight = weights_of(rows, 0.3)
    assert np.average(p, weights=weight) == pytest.approx(np.average(is_attack, weights=weight), abs=0.05), "calibrated on the whole"


def test_more_of_any_suspicion_in_any_view_is_never_less_probability(calibrated: tuple[list[ChipRow], Logits, Calibration]) -> None:
    _, logits, calibration = calibrated
    before = calibration.probability(logits)
    for view in logits:
        for head in range(2):
            more = {k: v.copy() for k, v in logits.items()}
            more[view][:, head] += 1.0
            after = calibration.probability(more)
            assert (after >= before).all()
            assert (after > before).any(), f"{view} is not listened to"


def test_the_detector_joins_as_was_calibrated(calibrated: tuple[list[ChipRow], Logits, Calibration]) -> None:
    _, logits, calibration = calibrated
    joins = {kind: Join.from_table(t, kind) for kind, t in calibration.to_table().items()}
    for i in range(0, len(logits["face"]), 97):
        physical, digital = (joins[kind]({v: float(logits[v][i, k]) for v in logits}) for k, kind in enumerate(("physical", "digital")))
        assert [physical, digital] == pytest.approx(list(calibration.log_odds(logits)[i]), abs=1e-5)
        assert either(physical, digital) == pytest.approx(calibration.probability(logits)[i], abs=1e-6)


def test_nets_that_contradict_the_labels_are_refused() -> None:
    rows, logits = made(sign=-1.0)
    with pytest.raises(ValueError, match="contradict the labels"):
        fit(rows, logits, 0.3)


def test_a_view_that_contradicts_is_silenced_and_never_turned_round() -> None:
    rows, logits = made()
    calibration = fit(rows, {"face": logits["face"], "patch": -logits["patch"]}, 0.3)
    assert calibration.weights.min() == 0.0
    assert calibration.to_table()["physical"]["patch"] == calibration.to_table()["digital"]["patch"] == 0.0


def test_one_useless_view_is_left_out_and_the_other_is_used() -> None:
    rows, logits = made()
    noise = np.random.default_rng(1).normal(0, 2, logits["patch"].shape).astype(np.float32)
    weights = fit(rows, {"face": logits["face"], "patch": noise}, 0.3).to_table()
    for kind in ("physical", "digital"):
        assert weights[kind]["patch"] < 0.2 * weights[kind]["face"]


def test_views_that_separate_perfectly_buy_no_certainty() -> None:
    rows, _ = made(count=40)
    sure = np.array([[50.0, 50.0] if r.is_attack else [-50.0, -50.0] for r in rows], np.float32)
    calibration = fit(rows, {"face": sure, "patch": sure}, 0.3)
    assert float(calibration.weights.max()) <= 4.0


def test_classes_weigh_alike_and_no_source_rules() -> None:
    rows = [row(source="large")] * 90 + [row(source="small")] * 10
    rows += [attack("replay", source="large")] * 50 + [attack("swap", source="large")] * 5 + [attack("print", attack="maker")] * 45
    rows = pictures(rows)
    weight = weights_of(rows, 0.3)
    assert weight[:100].sum() == pytest.approx(weight[100:].sum())
    assert weight[:90].sum() == pytest.approx(weight[90:100].sum())
    assert weight[100:150].sum() == pytest.approx(weight[150:155].sum())
    assert weight[155:].sum() == pytest.approx(0.3 * weight[100:].sum())
    assert weight.mean() == pytest.approx(1.0)


def test_points_let_through_the_share_they_are_named_after(calibrated: tuple[list[ChipRow], Logits, Calibration]) -> None:
    rows, logits, calibration = calibrated
    p = calibration.probability(logits)
    named = points(rows, p)
    bona_fide = np.array([not r.is_attack for r in rows])
    replay = np.array([r.attack_type == "replay" for r in rows])
    for name, at in named.items():
        kind, share = name.split("_")
        if kind == "bpcer":
            assert (p[bona_fide] >= at).mean() == pytest.approx(int(share) / 10 ** len(share), abs=0.006)
        else:  # simulated prints and swaps do not count
            assert (p[replay] < at).mean() == pytest.approx(int(share) / 10 ** len(share), abs=0.006)
    assert named["bpcer_005"] >= named["bpcer_01"] > named["bpcer_02"] > named["bpcer_05"] > named["bpcer_10"]
    assert named["apcer_01"] < named["apcer_05"] < named["apcer_10"]


def test_a_large_source_does_not_set_the_threshold_alone() -> None:
    rows = pictures([row(source="large")] * 900 + [row(source="small")] * 20 + [attack("replay")])
    p = np.concatenate([np.linspace(0, 0.1, 900), np.linspace(0.5, 0.6, 20), [0.9]])
    assert points(rows, p)["bpcer_10"] > 0.5


def test_a_clip_of_many_frames_weighs_as_much_as_a_picture() -> None:
    rows = [*clip([row()] * 30, "clips/a.mp4"), *pictures([row()] * 2), *clip([attack("replay")] * 12, "clips/b.mp4")]
    rows += pictures([attack("replay")] * 3)
    weight = weights_of(rows, 0.0)
    assert weight[:30].sum() == pytest.approx(weight[30]) == pytest.approx(weight[31])
    assert weight[32:44].sum() == pytest.approx(weight[44])
    assert weight[:32].sum() == pytest.approx(weight[32:].sum())


def test_a_clip_of_many_frames_does_not_set_a_threshold() -> None:
    live = [*clip([row()] * 90, "clips/a.mp4"), *pictures([row()] * 19)]
    shown = [*clip([attack("replay")] * 90, "clips/b.mp4"), *pictures([attack("replay")] * 19)]
    rows = live + shown
    p = np.concatenate([[0.6] * 90, np.linspace(0.1, 0.3, 19), [0.4] * 90, np.linspace(0.7, 0.9, 19)])
    named = points(rows, p)
    # One presentation of twenty: a twentieth of the people, a twentieth of the attacks.
    assert 0.28 < named["bpcer_10"] < 0.31
    assert named["apcer_10"] == pytest.approx(0.7, abs=0.02)
    rule = {"points": ["bpcer_10"], "faces": 20, "refused": 0.10}
    assert loosest(rows, p, {"bpcer_10": 0.5}, rule) == "bpcer_10", "the clip alone is refused: one of twenty"


def test_the_table_is_what_the_detector_and_the_policy_ask_for(
    calibrated: tuple[list[ChipRow], Logits, Calibration], tmp_path: Path
) -> None:
    rows, logits, calibration = calibrated
    written = table(rows, calibration, logits, CONFIG)
    write_table(tmp_path / "thresholds.toml", "face_attack", written)
    read = Thresholds.load(tmp_path / "thresholds.toml")
    assert 0 < read.point("face_attack", "review") < read.point("face_attack", "reject") < 1
    assert read.point("face_attack", "review") == pytest.approx(written["points"][written["points_named_after"]["review"]], abs=1e-6)
    for kind in ("physical", "digital"):
        assert set(Join.from_table(read.table("face_attack")["join"][kind], kind).weights) == {"face", "patch"}
    counts = read.table("face_attack")
    assert counts["review_refuses_most"]["source"] in {f"source_{i}" for i in range(3)}
    assert (counts["bona_fide_chips"], counts["attack_chips"], counts["simulated_attacks"]) == (400, 800, 400)
    assert (counts["bona_fide_presentations"], counts["attack_presentations"]) == (400, 800)


def test_the_frames_of_a_clip_are_counted_as_chips_and_presented_once() -> None:
    rows, logits = made(count=20)
    swaps = clip([r for r in rows if r.attack_type == "swap"], "clips/one.mp4")
    frames = [swaps.pop(0) if r.attack_type == "swap" else r for r in rows]
    written = table(frames, fit(frames, logits, 0.3), logits, CONFIG)
    assert (written["attack_chips"], written["attack_presentations"]) == (40, 21)


def test_people_are_sent_to_review_from_the_loosest_point_that_spares_every_source() -> None:
    rows = pictures([row(source="usual")] * 200 + [row(source="unlike")] * 20 + [row(source="few")] * 5)
    p = np.concatenate([np.linspace(0, 0.5, 200), np.linspace(0.3, 0.7, 20), [0.99] * 5])
    rule = {"points": ["bpcer_10", "bpcer_05", "bpcer_01"], "faces": 20, "refused": 0.10}
    named = {"bpcer_10": 0.45, "bpcer_05": 0.67, "bpcer_01": 0.9}
    assert loosest(rows, p, named, rule) == "bpcer_05", "a tenth of the usual people are refused by the first, three in five of the unlike"
    low = dict.fromkeys(named, 0.2)
    assert loosest(rows, p, low, rule) == "bpcer_01", "none of them spares the unlike, so the last"
    assert refused_most(rows, p, 0.67, 20) == ("unlike", pytest.approx(0.1)), "few people are no measure"
    assert refused_most(rows, p, 0.2, 20) == ("unlike", pytest.approx(1.0))
