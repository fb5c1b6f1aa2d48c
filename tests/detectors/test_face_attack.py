"""The face-attack detector: which pixels it shows to its nets, how it joins their answers, and when it keeps silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import made_passport_chips
import numpy as np
import pytest
from faces_in_motion import FACTS, portrait
from stand_ins import AttackNet, bundle, by_light

from kyc_guard import fusion
from kyc_guard.calibration import Join, Platt, either
from kyc_guard.config import Limits, Policy, Settings, Thresholds
from kyc_guard.detectors.face_attack import CLASSES, KINDS, PORTRAITS, FaceAttack, PortraitHint
from kyc_guard.documents.chip import with_chip
from kyc_guard.errors import ConfigError
from kyc_guard.faces import face_square
from kyc_guard.faces.views import FACE, PATCH, VIEWS, Looks
from kyc_guard.submission import Submission
from kyc_guard.types import (
    PHYSICAL,
    Clip,
    Evidence,
    Face,
    FaceQuality,
    FaceTrack,
    Modality,
    Outcome,
    PagePortrait,
    Reason,
    Signal,
    UInt8Array,
)


def detector(face: Any = None, patch: Any = None, joins: tuple[Join, Join] | None = None, **gates: float) -> FaceAttack:
    policy = Policy.load(Settings().policy_path)
    plain = Join({"face": 1.0, "patch": 1.0}, 0.0)
    return FaceAttack(
        nets={FACE: face or AttackNet(by_light), PATCH: patch or AttackNet(by_light)},
        joins=joins or (plain, plain),
        policy=replace(policy, quality={**policy.quality, **gates}),
        portraits=dict.fromkeys(PORTRAITS, PortraitHint(Platt(1.0, -4.0), review=0.9)),
    )


def always(physical: float, digital: float, species: str = "replay") -> AttackNet:
    return AttackNet(lambda _: (physical, digital), species)


def evidence(*frames: UInt8Array, faces: tuple[Face | None, ...] | None = None) -> Evidence:
    """A clip of the portrait, frame by frame as given, its face where it is."""
    stack = np.stack(frames or (portrait()[0],))
    clip = Clip(stack, np.arange(len(stack)) / 10, stack[:0], np.zeros(0), is_still=len(stack) == 1, facts=FACTS)
    return Evidence(Submission("x"), clip=clip, track=FaceTrack(faces or (portrait()[1],) * len(stack), 0))


def lit(gain: float) -> UInt8Array:
    return np.clip(portrait()[0] * gain, 0, 255).astype(np.uint8)


def codes(signal: Signal) -> list[str]:
    return [r.code for r in signal.reasons]


def test_a_still_gets_every_look_of_every_view() -> None:
    face, patch = AttackNet(by_light), AttackNet(by_light)
    image, found = portrait()
    detector(face, patch)(evidence())
    for view, net in ((FACE, face), (PATCH, patch)):
        (shown,) = net.shown
        assert shown.shape == (len(view.anchors) * len(view.passes), 128, 128, 3)
        assert np.array_equal(shown, view.cut(image, found, view.looks))
        assert len({s.tobytes() for s in shown}) == len(shown)


def test_a_wider_look_shows_more_of_the_whole_face_and_moves_windows_outwards() -> None:
    image, found = portrait()
    (cx, cy), side = face_square(found)
    wider = max(FACE.looks, key=lambda look: look.zoom)
    half = (found.box_xyxy[2:] - found.box_xyxy[:2]) / 2 * wider.zoom
    grown = replace(found, box_xyxy=np.array([cx - half[0], cy - half[1], cx + half[0], cy + half[1]], np.float32))
    assert wider.zoom > 1.0
    assert np.array_equal(FACE.cut(image, found, [wider]), FACE.cut(image, grown, FACE.looks[:1]))
    plain, moved = PATCH.looks[0], PATCH.looks[-len(PATCH.anchors)]._replace(quality=None)
    assert (moved.x, moved.y) == (plain.x * moved.zoom, plain.y * moved.zoom)
    shifted = np.roll(image, (round((plain.y - moved.y) * side), round((plain.x - moved.x) * side)), (0, 1))
    before, after = (PATCH.cut(image, found, [look]).astype(float) for look in (plain, moved))
    assert np.abs(after - PATCH.cut(shifted, found, [plain])).mean() < np.abs(after - before).mean() / 2


def test_the_frames_of_a_clip_share_the_windows_in_turn() -> None:
    face, patch = AttackNet(by_light), AttackNet(by_light)
    frames = [lit(g) for g in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)]
    detector(face, patch)(evidence(*frames))
    assert (len(face.shown[0]), len(patch.shown[0])) == (7, 7)
    for i, frame in enumerate(frames):
        look = PATCH.looks[i % len(PATCH.anchors)]
        assert look.zoom == 1.0
        assert np.array_equal(patch.shown[0][i], PATCH.cut(frame, portrait()[1], [look])[0])


def test_the_views_are_joined_for_each_suspicion_and_either_suffices() -> None:
    joins = (Join({"face": 0.5, "patch": 2.0}, -1.0), Join({"face": 1.0, "patch": 0.0}, 0.25))
    signal = detector(always(1.0, -3.0), always(0.75, 9.0), joins)(evidence())
    assert signal.facts["log_odds"] == {"physical": 1.0, "digital": -2.75}
    assert signal.score == pytest.approx(either(1.0, -2.75))


def test_a_clip_is_judged_by_the_mean_of_its_frames_not_by_the_worst() -> None:
    dark, bright = lit(0.6), lit(1.3)
    alone = [detector()(evidence(f, f, f, f, f)).facts["log_odds"]["physical"] for f in (dark, bright)]
    mixed = detector()(evidence(dark, bright, dark, bright, dark, bright, dark, bright, dark, bright))
    assert alone[1] - alone[0] > 2
    assert mixed.facts["log_odds"]["physical"] == pytest.approx(sum(alone) / 2, abs=0.3)


@pytest.mark.parametrize("looks", ["one", "plain", "all"])
def test_a_batch_gives_what_its_members_give_alone(looks: Looks) -> None:
    image, face = portrait()
    faces = [(lit(g), face) for g in (0.6, 0.8, 1.0)] + [(image[:, ::-1].copy(), face)]
    together = detector().score_faces(faces, looks=looks)
    for i, one in enumerate(faces):
        # A frame's place in the clip says which window it gets.
        single = detector().score_faces([one] * (i + 1) if looks == "one" else [one], looks=looks)[-1]
        assert together[i].log_odds == single.log_odds
        assert together[i].by_view == single.by_view
        assert np.array_equal(together[i].species, single.species)
        assert np.array_equal(together[i].heat_map, single.heat_map)


@pytest.mark.parametrize(
    ("physical", "digital", "species", "named"),
    [(2.0, -2.0, "print", "print"), (-2.0, 2.0, "swap", "swap"), (2.0, -2.0, "swap", None), (-9.0, -9.0, "bona_fide", None)],
)
def test_the_species_named_is_one_of_the_louder_suspicion(physical: float, digital: float, species: str, named: str | None) -> None:
    signal = detector(always(physical, digital, species), always(physical, digital, species))(evidence())
    assert signal.species is not None
    assert (signal.species in PHYSICAL) == (physical >= digital)
    assert named in {None, signal.species}
    assert signal.species != "bona_fide"
    assert sum(signal.facts["species"].values()) == pytest.approx(1.0, abs=1e-3)
    assert tuple(signal.facts["species"]) == CLASSES


def test_the_reviewer_sees_the_most_suspicious_frame() -> None:
    frames = [lit(0.6), lit(1.2), lit(0.8)]
    signal = detector()(evidence(*frames))
    assert np.array_equal(signal.artefacts["face_rgb"], FACE.cut(frames[1], portrait()[1], FACE.looks[:1])[0])
    heat = signal.artefacts["heat_map"]
    assert np.array_equal(heat, FACE.cut(frames[1], portrait()[1], FACE.looks[:1])[0][::32, ::32, 0].astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("gate", "value", "code"),
    [
        ("face_min_size_px", 2000.0, "face_too_small"),
        ("face_min_blur", 1e6, "face_blurred"),
        ("face_min_brightness", 254.0, "face_too_dark"),
        ("face_max_brightness", 1.0, "face_too_bright"),
        ("face_max_occlusion", -1.0, "face_covered"),
        ("face_max_yaw_deg", -1.0, "face_turned_away"),
    ],
)
def test_every_gate_abstains_with_its_reason(gate: str, value: float, code: str) -> None:
    signal = detector(**{gate: value})(evidence())
    assert signal.score is None
    assert codes(signal) == [code]


def test_a_face_that_was_not_measured_is_not_judged() -> None:
    good = portrait()[1]
    nan = float("nan")
    unmeasured = replace(good, yaw_deg=nan, quality=FaceQuality(nan, nan, nan, nan, nan))
    signal = detector()(evidence(faces=(unmeasured,)))
    assert signal.score is None
    assert codes(signal) == ["face_too_small", "face_blurred", "face_too_dark", "face_too_bright", "face_covered", "face_turned_away"]


def test_frames_that_cannot_be_judged_are_left_out_and_counted() -> None:
    good = portrait()[1]
    far = replace(good, quality=replace(good.quality, size_px=10.0))
    face = AttackNet(by_light)
    signal = detector(face)(evidence(lit(0.5), lit(1.0), lit(1.0), lit(1.3), faces=(far, good, None, good)))
    assert len(face.shown[0]) == 2
    assert (signal.facts["frames"], signal.facts["frames_unfit"], signal.quality) == (2, 1, 0.5)
    assert signal.score == pytest.approx(detector()(evidence(lit(1.0), lit(1.3))).score)


def test_one_flattering_frame_does_not_stand_for_a_clip_that_hides_the_rest() -> None:
    good = portrait()[1]
    dark = replace(good, quality=replace(good.quality, brightness=5.0))
    far = replace(good, quality=replace(good.quality, size_px=10.0))
    shown = (lit(1.0),) * 6
    hidden = detector(face_min_fit_share=0.33)(evidence(*shown, faces=(good, far, dark, dark, dark, None)))
    assert hidden.score is None
    assert codes(hidden) == ["face_too_dark", "face_too_small", "face_lost"]
    half = detector(face_min_fit_share=0.33)(evidence(*shown, faces=(good, good, dark, dark, dark, None)))
    assert half.score is not None


def test_without_a_face_it_says_what_is_missing() -> None:
    nothing = replace(evidence(faces=(None,)), problems={Modality.FACE: Reason("no_face", "nobody there")})
    signal = detector()(nothing)
    assert signal.score is None
    assert signal.reasons == (Reason("no_face", "nobody there"),)


@pytest.mark.parametrize("logits", [(np.nan, 0.0), (0.0, np.nan), (np.inf, np.nan)], ids=str)
def test_an_answer_that_is_no_number_is_never_a_score(logits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        detector(always(*logits))(evidence())


def test_it_is_loaded_with_a_net_a_view_and_a_join_a_suspicion() -> None:
    made = bundle()
    loaded = FaceAttack.load(made)
    assert made.asked == [f"face_attack_{name}" for name in VIEWS]
    assert set(loaded.nets) == set(VIEWS.values())
    assert len(loaded.joins) == len(KINDS)
    assert set(loaded.portraits) == set(PORTRAITS)
    assert loaded(evidence()).score is not None


@pytest.mark.parametrize(
    ("join", "says"),
    [
        ({}, "physical"),
        ({"physical": {"face": 1.0, "offset": 0.0}}, "digital"),
        ({"physical": {"face": 1.0, "offset": 0.0}, "digital": {"face": -1.0, "offset": 0.0}}, "digital"),
        ({"physical": {"face": 1.0, "offset": 0.0}, "digital": {"nose": 1.0, "offset": 0.0}}, "nose"),
    ],
)
def test_thresholds_that_do_not_fit_the_views_are_refused(join: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FaceAttack.load(bundle(face_attack={"join": join}))


# ---- the portraits of the document and of its chip


def _reddened(image_rgb: UInt8Array) -> UInt8Array:
    """What `by_light` takes for made in a computer."""
    return np.clip(image_rgb * np.array([1.6, 1.0, 0.2]), 0, 255).astype(np.uint8)


def _shown(portrait_rgb: UInt8Array, *, chip: bool = False, px: float = 120.0) -> Evidence:
    """A quiet selfie beside a document with this portrait, in print or in the chip."""
    face = portrait()[1]
    if chip:
        sent = cv2.imencode(".jpg", portrait_rgb[..., ::-1])[1].tobytes()
        return with_chip(evidence(lit(0.5)), {"dg2": made_passport_chips.dg2(sent)}, Limits())
    face = replace(face, quality=replace(face.quality, size_px=px))
    return replace(evidence(lit(0.5)), portrait=PagePortrait(0, 0, portrait_rgb, face))


@pytest.mark.parametrize("chip", [False, True])
def test_a_portrait_that_looks_made_goes_to_a_person_and_never_further(chip: bool) -> None:
    medium = "chip" if chip else "print"
    plain, made = (detector()(_shown(rgb, chip=chip)) for rgb in (portrait()[0], _reddened(portrait()[0])))
    assert (codes(plain), codes(made)) == ([], [PORTRAITS[medium][0]])
    assert made.facts["portraits"][medium]["probability"] > 0.9 > plain.facts["portraits"][medium]["probability"]
    assert made.score == plain.score == detector()(evidence(lit(0.5))).score
    policy = Policy.load(Settings().policy_path)
    alone = replace(policy, checks={"face_attack": policy.checks["face_attack"]}, together_review_at=None)
    thresholds = Thresholds.load(Settings().weights_dir / "thresholds.toml")
    outcomes = [fusion.decide([s], alone, thresholds).outcome for s in (plain, made)]
    assert outcomes == [Outcome.ACCEPT, Outcome.REVIEW]


def test_a_portrait_too_small_to_tell_is_not_judged_and_that_is_said() -> None:
    signal = detector(portrait_attack_min_px=64)(_shown(_reddened(portrait()[0]), px=63.0))
    assert signal.reasons == ()
    assert signal.facts["portraits"] == {"print": {"not_judged": "63 px wide, 64 are needed"}}


def test_without_a_portrait_nothing_is_said_of_one() -> None:
    unreadable = with_chip(evidence(), {"dg2": b"\x75\x03abc"}, Limits())
    assert [detector()(e).facts["portraits"] for e in (evidence(), unreadable)] == [{}, {}]
