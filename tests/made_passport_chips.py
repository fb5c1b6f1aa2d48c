"""Chips of Utopia: a country, its document signers and what they sign, all made on the spot."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from asn1crypto import algos, cms, core, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from kyc_guard.documents.specimen import Holder, zone

TODAY = date(2026, 1, 1)
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}
_SECURITY_OBJECT = "2.23.136.1.1.1"


@cache
def key(kind: str, name: str = "") -> Any:
    """A private key, the same for the same kind and name."""
    del name
    if kind in {"rsa", "pss"}:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.get_curve_for_oid(getattr(ec.EllipticCurveOID, kind))())


def sign(kind: str, private: Any, message: bytes, hash_name: str = "sha256") -> bytes:
    digest = _HASHES[hash_name]
    if kind == "rsa":
        return bytes(private.sign(message, padding.PKCS1v15(), digest))
    if kind == "pss":
        return bytes(private.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest))
    return bytes(private.sign(message, ec.ECDSA(digest)))


def _day(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def name_of(country: str, title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, country), x509.NameAttribute(NameOID.COMMON_NAME, title)])


@dataclass(frozen=True)
class Authority:
    """A country's signing authority."""

    kind: str = "SECP384R1"
    name: str = "CSCA Utopia"
    key_name: str = "country"
    since: date = date(2020, 1, 1)
    until: date = date(2040, 1, 1)
    ca: bool = True

    @property
    def private(self) -> Any:
        return key(self.kind, self.key_name)

    @property
    def certificate(self) -> bytes:
        """Self-signed, DER."""
        return self._issue(name_of("UT", self.name), self.private.public_key(), 1, self.since, self.until, ca=self.ca)

    def issue(self, public: Any, *, serial: int = 7, since: date, until: date, other_trade: bool = False) -> bytes:
        """A document signer's certificate, DER; with ``other_trade`` one of a server."""
        return self._issue(name_of("UT", "DS 7"), public, serial, since, until, ca=False, other_trade=other_trade)

    def _issue(
        self, subject: x509.Name, public: Any, serial: int, since: date, until: date, *, ca: bool, other_trade: bool = False
    ) -> bytes:
        usage = dict.fromkeys(
            (
                "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only",
            ),
            False,
        ) | {"digital_signature": not ca, "key_cert_sign": ca, "crl_sign": ca}  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name_of("UT", self.name))
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(_day(since))
            .not_valid_after(_day(until))
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        if other_trade:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if self.kind == "pss" else None
        return builder.sign(self.private, hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.DER)

    def revoke(self, *serials: int, until: date = date(2030, 1, 1)) -> bytes:
        """A revocation list, DER."""
        builder = x509.CertificateRevocationListBuilder(name_of("UT", self.name), _day(date(2025, 1, 1)), _day(until))
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, _day(date(2025, 1, 1))).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(Encoding.DER)


def trust_folder(root: Path, *authorities: Authority, revocation_list: bytes | None = None) -> Path:
    root.mkdir(exist_ok=True)
    for i, authority in enumerate(authorities):
        (root / f"{i}.cer").write_bytes(authority.certificate)
    if revocation_list is not None:
        (root / "list.crl").write_bytes(revocation_list)
    return root


def spelt_out(certificate: bytes, authority: Authority, **change: int) -> bytes:
    """The certificate with its P-256 curve spelt out, as ICAO wants it; signed again. ``change`` alters parameters."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    curve = {
        "a": p - 3,
        "b": 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        "x": 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        "y": 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        "n": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    } | change
    numbers = {k: v.to_bytes(32, "big") for k, v in curve.items()}
    domain = keys.SpecifiedECDomain(
        {
            "version": 1,
            "field_id": {"field_type": "prime_field", "parameters": core.Integer(p)},
            "curve": {"a": numbers["a"], "b": numbers["b"]},
            "base": b"\x04" + numbers["x"] + numbers["y"],
            "order": curve["n"],
            "cofactor": 1,
        }
    )
    parsed = asn1_x509.Certificate.load(certificate)
    body = parsed["tbs_certificate"]
    body["subject_public_key_info"]["algorithm"]["parameters"] = keys.ECDomainParameters(name="specified", value=domain)
    parsed["signature_value"] = sign(authority.kind, authority.private, body.dump(force=True))
    return bytes(parsed.dump(force=True))


def pem_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()


def master_list(*certificates: bytes) -> bytes:
    """An ICAO master list. Nobody checks who signed it: it lies in the operator's own folder."""
    listed = _MasterList({"version": 0, "certificates": [asn1_x509.Certificate.load(c) for c in certificates]})
    info = {"content_type": "2.23.136.1.1.2", "content": core.ParsableOctetString(listed.dump())}
    data = cms.SignedData({"version": "v3", "digest_algorithms": [], "encap_content_info": info, "signer_infos": []})
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())


def tlv(tag: str, value: bytes) -> bytes:
    size = len(value)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes.fromhex(tag) + length + value


def dg1(holder: Holder | None = None, layout: str = "TD3") -> bytes:
    return tlv("61", tlv("5f1f", "".join(zone(holder or Holder(), layout)).encode()))


@cache
def portrait_file(format_: str = "JPEG") -> bytes:
    y, x = np.mgrid[0:120, 0:90]
    pixels = np.stack([x * 2, y * 2, x + y], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def dg2(picture: bytes | None = None, *, points: int = 2) -> bytes:
    picture = portrait_file() if picture is None else picture
    image = struct.pack(">BBHHBBHH", 1, 0, 90, 120, 1, 2, 0, 0) + picture
    block = struct.pack(">IH14x", 20 + 8 * points + len(image), points) + bytes(8 * points) + image
    record = struct.pack(">4s4sIH", b"FAC\0", b"010\0", 14 + len(block), 1) + block
    return tlv("75", tlv("7f61", tlv("02", b"\x01") + tlv("7f60", tlv("a1", tlv("80", b"\x01\x01")) + tlv("5f2e", record))))


@dataclass(frozen=True)
class Signing:
    """How an EF.SOD is made; the defaults make a genuine one."""

    authority: Authority = field(default_factory=Authority)
    kind: str = "SECP256R1"
    hash_name: str = "sha256"
    since: date = date(2025, 1, 1)
    until: date = date(2036, 1, 1)
    serial: int = 7
    other_trade: bool = False
    other_key: bool = False
    """Signed by a key that is not the certificate's."""
    content_type: str = _SECURITY_OBJECT

    @property
    def certificate(self) -> bytes:
        public = key(self.kind, "signer").public_key()
        return self.authority.issue(public, serial=self.serial, since=self.since, until=self.until, other_trade=self.other_trade)

    def sod(self, files: Mapping[str, bytes], *, certificate: bytes | None = None) -> bytes:
        return self.envelope(self.security_object(files), certificate)

    def security_object(self, files: Mapping[str, bytes]) -> bytes:
        """The hashes that are signed."""
        digests = [{"number": int(k[2:]), "value": hashlib.new(self.hash_name, v).digest()} for k, v in files.items()]
        return bytes(_Lds({"version": 0, "hash_algorithm": {"algorithm": self.hash_name}, "digests": digests}).dump())

    def envelope(self, content: bytes, certificate: bytes | None = None) -> bytes:
        """EF.SOD around any content."""
        parsed = asn1_x509.Certificate.load(certificate or self.certificate)
        attributes = cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": "content_type", "values": [self.content_type]}),
                cms.CMSAttribute({"type": "message_digest", "values": [hashlib.new(self.hash_name, content).digest()]}),
            ]
        )
        private = key(self.kind, "impostor" if self.other_key else "signer")
        signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier(
                    name="issuer_and_serial_number", value={"issuer": parsed.issuer, "serial_number": parsed.serial_number}
                ),
                "digest_algorithm": {"algorithm": self.hash_name},
                "signed_attrs": attributes,
                "signature_algorithm": self._algorithm(),
                "signature": sign(self.kind, private, attributes.dump(), self.hash_name),
            }
        )
        data = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [{"algorithm": self.hash_name}],
                "encap_content_info": {"content_type": self.content_type, "content": core.ParsableOctetString(content)},
                "certificates": [parsed],
                "signer_infos": [signer],
            }
        )
        return tlv("77", cms.ContentInfo({"content_type": "signed_data", "content": data}).dump())

    def _algorithm(self) -> algos.SignedDigestAlgorithm:
        if self.kind == "rsa":
            return algos.SignedDigestAlgorithm({"algorithm": "rsassa_pkcs1v15"})
        if self.kind == "pss":
            mask = {"algorithm": "mgf1", "parameters": {"algorithm": self.hash_name}}
            size = _HASHES[self.hash_name].digest_size
            parameters = {"hash_algorithm": {"algorithm": self.hash_name}, "mask_gen_algorithm": mask, "salt_length": size}
            return algos.SignedDigestAlgorithm({"algorithm": "rsassa_pss", "parameters": algos.RSASSAPSSParams(parameters)})
        return algos.SignedDigestAlgorithm({"algorithm": f"{self.hash_name}_ecdsa"})


class _Digest(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[Any]] = [("number", core.Integer), ("value", core.OctetString)]


class _Certificates(core.SetOf):  # type: ignore[misc]
    _child_spec = asn1_x509.Certificate


class _MasterList(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[Any]] = [("version", core.Integer), ("certificates", _Certificates)]


class _Digests(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Digest


class _Lds(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[Any]] = [("version", core.Integer), ("hash_algorithm", algos.DigestAlgorithm), ("digests", _Digests)]


def chip_files(signing: Signing | None = None, *, holder: Holder | None = None, layout: str = "TD3") -> dict[str, bytes]:
    """EF.SOD, DG1 and DG2 of one chip."""
    files = {"dg1": dg1(holder, layout), "dg2": dg2()}
    return files | {"sod": (signing or Signing()).sod(files)}
