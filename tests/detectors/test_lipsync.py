"""Lips against sound: what is flagged, what is named, and when nobody can tell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from stand_ins import bundle
from talking import babble, speaking

import kyc_guard.detectors.lipsync as room
from kyc_guard.config import Limits, Sampling
from kyc_guard.detectors.lipsync import Lipsync
from kyc_guard.detectors.voice import Voice
from kyc_guard.errors import ConfigError
from kyc_guard.faces import track_faces
from kyc_guard.faces.following import follow_face
from kyc_guard.media import read_audio, read_clip
from kyc_guard.speech.agreement import CURVES
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Evidence, FaceTrack, Float32Array, Signal

RATE_HZ = 16_000
RNG = np.random.default_rng(0)
SPEECH = babble(4.0)[0]


@cache
def detector() -> Lipsync:
    return Lipsync.load(bundle())


def codes(signal: Signal) -> list[str]:
    return [reason.code for reason in signal.reasons]


def tone(seconds: float, *pitches_hz: float) -> Float32Array:
    """Chords that change twice a second: music of a kind."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    steps = 2 ** ((np.floor(2 * t) % 5) / 12)
    return (0.1 * sum(np.sign(np.sin(2 * np.pi * np.cumsum(f * steps) / RATE_HZ)) for f in pitches_hz)).astype(np.float32)


def telephone(sound: Float32Array) -> Float32Array:
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE_HZ) > 3400] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


HOSTILE = {
    "empty": (np.zeros(0, np.float32), "sound_too_short"),
    "one_sample": (np.ones(1, np.float32), "sound_too_short"),
    "silence": (np.zeros(4 * RATE_HZ, np.float32), "sound_narrow_band"),
    "five_minutes_of_noise": (RNG.normal(0, 0.1, 300 * RATE_HZ).astype(np.float32), "sound_too_long"),
    "noise": (RNG.normal(0, 0.1, 4 * RATE_HZ).astype(np.float32), "no_speech"),
    "music": (tone(4, 220, 277, 330), "no_speech"),
    "clipping": (np.clip(40 * SPEECH, -1, 1), "sound_clipped"),
    "8_khz": (telephone(SPEECH), "sound_narrow_band"),
    "not_numbers": (np.full(4 * RATE_HZ, np.nan, np.float32), "sound_damaged"),
    "infinite": (np.where(np.arange(len(SPEECH)) == 9, np.inf, SPEECH).astype(np.float32), "sound_damaged"),
}


@pytest.mark.parametrize(("sound", "code"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", [Lipsync, Voice])
def test_hostile_sound_is_not_judged_and_the_reason_says_why(kind: type[Lipsync | Voice], sound: Float32Array, code: str) -> None:
    judge = kind.load(bundle())
    signal = judge(replace(speaking(), audio=sound))
    assert signal.score is None
    assert codes(signal) == [code if code.startswith("sound") else f"{judge.name}_{code}"]


ASKED = Submission("s", challenge=Challenge(phrase="seven two nine"))


def test_where_a_phrase_was_asked_an_unjudged_clip_is_to_be_sent_again() -> None:
    signal = detector()(replace(speaking(), submission=ASKED, audio=RNG.normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)))
    assert codes(signal) == ["lipsync_no_speech", "lipsync_not_judged"]
    assert detector().policy.reasons["lipsync_not_judged"] == "retry"


def test_a_voice_beside_a_still_mouth_is_no_finding_where_nobody_was_asked_to_speak() -> None:
    signal = detector()(speaking(still=True))
    assert signal.score is None
    assert codes(signal) == ["lipsync_other_voice"]


def test_a_still_mouth_with_a_voice_is_flagged_and_named_where_a_phrase_was_asked() -> None:
    signal = detector()(replace(speaking(still=True), submission=ASKED))
    assert signal.score is not None
    assert signal.score >= detector().suspected_at
    assert codes(signal) == ["lipsync_still_mouth"]


def test_lips_that_come_late_are_less_likely_and_their_lag_is_found() -> None:
    on_time, late = detector()(speaking()), detector()(speaking(late_s=0.4))
    assert on_time.score is not None
    assert late.score is not None
    assert late.score > on_time.score
    assert late.facts["lag_s"] - on_time.facts["lag_s"] == pytest.approx(0.4, abs=0.1)


def held(evidence: Evidence, stop_s: float) -> Evidence:
    """The mouth of the first frame until ``stop_s``."""
    assert evidence.clip is not None
    assert evidence.motion_track is not None
    faces, times_s = evidence.motion_track.faces, evidence.clip.motion_timestamps_s
    return replace(evidence, motion_track=FaceTrack(tuple(faces[0] if t < stop_s else f for t, f in zip(times_s, faces, strict=True)), 0))


def test_who_speaks_later_does_not_make_up_for_a_still_mouth_while_the_phrase_is_heard() -> None:
    whole = replace(speaking(10.0), submission=ASKED)
    judge, half = detector(), held(whole, 5.2)
    signal = judge(half)
    assert signal.score is not None
    assert signal.score >= judge.suspected_at
    assert signal.score > signal.facts["whole_score"]
    assert signal.facts["worst_s"][0] < 1
    assert "lipsync_still_mouth" in codes(signal)
    assert "lipsync_still_mouth" not in codes(judge(whole))
    assert "lipsync_still_mouth" not in codes(judge(replace(half, submission=Submission("s")))), "nobody was asked to speak"


def test_another_face_than_the_subjects_is_not_read() -> None:
    scene = speaking()
    assert scene.track is not None
    far = [f and replace(f, box_xyxy=f.box_xyxy + 4 * np.float32(np.ptp(f.box_xyxy))) for f in scene.track.faces]
    assert codes(detector()(replace(scene, track=FaceTrack(tuple(far), 0)))) == ["lipsync_face_lost"]


def test_a_reason_is_named_from_the_point_upward() -> None:
    score = detector()(speaking()).score
    assert score is not None
    assert replace(detector(), suspected_at=score)(speaking()).reasons
    assert replace(detector(), suspected_at=score + 1e-3)(speaking()).reasons == ()


def test_how_much_a_curve_counts_changes_the_agreement() -> None:
    counts = np.zeros(len(CURVES))
    counts[CURVES.index("jaw")] = 1.0
    jaw_alone = replace(detector(), counts=counts)(speaking()).artefacts["agreement"]
    assert not np.allclose(jaw_alone, detector()(speaking()).artefacts["agreement"])


def test_the_curves_for_the_reviewer_are_finite_and_as_long_as_one_another() -> None:
    curves = detector()(speaking()).artefacts
    assert all(c.ndim == 1 and np.isfinite(c).all() for c in curves.values())
    assert {len(curves[k]) for k in ("mouth_opening", "mouth_expected", "sound_level_db")} == {len(curves["times_s"])}
    assert len(curves["agreement"]) == len(curves["lags_s"])
    assert curves["lags_s"][int(np.argmax(curves["agreement"]))] == detector()(speaking()).facts["lag_s"]


def _without_face(evidence: Evidence) -> Evidence:
    assert evidence.motion_track is not None
    faces = tuple(face if i % 3 == 0 else None for i, face in enumerate(evidence.motion_track.faces))
    return replace(evidence, motion_track=FaceTrack(faces, 0))


def _few_frames(evidence: Evidence) -> Evidence:
    assert evidence.clip is not None
    assert evidence.motion_track is not None
    clip = replace(evidence.clip, motion_timestamps_s=evidence.clip.motion_timestamps_s[::4])
    return replace(evidence, clip=clip, motion_track=FaceTrack(evidence.motion_track.faces[::4], 0))


def _short(evidence: Evidence) -> Evidence:
    assert evidence.audio is not None
    return replace(evidence, audio=evidence.audio[: round(1.8 * RATE_HZ)])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_without_face, "lipsync_face_lost"),
        (_few_frames, "lipsync_too_few_frames"),
        (_short, "lipsync_too_short"),
        (lambda e: replace(e, motion_track=None), "lipsync_face_lost"),
    ],
)
def test_without_a_mouth_long_enough_in_view_nobody_can_tell(change: object, code: str) -> None:
    assert callable(change)
    signal = detector()(change(speaking()))
    assert signal.score is None
    assert codes(signal) == [code]


def test_without_the_extra_it_abstains_with_the_install_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "speech_installed", lambda: False)
    signal = detector()(speaking())
    assert signal.score is None
    assert codes(signal) == ["speech_not_installed"]
    assert "pip install" in signal.reasons[0].detail


@pytest.mark.parametrize("name", ["weights", "accepted_s", "window_s", "curves"])
def test_a_table_that_lacks_a_part_stops_the_program(name: str) -> None:
    table = dict(bundle().thresholds.table("lipsync"))
    del table[name]
    with pytest.raises(ConfigError, match=name):
        Lipsync.load(bundle(lipsync=table))


@pytest.mark.parametrize("count", [-1.0, float("nan"), 0.0])
def test_curves_that_cannot_be_counted_stop_the_program(count: float) -> None:
    table = {**bundle().thresholds.table("lipsync"), "curves": dict.fromkeys(CURVES, count)}
    with pytest.raises(ConfigError, match="curves"):
        Lipsync.load(bundle(lipsync=table))


@pytest.mark.parametrize("table", [{}, {"weights": {}, "accepted_s": [0, 1]}])
def test_thresholds_that_are_not_there_stop_the_program(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="lipsync"):
        Lipsync.load(bundle(lipsync=table))


def test_unseen_speakers_pass_and_the_sound_of_another_is_flagged(shared_data: Path) -> None:
    clips = [_evidence(shared_data / "clips/retalking_real/clips/real" / name) for name in ("2.mp4", "4.mp4")]
    for own, other in (clips, clips[::-1]):
        genuine, dubbed = detector()(own), detector()(replace(own, audio=other.audio))
        assert own.audio is not None
        shifted = detector()(replace(own, audio=np.concatenate([np.zeros(6400, np.float32), own.audio])))
        assert genuine.score is not None
        assert genuine.score < detector().suspected_at
        assert dubbed.score is not None
        assert dubbed.score >= detector().suspected_at
        assert shifted.score is not None
        assert shifted.score >= detector().suspected_at
        assert codes(shifted) == ["lipsync_shifted"]


def test_an_unseen_speaker_passes_part_by_part_and_a_phrase_dubbed_before_his_own_words_does_not(shared_data: Path) -> None:
    folder = shared_data / "clips/retalking_real/clips/real"
    own, other = (replace(_evidence(folder / name), submission=ASKED) for name in ("4.mp4", "2.mp4"))
    judge, genuine = detector(), detector()(own)
    assert genuine.score is not None
    assert genuine.score < judge.suspected_at
    for still in (False, True):
        signal = judge(_after(own, other, still=still))
        assert signal.score is not None
        assert signal.score >= judge.suspected_at
        assert ("lipsync_still_mouth" in codes(signal)) is still


def _after(own: Evidence, other: Evidence, *, still: bool) -> Evidence:
    """The other's sound beside the first frames of one's own clip, or its very first, then one's own clip."""
    assert own.clip is not None
    assert own.audio is not None
    assert other.audio is not None
    assert own.motion_track is not None
    before_s = len(other.audio) / RATE_HZ
    times_s, faces = own.clip.motion_timestamps_s, own.motion_track.faces
    count = int((times_s < before_s).sum())
    clip = replace(
        own.clip,
        motion_rgb=np.concatenate([own.clip.motion_rgb[:count], own.clip.motion_rgb]),
        motion_timestamps_s=np.concatenate([times_s[:count], times_s + before_s]),
    )
    track = FaceTrack(((faces[0],) * count if still else faces[:count]) + faces, 0)
    return replace(own, clip=clip, motion_track=track, audio=np.concatenate([other.audio, own.audio]))


def _evidence(path: Path) -> Evidence:
    clip = read_clip(path, Sampling(frames=2, burst_frames=0, motion_hz=25), Limits())
    return Evidence(
        Submission("s"),
        clip=clip,
        track=track_faces(clip.frames_rgb, other_face_ratio=0.5),
        motion_track=follow_face(clip.motion_rgb),
        audio=read_audio(path, Limits()),
    )
