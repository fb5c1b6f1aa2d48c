"""Foreign models: how they are fed, what their scores.csv holds, and score files side by side."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from bench_fakes import write_people
from typer.testing import CliRunner

from benchmarks import peers
from benchmarks.comparison import page, side_by_side
from benchmarks.peers import Activation, Border, Colour, Layout, Peer, Scale
from benchmarks.record import plain
from kyc_guard.config import Settings
from kyc_guard.demo import portrait_rgb
from kyc_guard.errors import InputError
from kyc_guard.faces import face_finder
from kyc_guard.reports.labelled import COLUMNS
from kyc_guard.types import Face

PEER = Peer(
    model=Path("peer.onnx"),
    crop_scale=2.7,
    colour=Colour.RGB,
    scale=Scale.BYTES,
    layout=Layout.NCHW,
    border=Border.INSIDE,
    activation=Activation.SOFTMAX,
    live_class=1,
    attack_class=None,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (10.0, 20.0, 30.0)),
        ({"colour": Colour.BGR}, (30.0, 20.0, 10.0)),
        ({"scale": Scale.UNIT}, (10 / 255, 20 / 255, 30 / 255)),
        ({"scale": Scale.SYMMETRIC}, (10 / 127.5 - 1, 20 / 127.5 - 1, 30 / 127.5 - 1)),
        (
            {"scale": Scale.IMAGENET, "colour": Colour.BGR},
            ((30 / 255 - 0.406) / 0.225, (20 / 255 - 0.456) / 0.224, (10 / 255 - 0.485) / 0.229),
        ),
    ],
)
def test_pixels_arrive_in_the_colour_order_and_range_that_was_asked_for(changes: dict[str, Any], expected: tuple[float, ...]) -> None:
    crop = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    planes = dataclasses.replace(PEER, **changes).feed(crop)
    assert planes.shape == (3, 4, 4)
    assert planes.dtype == np.float32
    assert planes[:, 2, 1] == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(dataclasses.replace(PEER, **changes, layout=Layout.NHWC).feed(crop), planes.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("changes", "output", "attack"),
    [
        ({}, (0.0, 0.0, 0.0), 2 / 3),
        ({"live_class": None, "attack_class": 0}, (np.log(3.0), 0.0), 0.75),
        ({"activation": Activation.NONE}, (0.1, 0.7, 0.2), 0.3),
        ({"activation": Activation.SIGMOID, "live_class": None, "attack_class": 0}, (0.0,), 0.5),
        ({"activation": Activation.SIGMOID, "live_class": 0}, (np.log(4.0),), 0.2),
    ],
)
def test_outputs_become_the_probability_of_attack(changes: dict[str, Any], output: tuple[float, ...], attack: float) -> None:
    assert dataclasses.replace(PEER, **changes).attack(np.array(output)) == pytest.approx(attack)


def test_a_class_the_model_does_not_have_is_an_error() -> None:
    with pytest.raises(InputError, match="--live-class"):
        dataclasses.replace(PEER, live_class=3).attack(np.zeros(3))


def test_a_crop_that_would_leave_the_picture_shrinks_and_shifts_or_mirrors() -> None:
    picture = portrait_rgb()
    face: Face = face_finder().find(picture)[0]
    width, height = (float(v) for v in face.box_xyxy[2:] - face.box_xyxy[:2])
    tight = peers.cut(picture, face, 1.0, 32, Border.INSIDE)
    assert tight.shape == (32, 32, 3)
    # Ten faces do not fit: the widest crop that does keeps the box's proportions, so it spans one side of the picture.
    widest = min((picture.shape[0] - 1) / height, (picture.shape[1] - 1) / width)
    assert np.array_equal(peers.cut(picture, face, 10.0, 32, Border.INSIDE), peers.cut(picture, face, widest, 32, Border.INSIDE))
    assert not np.array_equal(peers.cut(picture, face, 10.0, 32, Border.MIRROR), peers.cut(picture, face, widest, 32, Border.MIRROR))


# ------------------------------------------------------------------------------------------------------------- ONNX file


def write_blue_detector(path: Path, side: int = 16) -> Path:
    """A model of three classes, class 1 live: the redder the crop (as channel 0), the livelier."""
    onnx = pytest.importorskip("onnx", reason="the onnx package (extra train) is absent")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.zeros((3, 3), np.float32)
    weight[0, 1], weight[2, 1] = 0.1, -0.1
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        ],
        "blue",
        [helper.make_tensor_value_info("x", kind, [1, 3, side, side])],
        [helper.make_tensor_value_info("logits", kind, [1, 3])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def score(peer: Peer, file: Path) -> float:
    answer = peers.LoadPeers((peer,), Settings())()(file, file.name)
    assert answer.score is not None
    return answer.score


@pytest.mark.torch
def test_a_model_given_by_path_scores_a_picture_and_notices_the_colour_order(tmp_path: Path) -> None:
    peer = dataclasses.replace(PEER, model=write_blue_detector(tmp_path / "peer.onnx"), crop_scale=1.0)
    manifest = write_people(tmp_path / "people", np.ascontiguousarray(portrait_rgb()[::2, ::2]))
    live, attack = (score(peer, manifest.parent / name) for name in ("0.png", "2.png"))
    assert live < 0.5 < attack
    wrong = dataclasses.replace(peer, colour=Colour.BGR)
    assert score(wrong, manifest.parent / "0.png") == pytest.approx(attack, abs=0.05)


@pytest.mark.torch
def test_several_models_are_averaged_and_their_hashes_identify_the_run(tmp_path: Path) -> None:
    one = dataclasses.replace(PEER, model=write_blue_detector(tmp_path / "peer.onnx"), crop_scale=1.0)
    two = dataclasses.replace(one, colour=Colour.BGR)
    manifest = write_people(tmp_path / "people", np.ascontiguousarray(portrait_rgb()[::2, ::2]))
    alone = [score(peer, manifest.parent / "0.png") for peer in (one, two)]
    both = peers.LoadPeers((one, two), Settings())()(manifest.parent / "0.png", "0.png")
    assert both.score == pytest.approx(sum(alone) / 2)
    scorer = peers.scorer_of((one, two))
    assert [p["colour"] for p in scorer.identity["peers"]] == ["rgb", "bgr"]
    assert len(scorer.identity["peers"][0]["sha256"]) == 64


@pytest.mark.torch
def test_the_command_writes_a_scores_csv_of_the_usual_contract(tmp_path: Path) -> None:
    model = write_blue_detector(tmp_path / "peer.onnx")
    manifest = write_people(tmp_path / "people", np.ascontiguousarray(portrait_rgb()[::2, ::2]))
    app = typer.Typer()
    app.command()(peers.main)
    options = [
        "--model",
        model,
        "--crop-scale",
        1.0,
        "--scale",
        "0-255",
        "--live-class",
        1,
        "--manifest",
        manifest,
        "--out",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(app, [*map(str, options), "--workers", "1"])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == (*COLUMNS, peers.COLUMN)
        assert [row["path"] for row in reader] == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    "arguments",
    [["--model", "a.onnx", "--live-class", "1"], ["--model", "a.onnx", "--crop-scale", "2", "--live-class", "1", "--attack-class", "0"]],
)
def test_a_model_that_is_only_half_described_is_refused(arguments: list[str]) -> None:
    app = typer.Typer()
    app.command()(peers.main)
    assert CliRunner().invoke(app, arguments).exit_code == 2


# ------------------------------------------------------------------------------------------------------------ comparison


def write_scores(path: Path, scores: list[str]) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("path,score,reason\n" + "".join(f"{i}.png,{s},{'' if s else 'no_face'}\n" for i, s in enumerate(scores)))
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [
        ("bona_fide", "", "cam"),
        ("bona_fide", "", "phone"),
        ("attack", "print", "cam"),
        ("attack", "swap", "net"),
        ("attack", "swap", "net"),
    ]
    lines = [f"{i}.png,{label},{species},{source},p{i},validation" for i, (label, species, source) in enumerate(rows)]
    path = tmp_path / "manifest.csv"
    path.write_text("path,label,attack_type,source,subject,split\n" + "\n".join(lines) + "\n")
    return path


def test_score_files_are_compared_over_the_same_slices(manifest: Path, tmp_path: Path) -> None:
    ours = write_scores(tmp_path / "ours" / "scores.csv", ["0.1", "0.2", "0.9", "0.8", "0.7"])
    theirs = write_scores(tmp_path / "theirs" / "scores.csv", ["0.1", "0.95", "0.9", "0.05", ""])
    found = plain(side_by_side(manifest, [ours, theirs], split="validation"))
    of = {part["slice"]: part["of"] for part in found["slices"]}
    assert of["all"]["ours"]["auc"]["value"] == 1.0
    assert of["physical"]["theirs"]["auc"]["value"] == 1.0  # the phone's bona fide belongs to no physical attack
    assert of["species print"]["theirs"]["auc"]["value"] == 0.5
    assert of["species swap"]["theirs"]["auc"]["value"] == 0.0
    assert of["source net"]["ours"]["auc"] is None
    assert (of["all"]["theirs"]["attacks_silent"]["errors"], of["all"]["ours"]["attacks_silent"]["errors"]) == (1, 0)
    assert "| slice | attacks | bona fides | AUC ours | AUC theirs | BPCER20 ours | BPCER20 theirs |" in page(found)


def test_a_score_file_that_lacks_a_row_cannot_be_compared(manifest: Path, tmp_path: Path) -> None:
    ours = write_scores(tmp_path / "ours" / "scores.csv", ["0.1", "0.2", "0.9", "0.8", "0.7"])
    short = write_scores(tmp_path / "short" / "scores.csv", ["0.1"])
    with pytest.raises(InputError, match=r"has no row for '1\.png'"):
        side_by_side(manifest, [ours, short], split="validation")


def test_score_files_that_would_bear_one_name_cannot_be_compared(manifest: Path, tmp_path: Path) -> None:
    files = [write_scores(tmp_path / folder / "ours" / "scores.csv", ["0.1"] * 5) for folder in "ab"]
    with pytest.raises(InputError, match="different names"):
        side_by_side(manifest, files, split="validation")
