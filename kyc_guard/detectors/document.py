"""Is the document legible, valid, of one mind with itself and with what the applicant typed, and what it looks like?

Most of it is deterministic: check digits, dates, spellings; what each such finding is worth stands in ``[document.findings]`` of
thresholds.toml. Beside it stand four suspicions about the picture (`kyc_guard.documents.doubt`), each with its own P(attack), which
count from their points on. No check proves a document genuine, so the score, a noisy-or of all findings, is a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from itertools import combinations
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kyc_guard.calibration import noisy_or
from kyc_guard.config import Limits as MediaLimits
from kyc_guard.config import Thresholds
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.documents.barcode import Barcode, read_barcodes
from kyc_guard.documents.certificates import TrustList
from kyc_guard.documents.chip import REASONS as CHIP_REASONS
from kyc_guard.documents.chip import Chip, read_chip
from kyc_guard.documents.consistency import Agreement, Limits, compare_claims, compare_identities, compare_visual_zone
from kyc_guard.documents.doubt import Doubt, Doubts
from kyc_guard.documents.geometry import glare_share
from kyc_guard.documents.identity import Identity
from kyc_guard.documents.mrz import Mrz
from kyc_guard.documents.page import Page, read_page, sharpness
from kyc_guard.errors import ConfigError
from kyc_guard.types import Evidence, Face, Float32Array, Modality, Reason, Signal, UInt8Array

FINDINGS = (
    "document_no_mrz",
    "document_mrz_partial",
    "document_mrz_check_digit",
    "document_invalid_date",
    "document_expired",
    "document_claim_mismatch",
    "document_unreadable_field",
    "document_glare",
    "document_cropped",
    "document_visual_mismatch",
    "document_barcode_mismatch",
    "document_chip_mismatch",
    "document_no_portrait",
    *CHIP_REASONS,
)
"""The reasons a page that was read may give; each needs its probability in thresholds.toml, beside ``prior``."""
DOUBTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "recapture": ("document_recapture", "looks photographed from a screen or a print"),
        "portrait": ("document_portrait_replaced", "the portrait looks pasted in"),
        "text": ("document_text_altered", "a line looks written later than the others"),
        "generated": ("document_generated", "looks rendered or generated, not photographed"),
    }
)
"""Kind of `Doubt` -> its reason and what it says."""


@dataclass(frozen=True, slots=True)
class Document:
    """Reads every page, takes the best zone, and holds it against itself, barcodes, the chip, the print, the claims and the calendar.

    The page with the portrait, or the best one, is doubted.
    """

    limits: Limits
    findings: Mapping[str, float]
    doubts: Doubts
    min_side_px: float
    min_sharpness: float
    max_glare: float
    media_limits: MediaLimits
    trust: TrustList | None = None
    """Whom chips are held against; ``None`` = the operator named nobody, so no chip is trusted."""
    name: str = "document"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.DOCUMENT})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("document")
        return cls(
            limits=Limits(**_probabilities(table, "limits", [f.name for f in fields(Limits)], bundle.thresholds)),
            findings=MappingProxyType(_probabilities(table, "findings", ["prior", *FINDINGS], bundle.thresholds)),
            doubts=Doubts.from_table(bundle.thresholds.table("document_doubt"), bundle.policy.gate("document_doubt_min_px")),
            min_side_px=bundle.policy.gate("document_min_side_px"),
            min_sharpness=bundle.policy.gate("document_min_sharpness"),
            max_glare=bundle.policy.gate("document_max_glare"),
            media_limits=bundle.settings.limits,
            trust=None if bundle.settings.csca_dir is None else TrustList.load(bundle.settings.csca_dir),
        )

    def __call__(self, evidence: Evidence) -> Signal:
        absent = missing(self, evidence)
        if absent is not None:
            return absent
        today = evidence.judged_on
        images = evidence.pages_rgb
        portraits = {} if evidence.portrait is None else {evidence.portrait.page + 1: evidence.portrait}
        refused = [self._refusal(i, image) for i, image in enumerate(images, start=1)]
        good = [number for number, reason in enumerate(refused, start=1) if reason is None]
        if not good:
            return abstain(self, *(reason for reason in refused if reason is not None))
        pages = [read_page(images[number - 1], today=today, portrait=portraits.get(number)) for number in good]
        if not any(page.mrz or page.lines for page in pages):
            return abstain(self, Reason("document_unreadable", "no text could be read on any page"))
        best = max(pages, key=_worth)
        chip = read_chip(evidence.chip, self.trust, today=today, limits=self.media_limits) if evidence.chip else None
        barcodes = [(number, code) for number in good for code in read_barcodes(images[number - 1], today=today)]
        sources = tuple(_sources(chip, [code for _, code in barcodes], best.mrz))
        agreements = _Agreements(
            claims=compare_claims(sources[0], evidence.submission.claims, self.limits) if sources else {},
            printed=compare_visual_zone(sources[0], [line for page in pages for line in page.lines], self.limits) if sources else {},
            crossed=tuple((a, b, compare_identities(a, b, self.limits)) for a, b in combinations(sources, 2)),
        )
        portrait = next((page for page in pages if page.portrait is not None), None)
        found = tuple(_reasons(best.mrz, sources, today, has_portrait=portrait is not None))
        doubted = best if portrait is None else portrait
        lines_xyxy = np.array([line.box_xyxy for line in doubted.lines], np.float32).reshape(-1, 4)
        doubts = self.doubts(doubted.image_rgb, lines_xyxy, _mesh_box(doubted.portrait))
        unread = {"document_no_mrz", "document_mrz_partial", "document_mrz_check_digit"} & {r.code for r in found}
        reasons = (
            *found,
            *(self._mendable(zip(good, pages, strict=True)) if unread else ()),
            *(_unsure(best.mrz, agreements, self.limits) if best.mrz is not None else ()),
            *agreements.reasons(),
            *(() if chip is None else chip.reasons),
            *(Reason(DOUBTS[d.kind][0], f"{DOUBTS[d.kind][1]}: {', '.join(d.strongest)}") for d in doubts if d.is_finding),
        )
        facts: dict[str, Any] = {
            # What the document says stays out of the facts: they end in logs and journals, and the picture has it.
            "today": today.isoformat(),
            "mrz": None if best.mrz is None else _mrz_facts(best.mrz),
            "chip": None if chip is None else dict(chip.facts),
            "barcodes": [{"page": number, "kind": code.kind, "names_holder": code.identity is not None} for number, code in barcodes],
            **agreements.facts(),
            "pages": [{"page": number, **_page_facts(page)} for number, page in zip(good, pages, strict=True)],
            "doubts": {d.kind: round(d.probability, 4) for d in doubts},
            "doubted_page": good[pages.index(doubted)],
        }
        # Boxes lie in the page turned upright: of `Evidence.pages_rgb` number ``*_page``, turned by its ``quarter_turns``.
        artefacts: dict[str, NDArray[Any]] = {}
        if best.mrz_xyxy is not None:
            facts["mrz_page"], artefacts["mrz_xyxy"] = good[pages.index(best)], best.mrz_xyxy
        for doubt in doubts:
            if doubt.is_finding and doubt.line is not None:
                facts["altered_page"], artefacts["altered_xyxy"] = facts["doubted_page"], lines_xyxy[doubt.line]
        if portrait is not None and portrait.portrait is not None:
            facts["portrait_page"], artefacts["portrait_xyxy"] = good[pages.index(portrait)], portrait.portrait.box_xyxy
            facts["portrait_px"] = round(portrait.portrait.quality.size_px, 1)
        if chip is not None and chip.portrait_rgb is not None:
            artefacts["chip_portrait_rgb"] = chip.portrait_rgb
        return Signal(
            detector=self.name,
            version=self.version,
            score=noisy_or({**self.findings, **_probability_of(doubts)}, reasons),
            quality=best.mrz_confidence if best.mrz else _confidence(best),
            reasons=reasons,
            facts=MappingProxyType(facts),
            artefacts=MappingProxyType(artefacts),
        )

    def _refusal(self, number: int, image_rgb: UInt8Array) -> Reason | None:
        """Why page ``number`` is not worth reading, if so."""
        side = min(image_rgb.shape[:2])
        if side < self.min_side_px:
            return Reason("document_too_small", f"page {number} is {side} px on its shorter side, {self.min_side_px:.0f} are needed")
        sharp = sharpness(image_rgb)
        if sharp < self.min_sharpness:
            return Reason("document_blurred", f"page {number} has sharpness {sharp:.0f}, {self.min_sharpness:.0f} is needed")
        return None

    def _mendable(self, pages: Iterable[tuple[int, Page]]) -> Iterator[Reason]:
        """What the applicant can do about a zone that was not read."""
        for number, page in pages:
            if (share := glare_share(page.image_rgb)) > self.max_glare:
                yield Reason("document_glare", f"{share:.0%} of page {number} is burnt out")
            if any(page.cuts(line) for line in page.lines):
                yield Reason("document_cropped", f"print runs out of page {number}")


def _mesh_box(portrait: Face | None) -> Float32Array | None:
    if portrait is None:
        return None
    mesh = portrait.landmarks_px[:, :2]
    return np.asarray(np.concatenate([mesh.min(axis=0), mesh.max(axis=0)]), np.float32)


def _probability_of(doubts: Iterable[Doubt]) -> dict[str, float]:
    return {DOUBTS[d.kind][0]: d.probability for d in doubts if d.is_finding}


def _sources(chip: Chip | None, barcodes: Sequence[Barcode], zone: Mrz | None) -> Iterator[Identity]:
    """Everybody who names the holder; first who is hardest to misread and to forge."""
    if chip is not None and chip.zone is not None:
        yield Identity.of_zone(chip.zone, "chip", by_ocr=False)
    yield from (code.identity for code in barcodes if code.identity is not None)
    if zone is not None:
        yield Identity.of_zone(zone)


def _reasons(zone: Mrz | None, sources: Sequence[Identity], today: date, *, has_portrait: bool) -> Iterator[Reason]:
    if all(source.source == "chip" for source in sources):
        yield Reason("document_no_mrz", "neither a machine-readable zone nor a barcode that names the holder was found on any page")
    if zone is not None and not zone.surname:
        yield Reason("document_mrz_partial", f"the line of names of the {zone.format} zone was not read")
    if zone is not None and zone.failed_checks:
        yield Reason("document_mrz_check_digit", f"wrong check digit: {', '.join(zone.failed_checks)}; a misreading is likelier than fraud")
    for source in sources:
        for field, value in (("birth_date", source.birth_date), ("expiry_date", source.expiry_date)):
            if field in source.sure and not value.valid:
                yield Reason("document_invalid_date", f"{field} of the {source.source} is no calendar date, and no misreading")
        if {"birth_date", "expiry_date"} <= source.sure and source.birth_date.iso > source.expiry_date.iso:
            yield Reason("document_invalid_date", f"birth_date of the {source.source} lies after expiry_date")
    if sources and "expiry_date" in sources[0].sure and sources[0].expiry_date.passed(today):
        yield Reason("document_expired", f"expired on {sources[0].expiry_date.iso}")
    if not has_portrait:
        yield Reason("document_no_portrait", "no portrait was found on any page")


def _unsure(zone: Mrz, agreements: _Agreements, limits: Limits) -> Iterator[Reason]:
    """Fields that were doubtfully read where no check digit decides, and confirmed by nothing else."""
    for field in ("surname", "given_names", "document_number", "issuing_state", "nationality", "sex"):
        told = [agreements.printed.get(field), *(fields_.get(field) for _, _, fields_ in agreements.crossed)]
        if zone.confidence.get("names" if field in {"surname", "given_names"} else field, 1.0) < limits.character and (
            Agreement.SAME not in told
        ):
            yield Reason("document_unreadable_field", f"{field} of the machine-readable zone was hard to read")


@dataclass(frozen=True, slots=True)
class _Agreements:
    """What the sources say of one another, of the print, and of the form."""

    claims: Mapping[str, Agreement]
    printed: Mapping[str, Agreement]
    crossed: tuple[tuple[Identity, Identity, Mapping[str, Agreement]], ...]

    def reasons(self) -> Iterator[Reason]:
        for field, agreement in self.claims.items():
            if agreement is Agreement.DIFFERENT:
                yield Reason("document_claim_mismatch", f"claims.{field} contradicts the document")
            elif agreement is Agreement.UNSURE:
                yield Reason("document_unreadable_field", f"claims.{field} and the document differ, but a misreading would explain it")
        for field, agreement in self.printed.items():
            if agreement is Agreement.DIFFERENT:
                yield Reason("document_visual_mismatch", f"the printed {field} is not that of the machine-readable part")
        for a, b, fields_ in self.crossed:
            code = "document_chip_mismatch" if "chip" in {a.source, b.source} else "document_barcode_mismatch"
            for field, agreement in fields_.items():
                if agreement is Agreement.DIFFERENT:
                    yield Reason(code, f"{field} of the {a.source} contradicts that of the {b.source}")
                elif agreement is Agreement.UNSURE:
                    yield Reason(
                        "document_unreadable_field", f"{field} of {a.source} and {b.source} differ, but a misreading would explain it"
                    )

    def facts(self) -> dict[str, Any]:
        return {
            "claims": _told(self.claims),
            "printed": _told(self.printed),
            "crossed": {f"{a.source} / {b.source}": _told(fields_) for a, b, fields_ in self.crossed},
        }


def _told(agreements: Mapping[str, Agreement]) -> dict[str, str]:
    return {field: str(agreement) for field, agreement in agreements.items()}


def _worth(page: Page) -> tuple[bool, tuple[int, bool, int], float]:
    return page.mrz is not None, (0, False, 0) if page.mrz is None else page.mrz.merit, _confidence(page)


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
