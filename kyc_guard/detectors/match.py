"""Is the face of the selfie the face of the document? The score is P(another person)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.documents.geometry import straight_page
from kyc_guard.documents.page import find_portrait
from kyc_guard.faces.embedding import Embedder, distance, embedder, face_chip
from kyc_guard.types import Clip, Evidence, Face, FaceTrack, Modality, Reason, Signal, UInt8Array

_MAX_FRAMES = 3
"""Distances of further frames of one clip are near-copies of these and cost 66 ms each."""


@dataclass(frozen=True, slots=True)
class Match:
    """Mean distance of the document portrait to the best selfie frames, weighted by their quality, calibrated."""

    platt: Platt
    unsure_from: float
    """Score at the operating point ``fmr_1e3``: above it, one impostor pair in a thousand lies below."""
    different_from: float
    """Score at ``fnmr_1e2``: one genuine pair in a hundred lies above."""
    min_portrait_px: float
    min_selfie_px: float
    embedder: Embedder = field(default_factory=embedder)
    name: str = "match"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.DOCUMENT, Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        return cls(
            platt=Platt.from_table(bundle.thresholds.table("match"), "match"),
            unsure_from=bundle.thresholds.point("match", "fmr_1e3"),
            different_from=bundle.thresholds.point("match", "fnmr_1e2"),
            min_portrait_px=bundle.policy.gate("match_min_portrait_px"),
            min_selfie_px=bundle.policy.gate("match_min_selfie_px"),
        )

    def __call__(self, evidence: Evidence) -> Signal:
        absent = missing(self, evidence)
        if absent is not None:
            return absent
        assert evidence.clip is not None
        assert evidence.track is not None
        portrait = _portrait(evidence.documents_rgb)
        if portrait is None:
            return abstain(self, Reason("document_no_portrait", "no portrait was found on any page"))
        page_rgb, printed = portrait
        if printed.quality.size_px < self.min_portrait_px:
            size = f"{printed.quality.size_px:.0f} px wide, {self.min_portrait_px:.0f} are needed"
            return abstain(self, Reason("match_portrait_too_small", f"the document portrait is {size}"))
        frames = _best_frames(evidence.clip, evidence.track, self.min_selfie_px)
        if not frames:
            return abstain(self, Reason("match_selfie_too_small", f"no selfie face is {self.min_selfie_px:.0f} px wide"))
        weights = np.array([_weight(face, frames) for _, face in frames])
        chips = [face_chip(page_rgb, printed), *(face_chip(evidence.clip.frames_rgb[i], face) for i, face in frames)]
        anchor, *selfies = self.embedder.embed(chips)
        distances = np.array([distance(anchor, selfie) for selfie in selfies])
        # The mean of distances, not the distance to a mean face: only the former lies on the scale single pairs were calibrated on.
        mean = float(np.average(distances, weights=weights))
        score = self.platt(mean)
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=float(weights.max()),
            reasons=self._reasons(score),
            facts=MappingProxyType(
                {
                    "distance": round(mean, 4),
                    "distances": [round(float(d), 4) for d in distances],
                    "frames": [i for i, _ in frames],
                    "portrait_px": round(printed.quality.size_px, 1),
                }
            ),
            artefacts=MappingProxyType({"portrait_rgb": chips[0], "selfie_rgb": chips[1]}),
        )

    def _reasons(self, score: float) -> tuple[Reason, ...]:
        if score >= self.different_from:
            return (Reason("match_different_person", "the selfie is not the person of the document portrait"),)
        if score >= self.unsure_from:
            return (Reason("match_uncertain", "too little likeness to tell"),)
        return ()


def _portrait(documents_rgb: Sequence[UInt8Array]) -> tuple[UInt8Array, Face] | None:
    """The largest portrait of all pages, and its page turned upright."""
    found = [f for f in map(find_portrait, map(straight_page, documents_rgb)) if f is not None]
    if not found:
        return None
    page, face, _ = max(found, key=lambda f: f[1].quality.size_px)
    return page, face


def _best_frames(clip: Clip, track: FaceTrack, min_px: float) -> list[tuple[int, Face]]:
    """A few large enough, best first: (index, face)."""
    usable = [
        (i, face) for i, face in enumerate(track.faces[: len(clip.frames_rgb)]) if face is not None and face.quality.size_px >= min_px
    ]
    return sorted(usable, key=lambda pair: -_weight(pair[1], usable))[:_MAX_FRAMES]


def _weight(face: Face, among: Sequence[tuple[int, Face]]) -> float:
    """0..1: how frontal the face is, and how large and sharp compared with the best of its clip."""
    frontal = max(0.0, math.cos(math.radians(face.yaw_deg)) * math.cos(math.radians(face.pitch_deg)))
    size = face.quality.size_px / max(f.quality.size_px for _, f in among)
    sharp = (face.quality.blur + 1.0) / (max(f.quality.blur for _, f in among) + 1.0)
    return max(frontal * math.sqrt(size * sharp), 1e-6)
