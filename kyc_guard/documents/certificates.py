"""Who may sign chips: the country certificates an operator trusts, and the signatures made under them.

ASN.1 is read leniently by asn1crypto, because real country certificates break many a rule; the mathematics is cryptography's.

Source: ICAO Doc 9303, part 12 (certificate and CRL profiles, algorithms); RFC 5280, RFC 4055.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from asn1crypto import cms, core, crl, pem, x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ObjectIdentifier

from kyc_guard.errors import ConfigError

ASN1_ERRORS = (ValueError, TypeError, LookupError, OverflowError, AttributeError, RecursionError, UnsupportedAlgorithm)
"""What asn1crypto and cryptography raise for bytes that are not what they should be; values are parsed only when they are asked for."""

_HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha224": hashes.SHA224(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)

_DOCUMENT_SIGNER_MAY_SAY = {"key_usage", "basic_constraints", "certificate_policies"}
"""Critical extensions that are understood; RFC 5280, 4.2 forbids to use a certificate with others."""


def permitted_hash(name: str) -> hashes.HashAlgorithm:
    """One of the four that ICAO 9303-12, 4.4.3 permits.

    Raises:
        ValueError: another one. Documents signed with SHA-1 are so old that they have expired.
    """
    if name not in _HASHES:
        raise ValueError(f"{name} is no permitted hash")
    return _HASHES[name]


def signature_holds(key: Any, algorithm: Any, signature: bytes, message: bytes, *, hash_name: str | None = None) -> bool:
    """Whether ``signature`` over ``message`` was made with the private half of ``key``.

    Args:
        key: asn1crypto PublicKeyInfo; RSA, or ECDSA on a curve that is named or spelt out.
        algorithm: asn1crypto SignedDigestAlgorithm: RSASSA-PKCS1-v1_5, RSASSA-PSS or ECDSA.
        hash_name: of a signer that names its hash apart from the algorithm.

    Raises:
        One of `ASN1_ERRORS`: an algorithm, hash or curve that is not permitted, or bytes that are no key.
    """
    kind = algorithm.signature_algo
    named = hash_name if algorithm["algorithm"].native in {"rsassa_pkcs1v15", "ecdsa"} else algorithm.hash_algo
    digest = permitted_hash(str(named))
    try:
        if kind == "ecdsa":
            _curve_key(key).verify(signature, message, ec.ECDSA(digest))
        elif kind == "rsassa_pss":
            parameters = algorithm["parameters"]
            mask = permitted_hash(parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native)
            scheme = padding.PSS(padding.MGF1(mask), int(parameters["salt_length"].native))
            _rsa_key(key).verify(signature, message, scheme, digest)
        elif kind == "rsassa_pkcs1v15":
            _rsa_key(key).verify(signature, message, padding.PKCS1v15(), digest)
        else:
            raise ValueError(f"{kind} does not sign chips")
    except InvalidSignature:
        return False
    return True


def _rsa_key(key: Any) -> rsa.RSAPublicKey:
    numbers = key["public_key"].parsed
    return rsa.RSAPublicNumbers(numbers["public_exponent"].native, numbers["modulus"].native).public_key()


def _curve_key(key: Any) -> ec.EllipticCurvePublicKey:
    parameters = key["algorithm"]["parameters"]
    if parameters.name == "named":
        curve = ec.get_curve_for_oid(ObjectIdentifier(parameters.chosen.dotted))()
    else:
        curve = _SPELT_OUT[_fingerprint(parameters.chosen)]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, key["public_key"].native)


def _fingerprint(domain: Any) -> str:
    """Hash of every parameter of a curve that is spelt out.

    All must be those of a known curve, the generator above all: with one of his own choosing anybody owns any public key (CVE-2020-0601).
    """
    base = domain["base"].native
    x = base[1 : 1 + (len(base) - 1) // 2] if base[:1] == b"\x04" else base[1:]
    values = (domain["curve"]["a"].native, domain["curve"]["b"].native, x)
    a, b, generator = (int.from_bytes(value, "big") for value in values)
    text = ":".join(f"{v:x}" for v in (domain["field_id"]["parameters"].native, a, b, generator, domain["order"].native))
    return hashlib.sha256(text.encode()).hexdigest()


# Country certificates have to spell their curve out (ICAO 9303-12, 4.4.2). Computed from OpenSSL's tables.
_SPELT_OUT: Mapping[str, ec.EllipticCurve] = MappingProxyType(
    {
        "0bfb3957434e58828c9fb6b9d8d6a440c1d05da4735db71876499cff8aace71b": ec.SECP224R1(),
        "095f33eabc768a044ac1e05666d2e1f70e5a81de9f0fa94b10439b01dca99229": ec.SECP256R1(),
        "e5ad853a24499774f268852f3c91008eb2f926ee578a01addec9caea43d200ce": ec.SECP384R1(),
        "9f8c6c1620ddcaee6274a2a63df4e87c4a0582410fe53bd0ddcc8dc386c12774": ec.SECP521R1(),
        "0a5dad0ea99b4894542896d1be3b612ab5eef22cc792a85c376390140d1db3bb": ec.BrainpoolP256R1(),
        "8a2c81dd682507a29849abaedb2fede6424aa21f178b5c42c105900e9d2f409e": ec.BrainpoolP384R1(),
        "31b75be85fd7e61b73d539d2c4c63dec6054a933e0c38850d6f8d5937f601a32": ec.BrainpoolP512R1(),
    }
)


def valid_on(certificate: Any, day: date) -> bool:
    """Whether ``day`` lies within the certificate's validity."""
    return bool(certificate.not_valid_before.date() <= day <= certificate.not_valid_after.date())


def may_sign_documents(certificate: Any) -> bool:
    """Whether a certificate is one of a document signer: not every certificate a country issues is."""
    usage = certificate.key_usage_value
    return (
        usage is not None
        and "digital_signature" in usage.native
        and not certificate.ca
        # Certificates of other trades (master lists, servers, visas) name theirs; a document signer's carries none.
        and certificate.extended_key_usage_value is None
        and set(certificate.critical_extensions) <= _DOCUMENT_SIGNER_MAY_SAY
    )


@dataclass(frozen=True, slots=True)
class _Revocations:
    serials: frozenset[int]
    until: date
    """The issuer promised the next list by then."""


@dataclass(frozen=True, slots=True, eq=False)
class TrustList:
    """The country certificates (CSCA) of one folder, and the revocation lists they signed.

    Whatever lies in the folder is trusted: obtain it from the national authority or the ICAO PKD, not from a document.
    """

    issuers: Mapping[str, tuple[Any, ...]]
    """Name -> certificates that may issue others; a country renews its key every few years under one name."""
    revocations: Mapping[str, _Revocations]
    sha256: str
    """Of all files: which list a decision was made with."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read every file: certificates (.cer .crt .der .pem), ICAO master lists (.ml), revocation lists (.crl), DER or PEM.

        Raises:
            ConfigError: no such folder, no country certificate in it, a file that is none of these, or a forged revocation list.
        """
        try:
            files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
            found = [(path, kind, der) for path in files for kind, der in _blocks(path)]
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be read ({error.strerror}). Remedy: name the folder of CSCA certificates") from error
        issuers: defaultdict[str, tuple[Any, ...]] = defaultdict(tuple)
        for path, _, der in (entry for entry in found if entry[1] == "certificate"):
            with _naming(path):
                certificate = x509.Certificate.load(der, strict=True)
                usage = certificate.key_usage_value
                if certificate.ca and usage is not None and "key_cert_sign" in usage.native:
                    issuers[certificate.subject.hashable] += (certificate,)
        if not issuers:
            raise ConfigError(f"{directory}: holds no country certificate. Remedy: put the CSCA certificates you trust there")
        revocations: dict[str, _Revocations] = {}
        for path, _, der in (entry for entry in found if entry[1] == "crl"):
            with _naming(path):
                listed = crl.CertificateList.load(der, strict=True)
                name = listed.issuer.hashable
                # A list by an issuer who is not trusted says nothing of those who are.
                if name in issuers:
                    revocations[name] = _joined(revocations.get(name), _revoked(listed, issuers[name]))
        sha256 = hashlib.sha256(b"".join(hashlib.sha256(der).digest() for _, _, der in found)).hexdigest()
        return cls(MappingProxyType(dict(issuers)), MappingProxyType(revocations), sha256)

    def issuer(self, certificate: Any) -> Any | None:
        """The trusted certificate whose key signed ``certificate``; ``None`` if there is none."""
        body = certificate["tbs_certificate"]
        if body["signature"].dump() != certificate["signature_algorithm"].dump():
            return None
        signature = certificate["signature_value"].native
        for candidate in self.issuers.get(certificate.issuer.hashable, ()):
            if signature_holds(candidate.public_key, certificate["signature_algorithm"], signature, body.dump()):
                return candidate
        return None

    def revoked(self, certificate: Any, day: date) -> bool | None:
        """Whether the issuer took ``certificate`` back; ``None`` = there is no list, or none for ``day`` any more."""
        known = self.revocations.get(certificate.issuer.hashable)
        if known is not None and certificate.serial_number in known.serials:
            return True
        return None if known is None or day > known.until else False


def _blocks(path: Path) -> Iterator[tuple[str, bytes]]:
    """(certificate or crl, DER) of everything in one file."""
    data = path.read_bytes()
    with _naming(path):
        parts = [der for _, _, der in pem.unarmor(data, multiple=True)] if pem.detect(data) else [data]
        for der in parts:
            match path.suffix.lower():
                case ".cer" | ".crt" | ".der" | ".pem":
                    yield "certificate", der
                case ".crl":
                    yield "crl", der
                case ".ml":
                    listed = cms.ContentInfo.load(der)["content"]["encap_content_info"]["content"]
                    for certificate in _MasterList.load(listed.native)["certificates"]:
                        yield "certificate", certificate.dump()
                case other:
                    raise ValueError(f"{other or 'a file without an ending'} is neither .cer .crt .der .pem .ml nor .crl")


class _Certificates(core.SetOf):  # type: ignore[misc]
    _child_spec = x509.Certificate


class _MasterList(core.Sequence):  # type: ignore[misc]
    """CscaMasterList. Source: ICAO 9303-12, 9."""

    _fields: ClassVar[list[Any]] = [("version", core.Integer), ("certificates", _Certificates)]


def _revoked(listed: Any, issuers: tuple[Any, ...]) -> _Revocations:
    body = listed["tbs_cert_list"]
    signed = (listed["signature"].native, body.dump())
    if not any(signature_holds(issuer.public_key, listed["signature_algorithm"], *signed) for issuer in issuers):
        raise ValueError("the revocation list was not signed by the issuer it names")
    serials = frozenset(entry["user_certificate"].native for entry in body["revoked_certificates"])
    return _Revocations(serials, body["next_update"].native.date())


def _joined(a: _Revocations | None, b: _Revocations) -> _Revocations:
    return b if a is None else _Revocations(a.serials | b.serials, max(a.until, b.until))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what is wrong with the bytes of an operator's file into an error that names the file."""
    try:
        yield
    except ASN1_ERRORS as error:
        raise ConfigError(f"{path}: cannot be used ({error}). Remedy: replace or remove the file") from error
