"""Is the face a presentation attack or a manipulated face: print, cut print, replay, mask, swap, composite, reenactment, generated.

One net for each of `kyc_guard.views`: the whole face with its surround, windows at native resolution, and enlarged details.
Their logits are joined by a logistic rule; its numbers stand in thresholds.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.runtime import Net
from kyc_guard.types import Evidence, Face, Float32Array, Modality, Reason, Signal, UInt8Array
from kyc_guard.views import FACE, VIEWS, View

SPECIES = ("bona_fide", "print", "print_cut", "replay", "mask", "swap", "composite", "reenactment", "generated")
"""Order of the nets' species outputs."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceScore:
    """What the nets say of one face in one frame."""

    logit: float
    """Joined logit before calibration; higher leans to attack."""
    by_view: dict[str, float]
    """Each view's own logit, the mean over its windows."""
    species: Float32Array
    """(9,) probabilities over `SPECIES`, the mean over views."""
    heat_map: Float32Array
    """(h, w) in 0..1: where the whole-face net saw attack."""


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """One view, its net, and what its logit weighs."""

    view: View
    net: Net
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class FaceAttack:
    """P(attack) from single frames, joined over a clip by the mean of its log-odds.

    The mean, not the maximum: a maximum grows with the number of frames and turns noise into attacks.
    """

    eyes: tuple[Eye, ...]
    platt: Platt
    policy: Policy
    name: str = "face_attack"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("face_attack")
        join = table.get("join")
        if not isinstance(join, dict) or not join or not all(isinstance(w, float) and w >= 0 for w in join.values()):
            raise ConfigError("thresholds.toml: [face_attack.join] needs a weight for every view. Remedy: run the calibrate command")
        if unknown := set(join) - set(VIEWS):
            raise ConfigError(f"thresholds.toml: [face_attack.join] names no view: {unknown.pop()}")
        return cls(
            eyes=tuple(Eye(view, bundle.net(f"face_attack_{name}"), join[name]) for name, view in VIEWS.items() if name in join),
            platt=Platt.from_table(table, "face_attack"),
            policy=bundle.policy,
        )

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        assert evidence.clip is not None
        assert evidence.track is not None
        frames, faces = evidence.clip.frames_rgb, evidence.track.faces
        judged = [(frames[i], f) for i, f in enumerate(faces) if f is not None and not self._unfit(f)]
        if not judged:
            worst = next(f for f in faces if f is not None)
            return abstain(self, *self._unfit(worst))
        scores = self.score_faces(judged, still=len(judged) == 1)
        logit = float(np.mean([s.logit for s in scores]))
        score = self.platt(logit)
        kinds = np.mean([s.species for s in scores], axis=0)
        strongest = max(range(len(scores)), key=lambda i: scores[i].logit)
        frame, face = judged[strongest]
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=len(judged) / len(faces),
            species=SPECIES[1 + int(np.argmax(kinds[1:]))],
            facts={
                "frames": len(judged),
                "frames_unfit": sum(1 for f in faces if f is not None) - len(judged),
                "logits": [round(s.logit, 3) for s in scores],
                "views": {k: round(float(np.mean([s.by_view[k] for s in scores])), 3) for k in scores[0].by_view},
                "species": {name: round(float(p), 4) for name, p in zip(SPECIES, kinds, strict=True)},
            },
            artefacts={"heat_map": scores[strongest].heat_map, "face_rgb": FACE.cut(frame, face, FACE.anchors[0])},
        )

    def score_faces(self, faces: Sequence[tuple[UInt8Array, Face]], *, still: bool) -> list[FaceScore]:
        """Judge faces of one subject.

        A still gets every window of every view; a clip's frames share them, one each in turn.

        Args:
            faces: (frame (H, W, 3) uint8 RGB, face in it) pairs.
        """
        logits = [dict[str, float]() for _ in faces]
        kinds = [list[Float32Array]() for _ in faces]
        maps: list[Float32Array] = []
        for eye in self.eyes:
            anchors = eye.view.anchors
            places = [(i, a) for i in range(len(faces)) for a in (anchors if still else (anchors[i % len(anchors)],))]
            out = eye.net.run(rgb=np.stack([eye.view.cut(*faces[i], a) for i, a in places]))
            owner = np.array([i for i, _ in places])
            for i in range(len(faces)):
                logits[i][eye.view.name] = float(out["logit"][owner == i].mean())
                kinds[i].append(out["species"][owner == i].mean(axis=0))
            if eye.view is FACE:
                maps = list(out["map"])
        return [
            FaceScore(
                logit=sum(eye.weight * logits[i][eye.view.name] for eye in self.eyes),
                by_view=logits[i],
                species=np.mean(kinds[i], axis=0),
                heat_map=maps[i] if maps else np.zeros((1, 1), np.float32),
            )
            for i in range(len(faces))
        ]

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
