"""Face embedding, and the match of selfie, document portrait, chip portrait and earlier accounts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from made_passport_chips import dg2
from skimage import data

from kyc_guard.calibration import Platt
from kyc_guard.config import Limits, Settings, Thresholds
from kyc_guard.detectors.match import Match, MorphHint
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.documents import chip
from kyc_guard.documents.page import with_documents
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.errors import ConfigError
from kyc_guard.face_index import Chance, FaceIndex
from kyc_guard.faces import face_finder, track_faces
from kyc_guard.faces.embedding import SIDE_PX, Embedder, aligned, best_faces, distance, together
from kyc_guard.faces.shape import shape_gap
from kyc_guard.submission import Submission
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceTrack, Float32Array, UInt8Array

PORTRAIT = np.ascontiguousarray(data.astronaut()[0:300, 80:360])
FACTS = ContainerFacts(format="array", size_bytes=0, sha256="")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(Settings().weights_dir)


def at(angle_distance: float) -> Float32Array:
    """(128,) unit vector at a distance from the first axis."""
    cosine = 1.0 - angle_distance**2 / 2
    vector = np.zeros(128, np.float32)
    vector[:2] = cosine, np.sqrt(1.0 - cosine**2)
    return vector


@dataclass
class FakeEmbedder:
    """Portraits lie at set distances from every selfie, which are alike."""

    selfies: Sequence[float]
    portraits: Sequence[float] = (0.0,)
    asked: list[int] = field(default_factory=list)

    def embed(self, chips: Sequence[UInt8Array]) -> Float32Array:
        self.asked.append(len(chips))
        return np.stack([at(d) for d in (self.selfies if len(self.asked) == 1 else self.portraits)[: len(chips)]])


def _match(selfies: Sequence[float], portraits: Sequence[float] = (0.0,), **changes: Any) -> Match:
    made = Match(
        platt=Platt(20.0, -12.0),
        unsure_from=0.4,
        different_from=0.9,
        morph=MorphHint(distance=10.0, shape=0.0, offset=-10.0, suspected_from=0.95),
        embedder=cast("Embedder", FakeEmbedder(selfies, portraits)),
        min_portrait_px=48,
        min_selfie_px=64,
        top_accounts=2,
    )
    return replace(made, **changes)


def _jpeg(image_rgb: UInt8Array) -> bytes:
    return cv2.imencode(".jpg", image_rgb[:, :, ::-1])[1].tobytes()


def _clip(frames: Sequence[UInt8Array]) -> Clip:
    stack = np.stack(frames)
    return Clip(stack, np.arange(len(stack)) / 10, stack[:0], np.zeros(0), is_still=len(stack) == 1, facts=FACTS)


@pytest.fixture(scope="module")
def page_rgb() -> UInt8Array:
    return render(Holder(), PORTRAIT)


@pytest.fixture(scope="module")
def face() -> Face:
    return face_finder().find(PORTRAIT)[0]


@pytest.fixture(scope="module")
def evidence(page_rgb: UInt8Array, face: Face) -> Evidence:
    selfie = Evidence(Submission(id="s"), clip=_clip([PORTRAIT] * 7), track=FaceTrack((None, *[face] * 6), other_faces=0))
    return with_documents(selfie, page_rgb)


@pytest.fixture(scope="module")
def with_chip(evidence: Evidence) -> Evidence:
    return chip.with_chip(evidence, {"dg2": dg2(_jpeg(PORTRAIT))}, Limits())


@pytest.mark.parametrize(
    ("apart", "codes"),
    [(0.3, []), (0.6, ["match_uncertain"]), (0.9, ["match_different_person"])],
)
def test_the_farther_the_likelier_another_person(evidence: Evidence, apart: float, codes: list[str]) -> None:
    match = _match([apart] * 5)
    asked: Detector = match
    signal = asked(evidence)
    assert signal.score == pytest.approx(match.platt(apart))
    assert [r.code for r in signal.reasons] == codes


def test_at_most_three_frames_are_used_and_named(evidence: Evidence) -> None:
    match = _match([0.1, 0.2, 0.3])
    signal = match(evidence)
    assert signal.facts["frames"] == [1, 2, 3]
    assert signal.facts["distances"] == {"print_selfie": pytest.approx(0.2)}
    assert cast("FakeEmbedder", match.embedder).asked == [3, 1]


def test_better_frames_weigh_more(evidence: Evidence, face: Face) -> None:
    turned = replace(face, yaw_deg=80.0)
    track = FaceTrack((turned, face, *[None] * 5), other_faces=0)
    signal = _match([0.2, 0.8])(replace(evidence, track=track))
    assert signal.facts["frames"] == [1, 0]
    assert 0.2 < signal.facts["distances"]["print_selfie"] < 0.35


@pytest.mark.parametrize(
    ("selfie", "portraits", "codes"),
    [
        (0.0, (0.0, 0.0), []),
        # A portrait glued in, the impostor's or not; a genuine chip of somebody else; a whole document of somebody else.
        (0.9, (0.0, 0.9), ["match_different_person", "match_chip_print_differs"]),
        (0.9, (0.9, 0.0), ["match_chip_selfie_differs", "match_chip_print_differs"]),
        (0.9, (0.0, 0.0), ["match_different_person", "match_chip_selfie_differs"]),
        (0.6, (0.6, 0.0), ["match_uncertain", "match_uncertain"]),
    ],
)
def test_the_chips_portrait_is_compared_with_both(
    with_chip: Evidence, selfie: float, portraits: tuple[float, float], codes: list[str]
) -> None:
    match = _match([selfie] * 3, portraits)
    signal = match(with_chip)
    assert set(signal.facts["distances"]) == {"print_selfie", "chip_selfie", "chip_print"}
    assert [r.code for r in signal.reasons] == codes
    assert signal.score == pytest.approx(match.platt(max(signal.facts["distances"].values())), abs=1e-3)


def test_a_chip_without_a_face_is_said_and_the_print_still_judged(evidence: Evidence) -> None:
    blank = chip.with_chip(evidence, {"dg2": dg2(_jpeg(np.full((300, 240, 3), 200, np.uint8)))}, Limits())
    signal = _match([0.1] * 3)(blank)
    assert signal.score is not None
    assert [r.code for r in signal.reasons] == ["match_chip_no_face"]


def test_an_unreadable_chip_portrait_is_the_document_checks_business(evidence: Evidence) -> None:
    signal = _match([0.1] * 3)(chip.with_chip(evidence, {"dg2": b"\x75\x03abc"}, Limits()))
    assert (signal.reasons, set(signal.facts["distances"])) == ((), {"print_selfie"})


def test_where_no_page_shows_a_portrait_the_chip_is_judged_and_the_lack_is_said(with_chip: Evidence) -> None:
    blank = with_documents(with_chip, np.full((300, 400, 3), 255, np.uint8))
    signal = _match([0.1] * 3)(blank)
    assert set(signal.facts["distances"]) == {"chip_selfie"}
    assert [r.code for r in signal.reasons] == ["document_no_portrait"]


def test_without_face_or_document_it_abstains(evidence: Evidence) -> None:
    none = _match([])(with_documents(replace(evidence, track=FaceTrack((None,) * 7, other_faces=0))))
    assert none.score is None
    assert {r.code for r in none.reasons} == {"no_document", "no_face"}


@pytest.mark.parametrize(
    ("page", "code"), [(np.full((300, 400, 3), 255, np.uint8), "document_no_portrait"), (None, "match_portrait_too_small")]
)
def test_a_page_without_a_usable_portrait_is_an_abstention(
    evidence: Evidence, page_rgb: UInt8Array, page: UInt8Array | None, code: str
) -> None:
    picture = cv2.resize(page_rgb, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA) if page is None else page
    signal = _match([0.1] * 3)(with_documents(evidence, picture))
    assert (signal.score, [r.code for r in signal.reasons]) == (None, [code])


def test_a_far_away_selfie_is_an_abstention(evidence: Evidence, face: Face) -> None:
    far = replace(face, quality=replace(face.quality, size_px=30.0))
    signal = _match([0.1])(replace(evidence, track=FaceTrack((far,) * 7, other_faces=0)))
    assert (signal.score, [r.code for r in signal.reasons]) == (None, ["match_selfie_too_small"])


def _index(**accounts: float) -> FaceIndex:
    vectors = np.stack([at(d) for d in accounts.values()])
    return FaceIndex(tuple(accounts), vectors, "ab" * 32, Chance(distance=0.3, fmr=0.01, fmr_high=0.02))


def test_earlier_accounts_with_this_face_are_named_beside_what_chance_finds_and_leave_the_score(evidence: Evidence) -> None:
    index = _index(**{"a-1": 0.05, "a-2": 0.1, "a-3": 0.2, "a-4": 1.2})
    plain, searched = _match([0.0] * 3, (0.9,))(evidence), _match([0.0] * 3, (0.9,), index=index)(evidence)
    assert searched.score == plain.score
    found = searched.facts["known_face"]["selfie"]
    assert [hit["account"] for hit in found["hits"]] == ["a-1", "a-2"]  # the nearest two of three
    assert (found["searched"], found["within"], found["expected_false_hits"]) == (4, 3, pytest.approx(0.04))
    said = [r.detail for r in searched.reasons if r.code == "match_known_face"]
    assert said == ["selfie: 3 of 4 earlier accounts have a face like this, 0.04 of them (up to 0.08) by chance"]


def test_the_applicants_own_account_is_no_duplicate(evidence: Evidence) -> None:
    mine = replace(evidence, submission=Submission(id="s", subject="a-1"))
    signal = _match([0.0] * 3, (0.0,), index=_index(**{"a-1": 0.0, "a-2": 1.0}))(mine)
    assert [r.code for r in signal.reasons] == []
    assert signal.facts["known_face"]["selfie"]["searched"] == 1


def test_a_portrait_that_belongs_to_another_account_is_said_apart_from_the_selfie(evidence: Evidence) -> None:
    signal = _match([1.0] * 3, (0.0,), index=_index(**{"a-9": 0.0}))(evidence)
    assert [r.detail.split(":")[0] for r in signal.reasons if r.code == "match_known_face"] == ["print"]


def test_a_suspected_morph_is_said_and_leaves_the_score(evidence: Evidence) -> None:
    calm, wary = (MorphHint(distance=10.0, shape=0.0, offset=-3.0, suspected_from=limit) for limit in (0.9, 0.1))
    signals = [_match([0.3] * 3, morph=hint)(evidence) for hint in (calm, wary)]
    assert [[r.code for r in s.reasons] for s in signals] == [[], ["match_morph_suspected"]]
    assert signals[0].score == signals[1].score
    assert signals[0].facts["morph"] == {"print": pytest.approx(0.5, abs=1e-2)}


@pytest.mark.parametrize(("distance", "probability"), [(-1e6, 0.0), (1e6, 1.0)])
def test_faces_however_far_apart_have_a_probability(distance: float, probability: float) -> None:
    assert MorphHint(distance=10.0, shape=0.0, offset=-3.0, suspected_from=0.9)(distance, 0.0) == probability


def test_the_shape_of_a_face_is_the_same_from_every_side(face: Face) -> None:
    turn, _ = cv2.Rodrigues(np.array([0.1, 0.4, -0.2]))
    turned = 1.7 * face.landmarks_px @ turn.T.astype(np.float32) + np.float32(30)
    assert shape_gap(face.landmarks_px, turned) == pytest.approx(0.0, abs=1e-4)
    fuller = face.landmarks_px * np.array([1.1, 1.0, 1.0], np.float32)
    assert shape_gap(face.landmarks_px, fuller) > 0.02
    assert shape_gap(face.landmarks_px, face.landmarks_px[:, ::1] * 0) == pytest.approx(1.0)


def test_thresholds_without_morph_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.morph"):
        MorphHint.load(Thresholds({"morph": {"weights": {"distance": 1.0}}}, "", Path("thresholds.toml")))


def test_no_embedding_leaves_the_detector(evidence: Evidence) -> None:
    signal = _match([0.0] * 3, index=_index(**{"a-9": 0.0}))(evidence)
    assert all(np.asarray(a).dtype == np.uint8 for a in signal.artefacts.values())
    assert "0.0, 0.0, 0.0" not in repr(dict(signal.facts))


def test_the_shipped_thresholds_accept_the_same_portrait_again(page_rgb: UInt8Array) -> None:
    match = Match.load(Bundle.load(Settings()))
    assert match.index is None
    darker = np.clip(PORTRAIT.astype(np.float32) * 0.7, 0, 255).astype(np.uint8)
    clip = _clip([darker])
    selfie = Evidence(Submission(id="s"), clip=clip, track=track_faces(clip.frames_rgb, other_face_ratio=0.5))
    evidence = with_documents(selfie, page_rgb)
    signal = match(evidence)
    assert signal.score is not None
    assert signal.score < match.unsure_from
    assert 0.0 < match.unsure_from < match.different_from < 1.0
    assert match(evidence).score == signal.score


def test_thresholds_of_another_net_are_refused() -> None:
    bundle = Bundle.load(Settings())
    tables = {**bundle.thresholds.tables, "match": {**bundle.thresholds.table("match"), "model_sha256": "0" * 64}}
    with pytest.raises(ConfigError, match="another face net"):
        Match.load(replace(bundle, thresholds=replace(bundle.thresholds, tables=tables)))


def test_chips_are_upright_whatever_the_roll_and_alike_whatever_the_size(face: Face, embedder: Embedder) -> None:
    height, width = PORTRAIT.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1.0)
    tilted = cv2.warpAffine(PORTRAIT, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    large = cv2.resize(PORTRAIT, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    chips = [
        aligned(PORTRAIT, face.landmarks_px),
        aligned(tilted, face_finder().find(tilted)[0].landmarks_px),
        aligned(large, face.landmarks_px * 6 + 2.5),
    ]
    assert all(chip.shape == (SIDE_PX, SIDE_PX, 3) and chip.dtype == np.uint8 for chip in chips)
    assert np.abs(chips[2].astype(int) - chips[0]).mean() < 3
    a, b, c = embedder.embed(chips)
    assert distance(a, b) < 0.15
    assert distance(a, c) < 0.1


def test_a_wider_frame_shows_more_around_the_same_face(face: Face) -> None:
    wide, chip = aligned(PORTRAIT, face.landmarks_px, frame_px=SIDE_PX + 20), aligned(PORTRAIT, face.landmarks_px)
    assert np.abs(wide[10:-10, 10:-10].astype(int) - chip).mean() < 1


@pytest.mark.parametrize("landmarks", [np.zeros((478, 3), np.float32), np.full((478, 2), -5000.0, np.float32)])
def test_degenerate_landmarks_give_a_chip_of_something(landmarks: Float32Array) -> None:
    assert aligned(PORTRAIT, landmarks).shape == (SIDE_PX, SIDE_PX, 3)


def test_one_chip_or_many_and_one_thread_or_four_give_the_same_numbers(face: Face, embedder: Embedder) -> None:
    chips = [aligned(PORTRAIT, face.landmarks_px), np.full((SIDE_PX, SIDE_PX, 3), 127, np.uint8)]
    vectors = embedder.embed(chips)
    with ThreadPoolExecutor(4) as pool:
        apart = list(pool.map(lambda chip: embedder.embed([chip])[0], chips * 4))
    for i, vector in enumerate(apart):
        np.testing.assert_array_equal(vector, vectors[i % 2])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert embedder.embed([]).shape == (0, 128)


def test_the_best_faces_are_large_sharp_and_frontal(face: Face) -> None:
    small = replace(face, quality=replace(face.quality, size_px=70.0))
    turned = replace(face, yaw_deg=70.0)
    assert [s.frame for s in best_faces([None, small, face, turned], min_px=64)] == [2, 1, 3]
    assert best_faces([small], min_px=80) == []
    one = together(np.stack([at(0.0), at(0.2)]), [3.0, 1.0])
    assert distance(one, at(0.0)) < distance(one, at(0.2))


@pytest.mark.shared
def test_real_people_are_nearer_to_themselves_than_to_others(shared_data: Path, embedder: Embedder) -> None:
    with (shared_data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["source"] == "youtube_faces_udacity" and r["split"] == "validation"]
    people = sorted({r["subject"] for r in rows})[:6]
    pairs = {p: [r["path"] for r in rows if r["subject"] == p][:2] for p in people}
    vectors = {p: embedder.embed([_chip(shared_data / path) for path in paths]) for p, paths in pairs.items()}
    own = [distance(*v) for v in vectors.values()]
    other = [distance(vectors[a][0], vectors[b][0]) for a in people for b in people if a < b]
    assert np.median(own) < min(other)


def _chip(path: Path) -> UInt8Array:
    image_rgb = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
    return aligned(image_rgb, face_finder().find(image_rgb)[0].landmarks_px)
