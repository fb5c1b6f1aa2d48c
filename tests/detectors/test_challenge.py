"""The challenge check on scripted movements: done, half done, overdone, cut, late, in the wrong order, too fast, not shown."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest
from fakes import fake, settings_in, usual
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_traces import FULL, RATE_HZ, TIMES_S, acted, cycling, pose
from skimage.data import astronaut
from test_forensics import encoded

from benchmarks.acting import Act, film
from kyc_guard.config import Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors.challenge import FINDINGS, ChallengeResponse
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError
from kyc_guard.faces import track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.faces.hands import covered_share
from kyc_guard.faces.movements import KINDS, Done, Traces, judge, latency_spread_s, unasked
from kyc_guard.fusion import decide
from kyc_guard.media import read_clip
from kyc_guard.pipeline import Verifier
from kyc_guard.sessions import MemoryStore, Rules, Sessions
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceQuality, FaceTrack, Float64Array, Modality, Outcome, Reason, Signal
from kyc_guard.weights import Weights

SHIPPED = Settings()
POLICY = Policy.load(SHIPPED.policy_path)
THRESHOLDS = Thresholds.load(SHIPPED.weights_dir / "thresholds.toml")
BUNDLE = Bundle(SHIPPED, POLICY, THRESHOLDS, Weights(SHIPPED.weights_dir))
DETECTOR = ChallengeResponse.load(BUNDLE)
ONLY = dataclasses.replace(POLICY, checks={"challenge": POLICY.checks["challenge"]})
GATES = DETECTOR.gates
PROMPTS_S = (1.5, 6.0, 10.5)


def faults(traces: Traces, actions: Sequence[str], prompts_s: Sequence[float] = ()) -> list[str | None]:
    return [d.fault for d in judge(traces, actions, prompts_s, GATES)]


# ----------------------------------------------------------------------------------------------------------------- one act


@pytest.mark.parametrize("action", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_an_action_done_as_asked_passes_and_its_reaction_time_is_measured(action: str, seed: int) -> None:
    (done,) = judge(acted((action, 2.3, 1.0), seed=seed), [action], [1.5], GATES)
    assert done.fault is None
    assert done.peak >= 1.0
    assert done.latency_s == pytest.approx(0.85, abs=0.2)


@pytest.mark.parametrize("action", KINDS)
def test_an_action_passes_without_prompts_too(action: str) -> None:
    assert faults(acted((action, 4.0, 1.0)), [action]) == [None]


@pytest.mark.parametrize("action", KINDS)
def test_an_action_not_done_is_not_seen(action: str) -> None:
    assert faults(acted(), [action], [1.5]) == ["not_done"]
    assert faults(acted(), [action]) == ["not_done"]


@pytest.mark.parametrize("action", KINDS)
def test_an_action_half_done_is_called_so(action: str) -> None:
    name, change = FULL[action]
    needed = {"yaw_deg": 45.0 if "profile" in action else 15.0, "pitch_deg": 12.0, "eyes": 0.112, "smile": 0.048, "mouth": 0.25}
    needed |= {"size": 22.5, "cover": 0.2}
    assert faults(acted((action, 2.3, 0.7 * needed[name] / abs(change)), noise=0.01), [action], [1.5]) == ["half_done"]


@pytest.mark.parametrize("action", [a for a in KINDS if a != "blink"])
def test_an_action_after_its_window_is_late(action: str) -> None:
    assert faults(acted((action, 7.0, 1.0)), [action], [1.5]) == ["late"]


@pytest.mark.parametrize("action", [a for a in KINDS if a != "blink"])
def test_an_action_that_begins_before_a_person_could_react_is_too_fast(action: str) -> None:
    assert faults(acted((action, 1.3, 1.0)), [action], [1.5]) == ["too_fast"]


@pytest.mark.parametrize("action", [a for a in KINDS if KINDS[a].sweeps])
def test_a_cut_to_the_pose_is_no_movement(action: str) -> None:
    def jump(start_s: float, times_s: Float64Array) -> Float64Array:
        return ((start_s <= times_s) & (start_s + 1.0 > times_s)).astype(float)

    assert faults(acted((action, 2.3, 1.0), shape=jump), [action], [1.5]) == ["jumped"]


SWEEPING = [a for a in KINDS if KINDS[a].sweeps]


@pytest.mark.parametrize("action", SWEEPING)
@pytest.mark.parametrize(("rate_hz", "between"), [(15.0, 0), (15.0, 1), (15.0, 2), (25.0, 0), (25.0, 1), (25.0, 3), (30.0, 4)])
def test_a_cross_fade_to_the_pose_is_no_movement(action: str, rate_hz: float, between: int) -> None:
    """FACTS C1 asks for five frames of a sweep; a fade shows fewer positions ``between`` its ends."""

    def fade(start_s: float, times_s: Float64Array) -> Float64Array:
        away = int(np.searchsorted(times_s, start_s))
        return np.interp(np.arange(len(times_s)), [away, away + between + 1, away + 40, away + 41 + between], [0, 1, 1, 0])

    times_s = np.arange(0.0, 8.0, 1 / rate_hz)
    assert faults(acted((action, 2.3, 1.0), shape=fade, times_s=times_s), [action], [1.5]) == ["jumped"]


@pytest.mark.parametrize("action", SWEEPING)
@pytest.mark.parametrize("rate_hz", [12.0, 15.0, 25.0, 30.0])
@pytest.mark.parametrize("rise_s", [0.4, 0.6, 1.0, 2.0])
def test_quick_and_slow_people_are_seen_to_sweep(action: str, rate_hz: float, rise_s: float) -> None:
    times_s = np.arange(0.0, 8.0, 1 / rate_hz)
    traces = acted((action, 2.3, 1.0), shape=partial(pose, rise_s=rise_s), times_s=times_s)
    assert faults(traces, [action], [1.5]) == [None]


def test_a_leap_over_most_of_the_way_is_no_sweep_however_slow_its_end() -> None:
    def leaping(start_s: float, times_s: Float64Array) -> Float64Array:
        return np.interp(times_s, start_s + np.array([0.0, 0.04, 0.8, 1.3, 1.8]), [0, 0.75, 1, 1, 0])

    times_s = np.arange(0.0, 8.0, 1 / 25)
    assert faults(acted(("turn_left", 2.3, 1.0), shape=leaping, times_s=times_s), ["turn_left"], [1.5]) == ["jumped"]


@pytest.mark.parametrize("action", SWEEPING)
def test_a_pose_reached_to_and_fro_is_no_sweep(action: str) -> None:
    def shaken(start_s: float, times_s: Float64Array) -> Float64Array:
        knots_s = start_s + np.array([0, 0.3, 0.5, 0.7, 0.9, 1.2, 1.6, 2.0])
        return np.interp(times_s, knots_s, [0, 0.5, 0.3, 0.55, 0.3, 1, 1, 0])

    assert faults(acted((action, 2.3, 1.0), shape=shaken), [action], [1.5])[0] == "jumped"


def test_a_turn_beyond_its_range_is_overdone_but_a_profile_is_not() -> None:
    assert faults(acted(("turn_left", 2.3, 2.6)), ["turn_left"], [1.5]) == ["overdone"]
    assert faults(acted(("profile_left", 2.3, 1.4)), ["profile_left"], [1.5]) == [None]


@pytest.mark.parametrize(("asked", "done"), [("turn_left", "turn_right"), ("profile_right", "profile_left")])
def test_the_other_way_is_not_what_was_asked(asked: str, done: str) -> None:
    assert faults(acted((done, 2.3, 1.0)), [asked], [1.5]) == ["not_done"]


def test_a_pose_held_since_before_the_prompt_is_not_done_for_it() -> None:
    def held(_: float, times_s: Float64Array) -> Float64Array:
        return pose(0.5, hold_s=12.0, times_s=times_s)

    assert faults(acted(("open_mouth", 0.0, 1.0), shape=held), ["open_mouth"], [6.0]) != [None]


def test_an_eye_that_stays_closed_did_not_blink() -> None:
    traces = acted()
    shut = dataclasses.replace(traces, eyes=np.where(traces.times_s > 3.0, 0.05, traces.eyes))
    assert faults(shut, ["blink"], [1.5]) == ["half_done"]


@pytest.mark.parametrize("open_eye", [0.18, 0.28, 0.40])
def test_a_blink_is_measured_by_the_persons_own_eye(open_eye: float) -> None:
    traces = acted(("blink", 2.5, 1.0), noise=0.01)
    assert faults(dataclasses.replace(traces, eyes=traces.eyes / 0.28 * open_eye), ["blink"], [1.5]) == [None]


def test_a_blink_before_its_prompt_means_nothing() -> None:
    assert faults(acted(("blink", 1.0, 1.0), ("blink", 2.5, 1.0)), ["blink"], [1.5]) == [None]
    assert faults(acted(("blink", 1.0, 1.0)), ["blink"], [1.8]) == ["not_done"]


def test_a_face_lost_in_profile_does_not_undo_it() -> None:
    traces = acted(("profile_left", 2.3, 1.0))
    lost = traces.yaw_deg > 52
    assert faults(dataclasses.replace(traces, yaw_deg=np.where(lost, np.nan, traces.yaw_deg)), ["profile_left"], [1.5]) == [None]


def test_who_sits_turned_has_not_turned_and_may_still_turn() -> None:
    sits = np.where(TIMES_S > 4.0, 24.0, 0.0)  # turned since long before the second prompt
    idle = acted(("open_mouth", 2.3, 1.0))
    idle = dataclasses.replace(idle, yaw_deg=idle.yaw_deg + sits)
    assert faults(idle, ["open_mouth", "turn_left"], [1.5, 6.0])[1] == "not_done"
    turned = acted(("open_mouth", 2.3, 1.0), ("turn_left", 7.0, 1.0))
    turned = dataclasses.replace(turned, yaw_deg=turned.yaw_deg + sits)
    assert faults(turned, ["open_mouth", "turn_left"], [1.5, 6.0])[1] in {None, "overdone"}
    straight = dataclasses.replace(turned, yaw_deg=turned.yaw_deg - sits)
    assert faults(straight, ["open_mouth", "turn_left"], [1.5, 6.0]) == [None, None]


@pytest.mark.parametrize(
    ("action", "name", "reach"), [("smile", "smile", 0.08), ("open_mouth", "mouth", 0.35), ("look_up", "pitch_deg", 16.0)]
)
def test_lips_and_nods_of_somebody_who_talks_answer_nothing(action: str, name: str, reach: float) -> None:
    """Three syllables a second, each as large as the movement asked for, before and after the prompt."""
    talking = acted()
    beats = reach * np.maximum(np.sin(2 * np.pi * 3.0 * TIMES_S), 0) * (TIMES_S % 1.7 < 1.2)
    talking = dataclasses.replace(talking, **{name: getattr(talking, name) + beats})
    for prompt_s in (1.5, 2.0, 2.5, 3.0):
        assert faults(talking, [action], [prompt_s])[0] in {"not_done", "half_done"}


@pytest.mark.parametrize("action", ["smile", "open_mouth", "look_up"])
def test_who_talks_before_the_prompt_and_then_does_as_asked_passes(action: str) -> None:
    talking = acted((action, 3.0, 1.6))
    murmur = np.where(TIMES_S < 2.2, np.maximum(np.sin(2 * np.pi * 3.0 * TIMES_S), 0), 0)
    name, change = FULL[action]
    talking = dataclasses.replace(talking, **{name: getattr(talking, name) + 0.3 * change * murmur})
    assert faults(talking, [action], [1.8]) == [None]


@pytest.mark.parametrize("action", [a for a in KINDS if a != "blink"])
def test_a_twitch_is_not_held_long_enough(action: str) -> None:
    traces = acted((action, 2.3, 1.0), shape=partial(pose, rise_s=0.2, hold_s=0.0, fall_s=0.2))
    assert faults(traces, [action], [1.5])[0] in {"half_done", "jumped"}


def test_a_twitch_at_the_prompt_does_not_spoil_what_is_done_for_it() -> None:
    hasty = acted(("open_mouth", 1.4, 1.0), ("open_mouth", 3.6, 1.0))
    assert faults(hasty, ["open_mouth"], [1.5]) == [None]
    assert faults(acted(("open_mouth", 1.4, 1.0)), ["open_mouth"], [1.5]) == ["too_fast"]


# ------------------------------------------------------------------------------------------------------------- many acts

ORDER = ("turn_left", "open_mouth", "look_up")


def script(actions: Sequence[str], latencies_s: Sequence[float] = (0.8, 1.1, 0.7)) -> list[tuple[str, float, float]]:
    return [(a, p + d, 1.0) for a, p, d in zip(actions, PROMPTS_S, latencies_s, strict=True)]


def test_three_actions_in_order_pass() -> None:
    assert faults(acted(*script(ORDER)), ORDER, PROMPTS_S) == [None] * 3
    assert faults(acted(*script(ORDER)), ORDER) == [None] * 3


@pytest.mark.parametrize("prompts_s", [PROMPTS_S, ()])
def test_the_wrong_order_is_called_so(prompts_s: tuple[float, ...]) -> None:
    swapped = acted(*script((ORDER[1], ORDER[0], ORDER[2])))
    assert "wrong_order" in faults(swapped, ORDER, prompts_s)
    assert None in faults(swapped, ORDER, prompts_s)


def test_a_clip_of_other_actions_does_not_answer() -> None:
    replayed = acted(*script(("move_closer", "turn_right", "smile")))
    assert faults(replayed, ORDER, PROMPTS_S) == ["not_done"] * 3


@settings(max_examples=30)
@given(st.permutations(sorted(KINDS)), st.integers(0, 10**6))
def test_any_three_actions_done_in_order_pass(names: list[str], seed: int) -> None:
    chance = np.random.default_rng(seed)
    actions = names[:3]
    assert faults(acted(*script(actions, chance.uniform(0.4, 1.8, 3)), seed=seed), actions, PROMPTS_S) == [None] * 3


@settings(max_examples=60)
@given(
    st.lists(st.floats(-180, 180) | st.just(float("nan")), min_size=0, max_size=40),
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_traces_are_judged(values: list[float], actions: list[str], prompted: bool) -> None:
    curve = np.array(values, np.float64)
    traces = Traces(np.arange(len(values)) / 15, *(curve,) * 7)
    prompts_s = [0.1 * i for i in range(len(actions))] if prompted else []
    found = judge(traces, actions, prompts_s, GATES)
    assert [d.action for d in found] == actions
    assert all(d.fault is None or f"challenge_{d.fault}" in FINDINGS for d in found)


def issued(count: int) -> list[Challenge]:
    """Challenges as sessions ask them."""
    sessions = Sessions(MemoryStore(), Rules.of(POLICY), chance=random.Random(11))
    return [sessions.issue("s", datetime(2026, 1, 1, tzinfo=UTC))[1] for _ in range(count)]


def spreads(latencies_s: Callable[[np.random.Generator], Float64Array], rate_hz: float) -> Float64Array:
    """Of the reaction times in answers to issued challenges, with a noise of 3 % of each movement; blinks and what went wrong left out."""
    times_s, found = np.arange(0.0, 16.0, 1 / rate_hz), []
    for seed, challenge in enumerate(issued(120)):
        begun = latencies_s(np.random.default_rng(seed))
        acts = [(a, p + d, 1.0) for a, p, d in zip(challenge.actions, challenge.prompts_s, begun, strict=True)]
        done = judge(acted(*acts, noise=0.03, seed=seed, times_s=times_s), challenge.actions, challenge.prompts_s, GATES)
        found.append(latency_spread_s(done))
        assert (found[-1] is None) is ("blink" in challenge.actions)
    return np.array([spread for spread in found if spread is not None])


@pytest.mark.parametrize("rate_hz", [15.0, 25.0])
def test_a_scripts_even_reaction_times_are_told_from_peoples(rate_hz: float) -> None:
    even = spreads(lambda _: np.full(3, 0.8), rate_hz)
    human = spreads(lambda chance: np.clip(chance.normal(0.9, 0.2, 3), 0.3, 2.0), rate_hz)
    assert len(even) > 80
    assert np.mean(even < GATES.min_latency_spread_s) > 0.95
    assert np.mean(human < GATES.min_latency_spread_s) < 0.05


def test_of_fewer_than_three_reactions_no_spread_is_told() -> None:
    even = judge(acted(*script(ORDER, (0.8, 0.8, 0.8))), ORDER, PROMPTS_S, GATES)
    assert latency_spread_s(even) is not None
    assert latency_spread_s(even[:2]) is None
    assert latency_spread_s([Done("blink", None, 1.0, 0.5, 1.0)] * 3) is None


def test_a_clip_that_does_everything_in_turn_is_named_and_one_that_answers_is_not() -> None:
    called, passed = 0, 0
    for seed, challenge in enumerate(issued(40)):
        for trace in (cycling(seed % 4), cycling(4 + seed % 4)):
            if all(d.fault is None for d in judge(trace, challenge.actions, challenge.prompts_s, GATES)):
                passed += 1
            called += len(unasked(trace, challenge.actions, challenge.prompts_s, GATES)) > GATES.max_unasked
        answer = [(a, p + 0.9, 1.0) for a, p in zip(challenge.actions, challenge.prompts_s, strict=True)]
        honest = acted(*answer, seed=seed, times_s=np.arange(0.0, 16.0, 1 / RATE_HZ))
        assert unasked(honest, challenge.actions, challenge.prompts_s, GATES) == ()
    assert passed <= 4
    assert called >= 0.7 * 80


def test_without_prompts_nothing_is_unasked() -> None:
    assert unasked(cycling(0), ORDER, (), GATES) == ()


# --------------------------------------------------------------------------------------------------------- the detector


def face(traces: Traces, i: int) -> Face:
    """A face that measures as the traces say."""
    mesh = np.zeros((478, 3), np.float32)
    mesh[33, 0], mesh[263, 0] = 0, traces.size[i]
    mesh[234, 0], mesh[454, 0] = -50, 50
    mesh[61, 0], mesh[291, 0] = 0, 100 * traces.smile[i]
    quality = FaceQuality(size_px=100, blur=100, brightness=120, contrast=40, occlusion=0)
    return Face(
        box_xyxy=np.array([0, 0, 100, 100], np.float32), landmarks_px=mesh, confidence=1.0, yaw_deg=float(traces.yaw_deg[i]),
        pitch_deg=float(traces.pitch_deg[i]), roll_deg=0.0, eye_openness=(float(traces.eyes[i]), float(traces.eyes[i])),
        mouth_openness=float(traces.mouth[i]), quality=quality,
    )  # fmt: skip


def filmed(
    traces: Traces, challenge: Challenge | None, *, lost: float = 0.0, device: Mapping[str, Any] | None = None, subject: Face | None = None
) -> Evidence:
    count = len(traces.times_s)
    blank = np.zeros((1, 8, 8, 3), np.uint8)
    clip = Clip(
        blank, np.zeros(1), blank[:0], np.zeros(0), is_still=False, facts=ContainerFacts("test", 0, ""),
        motion_rgb=np.zeros((count, 8, 8, 3), np.uint8), motion_timestamps_s=traces.times_s,
    )  # fmt: skip
    faces = tuple(None if i < lost * count else face(traces, i) for i in range(count))
    sent = Submission("a1", challenge=challenge, device=device or {})
    return Evidence(sent, clip=clip, track=FaceTrack((subject or face(traces, 0),), 0), motion_track=FaceTrack(faces, 0))


ELSEWHERE = dataclasses.replace(face(acted(), 0), box_xyxy=np.array([300, 0, 400, 100], np.float32))


def codes(signal: Signal) -> set[str]:
    return {r.code for r in signal.reasons}


ASKED = Challenge(nonce="n", actions=ORDER, prompts_s=PROMPTS_S)


def test_a_clip_that_answers_passes_with_its_traces_and_latencies() -> None:
    signal = DETECTOR(filmed(acted(*script(ORDER)), ASKED))
    assert signal.score is not None
    assert codes(signal) == set()
    assert signal.score == pytest.approx(THRESHOLDS.table("challenge")["findings"]["prior"])
    assert [a["action"] for a in signal.facts["actions"]] == list(ORDER)
    assert all(0.4 < a["latency_s"] < 1.4 for a in signal.facts["actions"])
    assert signal.artefacts["yaw_deg"].shape == TIMES_S.shape
    assert signal.to_json() == DETECTOR(filmed(acted(*script(ORDER)), ASKED)).to_json()


@pytest.mark.parametrize(
    ("traces", "code", "outcome"),
    [
        (acted(), "challenge_not_done", Outcome.RETRY),
        (acted(*script((ORDER[1], ORDER[0], ORDER[2]))), "challenge_wrong_order", Outcome.RETRY),
        (acted(*script(ORDER, (0.8, 4.2, 0.9))), "challenge_late", Outcome.RETRY),
        (acted(*script(ORDER, (-0.2, 0.9, 0.7))), "challenge_too_fast", Outcome.REVIEW),
    ],
)
def test_what_went_wrong_is_said_and_decides(traces: Traces, code: str, outcome: Outcome) -> None:
    signal = DETECTOR(filmed(traces, ASKED))
    assert code in codes(signal)
    assert decide([signal], ONLY, THRESHOLDS).outcome is outcome


def test_reactions_as_even_as_a_scripts_are_looked_at() -> None:
    asked = Challenge(actions=("turn_left", "open_mouth", "profile_right"), prompts_s=PROMPTS_S)
    signal = DETECTOR(filmed(acted(*script(asked.actions, (0.8, 0.8, 0.8))), asked))
    assert codes(signal) == {"challenge_even_latencies"}
    assert decide([signal], ONLY, THRESHOLDS).outcome is Outcome.REVIEW


def test_everything_in_turn_is_looked_at_although_each_action_was_done() -> None:
    asked = Challenge(actions=("smile", "open_mouth"), prompts_s=(1.5, 9.0))
    script = [("smile", 2.3, 1.0), ("open_mouth", 9.8, 1.0)]
    besides = [("turn_left", 3.9, 1.0), ("look_up", 3.9, 1.0), ("move_closer", 11.4, 1.0)]
    signal = DETECTOR(filmed(acted(*script, *besides), asked))
    assert codes(signal) == {"challenge_other_actions"}
    assert signal.facts["unasked"] == ["look_up", "turn_left", "move_closer"]
    assert decide([signal], ONLY, THRESHOLDS).outcome is Outcome.REVIEW
    assert codes(DETECTOR(filmed(acted(*script, *besides[:2]), asked))) == set()


@dataclasses.dataclass
class ByColour:
    """An embedder to which a face is whoever its colour is."""

    seen: int = 0

    def embed(self, chips: Sequence[Any]) -> Any:
        self.seen += len(chips)
        return np.array([np.eye(128)[0 if chip.max() < 100 else 1] for chip in chips], np.float32)


def in_colours(evidence: Evidence, *, victim: int, performer: Callable[[Float64Array], Any]) -> Evidence:
    """The same movements by faces of these colours: the spread frames one, the followed frames one each."""
    clip = evidence.clip
    assert clip is not None
    shades = np.asarray(performer(clip.motion_timestamps_s), np.uint8)
    motion = np.broadcast_to(shades[:, None, None, None], (len(shades), 128, 128, 3)).copy()
    spread = np.full((1, 128, 128, 3), victim, np.uint8)
    return dataclasses.replace(evidence, clip=dataclasses.replace(clip, frames_rgb=spread, motion_rgb=motion))


@pytest.mark.parametrize("action", [a for a in KINDS if a != "hand_over_face"])
def test_an_action_performed_by_somebody_else_is_named(action: str) -> None:
    asked = Challenge(actions=("blink" if action != "blink" else "smile", action), prompts_s=(1.5, 6.0))
    evidence = filmed(acted((asked.actions[0], 2.3, 1.0), (action, 6.8, 1.0)), asked)
    embedder = ByColour()
    detector = dataclasses.replace(DETECTOR, performer=dataclasses.replace(DETECTOR.performer, embedder=embedder))
    honest = in_colours(evidence, victim=50, performer=lambda t: np.full(len(t), 50))
    assert codes(detector(honest)) == set()
    assert embedder.seen == 3
    swapped = in_colours(evidence, victim=50, performer=lambda t: np.where((t > 6.3) & (t < 8.8), 200, 50))
    signal = detector(swapped)
    assert codes(signal) == {"challenge_other_person"}
    assert action in signal.reasons[0].detail
    assert asked.actions[0] not in signal.reasons[0].detail
    assert decide([signal], ONLY, THRESHOLDS).outcome in {Outcome.REVIEW, Outcome.REJECT}


def test_who_passes_the_hand_is_compared_just_before_it_covers_him() -> None:
    evidence = filmed(acted(("hand_over_face", 2.3, 1.0)), ASKED)
    traces = acted(("hand_over_face", 2.3, 1.0))
    performer = dataclasses.replace(DETECTOR.performer, embedder=ByColour())
    for shade, alike in ((50, True), (200, False)):
        shown = in_colours(evidence, victim=50, performer=lambda t, shade=shade: np.where((t > 1.8) & (t < 4.2), shade, 50))
        assert shown.clip is not None
        assert shown.track is not None
        assert shown.motion_track is not None
        (other,) = performer.scores(shown.clip, shown.track, shown.motion_track, traces, [2.9]) or [np.nan]
        assert (other < performer.different_from) is alike


def test_a_face_that_cannot_be_compared_is_not_passed() -> None:
    small = dataclasses.replace(DETECTOR, performer=dataclasses.replace(DETECTOR.performer, min_px=150.0))
    signal = small(filmed(acted(*script(ORDER)), ASKED))
    assert codes(signal) == {"challenge_not_compared"}
    assert decide([signal], ONLY, THRESHOLDS).outcome is Outcome.RETRY


def test_real_people_are_told_apart_as_performers(shared_data: Any) -> None:
    """Two people of the validation split; the one acts, the other is on the spread frames."""
    clips = [
        read_clip(shared_data / "clips" / path, Sampling(motion_hz=5), SHIPPED.limits, name=path)
        for path in ("retalking_real/clips/real/1.mp4", "retalking_real/clips/real/2.mp4")
    ]
    spreads_, followed = zip(*((track_faces(c.frames_rgb, other_face_ratio=0.5), follow_face(c.motion_rgb)) for c in clips), strict=True)
    for one in (0, 1):
        traces = Traces.of(followed[one], clips[one].motion_timestamps_s, np.full(len(followed[one].faces), np.nan))
        at_s = clips[one].motion_timestamps_s[[3, 10]].tolist()
        for other in (0, 1):
            shown = dataclasses.replace(clips[one], frames_rgb=clips[other].frames_rgb)
            scores = DETECTOR.performer.scores(shown, spreads_[other], followed[one], traces, at_s)
            assert scores is not None
            assert [score >= DETECTOR.performer.different_from for score in scores] == [one != other] * 2


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (filmed(acted(), None), "challenge_not_asked"),
        (filmed(acted(), Challenge(phrase="one two")), "challenge_not_asked"),
        (filmed(acted(), Challenge(actions=("dance",))), "challenge_unknown_action"),
        (filmed(acted(*script(ORDER)), ASKED, lost=0.7), "challenge_not_shown"),
        (Evidence(Submission("a1", challenge=ASKED)), "challenge_not_shown"),
        (filmed(acted(*script(ORDER)), ASKED, subject=ELSEWHERE), "challenge_not_shown"),
    ],
)
def test_what_cannot_be_judged_is_not_passed(evidence: Evidence, code: str) -> None:
    signal = DETECTOR(evidence)
    assert (signal.score, codes(signal)) == (None, {code})
    outcome = decide([signal], ONLY, THRESHOLDS).outcome
    assert (outcome is Outcome.ACCEPT) is (code == "challenge_not_asked")


def test_an_operator_whose_clips_are_mirrored_has_left_and_right_turned_round() -> None:
    asked = Challenge(actions=("turn_left",), prompts_s=(1.5,))
    mirroring = dataclasses.replace(POLICY, mirrored_clips=True)
    mirrored = ChallengeResponse.load(dataclasses.replace(BUNDLE, policy=mirroring))
    left, right = (filmed(acted((turn, 2.3, 1.0)), asked) for turn in ("turn_left", "turn_right"))
    assert (codes(DETECTOR(left)), codes(mirrored(right))) == (set(), set())
    assert (codes(DETECTOR(right)), codes(mirrored(left))) == ({"challenge_not_done"}, {"challenge_not_done"})


@pytest.mark.parametrize("said", [True, "yes", 1])
def test_a_client_cannot_choose_its_left_by_calling_its_clip_mirrored(said: Any) -> None:
    asked = Challenge(actions=("turn_left",), prompts_s=(1.5,))
    signal = DETECTOR(filmed(acted(("turn_right", 2.3, 1.0)), asked, device={"mirrored": said}))
    assert codes(signal) == {"challenge_not_done"}


@pytest.mark.parametrize("code", ["challenge_wrong_nonce", "challenge_replayed", "challenge_expired", "challenge_locked"])
def test_what_the_server_knows_of_the_session_counts(code: str) -> None:
    class Book:
        def problem(self, challenge: Challenge) -> Reason | None:
            assert challenge.nonce == "n"
            return Reason(code)

    signal = dataclasses.replace(DETECTOR, sessions=Book())(filmed(acted(*script(ORDER)), ASKED))
    assert code in codes(signal)
    assert signal.score is not None
    assert signal.score >= THRESHOLDS.table("challenge")["findings"][code]


def test_a_book_that_is_content_changes_nothing_but_what_is_told() -> None:
    class Book:
        def problem(self, challenge: Challenge) -> Reason | None:
            return None

    for traces in (acted(*script(ORDER)), acted()):
        alone, asked = (d(filmed(traces, ASKED)) for d in (DETECTOR, dataclasses.replace(DETECTOR, sessions=Book())))
        assert (asked.score, asked.reasons) == (alone.score, alone.reasons)
        assert asked.facts == {**alone.facts, "nonce": "checked", "session_problem": None}
    assert DETECTOR(filmed(acted(*script(ORDER)), ASKED)).facts["nonce"] == "not checked here"


def test_every_finding_is_weighed_by_policy_and_thresholds() -> None:
    assert set(FINDINGS) <= set(POLICY.reasons)
    assert set(THRESHOLDS.table("challenge")["findings"]) == {"prior", *FINDINGS}
    assert {f"challenge_{f}" for f in ("not_done", "half_done", "overdone", "jumped", "late", "wrong_order", "too_fast")} <= set(FINDINGS)


def test_missing_numbers_stop_the_program() -> None:
    empty = dataclasses.replace(THRESHOLDS, tables={})
    with pytest.raises(ConfigError, match="challenge"):
        ChallengeResponse.load(dataclasses.replace(BUNDLE, thresholds=empty))


# ------------------------------------------------------------------------------------------------------------- rendered


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What the pipeline gathers of a clip in which the portrait turns to its left, blinks and opens its mouth."""
    frames = film([Act("turn_left", 1.4), Act("blink", 3.8), Act("open_mouth", 5.8)], 7.4)
    times_ms = [i * 1000 // RATE_HZ + (3, -4, 0)[i % 3] + 4 for i in range(len(frames))]
    sent = Submission(
        "a1",
        selfie=encoded(frames, "libvpx", "webm", times_ms, g="30", deadline="realtime", b="1200k"),
        challenge=Challenge(actions=("blink",)),
    )
    with Verifier(settings_in(tmp_path_factory.mktemp("room")), detectors=usual()) as verifier:
        return verifier.gather(sent)


@pytest.mark.parametrize(
    ("actions", "faults_expected"),
    [
        (("turn_left", "blink", "open_mouth"), [None, None, None]),
        (("open_mouth", "blink", "turn_left"), ["late", None, "wrong_order"]),
        (("turn_right", "move_closer", "profile_right"), ["not_done", "not_done", "not_done"]),
    ],
)
def test_a_filmed_performance_answers_its_own_challenge_only(
    performance: Evidence, actions: tuple[str, ...], faults_expected: list[str | None]
) -> None:
    asked = Challenge(actions=actions, prompts_s=(0.8, 3.0, 5.0))
    evidence = dataclasses.replace(performance, submission=dataclasses.replace(performance.submission, challenge=asked))
    signal = DETECTOR(evidence)
    assert [a["fault"] for a in signal.facts["actions"]] == faults_expected
    assert DETECTOR(evidence).to_json() == signal.to_json()


def test_a_face_is_followed_alike_whatever_was_followed_before(performance: Evidence) -> None:
    assert performance.clip is not None
    frames = performance.clip.motion_rgb[::3]
    once = follow_face(frames)
    follow_face(frames[::-1])
    again = follow_face(frames)
    assert len(once.found) == len(frames)
    assert all(np.array_equal(a.landmarks_px, b.landmarks_px) for a, b in zip(once.faces, again.faces, strict=True) if a and b)
    assert follow_face(np.zeros((3, 64, 64, 3), np.uint8)).found == ()


# ---------------------------------------------------------------------------------------------------------------- around


def test_a_hand_over_half_the_face_covers_half_of_it() -> None:
    mesh = np.zeros((478, 3), np.float32)
    from kyc_guard.faces import OVAL

    angles = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    mesh[list(OVAL), 0], mesh[list(OVAL), 1] = 100 + 50 * np.cos(angles), 100 + 70 * np.sin(angles)
    head = dataclasses.replace(face(acted(), 0), landmarks_px=mesh)
    half = np.array([[100, 0], [200, 0], [200, 200], [100, 200]], np.float32)
    assert covered_share(head, [half]) == pytest.approx(0.5, abs=0.02)
    assert covered_share(head, [half + 300]) == 0.0
    assert covered_share(head, [half, half - np.float32([100, 0])]) == pytest.approx(1.0, abs=0.02)
    assert covered_share(head, []) == 0.0


@pytest.mark.parametrize(("actions", "frames"), [((), None), (("blink",), 15)])
def test_the_pipeline_looks_closer_when_actions_were_asked(tmp_path: Any, actions: tuple[str, ...], frames: int | None) -> None:
    seen: list[Evidence] = []
    spy = fake("face_attack", lambda e: seen.append(e) or 0.1, Modality.FACE, Modality.CLIP)
    clip = np.repeat(np.ascontiguousarray(astronaut()[:256, 96:352])[None], 31, axis=0)
    with Verifier(settings_in(tmp_path), detectors=(spy, fake("document"))) as verifier:
        verifier.verify(Submission("a1", selfie=clip, challenge=Challenge(actions=actions)))
    track = seen[0].motion_track
    assert (track is None) if frames is None else (track is not None and len(track.faces) == len(track.found) == frames + 1)


def test_the_pipeline_keeps_movements_small(tmp_path: Any) -> None:
    settings = settings_in(tmp_path).model_copy(update={"sampling": Sampling(challenge_hz=5, motion_side_px=64)})
    seen: list[Evidence] = []
    spy = fake("face_attack", lambda e: seen.append(e) or 0.1, Modality.CLIP)
    with Verifier(settings, detectors=(spy, fake("document"))) as verifier:
        verifier.verify(Submission("a1", selfie=np.zeros((31, 128, 96, 3), np.uint8), challenge=Challenge(actions=("blink",))))
    assert seen[0].clip is not None
    assert seen[0].clip.motion_rgb.shape == (6, 64, 48, 3)
    assert seen[0].clip.motion_timestamps_s == pytest.approx(np.arange(6) / 5, abs=0.02)
