"""Is the face a presentation attack or a manipulated face: print, cut print, replay, mask, swap, composite, reenactment, generated.

One net for each of `kyc_guard.faces.views` looks at the whole face with its surround and at windows of native resolution, each with two
answers: *physical* (shown to the camera) and *digital* (made in a computer). The views' logits are joined for each of the two by
thresholds.toml; either suspicion suffices.

The portraits of the document and of its chip are asked about too, for the digital suspicion alone: every portrait in print looks shown.
What is found there is a hint for a person and never touches the score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from kyc_guard.calibration import Join, Platt, either
from kyc_guard.config import Policy, Thresholds
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.faces.views import FACE, VIEWS, Looks, View
from kyc_guard.runtime import Net
from kyc_guard.types import PHYSICAL, SPECIES, Evidence, Face, Float32Array, Modality, Reason, Signal, UInt8Array

CLASSES = ("bona_fide", *SPECIES)
"""Order of the nets' species outputs."""


KINDS = ("physical", "digital")
"""Order of the nets' two logits."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceScore:
    """What the nets say of one face in one frame."""

    log_odds: tuple[float, float]
    """Joined over the views: physical, digital."""
    by_view: Mapping[str, tuple[float, float]]
    """Each view's own two logits, the mean over its looks."""
    species: Float32Array
    """(9,) probabilities over `CLASSES`, the mean over views."""
    heat_map: Float32Array
    """(h, w) in 0..1: where the whole-face net saw attack."""


@dataclass(frozen=True, slots=True)
class PortraitHint:
    """What the digital suspicion is worth of portraits that came one way, see ``[face_attack_print]`` and ``[face_attack_chip]``."""

    platt: Platt
    review: float
    """P(attack) from which a person looks."""

    @classmethod
    def load(cls, thresholds: Thresholds, medium: str) -> Self:
        name = f"face_attack_{medium}"
        return cls(Platt.from_table(thresholds.table(name), name), thresholds.point(name, "review"))


PORTRAITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "print": ("document_portrait_manipulated", "the document's portrait looks generated or altered"),
        "chip": ("chip_portrait_manipulated", "the chip's portrait looks generated or altered"),
    }
)
"""Where a portrait stands -> the reason of its hint and what it says."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceAttack:
    """P(attack) from single frames; over a clip the mean of each suspicion's log-odds, then either of the two.

    The mean, not the maximum: a maximum grows with the number of frames and turns noise into attacks.
    """

    nets: Mapping[View, Net]
    joins: tuple[Join, Join]
    policy: Policy
    portraits: Mapping[str, PortraitHint]
    """By `PORTRAITS`."""
    name: str = "face_attack"
    version: str = "3"
    needs: frozenset[Modality] = frozenset({Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("face_attack").get("join", {})
        physical, digital = (Join.from_table(table.get(kind, {}), f"face_attack.join.{kind}") for kind in KINDS)
        if unknown := (set(physical.weights) | set(digital.weights)) - set(VIEWS):
            raise ConfigError(f"thresholds.toml: [face_attack.join] names no view: {unknown.pop()}")
        return cls(
            nets={view: bundle.net(f"face_attack_{name}") for name, view in VIEWS.items()},
            joins=(physical, digital),
            policy=bundle.policy,
            portraits=MappingProxyType({medium: PortraitHint.load(bundle.thresholds, medium) for medium in PORTRAITS}),
        )

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        assert evidence.clip is not None
        assert evidence.track is not None
        frames, faces = evidence.clip.frames_rgb, evidence.track.faces
        judged = [(frames[i], f) for i, f in enumerate(faces) if f is not None and not self._unfit(f)]
        # Else whoever spoils all frames but one chooses the one that is judged.
        if not judged or len(judged) < self.policy.gate("face_min_fit_share") * len(faces):
            return abstain(self, *self._spoilt(faces, len(judged)))
        scores = self.score_faces(judged, looks="all" if len(judged) == 1 else "one")
        physical, digital = (float(np.mean([s.log_odds[k] for s in scores])) for k in range(2))
        kinds = np.mean([s.species for s in scores], axis=0)
        suspected = [i for i, name in enumerate(CLASSES) if i and (name in PHYSICAL) == (physical >= digital)]
        strongest = max(range(len(scores)), key=lambda i: max(scores[i].log_odds))
        frame, face = judged[strongest]
        reasons = [Reason("second_face", f"{others} more of the subject's size")] if (others := evidence.track.other_faces) else []
        portraits: dict[str, Any] = {}
        reasons += self._portraits(evidence, portraits)
        return Signal(
            detector=self.name,
            version=self.version,
            score=either(physical, digital),
            quality=len(judged) / len(faces),
            species=CLASSES[max(suspected, key=lambda i: float(kinds[i]))],
            reasons=tuple(reasons),
            facts={
                "frames": len(judged),
                "frames_unfit": sum(1 for f in faces if f is not None) - len(judged),
                "log_odds": {"physical": round(physical, 3), "digital": round(digital, 3)},
                "by_frame": {kind: [round(s.log_odds[k], 2) for s in scores] for k, kind in enumerate(KINDS)},
                "species": {name: round(float(p), 4) for name, p in zip(CLASSES, kinds, strict=True)},
                "portraits": portraits,
            },
            artefacts={
                "heat_map": scores[strongest].heat_map,
                "face_rgb": FACE.cut(frame, face, FACE.choose("one", 0))[0],
            },
        )

    def score_faces(self, faces: Sequence[tuple[UInt8Array, Face]], *, looks: Looks) -> list[FaceScore]:
        """Judge faces of one subject.

        Args:
            faces: (frame (H, W, 3) uint8 RGB, face in it) pairs.
            looks: how many looks of every view each face gets.
        """
        logits = [dict[str, tuple[float, float]]() for _ in faces]
        kinds = [list[Float32Array]() for _ in faces]
        maps: list[Float32Array] = []
        for view, net in self.nets.items():
            shown = [view.cut(frame, face, view.choose(looks, i)) for i, (frame, face) in enumerate(faces)]
            out = net.run(rgb=np.concatenate(shown))
            owner = np.repeat(range(len(faces)), [len(s) for s in shown])
            for i in range(len(faces)):
                physical, digital = (float(v) for v in out["logits"][owner == i].mean(axis=0))
                logits[i][view.name] = physical, digital
                kinds[i].append(out["species"][owner == i].mean(axis=0))
            if view is FACE:  # a map is of the first look
                maps = [out["map"][owner == i][0] for i in range(len(faces))]
        return [
            FaceScore(
                log_odds=(
                    self.joins[0]({name: pair[0] for name, pair in mine.items()}),
                    self.joins[1]({name: pair[1] for name, pair in mine.items()}),
                ),
                by_view=mine,
                species=np.mean(kinds[i], axis=0),
                heat_map=maps[i],
            )
            for i, mine in enumerate(logits)
        ]

    def _portraits(self, evidence: Evidence, facts: dict[str, Any]) -> Iterator[Reason]:
        """Suspicions of the portraits that were found; ``facts`` says of each what was measured, or why nothing was."""
        printed = evidence.portrait
        found = {
            "print": None if printed is None else (printed.upright_rgb, printed.face),
            "chip": evidence.chip_portrait,
        }
        for medium, hint in self.portraits.items():
            picture, face = found[medium] or (None, None)
            if picture is None or face is None:
                continue
            width_px = face.quality.size_px
            if not width_px >= (least_px := self.policy.gate("portrait_attack_min_px")):
                facts[medium] = {"not_judged": f"{width_px:.0f} px wide, {least_px:.0f} are needed"}
                continue
            probability = hint.platt(self.score_faces([(picture, face)], looks="plain")[0].log_odds[KINDS.index("digital")])
            facts[medium] = {"probability": round(probability, 4)}
            if not probability < hint.review:
                code, detail = PORTRAITS[medium]
                yield Reason(code, detail)

    def _spoilt(self, faces: Sequence[Face | None], fit: int) -> tuple[Reason, ...]:
        """Why too few of these faces can be judged: of each fault the first one met, the commonest fault first."""
        faults = [reason for face in faces if face is not None for reason in self._unfit(face)]
        counts = Counter(reason.code for reason in faults)
        first = {reason.code: reason for reason in reversed(faults)}
        lost = [Reason("face_lost", f"a face fit to be judged in {fit} of {len(faces)} samples")] if None in faces else []
        return (*(first[code] for code, _ in counts.most_common()), *lost)

    def _unfit(self, face: Face) -> tuple[Reason, ...]:
        """Why a face cannot be judged; the gates stand in policy.toml."""
        q, gate = face.quality, self.policy.gate
        # "not at least" instead of "below", so that what was not measured (NaN) is unfit.
        checks = (
            ("face_too_small", not q.size_px >= gate("face_min_size_px"), f"{q.size_px:.0f} px wide"),
            ("face_blurred", not q.blur >= gate("face_min_blur"), f"sharpness {q.blur:.1f}"),
            ("face_too_dark", not q.brightness >= gate("face_min_brightness"), f"brightness {q.brightness:.0f} of 255"),
            ("face_too_bright", not q.brightness <= gate("face_max_brightness"), f"brightness {q.brightness:.0f} of 255"),
            ("face_covered", not q.occlusion <= gate("face_max_occlusion"), f"{q.occlusion:.0%} of the face is covered"),
            ("face_turned_away", not abs(face.yaw_deg) <= gate("face_max_yaw_deg"), f"turned {face.yaw_deg:.0f} degrees"),
        )
        return tuple(Reason(code, detail) for code, failed, detail in checks if failed)
