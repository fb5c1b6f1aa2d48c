"""Evaluation: the columns of scores.csv, the figures, bad rows, resumption."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fake_workers
import pytest
from browser import look
from fake_workers import SCORER

from kyc_guard import evaluate
from kyc_guard.errors import InputError, SchemaError, UnreadableError
from kyc_guard.reports import evaluation as report
from kyc_guard.reports.labelled import read_manifest
from kyc_guard.reports.presentations import Presentation, Score

HEADER = "path,label,attack_type,source,subject,group,split\n"
ROWS = [
    *[f"bf_{n}.png,bona_fide,,cam,p{n % 3},,validation" for n in (5, 10, 20, 30, 60)],
    *[f"print_{n}.png,attack,print,cam,p{n % 3},,validation" for n in (40, 70, 90)],
    *[f"replay_{n}.png,attack,replay,phone,p{n % 3},,validation" for n in (55, 85)],
    "noface_bf.png,bona_fide,,cam,p9,,validation",
    "noface_a.png,attack,replay,phone,p9,,validation",
    "other_50.png,bona_fide,,cam,p9,,train",
]


def make_manifest(folder: Path, rows: list[str] = ROWS) -> Path:
    folder.mkdir(exist_ok=True)
    for row in rows:
        name = row.split(",")[0]
        if name and "/" not in name and name != "absent.png":
            (folder / name).touch()
    manifest = folder / "manifest.csv"
    manifest.write_text(HEADER + "".join(row + "\n" for row in rows))
    return manifest


def run(manifest: Path, out: Path, **options: Any) -> dict[str, Any]:
    return evaluate.run(manifest, out, **({"workers": 1, "scorer": SCORER} | options))


def table(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_csv_has_the_promised_columns_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data")
    run(manifest, tmp_path / "out", workers=2)
    assert (tmp_path / "out" / "scores.csv").read_text().splitlines()[
        0
    ] == "path,score,abstained,reason,predicted_type,face_attack,liveness"
    rows = table(tmp_path / "out")
    assert [row["path"] for row in rows] == [r.split(",")[0] for r in ROWS]
    assert rows[0] == {
        "path": "bf_5.png",
        "score": "0.05",
        "abstained": "0",
        "reason": "",
        "predicted_type": "replay",
        "face_attack": "0.05",
        "liveness": "",
    }
    assert rows[10] == {
        "path": "noface_bf.png",
        "score": "",
        "abstained": "1",
        "reason": "no_face",
        "predicted_type": "",
        "face_attack": "",
        "liveness": "",
    }


def test_the_figures_of_a_worked_example(tmp_path: Path) -> None:
    found = run(make_manifest(tmp_path / "data"), tmp_path / "out", split="validation")
    assert found == json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["counts"] == {
        "rows": 12,
        "presentations": 12,
        "bona_fide": 6,
        "attack": 6,
        "no_response": 2,
        "subjects": 6,  # p0 p1 p2 p9 of cam, p1 p9 of phone
        "errors": 0,
    }
    review = found["operating_points"]["review"]
    assert (review["threshold"], review["bpcer"]["errors"], review["bpcer"]["n"]) == (0.5, 1, 5)
    assert (review["apcer_max"]["species"], review["apcer_max"]["errors"], review["apcer_max"]["n"]) == ("print", 1, 3)
    assert (review["apcer_pooled"]["errors"], review["apcer_pooled"]["n"]) == (1, 5)
    closed = review["no_response_is_attack"]
    assert (closed["bpcer"]["errors"], closed["bpcer"]["n"]) == (2, 6)
    reject = found["operating_points"]["reject"]
    assert (reject["apcer_max"]["species"], reject["apcer_max"]["value"]) == ("print", 2 / 3)
    assert (reject["no_response_is_attack"]["apcer_max"]["species"], reject["bpcer"]["value"]) == ("print", 0.0)
    silence = found["non_response"]
    assert (silence["bpnrr"]["errors"], silence["bpnrr"]["n"]) == (1, 6)
    assert (silence["apnrr"]["replay"]["errors"], silence["apnrr"]["replay"]["n"]) == (1, 3)
    assert silence["reasons"] == {"no_face": 2}
    fixed = {(p["name"], p["over"]): p for p in found["bpcer_at_apcer"]}
    assert set(fixed) == {(n, o) for n in ("BPCER10", "BPCER20", "BPCER100") for o in ("max_species", "pooled")}
    assert fixed["BPCER10", "pooled"]["threshold"] == 0.4
    assert fixed["BPCER10", "pooled"]["bpcer"]["value"] == 1 / 5
    assert fixed["BPCER10", "pooled"]["resolved"] is False
    assert found["secondary"]["auc"] == pytest.approx(23 / 25)  # 0.60 is above 0.40 and 0.55
    assert [(s["name"], s["bona_fide"], s["attack"]) for s in found["sources"]] == [("cam", 6, 3), ("phone", 0, 3)]
    assert found["groups"] == []
    assert found["worst"]["attacks"][0]["path"] == "print_40.png"
    assert found["worst"]["bona_fides"][0]["path"] == "bf_60.png"


def test_subjects_of_different_sources_are_different_people() -> None:
    rows = [
        Presentation("a", "bona_fide", "", "s1", "1"),
        Presentation("b", "bona_fide", "", "s2", "1"),
        Presentation("c", "attack", "print"),
    ]
    assert report.figures(rows, [Score(0.1)] * 3, points={}, about={})["counts"]["subjects"] == 3


def test_bad_rows_become_error_rows_and_count_in_no_rate(tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.touch()
    rows = [
        "bf_10.png,bona_fide,,s,a,,",
        "print_90.png,attack,print,s,b,,",
        "../secret.png,attack,print,s,b,,",
        f"{outside},attack,print,s,b,,",
        "link.png,attack,print,s,b,,",
        "absent.png,attack,print,s,b,,",
        "bf_20.png,genuine,,s,a,,",
        ",attack,print,s,a,,",
    ]
    manifest = make_manifest(tmp_path / "data", rows)
    (tmp_path / "data" / "link.png").unlink()
    (tmp_path / "data" / "link.png").symlink_to(outside)
    found = run(manifest, tmp_path / "out")
    assert [(r["score"], r["reason"]) for r in table(tmp_path / "out")] == [
        ("0.1", ""),
        ("0.9", ""),
        ("", "invalid_path"),
        ("", "invalid_path"),
        ("", "invalid_path"),
        ("", "missing_file"),
        ("", "invalid_row"),
        ("", "invalid_row"),
    ]
    assert (found["counts"]["rows"], found["counts"]["presentations"], found["counts"]["errors"]) == (8, 2, 6)
    assert len(found["errors"]) == 6
    assert all(e["detail"] for e in found["errors"])


def test_what_a_model_cannot_judge_is_a_non_response_and_never_a_number(tmp_path: Path) -> None:
    rows = [
        "bf_10.png,bona_fide,,s,a,,",
        "print_90.png,attack,print,s,b,,",
        *[f"{name}.png,attack,print,s,b,," for name in ("nan", "unreadable", "poison", "bug")],
    ]
    found = run(make_manifest(tmp_path / "data", rows), tmp_path / "out")
    got = {r["path"]: r for r in table(tmp_path / "out")}
    assert {p: r["reason"] for p, r in got.items() if r["abstained"] == "1"} == {
        "nan.png": "invalid_score",
        "unreadable.png": "unreadable",
        "poison.png": "worker_died",
        "bug.png": "internal_error",
    }
    assert all(r["score"] == "" for r in got.values() if r["abstained"] == "1")
    assert (found["non_response"]["apnrr"]["print"]["errors"], found["non_response"]["apnrr"]["print"]["n"]) == (4, 5)
    assert found["counts"]["errors"] == 4


def test_pictures_go_through_the_real_pipeline(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    data, weights = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    weights.mkdir()
    Image.fromarray(astronaut()).save(data / "face.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(data / "black.png")
    (data / "broken.jpg").write_bytes(b"no picture")
    (data / "empty.mp4").touch()
    manifest = data / "m.csv"
    manifest.write_text("path,label\n" + "".join(f"{name},bona_fide\n" for name in ("face.png", "black.png", "broken.jpg", "empty.mp4")))
    scorer = evaluate.Scorer(fake_workers.RealPipeline(weights), ("face_attack",), {"review": 0.5}, {})
    run(manifest, tmp_path / "out", scorer=scorer)
    face, *rest = table(tmp_path / "out")
    assert face["score"] == face["face_attack"] == repr(float(face["score"]))
    assert abs(float(face["score"]) - astronaut().mean() / 255) < 0.01
    assert [(r["score"], r["reason"]) for r in rest] == [("", "no_face"), ("", "unreadable"), ("", "unreadable")]


def test_media_may_lie_under_another_root(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data")
    elsewhere = tmp_path / "manifest.csv"
    manifest.rename(elsewhere)
    assert run(elsewhere, tmp_path / "out", root=tmp_path / "data")["counts"]["errors"] == 0
    assert run(elsewhere, tmp_path / "out2")["counts"]["presentations"] == 0


@pytest.mark.parametrize(
    ("content", "split", "error"),
    [
        ("file,label\na,attack\n", None, SchemaError),
        ("path,label\n", None, SchemaError),
        ("", None, SchemaError),
        ("path,label\na,attack\n", "validation", SchemaError),
        ("path,label,split\na,attack,train\n", "validation", SchemaError),
        ('path,label\n"a\nb",attack\n', None, SchemaError),
        (b"path,label\n\xff,attack\n", None, UnreadableError),
        (None, None, UnreadableError),
    ],
)
def test_an_unusable_manifest_is_refused_before_anything_is_scored(
    tmp_path: Path, content: str | bytes | None, split: str | None, error: type[InputError]
) -> None:
    manifest = tmp_path / "manifest.csv"
    if content is not None:
        manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error):
        run(manifest, tmp_path / "out", split=split)
    assert not (tmp_path / "out").exists()


def test_scores_are_never_overwritten_nor_mixed_with_those_of_another_run(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data")
    run(manifest, tmp_path / "out")
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        run(manifest, tmp_path / "out")
    with pytest.raises(InputError, match="another split"):
        run(manifest, tmp_path / "out", split="train", resume=True)
    manifest.write_text(manifest.read_text() + "bf_5.png,bona_fide,,,,,\n")
    with pytest.raises(InputError, match="another manifest_sha256"):
        run(manifest, tmp_path / "out", resume=True)
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(InputError, match=r"run\.json"):
        run(manifest, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before


@pytest.mark.parametrize("cut", [1, 80, 10_000])
def test_a_torn_scores_csv_is_finished(tmp_path: Path, cut: int) -> None:
    manifest = make_manifest(tmp_path / "data")
    run(manifest, tmp_path / "out")
    whole = {name: (tmp_path / "out" / name).read_bytes() for name in ("scores.csv", "report.json", "report.html")}
    (tmp_path / "out" / "scores.csv").write_bytes(whole["scores.csv"][:-cut])
    run(manifest, tmp_path / "out", resume=True)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in whole} == whole


def test_a_file_that_holds_no_scores_is_not_gone_on_with(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").write_text("precious")
    with pytest.raises(InputError, match="not the beginning"):
        run(manifest, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "scores.csv").read_text() == "precious"


def test_a_killed_run_is_resumed_to_the_same_files(tmp_path: Path) -> None:
    names = random.Random(0).choices(range(100), k=150)
    manifest = make_manifest(
        tmp_path / "data", [f"{i}_{n}.png,{'attack,print' if n > 45 else 'bona_fide,'},s,p{i % 9},," for i, n in enumerate(names)]
    )
    run(manifest, tmp_path / "whole")
    scores = tmp_path / "out" / "scores.csv"
    command = [sys.executable, fake_workers.__file__, str(manifest), str(tmp_path / "out")]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline and (not scores.exists() or scores.read_bytes().count(b"\n") < 10):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= scores.read_bytes().count(b"\n") < 151
    subprocess.run([*command, "--resume"], check=True, timeout=250)
    for name in ("scores.csv", "report.json", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def make_scores(n: int) -> tuple[list[str], list[str]]:
    rng = random.Random(7)
    rows, scores = [], []
    for i in range(n):
        attack = i % 3 == 0
        species = rng.choice(["print", "replay", "mask"])
        score = "" if rng.random() < 0.02 else f"{min(1.0, max(0.0, rng.gauss(0.65 if attack else 0.35, 0.2))):.6f}"
        rows.append(f"f{i}.png,{'attack' if attack else 'bona_fide'},{species if attack else ''},s{i % 7},p{i % 900},g{i % 4},")
        scores.append(f"f{i}.png,{score},{0 if score else 1},{'' if score else 'no_face'},print")
    return rows, scores


def test_a_report_on_ready_scores_needs_neither_models_nor_media_nor_their_order(tmp_path: Path) -> None:
    rows, scores = make_scores(300)
    manifest, ready = tmp_path / "manifest.csv", tmp_path / "scores.csv"
    manifest.write_text(HEADER + "\n".join(rows))
    ready.write_text("path,score,abstained,reason,predicted_type\n" + "\n".join(scores))
    first = evaluate.report_on(manifest, ready, tmp_path / "out", points={"review": 0.5})
    random.Random(1).shuffle(rows)
    random.Random(2).shuffle(scores)
    manifest.write_text(HEADER + "\n".join(rows))
    ready.write_text("path,score,abstained,reason,predicted_type\n" + "\n".join(scores))
    second = evaluate.report_on(manifest, ready, tmp_path / "out2", points={"review": 0.5})
    assert first["about"].pop("manifest_sha256") != second["about"].pop("manifest_sha256")
    assert first == second
    assert first["counts"]["presentations"] == 300
    assert len(first["groups"]) == 4


def test_fifty_thousand_ready_scores_are_reported_on(tmp_path: Path) -> None:
    rows, scores = make_scores(50_000)
    (tmp_path / "manifest.csv").write_text(HEADER + "\n".join(rows))
    (tmp_path / "scores.csv").write_text("path,score,abstained,reason,predicted_type\n" + "\n".join(scores))
    started = time.process_time()
    evaluate.report_on(tmp_path / "manifest.csv", tmp_path / "scores.csv", tmp_path / "out", points={"review": 0.5})
    assert time.process_time() - started < 10.0  # of processor time, so that a busy machine does not fail it
    assert (tmp_path / "out" / "report.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na,0.1\n",
        "path,score\na,nan\n",
        "path,score\na,1.5\n",
        "path,score\na,high\n",
        "path,score\nb,0.1\n",
        "path,score\na,0.1\na,0.2\n",
    ],
)
def test_unusable_ready_scores_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.csv").write_text("path,label\na,attack\n")
    (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(SchemaError):
        evaluate.report_on(tmp_path / "manifest.csv", tmp_path / "scores.csv", tmp_path / "out", points={})


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("bona_fide", 0.1)],
        [("attack", 0.1)],
        [("attack", None)],
        [("bona_fide", None), ("attack", None)],
        [("bona_fide", 0.5), ("attack", 0.5)],
        [("bona_fide", 0.0), ("attack", 1.0)],
    ],
)
def test_degenerate_data_still_gives_a_page(tmp_path: Path, rows: list[tuple[str, float | None]]) -> None:
    presentations = [Presentation(f"{i}", label, "print" if label == "attack" else "") for i, (label, _) in enumerate(rows)]
    scores = [Score(s, None if s is not None else "no_face") for _, s in rows]
    report.report_from_scores(presentations, scores, tmp_path, points={"review": 0.5})
    json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} in the report"))
    assert "<html" in (tmp_path / "report.html").read_text()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [v or "" for k, v in attrs if k in {"src", "href", "srcset", "action"}]


def test_the_page_is_self_contained_and_shows_no_markup_of_others(tmp_path: Path) -> None:
    rows = [Presentation("<script>alert(1)</script>.png", "attack", "<b>print</b>"), Presentation("b", "bona_fide", "")]
    report.report_from_scores(rows, [Score(0.2), Score(0.7)], tmp_path, points={"review": 0.5}, about={"manifest": "<i>m</i>"})
    text = (tmp_path / "report.html").read_text()
    links = _Links()
    links.feed(text)
    assert len(links.sources) == 4
    assert all(s.startswith("data:image/png;base64,") for s in links.sources)
    assert not links.tags & {"script", "link", "iframe", "b>print"}
    assert "<script>" not in text
    assert 'name="viewport"' in text


def test_the_page_fits_a_phone_in_a_real_browser(tmp_path: Path) -> None:
    rows = [
        Presentation(
            f"{'long' * 30}{i}.png",
            "attack" if i % 2 else "bona_fide",
            f"print {i % 3}" if i % 2 else "",
            "s" * 60 + str(i % 5),
            group=f"{'fm'[i % 4 > 1]}|{'a' * 40}",
            matched=i % 2 == 1,
        )
        for i in range(40)
    ]
    report.report_from_scores(rows, [Score(i / 40, None, "replay") for i in range(40)], tmp_path, points={"review": 0.4, "reject": 0.8})
    assert look(tmp_path / "report.html") == {"wide": 0, "broken": 0, "images": 4, "requests": []}


def test_a_page_that_does_not_fit_a_phone_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><div style="width: 900px">x</div><img src="data:image/png;base64,AA"><img src="http://127.0.0.1:9/x.png">'
    )
    seen = look(page)
    assert seen["wide"] > 400
    assert (seen["broken"], seen["images"], seen["requests"]) == (2, 2, ["http://127.0.0.1:9/x.png"])


def test_attacks_that_matched_and_were_accepted_are_impostors_let_in(tmp_path: Path) -> None:
    rows = [
        Presentation("a", "attack", "print", matched=True),
        Presentation("b", "attack", "print", matched=True),
        Presentation("c", "attack", "print", matched=False),
        Presentation("d", "attack", "print"),
        Presentation("e", "attack", "mask", matched=True),
        Presentation("f", "bona_fide", "", matched=True),
    ]
    scores = [Score(0.1), Score(0.9), Score(0.1), Score(0.1), Score(None, "no_face"), Score(0.1)]
    found = report.figures(rows, scores, points={"reject": 0.8, "review": 0.5}, about={})["impostors"]
    assert (found["point"], found["iapar_max"]["species"]) == ("review", "print")
    mask, print_ = found["species"]
    assert (print_["iapmr"]["errors"], print_["iapar"]["errors"], print_["iapar"]["n"]) == (2, 1, 3)
    assert (mask["iapmr"]["errors"], mask["iapar"]["errors"], mask["iapar"]["n"]) == (1, 0, 1)
    assert report.figures([rows[3], rows[5]], [Score(0.1)] * 2, points={"review": 0.5}, about={})["impostors"] is None


def test_the_column_matched_is_read_and_nonsense_in_it_is_an_error_row(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,matched\na,attack,1\nb,attack,0\nc,attack,\nd,attack,maybe\n")
    rows = list(read_manifest(tmp_path / "m.csv", None))
    assert [row.matched for row in rows] == [True, False, None, None]
    assert [row.problem is not None for row in rows] == [False, False, False, True]


def test_what_attacks_were_taken_for(tmp_path: Path) -> None:
    rows = [Presentation(p, "attack", p[:-1]) for p in ("mask1", "mask2", "print1", "print2", "print3")] + [
        Presentation(p, "bona_fide", "") for p in ("x", "y")
    ]
    scores = [
        Score(0.9, None, "mask"),
        Score(0.2, None, "mask"),
        Score(0.7, None, "mask"),
        Score(0.8, None, "print"),
        Score(None, "no_face"),
    ]
    found = report.figures(rows, [*scores, Score(0.1, None, "print"), Score(0.6)], points={"review": 0.5}, about={})["confusion"]
    assert found["columns"] == ["bona fide", "mask", "print", "unnamed attack", "no score"]
    assert {row["name"]: row["counts"] for row in found["rows"]} == {
        "bona fide": [1, 0, 0, 1, 0],
        "mask": [1, 1, 0, 0, 0],
        "print": [0, 1, 1, 0, 1],
    }
    assert (found["named_right"]["errors"], found["named_right"]["n"]) == (2, 3)


def test_groups_are_told_apart_by_each_part_of_their_name() -> None:
    rows = [Presentation(str(i), "bona_fide", "", "s", group=f"{'f' if i % 2 else 'm'}|{i % 3}") for i in range(60)]
    found = report.figures(rows, [Score(0.9 if i % 2 else 0.1) for i in range(60)], points={"review": 0.5}, about={})["differentials"]
    assert [(d["of"], d["rate"], len(d["groups"])) for d in found] == [
        ("group", "BPCER", 6),
        ("part 1 of group", "BPCER", 2),
        ("part 2 of group", "BPCER", 3),
    ]
    women = found[1]["groups"][0]
    assert (women["name"], women["value"], women["shown"]) == ("f", 1.0, True)
    assert not any(g["shown"] for g in found[2]["groups"])


def test_the_gallery_shows_the_worst_errors_to_the_owner_alone(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    manifest = make_manifest(tmp_path / "data")
    for name in ("print_40.png", "bf_60.png"):
        Image.fromarray(np.full((300, 200, 3), 90, np.uint8)).save(tmp_path / "data" / name)
    run(manifest, tmp_path / "out", gallery=True)
    scores = tmp_path / "out" / "scores.csv"
    evaluate.report_on(manifest, scores, tmp_path / "plain", points=SCORER.points)
    evaluate.report_on(manifest, scores, tmp_path / "again", points=SCORER.points, gallery=True)
    assert not (tmp_path / "plain" / "gallery.html").exists()
    page = tmp_path / "out" / "gallery.html"
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert text == (tmp_path / "again" / "gallery.html").read_text()
    assert "personal data" in text
    assert "no picture: " in text  # the others are empty files
    assert "data:image/jpeg" not in (tmp_path / "out" / "report.html").read_text()
    assert look(page) == {"wide": 0, "broken": 0, "images": 2, "requests": []}
