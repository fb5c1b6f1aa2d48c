"""The spoken phrase: right words pass, a changed one does not, and what cannot be judged is never accepted."""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly

from kyc_guard.calibration import Platt
from kyc_guard.config import Limits, Policy, Settings, Thresholds
from kyc_guard.detectors import phrase as module
from kyc_guard.detectors.phrase import Margins, Phrase
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.media import read_audio
from kyc_guard.speech.hearing import speech_installed
from kyc_guard.speech.lips import LipReader, shape_names
from kyc_guard.speech.listening import Heard, HeardWord
from kyc_guard.speech.words import language
from kyc_guard.submission import Challenge, Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceQuality, FaceTrack, Float32Array, Modality, Outcome, Reason, Signal

POLICY = Policy.load(Settings().policy_path)
ASKED = "seven lemon two pepper nine window"
ENGLISH = language()
SHAPES = shape_names(ENGLISH)
UPPER_LIP, LOWER_LIP = (80, 81, 82, 13, 312, 311, 310), (88, 178, 87, 14, 317, 402, 318)  # the inner edges, in MediaPipe's mesh
needs_speech = pytest.mark.skipif(not speech_installed(), reason="needs the speech extra")


def detector(review_at: float = 0.0) -> Phrase:
    """Knows no lips: every phrase fits them alike but for noise."""
    chance = np.random.default_rng(0)
    reader = LipReader(SHAPES, chance.normal(0, 0.1, (len(SHAPES), 60)), np.eye(60))
    return Phrase(
        ENGLISH, reader, margins=Margins(5.0, 0.0, 4.5), near_words=5, words=Platt(1.0, review_at), lips=Platt(0.1, 0.0), policy=POLICY
    )


def talking(
    count: int = 100, hz: float = 25.0, audio: Float32Array | None = None, asked: str | None = ASKED, *, still: bool = False
) -> Evidence:
    chance = np.random.default_rng(1)
    quality = FaceQuality(*(float("nan"),) * 5)
    mesh = chance.normal(100, 30, (478, 3)).astype(np.float32)
    faces = []
    for number in range(count):
        landmarks = mesh + chance.normal(0, 0.05 if still else 3, mesh.shape).astype(np.float32)
        if number % 5 == 0 and not still:
            landmarks[list(LOWER_LIP)] = landmarks[list(UPPER_LIP)]
        faces.append(Face(np.array([0, 0, 200, 200], np.float32), landmarks, 1.0, 0, 0, 0, (0.3, 0.3), 0.2, quality))
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    clip = Clip(
        pixels,
        np.zeros(1),
        pixels[:0],
        np.zeros(0),
        is_still=False,
        facts=ContainerFacts("test", 0, ""),
        motion_rgb=np.zeros((count, 8, 8, 3), np.uint8),
        motion_timestamps_s=np.arange(count) / hz,
    )
    sent = Submission("test", challenge=None if asked is None else Challenge(phrase=asked))
    return Evidence(sent, clip=clip, track=FaceTrack(tuple(faces[:1]), 0), motion_track=FaceTrack(tuple(faces), 0), audio=audio)


def voice(seconds: float = 4.0) -> Float32Array:
    return np.random.default_rng(2).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)


class FakeEar:
    """Hears speech in all of the sound, or in a share of every second of it."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def speech(self, audio: Float32Array) -> Float32Array:
        blocks = -(-len(audio) // 512)
        return (np.arange(blocks) * 512 / 16_000 % 1 < self.share).astype(np.float32)


def hears(
    monkeypatch: pytest.MonkeyPatch,
    *ratios: tuple[float, float, float],
    confidence: float = -0.5,
    fit: float = -1.0,
    ear: FakeEar | None = None,
) -> None:
    """Every word is heard with these ratios (near, free, skip), three a word."""

    class FakeListener:
        def __init__(self, _ear: Any) -> None:
            pass

        def hear(self, _audio: Float32Array, expected: tuple[str, ...], *_: Any) -> Heard:
            words = [
                HeardWord(w, 0.5 * i, 0.5 * i + 0.5, near, free, skip, near="other", free="" if free == float("inf") else "said")
                for i, (w, (near, free, skip)) in enumerate(zip(expected, ratios, strict=True))
            ]
            return Heard(tuple(words), fit, "what was said", confidence)

    monkeypatch.setattr(module, "ear", lambda: ear or FakeEar())
    monkeypatch.setattr(module, "speech_installed", lambda: True)
    monkeypatch.setattr(module, "Listener", FakeListener)


RIGHT = (8.0, float("inf"), 8.0)


def test_right_words_pass_and_the_reviewer_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hears(monkeypatch, *[RIGHT] * 6)
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score < 0.05
    assert not forbids(signal)
    assert [w["word"] for w in signal.facts["words"]] == ASKED.split()
    assert signal.artefacts["timeline"].shape == (300, 1200, 3)
    assert signal.artefacts["timeline"].dtype == np.uint8
    assert len(signal.artefacts["mouth"]) == len(signal.artefacts["times_s"]) == 100


@pytest.mark.parametrize(
    "wrong",
    [(-6.0, float("inf"), 8.0), (2.0, -12.0, 8.0), (2.0, float("inf"), -6.0)],
    ids=["a word that sounds alike", "any other word", "no word"],
)
@pytest.mark.parametrize("place", range(6))
def test_one_other_word_is_suspected_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, wrong: tuple[float, float, float], place: int
) -> None:
    hears(monkeypatch, *[wrong if i == place else RIGHT for i in range(6)])
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score > 0.95
    assert [r.code for r in signal.reasons] == ["phrase_wrong_word"]
    assert ASKED.split()[place] in signal.reasons[0].detail
    assert ("nothing is likelier" in signal.reasons[0].detail) is (wrong[2] < 0)


@pytest.mark.parametrize(
    ("near", "free", "skip", "ahead"),
    [
        (3.0, float("inf"), 9.0, 3.0),
        (3.0, -4.0, 9.0, 1.0),
        (-2.0, 9.0, 9.0, -2.0),
        (3.0, 9.0, -2.0, -1.0),
        (99.0, 99.0, 99.0, 12.0),
        (-99.0, 0.0, 9.0, -12.0),
    ],
)
def test_the_margin_is_the_worst_of_three_and_free_writing_must_win_by_more(near: float, free: float, skip: float, ahead: float) -> None:
    word = HeardWord("seven", 0.0, 0.5, near, free, skip, "other", "said")
    assert Margins(5.0, 1.0, 4.5).of_word(word) == ahead
    assert Margins(5.0, 1.0, 4.5).of(Heard((word,) * 6, -1.0, "", 0.0)) == min(ahead, 3.5)


def test_a_phrase_that_fits_badly_as_a_whole_is_suspected_though_no_word_has_a_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    hears(monkeypatch, *[RIGHT] * 6, fit=-9.0)
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score > 0.95


def without_clip(evidence: Evidence) -> Evidence:
    return replace(evidence, clip=None, motion_track=None)


def faceless(evidence: Evidence) -> Evidence:
    return replace(evidence, track=FaceTrack((None,), 0), motion_track=FaceTrack((None,) * 100, 0))


def silent(evidence: Evidence) -> Evidence:
    return replace(evidence, audio=None, problems=MappingProxyType({Modality.AUDIO: Reason("no_audio", "a.mp4: has no sound")}))


@pytest.mark.parametrize(
    ("make", "heard", "code"),
    [
        (lambda: without_clip(talking(audio=voice())), {}, "phrase_not_shown"),
        (lambda: faceless(talking(audio=voice())), {}, "phrase_not_shown"),
        (lambda: silent(talking()), {}, "phrase_no_sound"),
        (lambda: silent(talking(hz=10)), {}, "phrase_no_sound"),
        (lambda: talking(audio=voice()), {"ear": FakeEar(0.0)}, "phrase_no_speech"),
        (lambda: talking(audio=voice()), {"confidence": -3.0}, "phrase_unclear"),
        (lambda: talking(audio=voice(300.0)), {}, "phrase_too_long"),
        (lambda: talking(audio=voice(), asked="..."), {}, "phrase_unusable"),
        (lambda: talking(audio=voice(), asked="one " * 40), {}, "phrase_unusable"),
        (lambda: talking(audio=voice(), asked="a" * 3000), {}, "phrase_unusable"),
        (lambda: pictured(talking(audio=voice()), 3.2, 4.0), {}, "phrase_not_shown"),
        (lambda: pictured(talking(audio=voice()), 0.0, 2.0), {}, "phrase_not_shown"),
        (lambda: hidden(talking(audio=voice()), 1.0, 1.6), {}, "phrase_not_shown"),
        (lambda: hidden(talking(audio=voice()), 1.0, 1.6), {"ear": FakeEar(0.5)}, "phrase_not_shown"),
        (lambda: flickering(talking(audio=voice())), {}, "phrase_not_shown"),
        (lambda: replace(talking(audio=voice()), track=aside(talking().track)), {}, "phrase_not_shown"),
        (lambda: replace(talking(audio=voice()), track=None), {}, "phrase_not_shown"),
        (lambda: talking(audio=voice(), still=True), {}, "phrase_still_mouth"),
        (lambda: stilled(talking(audio=voice()), 0.5, 3.0), {}, "phrase_still_mouth"),
    ],
)
def test_an_asked_phrase_that_cannot_be_judged_is_never_accepted(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Evidence], heard: dict[str, Any], code: str
) -> None:
    hears(monkeypatch, *[RIGHT] * 6, **heard)
    signal = detector()(make())
    assert code in [r.code for r in signal.reasons]
    assert forbids(signal)
    assert signal.score is None or code == "phrase_no_sound"


@pytest.mark.parametrize(
    ("make", "ear"),
    [
        (lambda: hidden(talking(audio=voice()), 1.0, 1.3), FakeEar()),
        (lambda: hidden(talking(audio=voice()), 3.3, 3.9), FakeEar()),
        (lambda: stilled(talking(audio=voice()), 1.0, 2.0), FakeEar()),
        (lambda: stilled(talking(audio=voice()), 3.0, 4.0), FakeEar()),
        (lambda: stilled(talking(audio=voice()), 0.5, 3.0), FakeEar(0.4)),
    ],
    ids=["hidden for a moment", "hidden after the last word", "still for a second", "still after the last word", "a still pause"],
)
def test_a_mouth_may_be_hidden_for_a_moment_and_rest_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Evidence], ear: FakeEar
) -> None:
    hears(monkeypatch, *[RIGHT] * 6, ear=ear)
    signal = detector()(make())
    assert signal.score is not None
    assert not forbids(signal)


@pytest.mark.parametrize(("closed", "named"), [((), True), (("lemon",), False), (("lemon", "pepper"), False)])
def test_lips_that_do_not_close_for_p_b_and_m_are_named_and_decide_nothing(
    monkeypatch: pytest.MonkeyPatch, closed: tuple[str, ...], named: bool
) -> None:
    hears(monkeypatch, *[RIGHT] * 6)
    monkeypatch.setattr(module, "closures", lambda *_: {word: word in closed for word in ("lemon", "pepper")})
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score < 0.05
    assert [r.code for r in signal.reasons] == ["phrase_lips_open"] * named
    assert signal.facts["closures"] == {"asked": 2, "closed": len(closed)}
    assert not forbids(signal)


def with_faces(evidence: Evidence, change: Callable[[float, Face | None], Face | None]) -> Evidence:
    assert evidence.clip is not None
    assert evidence.motion_track is not None
    pairs = zip(evidence.clip.motion_timestamps_s, evidence.motion_track.faces, strict=True)
    return replace(evidence, motion_track=FaceTrack(tuple(change(float(t), face) for t, face in pairs), 0))


def hidden(evidence: Evidence, start_s: float, stop_s: float) -> Evidence:
    return with_faces(evidence, lambda t, face: None if start_s <= t < stop_s else face)


def flickering(evidence: Evidence) -> Evidence:
    """Found in three frames of five, never lost for long."""
    return with_faces(evidence, lambda t, face: face if round(t * 25) % 5 < 3 else None)


def stilled(evidence: Evidence, start_s: float, stop_s: float) -> Evidence:
    assert evidence.motion_track is not None
    rest = evidence.motion_track.faces[0]
    return with_faces(evidence, lambda t, face: rest if start_s <= t < stop_s else face)


def pictured(evidence: Evidence, start_s: float, stop_s: float) -> Evidence:
    """The picture begins later than the sound, or ends sooner."""
    assert evidence.clip is not None
    assert evidence.motion_track is not None
    times_s = evidence.clip.motion_timestamps_s
    inside = (times_s >= start_s) & (times_s < stop_s)
    clip = replace(evidence.clip, motion_rgb=evidence.clip.motion_rgb[inside], motion_timestamps_s=times_s[inside])
    faces = tuple(face for face, kept in zip(evidence.motion_track.faces, inside, strict=True) if kept)
    return replace(evidence, clip=clip, motion_track=FaceTrack(faces, 0))


def aside(track: FaceTrack | None) -> FaceTrack:
    """The same face, three widths to the side."""
    assert track is not None
    faces = (face and replace(face, box_xyxy=face.box_xyxy + 3 * 200, landmarks_px=face.landmarks_px + 3 * 200) for face in track.faces)
    return FaceTrack(tuple(faces), 0)


@pytest.mark.parametrize("asked", ["4 7 1 9 0 2", "471902", "one " * 12, "lemon " * 12])
def test_a_phrase_with_few_other_words_to_hold_it_against_is_judged(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    words = len(ENGLISH.words_of(asked))
    hears(monkeypatch, *[RIGHT] * words)
    signal = detector()(talking(count=200, audio=voice(8.0), asked=asked))
    assert signal.score is not None
    assert signal.facts["lips"] is not None


@pytest.mark.parametrize(("count", "hz"), [(2, 60.0), (2, 25.0), (3, 60.0), (10, 25.0)])
@pytest.mark.parametrize("sound", [False, True])
def test_a_clip_of_a_few_frames_is_no_crash_and_not_accepted(monkeypatch: pytest.MonkeyPatch, count: int, hz: float, sound: bool) -> None:
    hears(monkeypatch, *[RIGHT] * 6)
    clip = talking(count=count, hz=hz, audio=voice())
    assert forbids(detector()(clip if sound else silent(clip)))


def test_lips_are_not_held_against_a_phrase_of_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    hears(monkeypatch, *[RIGHT] * 3)
    monkeypatch.setattr(LipReader, "log_ratio", lambda *_: -9.0)
    short = detector()(talking(audio=voice(), asked="4 7 1"))
    hears(monkeypatch, *[RIGHT] * 6)
    long = detector()(talking(audio=voice()))
    assert short.score is not None
    assert long.score is not None
    assert short.score < 0.05 < long.score
    assert short.facts["lips"] is None


def test_without_the_speech_extra_the_lips_alone_go_to_a_person_with_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "speech_installed", lambda: False)
    signal = detector()(talking(audio=voice()))
    assert "pip install 'kyc-guard[speech]'" in next(r.detail for r in signal.reasons if r.code == "phrase_no_listener")
    assert signal.facts["lips"] is not None
    assert forbids(signal)


def test_where_no_phrase_was_asked_nothing_is_checked_with_or_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "speech_installed", lambda: False)
    signal = detector()(talking(asked=None))
    assert signal.score is None
    assert [r.code for r in signal.reasons] == ["phrase_not_asked"]
    assert not forbids(signal)


def forbids(signal: Signal) -> bool:
    """Whether some reason asks for more than acceptance by the shipped policy."""
    return any(POLICY.reasons[r.code] is not Outcome.ACCEPT for r in signal.reasons)


@pytest.mark.parametrize(("ratio", "changes"), [(9.0, False), (-9.0, True)])
def test_lips_add_suspicion_and_never_take_it_away(monkeypatch: pytest.MonkeyPatch, ratio: float, changes: bool) -> None:
    hears(monkeypatch, *[RIGHT] * 5, (-6.0, float("inf"), 8.0))
    monkeypatch.setattr(LipReader, "log_ratio", lambda *_: None)
    without = detector()(talking(audio=voice())).score
    monkeypatch.setattr(LipReader, "log_ratio", lambda *_: ratio)
    with_lips = detector()(talking(audio=voice())).score
    assert without is not None
    assert with_lips is not None
    assert (with_lips > without) is changes
    assert with_lips >= without


# ---- the real ear


def wav(sound: Float32Array, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((32767 * sound).astype("<i2").tobytes())
    return buffer.getvalue()


def noise(seconds: float) -> Float32Array:
    return voice(seconds)


def music(seconds: float) -> Float32Array:
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    chord = sum(np.sin(2 * np.pi * f * (1 + np.floor(time_s) / 12) * time_s) * np.exp(-(time_s % 0.5) * 4) for f in (220, 277, 330, 440))
    return (0.15 * chord).astype(np.float32)


def clipped(seconds: float) -> Float32Array:
    return np.clip(40 * noise(seconds), -1, 1).astype(np.float32)


def telephone(seconds: float) -> Float32Array:
    """Noise below 4 kHz at the wrong speed, as of a wrong sample rate."""
    return np.repeat(noise(seconds / 2), 2)[: round(16_000 * seconds)]


def spoken_nonsense(seconds: float) -> Float32Array:
    """A buzz with formants that wander: like a voice, but no words."""
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time_s) / (1 + ((120 * k - 700 - 400 * np.sin(5 * time_s)) / 150) ** 2) for k in range(1, 40))
    return (0.1 * buzz * (np.sin(2 * np.pi * 2 * time_s) > -0.5)).astype(np.float32)


@needs_speech
@pytest.mark.parametrize("make", [noise, music, clipped, telephone, spoken_nonsense, lambda s: np.zeros(round(16_000 * s), np.float32)])
def test_sound_without_words_is_not_judged_and_not_accepted(make: Callable[[float], Float32Array]) -> None:
    signal = detector()(talking(audio=make(5.0)))
    assert signal.score is None or signal.score > 0.9
    assert forbids(signal) or signal.score is not None
    if signal.score is None:
        assert signal.reasons[0].code in {"phrase_no_speech", "phrase_unclear"}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: clipped(4.0), "full scale"),
        (lambda: resample_poly(voice(), 1, 2), "Hz"),
    ],
    ids=["clipped", "8 kHz"],
)
def test_words_on_broken_sound_are_asked_for_again_though_they_could_be_heard(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Float32Array], why: str
) -> None:
    hears(monkeypatch, *[(6.0, float("inf"), 6.0)] * 6)
    sound = make()
    if why == "Hz":  # as a file with 8,000 samples a second is read
        sound = read_audio(wav(sound, 8_000), Limits())
    signal = detector()(talking(audio=sound))
    assert signal.score is None
    assert [r.code for r in signal.reasons] == ["phrase_unclear"]
    assert why in signal.reasons[0].detail


@needs_speech
def test_five_minutes_of_noise_and_a_blink_of_sound_are_not_judged() -> None:
    for seconds in (300.0, 0.01, 0.0):
        signal = detector()(talking(audio=noise(seconds)))
        assert signal.score is None
        assert forbids(signal)


@needs_speech
@pytest.mark.shared
def test_a_real_voice_is_held_to_its_words(shared_data: Path) -> None:
    """Four people of the GRID corpus, each saying six words; one word of each is then asked otherwise."""
    judge = Phrase.load(Bundle.load(Settings()))
    review = Thresholds.load(Settings().thresholds_path).point("phrase", "review")
    said: dict[str, list[str]] = {}
    for row in csv.DictReader((shared_data / "words.csv").read_text(encoding="utf-8").splitlines()):
        if row["word"] != "sil":
            said.setdefault(row["path"], []).append(row["word"])
    right, changed = [], []
    for path, words in said.items():
        audio = read_audio(shared_data / path, Limits())
        for other, scores in ((words, right), ([*words[:4], "seven", *words[5:]], changed)):
            signal = judge(talking(audio=audio, asked=" ".join(other)))
            scores.append(1.0 if signal.score is None else signal.score)
    assert len(right) == 4
    assert min(changed) > review > max(right)
