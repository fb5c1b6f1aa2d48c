"""The red team: the same seed gives the same files, attacks are held against their control, and the gallery can be looked at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import look
from fake_workers import FakeVerifier
from fakes import POLICY, settings_in
from typer.testing import CliRunner

from kyc_guard import InputError, Settings, evaluate, redteam
from kyc_guard.cli import app
from kyc_guard.config import Limits, Policy
from kyc_guard.demo import _waved, portrait_rgb
from kyc_guard.documents.specimen import Holder, render
from kyc_guard.faces import face_finder
from kyc_guard.media import read_audio, read_clip, read_image
from kyc_guard.media.encode import mp4, png
from kyc_guard.redteam_tools import SPECIES, STRENGTHS, TOOLS, Made, Material, NotApplicableError, control, find_tool
from kyc_guard.types import UInt8Array

FPS = 8.0


def small_clip() -> UInt8Array:
    """(12, 214, 160, 3): the public-domain portrait held by an unsteady hand."""
    return np.ascontiguousarray(_waved(portrait_rgb())[:48:4, ::3, ::3])


def hum(seconds: float, hertz: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * 16_000)) * 2 * np.pi * hertz / 16_000)).astype(np.float32)


@pytest.fixture(scope="module")
def own() -> Material:
    frames = small_clip()
    mesh = face_finder().find(frames[0])[0].landmarks_px[:, :2]
    page = render(Holder(), portrait_rgb())[::2, ::2]
    return Material(frames, (mesh,) * len(frames), FPS, hum(1.3, 440), (np.ascontiguousarray(page),))


@pytest.fixture(scope="module")
def donor(own: Material) -> Material:
    """The mirror image of the same person, darker, with another voice: no second public-domain portrait is at hand."""
    frames = np.ascontiguousarray(own.frames_rgb[:, :, ::-1] // 2)
    mesh = face_finder().find(frames[0])[0].landmarks_px[:, :2]
    return replace(own, frames_rgb=frames, meshes_px=(mesh,) * len(frames), sound=hum(1.3, 220))


def made(species: str, strength: int, seed: int, own: Material, donor: Material | None) -> Made:
    return find_tool(species, strength).make(np.random.default_rng(seed), own, donor)


@pytest.mark.parametrize("species", SPECIES)
def test_the_same_seed_gives_the_same_bytes_and_every_strength_another_file(species: str, own: Material, donor: Material) -> None:
    files = [made(species, strength, 1, own, donor).data for strength in STRENGTHS]
    assert made(species, 3, 1, own, donor).data == files[-1]
    assert len({*files, control(np.random.default_rng(1), own, donor).data}) == 4


@pytest.mark.parametrize("species", ["print", "swap", "document_recapture", "injection"])
def test_another_seed_gives_another_file(species: str, own: Material, donor: Material) -> None:
    assert made(species, 3, 1, own, donor).data != made(species, 3, 2, own, donor).data


def test_every_species_has_three_named_tools_from_crude_to_careful() -> None:
    assert [(t.species, t.strength) for t in TOOLS] == [(species, strength) for species in SPECIES for strength in STRENGTHS]
    assert len({t.name for t in TOOLS}) == len(TOOLS)


def test_a_clip_keeps_its_sound_and_a_dub_does_not(own: Material, donor: Material) -> None:
    def tone_hz(data: bytes) -> float:
        sound = read_audio(data, Limits())
        assert sound is not None
        middle = sound[8000:16_000]
        return float(np.abs(np.fft.rfft(middle)).argmax() * 16_000 / len(middle))

    assert tone_hz(made("print", 3, 1, own, donor).data) == pytest.approx(440, abs=3)
    assert tone_hz(made("dub", 1, 1, own, donor).data) == pytest.approx(220, abs=3)
    late = read_audio(made("dub", 2, 1, own, donor).data, Limits())
    assert late is not None
    assert np.abs(late[: round(0.5 * 16_000)]).max() < 0.01 < np.abs(late[round(0.7 * 16_000) :]).max()


def test_a_dub_leaves_the_pictures_of_the_control(own: Material, donor: Material) -> None:
    sampling = Settings().sampling
    dubbed, plain = (
        read_clip(m.data, sampling, Limits()) for m in (made("dub", 3, 1, own, donor), control(np.random.default_rng(0), own, None))
    )
    np.testing.assert_array_equal(dubbed.frames_rgb, plain.frames_rgb)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_document_keeps_its_size_and_text_where_only_the_portrait_is_pasted(strength: int, own: Material, donor: Material) -> None:
    page, _ = read_image(made("document_paste", strength, 1, own, donor).data, Limits())
    before = own.pages_rgb[0]
    assert page.shape == before.shape
    np.testing.assert_array_equal(page[:, page.shape[1] // 2 :], before[:, page.shape[1] // 2 :])
    assert np.abs(page[:, : page.shape[1] // 2].astype(int) - before[:, : page.shape[1] // 2]).max() > 30


@pytest.mark.parametrize(
    ("species", "strength", "changed", "why"),
    [
        ("dub", 1, {"sound": None}, "no sound"),
        ("dub", 2, {"sound": None}, "no sound"),
        ("document_paste", 1, {"pages_rgb": ()}, "no document"),
        ("document_recapture", 3, {"pages_rgb": ()}, "no document"),
    ],
)
def test_what_cannot_be_done_is_skipped_with_its_reason(
    species: str, strength: int, changed: Mapping[str, Any], *, why: str, own: Material, donor: Material
) -> None:
    with pytest.raises(NotApplicableError, match=why):
        made(species, strength, 1, replace(own, **changed), donor)


@pytest.mark.parametrize("species", ["loop", "dub", "injection"])
def test_a_photo_has_no_stream_to_tamper_with(species: str, own: Material) -> None:
    still = replace(own, frames_rgb=own.frames_rgb[:1], meshes_px=own.meshes_px[:1])
    with pytest.raises(NotApplicableError, match="photo"):
        made(species, 2, 1, still, None)
    assert made("print", 2, 1, still, None).suffix == ".jpg"


# ------------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, dict[str, Any]]:
    """Source, output, settings folder and report of one run over a good, a faceless and an unreadable submission."""
    root = tmp_path_factory.mktemp("redteam")
    source = root / "in"
    page = png(render(Holder(), portrait_rgb()))
    for name, selfie in (
        ("<b>anna", mp4(small_clip(), fps=FPS, sound=hum(1.3, 440))),
        ("empty room", mp4(np.full((12, 64, 96, 3), 90, np.uint8))),
        ("torn", b"no video at all"),
    ):
        (source / name).mkdir(parents=True)
        (source / name / "selfie.mp4").write_bytes(selfie)
        (source / name / "page.png").write_bytes(page)
        (source / name / "submission.toml").write_text('selfie = "selfie.mp4"\ndocument = "page.png"\n[claims]\nsex = "F"\n')
    report = run(source, root / "out", root)
    return source, root / "out", root, report


def run(source: Path, out: Path, root: Path, **options: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {"species": ("loop", "dub", "document_recapture"), "seed": 7, "workers": 1}
    settings = settings_in(root, policy=POLICY)
    return redteam.run(source, out, settings=settings, make_verify=FakeVerifier(), **chosen | options)


def contents(out: Path) -> dict[str, bytes]:
    """Every file that must be the same for the same seed; the clock is in the others."""
    return {f.relative_to(out).as_posix(): f.read_bytes() for f in sorted((out / "files").rglob("*")) if f.is_file()} | {
        name: (out / name).read_bytes() for name in ("attacks.jsonl", "manifest.csv", "run.json")
    }


def test_a_run_makes_judges_and_reports_and_tells_what_it_could_not_read(ran: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    _, out, _, report = ran
    assert [(e["original"], "error" in e) for e in report["errors"]] == [("empty room", True), ("torn", True)]
    assert {a["verdict"] for a in report["attacks"]} <= {"through", "stopped", "undecided", "skipped"}
    assert [a["why"] for a in report["attacks"] if a["verdict"] == "skipped"] == ["no other submission's sound is at hand"]
    assert len([a for a in report["attacks"] if "file" in a]) == 8
    assert all((out / a["file"]).is_file() and a["seed"] for a in report["attacks"] if "file" in a)
    assert json.loads((out / "report.json").read_text()) == report


def test_evaluate_accepts_the_manifest(ran: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    _, out, _, _ = ran
    rows = list(evaluate.read_manifest(out / "manifest.csv", out))
    assert all(row.problem is None for row in rows)
    assert [row.label for row in rows] == ["bona_fide"] * 2 + ["attack"] * 5
    assert {row.species for row in rows if row.label == "attack"} == {"loop", "dub"}


def test_a_resumed_run_ends_with_the_same_files_byte_for_byte(ran: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    source, out, root, report = ran
    again = tmp_path / "again"
    shutil.copytree(out, again)
    lost = sorted((again / "files").rglob("loop-*"))
    for file in (*lost, again / "results.jsonl", again / "gallery.html"):
        file.unlink()
    assert len(lost) == 3
    resumed = run(source, again, root, resume=True)
    assert contents(again) == contents(out)
    assert resumed["attacks"] == report["attacks"]
    with pytest.raises(InputError, match="another seed"):
        run(source, again, root, resume=True, seed=8)
    with pytest.raises(InputError, match="never overwritten"):
        run(source, again, root)


def test_an_unknown_species_and_an_empty_source_are_refused(ran: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    source, _, root, _ = ran
    with pytest.raises(InputError, match="nonsense: is no species"):
        run(source, tmp_path / "out", root, species=("nonsense",))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="names no submissions"):
        run(tmp_path / "none", tmp_path / "out", root)


def test_the_gallery_fits_a_phone_shows_every_attack_and_asks_nobody(ran: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    page = tmp_path / "gallery.html"
    page.write_bytes((ran[1] / "gallery.html").read_bytes())
    text = page.read_text(encoding="utf-8")
    assert "Personal data" in text
    assert "<b>anna" not in text
    assert (ran[1] / "gallery.html").stat().st_mode & 0o077 == 0
    assert look(page) == {"wide": 0, "broken": 0, "images": 8, "requests": []}


# --------------------------------------------------------------------------------------------------------------- verdicts


def line(outcome: str, *codes: str) -> dict[str, Any]:
    return {"outcome": outcome, "score": 0.4, "reasons": [{"code": c, "detail": ""} for c in codes], "signals": []}


@pytest.mark.parametrize(
    ("control_line", "attack_line", "verdict", "stopped_by"),
    [
        (line("accept"), line("accept"), "through", []),
        (line("accept"), line("reject", "face_attack_suspected"), "stopped", ["face_attack_suspected"]),
        # No document: neither is accepted, and only what is new counts.
        (line("retry", "no_document", "could_not_judge"), line("retry", "no_document", "could_not_judge"), "through", []),
        (line("retry", "no_document"), line("review", "no_document", "suspected_together"), "stopped", ["suspected_together"]),
        (line("review", "injection_suspected"), line("review", "injection_suspected"), "undecided", []),
        (line("review", "injection_suspected"), line("reject", "injection_suspected", "x_suspected"), "stopped", ["x_suspected"]),
        # A check that is optional and was not asked: said of both, and no reason of the verdict.
        (line("accept", "no_audio"), line("review", "no_audio", "x_suspected"), "stopped", ["x_suspected"]),
        # What the policy calls informative stops nothing.
        (line("accept"), line("retry", "informative", "no_face"), "stopped", ["no_face"]),
    ],
)
def test_an_attack_is_held_against_its_control(
    control_line: dict[str, Any], attack_line: dict[str, Any], verdict: str, stopped_by: list[str], tmp_path: Path
) -> None:
    policy = Policy.load(settings_in(tmp_path, policy=POLICY.replace("[reasons]", '[reasons]\naccept = ["informative"]')).policy_path)
    original = redteam.Original("000-a", "a", "a", tmp_path / "a.mp4", (), {})
    task = redteam.Task(original, None, find_tool("print", 1), 1, tmp_path / "print-1")
    lines = {"000-a-control": control_line, "000-a-original": line("reject", "other_suspected"), "000-a-print-1": attack_line}
    told = redteam._verdict(task, tmp_path / "print-1.mp4", lines, policy)
    assert (told["verdict"], told["stopped_by"]) == (verdict, stopped_by)


def test_the_weakest_is_the_lowest_strength_that_got_through() -> None:
    def judged(name: str, strength: int, verdict: str, score: float) -> dict[str, Any]:
        return {"id": name, "strength": strength, "verdict": verdict, "score": score, "outcome": "accept", "tool": "t"}

    attacks = [
        judged("a", 3, "through", 0.1),
        judged("b", 2, "through", 0.4),
        judged("c", 2, "through", 0.2),
        judged("d", 1, "stopped", 0.9),
    ]
    one = redteam._species(attacks)
    assert one["weakest"] == "c"
    assert (one["strengths"]["1"]["rate"]["errors"], one["strengths"]["2"]["rate"]["errors"], one["strengths"]["2"]["rate"]["n"]) == (
        0,
        2,
        2,
    )
    assert redteam._species([judged("d", 1, "stopped", 0.9)])["weakest"] is None


def test_the_command_shows_counts_errors_and_the_notice(
    ran: tuple[Path, Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(redteam, "run", lambda *_, **__: ran[3])
    result = CliRunner().invoke(app, ["redteam", str(tmp_path), "--out", str(tmp_path / "o")])
    assert result.exit_code == 2
    text = " ".join(result.stdout.split())
    for expected in ("dub", "torn:", "Personal data", "kyc-guard evaluate"):
        assert expected in text
    as_json = CliRunner().invoke(app, ["redteam", str(tmp_path), "--out", str(tmp_path / "o"), "--json"])
    assert json.loads(as_json.stdout) == ran[3]
