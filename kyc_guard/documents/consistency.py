"""Do zone, barcode, chip, print and what the applicant typed agree? Misreading is kept apart from contradiction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType

from kyc_guard.documents.dates import PartialDate, dates_in
from kyc_guard.documents.identity import Identity
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
    character: float
    """A character of the zone read with less chance is doubtful."""


# ICAO 9303-3 part B: the one issuing state whose zone code is not its ISO 3166 code.
_ZONE_CODES = {"D": "DEU"}


def compare_claims(named: Identity, claims: Mapping[str, str], limits: Limits) -> Mapping[str, Agreement]:
    """Claim name -> agreement with a source, for every claim the source can speak to."""
    compared: dict[str, Agreement] = {}
    for name, claim in claims.items():
        match name:
            case "surname" if named.surname:
                compared[name] = _names(spellings(claim), named.surname, limits, cut=named.names_cut)
            case "given_names" if named.given_names or named.surname:
                # Some issuers set no double filler; then all names stand in the surname.
                compared[name] = _names(spellings(claim), named.given_names or named.surname, limits, cut=named.names_cut)
            case "document_number":
                compared[name] = _exact(fold(claim) == fold(named.document_number), sure=name in named.sure)
            case "birth_date":
                compared[name] = _claimed_date(claim, named.birth_date, sure=name in named.sure)
            case "expiry_date":
                compared[name] = _claimed_date(claim, named.expiry_date, sure=name in named.sure)
            case "nationality" if named.nationality:
                compared[name] = _graded(similarity(claim.upper(), _ZONE_CODES.get(named.nationality, named.nationality)), 1.0, limits)
            case "sex" if named.sex:
                known = {claim.upper(), named.sex} <= {"M", "F"}
                compared[name] = _exact(claim.upper() == named.sex, sure=known)
            case _:
                continue
    return MappingProxyType(compared)


def compare_identities(a: Identity, b: Identity, limits: Limits) -> Mapping[str, Agreement]:
    """Field -> agreement of two sources, for the fields both state."""
    compared: dict[str, Agreement] = {}
    for name in ("surname", "given_names"):
        cut = a.names_cut or b.names_cut
        mine, theirs = getattr(a, name), getattr(b, name)
        if mine and theirs:
            compared[name] = _names((mine,), theirs, limits, cut=cut)
    for name in ("birth_date", "expiry_date"):
        mine, theirs = getattr(a, name), getattr(b, name)
        if mine.valid and theirs.valid:
            compared[name] = _exact(mine.may_be(theirs), sure=name in a.sure & b.sure)
    if a.document_number and b.document_number:
        equal = fold(a.document_number) == fold(b.document_number)
        compared["document_number"] = _exact(equal, sure="document_number" in a.sure & b.sure)
    if a.nationality and b.nationality:
        compared["nationality"] = _graded(similarity(a.nationality, b.nationality), 1.0, limits)
    if {a.sex, b.sex} <= {"M", "F"}:
        compared["sex"] = _exact(a.sex == b.sex, sure=True)
    return MappingProxyType(compared)


def _exact(equal: bool, *, sure: bool) -> Agreement:
    if equal:
        return Agreement.SAME
    return Agreement.DIFFERENT if sure else Agreement.UNSURE


def _graded(alike: float, same: float, limits: Limits) -> Agreement:
    if alike >= same:
        return Agreement.SAME
    return Agreement.DIFFERENT if alike < limits.different else Agreement.UNSURE


def _names(spelt: Iterable[str], read: str, limits: Limits, *, cut: bool) -> Agreement:
    """Agreement of the best of several spellings; with ``cut`` the shorter name may be the beginning of the longer."""
    tried = [(s, read) for s in spelt]
    if cut:
        tried += [(s[: len(read)], read[: len(s)]) for s, _ in tried]
    return _graded(max((name_similarity(s, r) for s, r in tried), default=0.0), limits.same, limits)


def name_similarity(a: str, b: str) -> float:
    """0..1; one of several given names, or of two surnames, is enough: people leave some out and zones cut them off."""
    few, many = sorted((a.split(), b.split()), key=len)
    if not few:
        return 0.0
    parts = sum(max(similarity(x, y) for y in many) for x in few) / len(few)
    return max(parts, similarity(a.replace(" ", ""), b.replace(" ", "")))


def _claimed_date(claim: str, read: PartialDate, *, sure: bool) -> Agreement:
    try:
        claimed = date.fromisoformat(claim)
    except ValueError:
        return Agreement.UNSURE
    return _exact(read.agrees(claimed), sure=sure and read.valid)


def compare_visual_zone(named: Identity, lines: Sequence[TextLine], limits: Limits) -> Mapping[str, Agreement]:
    """Field -> agreement of a source and the print, for the fields that could be told apart from the rest of the print.

    A field is SAME where its value stands somewhere in print; DIFFERENT where legible print is nearly but not quite it, or
    where a legible label introduces another date. Fields that cannot be found are left out.
    """
    legible = [line for line in lines if line.confidence >= limits.text_confidence]
    looked = {
        "document_number": _visual_number(named, lines, legible, limits),
        "surname": _visual_name(named.surname, lines, legible, limits),
        "given_names": _visual_name(named.given_names, lines, legible, limits),
        "birth_date": _visual_date(named.birth_date, "birth_date" in named.sure, lines, legible, _BIRTH),
        "expiry_date": _visual_date(named.expiry_date, "expiry_date" in named.sure, lines, legible, _EXPIRY),
    }
    return MappingProxyType({field: agreement for field, agreement in looked.items() if agreement is not None})


def _visual_number(named: Identity, lines: Sequence[TextLine], legible: Sequence[TextLine], limits: Limits) -> Agreement | None:
    wanted = fold(named.document_number)
    if not wanted:
        return None
    if any(wanted in fold(line.text) for line in lines):
        return Agreement.SAME
    words = {fold(word) for line in legible for word in (*line.text.split(), line.text)}
    near = any(len(word) == len(wanted) and similarity(word, wanted) >= limits.visual_near for word in words)
    return Agreement.DIFFERENT if near and "document_number" in named.sure else None


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
    wanted: PartialDate, sure: bool, lines: Sequence[TextLine], legible: Sequence[TextLine], labels: Sequence[str]
) -> Agreement | None:
    if not wanted.valid:
        return None
    if any(wanted.agrees(d) for line in lines for d in dates_in(line.text)):
        return Agreement.SAME
    other = [d for line in legible if any(x in transliterate(line.text) for x in labels) for d in _introduced(line, legible)]
    return Agreement.DIFFERENT if other and sure else None


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
