"""Four suspicions about the picture of a document, each from its own figures: logistics fitted by ``python -m training.documents``.

None proves anything: they know fictional documents under simulated cameras and simulated attacks, and published detectors of the
kind err in one case of ten on documents they have not met. They tell a person where to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kyc_guard.calibration import Hint, Platt
from kyc_guard.documents import lettering, seams, surface
from kyc_guard.documents.planes import Planes
from kyc_guard.errors import ConfigError
from kyc_guard.types import Float32Array, UInt8Array

NAMES: Mapping[str, tuple[str, ...]] = {
    "recapture": surface.NAMES,
    "portrait": seams.NAMES,
    "text": lettering.NAMES,
    "generated": surface.NAMES,
}
"""Suspicion -> its figures."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """One suspicion: figures -> logit -> P(attack).

    Attributes:
        point: P from which it is a finding.
    """

    hint: Hint
    platt: Platt
    point: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any], name: str) -> Self:
        """Read ``[document_doubt.<name>]`` of thresholds.toml.

        Raises:
            ConfigError: missing, not finite, or fitted on other figures than this version measures.
        """
        remedy = "Remedy: run python -m training.documents fit"
        try:
            part = table[name]
            if tuple(part["figures"]) != NAMES[name]:
                raise ConfigError(f"thresholds.toml: [document_doubt.{name}] was fitted on other figures. {remedy}")
            arrays = {key: np.array(part[key], np.float64) for key in ("centre", "scale", "weights", "away")}
            offset, cut, point = float(part["offset"]), float(part["cut"]), float(part["points"]["review"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"thresholds.toml: [document_doubt.{name}] lacks {error}. {remedy}") from error
        if any(a.shape != (len(NAMES[name]),) for a in arrays.values()) or not np.isfinite([*arrays.values()]).all():
            raise ConfigError(f"thresholds.toml: [document_doubt.{name}] has unusable numbers. {remedy}")
        if (arrays["scale"] <= 0).any() or not np.isfinite([offset, cut]).all() or not 0.0 <= point <= 1.0:
            raise ConfigError(f"thresholds.toml: [document_doubt.{name}] has unusable numbers. {remedy}")
        return cls(Hint(**arrays, offset=offset, cut=cut), platt=Platt.from_table(part, f"document_doubt.{name}"), point=point)


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """One suspicion about one page."""

    kind: str
    probability: float
    is_finding: bool
    strongest: tuple[str, ...]
    """The figures that speak loudest for it, of `NAMES`."""
    line: int | None = None
    """For altered text: which line."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """All of them; judges pages whose print and portrait cover at least ``min_px``."""

    suspicions: Mapping[str, Suspicion]
    min_px: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any], min_px: float) -> Self:
        return cls({name: Suspicion.from_table(table, name) for name in NAMES}, min_px)

    def __call__(self, image_rgb: UInt8Array, lines_xyxy: Float32Array, face_xyxy: Float32Array | None) -> tuple[Doubt, ...]:
        """Judge an upright page; a suspicion whose figures cannot be measured is left out, all of them on small pictures.

        Args:
            image_rgb: (H, W, 3) uint8 RGB.
            lines_xyxy: (N, 4), the lines of text outside the zone; N may be 0.
            face_xyxy: (4,) round the mesh of the portrait's face; ``None`` without a portrait.
        """
        planes = Planes.of(image_rgb, lines_xyxy, face_xyxy)
        if max(planes.luma.shape) < self.min_px:
            return ()
        of_page, of_portrait = surface.row(planes), seams.row(planes)
        of_lines, which = lettering.rows(planes)
        rows = {"recapture": of_page[None], "portrait": of_portrait[None], "text": of_lines, "generated": of_page[None]}
        found = []
        for kind, suspicion in self.suspicions.items():
            if not len(rows[kind]) or not np.isfinite(rows[kind]).any():
                continue
            logits = suspicion.hint(rows[kind])
            at = int(logits.argmax())
            added = suspicion.hint.added(rows[kind][at])
            loudest = tuple(NAMES[kind][i] for i in np.argsort(-added, kind="stable")[:3] if added[i] > 0)
            probability = suspicion.platt(float(logits[at]))
            found.append(Doubt(kind, probability, probability >= suspicion.point, loudest, which[at] if kind == "text" else None))
        return tuple(found)
