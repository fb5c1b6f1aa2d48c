"""What the documents show is run: code blocks are executed, their printed output is compared, the schema example is read."""

from __future__ import annotations

import base64
import re
from datetime import date
from pathlib import Path

import pytest
from fakes import fake, lend, settings_in, usual

import kyc_guard.detectors
from kyc_guard import Settings, Submission, forensics
from kyc_guard.detectors.challenge import ChallengeResponse
from kyc_guard.detectors.injection import Injection
from kyc_guard.types import Modality

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_api_examples(capsys: pytest.CaptureFixture[str]) -> list[str]:
    names: dict[str, object] = {}
    printed = []
    for code in blocks("python-api.md", "python"):
        exec(code, names)
        printed.append(capsys.readouterr().out)
    return printed


def test_the_api_examples_run_and_print_what_the_document_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Settings()
    settings = settings_in(tmp_path, policy=shipped.policy_path.read_text(), thresholds=shipped.thresholds_path.read_text())
    lend(settings, "face_embedding")  # which challenge compares performers with
    others = [fake(name, 0.0) for name in ("match", "phrase", "lipsync", "voice", "speaker")]
    kinds = (*usual(), fake("liveness", 0.1, Modality.CLIP), *others, Injection, ChallengeResponse)
    monkeypatch.setenv("KYC_GUARD_WEIGHTS_DIR", str(settings.weights_dir))
    monkeypatch.setenv("KYC_GUARD_POLICY_PATH", str(settings.policy_path))
    monkeypatch.setattr(kyc_guard.detectors, "DETECTORS", kinds)
    printed = run_api_examples(capsys)
    assert printed[0] == blocks("python-api.md", "text")[0]
    assert printed[1].splitlines()[2] == "liveness None ['no_clip']"
    assert printed[1].splitlines()[-1].startswith("broken: selfie | ")
    assert printed[2] == blocks("python-api.md", "text")[1]


def test_the_api_examples_hold_with_the_shipped_models(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ROOT / "weights" / "manifest.toml"
    if not manifest.is_file() or "[liveness]" not in manifest.read_text(encoding="utf-8"):
        pytest.skip("weights/manifest.toml lacks a model: not all are trained yet")
    first, _, third = run_api_examples(capsys)
    assert [first, third] == blocks("python-api.md", "text")


def test_the_documented_submission_toml_is_valid(tmp_path: Path) -> None:
    (tmp_path / "submission.toml").write_text(blocks("submission.md", "toml")[0], encoding="utf-8")
    sent = Submission.from_dir(tmp_path)
    assert (sent.id, sent.subject, sent.selfie, len(sent.document)) == ("a1", "applicant-17", tmp_path / "selfie.mp4", 2)
    assert sent.claims["birth_date"] == date(1974, 8, 12).isoformat()
    assert sent.challenge is not None
    assert sent.challenge.actions == ("turn_left", "blink")
    assert len(sent.challenge.prompts_s) == 2
    assert len(base64.urlsafe_b64decode((sent.challenge.nonce or "") + "=")) * 8 >= 128
    assert sent.device["fps"] == 30


def test_every_fact_of_a_device_that_a_detector_reads_is_in_the_documented_submission(tmp_path: Path) -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "kyc_guard" / "detectors").glob("*.py")))
    read = {*re.findall(r"device\.get\(\"(\w+)\"\)", code), *forensics.DEVICE_TAGS}
    assert {"signature", "fps", "model"} <= read
    (tmp_path / "submission.toml").write_text(blocks("submission.md", "toml")[0], encoding="utf-8")
    assert read <= set(Submission.from_dir(tmp_path).device)
