"""Evidence packs: the same decision the same bytes, any change seen, and a redacted one that tells an attacker nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from fakes import POLICY, settings_in, usual
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

import kyc_guard.detectors
from kyc_guard import ConfigError, LimitError, Reason, Signal, Submission, UnreadableError, Verifier, evidence_pack
from kyc_guard.cli import app
from kyc_guard.config import Settings
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.faces import face_finder
from kyc_guard.reports import evidence_page
from kyc_guard.reports.evidence_pictures import of_signal, only_face
from kyc_guard.signatures import CaptureKey
from kyc_guard.types import Decision, Evidence, Modality

ED25519 = "ed25519:" + base64.b64encode(bytes(range(32))).decode()
HMAC = "hmac-sha256:" + base64.b64encode(bytes(32)).decode()
OTHER = "ed25519:" + base64.b64encode(bytes(32)).decode()
MAX_BYTES = 10_000_000
PORTRAIT = np.ascontiguousarray(astronaut()[:400, 74:374])
TIMES_S = np.linspace(0, 3, 46)


class Telling:
    """A detector that leaves every kind of artefact and fact there is."""

    name, version, needs = "face_attack", "1", frozenset({Modality.FACE})

    @classmethod
    def load(cls, bundle: Bundle) -> Telling:
        return cls()

    def __call__(self, evidence: Evidence) -> Signal:
        assert evidence.clip is not None
        return Signal(
            self.name,
            self.version,
            score=0.61,
            quality=0.8,
            species="print",
            reasons=(Reason("planar_motion", "<script>alert('moves as one plane')</script>"),),
            facts={
                "frames": 3,
                "by_frame": {"physical": [0.1, 0.5, -0.2, 0.4, 0.9, 0.1]},
                "long_name_without_any_blank_in_it_whatever_the_width_of_the_page": "x" * 300,
                "actions": [{"action": "blink", "fault": None, "peak": 1.0}],
                "checked": True,
            },
            artefacts={
                "heat_map": np.linspace(0, 1, 49).reshape(7, 7),
                "face_rgb": evidence.clip.frames_rgb[0][100:260, 60:220],
                "mouths_rgb": np.stack([PORTRAIT[:64, :64]] * 9),
                "timeline": np.full((120, 900, 3), 80, np.uint8),
                "times_s": TIMES_S,
                "mouth": np.where(TIMES_S > 2, np.nan, np.sin(TIMES_S)),
                "lag_s": np.linspace(-0.4, 0.4, 17),
                "accord": np.linspace(0, 1, 17),
                "figures": np.arange(60.0).reshape(6, 10),
                "empty": np.zeros((0, 3)),
                "one": np.zeros(1),
                "unseen": np.full(30, np.nan),
                "card_xyxy": np.zeros(4),
            },
        )


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decision, Evidence, Bundle]:
    settings = settings_in(tmp_path_factory.mktemp("bundle"), policy=POLICY.replace("[quality]", 'review = ["planar_motion"]\n[quality]'))
    clip = np.stack([np.roll(PORTRAIT, 4 * i, axis=1) for i in range(8)])
    document = np.full((300, 480, 3), 200, np.uint8)
    sent = Submission(id="a<b>1", selfie=clip, document=(document,), claims={"surname": "Eriksson"}, device={"model": "Pixel"})
    with Verifier(settings, detectors=(Telling, usual()[1])) as verifier:
        decision, evidence = verifier.examine(sent)
        return decision, evidence, verifier.bundle


@pytest.fixture(scope="module")
def packs(judged: tuple[Decision, Evidence, Bundle]) -> dict[str | None, bytes]:
    """Key, or None -> a full pack signed with it."""
    decision, evidence, bundle = judged
    return {key: evidence_pack.build(decision, evidence, keyed(bundle, key)) for key in (None, ED25519, HMAC)}


def keyed(bundle: Bundle, key: str | None) -> Bundle:
    settings = Settings.model_validate(bundle.settings.model_dump() | {"evidence_key": key})
    return Bundle(settings, bundle.policy, bundle.thresholds, bundle.weights)


def members(pack: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pack)) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_the_same_decision_gives_the_same_bytes(judged: tuple[Decision, Evidence, Bundle], packs: dict[str | None, bytes]) -> None:
    assert evidence_pack.build(*judged) == packs[None]
    assert evidence_pack.build(*judged, redacted=True) == evidence_pack.build(*judged, redacted=True)


def test_a_pack_holds_the_page_the_decision_and_the_rules_that_judged(
    judged: tuple[Decision, Evidence, Bundle], packs: dict[str | None, bytes]
) -> None:
    decision, _, bundle = judged
    inside = members(packs[None])
    assert set(inside) == {"index.html", "decision.json", "policy.toml", "thresholds.toml", "manifest.json"}
    assert json.loads(inside["decision.json"]) == json.loads(json.dumps(decision.to_json()))
    assert inside["policy.toml"] == bundle.settings.policy_path.read_bytes()
    html = inside["index.html"].decode()
    shown = ["a&lt;b&gt;1", "0.610", "planar_motion", "Eriksson", "Pixel", *decision.inputs.values()]
    shown += [decision.policy_sha256, decision.thresholds_sha256]
    assert [s for s in shown if s not in html.replace("<wbr>", "")] == []
    assert "<script>" not in html


def test_rules_that_changed_on_disk_are_not_passed_off_as_those_that_judged(
    judged: tuple[Decision, Evidence, Bundle], tmp_path: Path
) -> None:
    decision, evidence, bundle = judged
    other = settings_in(tmp_path, policy=POLICY + "# changed\n")
    with pytest.raises(ConfigError, match="changed"):
        evidence_pack.build(decision, evidence, Bundle(other, bundle.policy, bundle.thresholds, bundle.weights))


def repacked(pack: bytes, change: Callable[[dict[str, bytes]], Any]) -> bytes:
    inside = members(pack)
    change(inside)
    return evidence_pack._zip(inside)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: None, None),
        (lambda m: m.update({"decision.json": m["decision.json"].replace(b"review", b"accept")}), "decision.json was altered"),
        (lambda m: m.pop("policy.toml"), "policy.toml is listed and missing"),
        (lambda m: m.update({"note.txt": b"he confessed"}), "note.txt is not listed"),
        (lambda m: m.update({"manifest.json": m["manifest.json"].replace(b"a<b>1", b"a2")}), "the signature is wrong"),
        (lambda m: m.pop("manifest.sig"), "the signature is absent"),
        (lambda m: m.update({"manifest.sig": b"ed25519:AAAA\n"}), "the signature is wrong"),
        (lambda m: m.update({"manifest.sig": b"\xff\x00"}), "the signature is wrong"),
    ],
)
@pytest.mark.parametrize("secret", [ED25519, HMAC])
def test_whatever_is_altered_is_seen(
    packs: dict[str | None, bytes], tmp_path: Path, secret: str, change: Callable[[dict[str, bytes]], Any], problem: str | None
) -> None:
    pack = tmp_path / "p.zip"
    evidence_pack.write(pack, repacked(packs[secret], change))
    found = evidence_pack.check(pack, CaptureKey.verifying(secret), max_bytes=MAX_BYTES)
    assert found.problems == (() if problem is None else (problem,))


def test_without_a_key_a_pack_says_what_was_not_checked(packs: dict[str | None, bytes], tmp_path: Path) -> None:
    pack = tmp_path / "p.zip"
    evidence_pack.write(pack, packs[None])
    assert evidence_pack.check(pack, None, max_bytes=MAX_BYTES).signature == "absent"
    evidence_pack.write(pack, packs[ED25519])
    assert pack.stat().st_mode & 0o777 == 0o600
    assert evidence_pack.check(pack, None, max_bytes=MAX_BYTES).signature == "unchecked"
    for wrong in (OTHER, HMAC):
        assert evidence_pack.check(pack, CaptureKey.parse(wrong), max_bytes=MAX_BYTES).signature == "wrong"


@pytest.mark.parametrize("data", [b"", b"no zip", evidence_pack._zip({}), evidence_pack._zip({"manifest.json": b"[]"}), None])
def test_what_is_no_pack_is_bad_input(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "p.zip").write_bytes(data)
    with pytest.raises(UnreadableError, match=r"p\.zip"):
        evidence_pack.check(tmp_path / "p.zip", None, max_bytes=MAX_BYTES)


def test_a_pack_that_would_fill_the_memory_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(evidence_pack._zip({"manifest.json": bytes(1000)}))
    with pytest.raises(LimitError):
        evidence_pack.check(tmp_path / "p.zip", None, max_bytes=999)


def test_the_redacted_pack_holds_nothing_that_coaches(judged: tuple[Decision, Evidence, Bundle]) -> None:
    decision, _, _ = judged
    inside = members(evidence_pack.build(*judged, redacted=True))
    assert set(inside) == {"index.html", "decision.json", "manifest.json"}
    told = json.loads(inside["decision.json"])
    assert set(told) == {"submission", "outcome", "message", "judged_on", "inputs"}
    text = re.sub(r'"data:[^"]*"|<style>.*?</style>', "", inside["index.html"].decode(), flags=re.DOTALL) + inside["decision.json"].decode()
    secrets = [
        "0.61",
        "P(attack)",
        "score",
        "threshold",
        "review from",
        decision.policy_sha256,
        decision.thresholds_sha256,
        "Eriksson",
        "Pixel",
    ]
    secrets += [r.code for r in decision.reasons] + [s.detector for s in decision.signals if s.detector != "document"]
    assert [s for s in secrets if s in text] == []
    for shown in (decision.message, decision.outcome.upper(), *decision.inputs.values()):
        assert shown in text


def test_the_redacted_pictures_show_nobody_else() -> None:
    scene = np.full((400, 540, 3), 90, np.uint8)
    scene[:, :300] = PORTRAIT
    scene[80:400, 300:] = np.array(Image.fromarray(PORTRAIT).resize((240, 320)))
    subject, other = sorted(face_finder().find(scene), key=lambda f: -f.quality.size_px)[:2]
    shown = only_face(scene, subject)
    left = face_finder().find(shown)
    assert len(left) == 1
    assert abs(left[0].box_xyxy - subject.box_xyxy).max() < 10
    x0, y0, x1, y1 = other.box_xyxy.astype(int)
    assert shown[y0:y1, x0:x1].std() < scene[y0:y1, x0:x1].std()
    x0, y0, x1, y1 = subject.box_xyxy.astype(int)
    assert (shown[y0:y1, x0:x1] == scene[y0:y1, x0:x1]).all()


def test_every_artefact_finds_its_form(judged: tuple[Decision, Evidence, Bundle]) -> None:
    captions = [p.caption for p in of_signal(judged[0].signals[0], marks_s=(1.0,))]
    assert captions[0].startswith("heat map")
    for expected in ("face", "mouths", "timeline", "accord", "by frame physical", "mouth; dotted: when an action was asked"):
        assert expected in captions
    assert any(c.startswith("figures: ") for c in captions)
    assert not any(left_out in c for c in captions for left_out in ("empty", "one", "unseen", "card"))


@pytest.mark.parametrize("redacted", [False, True])
def test_in_a_browser_as_wide_as_a_phone_nothing_overflows_breaks_or_asks_the_network(
    judged: tuple[Decision, Evidence, Bundle], tmp_path: Path, redacted: bool
) -> None:
    decision, evidence, bundle = judged
    html = evidence_page.redacted_page(decision, evidence) if redacted else evidence_page.page(decision, evidence, bundle)
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script|@import', html)
    assert "@media print" in html
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    seen = browser.look(tmp_path / "page.html")
    assert (seen["wide"], seen["broken"], seen["requests"]) == (0, 0, [])
    assert seen["images"] >= (7 if redacted else 15)


def test_a_submission_without_pictures_has_a_page_too(tmp_path: Path) -> None:
    with Verifier(settings_in(tmp_path), detectors=usual()) as verifier:
        decision, evidence = verifier.examine(Submission(id="nothing"))
        assert "no_selfie" in evidence_page.page(decision, evidence, verifier.bundle).replace("<wbr>", "")
    assert "No picture of you" in evidence_page.redacted_page(decision, evidence)


@pytest.mark.parametrize(
    ("submission", "name"),
    [
        ("a-1.b_2", "a-1.b_2.zip"),
        ("../../etc", r"_\.\._etc-\w{12}.zip"),
        ("a/b", r"a_b-\w{12}.zip"),
        ("é", r"_-\w{12}.zip"),
    ],
)
def test_a_packs_file_name_stays_in_its_folder(submission: str, name: str) -> None:
    assert re.fullmatch(name, evidence_pack.file_name(submission))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = settings_in(tmp_path)
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(settings.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(settings.policy_path))
    monkeypatch.setenv("KYC_GUARD_EVIDENCE_KEY", ED25519)
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", usual())
    folder = tmp_path / "inbox" / "a1"
    folder.mkdir(parents=True)
    Image.fromarray(PORTRAIT).save(folder / "me.png")
    (folder / "submission.toml").write_text('selfie = "me.png"\ndocument = "me.png"\n', encoding="utf-8")
    return folder


def test_the_commands_write_a_pack_check_it_and_never_overwrite_it(inbox: Path, tmp_path: Path) -> None:
    pack, public = tmp_path / "p.zip", CaptureKey.verifying(ED25519).key
    assert run("verify", inbox, "--pack", pack).exit_code == 0
    held = run("pack-verify", pack)
    assert (held.exit_code, "signature valid" in held.stdout) == (0, True)
    named = run("pack-verify", pack, "--public-key", "ed25519:" + base64.b64encode(public).decode(), "--json")
    assert json.loads(named.stdout) == {"submission": "a1", "variant": "full", "members": 4, "signature": "valid", "problems": []}
    assert run("pack-verify", pack, "--public-key", OTHER).exit_code == 11
    assert run("pack-verify", inbox / "me.png").exit_code == 2
    before = pack.read_bytes()
    again = run("verify", inbox, "--pack", pack)
    assert (again.exit_code, "never overwritten" in again.stderr, pack.read_bytes() == before) == (2, True, True)
    assert run("verify", inbox, "--pack", tmp_path / "r.zip", "--redacted").exit_code == 0
    assert "redacted pack" in run("pack-verify", tmp_path / "r.zip").stdout


def test_a_batch_leaves_a_pack_of_every_decision(inbox: Path, tmp_path: Path) -> None:
    verify = evidence_pack.batch_options(tmp_path / "packs", Settings())["make_verify"]()
    verify(Submission.from_dir(inbox))
    assert evidence_pack.check(tmp_path / "packs" / "a1.zip", evidence_pack.verifying_key(Settings()), max_bytes=MAX_BYTES).problems == ()
