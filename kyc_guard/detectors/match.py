"""Is the face of the selfie the face of the document, and has it been here under another name? The score is P(another person).

Three pictures may show the holder: the selfie, the portrait in print and, where a chip was read, the portrait in it. Every two are
compared, each with a reason of its own; the gravest decides. Two further questions are hints for a person and never touch the score: a
portrait that seems to lie in between two people (``match_morph_suspected``) and earlier accounts with this face (``match_known_face``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Thresholds
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.face_index import FaceIndex, configured_index
from kyc_guard.faces.embedding import MODEL, Embedder, aligned, best_faces, distance, together
from kyc_guard.faces.shape import shape_gap
from kyc_guard.types import Evidence, Face, Float32Array, Modality, PagePortrait, Reason, Signal, UInt8Array

_PAIRS = {
    "print_selfie": "the selfie and the document portrait",
    "chip_selfie": "the selfie and the chip's portrait",
    "chip_print": "the document portrait and the chip's",
}
_DIFFERENT = {
    "print_selfie": "match_different_person",
    "chip_selfie": "match_chip_selfie_differs",
    "chip_print": "match_chip_print_differs",
}


class Portrait(NamedTuple):
    """A picture of the holder that is not the selfie, the face found in it, and its chip."""

    face: Face
    chip_rgb: UInt8Array


@dataclass(frozen=True, slots=True)
class MorphHint:
    """P(the portrait is a morph of the person in front of the camera and another), from the two faces' distance and shapes.

    A weak hint: see [morph.validation_held_out] of thresholds.toml for what it finds.
    """

    distance: float
    shape: float
    offset: float
    suspected_from: float

    @classmethod
    def load(cls, thresholds: Thresholds) -> Self:
        weights = thresholds.table("morph").get("weights", {})
        try:
            distance, shape, offset = (float(weights[name]) for name in ("distance", "shape", "offset"))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{thresholds.path}: [morph.weights] lacks {error}. Remedy: python -m training.morph") from error
        return cls(distance, shape, offset, thresholds.point("morph", "suspected"))

    def __call__(self, distance: float, shape_gap: float) -> float:
        return Platt(1.0, self.offset)(self.distance * distance + self.shape * shape_gap)


@dataclass(frozen=True, slots=True)
class Match:
    """Mean distance to the best selfie frames, weighted by their quality, calibrated."""

    platt: Platt
    unsure_from: float
    """Score at the operating point ``fmr_1e3``: above it, one impostor pair in a thousand lies below."""
    different_from: float
    """Score at ``fnmr_1e2``: one genuine pair in a hundred lies above."""
    morph: MorphHint
    embedder: Embedder
    min_portrait_px: float
    min_selfie_px: float
    top_accounts: int
    index: FaceIndex | None = None
    """Earlier accounts; ``None`` = none are kept, as shipped."""
    name: str = "match"
    version: str = "2"
    needs: frozenset[Modality] = frozenset({Modality.DOCUMENT, Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        net = bundle.net(MODEL)
        table = bundle.thresholds.table("match")
        bundle.thresholds.demand_model("match", net.weight.sha256, "face net")
        return cls(
            platt=Platt.from_table(table, "match"),
            unsure_from=bundle.thresholds.point("match", "fmr_1e3"),
            different_from=bundle.thresholds.point("match", "fnmr_1e2"),
            morph=MorphHint.load(bundle.thresholds),
            embedder=Embedder(net),
            min_portrait_px=bundle.policy.gate("match_min_portrait_px"),
            min_selfie_px=bundle.policy.gate("match_min_selfie_px"),
            top_accounts=int(bundle.policy.gate("match_top_accounts")),
            index=configured_index(bundle.settings, bundle.thresholds, net.weight.sha256),
        )

    def __call__(self, evidence: Evidence) -> Signal:
        absent = missing(self, evidence)
        if absent is not None:
            return absent
        assert evidence.clip is not None
        assert evidence.track is not None
        frames_rgb = evidence.clip.frames_rgb
        shown = best_faces(evidence.track.faces[: len(frames_rgb)], min_px=self.min_selfie_px)
        if not shown:
            return abstain(self, Reason("match_selfie_too_small", f"no selfie face is {self.min_selfie_px:.0f} px wide"))
        chips = [aligned(frames_rgb[s.frame], s.face.landmarks_px) for s in shown]
        selfies, weights = self.embedder.embed(chips), [s.weight for s in shown]
        facts: dict[str, Any] = {"frames": [s.frame for s in shown]}
        artefacts = {"selfie_rgb": chips[0]}
        subject = evidence.submission.subject
        reasons = list(self._known("selfie", together(selfies, weights), subject, facts))
        portraits = {}
        for name, found in (("print", self._printed(evidence.portrait)), ("chip", _in_chip(evidence.chip_portrait))):
            if isinstance(found, Reason):
                reasons.append(found)
            elif found is not None:
                portraits[name] = found
                facts[f"{name}_px"] = round(found.face.quality.size_px, 1)
                artefacts["portrait_rgb" if name == "print" else "chip_portrait_rgb"] = found.chip_rgb
        if not portraits:
            return Signal(self.name, self.version, None, reasons=tuple(reasons), facts=MappingProxyType(facts))
        vectors = dict(zip(portraits, self.embedder.embed([p.chip_rgb for p in portraits.values()]), strict=True))
        for name, vector in vectors.items():
            reasons += self._known(name, vector, subject, facts)
        # The mean of distances, not the distance to a mean face: only the former lies on the scale single pairs were calibrated on.
        distances = {f"{name}_selfie": _mean_distance(vector, selfies, weights) for name, vector in vectors.items()}
        if len(vectors) == 2:
            distances["chip_print"] = distance(vectors["chip"], vectors["print"])
        scores = {pair: self.platt(apart) for pair, apart in distances.items()}
        facts |= {"distances": {pair: round(apart, 4) for pair, apart in distances.items()}}
        for pair, score in scores.items():
            if score >= self.different_from:
                reasons.append(Reason(_DIFFERENT[pair], f"{_PAIRS[pair]} show two persons"))
            elif score >= self.unsure_from:
                reasons.append(Reason("match_uncertain", f"{_PAIRS[pair]} have too little likeness to tell"))
        morphs = {
            name: self.morph(distances[f"{name}_selfie"], shape_gap(p.face.landmarks_px, shown[0].face.landmarks_px))
            for name, p in portraits.items()
        }
        facts["morph"] = {name: round(p, 3) for name, p in morphs.items()}
        reasons += [
            Reason("match_morph_suspected", f"the {name} portrait may lie in between two people")
            for name, p in morphs.items()
            if p >= self.morph.suspected_from
        ]
        return Signal(
            detector=self.name,
            version=self.version,
            score=max(scores.values()),
            quality=max(weights),
            reasons=tuple(reasons),
            facts=MappingProxyType(facts),
            artefacts=MappingProxyType(artefacts),
        )

    def _printed(self, found: PagePortrait | None) -> Portrait | Reason:
        if found is None:
            return Reason("document_no_portrait", "no portrait was found on any page")
        if found.face.quality.size_px < self.min_portrait_px:
            size = f"{found.face.quality.size_px:.0f} px wide, {self.min_portrait_px:.0f} are needed"
            return Reason("match_portrait_too_small", f"the document portrait is {size}")
        return Portrait(found.face, aligned(found.upright_rgb, found.face.landmarks_px))

    def _known(self, who: str, vector: Float32Array, subject: str | None, facts: dict[str, Any]) -> Iterator[Reason]:
        """Earlier accounts with this face; the document's may be another's than the selfie's."""
        if self.index is None:
            return
        found = self.index.search(vector, top=self.top_accounts, but=subject)
        facts.setdefault("known_face", {"index_sha256": self.index.sha256})[who] = found.to_json()
        if found.within:
            yield Reason("match_known_face", f"{who}: {found}")


def _in_chip(found: tuple[UInt8Array, Face | None] | None) -> Portrait | Reason | None:
    """``None`` where no picture was sent or it cannot be read, which the document check says."""
    if found is None:
        return None
    picture, face = found
    if face is None:
        return Reason("match_chip_no_face", "no face was found in the chip's portrait")
    return Portrait(face, aligned(picture, face.landmarks_px))


def _mean_distance(vector: Float32Array, selfies: Float32Array, weights: Sequence[float]) -> float:
    return float(np.average(np.linalg.norm(selfies - vector, axis=1), weights=weights))
