"""The liveness detector: what it refuses to judge, what it calls an attack, and how it says so."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from faces_in_motion import Scene, evidence, frozen, looped, moved, still_noise, turned, waved

from kyc_guard import Settings
from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.liveness import CODES, SPECIES, Liveness
from kyc_guard.motion import GROUPS, POOLED_NAMES
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, FaceTrack, Modality, Reason, Signal


class Quiet:
    """A net that sees nothing suspicious, unless told what to say."""

    def __init__(self, logit: float = -4.0, loud: str = "") -> None:
        self.logit, self.loud = logit, loud
        self.seen: list[np.ndarray] = []

    def run(self, *, figures: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(figures)
        parts = np.array([[5.0 if g == self.loud else -1.0 for g in GROUPS]], np.float32)
        species = np.full((1, len(SPECIES)), 1 / len(SPECIES), np.float32)
        return {"logit": np.array([self.logit], np.float32), "groups": parts, "species": species}


def detector(net: Any = None, **gates: float) -> Liveness:
    policy = Policy.load(Settings().policy_path)
    return Liveness(
        net=net or Quiet(),
        platt=Platt(1.0, 0.0),
        findings={"frozen_clip": 0.95, "looped_clip": 0.9},
        groups=dict.fromkeys(GROUPS, 1.0),
        policy=dataclasses.replace(policy, quality={**policy.quality, "liveness_min_motion": -9.0, **gates}),
    )


@cache
def seen(scene: Scene) -> Evidence:
    return evidence(scene)


def codes(signal: Signal) -> list[str]:
    return [r.code for r in signal.reasons]


def test_a_quiet_clip_gets_the_nets_probability_and_the_figures() -> None:
    net = Quiet(logit=-2.0)
    signal = detector(net)(seen(waved))
    assert signal.score == pytest.approx(1 / (1 + np.exp(2.0)))
    assert signal.reasons == ()
    assert signal.quality == 1.0
    assert set(signal.facts["groups"]) == set(GROUPS)
    assert net.seen[0].shape == (1, len(POOLED_NAMES))


@pytest.mark.parametrize(("scene", "code"), [(frozen, "frozen_clip"), (looped, "looped_clip"), (turned, "looped_clip")])
def test_pixels_that_stand_still_or_come_back_are_an_attack_whatever_the_net_says(scene: Scene, code: str) -> None:
    signal = detector(Quiet(logit=-9.0))(seen(scene))
    assert codes(signal) == [code]
    assert signal.score is not None
    assert signal.score >= 0.9
    assert signal.species == "replay"


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_speaks_loudly_is_named(group: str) -> None:
    assert codes(detector(Quiet(loud=group))(seen(waved))) == [CODES[group]]


@pytest.mark.parametrize(
    ("gate", "value", "code"),
    [
        ("liveness_min_duration_s", 60.0, "clip_too_short"),
        ("liveness_min_burst_faces", 17.0, "face_lost"),
        ("liveness_min_faces", 13.0, "face_lost"),
        ("liveness_min_face_px", 2000.0, "face_too_small"),
        ("liveness_min_brightness", 254.0, "face_too_dark"),
        ("liveness_min_motion", 9.0, "face_too_still"),
    ],
)
def test_every_gate_abstains_with_its_reason(gate: str, value: float, code: str) -> None:
    signal = detector(**{gate: value})(seen(waved))
    assert signal.score is None
    assert codes(signal) == [code]


@pytest.mark.parametrize(("figure", "code"), [("size_px", "face_too_small"), ("brightness", "face_too_dark")])
def test_a_quality_that_was_not_measured_is_no_pass(figure: str, code: str) -> None:
    whole = seen(waved)
    assert whole.track is not None
    faces = tuple(f and dataclasses.replace(f, quality=dataclasses.replace(f.quality, **{figure: float("nan")})) for f in whole.track.faces)
    signal = detector()(dataclasses.replace(whole, track=dataclasses.replace(whole.track, faces=faces)))
    assert signal.score is None
    assert codes(signal) == [code]


def test_a_picture_at_rest_is_frozen_under_noise_as_well_and_what_hardly_moves_is_too_still_to_judge() -> None:
    shipped = Policy.load(Settings().policy_path)
    gates = {name: shipped.gate(name) for name in ("liveness_min_motion", "liveness_min_unrest", "liveness_min_brief_unrest")}
    assert codes(detector(**gates)(seen(frozen))) == ["frozen_clip"]
    assert codes(detector(**gates)(seen(still_noise))) == ["frozen_clip"]
    open_gates = {"liveness_min_unrest": 0.0, "liveness_min_brief_unrest": 0.0}
    assert codes(detector(**gates | open_gates)(seen(still_noise))) == ["face_too_still"]


def test_a_photo_and_a_clip_without_a_face_are_answered_by_what_is_missing() -> None:
    nothing = Evidence(Submission("x"), problems={Modality.FACE: Reason("no_face"), Modality.CLIP: Reason("no_clip")})
    assert set(codes(detector()(nothing))) == {"no_face", "no_clip"}
    faceless = dataclasses.replace(seen(waved), track=FaceTrack((None,) * 12, 0))
    assert codes(detector()(faceless)) == ["no_face"]


def test_a_clip_whose_burst_was_not_tracked_is_not_judged() -> None:
    assert detector()(dataclasses.replace(seen(waved), burst_track=None)).score is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_times_that_tell_nothing_abstain(bad: float) -> None:
    whole = seen(waved)
    assert whole.clip is not None
    clip = dataclasses.replace(whole.clip, timestamps_s=np.full(12, bad), burst_timestamps_s=np.full(16, bad))
    assert codes(detector()(dataclasses.replace(whole, clip=clip))) == ["clip_too_short"]


def test_a_clip_of_two_tiny_frames_abstains() -> None:
    short = evidence(lambda t, n: moved(np.eye(2, 3, dtype=np.float32)), seconds=2 / 25)
    assert detector()(short).score is None


def test_the_same_evidence_gives_the_same_signal() -> None:
    first, second = (detector()(seen(waved)).to_json() for _ in range(2))
    assert first == second
