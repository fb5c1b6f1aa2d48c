"""Evidence drawn: frames with boxes, heat maps over faces, curves. Whatever a detector leaves as an artefact finds a form here.

uint8 of (H, W, 3) is a picture, of (T, H, W, 3) a strip of them; by their names ``*map`` is a heat map (over the same signal's
``face_rgb`` where there is one) and ``*_xyxy`` a box on a document page; a 1-D array is a curve over the ``*_s`` array of its
length, any other 2-D array a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kyc_guard.reports.pages import picture, plot
from kyc_guard.types import Evidence, Face, Float64Array, Signal, UInt8Array

_KEY_FRAMES = 6
_SIDE_PX = 640
_WIDE_SIDE_PX = 1000
_MAX_POINTS = 2000
"""Of a curve: more than a page has dots."""
_MIN_CURVE = 6
"""Shorter lists of numbers are read more easily than seen."""
_FACE_RGB, _PORTRAIT_RGB, _MRZ_RGB, _ALTERED_RGB = (0, 200, 80), (230, 120, 0), (0, 114, 220), (214, 39, 40)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture shows, and itself as a data: URI."""

    caption: str
    uri: str
    wide: bool = False
    """Whether it needs the width of the page."""


def key_frames(evidence: Evidence) -> Iterator[tuple[str, UInt8Array, Face | None]]:
    """Up to six frames spread over the clip, the first and the last among them: (which and when, (H, W, 3) uint8 RGB, face)."""
    if (clip := evidence.clip) is None:
        return
    count = len(clip.frames_rgb)
    for i in np.unique(np.linspace(0, count - 1, min(_KEY_FRAMES, count)).round().astype(int)):
        face = evidence.track.faces[i] if evidence.track is not None else None
        yield f"frame {i + 1}, {clip.timestamps_s[i]:.2f} s", clip.frames_rgb[i], face


def framed(evidence: Evidence) -> list[Picture]:
    """The key frames with the subject's face in a box."""
    return [
        Picture(f"{when}, no face found", _shown(frame))
        if face is None
        else Picture(when, _shown(boxed(frame, [(face.box_xyxy, "", _FACE_RGB)])))
        for when, frame, face in key_frames(evidence)
    ]


def faces_alone(evidence: Evidence) -> list[Picture]:
    """Key frames in which only the subject's face can be recognised: whoever else was filmed is none of the reader's business."""
    return [Picture(when, _shown(only_face(frame, face))) for when, frame, face in key_frames(evidence) if face is not None]


def only_face(frame_rgb: UInt8Array, face: Face) -> UInt8Array:
    """(H, W, 3) uint8 RGB with everything but the face's surround coarsened beyond recognition."""
    height, width = frame_rgb.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in face.box_xyxy)
    margin = 0.2 * (y1 - y0)
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(width, int(x1 + margin) + 1), min(height, int(y1 + margin) + 1)
    # Squares as large as a third of the face: a bystander's smaller face is one or two of them.
    square = max(8, round((y1 - y0) / 3))
    coarse = cv2.resize(frame_rgb, (max(1, width // square), max(1, height // square)), interpolation=cv2.INTER_AREA)
    shown: UInt8Array = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    shown[top:bottom, left:right] = frame_rgb[top:bottom, left:right]
    return shown


def documents(evidence: Evidence) -> list[Picture]:
    """The documents as they were sent."""
    return [
        Picture(f"document {number}", _shown(rgb, _WIDE_SIDE_PX), wide=True) for number, rgb in enumerate(evidence.documents_rgb, start=1)
    ]


def documents_boxed(evidence: Evidence, signal: Signal | None) -> list[Picture]:
    """The documents upright, with the zone, the portrait and the line that looks altered as the document detector saw them."""
    facts = {} if signal is None else signal.facts
    turns = {page["page"]: page["quarter_turns"] for page in facts.get("pages", ())}
    pictures = []
    for number, rgb in enumerate(evidence.pages_rgb, start=1):
        boxes = [
            (signal.artefacts[f"{name}_xyxy"], name.upper(), colour)
            for name, colour in (("mrz", _MRZ_RGB), ("portrait", _PORTRAIT_RGB), ("altered", _ALTERED_RGB))
            if signal is not None and facts.get(f"{name}_page") == number and f"{name}_xyxy" in signal.artefacts
        ]
        found = " and ".join(name for _, name, _ in boxes) or "nothing"
        shown = boxed(np.ascontiguousarray(np.rot90(rgb, turns.get(number, 0))), boxes)
        pictures.append(Picture(f"document {number}: {found} found", _shown(shown, _WIDE_SIDE_PX), wide=True))
    return pictures


def boxed(rgb: UInt8Array, boxes: Sequence[tuple[NDArray[Any], str, tuple[int, int, int]]]) -> UInt8Array:
    """A copy of (H, W, 3) uint8 RGB with (xyxy, label, RGB colour) boxes."""
    shown = rgb.copy()
    stroke = max(2, round(max(rgb.shape[:2]) / 250))
    for xyxy, label, colour in boxes:
        x0, y0, x1, y1 = (round(float(v)) for v in xyxy)
        cv2.rectangle(shown, (x0, y0), (x1, y1), colour, stroke)
        cv2.putText(
            shown, label, (x0, max(6 * stroke, y0 - 2 * stroke)), cv2.FONT_HERSHEY_SIMPLEX, 0.2 * stroke, colour, max(1, stroke // 2)
        )
    return shown


def heat_over(face_rgb: UInt8Array, heat: NDArray[Any]) -> UInt8Array:
    """(H, W, 3) uint8 RGB with an (h, w) map in 0..1 laid over: dark = nothing, yellow = attack."""
    height, width = face_rgb.shape[:2]
    grey = np.clip(np.nan_to_num(heat) * 255, 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(cv2.resize(grey, (width, height)), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    mixed: UInt8Array = cv2.addWeighted(face_rgb, 0.5, colours, 0.5, 0)
    return mixed


def of_signal(signal: Signal, *, marks_s: Sequence[float] = ()) -> list[Picture]:
    """Every artefact of a signal, and every fact that is a list of numbers, in the form that suits it.

    Args:
        marks_s: moments to mark in curves over time, such as when an action was asked.
    """
    pictures: list[Picture] = []
    # Boxes are drawn into the documents.
    arrays = {name: np.asarray(a) for name, a in signal.artefacts.items() if not name.endswith("_xyxy")}
    curves = {name: a for name, a in arrays.items() if a.ndim == 1 and len(a) > 1 and np.isfinite(a).any()}
    for name, array in arrays.items():
        title = name.removesuffix("_rgb").replace("_", " ")
        if array.dtype == np.uint8 and array.ndim == 3:
            pictures.append(Picture(title, _shown(_enlarged(array), _WIDE_SIDE_PX), wide=array.shape[1] > _SIDE_PX))
        elif array.dtype == np.uint8 and array.ndim == 4 and len(array):
            pictures.append(Picture(title, _shown(np.hstack(list(array[:: max(1, len(array) // _KEY_FRAMES)]))), wide=True))
        elif name.endswith("map") and array.ndim == 2:
            under = arrays.get("face_rgb")
            under = np.zeros((*array.shape, 3), np.uint8) if under is None else under
            span = f"{np.nanmin(array):.2f} to {np.nanmax(array):.2f}"
            pictures.append(
                Picture(f"{title}: bright speaks for an attack; here {span} of 0 to 1", _shown(_enlarged(heat_over(under, array))))
            )
        elif array.ndim == 2 and array.size:
            pictures.append(Picture(f"{title}: a row a moment, a column a figure, each column by its own spread", _table(array), wide=True))
    for axis, mine in groupby(sorted(curves, key=lambda n: _axis_of(n, curves)), key=lambda n: _axis_of(n, curves)):
        drawn = {name: curves[name] for name in mine if name != axis}
        if drawn:
            pictures.append(_plot(drawn, curves.get(axis), axis, marks_s if axis == "times_s" else ()))
    pictures += [_plot(columns, None, "", ()) for columns in _listed(signal.facts)]
    return pictures


def _axis_of(name: str, curves: Mapping[str, NDArray[Any]]) -> str:
    """The ``*_s`` array of this curve's length; itself for such an array; "" = its own index."""
    axes = [n for n in curves if n.endswith("_s") and len(curves[n]) == len(curves[name])]
    return "times_s" if "times_s" in axes else axes[0] if axes else ""


def _listed(facts: Mapping[str, Any]) -> Iterator[dict[str, Float64Array]]:
    for name, value in facts.items():
        parts = {f"{name} {key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
        if lists := {key: np.asarray(v, np.float64) for key, v in parts.items() if is_curve(v)}:
            yield lists


def is_curve(value: Any) -> bool:
    """Whether a fact is a list of numbers that is better seen than read."""
    return isinstance(value, list) and len(value) >= _MIN_CURVE and all(isinstance(v, int | float) for v in value)


def _plot(curves: Mapping[str, NDArray[Any]], axis: NDArray[Any] | None, axis_name: str, marks_s: Sequence[float]) -> Picture:
    """One small plot a curve, one above the other, as wide as a phone."""
    figure = Figure(figsize=(4.0, 0.9 * len(curves) + 0.5), layout="constrained")
    rows = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(rows, curves.items(), strict=True):
        every = max(1, len(values) // _MAX_POINTS)
        x = np.arange(len(values)) if axis is None else axis
        axes.plot(x[::every], np.asarray(values, np.float64)[::every], color="#0072B2", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=8, loc="left", pad=2)
        axes.tick_params(labelsize=7)
        axes.grid(visible=True, linewidth=0.3)
        for moment in marks_s:
            axes.axvline(moment, color="#D55E00", linewidth=1, linestyle=":")
    rows[-1].set_xlabel(axis_name.removesuffix("_s") + " in s" if axis is not None else "number", fontsize=8)
    asked = "; dotted: when an action was asked" if marks_s else ""
    return Picture(", ".join(curves).replace("_", " ") + asked, plot(figure), wide=len(curves) > 3)


def _table(array: NDArray[Any]) -> str:
    values = np.asarray(array, np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    spread = values.std(axis=0)
    figure = Figure(figsize=(6.4, 1.8), layout="constrained")
    axes = figure.add_subplot()
    shown = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    axes.imshow(shown, aspect="auto", cmap="PuOr", vmin=-3, vmax=3, interpolation="nearest")
    axes.set(xlabel="figure", ylabel="moment")
    return plot(figure)


def _enlarged(rgb: UInt8Array) -> UInt8Array:
    """Small crops at twice or more their size, so that a person sees something."""
    factor = max(1, 320 // max(rgb.shape[:2]))
    shown: UInt8Array = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC) if factor > 1 else rgb
    return shown


def _shown(rgb: UInt8Array, side_px: int = _SIDE_PX) -> str:
    scale = side_px / max(rgb.shape[:2])
    if scale < 1:
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return picture(rgb)
