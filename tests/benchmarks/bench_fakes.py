"""A real face-attack detector with made-up nets, and the manifest and scores that the benchmarks are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fakes import settings_in
from PIL import Image

from kyc_guard.calibration import Join
from kyc_guard.config import Settings
from kyc_guard.detectors.face_attack import FaceAttack
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces.views import FACE, PATCH
from kyc_guard.pipeline import Verifier

POLICY = """
[checks.face_attack]
mandatory = true
reject_at = "reject"
review_at = "review"
on_abstain = "retry"
[reasons]
retry = ["no_selfie", "no_face", "no_clip", "no_document"]
[quality]
other_face_ratio = 0.5
face_min_size_px = 30
face_min_blur = 0
face_min_brightness = 20
face_max_brightness = 240
face_min_fit_share = 0.33
face_max_yaw_deg = 60
face_max_occlusion = 1.0
"""
THRESHOLDS = """
[fusion.weights]
face_attack = 1.0
[face_attack.points]
review = 0.5
reject = 0.9
"""


class RedNet:
    """Sees an attack in whatever is bluer than it is red."""

    def run(self, rgb: Any) -> dict[str, Any]:
        blue = (rgb[..., 2].astype(np.float32) - rgb[..., 0]).mean((1, 2)) / 8
        count = len(rgb)
        return {
            "logits": np.stack([blue, np.full(count, -9.0)], 1),
            "species": np.full((count, 9), 1 / 9, np.float32),
            "map": np.zeros((count, 4, 4), np.float32),
        }


class RedDetector:
    """What `Verifier` is given for the class of a detector."""

    @classmethod
    def load(cls, bundle: Bundle) -> FaceAttack:
        nets: Any = {FACE: RedNet(), PATCH: RedNet()}
        joins = (Join({"face": 0.5, "patch": 0.5}, 0.0), Join({"face": 1.0}, 0.0))
        return FaceAttack(nets=nets, joins=joins, policy=bundle.policy, portraits={})


@dataclass(frozen=True)
class MakeRed:
    """Makes the verifier; takes settings or not, as what it stands in for does."""

    folder: Path

    def __call__(self, settings: Settings | None = None) -> Verifier:
        made = settings_in(self.folder, policy=POLICY, thresholds=THRESHOLDS)
        one: Any = RedDetector
        return Verifier(made.model_copy(update={"threads": settings.threads if settings else 1}), detectors=[one])


def write_people(folder: Path, portrait: Any) -> Path:
    """A manifest of pictures: the portrait as several people, reddish and live, bluish and attacked."""
    folder.mkdir(exist_ok=True)
    rows = ["path,label,attack_type,source,subject,group,split"]
    for i, (label, species) in enumerate([("bona_fide", ""), ("bona_fide", ""), ("attack", "print"), ("attack", "swap")]):
        picture = np.roll(portrait, i, 0)[:, :: (-1) ** i]
        order = [2, 1, 0] if label == "attack" else [0, 1, 2]
        Image.fromarray(np.ascontiguousarray(picture[..., order])).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{label},{species},cam,p{i},,validation")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest
