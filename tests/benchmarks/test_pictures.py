"""What the benchmarks show the models: samples, reserved simulators, everyday changes; judged by the real detector with made-up nets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_fakes import MakeRed, write_people

from benchmarks import as_frames, robustness, simulated
from benchmarks.sample import face_picture, in_turn, spread
from benchmarks.transforms import TRANSFORMS, moved
from kyc_guard.config import Limits, Sampling, Settings
from kyc_guard.demo import portrait_rgb
from kyc_guard.faces import face_finder, face_square
from kyc_guard.media import read_clip
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import Presentation, Score
from kyc_guard.types import Face


@pytest.fixture(scope="module")
def portrait() -> Any:
    return np.ascontiguousarray(portrait_rgb()[::2, ::2])


@pytest.fixture(scope="module")
def face(portrait: Any) -> Face:
    return face_finder().find(portrait)[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, portrait: Any) -> list[Presentation]:
    manifest = write_people(tmp_path_factory.mktemp("people"), portrait)
    return list(read_manifest(manifest, manifest.parent, "validation"))


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> MakeRed:
    return MakeRed(tmp_path_factory.mktemp("weights"))


def row(path: str, source: str, label: str = "bona_fide", problem: tuple[str, str] | None = None) -> Presentation:
    return Presentation(path, label, "print" if label == "attack" else "", source, file=Path(path), problem=problem)


MANY = [*(row(f"a{i}", "large") for i in range(50)), *(row(f"b{i}", "small") for i in range(3)), row("c", "large", "attack")]


def test_a_sample_takes_as_many_of_every_kind_whatever_the_order() -> None:
    chosen = spread(MANY, per_kind=4)
    assert sorted((r.source, r.label) for r in chosen) == [
        ("large", "attack"), *[("large", "bona_fide")] * 4, *[("small", "bona_fide")] * 3,
    ]  # fmt: skip
    assert {r.path for r in spread(MANY[::-1], per_kind=4)} == {r.path for r in chosen}


def test_sources_take_turns_and_unusable_rows_take_none() -> None:
    chosen = in_turn([*MANY, row("broken", "third", problem=("missing_file", ""))], 6)
    assert [r.source for r in chosen].count("small") == 3
    assert "broken" not in {r.path for r in chosen}


def test_pictures_are_brought_to_a_common_size_and_pictures_without_a_face_are_left_out(tmp_path: Path, portrait: Any) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(np.repeat(np.repeat(portrait, 4, 0), 4, 1))).save(tmp_path / "large.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = face_picture(tmp_path / "large.png", Limits())
    assert found is not None
    assert max(found[0].shape) == 720
    assert face_picture(tmp_path / "black.png", Limits()) is None
    assert face_picture(tmp_path / "torn.png", Limits()) is None


# ------------------------------------------------------------------------------------------------------------ simulators


def test_every_reserved_simulator_and_no_other_is_tried_on_every_face(rows: list[Presentation], make: MakeRed) -> None:
    chosen = simulated.subjects(rows, Settings(), 10)
    assert {s.row.path for s in chosen} == {"0.png", "1.png"}  # bona fides alone
    assert all(s.donor is not s.face for s in chosen)
    assert all(a.held_out for a in simulated.RESERVED)
    scores = simulated.Attacker(make)()(chosen[0])
    assert len(scores) == 2 + len(simulated.RESERVED)
    assert scores[0] is not None
    assert scores[1] not in {None, scores[0]}, "the camera changes something"
    assert scores == simulated.Attacker(make)()(chosen[0])


def test_the_figures_of_reserved_simulators(rows: list[Presentation]) -> None:
    count = len(simulated.RESERVED)
    judged: list[tuple[simulated.Subject, list[float | None]]] = [
        (simulated.Subject(rows[0], None, None, 0), [0.2, 0.6, *[0.25] * count]),  # type: ignore[arg-type]
        (simulated.Subject(rows[1], None, None, 1), [0.3, 0.4, None, *[1.0] * (count - 1)]),  # type: ignore[arg-type]
    ]
    found = simulated.figures(judged, {"review": 0.5})
    by_name = {(s["name"], s["against"]): s for s in found["simulators"]}
    first, second = simulated.RESERVED[0].name, simulated.RESERVED[1].name
    silent = by_name[first, simulated.PLAIN]
    assert (silent["attacks"], silent["bona_fides"], silent["attacks_silent"].errors) == (2, 2, 1)
    assert silent["above_own_original"] == Rate.of(1, 1)
    plain, captured = by_name[second, simulated.PLAIN], by_name[second, simulated.CAPTURED]
    assert (plain["above_own_original"], captured["above_own_original"]) == (Rate.of(2, 2), Rate.of(1, 2))
    assert (plain["auc"]["value"], captured["auc"]["value"]) == (0.75, 0.5)  # 0.25 and 1.0 against 0.2 and 0.3, and against 0.6 and 0.4
    assert plain["points"]["review"]["apcer"] == Rate.of(1, 2)
    assert plain["points"]["review"]["bpcer"] == Rate.of(0, 2)
    assert captured["points"]["review"]["bpcer"] == Rate.of(1, 2), "people refused for the camera alone are counted"
    kinds = {"physical": ("print", "print_cut", "replay", "mask"), "print and screen": ("print", "print_cut", "replay")}
    attacks = {name: 2 * sum(a.species in species for a in simulated.RESERVED) for name, species in kinds.items()}
    assert [(p["name"], p["against"], p["attacks"]) for p in found["pooled"]] == [
        ("physical", simulated.PLAIN, attacks["physical"]),
        ("print and screen", simulated.PLAIN, attacks["print and screen"]),
        ("print and screen", simulated.CAPTURED, attacks["print and screen"]),
        ("digital", simulated.PLAIN, 2 * count - attacks["physical"]),
    ]


def test_only_what_ends_in_a_camera_is_held_against_captured_originals(rows: list[Presentation]) -> None:
    scores: list[float | None] = [0.2, 0.6, *[0.5] * len(simulated.RESERVED)]
    found = simulated.figures([(simulated.Subject(rows[0], None, None, 0), scores)], {})  # type: ignore[arg-type]
    captured = {s["species"] for s in found["simulators"] if s["against"] == simulated.CAPTURED}
    assert captured == {"print", "print_cut", "replay"}


# ------------------------------------------------------------------------------------------------------------ as frames


def test_pictures_are_judged_again_by_a_clips_looks_and_clips_are_not(rows: list[Presentation], make: MakeRed) -> None:
    clip = replace(rows[0], path="0.mp4")
    scores = [*(Score(0.5, None, None) for _ in rows[:3]), Score(None, "no_face"), Score(0.5)]
    judged = as_frames.run([*rows, clip], scores, make, Settings(), workers=1)
    assert [row.path for row, _, _ in judged] == ["0.png", "1.png", "2.png"]
    live, _, shown = [frame.score for _, _, frame in judged]
    assert live is not None
    assert shown is not None
    assert live < 0.5 < shown
    found = as_frames.tables(judged, {"review": 0.5})
    assert [(f["name"], f["path"], f["attacks"], f["bona_fides"]) for f in found] == [
        ("physical", as_frames.STILL, 1, 2), ("digital", as_frames.STILL, 0, 2),
        ("physical", as_frames.FRAME, 1, 2), ("digital", as_frames.FRAME, 0, 2),
    ]  # fmt: skip
    assert found[2]["auc"]["value"] == 1.0


def test_a_clips_looks_are_one_of_each_view_and_take_their_turns(rows: list[Presentation], make: MakeRed) -> None:
    """The mean over the turns is the log-odds of a clip whose frames all show the picture: what the detector itself says of one."""
    verifier = make()
    score = as_frames.Turns(make, Settings())()(rows[2])
    file = rows[2].file
    assert file is not None
    picture = read_clip(file, Sampling(frames=1, burst_frames=0), Limits()).frames_rgb[0]
    assert score == pytest.approx(verifier.attack_score(np.stack([picture] * 5), "clip").score, abs=1e-6)
    assert score != pytest.approx(verifier.attack_score(picture, "still").score, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ robustness


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: f"{t.family} {t.strength}")
def test_a_change_is_the_same_for_the_same_seed_and_leaves_its_input_alone(transform: Any, portrait: Any, face: Face) -> None:
    before = portrait[:-1, :-1].copy()  # odd sides, which video codecs do not take
    given = before.copy()
    once, again = (transform.apply(np.random.default_rng(7), given, face) for _ in range(2))
    assert once.dtype == np.uint8
    assert once.ndim == 3
    assert np.array_equal(once, again)
    assert np.array_equal(given, before)
    assert once.shape != before.shape or not np.array_equal(once, before)


@pytest.mark.parametrize("family", ["JPEG", "WebP", "H.264", "VP9"])
def test_codecs_harm_more_the_coarser_they_are_and_keep_the_colours(family: str, portrait: Any, face: Face) -> None:
    made = [t.apply(np.random.default_rng(0), portrait, face).astype(int) for t in TRANSFORMS if t.family == family]
    harm = [float(np.abs(picture - portrait).mean()) for picture in made]
    assert harm == sorted(harm)
    assert np.abs(made[0].mean((0, 1)) - portrait.mean((0, 1))).max() < 3


def test_a_moved_box_stays_within_its_amount(face: Face) -> None:
    (cx, cy), side = face_square(face)
    for seed in range(20):
        (x, y), new = face_square(moved(np.random.default_rng(seed), face, 0.1))
        assert max(abs(x - cx), abs(y - cy), abs(new - side)) <= 0.101 * side
    assert np.allclose(moved(np.random.default_rng(0), face, 0.0).box_xyxy, face.box_xyxy)


def test_a_detector_that_lives_by_colour_flips_on_the_wrong_order_and_on_nothing_milder(rows: list[Presentation], make: MakeRed) -> None:
    shake = robustness.Shaker(make, Settings())()
    judged = [(row, trials) for row in rows[1:3] if (trials := shake(row)) is not None]
    found = robustness.figures(judged, "review", 0.5)
    by_name = {(t["family"], t["strength"]): t for t in found["transforms"]}
    assert (found["attacks"], found["bona_fides"]) == (1, 1)
    wrong = by_name["colour order", "BGR for RGB"]
    assert (wrong["flipped"], wrong["attacks_let_pass"], wrong["bona_fides_refused"]) == (Rate.of(2, 2), Rate.of(1, 1), Rate.of(1, 1))
    for mild in (("JPEG", "70"), ("face box", "±10 %"), ("upload crop", "±10 %"), ("H.264", "crf 28"), ("flip", "left to right")):
        assert by_name[mild]["flipped"] == Rate.of(0, 2), mild
    assert by_name["face box", "±20 %"]["drift_mean"] >= by_name["face box", "±5 %"]["drift_mean"] > 0


def test_silence_is_counted_apart_from_flips() -> None:
    names = len(robustness.NAMES)
    attack, live = row("a", "cam", "attack"), row("b", "cam")
    differs = (True,) * names
    judged = [
        (attack, robustness.Trials(0.9, (0.4, None, *[0.9] * (names - 2)), 0.9, differs)),
        (live, robustness.Trials(0.1, (0.2, 0.6, *[0.1] * (names - 2)), 0.1, differs)),
        (live, robustness.Trials(None, (0.9,) * names, 0.1, differs)),
    ]
    found = robustness.figures(judged, "review", 0.5)
    first, second = found["transforms"][:2]
    assert found["no_response_unchanged"] == Rate.of(1, 3)
    assert (first["pictures"], first["flipped"], first["attacks_let_pass"]) == (2, Rate.of(1, 2), Rate.of(1, 1))
    assert (second["pictures"], second["no_response"], second["bona_fides_refused"]) == (1, Rate.of(1, 2), Rate.of(1, 1))
    moves = [robustness.log_odds(before) - robustness.log_odds(after) for before, after in ((0.9, 0.4), (0.2, 0.1))]
    assert first["drift_mean"] == pytest.approx(sum(moves) / 2)


def test_pictures_that_were_left_as_they_are_thin_no_flip_rate() -> None:
    names = len(robustness.NAMES)
    flips, stays = (0.1, *[0.9] * (names - 1)), (0.9,) * names
    judged = [
        (row("a", "cam", "attack"), robustness.Trials(0.9, flips, 0.9, (True,) * names)),
        *[(row("b", "cam", "attack"), robustness.Trials(0.9, stays, 0.9, (False,) * names))] * 3,
    ]
    first = robustness.figures(judged, "review", 0.5)["transforms"][0]
    assert (first["pictures"], first["changed"]) == (4, 1)
    assert first["flipped"] == first["attacks_let_pass"] == Rate.of(1, 1)


@pytest.mark.parametrize("amount", [0.05, 0.10, 0.20])
@pytest.mark.parametrize("margin", [1.0, 0.1, 0.0, -0.3])
def test_an_upload_is_always_cut_and_the_face_by_no_more_than_the_jitter(portrait: Any, face: Face, amount: float, margin: float) -> None:
    """Also one that comes as tight as an aligned face, or tighter."""
    (cx, cy), side = face_square(face)
    half, (height, width) = side * (0.5 + margin), portrait.shape[:2]
    x0, y0, x1, y1 = max(0, round(cx - half)), max(0, round(cy - half)), min(width, round(cx + half)), min(height, round(cy + half))
    # Every pixel says where it was.
    where = np.stack([*np.indices(portrait.shape[:2]), np.zeros(portrait.shape[:2], int)], axis=2)
    tight = where[y0:y1, x0:x1]
    shifted = replace(face, box_xyxy=(face.box_xyxy - np.array([x0, y0, x0, y0])).astype(np.float32))
    crop = next(t for t in TRANSFORMS if (t.family, t.strength) == ("upload crop", f"±{100 * amount:.0f} %"))
    middles = set()
    for seed in range(20):
        cut: Any = crop.apply(np.random.default_rng(seed), tight, shifted)
        (top, left), (bottom, right) = cut[0, 0, :2], cut[-1, -1, :2]
        middles.add((top + bottom, left + right))
        for kept, given, inside in (
            (top, y0, cy - side / 2),
            (left, x0, cx - side / 2),
            (-bottom, -y1 + 1, -cy - side / 2),
            (-right, -x1 + 1, -cx - side / 2),
        ):
            assert kept > given, "every edge goes"
            assert kept <= max(inside + amount * side, given) + 1.5, "the face's square is kept but for the jitter"
    if margin >= 0:  # of a face that is cut off already hardly more may go
        assert len(middles) > 5, "not always about the same middle"


def test_the_page_and_the_goals_of_robustness() -> None:
    from benchmarks.record import plain

    names = len(robustness.NAMES)
    judged = [(row("a", "cam", "attack"), robustness.Trials(0.9, (0.9,) * names, 0.9, (True,) * names))]
    found = plain({"command": "c", "about": {"split": "s", "manifest": "m"}, **robustness.figures(judged, "review", 0.5)})
    found["goals"] = [g.to_json() for g in robustness.goals(found)]
    assert [g["met"] for g in found["goals"]] == [True, True]
    assert "| JPEG | 70 | 1/1 | 0.00 (0.00) | 0.0 % [0.0, 97.5] 0/1 |" in robustness.page(found)
