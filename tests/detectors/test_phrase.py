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
needs_speech = pytest.mark.skipif(not speech_installed(), reason="needs the speech extra")


def detector(review_at: float = 0.0) -> Phrase:
    """Knows no lips: every phrase fits them alike but for noise."""
    chance = np.random.default_rng(0)
    reader = LipReader(SHAPES, chance.normal(0, 0.1, (len(SHAPES), 60)), np.eye(60))
    return Phrase(
        ENGLISH, reader, margins=Margins(5.0, 4.5), near_words=5, words=Platt(1.0, review_at), lips=Platt(0.1, 0.0), policy=POLICY
    )


def talking(count: int = 100, hz: float = 25.0, audio: Float32Array | None = None, asked: str | None = ASKED) -> Evidence:
    chance = np.random.default_rng(1)
    quality = FaceQuality(*(float("nan"),) * 5)
    mesh = chance.normal(100, 30, (478, 3)).astype(np.float32)
    faces = []
    for _ in range(count):
        landmarks = mesh + chance.normal(0, 1, mesh.shape).astype(np.float32)
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
    track = FaceTrack(tuple(faces), 0)
    return Evidence(sent, clip=clip, track=track, motion_track=track, audio=audio)


def voice(seconds: float = 4.0) -> Float32Array:
    return np.random.default_rng(2).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)


class FakeEar:
    """Hears speech in all of the sound."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def speech(self, audio: Float32Array) -> Float32Array:
        blocks = -(-len(audio) // 512)
        return (np.arange(blocks) < self.share * blocks).astype(np.float32)


def hears(
    monkeypatch: pytest.MonkeyPatch, *ratios: tuple[float, float], confidence: float = -0.5, fit: float = -1.0, ear: FakeEar | None = None
) -> None:
    """Every word is heard with these ratios (near, free), one pair a word."""

    class FakeListener:
        def __init__(self, _ear: Any) -> None:
            pass

        def hear(self, _audio: Float32Array, expected: tuple[str, ...], *_: Any) -> Heard:
            words = [
                HeardWord(w, 0.5 * i, 0.5 * i + 0.5, near, free, near="other", free="" if free == float("inf") else "said")
                for i, (w, (near, free)) in enumerate(zip(expected, ratios, strict=True))
            ]
            return Heard(tuple(words), fit, "what was said", confidence)

    monkeypatch.setattr(module, "ear", lambda: ear or FakeEar())
    monkeypatch.setattr(module, "speech_installed", lambda: True)
    monkeypatch.setattr(module, "Listener", FakeListener)


RIGHT = (8.0, float("inf"))


def test_right_words_pass_and_the_reviewer_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hears(monkeypatch, *[RIGHT] * 6)
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score < 0.05
    assert signal.reasons == ()
    assert [w["word"] for w in signal.facts["words"]] == ASKED.split()
    assert signal.artefacts["timeline"].shape == (300, 1200, 3)
    assert signal.artefacts["timeline"].dtype == np.uint8
    assert len(signal.artefacts["mouth"]) == len(signal.artefacts["times_s"]) == 100


@pytest.mark.parametrize("wrong", [(-6.0, float("inf")), (2.0, -12.0)], ids=["a word that sounds alike", "any other word"])
@pytest.mark.parametrize("place", range(6))
def test_one_other_word_is_suspected_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, wrong: tuple[float, float], place: int) -> None:
    hears(monkeypatch, *[wrong if i == place else RIGHT for i in range(6)])
    signal = detector()(talking(audio=voice()))
    assert signal.score is not None
    assert signal.score > 0.95
    assert [r.code for r in signal.reasons] == ["phrase_wrong_word"]
    assert ASKED.split()[place] in signal.reasons[0].detail


@pytest.mark.parametrize(
    ("near", "free", "ahead"),
    [(3.0, float("inf"), 3.0), (3.0, -4.0, 1.0), (-2.0, 9.0, -2.0), (99.0, 99.0, 12.0), (-99.0, 0.0, -12.0)],
)
def test_the_margin_is_the_worse_of_two_and_free_writing_must_win_by_more(near: float, free: float, ahead: float) -> None:
    word = HeardWord("seven", 0.0, 0.5, near, free, "other", "said")
    assert Margins(5.0, 4.5).of_word(word) == ahead
    assert Margins(5.0, 4.5).of(Heard((word,) * 6, -1.0, "", 0.0)) == min(ahead, 3.5)


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
    ],
)
def test_an_asked_phrase_that_cannot_be_judged_is_never_accepted(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Evidence], heard: dict[str, Any], code: str
) -> None:
    hears(monkeypatch, *[RIGHT] * 6, **heard)
    signal = detector()(make())
    assert code in [r.code for r in signal.reasons]
    assert forbids(signal)


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
    hears(monkeypatch, *[RIGHT] * 5, (-6.0, float("inf")))
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
    hears(monkeypatch, *[(6.0, float("inf"))] * 6)
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
