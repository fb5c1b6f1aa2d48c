"""Whom a document names, whatever named him: the zone, a barcode or the chip."""

from __future__ import annotations

from dataclasses import dataclass

from kyc_guard.documents.dates import PartialDate
from kyc_guard.documents.mrz import Mrz

_ALL = frozenset({"surname", "given_names", "document_number", "nationality", "birth_date", "sex", "expiry_date"})


@dataclass(frozen=True, slots=True)
class Identity:
    """One source's account of the holder.

    Attributes:
        source: how findings call it, such as "machine-readable zone".
        surname, given_names: as `transliterate` spells them.
        nationality: as zones spell it; empty where the source does not say.
        sex: M, F, X, or empty.
        sure: fields that cannot have been misread: what contradicts them is another value, not another reading.
        names_cut: the names may go on.
    """

    source: str
    surname: str
    given_names: str
    document_number: str
    nationality: str
    birth_date: PartialDate
    sex: str
    expiry_date: PartialDate
    sure: frozenset[str] = _ALL
    names_cut: bool = False

    @classmethod
    def of_zone(cls, zone: Mrz, source: str = "machine-readable zone", *, by_ocr: bool = True) -> Identity:
        """The zone's account; read by OCR, only what a check digit confirms is sure."""
        return cls(
            source=source,
            surname=zone.surname,
            given_names=zone.given_names,
            document_number=zone.document_number,
            nationality=zone.nationality,
            birth_date=zone.birth_date,
            sex=zone.sex,
            expiry_date=zone.expiry_date,
            sure=frozenset(name for name, holds in zone.checks.items() if holds) if by_ocr else _ALL,
            names_cut=zone.names_truncated,
        )
