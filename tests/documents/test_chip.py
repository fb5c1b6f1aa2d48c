"""Chips: a genuine one passes, everything forged is refused for its own reason, and no bytes crash the reading."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import made_passport_chips as made
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from kyc_guard.config import Limits
from kyc_guard.documents.certificates import TrustList
from kyc_guard.documents.chip import REASONS, Chip, read_chip
from kyc_guard.documents.specimen import Holder, zone
from kyc_guard.errors import ConfigError

COUNTRY = made.Authority()


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> TrustList:
    return TrustList.load(made.trust_folder(tmp_path_factory.mktemp("csca"), COUNTRY, revocation_list=COUNTRY.revoke(99)))


def _read(files: dict[str, bytes], trust: TrustList | None, today: date = made.TODAY) -> Chip:
    return read_chip(files, trust, today=today, limits=Limits())


def _codes(chip: Chip) -> set[str]:
    return {reason.code.removeprefix("document_chip_") for reason in chip.reasons}


@pytest.mark.parametrize("layout", ["TD1", "TD2", "TD3"])
@pytest.mark.parametrize(
    "signing",
    [
        made.Signing(),
        made.Signing(kind="rsa"),
        made.Signing(kind="pss"),
        made.Signing(kind="pss", hash_name="sha512"),
        made.Signing(kind="BRAINPOOLP256R1"),
    ],
    ids=lambda s: f"{s.kind}-{s.hash_name}",
)
def test_a_genuine_chip_has_nothing_against_it(trust: TrustList, signing: made.Signing, layout: str) -> None:
    chip = _read(made.chip_files(signing, layout=layout), trust)
    assert chip.reasons == ()
    assert chip.zone is not None
    assert (chip.zone.format, chip.zone.lines, chip.zone.failed_checks) == (layout, zone(Holder(), layout), ())
    assert chip.portrait_rgb is not None
    assert chip.portrait_rgb.shape == (120, 90, 3)


@pytest.mark.parametrize("kind", ["rsa", "pss", "SECP256R1", "SECP521R1", "BRAINPOOLP384R1"])
def test_a_valid_chain_is_followed_within_fifty_milliseconds(tmp_path: Path, kind: str) -> None:
    country = made.Authority(kind=kind)
    trust = TrustList.load(made.trust_folder(tmp_path, country, revocation_list=country.revoke(99)))
    files = made.chip_files(made.Signing(country, kind=kind))
    took_s = []
    for _ in range(5):
        started = time.process_time()
        assert _read(files, trust).reasons == ()
        took_s.append(time.process_time() - started)
    assert min(took_s) <= 0.05, f"{min(took_s) * 1000:.1f} ms of one core"


@pytest.mark.parametrize("kind", ["rsa", "pss", "SECP521R1", "BRAINPOOLP384R1"])
def test_countries_sign_with_every_permitted_algorithm(tmp_path: Path, kind: str) -> None:
    country = made.Authority(kind=kind)
    trust = TrustList.load(made.trust_folder(tmp_path, country))
    assert _codes(_read(made.chip_files(made.Signing(country)), trust)) == {"revocation_unknown"}


def test_nothing_of_the_holder_is_in_facts_or_reasons(trust: TrustList) -> None:
    chip = _read(made.chip_files(), trust)
    assert not any(value in f"{chip.facts}{chip.reasons}" for value in ("ERIKSSON", "L898902C3", "740812"))


_OTHER = replace(COUNTRY, key_name="nobody's")  # the country's name, another key


def _with(**change: bytes) -> Callable[[], dict[str, bytes]]:
    return lambda: made.chip_files() | change


def _made(**change: object) -> Callable[[], dict[str, bytes]]:
    return lambda: made.chip_files(made.Signing(**change))  # type: ignore[arg-type]


def _resigned_list() -> dict[str, bytes]:
    """The hashes replaced, the signature left."""
    files = made.chip_files()
    forged = files | {"dg1": made.dg1(Holder(surname="LINDQVIST"))}
    inner = made.Signing().sod({k: v for k, v in forged.items() if k != "sod"})
    old, new = (made.hashlib.sha256(f["dg1"]).digest() for f in (files, forged))
    assert old in files["sod"]
    assert new in inner
    return forged | {"sod": files["sod"].replace(old, new)}


def _self_signed() -> dict[str, bytes]:
    return made.chip_files(made.Signing(made.Authority(name="CSCA Nowhere", key_name="forger")))


def _curve_of_his_own() -> dict[str, bytes]:
    signing = made.Signing()
    certificate = made.spelt_out(signing.certificate, COUNTRY, x=1)
    files = {"dg1": made.dg1(), "dg2": made.dg2()}
    return files | {"sod": signing.sod(files, certificate=certificate)}


FORGERIES: dict[str, tuple[Callable[[], dict[str, bytes]], set[str]]] = {
    "another portrait": (_with(dg2=made.dg2(made.portrait_file("PNG"))), {"altered"}),
    "another person's DG1": (_with(dg1=made.dg1(Holder(surname="LINDQVIST"))), {"altered"}),
    "a data group nobody signed": (_with(dg11=b"\x6b\x00"), {"altered"}),
    "hashes replaced under the old signature": (_resigned_list, {"forged"}),
    "signed by a key that is not the certificate's": (_made(other_key=True), {"forged"}),
    "RSA signed by a key that is not the certificate's": (_made(kind="rsa", other_key=True), {"forged"}),
    "certificate under the country's name, not its key": (_made(authority=_OTHER), {"untrusted"}),
    "a country of his own": (_self_signed, {"untrusted"}),
    "signed with a server's certificate": (_made(other_trade=True), {"untrusted"}),
    "signed as something else": (_made(content_type="1.2.840.113549.1.7.1"), {"unreadable"}),
    "a curve of his own": (_curve_of_his_own, {"untrusted"}),
    "signer expired": (_made(until=date(2025, 12, 31)), {"expired"}),
    "signer not yet valid": (_made(since=date(2026, 1, 2)), {"expired"}),
    "signer revoked": (_made(serial=99), {"revoked"}),
    "SHA-1": (_made(hash_name="sha1"), {"untrusted"}),
    "no content": (_with(sod=b""), {"unreadable"}),
    "truncated": (lambda: made.chip_files() | {"sod": made.chip_files()["sod"][:-40]}, {"unreadable"}),
    "trailing bytes": (lambda: made.chip_files() | {"sod": made.tlv("77", made.chip_files()["sod"][4:] + b"\0")}, {"unreadable"}),
    "DG1 without a zone": (lambda: _signed(dg1=made.tlv("61", made.tlv("5f1f", b"A" * 88))), {"unreadable"}),
    "DG2 without a picture": (lambda: _signed(dg2=made.dg2(b"no picture")), {"portrait_unreadable"}),
    "DG2 cut off": (lambda: _signed(dg2=made.dg2()[:200]), {"portrait_unreadable"}),
}


def _signed(**change: bytes) -> dict[str, bytes]:
    files = {"dg1": made.dg1(), "dg2": made.dg2()} | change
    return files | {"sod": made.Signing().sod(files)}


@pytest.mark.parametrize("name", FORGERIES)
def test_every_forgery_is_refused_for_its_reason(trust: TrustList, name: str) -> None:
    files, expected = FORGERIES[name]
    assert _codes(_read(files(), trust)) == expected


def test_an_expired_country_vouches_for_nobody(tmp_path: Path) -> None:
    country = replace(COUNTRY, until=date(2025, 6, 1))
    trust = TrustList.load(made.trust_folder(tmp_path, country, revocation_list=country.revoke()))
    assert _codes(_read(made.chip_files(made.Signing(country)), trust)) == {"expired"}


def test_without_a_trust_list_no_chip_is_trusted() -> None:
    assert _codes(_read(made.chip_files(), None)) == {"untrusted"}


@pytest.mark.parametrize(("until", "expected"), [(date(2030, 1, 1), set()), (date(2025, 12, 31), {"revocation_unknown"})])
def test_an_old_revocation_list_clears_nobody(tmp_path: Path, until: date, expected: set[str]) -> None:
    trust = TrustList.load(made.trust_folder(tmp_path, COUNTRY, revocation_list=COUNTRY.revoke(99, until=until)))
    assert _codes(_read(made.chip_files(), trust)) == expected
    # What was taken back once is not given out again.
    assert "revoked" in _codes(_read(made.chip_files(made.Signing(serial=99)), trust))


def test_a_renewed_key_stands_beside_the_old_one(tmp_path: Path) -> None:
    trust = TrustList.load(made.trust_folder(tmp_path, _OTHER, COUNTRY))
    assert _codes(_read(made.chip_files(), trust)) == {"revocation_unknown"}


def test_a_curve_that_is_spelt_out_is_the_named_one(trust: TrustList) -> None:
    signing = made.Signing()
    files = {"dg1": made.dg1(), "dg2": made.dg2()}
    sod = signing.sod(files, certificate=made.spelt_out(signing.certificate, COUNTRY))
    assert _read(files | {"sod": sod}, trust).reasons == ()


def test_a_portrait_in_jpeg_2000_is_read(trust: TrustList) -> None:
    chip = _read(_signed(dg2=made.dg2(made.portrait_file("JPEG2000"))), trust)
    assert (chip.reasons, chip.portrait_rgb is not None) == ((), True)


def test_a_chip_without_portrait_is_still_authentic(trust: TrustList) -> None:
    files = {"dg1": made.dg1()}
    chip = _read(files | {"sod": made.Signing().sod(files)}, trust)
    assert (chip.reasons, chip.portrait_rgb) == ((), None)


def test_certificates_come_as_pem_and_master_lists_too(tmp_path: Path) -> None:
    (tmp_path / "country.pem").write_text(made.pem_of(COUNTRY.certificate))
    assert _codes(_read(made.chip_files(), TrustList.load(tmp_path))) == {"revocation_unknown"}
    (tmp_path / "country.pem").unlink()
    (tmp_path / "list.ml").write_bytes(made.master_list(_OTHER.certificate, COUNTRY.certificate))
    assert _codes(_read(made.chip_files(), TrustList.load(tmp_path))) == {"revocation_unknown"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.cer", b"rubbish"),
        ("a.cer", b""),
        ("notes.txt", b"see attached"),
        ("a.crl", b"\x30\x00"),
        ("forged.crl", _OTHER.revoke(7)),
        ("a.ml", COUNTRY.certificate),
    ],
)
def test_a_trust_folder_with_a_bad_file_stops_the_program_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    folder = made.trust_folder(tmp_path, COUNTRY)
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        TrustList.load(folder)


def test_a_trust_folder_without_a_country_stops_the_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no country certificate"):
        TrustList.load(tmp_path)
    (tmp_path / "signer.cer").write_bytes(made.Signing().certificate)
    with pytest.raises(ConfigError, match="no country certificate"):
        TrustList.load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        TrustList.load(tmp_path / "absent")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="an independent signer, where there is one")
@pytest.mark.parametrize("options", [(), ("-keyopt", "rsa_padding_mode:pss")])
def test_what_openssl_signs_is_read(tmp_path: Path, trust: TrustList, options: tuple[str, ...]) -> None:
    signing = made.Signing(kind="rsa")
    files = {"dg1": made.dg1(), "dg2": made.dg2()}
    (tmp_path / "lds").write_bytes(signing.security_object(files))
    (tmp_path / "ds.pem").write_text(made.pem_of(signing.certificate))
    private = made.key("rsa", "signer").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ds.key").write_bytes(private)
    command = "openssl cms -sign -binary -nodetach -nosmimecap -md sha256 -econtent_type 2.23.136.1.1.1 -outform DER -in lds"
    command += " -signer ds.pem -inkey ds.key -out sod"
    subprocess.run([*command.split(), *options], cwd=tmp_path, check=True)
    sod = made.tlv("77", (tmp_path / "sod").read_bytes())
    assert _read(files | {"sod": sod}, trust).reasons == ()


_GENUINE = made.chip_files()


@given(data=st.data(), name=st.sampled_from(sorted(_GENUINE)))
def test_no_damage_is_survived_unnoticed(trust: TrustList, data: st.DataObject, name: str) -> None:
    content = bytearray(_GENUINE[name])
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where] ^= data.draw(st.integers(1, 255))
    chip = _read(_GENUINE | {name: bytes(content)}, trust)
    assert {r.code for r in chip.reasons} <= set(REASONS)
    if bytes(content) != _GENUINE[name] and name != "sod":
        assert "altered" in _codes(chip)


@given(sod=st.binary(max_size=300), dg1=st.binary(max_size=120), dg2=st.binary(max_size=120), wrapped=st.booleans())
def test_any_bytes_are_survived_and_refused(sod: bytes, dg1: bytes, dg2: bytes, wrapped: bool) -> None:
    if wrapped:
        sod = made.tlv("77", sod)
        dg1, dg2 = made.tlv("61", made.tlv("5f1f", dg1)), made.tlv("75", made.tlv("7f61", made.tlv("7f60", made.tlv("5f2e", dg2))))
    assert "unreadable" in _codes(_read({"sod": sod, "dg1": dg1, "dg2": dg2}, None))
