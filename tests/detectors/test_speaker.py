"""Is it the voice of an earlier recording: what it compares, what it says when it cannot, and that policy alone switches it on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from faces_in_motion import portrait
from fakes import POLICY as POLICY_TEXT
from fakes import settings_in, usual
from stand_ins import bundle
from talking import SOUND_HZ, babble, speaking

import kyc_guard.detectors.speaker as room
from kyc_guard.config import Policy, Settings
from kyc_guard.detectors.speaker import Speaker
from kyc_guard.errors import ConfigError, InputError, SchemaError, UnreadableError
from kyc_guard.inputs import sent_inputs
from kyc_guard.media.encode import mp4
from kyc_guard.pipeline import Verifier
from kyc_guard.replay import replay
from kyc_guard.speech.voice_print import MELS, WINDOW_FRAMES, VoicePrints, spoken, windows
from kyc_guard.submission import Submission
from kyc_guard.types import Float32Array, Outcome, Reason, Signal

POLICY = Policy.load(Settings().policy_path)


def higher(voice: Float32Array) -> Float32Array:
    """The same words in a shorter throat: every frequency half as high again."""
    places = np.arange(0, len(voice), 1.5)
    faster: Float32Array = np.interp(places, np.arange(len(voice)), voice).astype(np.float32)
    return np.resize(faster, len(voice))


def heard(enrolled: Float32Array | Reason | None, audio: Float32Array | None = None) -> Signal:
    scene = speaking(seed=3)
    return Speaker.load(bundle())(replace(scene, enrolled_voice=enrolled, audio=scene.audio if audio is None else audio))


def codes(signal: Signal) -> list[str]:
    return [r.code for r in signal.reasons]


def test_other_words_in_the_same_voice_are_likelier_one_person_than_the_same_words_in_another() -> None:
    own, other = heard(babble(4.0, seed=4)[0]), heard(higher(babble(4.0, seed=3)[0]))
    assert own.score is not None
    assert other.score is not None
    assert own.facts["likeness"] > other.facts["likeness"] + 0.1
    assert own.score < other.score
    assert codes(own) == []


def test_a_voice_unlike_the_earlier_one_is_named_and_a_person_looks() -> None:
    strict = replace(Speaker.load(bundle()), differs_from=0.0)
    signal = strict(replace(speaking(seed=3), enrolled_voice=babble(4.0, seed=4)[0]))
    assert codes(signal) == ["speaker_differs"]
    assert POLICY.reasons["speaker_differs"] is Outcome.REVIEW
    assert POLICY.checks["speaker"].reject_at is None


@pytest.mark.parametrize(
    ("enrolled", "present", "code"),
    [
        (np.zeros(3 * SOUND_HZ, np.float32), None, "speaker_enrolment_unfit"),
        (np.full(3 * SOUND_HZ, np.nan, np.float32), None, "speaker_enrolment_unfit"),
        (babble(0.5)[0], None, "speaker_enrolment_unfit"),
        (babble(4.0)[0], 0.1 * np.sin(np.arange(4 * SOUND_HZ) / 8).astype(np.float32), "speaker_not_judged"),
        (babble(4.0)[0], np.random.default_rng(0).normal(0, 0.1, 4 * SOUND_HZ).astype(np.float32), "speaker_not_judged"),
    ],
    ids=["silence before", "damaged before", "too short before", "a tone now", "noise now"],
)
def test_what_cannot_be_compared_is_never_accepted(enrolled: Float32Array, present: Float32Array | None, code: str) -> None:
    signal = heard(enrolled, present)
    assert signal.score is None
    assert codes(signal) == [code]
    assert POLICY.reasons[code] in {Outcome.RETRY, Outcome.REVIEW}


def test_no_sound_now_is_no_way_around_an_earlier_voice() -> None:
    scene = replace(speaking(seed=3), enrolled_voice=babble(4.0)[0], audio=None)
    signal = Speaker.load(bundle())(scene)
    assert codes(signal) == ["no_audio", "speaker_not_judged"]
    assert POLICY.reasons["speaker_not_judged"] is Outcome.RETRY


def test_without_the_extra_it_says_so_and_a_person_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "speech_installed", lambda: False)
    signal = heard(babble(4.0)[0])
    assert codes(signal) == ["speaker_no_listener"]
    assert "pip install 'kyc-guard[speech]'" in signal.reasons[0].detail
    assert POLICY.reasons["speaker_no_listener"] is Outcome.REVIEW


def test_nobody_is_asked_for_an_earlier_recording() -> None:
    assert codes(heard(None)) == ["speaker_not_enrolled"]
    assert POLICY.reasons["speaker_not_enrolled"] is Outcome.ACCEPT


@pytest.mark.parametrize("change", [{"model_sha256": "0" * 64}, {"calibration": {}}, {"points": {}}])
def test_thresholds_of_another_net_stop_the_program(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="speaker"):
        Speaker.load(bundle(speaker={**bundle().thresholds.table("speaker"), **change}))


# ---- the print


def test_a_print_is_made_of_what_is_said_and_not_of_how_loud_or_how_long_the_pauses() -> None:
    prints = VoicePrints(bundle().net("speaker"))
    voice, quiet = babble(4.0, seed=3)[0], np.zeros(2 * SOUND_HZ, np.float32)
    active = np.ones(len(voice) // 512, np.float32)
    paused, silent = np.concatenate([quiet, voice]), np.zeros(len(quiet) // 512 + 1, np.float32)
    plain = prints(voice, active)
    assert plain.shape == (256,)
    assert np.linalg.norm(plain) == pytest.approx(1.0, abs=1e-5)
    assert float(plain @ prints(voice * np.float32(0.1), active)) > 0.9999
    assert float(plain @ prints(paused, np.concatenate([silent, active]))) > 0.98


def test_windows_are_finite_whole_and_overlap() -> None:
    for seconds, count in ((0.3, 1), (1.6, 1), (2.4, 2), (4.0, 4)):
        cut = windows(babble(4.0)[0][: round(seconds * SOUND_HZ)])
        assert cut.shape == (count, WINDOW_FRAMES, MELS)
        assert np.isfinite(cut).all()
    with pytest.raises(ValueError, match="no speech"):
        spoken(babble(1.0)[0], np.zeros(32, np.float32))


# ---- policy and files


def recording(path: Path, sound: Float32Array) -> Path:
    with av.open(str(path), "w", format="wav") as out:
        stream: Any = out.add_stream("pcm_s16le", rate=SOUND_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = SOUND_HZ
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def judging(tmp_path: Path, *, compare: bool) -> Verifier:
    """Stand-ins judge; what is gathered for them is what matters here."""
    settings = settings_in(tmp_path)
    settings.policy_path.write_text(
        POLICY_TEXT + f"audio_min_level_db = -55\n[judging]\ncompare_voices = {str(compare).lower()}\n", encoding="utf-8"
    )
    return Verifier(settings, detectors=usual())


def sent(tmp_path: Path, name: str = "call.wav") -> Submission:
    return Submission("a", selfie=portrait()[0], enrolled_voice=tmp_path / name)


def test_as_shipped_an_earlier_recording_is_hashed_and_not_listened_to(tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(b"no sound at all")
    assert not POLICY.compare_voices
    with judging(tmp_path, compare=False) as verifier:
        evidence = verifier.gather(sent(tmp_path))
        assert isinstance(evidence.enrolled_voice, Reason)
        assert POLICY.reasons[evidence.enrolled_voice.code] is Outcome.ACCEPT
        assert dict(verifier.judge(evidence).inputs) == dict(sent_inputs(sent(tmp_path), verifier.settings.limits))
    assert evidence.enrolled_sha256 == hashlib.sha256(b"no sound at all").hexdigest()


@pytest.mark.parametrize("selfie", [True, False])
def test_where_policy_asks_for_it_the_earlier_recording_is_heard(tmp_path: Path, selfie: bool) -> None:
    voice = babble(3.0)[0]
    recording(tmp_path / "call.wav", voice)
    with judging(tmp_path, compare=True) as verifier:
        evidence = verifier.gather(sent(tmp_path) if selfie else replace(sent(tmp_path), selfie=None))
    assert isinstance(evidence.enrolled_voice, np.ndarray)
    assert np.abs(evidence.enrolled_voice - voice).max() < 1e-3


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.write_bytes(b"no sound at all"), "speaker_enrolment_unfit"),
        (lambda path: recording(path, np.zeros(SOUND_HZ, np.float32)), "speaker_enrolment_unfit"),
        (lambda path: path.write_bytes(mp4(np.zeros((5, 64, 64, 3), np.uint8))), "speaker_enrolment_unfit"),
        (lambda path: recording(path, np.tile(babble(3.0)[0], 50)), "speaker_enrolment_unfit"),
    ],
    ids=["not sound", "silence", "a silent film", "two minutes and a half"],
)
def test_an_earlier_recording_without_a_voice_is_named_and_a_person_looks(tmp_path: Path, make: Any, code: str) -> None:
    make(tmp_path / "call.wav")
    with judging(tmp_path, compare=True) as verifier:
        evidence = verifier.gather(sent(tmp_path))
    assert isinstance(evidence.enrolled_voice, Reason)
    assert evidence.enrolled_voice.code == code
    assert POLICY.reasons[code] is Outcome.REVIEW
    assert "call.wav" in evidence.enrolled_voice.detail


def test_a_recording_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with judging(tmp_path, compare=False) as verifier, pytest.raises(UnreadableError, match=r"call\.wav"):
        verifier.gather(sent(tmp_path))


def test_a_folder_names_the_recording_and_cannot_name_one_outside(tmp_path: Path) -> None:
    (tmp_path / "submission.toml").write_text('enrolled_voice = "call.wav"\n', encoding="utf-8")
    assert Submission.from_dir(tmp_path).enrolled_voice == tmp_path / "call.wav"
    (tmp_path / "submission.toml").write_text('enrolled_voice = "../call.wav"\n', encoding="utf-8")
    with pytest.raises(SchemaError, match="leaves"):
        Submission.from_dir(tmp_path)


def test_a_decision_replays_with_the_same_recording_and_with_no_other(tmp_path: Path) -> None:
    recording(tmp_path / "call.wav", babble(3.0)[0])
    with judging(tmp_path, compare=True) as verifier:
        record = json.loads(json.dumps(verifier.verify(sent(tmp_path)).to_json()))
        assert replay(record, sent(tmp_path), verifier).identical
        recording(tmp_path / "call.wav", babble(3.0, seed=1)[0])
        with pytest.raises(InputError, match="is not what was judged"):
            replay(record, sent(tmp_path), verifier)
