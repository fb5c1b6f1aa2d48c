"""The chip of an electronic document, from the files a phone read out of it: is it what a state signed, and whom does it name?

Passive authentication. EF.SOD holds the hash of every data group, signed by a document signer whom a country certificate vouches
for. It proves that DG1 (the zone) and DG2 (the portrait) are unchanged since the state wrote them; it does not prove that they
come from the chip of the document in the picture: a chip's data can be copied, so the zone in print and the face have to match.

    read_chip({"sod": ..., "dg1": ..., "dg2": ...}, trust, today=..., limits=...) -> Chip

Source: ICAO Doc 9303, parts 10 (data groups), 11 (5.1, passive authentication) and 12; ISO/IEC 19794-5 (portraits).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Any, ClassVar, Self

from asn1crypto import algos, cms, core, parser

from kyc_guard.config import Limits
from kyc_guard.documents import mrz
from kyc_guard.documents.certificates import ASN1_ERRORS, TrustList, may_sign_documents, permitted_hash, signature_holds, valid_on
from kyc_guard.documents.mrz import Mrz
from kyc_guard.documents.zone_layouts import FORMATS
from kyc_guard.errors import InputError
from kyc_guard.faces import face_finder
from kyc_guard.media import read_image
from kyc_guard.types import Evidence, Reason, UInt8Array

_SECURITY_OBJECT = "2.23.136.1.1.1"
"""id-icao-mrtd-security-ldsSecurityObject: what a document signer signs; the same key must not vouch for anything else."""


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """What a chip says, and what is wrong with it.

    Attributes:
        zone: DG1; ``None`` where it cannot be read. Nothing in it was read by OCR.
        portrait_rgb: DG2, (H, W, 3) uint8 RGB; ``None`` where it was not sent or cannot be read.
        reasons: see `REASONS`; empty = a trusted state signed exactly this.
        facts: JSON-able, about the signature; nothing about the holder.
    """

    zone: Mrz | None
    portrait_rgb: UInt8Array | None
    reasons: tuple[Reason, ...]
    facts: Mapping[str, Any]


REASONS = (
    "document_chip_unreadable",
    "document_chip_portrait_unreadable",
    "document_chip_altered",
    "document_chip_forged",
    "document_chip_untrusted",
    "document_chip_expired",
    "document_chip_revoked",
    "document_chip_revocation_unknown",
)


def read_chip(files: Mapping[str, bytes], trust: TrustList | None, *, today: date, limits: Limits) -> Chip:
    """Authenticate and read the files of a chip. Bad bytes are a reason, never an exception.

    Args:
        files: ``sod`` and ``dg1`` .. ``dg16`` -> content of the elementary file, as read.
        trust: the operator's country certificates; without them no signature can be traced to a state.
        today: certificates must be valid on this day.
        limits: of the portrait's pixels.
    """
    reasons: list[Reason] = []
    facts: dict[str, Any] = {"data_groups": sorted(files.keys() - {"sod"}), "trust_sha256": None if trust is None else trust.sha256}
    zone: Mrz | None = None
    try:
        signed = _SecurityObject.parse(files["sod"])
    except ASN1_ERRORS as error:
        reasons.append(Reason("document_chip_unreadable", f"sod cannot be read ({error})"))
    else:
        try:
            facts |= {"hash": signed.hash_name, "signature": signed.algorithm.signature_algo, "issuer": signed.signer.issuer.human_friendly}
            reasons += [*_altered(signed, files), *_forged(signed), *_untrusted(signed.signer, trust, today)]
        except ASN1_ERRORS as error:
            # Reading it again would not help: an algorithm or a curve that may not be used.
            reasons.append(Reason("document_chip_untrusted", f"the signature cannot be verified ({error})"))
    try:
        zone = _zone(files["dg1"], today)
    except ASN1_ERRORS as error:
        reasons.append(Reason("document_chip_unreadable", f"dg1 cannot be read ({error})"))
    portrait = chip_portrait(files, limits)
    if isinstance(portrait, Reason):
        reasons.append(portrait)
    return Chip(zone, None if isinstance(portrait, Reason) else portrait, tuple(reasons), MappingProxyType(facts))


def chip_portrait(files: Mapping[str, bytes], limits: Limits) -> UInt8Array | Reason | None:
    """DG2 of the files of a chip, (H, W, 3) uint8 RGB; why it cannot be read; or ``None`` where it was not sent.

    Whether a state signed it is `read_chip`'s question.
    """
    if "dg2" not in files:
        return None
    try:
        return _portrait(files["dg2"], limits)
    except (*ASN1_ERRORS, struct.error, InputError) as error:
        return Reason("document_chip_portrait_unreadable", f"dg2 cannot be read ({error})")


def with_chip(evidence: Evidence, files: Mapping[str, bytes], limits: Limits) -> Evidence:
    """``evidence`` with these files of a chip, and the face in DG2 where that can be read; where it cannot, `read_chip` says why."""
    picture = chip_portrait(files, limits)
    found = None if picture is None or isinstance(picture, Reason) else (picture, next(iter(face_finder().find(picture)), None))
    return replace(evidence, chip=MappingProxyType(dict(files)), chip_portrait=found)


class _Digest(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[Any]] = [("number", core.Integer), ("value", core.OctetString)]


class _Digests(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Digest


class _VersionInfo(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[Any]] = [("lds", core.PrintableString), ("unicode", core.PrintableString)]


class _LdsSecurityObject(core.Sequence):  # type: ignore[misc]
    """Source: ICAO 9303-10, 4.6.2.3."""

    _fields: ClassVar[list[Any]] = [
        ("version", core.Integer),
        ("hash_algorithm", algos.DigestAlgorithm),
        ("digests", _Digests),
        ("version_info", _VersionInfo, {"optional": True}),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _SecurityObject:
    """EF.SOD taken apart; nothing in it is verified yet."""

    hash_name: str
    digests: Mapping[int, bytes]
    content: bytes
    """What the hashes stand in, as signed."""
    attributes: bytes
    """What was signed: the signer's attributes, one of them the hash of ``content``."""
    content_hash_name: str
    content_hash: bytes
    signer: Any
    """asn1crypto Certificate of the document signer."""
    algorithm: Any
    signature: bytes

    @classmethod
    def parse(cls, sod: bytes) -> Self:
        """Raises one of `ASN1_ERRORS` where the bytes are not an EF.SOD with one signer and its certificate."""
        message = cms.ContentInfo.load(_value(sod, b"\x77"), strict=True)
        if message["content_type"].native != "signed_data":
            raise ValueError(f"holds {message['content_type'].native}, not signed_data")
        data = message["content"]
        body = data["encap_content_info"]
        if body["content_type"].dotted != _SECURITY_OBJECT:
            raise ValueError(f"signs {body['content_type'].dotted}, no security object")
        (signer,) = data["signer_infos"]
        attributes = {one["type"].dotted: one["values"] for one in signer["signed_attrs"]}
        (content_type,) = attributes[_CONTENT_TYPE]
        (content_hash,) = attributes[_MESSAGE_DIGEST]
        if content_type.dotted != _SECURITY_OBJECT:
            raise ValueError("is signed as something else than a security object")
        content = body["content"].native
        listed = _LdsSecurityObject.load(content, strict=True)
        digests = {one["number"].native: one["value"].native for one in listed["digests"]}
        if len(digests) != len(listed["digests"]):
            raise ValueError("lists a data group twice")
        return cls(
            hash_name=str(listed["hash_algorithm"]["algorithm"].native),
            digests=MappingProxyType(digests),
            content=content,
            # Signed as a SET, stored under an implicit tag. Source: RFC 5652, 5.4.
            attributes=b"\x31" + signer["signed_attrs"].dump()[1:],
            content_hash_name=str(signer["digest_algorithm"]["algorithm"].native),
            content_hash=content_hash.native,
            signer=_signer(data["certificates"], signer["sid"]),
            algorithm=signer["signature_algorithm"],
            signature=signer["signature"].native,
        )


_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"


def _signer(certificates: Any, sid: Any) -> Any:
    """The certificate the signature names."""
    for one in (choice.chosen for choice in certificates if choice.name == "certificate"):
        if sid.name == "subject_key_identifier":
            if one.key_identifier == sid.chosen.native:
                return one
        elif one.serial_number == sid.chosen["serial_number"].native and one.issuer == sid.chosen["issuer"]:
            return one
    raise ValueError("does not hold its signer's certificate")


def _altered(signed: _SecurityObject, files: Mapping[str, bytes]) -> Iterator[Reason]:
    for name in sorted(files.keys() - {"sod"}):
        digest = signed.digests.get(int(name.removeprefix("dg")))
        if digest is None:
            yield Reason("document_chip_altered", f"{name} is not among the signed data groups")
        elif _digest(signed.hash_name, files[name]) != digest:
            yield Reason("document_chip_altered", f"{name} is not what was signed")


def _digest(hash_name: str, data: bytes) -> bytes:
    return hashlib.new(permitted_hash(hash_name).name, data).digest()


def _forged(signed: _SecurityObject) -> Iterator[Reason]:
    if _digest(signed.content_hash_name, signed.content) != signed.content_hash:
        yield Reason("document_chip_forged", "the list of hashes is not the one that was signed")
    key = signed.signer.public_key
    if not signature_holds(key, signed.algorithm, signed.signature, signed.attributes, hash_name=signed.content_hash_name):
        yield Reason("document_chip_forged", "the signature was not made by the document signer")


def _untrusted(signer: Any, trust: TrustList | None, today: date) -> Iterator[Reason]:
    if not may_sign_documents(signer):
        yield Reason("document_chip_untrusted", "the signer's certificate is not one of a document signer")
    issuer = None if trust is None else trust.issuer(signer)
    if trust is None or issuer is None:
        why = "KYC_GUARD_CSCA_DIR names no trusted countries" if trust is None else "no trusted country certificate issued the signer's"
        yield Reason("document_chip_untrusted", why)
        return
    for certificate, role in ((signer, "document signer"), (issuer, "country")):
        if not valid_on(certificate, today):
            yield Reason("document_chip_expired", f"the {role}'s certificate is not valid on {today.isoformat()}")
    revoked = trust.revoked(signer, today)
    if revoked:
        yield Reason("document_chip_revoked", "the country took the document signer's certificate back")
    elif revoked is None:
        yield Reason("document_chip_revocation_unknown", "no current revocation list of the country is in the trust folder")


def _elements(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(tag, value) of each BER-TLV element."""
    while data:
        _, _, _, header, content, trailer = parser.parse(data)
        yield header[: 2 if header[0] & 0x1F == 0x1F else 1], content
        data = data[len(header) + len(content) + len(trailer) :]


def _value(data: bytes, *path: bytes) -> bytes:
    """The first element under ``path``, a tag a level."""
    for tag in path:
        value = next((value for found, value in _elements(data) if found == tag), None)
        if value is None:
            raise ValueError(f"has no element {tag.hex()}")
        data = value
    return data


def _zone(dg1: bytes, today: date) -> Mrz:
    text = _value(dg1, b"\x61", b"\x5f\x1f").decode("ascii")
    width = {form.rows * form.width: form.width for form in FORMATS.values()}.get(len(text), len(text))
    zone = mrz.parse([text[i : i + width] for i in range(0, len(text), width)], today=today)
    if zone is None:
        raise ValueError("is no machine-readable zone")
    return zone


_FACIAL_RECORD = struct.Struct(">4s4sIH")
_FACIAL_INFORMATION = struct.Struct(">IH14x")
_FEATURE_POINT_BYTES = 8
_IMAGE_INFORMATION_BYTES = 12


def _portrait(dg2: bytes, limits: Limits) -> UInt8Array:
    """(H, W, 3) uint8 RGB: the first face of the first template."""
    template = _value(dg2, b"\x75", b"\x7f\x61", b"\x7f\x60")
    record = next((value for tag, value in _elements(template) if tag in {b"\x5f\x2e", b"\x7f\x2e"}), b"")
    magic, version, length, faces = _FACIAL_RECORD.unpack_from(record)
    if (magic, version) != (b"FAC\0", b"010\0") or faces < 1 or length > len(record):
        raise ValueError("holds no ISO/IEC 19794-5 portrait")
    start = _FACIAL_RECORD.size
    block_bytes, points = _FACIAL_INFORMATION.unpack_from(record, start)
    picture = start + _FACIAL_INFORMATION.size + points * _FEATURE_POINT_BYTES + _IMAGE_INFORMATION_BYTES
    return read_image(record[picture : start + block_bytes], limits, name="dg2")[0]
