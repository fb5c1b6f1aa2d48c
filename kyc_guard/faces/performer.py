"""Is the face that makes a movement the face that the other checks judge?

They look at a dozen frames spread over the clip. Without this, somebody may act with his own face and show the victim's on those alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy, Thresholds
from kyc_guard.faces.embedding import Embedder, aligned, best_faces, distance
from kyc_guard.faces.movements import Traces
from kyc_guard.runtime import Net
from kyc_guard.types import Clip, Face, FaceTrack

_UNCOVERED_S = 0.2
"""A face is left out for so long before and after a hand is seen over it: hands are missed in single frames."""


@dataclass(frozen=True, slots=True)
class Performer:
    """Holds the face at each movement against the best of the spread faces."""

    embedder: Embedder
    platt: Platt
    different_from: float
    """P(another person) at the operating point ``fmr_1e2`` of [match]. Faces of one clip lie far nearer than selfie and document."""
    min_spread_px: float
    min_px: float
    max_deg: float
    max_cover: float
    """Share of the face under a hand: half of what a hand over the face has to cover."""

    @classmethod
    def load(cls, net: Net, policy: Policy, thresholds: Thresholds) -> Self:
        """Raises ConfigError where [match], whose scale this uses, was measured with another net."""
        thresholds.demand_model("match", net.weight.sha256, "face net")
        return cls(
            embedder=Embedder(net),
            platt=Platt.from_table(thresholds.table("match"), "match"),
            different_from=thresholds.point("match", "fmr_1e2"),
            min_spread_px=policy.gate("match_min_selfie_px"),
            min_px=policy.gate("challenge_face_min_px"),
            max_deg=policy.gate("challenge_face_max_deg"),
            max_cover=policy.gate("challenge_hand_min_cover") / 2,
        )

    def scores(self, clip: Clip, spread: FaceTrack, followed: FaceTrack, traces: Traces, at_s: Sequence[float]) -> list[float] | None:
        """P(another person) at each movement; ``None`` where no face is fit to be compared.

        Args:
            spread: faces of ``clip.frames_rgb``. followed: of ``clip.motion_rgb``, which ``traces`` measure.
            at_s: when each movement was at its height.
        """
        reference = best_faces(spread.faces[: len(clip.frames_rgb)], min_px=self.min_spread_px, most=1)
        fit = self._comparable(followed.faces, traces)
        if not reference or not len(fit):
            return None
        chips = [aligned(clip.frames_rgb[reference[0].frame], reference[0].face.landmarks_px)]
        frames = [int(fit[np.abs(traces.times_s[fit] - moment_s).argmin()]) for moment_s in at_s]
        for i in dict.fromkeys(frames):
            face = followed.faces[i]
            assert face is not None
            chips.append(aligned(clip.motion_rgb[i], face.landmarks_px))
        subject, *performers = self.embedder.embed(chips)
        apart = {i: self.platt(distance(subject, vector)) for i, vector in zip(dict.fromkeys(frames), performers, strict=True)}
        return [apart[i] for i in frames]

    def _comparable(self, faces: Sequence[Face | None], traces: Traces) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Frames with a face large and frontal enough, and no hand about it: nearest to a profile's height they lie on its way."""
        covered_s = traces.times_s[traces.cover > self.max_cover]
        fit = [
            i
            for i, face in enumerate(faces)
            if face is not None
            and face.box_xyxy[2] - face.box_xyxy[0] >= self.min_px
            and max(abs(face.yaw_deg), abs(face.pitch_deg)) <= self.max_deg
            and not (np.abs(covered_s - traces.times_s[i]) <= _UNCOVERED_S).any()
        ]
        return np.array(fit, np.int64)
