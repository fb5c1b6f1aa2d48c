"""Face embedding and the match of document portrait and selfie."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from skimage import data

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.detectors.match import Match
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.errors import ModelError
from kyc_guard.faces import embedding, face_finder, track_faces
from kyc_guard.faces.embedding import Embedder, distance, embedder, face_chip
from kyc_guard.types import Clip, ContainerFacts, Evidence, Face, FaceTrack, Float32Array, Submission, UInt8Array
from kyc_guard.weights import Weights

PORTRAIT = np.ascontiguousarray(data.astronaut()[0:300, 80:360])
FACTS = ContainerFacts(format="array", size_bytes=0, sha256="")


@dataclass
class FakeEmbedder:
    """Puts the selfies at set distances from the portrait, which is the first chip."""

    distances: Sequence[float]
    asked: list[int] = field(default_factory=list)

    def embed(self, chips: Sequence[UInt8Array]) -> Float32Array:
        self.asked.append(len(chips))
        out = np.zeros((len(chips), 128), np.float32)
        out[1:, 0] = self.distances[: len(chips) - 1]
        return out


def _match(distances: Sequence[float]) -> Match:
    return Match(
        platt=Platt(20.0, -12.0),
        unsure_from=0.4,
        different_from=0.9,
        min_portrait_px=48,
        min_selfie_px=64,
        embedder=cast("Embedder", FakeEmbedder(distances)),
    )


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
    return Evidence(
        Submission(id="s"), clip=_clip([PORTRAIT] * 7), track=FaceTrack((None, *[face] * 6), other_faces=0), documents_rgb=(page_rgb,)
    )


@pytest.mark.parametrize(
    ("distances", "codes"),
    [([0.3] * 5, []), ([0.6] * 5, ["match_uncertain"]), ([0.9] * 5, ["match_different_person"])],
)
def test_the_farther_the_likelier_another_person(evidence: Evidence, distances: list[float], codes: list[str]) -> None:
    match = _match(distances)
    asked: Detector = match
    signal = asked(evidence)
    assert signal.score == pytest.approx(match.platt(distances[0]))
    assert [r.code for r in signal.reasons] == codes


def test_at_most_three_frames_are_used_and_named(evidence: Evidence) -> None:
    match = _match([0.1, 0.2, 0.3])
    signal = match(evidence)
    assert signal.facts["frames"] == [1, 2, 3]
    assert signal.facts["distance"] == pytest.approx(0.2)
    assert cast("FakeEmbedder", match.embedder).asked == [4]


def test_better_frames_weigh_more(evidence: Evidence, face: Face) -> None:
    turned = replace(face, yaw_deg=80.0)
    track = FaceTrack((turned, face, *[None] * 5), other_faces=0)
    signal = _match([0.2, 0.8])(replace(evidence, track=track))
    assert signal.facts["frames"] == [1, 0]
    assert 0.2 < signal.facts["distance"] < 0.35


def test_without_face_or_document_it_abstains(evidence: Evidence) -> None:
    none = _match([])(replace(evidence, documents_rgb=(), track=FaceTrack((None,) * 7, other_faces=0)))
    assert none.score is None
    assert {r.code for r in none.reasons} == {"no_document", "no_face"}


@pytest.mark.parametrize(
    ("page", "code"), [(np.full((300, 400, 3), 255, np.uint8), "document_no_portrait"), (None, "match_portrait_too_small")]
)
def test_a_page_without_a_usable_portrait_is_an_abstention(
    evidence: Evidence, page_rgb: UInt8Array, page: UInt8Array | None, code: str
) -> None:
    picture = cv2.resize(page_rgb, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA) if page is None else page
    signal = _match([0.1])(replace(evidence, documents_rgb=(picture,)))
    assert (signal.score, [r.code for r in signal.reasons]) == (None, [code])


def test_a_far_away_selfie_is_an_abstention(evidence: Evidence, face: Face) -> None:
    far = replace(face, quality=replace(face.quality, size_px=30.0))
    signal = _match([0.1])(replace(evidence, track=FaceTrack((far,) * 7, other_faces=0)))
    assert (signal.score, [r.code for r in signal.reasons]) == (None, ["match_selfie_too_small"])


def test_the_shipped_thresholds_accept_the_same_portrait_again(page_rgb: UInt8Array) -> None:
    settings = Settings()
    bundle = Bundle(
        settings,
        Policy.load(settings.policy_path),
        Thresholds.load(settings.weights_dir / "thresholds.toml"),
        cast("Weights", None),
    )
    match = Match.load(bundle)
    darker = np.clip(PORTRAIT.astype(np.float32) * 0.7, 0, 255).astype(np.uint8)
    clip = _clip([darker])
    evidence = Evidence(Submission(id="s"), clip=clip, track=track_faces(clip.frames_rgb, other_face_ratio=0.5), documents_rgb=(page_rgb,))
    signal = match(evidence)
    assert signal.score is not None
    assert signal.score < match.unsure_from
    assert 0.0 < match.unsure_from < match.different_from < 1.0
    assert match(evidence).score == signal.score


def test_chips_are_upright_whatever_the_roll(face: Face) -> None:
    height, width = PORTRAIT.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1.0)
    tilted = cv2.warpAffine(PORTRAIT, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    chips = [face_chip(PORTRAIT, face), face_chip(tilted, face_finder().find(tilted)[0])]
    assert all(chip.shape == (150, 150, 3) and chip.dtype == np.uint8 for chip in chips)
    a, b = embedder().embed(chips)
    assert distance(a, b) < 0.3


def test_one_chip_or_many_and_one_thread_or_four_give_the_same_numbers(face: Face) -> None:
    chips = [face_chip(PORTRAIT, face), np.full((150, 150, 3), 127, np.uint8)]
    together = embedder().embed(chips)
    with ThreadPoolExecutor(4) as pool:
        apart = list(pool.map(lambda chip: embedder().embed([chip])[0], chips * 4))
    for i, vector in enumerate(apart):
        np.testing.assert_allclose(vector, together[i % 2], atol=1e-5)
    assert embedder().embed([]).shape == (0, 128)


def test_an_altered_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MODEL_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="reinstall"):
        Embedder()


@pytest.mark.shared
def test_real_people_are_nearer_to_themselves_than_to_others(shared_data: Path) -> None:
    with (shared_data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["source"] == "youtube_faces_udacity" and r["split"] == "validation"]
    people = sorted({r["subject"] for r in rows})[:6]
    pairs = {p: [r["path"] for r in rows if r["subject"] == p][:2] for p in people}
    vectors = {p: embedder().embed([_chip(shared_data / path) for path in paths]) for p, paths in pairs.items()}
    own = [distance(*v) for v in vectors.values()]
    other = [distance(vectors[a][0], vectors[b][0]) for a in people for b in people if a < b]
    assert np.median(own) < min(other)


def _chip(path: Path) -> UInt8Array:
    image_rgb = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
    return face_chip(image_rgb, face_finder().find(image_rgb)[0])
