"""Content Credentials: a file as signed, changed after signing, signed by a stranger, and one that says it was generated."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from makers import clip

from kyc_guard import manifests
from kyc_guard.config import Limits, Policy, Sampling, Settings, Thresholds
from kyc_guard.detectors.injection import Injection
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import ConfigError, UnreadableError
from kyc_guard.manifests import Manifest, Standing, read_manifest
from kyc_guard.media import read_clip
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, Signal

c2pa: Any = pytest.importorskip("c2pa", reason="the extra c2pa is absent")
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@cache
def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certificate("Authority", key, None)


def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None) -> Any:
    """A signer's certificate, or without ``issuer`` that of an authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, root = issuer[0] if issuer else key, issuer is None
    made = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer[1].subject if issuer else subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=root,
                crl_sign=root,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if not root:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return made.sign(by, SHA256())


def pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.PEM)


@cache
def signed(source: str = "digitalCapture") -> bytes:
    """A clip with a manifest by "Camera", certified by `authority`."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = pem(certificate("Camera", key, authority())) + pem(authority()[1])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE + source}
    said = {"claim_generator_info": [{"name": "test"}], "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}]}
    out = io.BytesIO()
    with c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, private, None)) as signer, c2pa.Builder(said) as builder:
        builder.sign(signer, "video/mp4", io.BytesIO(clip()), out)
    return out.getvalue()


def changed(data: bytes) -> bytes:
    """One bit of the pictures is another."""
    at = data.rfind(b"mdat") + 60
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def anchors() -> str:
    return pem(authority()[1]).decode()


def test_a_file_as_signed_is_trusted_only_under_an_anchor_of_ours() -> None:
    assert read_manifest(signed(), anchors()) == Manifest(Standing.TRUSTED, "signed by Camera", None)
    assert read_manifest(signed(), None) == Manifest(Standing.UNKNOWN_SIGNER, "signed by Camera", None)


def test_a_file_changed_after_signing_is_invalid_whoever_signed() -> None:
    found = read_manifest(changed(signed()), anchors())
    assert found.standing is Standing.INVALID
    assert "bmffHash.mismatch" in found.detail


def test_a_manifest_that_says_generated_is_heard() -> None:
    assert read_manifest(signed("trainedAlgorithmicMedia"), anchors()).no_camera == "trainedAlgorithmicMedia"


@given(at=st.integers(0, 2000), noise=st.binary(min_size=1, max_size=40))
def test_a_damaged_manifest_is_never_a_crash_and_where_still_trusted_says_the_same(at: int, noise: bytes) -> None:
    data = signed("trainedAlgorithmicMedia")
    at += data.index(b"jumb")
    found = read_manifest(data[:at] + noise + data[at + len(noise) :], anchors())
    # Not every byte of the store is under the signature: paddings and flags are not.
    assert found.standing is not Standing.TRUSTED or found == read_manifest(data, anchors())


# --------------------------------------------------------------------------------------------------------- in the injection check


def detector(pem_file: Path | None = None) -> Injection:
    settings = Settings(c2pa_anchors=pem_file)
    thresholds = Thresholds.load(settings.weights_dir / "thresholds.toml")
    return Injection.load(Bundle(settings, Policy.load(settings.policy_path), thresholds, weights=None))  # type: ignore[arg-type]


def judge(sent: bytes | Path, pem_file: Path | None = None) -> Signal:
    return detector(pem_file)(Evidence(submission=Submission(id="a", selfie=sent), clip=read_clip(sent, Sampling(), Limits())))


@pytest.fixture
def pem_file(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.pem"
    path.write_text(anchors())
    return path


def named(signal: Signal) -> list[str]:
    return [r.code for r in signal.reasons if r.code.startswith("injection_c2pa")]


def test_each_standing_has_its_reason_and_a_known_signer_none(pem_file: Path) -> None:
    trusted = judge(signed(), pem_file)
    assert (named(trusted), trusted.facts["c2pa"]) == ([], "trusted: signed by Camera")
    assert named(judge(signed())) == ["injection_c2pa_unknown_signer"]
    assert named(judge(changed(signed()), pem_file)) == ["injection_c2pa_invalid"]
    assert named(judge(signed("trainedAlgorithmicMedia"), pem_file)) == ["injection_c2pa_no_camera"]
    assert judge(clip()).facts["c2pa"] == "absent"


def test_a_known_signer_takes_no_suspicion_away(pem_file: Path) -> None:
    assert judge(signed(), pem_file).score == judge(clip()).score


def test_without_the_extra_the_manifest_is_named_but_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "installed", lambda: False)
    signal = judge(signed())
    assert named(signal) == []
    assert signal.facts["c2pa"].startswith("present, not verified")


def test_a_file_that_changes_while_it_is_judged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "selfie.mp4"
    path.write_bytes(signed())
    evidence = Evidence(submission=Submission(id="a", selfie=path), clip=read_clip(path, Sampling(), Limits()))
    path.write_bytes(changed(signed()))
    with pytest.raises(UnreadableError, match="changed while"):
        detector()(evidence)


def test_anchors_that_cannot_be_read_are_a_faulty_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KYC_GUARD_C2PA_ANCHORS"):
        judge(clip(), tmp_path / "none.pem")
