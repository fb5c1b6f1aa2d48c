"""The challenge check on scripted movements: done, half done, overdone, cut, late, in the wrong order, too fast, not shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from acting import film
from fakes import fake, settings_in, usual
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut
from test_forensics import encoded

from kyc_guard.config import Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors.challenge import FINDINGS, ChallengeResponse
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError
from kyc_guard.faces.following import follow_face
from kyc_guard.faces.hands import covered_share
from kyc_guard.faces.movements import KINDS, Done, Traces, judge, latency_spread_s
from kyc_guard.fusion import decide
from kyc_guard.pipeline import Verifier
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceQuality, FaceTrack, Float64Array, Modality, Outcome, Reason, Signal

SHIPPED = Settings()
POLICY = Policy.load(SHIPPED.policy_path)
THRESHOLDS = Thresholds.load(SHIPPED.weights_dir / "thresholds.toml")
DETECTOR = ChallengeResponse.load(Bundle(SHIPPED, POLICY, THRESHOLDS, weights=None))  # type: ignore[arg-type]
ONLY = dataclasses.replace(POLICY, checks={"challenge": POLICY.checks["challenge"]})
GATES = DETECTOR.gates
RATE_HZ = 15.0
PROMPTS_S = (1.5, 6.0, 10.5)
LENGTH_S = 15.0

REST = {"yaw_deg": 3.0, "pitch_deg": -2.0, "eyes": 0.28, "mouth": 0.02, "smile": 0.40, "size": 90.0, "cover": 0.0}
FULL: Mapping[str, tuple[str, float]] = {
    "turn_left": ("yaw_deg", 24.0),
    "turn_right": ("yaw_deg", -24.0),
    "profile_left": ("yaw_deg", 58.0),
    "profile_right": ("yaw_deg", -58.0),
    "look_up": ("pitch_deg", 16.0),
    "blink": ("eyes", -0.22),
    "smile": ("smile", 0.08),
    "open_mouth": ("mouth", 0.5),
    "move_closer": ("size", 35.0),
    "hand_over_face": ("cover", 0.6),
}
"""What a person changes, and by how much."""
TIMES_S = np.arange(0.0, LENGTH_S, 1 / RATE_HZ)


def pose(start_s: float, *, rise_s: float = 0.5, hold_s: float = 0.5, fall_s: float = 0.5) -> Float64Array:
    """(M,) 0..1: a smooth way to a pose, a pause, a smooth way back."""
    way = np.clip((TIMES_S - start_s) / rise_s, 0, 1) - np.clip((TIMES_S - start_s - rise_s - hold_s) / fall_s, 0, 1)
    return way * way * (3 - 2 * way)


def wink(start_s: float) -> Float64Array:
    return pose(start_s, rise_s=0.1, hold_s=0.1, fall_s=0.15)


def acted(*script: tuple[str, float, float], noise: float = 0.02, seed: int = 0, shape: Callable[..., Float64Array] = pose) -> Traces:
    """Traces of a person who does each (action, start_s, amount)."""
    random = np.random.default_rng(seed)
    curves = {name: np.full(len(TIMES_S), value) for name, value in REST.items()}
    for action, start_s, amount in script:
        name, change = FULL[action]
        curves[name] += change * amount * (wink(start_s) if action == "blink" else shape(start_s))
    for action in ("turn_left", "look_up", "blink", "smile", "open_mouth", "move_closer", "hand_over_face"):
        name, change = FULL[action]
        curves[name] += random.normal(0, noise * abs(change), len(TIMES_S))
    return Traces(times_s=TIMES_S, **curves)


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
    needed = {"yaw_deg": 45.0 if "profile" in action else 15.0, "pitch_deg": 10.0, "eyes": 0.112, "smile": 0.048, "mouth": 0.25}
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
    def jump(start_s: float) -> Float64Array:
        return ((start_s <= TIMES_S) & (start_s + 1.0 > TIMES_S)).astype(float)

    assert faults(acted((action, 2.3, 1.0), shape=jump), [action], [1.5]) == ["jumped"]


@pytest.mark.parametrize("action", [a for a in KINDS if KINDS[a].sweeps])
def test_a_pose_reached_to_and_fro_is_no_sweep(action: str) -> None:
    def shaken(start_s: float) -> Float64Array:
        knots_s = start_s + np.array([0, 0.3, 0.5, 0.7, 0.9, 1.2, 1.6, 2.0])
        return np.interp(TIMES_S, knots_s, [0, 0.5, 0.3, 0.55, 0.3, 1, 1, 0])

    assert faults(acted((action, 2.3, 1.0), shape=shaken), [action], [1.5])[0] == "jumped"


def test_a_turn_beyond_its_range_is_overdone_but_a_profile_is_not() -> None:
    assert faults(acted(("turn_left", 2.3, 2.6)), ["turn_left"], [1.5]) == ["overdone"]
    assert faults(acted(("profile_left", 2.3, 1.4)), ["profile_left"], [1.5]) == [None]


@pytest.mark.parametrize(("asked", "done"), [("turn_left", "turn_right"), ("profile_right", "profile_left")])
def test_the_other_way_is_not_what_was_asked(asked: str, done: str) -> None:
    assert faults(acted((done, 2.3, 1.0)), [asked], [1.5]) == ["not_done"]


def test_a_pose_held_since_before_the_prompt_is_not_done_for_it() -> None:
    def held(_: float) -> Float64Array:
        return pose(0.5, hold_s=12.0)

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
    random = np.random.default_rng(seed)
    actions = names[:3]
    assert faults(acted(*script(actions, random.uniform(0.4, 1.8, 3)), seed=seed), actions, PROMPTS_S) == [None] * 3


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


def test_even_reaction_times_are_measured_and_few_are_not() -> None:
    even = judge(acted(*script(ORDER, (0.8, 0.8, 0.8)), noise=0.0), ORDER, PROMPTS_S, GATES)
    human = judge(acted(*script(ORDER), noise=0.0), ORDER, PROMPTS_S, GATES)
    spread_even, spread_human = latency_spread_s(even), latency_spread_s(human)
    assert spread_even is not None
    assert spread_human is not None
    assert spread_even < 0.05
    assert spread_human > 0.15
    assert latency_spread_s(even[:2]) is None
    assert latency_spread_s([Done("blink", None, 1.0, 0.5, 1.0)] * 3) is None


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
    asked = Challenge(actions=("turn_left", "turn_right", "turn_left"), prompts_s=PROMPTS_S)
    signal = DETECTOR(filmed(acted(*script(asked.actions, (0.8, 0.8, 0.8)), noise=0.0), asked))
    assert codes(signal) == {"challenge_even_latencies"}
    assert decide([signal], ONLY, THRESHOLDS).outcome is Outcome.REVIEW


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


def test_a_mirrored_clip_turns_left_and_right_round() -> None:
    asked = Challenge(actions=("turn_left",), prompts_s=(1.5,))
    traces = acted(("turn_right", 2.3, 1.0))
    assert codes(DETECTOR(filmed(traces, asked))) == {"challenge_not_done"}
    assert codes(DETECTOR(filmed(traces, asked, device={"mirrored": True}))) == set()
    assert codes(DETECTOR(filmed(traces, asked, device={"mirrored": "yes"}))) == {"challenge_not_done"}


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
        ChallengeResponse.load(Bundle(SHIPPED, POLICY, empty, weights=None))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- rendered


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What the pipeline gathers of a clip in which the portrait turns to its left, blinks and opens its mouth."""
    frames = film([("turn_left", 1.4), ("blink", 3.8), ("open_mouth", 5.8)], 7.4)
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
