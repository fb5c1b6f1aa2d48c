"""The contract of every detector in `DETECTORS`, run unasked on a new one: what it answers to, whatever it is given.

Nets are stand-ins where `stand_ins.NETS` has one and the shipped ones otherwise; policy and thresholds are the shipped ones.
"""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from faces_in_motion import evidence as filmed
from faces_in_motion import moved, noisy, portrait, sway, waved
from stand_ins import bundle
from talking import babble, speaking

from kyc_guard.config import Limits, Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors import DETECTORS
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.documents.page import with_documents
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.errors import ConfigError
from kyc_guard.faces import track_faces
from kyc_guard.faces.views import VIEWS
from kyc_guard.media import read_clip
from kyc_guard.media.encode import mp4
from kyc_guard.submission import Challenge, Submission
from kyc_guard.toml_text import toml_text
from kyc_guard.types import Evidence, FaceTrack, Float32Array, Modality, Outcome, Signal, UInt8Array
from kyc_guard.weights import Weights

POLICY = Policy.load(Settings().policy_path)
SENTENCES = tomllib.loads((resources.files("kyc_guard") / "content" / "messages.toml").read_text(encoding="utf-8"))["reasons"]
SUBMISSION = Submission(
    "contract",
    challenge=Challenge(phrase="seven lemon two pepper nine window", actions=("blink", "turn_left"), issued_at="2026-01-31T12:00:00Z"),
)
"""With a date, so that no answer depends on the day of the test."""

every_detector = pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)


# ---- what they are given


def whole() -> Evidence:
    """A living clip of somebody who speaks and has spoken before, from a file, and a document with the same person's portrait."""
    # Of the babbles one that Whisper takes for words on every CPU: its int8 arithmetic differs from one to the next.
    scene = speaking(seed=3)
    assert scene.clip is not None
    file = mp4(np.stack([waved(number / 25, number)[0] for number in range(50)]))
    facts = read_clip(file, Sampling(frames=1, burst_frames=0), Limits(), name="whole.mp4").facts
    clip = replace(scene.clip, facts=facts)
    heard_before = replace(scene, submission=SUBMISSION, clip=clip, enrolled_voice=babble(3.0, seed=4)[0])
    return with_documents(heard_before, render(Holder(), portrait()[0]))


def unasked() -> Evidence:
    """No session asked for anything, and the document is left out."""
    return with_documents(replace(whole(), submission=Submission("contract")))


def nothing() -> Evidence:
    return Evidence(SUBMISSION)


def a_photo() -> Evidence:
    full = whole()
    assert full.clip is not None
    still = replace(
        full.clip,
        frames_rgb=full.clip.frames_rgb[:1],
        timestamps_s=np.zeros(1),
        burst_rgb=full.clip.burst_rgb[:0],
        burst_timestamps_s=np.zeros(0),
        is_still=True,
    )
    return with_documents(replace(full, clip=still, track=_first(full.track, 1), burst_track=None, motion_track=None))


def faceless() -> Evidence:
    full = whole()
    assert full.track is not None
    assert full.burst_track is not None
    none, none_near = (FaceTrack((None,) * len(t.faces), 0) for t in (full.track, full.burst_track))
    blank = np.full((400, 600, 3), 255, np.uint8)
    return with_documents(replace(full, track=none, burst_track=none_near, motion_track=none), blank)


def _resized(side_px: int) -> Evidence:
    def scene(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
        image, mesh = waved(time_s, number)
        return cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA), mesh * np.float32(side_px / 256)

    page = cv2.resize(render(Holder(), portrait()[0]), (side_px, side_px), interpolation=cv2.INTER_AREA)
    return with_documents(replace(filmed(scene), submission=SUBMISSION), page)


def one_pixel() -> Evidence:
    return _resized(1)


def tiny() -> Evidence:
    return _resized(24)


def black() -> Evidence:
    mesh = portrait()[1].landmarks_px
    scene = filmed(lambda _t, _n: (np.zeros((256, 256, 3), np.uint8), mesh))
    return with_documents(replace(scene, submission=SUBMISSION), np.zeros((600, 800, 3), np.uint8))


def out_of_the_frame() -> Evidence:
    """The mesh drifts out of the picture, as a tracker's does."""

    def scene(time_s: float, number: int) -> tuple[UInt8Array, Float32Array]:
        image, mesh = waved(time_s, number)
        return image, mesh + np.array([150 * time_s, 0, 0], np.float32)

    return replace(filmed(scene), submission=SUBMISSION)


def cut_short() -> Evidence:
    """Two frames, a burst of one, and the upper half of the page."""
    full = whole()
    assert full.clip is not None
    clip = replace(
        full.clip,
        frames_rgb=full.clip.frames_rgb[:2],
        timestamps_s=full.clip.timestamps_s[:2],
        burst_rgb=full.clip.burst_rgb[:1],
        burst_timestamps_s=full.clip.burst_timestamps_s[:1],
        motion_rgb=full.clip.motion_rgb[:2],
        motion_timestamps_s=full.clip.motion_timestamps_s[:2],
    )
    page = full.documents_rgb[0]
    tracks = {"track": _first(full.track, 2), "burst_track": _first(full.burst_track, 1), "motion_track": _first(full.motion_track, 2)}
    return with_documents(replace(full, clip=clip, **tracks), page[: len(page) // 2])


def a_truncated_file() -> Evidence:
    """A Matroska clip that breaks off in the middle, as an upload does, read and tracked as the pipeline reads it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "g": "10"})
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        for number in range(60):
            image = noisy(moved(sway(number / 25))[0], number)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    data = buffer.getvalue()
    clip = read_clip(data[: len(data) * 6 // 10], Sampling(frames=6, burst_frames=6, motion_hz=5), Limits(), name="torn.mkv")
    track, burst, motion = (track_faces(f, other_face_ratio=0.5) for f in (clip.frames_rgb, clip.burst_rgb, clip.motion_rgb))
    assert track.found
    return Evidence(SUBMISSION, clip=clip, track=track, burst_track=burst, motion_track=motion)


GIVEN: tuple[Callable[[], Evidence], ...] = (
    whole,
    unasked,
    nothing,
    a_photo,
    faceless,
    one_pixel,
    tiny,
    black,
    out_of_the_frame,
    cut_short,
    a_truncated_file,
)


def _first(track: FaceTrack | None, count: int) -> FaceTrack:
    assert track is not None
    return FaceTrack(track.faces[:count], track.other_faces)


@cache
def given(make: Callable[[], Evidence]) -> Evidence:
    """The evidence, read-only: it is built once, read by every detector and written by none."""
    evidence = make()
    _lock(evidence)
    return evidence


def _lock(value: Any) -> None:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, tuple):
        for item in value:
            _lock(item)
    elif is_dataclass(value):
        for field in fields(value):
            _lock(getattr(value, field.name))


@cache
def loaded(kind: type[Detector]) -> tuple[Detector, tuple[str, ...]]:
    """The detector, and the names of the models it was loaded with."""
    made = bundle()
    return kind.load(made), tuple(made.asked)


@cache
def answer(kind: type[Detector], make: Callable[[], Evidence]) -> Signal:
    return loaded(kind)[0](given(make))


def same(a: Signal, b: Signal) -> bool:
    arrays = set(a.artefacts) == set(b.artefacts) and all(
        np.array_equal(a.artefacts[k], b.artefacts[k], equal_nan=True) for k in a.artefacts
    )
    return a.to_json() == b.to_json() and arrays


# ---- what is asked of them


@every_detector
@pytest.mark.parametrize("make", GIVEN, ids=lambda make: make.__name__)
def test_whatever_it_is_given_it_answers_or_says_why_not(kind: type[Detector], make: Callable[[], Evidence]) -> None:
    detector, signal = loaded(kind)[0], answer(kind, make)
    assert (signal.detector, signal.version) == (detector.name, detector.version)
    assert signal.reasons if signal.score is None else 0.0 <= signal.score <= 1.0
    assert signal.quality is None or 0.0 <= signal.quality <= 1.0
    json.dumps(signal.to_json(), allow_nan=False)
    assert {r.code for r in signal.reasons} <= set(POLICY.reasons), "policy.toml does not weigh a reason"
    retry = {r.code for r in signal.reasons if POLICY.reasons[r.code] is Outcome.RETRY}
    assert retry <= set(SENTENCES), "messages.toml does not say how to mend a reason"
    assert all(r.detail for r in signal.reasons), "a reason without a word for the operator"


@every_detector
def test_a_living_clip_with_a_document_is_judged(kind: type[Detector]) -> None:
    signal = answer(kind, whole)
    assert signal.score is not None, signal.reasons


WITHOUT: dict[Modality, Callable[[Evidence], Evidence]] = {
    Modality.FACE: lambda e: replace(e, track=None, burst_track=None, motion_track=None),
    Modality.CLIP: lambda e: replace(e, clip=None if e.clip is None else replace(e.clip, is_still=True)),
    Modality.AUDIO: lambda e: replace(e, audio=None),
    Modality.DOCUMENT: with_documents,
}


@every_detector
def test_without_what_it_needs_it_abstains_and_names_it(kind: type[Detector]) -> None:
    detector = loaded(kind)[0]
    assert detector.needs
    for modality in detector.needs:
        signal = detector(WITHOUT[modality](given(whole)))
        assert signal.score is None
        assert any(r.code == f"no_{modality}" or r.code.startswith(f"{detector.name}_") for r in signal.reasons)


@every_detector
def test_the_same_evidence_gives_the_same_signal_whatever_is_judged_before_and_beside_it(kind: type[Detector]) -> None:
    detector = loaded(kind)[0]
    batch = (whole, black, tiny, nothing)
    with ThreadPoolExecutor(3) as pool:
        signals = list(pool.map(lambda make: detector(given(make)), batch))
    for make, signal in zip(batch, signals, strict=True):
        assert same(signal, answer(kind, make)), make.__name__


@every_detector
def test_loaded_again_it_gives_the_same_signal(kind: type[Detector]) -> None:
    assert same(kind.load(bundle())(given(whole)), answer(kind, whole))


@every_detector
def test_it_is_named_in_the_policy_and_the_points_it_is_judged_at_are_measured(kind: type[Detector]) -> None:
    name = loaded(kind)[0].name
    assert name in POLICY.checks
    check, thresholds = POLICY.checks[name], Thresholds.load(Settings().weights_dir / "thresholds.toml")
    review, reject = (None if p is None else thresholds.point(name, p) for p in (check.review_at, check.reject_at))
    assert review is None or reject is None or review <= reject


@every_detector
def test_every_model_it_loads_is_shipped_with_a_card(kind: type[Detector]) -> None:
    weights = Weights(Settings().weights_dir)
    for model in loaded(kind)[1]:
        weight = weights.get(model)
        assert weight.card.is_file(), f"{weight.card} is missing"
        assert weight.card.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("detector", ["face_attack", "face_attack_print", "face_attack_chip"])
def test_points_set_for_other_nets_are_refused(detector: str, tmp_path: Path) -> None:
    settings = Settings()
    shipped = Thresholds.load(settings.thresholds_path)
    nets = shipped.table(detector)["nets"]
    assert {f"face_attack_{view}" for view in VIEWS} <= nets.keys()
    other = {**shipped.tables, detector: {**shipped.table(detector), "nets": {**nets, "face_attack_face": "0" * 64}}}
    path = tmp_path / "thresholds.toml"
    path.write_text(toml_text(other), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"\[{detector}\] was set for another face_attack_face"):
        Bundle.load(settings.model_copy(update={"thresholds_path": path})).net("face_attack_face")


def test_names_tell_detectors_apart() -> None:
    names = [loaded(kind)[0].name for kind in DETECTORS]
    assert len(set(names)) == len(names)
    assert set(POLICY.checks) == set(names)
