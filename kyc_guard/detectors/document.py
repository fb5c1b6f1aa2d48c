"""Is the document legible, valid, and of one mind with itself and with what the applicant typed?

Everything here is deterministic: check digits, dates, spellings. No check proves a document genuine, so the score is a
hint; what each finding is worth stands in ``[document.findings]`` of thresholds.toml and is combined by noisy-or.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from kyc_guard.config import Thresholds
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.documents.consistency import Agreement, Limits, compare_claims, compare_visual_zone
from kyc_guard.documents.mrz import Mrz
from kyc_guard.documents.page import Page, read_page, sharpness
from kyc_guard.errors import ConfigError
from kyc_guard.types import Evidence, Modality, Reason, Signal, UInt8Array

FINDINGS = (
    "document_no_mrz",
    "document_mrz_check_digit",
    "document_invalid_date",
    "document_expired",
    "document_claim_mismatch",
    "document_unreadable_field",
    "document_visual_mismatch",
    "document_no_portrait",
)
"""The reasons a page that was read may give; each needs its probability in thresholds.toml, beside ``prior``."""


@dataclass(frozen=True, slots=True)
class Document:
    """Reads every page, takes the best zone, and checks it against itself, the print, the claims and the calendar."""

    limits: Limits
    findings: Mapping[str, float]
    min_side_px: float
    min_sharpness: float
    threads: int = 1
    name: str = "document"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.DOCUMENT})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("document")
        return cls(
            limits=Limits(**_probabilities(table, "limits", [f.name for f in fields(Limits)], bundle.thresholds)),
            findings=MappingProxyType(_probabilities(table, "findings", ["prior", *FINDINGS], bundle.thresholds)),
            min_side_px=bundle.policy.gate("document_min_side_px"),
            min_sharpness=bundle.policy.gate("document_min_sharpness"),
            threads=bundle.settings.threads,
        )

    def __call__(self, evidence: Evidence) -> Signal:
        absent = missing(self, evidence)
        if absent is not None:
            return absent
        today = evidence.judged_on
        refused = [self._refusal(i, image) for i, image in enumerate(evidence.documents_rgb, start=1)]
        good = [number for number, reason in enumerate(refused, start=1) if reason is None]
        if not good:
            return abstain(self, *(reason for reason in refused if reason is not None))
        pages = [read_page(evidence.documents_rgb[number - 1], today=today, threads=self.threads) for number in good]
        if not any(page.mrz or page.lines for page in pages):
            return abstain(self, Reason("document_unreadable", "no text could be read on any page"))
        best = max(pages, key=_worth)
        claims: Mapping[str, Agreement] = {}
        printed: Mapping[str, Agreement] = {}
        if best.mrz is not None:
            claims = compare_claims(best.mrz, evidence.submission.claims, self.limits)
            printed = compare_visual_zone(best.mrz, [line for page in pages for line in page.lines], self.limits)
        portrait = next((page for page in pages if page.portrait is not None), None)
        reasons = tuple(_reasons(best.mrz, claims, printed, today, has_portrait=portrait is not None))
        clean = math.prod(1.0 - self.findings[code] for code in {"prior", *(r.code for r in reasons)})
        facts: dict[str, Any] = {
            # What the zone says stays out of the facts: they end in logs and journals, and the picture has it.
            "today": today.isoformat(),
            "mrz": None if best.mrz is None else _mrz_facts(best.mrz),
            "claims": {k: str(v) for k, v in claims.items()},
            "printed": {k: str(v) for k, v in printed.items()},
            "pages": [{"page": number, **_page_facts(page)} for number, page in zip(good, pages, strict=True)],
        }
        # Boxes lie in the page turned upright: document number ``*_page``, turned by its ``quarter_turns``.
        artefacts = {}
        if best.mrz_xyxy is not None:
            facts["mrz_page"], artefacts["mrz_xyxy"] = good[pages.index(best)], best.mrz_xyxy
        if portrait is not None and portrait.portrait is not None:
            facts["portrait_page"], artefacts["portrait_xyxy"] = good[pages.index(portrait)], portrait.portrait.box_xyxy
        return Signal(
            detector=self.name,
            version=self.version,
            score=1.0 - clean,
            quality=best.mrz_confidence if best.mrz else _confidence(best),
            reasons=reasons,
            facts=MappingProxyType(facts),
            artefacts=MappingProxyType(artefacts),
        )

    def _refusal(self, number: int, image_rgb: UInt8Array) -> Reason | None:
        """Why page ``number`` is not worth reading, if so."""
        side = min(image_rgb.shape[:2])
        if side < self.min_side_px:
            return Reason("document_unreadable", f"page {number} is {side} px on its shorter side, {self.min_side_px:.0f} are needed")
        sharp = sharpness(image_rgb)
        if sharp < self.min_sharpness:
            return Reason("document_unreadable", f"page {number} is blurred: sharpness {sharp:.0f}, {self.min_sharpness:.0f} is needed")
        return None


def _reasons(
    zone: Mrz | None, claims: Mapping[str, Agreement], printed: Mapping[str, Agreement], today: date, *, has_portrait: bool
) -> Iterator[Reason]:
    if zone is None:
        yield Reason("document_no_mrz", "no machine-readable zone was found on any page")
    else:
        if zone.failed_checks:
            yield Reason(
                "document_mrz_check_digit", f"wrong check digit: {', '.join(zone.failed_checks)}; a misreading is likelier than fraud"
            )
        for field, value in (("birth_date", zone.birth_date), ("expiry_date", zone.expiry_date)):
            if zone.checks[field] and not value.valid:
                yield Reason("document_invalid_date", f"{field} is no calendar date although its check digit holds")
        if zone.checks["birth_date"] and zone.checks["expiry_date"] and zone.birth_date.iso > zone.expiry_date.iso:
            yield Reason("document_invalid_date", "birth_date lies after expiry_date")
        if zone.checks["expiry_date"] and zone.expiry_date.passed(today):
            yield Reason("document_expired", f"expired on {zone.expiry_date.iso}")
    for field, agreement in claims.items():
        if agreement is Agreement.DIFFERENT:
            yield Reason("document_claim_mismatch", f"claims.{field} contradicts the machine-readable zone")
        elif agreement is Agreement.UNSURE:
            yield Reason(
                "document_unreadable_field", f"claims.{field} and the machine-readable zone differ, but a misreading would explain it"
            )
    for field, agreement in printed.items():
        if agreement is Agreement.DIFFERENT:
            yield Reason("document_visual_mismatch", f"the printed {field} is not that of the machine-readable zone")
    if not has_portrait:
        yield Reason("document_no_portrait", "no portrait was found on any page")


def _worth(page: Page) -> tuple[bool, tuple[int, int], float]:
    return page.mrz is not None, (0, 0) if page.mrz is None else page.mrz.merit, _confidence(page)


def _confidence(page: Page) -> float:
    return float(np.mean([line.confidence for line in page.lines])) if page.lines else 0.0


def _mrz_facts(zone: Mrz) -> dict[str, Any]:
    return {
        "format": zone.format,
        "issuing_state": zone.issuing_state,
        "checks": dict(zone.checks),
        "repaired": zone.repaired,
        "names_truncated": zone.names_truncated,
    }


def _page_facts(page: Page) -> dict[str, Any]:
    return {
        "has_mrz": page.mrz is not None,
        "has_portrait": page.portrait is not None,
        "portrait_px": None if page.portrait is None else round(page.portrait.quality.size_px, 1),
        "quarter_turns": page.quarter_turns,
        "text_lines": len(page.lines),
    }


def _probabilities(table: Mapping[str, Any], part: str, names: Sequence[str], thresholds: Thresholds) -> dict[str, float]:
    values = table.get(part)
    for name in names:
        value = values.get(name) if isinstance(values, Mapping) else None
        if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise ConfigError(
                f"{thresholds.path}: [document.{part}] needs {name} in [0, 1]. "
                "Remedy: python -m training.thresholds training/configs/document.toml"
            )
    assert isinstance(values, Mapping)
    return {name: float(values[name]) for name in names}
