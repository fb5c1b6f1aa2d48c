"""Does the zone agree with what the applicant typed and with what is printed above it? Misreading is kept apart from contradiction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType

from kyc_guard.documents.dates import PartialDate, dates_in
from kyc_guard.documents.mrz import Mrz
from kyc_guard.documents.names import fold, similarity, spellings, transliterate
from kyc_guard.documents.ocr import TextLine


class Agreement(StrEnum):
    """SAME; UNSURE = a misreading explains the difference; DIFFERENT = it does not."""

    SAME = "same"
    UNSURE = "unsure"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Limits:
    """``[document.limits]`` of thresholds.toml. All are 0..1."""

    same: float
    """Two spellings at least this similar are one name."""
    different: float
    """Below this similarity no misreading explains the difference."""
    visual_near: float
    """A printed text at least this similar to the zone's, yet not equal, is the same field with another value."""
    text_confidence: float
    """Printed text read with less confidence proves nothing."""


# ICAO 9303-3 part B: the one issuing state whose zone code is not its ISO 3166 code.
_ZONE_CODES = {"D": "DEU"}


def compare_claims(zone: Mrz, claims: Mapping[str, str], limits: Limits) -> Mapping[str, Agreement]:
    """Claim name -> agreement with the zone, for every claim a zone can speak to."""
    compared: dict[str, Agreement] = {}
    for name, claim in claims.items():
        match name:
            case "surname":
                compared[name] = _names(claim, zone.surname, limits)
            case "given_names":
                # Some issuers set no double filler; then all names stand in the surname.
                compared[name] = _names(claim, zone.given_names or zone.surname, limits)
            case "document_number":
                compared[name] = _exact(fold(claim) == fold(zone.document_number), sound=zone.checks["document_number"])
            case "birth_date":
                compared[name] = _dates(claim, zone.birth_date, sound=zone.checks["birth_date"])
            case "expiry_date":
                compared[name] = _dates(claim, zone.expiry_date, sound=zone.checks["expiry_date"])
            case "nationality":
                compared[name] = _graded(similarity(claim.upper(), _ZONE_CODES.get(zone.nationality, zone.nationality)), 1.0, limits)
            case "sex":
                known = {claim.upper(), zone.sex} <= {"M", "F"}
                compared[name] = _exact(claim.upper() == zone.sex, sound=known)
            case _:
                continue
    return MappingProxyType(compared)


def _exact(equal: bool, *, sound: bool) -> Agreement:
    if equal:
        return Agreement.SAME
    return Agreement.DIFFERENT if sound else Agreement.UNSURE


def _graded(alike: float, same: float, limits: Limits) -> Agreement:
    if alike >= same:
        return Agreement.SAME
    return Agreement.DIFFERENT if alike < limits.different else Agreement.UNSURE


def _names(claim: str, read: str, limits: Limits) -> Agreement:
    return _graded(max((name_similarity(s, read) for s in spellings(claim)), default=0.0), limits.same, limits)


def name_similarity(a: str, b: str) -> float:
    """0..1; one of several given names, or of two surnames, is enough: people leave some out and zones cut them off."""
    few, many = sorted((a.split(), b.split()), key=len)
    if not few:
        return 0.0
    parts = sum(max(similarity(x, y) for y in many) for x in few) / len(few)
    return max(parts, similarity(a.replace(" ", ""), b.replace(" ", "")))


def _dates(claim: str, read: PartialDate, *, sound: bool) -> Agreement:
    try:
        claimed = date.fromisoformat(claim)
    except ValueError:
        return Agreement.UNSURE
    return _exact(read.agrees(claimed), sound=sound and read.valid)


def compare_visual_zone(zone: Mrz, lines: Sequence[TextLine], limits: Limits) -> Mapping[str, Agreement]:
    """Field -> agreement of zone and print, for the fields that could be told apart from the rest of the print.

    A field is SAME where its value stands somewhere in print; DIFFERENT where legible print is nearly but not quite it, or
    where a legible label introduces another date. Fields that cannot be found are left out.
    """
    legible = [line for line in lines if line.confidence >= limits.text_confidence]
    looked = {
        "document_number": _visual_number(zone, lines, legible, limits),
        "surname": _visual_name(zone.surname, lines, legible, limits),
        "given_names": _visual_name(zone.given_names, lines, legible, limits),
        "birth_date": _visual_date(zone.birth_date, zone.checks["birth_date"], lines, legible, _BIRTH),
        "expiry_date": _visual_date(zone.expiry_date, zone.checks["expiry_date"], lines, legible, _EXPIRY),
    }
    return MappingProxyType({field: agreement for field, agreement in looked.items() if agreement is not None})


def _visual_number(zone: Mrz, lines: Sequence[TextLine], legible: Sequence[TextLine], limits: Limits) -> Agreement | None:
    wanted = fold(zone.document_number)
    if not wanted:
        return None
    if any(wanted in fold(line.text) for line in lines):
        return Agreement.SAME
    words = {fold(word) for line in legible for word in (*line.text.split(), line.text)}
    near = any(len(word) == len(wanted) and similarity(word, wanted) >= limits.visual_near for word in words)
    return Agreement.DIFFERENT if near and zone.checks["document_number"] else None


def _visual_name(name: str, lines: Sequence[TextLine], legible: Sequence[TextLine], limits: Limits) -> Agreement | None:
    if not name:
        return None
    if any(f" {name} " in f" {printed} " for line in lines for printed in spellings(line.text)):
        return Agreement.SAME
    near = any(similarity(printed, name) >= limits.visual_near for line in legible for printed in spellings(line.text))
    return Agreement.DIFFERENT if near else None


# What labels call the two dates in the languages of most travel documents, as `transliterate` spells them.
_BIRTH = ("BIRTH", "NAISSANCE", "GEBURT", "NACIMIENTO", "NASCITA", "NASCIMENTO", "NAROZENI", "RODENJA", "URODZENIA", "ROZHDENIIA")
_EXPIRY = ("EXPIRY", "EXPIR", "VALID UNTIL", "GUELTIG BIS", "GULTIG BIS", "CADUCIDAD", "SCADENZA", "VALIDADE", "WAZNOSCI", "PLATNOST")


def _visual_date(
    wanted: PartialDate, sound: bool, lines: Sequence[TextLine], legible: Sequence[TextLine], labels: Sequence[str]
) -> Agreement | None:
    if not wanted.valid:
        return None
    if any(wanted.agrees(d) for line in lines for d in dates_in(line.text)):
        return Agreement.SAME
    other = [d for line in legible if any(x in transliterate(line.text) for x in labels) for d in _introduced(line, legible)]
    return Agreement.DIFFERENT if other and sound else None


def _introduced(label: TextLine, lines: Sequence[TextLine]) -> Iterator[date]:
    """The dates on the label's own line or on the one right below it."""
    yield from dates_in(label.text)
    below = [
        line
        for line in lines
        if label.middle_px < line.middle_px < label.middle_px + 2 * label.height_px
        and min(line.box_xyxy[2], label.box_xyxy[2]) > max(line.box_xyxy[0], label.box_xyxy[0])
    ]
    if below:
        yield from dates_in(min(below, key=lambda line: line.middle_px).text)
