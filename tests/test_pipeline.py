"""Submission to decision, with small fake detectors in place of the trained ones."""

from __future__ import annotations

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pytest
from fakes import POLICY, THRESHOLDS, fake, settings_in, usual
from PIL import Image
from skimage.data import astronaut

from kyc_guard import ConfigError, ModelError, Outcome, Submission, UnreadableError, Verifier, gathering
from kyc_guard.config import Limits, Policy, Settings
from kyc_guard.errors import LimitError
from kyc_guard.media import AUDIO_RATE_HZ
from kyc_guard.media.encode import mp4
from kyc_guard.submission import Challenge
from kyc_guard.types import Evidence, Modality

FACE_RGB = astronaut()
BLANK_RGB = np.full((64, 64, 3), 127, np.uint8)


def png(rgb: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def submission(folder: Path, toml: str, **files: bytes) -> Submission:
    for name, data in files.items():
        (folder / f"{name}.png").write_bytes(data)
    (folder / "submission.toml").write_text(toml, encoding="utf-8")
    return Submission.from_dir(folder)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox" / "a1"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("threads", [1, 3])
def test_checks_after_one_that_rejects_are_not_asked_where_the_policy_says_so(tmp_path: Path, inbox: Path, threads: int) -> None:
    sent = submission(inbox, 'selfie = "me.png"\ndocument = "card.png"', me=png(FACE_RGB), card=png(BLANK_RGB))
    asked: list[str] = []

    def document(_: Evidence) -> float:
        asked.append("document")
        return 0.7

    def judged(policy: str, face_attack: float) -> Any:
        detectors = (fake("face_attack", face_attack, Modality.FACE), fake("document", document, Modality.DOCUMENT))
        settings = settings_in(tmp_path, policy=policy).model_copy(update={"threads": threads})
        with Verifier(settings, detectors=detectors) as verifier:
            return verifier.verify(sent)

    whole, short = judged(POLICY, 0.95), judged(POLICY + "[judging]\nstop_at_reject = true\n", 0.95)
    assert asked == ["document"]
    assert (whole.outcome, short.outcome) == (Outcome.REJECT, Outcome.REJECT)
    assert short.score == whole.score
    assert short.inputs == whole.inputs
    left_out = short.signals[1]
    assert (left_out.detector, left_out.score) == ("document", None)
    assert [(r.code, r.detail) for r in left_out.reasons] == [("not_asked", "face_attack rejects already")]
    # Below its reject point the same check settles nothing.
    assert judged(POLICY + "[judging]\nstop_at_reject = true\n", 0.6).signals[1].score == 0.7
    assert asked == ["document", "document"]


def test_a_submission_on_disk_becomes_a_decision_that_names_what_was_judged(tmp_path: Path, inbox: Path) -> None:
    sent = submission(inbox, 'selfie = "me.png"\ndocument = "card.png"', me=png(FACE_RGB), card=png(BLANK_RGB))
    with Verifier(settings_in(tmp_path), detectors=usual()) as verifier:
        decision = verifier.verify(sent)
    assert decision.outcome is Outcome.ACCEPT
    assert decision.submission == "a1"
    assert [s.detector for s in decision.signals] == ["face_attack", "document"]
    assert decision.score == pytest.approx(0.1)
    assert dict(decision.inputs) == {
        "me.png": hashlib.sha256(png(FACE_RGB)).hexdigest(),
        "card.png": hashlib.sha256(png(BLANK_RGB)).hexdigest(),
    }
    assert decision.policy_sha256 == hashlib.sha256(POLICY.encode()).hexdigest()
    assert decision.thresholds_sha256 == hashlib.sha256(THRESHOLDS.encode()).hexdigest()
    assert decision.took_ms["all"] > 0
    assert set(decision.took_ms) == {"all", *(s.detector for s in decision.signals)}


@pytest.mark.parametrize(
    ("selfie", "documents", "outcome", "codes"),
    [
        (FACE_RGB, (BLANK_RGB,), Outcome.ACCEPT, []),
        (png(FACE_RGB), (png(BLANK_RGB),), Outcome.ACCEPT, []),
        (np.stack([FACE_RGB, FACE_RGB]), (BLANK_RGB,), Outcome.ACCEPT, []),
        (None, (BLANK_RGB,), Outcome.RETRY, ["no_selfie", "could_not_judge"]),
        (BLANK_RGB, (BLANK_RGB,), Outcome.RETRY, ["no_face", "could_not_judge"]),
        (FACE_RGB, (), Outcome.RETRY, ["no_document", "could_not_judge"]),
    ],
)
def test_arrays_and_bytes_are_judged_and_what_is_missing_is_asked_for(
    tmp_path: Path, selfie: Any, documents: tuple[Any, ...], outcome: Outcome, codes: list[str]
) -> None:
    with Verifier(settings_in(tmp_path), detectors=usual()) as verifier:
        decision = verifier.verify(Submission(id="a1", selfie=selfie, document=documents))
    assert decision.outcome is outcome
    assert [r.code for r in decision.reasons] == codes


@pytest.mark.parametrize("role", ["selfie", "document"])
@pytest.mark.parametrize("data", [b"", b"just text, whatever the name says", png(FACE_RGB)[:1000]])
def test_a_file_that_cannot_be_decoded_is_bad_input_and_named(tmp_path: Path, inbox: Path, role: str, data: bytes) -> None:
    files = {"me": png(FACE_RGB), "card": png(BLANK_RGB)} | ({"me": data} if role == "selfie" else {"card": data})
    sent = submission(inbox, 'selfie = "me.png"\ndocument = "card.png"', **files)
    with (
        Verifier(settings_in(tmp_path), detectors=usual()) as verifier,
        pytest.raises(UnreadableError, match="me.png" if role == "selfie" else "card.png"),
    ):
        verifier.verify(sent)


def test_a_photo_is_told_apart_from_a_clip(tmp_path: Path) -> None:
    seen: list[Evidence] = []
    spy = fake("face_attack", lambda e: seen.append(e) or 0.1, Modality.FACE, Modality.CLIP)
    with Verifier(settings_in(tmp_path), detectors=(spy, usual()[1])) as verifier:
        photo = verifier.gather(Submission(id="p", selfie=FACE_RGB))
        clip = verifier.gather(Submission(id="c", selfie=np.stack([FACE_RGB] * 5)))
    assert photo.why_missing(Modality.CLIP).code == "no_clip"
    assert photo.burst_track is None
    assert clip.has(Modality.CLIP)
    assert clip.burst_track is not None
    assert clip.clip is not None
    assert len(clip.burst_track.faces) == len(clip.clip.burst_rgb)


def filmed(format_: str, frames: list[Any]) -> bytes:
    """The frames as an animated picture, or as an MP4."""
    if format_ == "MP4":
        return mp4(np.stack(frames))
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(f) for f in frames)
    first.save(buffer, format_, save_all=True, append_images=others, duration=40)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["WEBP", "GIF", "MP4"])
@pytest.mark.parametrize("moves", [True, False])
def test_an_animated_picture_is_no_selfie_clip_and_a_video_is_asked_for(tmp_path: Path, format_: str, moves: bool) -> None:
    frames = [np.roll(FACE_RGB, 2 * (i % 3) * moves, axis=1) for i in range(9)]
    for i, frame in enumerate(frames):
        frame[:8, :8] = 25 * i  # or Pillow joins frames that are alike
    with Verifier(settings_in(tmp_path), detectors=(fake("face_attack", 0.1, Modality.FACE, Modality.CLIP), usual()[1])) as verifier:
        decision = verifier.verify(Submission(id="a1", selfie=filmed(format_, frames), document=(BLANK_RGB,)))
        seen = verifier.gather(Submission(id="a1", selfie=filmed(format_, frames)))
    if format_ == "MP4":
        assert decision.outcome is Outcome.ACCEPT
        assert seen.has(Modality.CLIP)
        return
    assert decision.outcome is Outcome.RETRY
    assert [r.code for r in decision.reasons] == ["no_clip", "could_not_judge"]
    assert "a1: selfie: is an animated picture" in decision.reasons[0].detail
    assert decision.reasons[0].detail.endswith("send the video as MP4 or WebM")
    assert seen.burst_track is None
    assert seen.motion_track is None
    assert seen.has(Modality.FACE), "its pictures may still be looked at as a photo's"


def test_evaluate_runs_only_the_detectors_with_a_fusion_weight(tmp_path: Path) -> None:
    def never(_: Evidence) -> float:
        raise AssertionError

    with Verifier(settings_in(tmp_path), detectors=(usual(0.7)[0], fake("document", never))) as verifier:
        judged = verifier.attack_score(FACE_RGB, "x.png")
        blank = verifier.attack_score(BLANK_RGB, "blank.png")
    assert (judged.score, judged.reason, judged.species) == (pytest.approx(0.7), None, "print")
    assert (blank.score, blank.reason, blank.species) == (None, "no_face", None)
    assert [s.detector for s in judged.signals] == ["face_attack"]


def test_the_same_submission_gives_the_same_decision_from_many_threads(tmp_path: Path) -> None:
    sent = Submission(id="a1", selfie=FACE_RGB, document=(BLANK_RGB,))
    detectors = usual(lambda e: float(e.track.faces[0].box_xyxy[0]) / 1000)  # type: ignore[union-attr]
    with Verifier(settings_in(tmp_path), detectors=detectors) as verifier, ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(verifier.verify, [sent] * 8))
    assert len({str({**d.to_json(), "took_ms": 0}) for d in decisions}) == 1


def test_more_threads_give_the_same_decision_and_the_same_errors(tmp_path: Path) -> None:
    sent = Submission(id="a1", selfie=FACE_RGB, document=(BLANK_RGB,))
    settings = settings_in(tmp_path)
    with Verifier(settings, detectors=usual()) as one, Verifier(settings.model_copy(update={"threads": 3}), detectors=usual()) as more:
        assert {**one.verify(sent).to_json(), "took_ms": 0} == {**more.verify(sent).to_json(), "took_ms": 0}
        with pytest.raises(UnreadableError, match="a1: selfie"):
            more.verify(Submission(id="a1", selfie=b"x", document=(BLANK_RGB,)))


def test_two_threads_answer_two_questions_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=20)
    both = [fake(name, lambda _: together.wait() / 10, Modality.FACE) for name in ("face_attack", "document")]
    settings = settings_in(tmp_path).model_copy(update={"threads": 2})
    with Verifier(settings, detectors=both) as verifier:
        decision = verifier.verify(Submission(id="a1", selfie=FACE_RGB))
    assert [s.detector for s in decision.signals] == ["face_attack", "document"]
    assert {s.score for s in decision.signals} == {0.0, 0.1}


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_detector_that_fails_on_any_thread_fails_the_call(tmp_path: Path, threads: int) -> None:
    def broken(_: Evidence) -> float:
        raise RuntimeError("broken")

    settings = settings_in(tmp_path).model_copy(update={"threads": threads})
    for detectors in (usual(broken), (usual()[0], fake("document", broken, Modality.DOCUMENT))):
        with Verifier(settings, detectors=detectors) as verifier, pytest.raises(RuntimeError, match="broken"):
            verifier.verify(Submission(id="a1", selfie=FACE_RGB, document=(BLANK_RGB,)))


@pytest.mark.parametrize("needs", [(), (Modality.DOCUMENT, Modality.FACE), (Modality.CLIP,), (Modality.FACE,)])
def test_only_a_detector_of_documents_alone_is_asked_before_the_selfie_is_there(tmp_path: Path, needs: tuple[Modality, ...]) -> None:
    seen: list[Evidence] = []
    spy = fake("face_attack", lambda e: seen.append(e) or 0.1, *needs)
    with Verifier(settings_in(tmp_path), detectors=(spy, usual()[1])) as verifier:
        verifier.verify(Submission(id="a1", selfie=np.stack([FACE_RGB] * 3), document=(BLANK_RGB,)))
    assert [(e.clip is not None, e.track is not None) for e in seen] == [(True, True)]


def test_two_files_of_one_name_keep_a_hash_each(tmp_path: Path, inbox: Path) -> None:
    (inbox / "back").mkdir()
    (inbox / "back" / "card.png").write_bytes(png(BLANK_RGB[:32]))
    sent = submission(inbox, 'selfie = "me.png"\ndocument = ["card.png", "back/card.png", "me.png"]', me=png(FACE_RGB), card=png(BLANK_RGB))
    with Verifier(settings_in(tmp_path), detectors=usual()) as verifier:
        assert set(verifier.verify(sent).inputs) == {"me.png", "card.png", "card.png (document 2)"}


def test_the_files_of_a_chip_reach_the_detectors_under_limits_and_are_hashed(tmp_path: Path, inbox: Path) -> None:
    (inbox / "sod.bin").write_bytes(b"sod")
    (inbox / "dg1.bin").write_bytes(b"dg1")
    toml = 'selfie = "me.png"\ndocument = "card.png"\nchip = { sod = "sod.bin", dg1 = "dg1.bin" }'
    sent = submission(inbox, toml, me=png(FACE_RGB), card=png(BLANK_RGB))
    settings = settings_in(tmp_path)
    with Verifier(settings, detectors=usual()) as verifier:
        decision, evidence = verifier.examine(sent)
    assert evidence.chip == {"sod": b"sod", "dg1": b"dg1"}
    assert decision.inputs["dg1.bin"] == hashlib.sha256(b"dg1").hexdigest()
    small = settings.model_copy(update={"limits": settings.limits.model_copy(update={"max_chip_bytes": 2})})
    with Verifier(small, detectors=usual()) as verifier, pytest.raises(LimitError, match="chip sod"):
        verifier.verify(sent)


def test_a_closed_verifier_judges_nothing(tmp_path: Path) -> None:
    verifier = Verifier(settings_in(tmp_path), detectors=usual())
    verifier.close()
    with pytest.raises(RuntimeError, match="closed"):
        verifier.verify(Submission(id="a1", selfie=FACE_RGB))
    with pytest.raises(RuntimeError, match="closed"):
        verifier.attack_score(FACE_RGB, "x")


@pytest.mark.parametrize(
    ("change", "detectors", "says"),
    [
        ({}, (*usual(), fake("voice")), r"no \[checks.voice\]"),
        ({}, usual()[:1], r"\[checks.document\] names no detector"),
        ({"thresholds": THRESHOLDS.replace("review = 0.5\nreject", "review = 0.95\nreject")}, usual(), "would reject at 0.9"),
        ({"thresholds": THRESHOLDS.replace("reject = 0.9", "")}, usual(), "lacks a usable reject"),
        ({"thresholds": THRESHOLDS.replace("face_attack = 1.0", "face_atack = 1.0")}, usual(), "face_atack"),
        ({"thresholds": "= broken"}, usual(), "not valid TOML"),
        (
            {"policy": POLICY + '[challenge]\nanswered_by = ["document"]\nrequired_from = { face_attack = "mild" }\n'},
            usual(),
            "lacks a usable mild",
        ),
        ({"policy": POLICY.replace("other_face_ratio = 0.5", "")}, usual(), "lacks other_face_ratio"),
    ],
)
def test_policy_thresholds_and_detectors_that_do_not_agree_stop_everything(
    tmp_path: Path, change: dict[str, str], detectors: tuple[Any, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Verifier(settings_in(tmp_path, **change), detectors=detectors)


def test_an_altered_model_file_stops_everything(tmp_path: Path) -> None:
    entry = '[m]\nfile = "m.onnx"\nsha256 = "00"\nversion = "1"\nlicence = "x"\ncard = "m.md"\n'
    (tmp_path / "m.onnx").write_bytes(b"not what it was")
    with pytest.raises(ModelError, match="sha256"):
        Verifier(settings_in(tmp_path, manifest=entry), detectors=usual())


def test_sound_is_decoded_for_those_who_listen_and_the_face_followed_at_the_rate_of_lips(tmp_path: Path) -> None:
    seen: list[Evidence] = []
    talking, mute = makers.clip(tone_s=2.0), makers.clip()
    listens = fake("face_attack", lambda e: seen.append(e) or 0.1, Modality.AUDIO)
    policy = POLICY.replace("other_face_ratio = 0.5", "other_face_ratio = 0.5\naudio_min_level_db = -55")
    with Verifier(settings_in(tmp_path, policy=policy), detectors=(listens, usual()[1])) as verifier:
        with_sound = verifier.gather(Submission(id="a", selfie=talking))
        (tmp_path / "mute.mp4").write_bytes(mute)
        without = verifier.gather(Submission(id="b", selfie=tmp_path / "mute.mp4"))
    assert with_sound.audio is not None
    assert len(with_sound.audio) == pytest.approx(2 * AUDIO_RATE_HZ, rel=0.1)
    assert with_sound.motion_track is not None
    assert len(with_sound.motion_track.faces) == 50, "25 a second"
    assert (without.audio, without.motion_track) == (None, None)
    assert without.why_missing(Modality.AUDIO).detail == "mute.mp4: has no sound", "no folder: a decision must replay from another one"


def test_nobody_listens_nothing_is_decoded_unless_a_phrase_was_asked(tmp_path: Path) -> None:
    policy = POLICY.replace("other_face_ratio = 0.5", "other_face_ratio = 0.5\naudio_min_level_db = -55")
    with Verifier(settings_in(tmp_path, policy=policy), detectors=usual()) as verifier:
        deaf = verifier.gather(Submission(id="a", selfie=makers.clip(tone_s=2.0)))
        asked = verifier.gather(Submission(id="b", selfie=makers.clip(tone_s=2.0), challenge=Challenge(phrase="one two")))
    assert (deaf.audio, deaf.motion_track) == (None, None)
    assert asked.audio is not None
    assert asked.motion_track is not None


def test_a_silent_track_is_no_sound_and_one_that_cannot_be_decoded_does_not_cost_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = POLICY.replace("other_face_ratio = 0.5", "other_face_ratio = 0.5\naudio_min_level_db = -55")
    listens = fake("face_attack", 0.1, Modality.AUDIO)
    with Verifier(settings_in(tmp_path, policy=policy), detectors=(listens, usual()[1])) as verifier:
        monkeypatch.setattr(gathering, "read_audio", lambda *_, **__: np.full(32_000, 1e-4, np.float32))
        silent = verifier.gather(Submission(id="a", selfie=makers.clip()))
        monkeypatch.setattr(gathering, "read_audio", _undecodable)
        torn = verifier.gather(Submission(id="b", selfie=makers.clip()))
    assert silent.audio is None
    assert silent.why_missing(Modality.AUDIO).code == "no_audio"
    assert "silent, -80 dB" in silent.why_missing(Modality.AUDIO).detail
    assert torn.clip is not None
    assert torn.why_missing(Modality.AUDIO).code == "audio_unreadable"


def test_sound_that_goes_on_after_the_pictures_is_not_heard_and_is_asked_for_again(tmp_path: Path) -> None:
    """As browsers record: the file does not say beforehand how long it is."""
    policy = POLICY.replace("other_face_ratio = 0.5", "other_face_ratio = 0.5\naudio_min_level_db = -55")
    settings = settings_in(tmp_path, policy=policy)
    settings = settings.model_copy(update={"limits": Limits(max_duration_s=3.0)})
    listens = fake("face_attack", 0.1, Modality.AUDIO)
    with Verifier(settings, detectors=(listens, usual()[1])) as verifier:
        long, short = (
            verifier.gather(Submission(id="a", selfie=makers.clip("matroska", frames=30, tone_s=tone_s, mux_options={"live": "1"})))
            for tone_s in (6.0, 2.0)
        )
    assert long.clip is not None
    assert long.audio is None
    assert long.why_missing(Modality.AUDIO).code == "sound_too_long"
    assert Policy.load(Settings().policy_path).reasons["sound_too_long"] is Outcome.RETRY
    assert short.audio is not None


def _undecodable(*_: Any, **__: Any) -> None:
    raise UnreadableError("b", "has a sound track that cannot be decoded", "send it again")
