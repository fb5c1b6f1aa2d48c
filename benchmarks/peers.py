r"""Any other model on the same manifest, and score files side by side.

    python -m benchmarks.peers --model A.onnx --crop-scale 2.7 [--model B.onnx --crop-scale 4.0] --colour bgr --scale 0-255 \
        --live-class 1 --out out/peer
    python -m benchmarks.peers --compare out/accuracy/scores.csv out/peer/scores.csv

The first writes ``scores.csv``, ``report.json`` and ``report.html`` as ``kyc-guard evaluate`` does. Several models are averaged.
Faces are found by our finder for every model alike; a clip's score is the mean over its frames. No weight of others is shipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from scipy.special import expit, softmax

from benchmarks.accuracy import MANIFEST
from benchmarks.comparison import page, side_by_side
from benchmarks.record import plain, save
from kyc_guard import evaluate
from kyc_guard.cli import reporting
from kyc_guard.config import Settings
from kyc_guard.errors import InputError
from kyc_guard.faces import face_square, square_crop, track_faces
from kyc_guard.media import read_clip
from kyc_guard.pipeline import AttackScore
from kyc_guard.progress import bar
from kyc_guard.runtime import Net
from kyc_guard.types import Face, Float32Array, Float64Array, Signal, UInt8Array
from kyc_guard.weights import Weight

COLUMN = "peer"
_IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_IMAGENET_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)


class Colour(StrEnum):
    RGB = "rgb"
    BGR = "bgr"


class Scale(StrEnum):
    """What the model's input numbers are."""

    BYTES = "0-255"
    UNIT = "0-1"
    SYMMETRIC = "-1-1"
    IMAGENET = "imagenet"


class Layout(StrEnum):
    NCHW = "nchw"
    NHWC = "nhwc"


class Border(StrEnum):
    """What a crop that leaves the picture does: shrink and shift until it fits (Silent-Face's rule), or mirror the picture (ours)."""

    INSIDE = "inside"
    MIRROR = "mirror"


class Activation(StrEnum):
    """What turns the model's output into probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Peer:
    """One foreign model and how it wants to be fed.

    Attributes:
        crop_scale: side of the square crop over the face's side.
        live_class: place of P(live) in the output, or ``None`` if ``attack_class`` is given.
        attack_class: place of P(attack) in the output.
    """

    model: Path
    crop_scale: float
    colour: Colour
    scale: Scale
    layout: Layout
    border: Border
    activation: Activation
    live_class: int | None
    attack_class: int | None

    def load(self) -> Callable[[Sequence[tuple[UInt8Array, Face]]], Float64Array]:
        """Returns what turns N (frame (H, W, 3) uint8 RGB, face) pairs into (N,) P(attack)."""
        net = Net(Weight(self.model.stem, self.model, "", "", "", self.model))
        ((name, shape),) = net.inputs.items()
        side = shape[2] if self.layout is Layout.NCHW else shape[1]
        if not isinstance(side, int):
            raise InputError(self.model, f"takes inputs of shape {shape}", "export it with a fixed picture size, and check --layout")

        def judge(faces: Sequence[tuple[UInt8Array, Face]]) -> Float64Array:
            pictures = np.stack([self.feed(cut(frame, face, self.crop_scale, side, self.border)) for frame, face in faces])
            # One by one: many exported models have a fixed batch of one.
            outputs = [next(iter(net.run(**{name: picture[None]}).values())) for picture in pictures]
            return np.array([self.attack(np.asarray(output, np.float64).reshape(-1)) for output in outputs])

        return judge

    def feed(self, crop_rgb: UInt8Array) -> Float32Array:
        """(side, side, 3) uint8 RGB -> what the model takes, without the batch axis."""
        values = crop_rgb.astype(np.float32)
        match self.scale:
            case Scale.UNIT:
                values /= 255.0
            case Scale.SYMMETRIC:
                values = values / 127.5 - 1.0
            case Scale.IMAGENET:
                values = (values / 255.0 - _IMAGENET_MEAN) / _IMAGENET_DEVIATION
            case Scale.BYTES:
                pass
        if self.colour is Colour.BGR:
            values = values[..., ::-1]
        return np.ascontiguousarray(values.transpose(2, 0, 1) if self.layout is Layout.NCHW else values, dtype=np.float32)

    def attack(self, output: Float64Array) -> float:
        """P(attack) from one output row."""
        match self.activation:
            case Activation.SOFTMAX:
                probabilities = softmax(output)
            case Activation.SIGMOID:
                probabilities = expit(output)
            case Activation.NONE:
                probabilities = output
        place = self.live_class if self.live_class is not None else self.attack_class
        if place is None or not -len(output) <= place < len(output):
            raise InputError(self.model, f"gives {len(output)} outputs", "name one of them with --live-class or --attack-class")
        return float(1.0 - probabilities[place] if self.live_class is not None else probabilities[place])


def cut(frame_rgb: UInt8Array, face: Face, scale: float, side_px: int, border: Border) -> UInt8Array:
    """(side_px, side_px, 3) uint8 RGB about the face.

    Source of the rule `Border.INSIDE`: Silent-Face-Anti-Spoofing as described in FACTS.md A5; the box keeps its proportions there.
    """
    (cx, cy), side = face_square(face)
    if border is Border.MIRROR:
        return square_crop(frame_rgb, (cx, cy), scale * side, side_px)
    height, width = frame_rgb.shape[:2]
    box_width, box_height = (float(v) for v in face.box_xyxy[2:] - face.box_xyxy[:2])
    fits = min((height - 1) / box_height, (width - 1) / box_width, scale)
    across, down = max(2, round(fits * box_width)), max(2, round(fits * box_height))
    left, top = (round(min(max(c - size / 2, 0), most - size)) for c, size, most in ((cx, across, width), (cy, down, height)))
    inside = np.ascontiguousarray(frame_rgb[top : top + down, left : left + across])
    resized: UInt8Array = cv2.resize(inside, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    return resized


@dataclass(frozen=True, slots=True)
class LoadPeers:
    """Makes what scores a file with the mean of several peers; picklable, for worker processes."""

    peers: tuple[Peer, ...]
    settings: Settings

    def __call__(self) -> evaluate.ScoreMedia:
        cv2.setNumThreads(1)
        judges = [peer.load() for peer in self.peers]
        sampling = self.settings.sampling.model_copy(update={"burst_frames": 0})

        def score(media: Path, name: str) -> AttackScore:
            frames = read_clip(media, sampling, self.settings.limits, name=name).frames_rgb
            track = track_faces(frames, other_face_ratio=1.0)
            pairs = [(frames[i], face) for i, face in enumerate(track.faces) if face is not None]
            if not pairs:
                return AttackScore(None, "no_face", None, ())
            value = float(np.mean([judge(pairs) for judge in judges]))
            return AttackScore(value, None, None, (Signal(COLUMN, "1", min(1.0, max(0.0, value))),))

        return score


@reporting(as_json=False)
def main(
    scores: Annotated[list[Path] | None, typer.Argument(help="With --compare: score files of the same manifest.")] = None,
    *,
    model: Annotated[list[Path] | None, typer.Option(help="ONNX file of a foreign model (repeatable: their mean).")] = None,
    crop_scale: Annotated[list[float] | None, typer.Option(help="Crop side over face side, one a model.")] = None,
    colour: Annotated[Colour, typer.Option(help="Colour order of the model's input.")] = Colour.RGB,
    scale: Annotated[Scale, typer.Option(help="Range of the model's input.")] = Scale.UNIT,
    layout: Annotated[Layout, typer.Option(help="Axes of the model's input.")] = Layout.NCHW,
    border: Annotated[Border, typer.Option(help="Where a crop would leave the picture.")] = Border.INSIDE,
    activation: Annotated[Activation, typer.Option(help="What makes the output probabilities.")] = Activation.SOFTMAX,
    live_class: Annotated[int | None, typer.Option(help="Place of P(live) in the output.")] = None,
    attack_class: Annotated[int | None, typer.Option(help="Place of P(attack) in the output, if there is no live class.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Print score files side by side instead.")] = False,
    manifest: Annotated[Path, typer.Option(help="CSV with path,label,attack_type,source,subject,split.")] = MANIFEST,
    root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths are relative to; its own unless given.")] = None,
    split: Annotated[str, typer.Option(help="Which rows of the manifest.")] = "validation",
    out: Annotated[Path, typer.Option(help="Where scores and report, or the comparison, go.")] = Path("out") / "peer",
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a core unless given.")] = None,
) -> None:
    """Score a manifest with a foreign ONNX model, or compare score files."""
    if compare:
        found = plain(side_by_side(manifest, scores or [], split=split))
        save(out, "comparison", found, page(found))
        typer.echo(page(found))
        return
    models, scales = model or [], crop_scale or []
    if not models or len(models) != len(scales) or (live_class is None) == (attack_class is None):
        raise typer.BadParameter("give each --model its --crop-scale, and one of --live-class and --attack-class")
    peers = tuple(
        Peer(m, s, colour, scale, layout, border, activation, live_class, attack_class) for m, s in zip(models, scales, strict=True)
    )
    begun = (out / "scores.csv").exists()
    evaluate.run(manifest, out, root=root, split=split, scorer=scorer_of(peers), workers=workers, resume=begun, progress=bar)
    typer.echo(f"{out / 'scores.csv'}: written; compare with python -m benchmarks.peers --compare OURS.csv {out / 'scores.csv'}")


def scorer_of(peers: tuple[Peer, ...]) -> evaluate.Scorer:
    """For `evaluate.run`: the same files, the same columns, no operating points."""
    about = [{**{k: str(getattr(p, k)) for k in p.__slots__}, "sha256": hashlib.sha256(p.model.read_bytes()).hexdigest()} for p in peers]
    return evaluate.Scorer(LoadPeers(peers, Settings()), (COLUMN,), {}, {"peers": about})


if __name__ == "__main__":
    typer.run(main)
