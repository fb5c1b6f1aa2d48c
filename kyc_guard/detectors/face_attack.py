"""Is the face a presentation attack or a manipulated face: print, cut print, replay, mask, swap, composite, reenactment, generated.

Two nets look at each face: the whole face with its surround, and windows at native resolution (see `kyc_guard.views`).
Their logits are joined by a logistic rule and calibrated; all three sets of numbers stand in thresholds.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from kyc_guard import views
from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.runtime import Net
from kyc_guard.types import Evidence, Face, Float32Array, Modality, Reason, Signal, UInt8Array

SPECIES = ("bona_fide", "print", "print_cut", "replay", "mask", "swap", "composite", "reenactment", "generated")
"""Order of the nets' species outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceScore:
    """What the nets say of one face in one frame."""

    logit: float
    """Joined logit before calibration; above 0 leans to attack."""
    species: Float32Array
    """(9,) mean probabilities over `SPECIES`."""
    face_map: Float32Array
    """(h, w) in 0..1: where the face net saw attack, over the face view."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceAttack:
    """P(attack) from single frames, joined over a clip by the mean of its calibrated log-odds.

    The mean, not the maximum: a maximum grows with the number of frames and turns noise into attacks.
    """

    face_net: Net
    patch_net: Net
    weights: tuple[float, float]
    platt: Platt
    policy: Policy
    name: str = "face_attack"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("face_attack")
        try:
            joined = (float(table["join"]["face"]), float(table["join"]["patch"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError("thresholds.toml: [face_attack.join] needs face and patch. Remedy: run the calibrate command") from error
        return cls(
            face_net=bundle.net("face_attack_face"),
            patch_net=bundle.net("face_attack_patch"),
            weights=joined,
            platt=Platt.from_table(table, "face_attack"),
            policy=bundle.policy,
        )

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        assert evidence.clip is not None and evidence.track is not None
        frames, faces = evidence.clip.frames_rgb, evidence.track.faces
        judged = [(frames[i], f) for i, f in enumerate(faces) if f is not None and not self._unfit(f)]
        if not judged:
            worst = next(f for f in faces if f is not None)
            return abstain(self, *self._unfit(worst))
        scores = self.score_faces(judged, still=len(judged) == 1)
        logit = float(np.mean([s.logit for s in scores]))
        score = self.platt(logit)
        kinds = np.mean([s.species for s in scores], axis=0)
        species = SPECIES[1 + int(np.argmax(kinds[1:]))]
        strongest = max(range(len(scores)), key=lambda i: scores[i].logit)
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=len(judged) / len(faces),
            species=species,
            reasons=(Reason("second_face", f"{others} more of the subject's size"),) if (others := evidence.track.other_faces) else (),
            facts={
                "frames": len(judged),
                "frames_unfit": sum(1 for f in faces if f is not None) - len(judged),
                "logits": [round(s.logit, 3) for s in scores],
                "species": {name: round(float(p), 4) for name, p in zip(SPECIES, kinds, strict=True)},
            },
            artefacts={"heat_map": scores[strongest].face_map, "face_rgb": views.face_view(*judged[strongest])},
        )

    def score_faces(self, faces: Sequence[tuple[UInt8Array, Face]], *, still: bool) -> list[FaceScore]:
        """Judge faces of one subject.

        A still gets every patch; a clip's frames share them, one each in turn.

        Args:
            faces: (frame (H, W, 3) uint8 RGB, face in it) pairs.
        """
        anchors = views.PATCH_ANCHORS
        whole = self.face_net.run(rgb=np.stack([views.face_view(frame, face) for frame, face in faces]))
        spots = [(i, a) for i in range(len(faces)) for a in (anchors if still else (anchors[i % len(anchors)],))]
        near = self.patch_net.run(rgb=np.stack([views.patch_view(*faces[i], a) for i, a in spots]))
        owner = np.array([i for i, _ in spots])
        out = []
        for i in range(len(faces)):
            mine = owner == i
            logit = self.weights[0] * float(whole["logit"][i]) + self.weights[1] * float(near["logit"][mine].mean())
            kinds = (whole["species"][i] + near["species"][mine].mean(axis=0)) / 2
            out.append(FaceScore(logit=logit, species=kinds, face_map=whole["map"][i]))
        return out

    def _unfit(self, face: Face) -> tuple[Reason, ...]:
        """Why a face cannot be judged; the gates stand in policy.toml."""
        q, gate = face.quality, self.policy.gate
        checks = (
            ("face_too_small", q.size_px < gate("face_min_size_px"), f"{q.size_px:.0f} px wide"),
            ("face_blurred", q.blur < gate("face_min_blur"), f"sharpness {q.blur:.1f}"),
            ("face_too_dark", q.brightness < gate("face_min_brightness"), f"brightness {q.brightness:.0f} of 255"),
            ("face_too_bright", q.brightness > gate("face_max_brightness"), f"brightness {q.brightness:.0f} of 255"),
            ("face_turned_away", abs(face.yaw_deg) > gate("face_max_yaw_deg"), f"turned {face.yaw_deg:.0f} degrees"),
        )
        return tuple(Reason(code, detail) for code, failed, detail in checks if failed)
