"""The document detector: what it says of which page, and that doubt never becomes certainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import made_hints
import made_passport_chips as made
import numpy as np
import pytest
from skimage import data

from kyc_guard import fusion
from kyc_guard.attacks.document import lay_page
from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.detectors import document as module
from kyc_guard.detectors.document import DOUBTS, FINDINGS, Document
from kyc_guard.detectors.protocol import Bundle, Detector
from kyc_guard.documents.barcode import Barcode
from kyc_guard.documents.certificates import TrustList
from kyc_guard.documents.dates import PartialDate
from kyc_guard.documents.doubt import Doubts
from kyc_guard.documents.identity import Identity
from kyc_guard.documents.mrz import parse
from kyc_guard.documents.ocr import TextLine
from kyc_guard.documents.page import Page, find_portrait, with_documents
from kyc_guard.documents.specimen import Holder, render, zone
from kyc_guard.errors import ConfigError
from kyc_guard.media import read_image
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence, Face, Outcome, PagePortrait, UInt8Array
from kyc_guard.weights import Weights

TODAY = date(2026, 1, 1)
HOLDER = Holder()


def _bundle(tables: Mapping[str, Any] | None = None) -> Bundle:
    settings = Settings()
    thresholds = Thresholds.load(settings.weights_dir / "thresholds.toml")
    if tables is not None:
        thresholds = Thresholds(tables=tables, sha256="", path=Path("thresholds.toml"))
    return Bundle(settings, Policy.load(settings.policy_path), thresholds, cast("Weights", None))


@pytest.fixture(scope="module")
def detector() -> Document:
    """Without hints of doubt: the specimens of these tests are renders, and the shipped hints say so."""
    return replace(Document.load(_bundle()), doubts=_hints())


def _hints(**changes: dict[str, Any]) -> Doubts:
    return Doubts.from_table(made_hints.tables(**changes), min_px=450)


@pytest.fixture(scope="module")
def page_rgb() -> UInt8Array:
    return render(HOLDER, np.ascontiguousarray(data.astronaut()[0:300, 80:360]))


@pytest.fixture(scope="module")
def portrait(page_rgb: UInt8Array) -> Face:
    found = find_portrait(page_rgb)
    assert found is not None
    return found.face


def _evidence(*pages: UInt8Array, claims: Mapping[str, str] | None = None, judged_on: date = TODAY) -> Evidence:
    return with_documents(Evidence(Submission(id="s1", claims=claims or {}), judged_on=judged_on), *pages)


def test_it_is_a_detector(detector: Document) -> None:
    asked: Detector = detector
    assert asked.name == "document"


def test_an_honest_specimen_has_no_finding(detector: Document, page_rgb: UInt8Array) -> None:
    signal = detector(_evidence(page_rgb, claims=HOLDER.claims))
    assert signal.reasons == ()
    assert signal.score == pytest.approx(detector.findings["prior"])
    assert set(signal.facts["claims"].values()) == {"same"}
    assert set(signal.facts["printed"].values()) == {"same"}
    assert signal.artefacts["mrz_xyxy"].shape == (4,)


def test_no_value_of_the_holder_is_in_the_facts(detector: Document, page_rgb: UInt8Array) -> None:
    facts = str(detector(_evidence(page_rgb, claims=HOLDER.claims)).to_json())
    assert not any(value in facts for value in (HOLDER.surname, HOLDER.document_number, "1974", "740812"))


def test_without_a_document_it_abstains(detector: Document) -> None:
    signal = detector(_evidence())
    assert (signal.score, [r.code for r in signal.reasons]) == (None, ["no_document"])


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.zeros((1, 1, 3), np.uint8), "document_too_small"),
        (np.full((800, 1200, 3), 200, np.uint8), "document_blurred"),
        (np.zeros((2000, 20, 3), np.uint8), "document_too_small"),
    ],
)
def test_small_blank_and_absurd_pages_are_an_abstention(detector: Document, image: UInt8Array, code: str) -> None:
    signal = detector(_evidence(image))
    assert (signal.score, {r.code for r in signal.reasons}) == (None, {code})


def test_sharp_noise_without_text_is_an_abstention(detector: Document) -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    signal = detector(_evidence(image))
    assert signal.score is None or signal.reasons


def _page(
    monkeypatch: pytest.MonkeyPatch,
    image: UInt8Array,
    lines: tuple[str, ...] | None = None,
    *,
    text: tuple[TextLine, ...] = (),
    face: Face | None = None,
) -> None:
    """Let every page read as this, so that the checks can be tried without OCR."""

    def read(image_rgb: UInt8Array, *, today: date, portrait: PagePortrait | None) -> Page:
        read = None if lines is None else parse(lines, today=today)
        return Page(image_rgb, 0, text, read, None if read is None else np.zeros(4, np.float32), 0.99, face)

    monkeypatch.setattr(module, "read_page", read)


_LINE = TextLine("UTOPIA", 0.99, np.array([50, 0, 150, 20], np.float32))


@pytest.mark.parametrize(
    ("holder", "claims", "codes"),
    [
        (HOLDER, {}, set()),
        (replace(HOLDER, expiry_date=date(2025, 12, 31)), {}, {"document_expired"}),
        (replace(HOLDER, expiry_date=TODAY), {}, set()),
        (HOLDER, {"surname": "Lindqvist"}, {"document_claim_mismatch"}),
        (HOLDER, {"surname": "Erixon"}, {"document_unreadable_field"}),
        (HOLDER, {"birth_date": "1974-08-13", "sex": "M"}, {"document_claim_mismatch"}),
        (replace(HOLDER, birth_date=date(2020, 1, 1), expiry_date=date(2019, 1, 1)), {}, {"document_invalid_date", "document_expired"}),
    ],
)
def test_each_contradiction_has_its_reason(  # noqa: PLR0917 (fixtures)
    monkeypatch: pytest.MonkeyPatch,
    detector: Document,
    page_rgb: UInt8Array,
    portrait: Face,
    holder: Holder,
    claims: dict[str, str],
    codes: set[str],
) -> None:
    _page(monkeypatch, page_rgb, zone(holder), face=portrait)
    signal = detector(_evidence(page_rgb, claims=claims))
    assert {r.code for r in signal.reasons} == codes
    expected = 1 - np.prod([1 - detector.findings[code] for code in ("prior", *codes)])
    assert signal.score == pytest.approx(expected)


def test_a_failed_digit_is_named_and_makes_no_contradiction(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER, wrong_check_digit=True), face=portrait)
    signal = detector(_evidence(page_rgb, claims={"birth_date": "1990-01-01"}))
    assert [r.code for r in signal.reasons] == ["document_mrz_check_digit", "document_unreadable_field"]
    assert "birth_date" in signal.reasons[0].detail
    assert "claims.birth_date" in signal.reasons[1].detail


def test_a_page_without_zone_or_portrait_says_so(monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array) -> None:
    _page(monkeypatch, page_rgb, None, text=(_LINE,))
    assert [r.code for r in detector(_evidence(page_rgb)).reasons] == ["document_no_mrz", "document_no_portrait"]


def test_why_a_zone_was_not_read_is_named_where_the_applicant_can_mend_it(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    glaring = page_rgb.copy()
    glaring[500:700, 300:700] = 255
    _page(monkeypatch, glaring, None, text=(replace(_LINE, box_xyxy=np.array([0, 0, 100, 20], np.float32)),), face=portrait)
    assert [r.code for r in detector(_evidence(glaring)).reasons] == ["document_no_mrz", "document_glare", "document_cropped"]
    _page(monkeypatch, glaring, zone(HOLDER), face=portrait)
    assert detector(_evidence(glaring)).reasons == ()


def test_a_doubtful_name_is_confirmed_by_print_or_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    read = parse(zone(HOLDER), today=TODAY)
    assert read is not None
    doubtful = replace(read, confidence={"names": 0.4})

    def page(*text: str) -> Page:
        lines = tuple(TextLine(t, 0.99, np.array([50, 0, 150, 20], np.float32)) for t in text)
        return Page(page_rgb, 0, lines, doubtful, np.zeros(4, np.float32), 0.9, portrait)

    monkeypatch.setattr(module, "read_page", lambda image_rgb, today, portrait: page("UTOPIA"))
    assert {r.code for r in detector(_evidence(page_rgb)).reasons} == {"document_unreadable_field"}
    monkeypatch.setattr(module, "read_page", lambda image_rgb, today, portrait: page("ERIKSSON", "ANNA MARIA"))
    assert detector(_evidence(page_rgb)).reasons == ()


def test_a_page_without_any_text_is_an_abstention(monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array) -> None:
    _page(monkeypatch, page_rgb, None)
    assert detector(_evidence(page_rgb)).score is None


def test_the_day_of_the_decision_settles_expiry_not_the_clock(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER), face=portrait)
    later = detector(_evidence(page_rgb, judged_on=date(2034, 4, 16)))
    assert [r.code for r in later.reasons] == ["document_expired"]
    assert later.facts["today"] == "2034-04-16"
    assert detector(_evidence(page_rgb, judged_on=date(2034, 4, 15))).reasons == ()


@pytest.mark.parametrize("broken", [{}, {"findings": {}}, {"findings": dict.fromkeys((*FINDINGS, "prior"), 2.0)}])
def test_a_finding_without_a_probability_stops_the_program(broken: dict[str, Any]) -> None:
    limits = {"same": 0.85, "different": 0.6, "visual_near": 0.75, "text_confidence": 0.9, "character": 0.6}
    with pytest.raises(ConfigError, match="python -m training"):
        Document.load(_bundle({"document": {"limits": limits, **broken}}))


@pytest.fixture(scope="module")
def trusting(detector: Document, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The detector of an operator who trusts Utopia."""
    country = made.Authority()
    folder = made.trust_folder(tmp_path_factory.mktemp("csca"), country, revocation_list=country.revoke(99))
    return replace(detector, trust=TrustList.load(folder))


_CHIPS = {
    "genuine": ({}, {}, set()),
    "another person's": ({"holder": Holder(surname="LINDQVIST")}, {}, {"document_chip_mismatch"}),
    "another document's": ({"holder": Holder(document_number="X12345678")}, {}, {"document_chip_mismatch"}),
    "altered": ({}, {"dg1": made.dg1(Holder(surname="LINDQVIST"))}, {"document_chip_altered", "document_chip_mismatch"}),
    "forged": ({"signing": made.Signing(other_key=True)}, {}, {"document_chip_forged"}),
    "of a country of his own": ({"signing": made.Signing(made.Authority(key_name="forger"))}, {}, {"document_chip_untrusted"}),
    "signer expired": ({"signing": made.Signing(until=date(2025, 6, 1))}, {}, {"document_chip_expired"}),
    "signer revoked": ({"signing": made.Signing(serial=99)}, {}, {"document_chip_revoked"}),
    "cut off": ({}, {"sod": b"\x77\x05abc"}, {"document_chip_unreadable"}),
}


@pytest.mark.parametrize("name", _CHIPS)
def test_a_chip_is_accepted_only_if_genuine_and_of_this_document(
    monkeypatch: pytest.MonkeyPatch, trusting: Document, page_rgb: UInt8Array, portrait: Face, name: str
) -> None:
    how, change, codes = _CHIPS[name]
    _page(monkeypatch, page_rgb, zone(HOLDER), face=portrait)
    signal = trusting(replace(_evidence(page_rgb), chip=made.chip_files(**how) | change))  # type: ignore[arg-type]
    assert {r.code for r in signal.reasons} == codes
    policy, thresholds = _bundle().policy, _bundle().thresholds
    alone = replace(policy, checks={"document": policy.checks["document"]}, together_review_at=None)
    assert (fusion.decide([signal], alone, thresholds).outcome is Outcome.ACCEPT) == (not codes)
    assert "chip_portrait_rgb" in signal.artefacts


def test_without_a_trust_folder_no_chip_is_trusted(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER), face=portrait)
    signal = detector(replace(_evidence(page_rgb), chip=made.chip_files()))
    assert {r.code for r in signal.reasons} == {"document_chip_untrusted"}


def test_a_misread_zone_contradicts_no_chip(
    monkeypatch: pytest.MonkeyPatch, trusting: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    lines = zone(HOLDER)
    _page(monkeypatch, page_rgb, (lines[0], lines[1].replace("L898902C3", "L898902E3")), face=portrait)
    signal = trusting(replace(_evidence(page_rgb), chip=made.chip_files()))
    assert {r.code for r in signal.reasons} == {"document_mrz_check_digit", "document_unreadable_field"}


def _licence(**change: str) -> Barcode:
    day = PartialDate("740812", 1974, 8, 12, valid=True)
    until = PartialDate("340415", 2034, 4, 15, valid=True)
    named = Identity("barcode", "ERIKSSON", "ANNA MARIA", "L898902C3", "", day, "F", until)
    return Barcode("PDF417", np.zeros(4, np.float32), replace(named, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "claims", "with_zone", "codes"),
    [
        ({}, HOLDER.claims, False, set()),  # a licence has no zone and needs none
        ({}, {"surname": "Lindqvist"}, False, {"document_claim_mismatch"}),
        ({}, HOLDER.claims, True, set()),
        ({"surname": "LINDQVIST"}, {}, True, {"document_barcode_mismatch"}),
        ({"document_number": "X1"}, {}, True, {"document_barcode_mismatch"}),
        ({"surname": "ERIXON"}, {}, True, {"document_unreadable_field"}),
    ],
)
def test_a_barcode_is_held_against_zone_and_claims(  # noqa: PLR0917 (fixtures)
    monkeypatch: pytest.MonkeyPatch,
    detector: Document,
    page_rgb: UInt8Array,
    portrait: Face,
    change: dict[str, str],
    claims: dict[str, str],
    with_zone: bool,
    codes: set[str],
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER) if with_zone else None, text=(_LINE,), face=portrait)
    monkeypatch.setattr(module, "read_barcodes", lambda image_rgb, today: (_licence(**change),))
    assert {r.code for r in detector(_evidence(page_rgb, claims=claims)).reasons} == codes


# What is printed on the twelve shared specimens: the Spanish one carries invented check digits, the Cameroonian one a
# composite digit that does not hold; PassportEye's authors marked them so. All others hold.
_SPECIMENS = {
    "0_id-esp.png": ("TD1", {"document_number", "birth_date", "composite"}, "AAA100001"),
    "100_id-che.jpg": ("TD1", set(), "S0002068"),
    "100_id-usa.jpg": ("TD1", set(), "000000003"),
    "100_pass-cze.jpg": ("TD3", set(), "99003853"),
    "100_pass-hrv.jpg": ("TD3", set(), "007007007"),
    "100_pass-uto.jpg": ("TD3", set(), "L898902C3"),
    "100_pass2-uto.jpg": ("TD2", set(), "D23145890"),
    "100_visa-usa.jpg": ("MRV-A", set(), "555123ABC"),
    "53_id-d.jpg": ("TD1", set(), "T22000129"),
    "77_card-cmw.png": ("TD1", {"composite"}, "51284970"),
    "passport-td2.jpg": ("TD2", set(), "D23145890"),
    "passport-td3.jpg": ("TD3", set(), "L898902C3"),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(_SPECIMENS))
def test_the_shared_specimens_are_read_as_printed(shared_data: Path, name: str) -> None:
    layout, failed, number = _SPECIMENS[name]
    image_rgb, _ = read_image(shared_data / "documents" / "mrz_specimens_passporteye" / name, Settings().limits)
    page = module.read_page(image_rgb, today=TODAY)
    assert page.mrz is not None
    assert (page.mrz.format, set(page.mrz.failed_checks), page.mrz.document_number) == (layout, failed, number)


def test_a_zone_whose_names_are_covered_is_asked_for_again_and_the_rest_of_it_compared(detector: Document, page_rgb: UInt8Array) -> None:
    lines = detector(_evidence(page_rgb)).artefacts["mrz_xyxy"]
    middle = round(float(lines[1] + lines[3]) / 2)
    covered = page_rgb.copy()
    covered[middle - 90 : middle] = 235
    signal = detector(_evidence(covered, claims={**HOLDER.claims, "birth_date": "1974-08-13"}))
    assert {r.code for r in signal.reasons} == {"document_mrz_partial", "document_claim_mismatch"}
    assert signal.facts["claims"] | {"birth_date": "same"} == dict.fromkeys(HOLDER.claims.keys() - {"surname", "given_names"}, "same")


# ---- doubt

_FIELDS = tuple(TextLine("UTOPIA", 0.99, np.array([350, y, 700, y + 36], np.float32)) for y in range(120, 620, 72))


def test_a_page_straight_out_of_a_renderer_is_more_suspicious_than_its_photo(page_rgb: UInt8Array) -> None:
    doubts = Document.load(_bundle()).doubts
    boxes = np.stack([line.box_xyxy for line in _FIELDS]).astype(np.float32)
    photo = lay_page(np.random.default_rng(7), page_rgb).image_rgb
    render, seen = ({d.kind: d.probability for d in doubts(image, boxes, None)} for image in (page_rgb, photo))
    assert render["generated"] > seen["generated"]


@pytest.mark.parametrize("kind", DOUBTS)
def test_each_suspicion_has_its_reason_fact_and_worth(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face, kind: str
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER), text=_FIELDS, face=portrait)
    hints = _hints(**{kind: {"offset": 2.0, "points": {"review": 0.5}}})
    signal = replace(detector, doubts=hints)(_evidence(page_rgb))
    assert [r.code for r in signal.reasons] == [DOUBTS[kind][0]]
    assert signal.facts["doubts"][kind] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)
    assert set(signal.facts["doubts"]) == set(DOUBTS)
    assert signal.score == pytest.approx(1 - (1 - detector.findings["prior"]) / (1 + np.exp(2)), abs=1e-3)
    assert ("altered_xyxy" in signal.artefacts) == (kind == "text")


def test_a_suspicion_below_its_point_is_a_fact_and_no_finding(
    monkeypatch: pytest.MonkeyPatch, detector: Document, page_rgb: UInt8Array, portrait: Face
) -> None:
    _page(monkeypatch, page_rgb, zone(HOLDER), text=_FIELDS, face=portrait)
    signal = replace(detector, doubts=_hints(recapture={"offset": 2.0, "points": {"review": 0.99}}))(_evidence(page_rgb))
    assert signal.reasons == ()
    assert signal.score == pytest.approx(detector.findings["prior"])
    assert signal.facts["doubts"]["recapture"] > 0.8


def test_a_suspicion_may_show_a_page_to_a_person_and_never_reject_it() -> None:
    bundle = _bundle()
    table = bundle.thresholds.table("document_doubt")
    assert bundle.policy.checks["document"].reject_at is None
    for kind, (code, _) in DOUBTS.items():
        assert bundle.policy.reasons[code] in {Outcome.ACCEPT, Outcome.REVIEW}, f"{kind}: AUC {table[kind]['validation']}"


def test_without_its_hints_the_detector_does_not_load() -> None:
    tables = {k: v for k, v in Thresholds.load(Settings().thresholds_path).tables.items() if k != "document_doubt"}
    with pytest.raises(ConfigError, match=r"document_doubt"):
        Document.load(_bundle(tables))
