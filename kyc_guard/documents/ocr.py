"""Text in pictures: RapidOCR (PP-OCRv6, models inside its wheel), one session a process."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from kyc_guard.documents.zone_layouts import ALPHABET
from kyc_guard.stages import stage
from kyc_guard.types import Float32Array, UInt8Array

_MAX_SIDE_PX = 1600
"""Lines are read from a picture of at most this."""
_LOOK_SIDE_PX = 960
"""Lines are looked for in one of this longer side: from 736 px down small zones were misread, beyond 960 the search only costs more."""
_MIN_SIDE_PX = 32
"""The net that looks for lines takes steps of this; thinner pictures have none."""
_LEAST_LINE_PX = 2
_LEAST_CHANCE = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class TextLine:
    """One line as the recogniser read it."""

    text: str
    confidence: float
    """0..1, mean over its characters."""
    box_xyxy: Float32Array
    """(4,) float32: upright box in pixels of the picture."""
    chances: tuple[Mapping[str, float], ...] = ()
    """For each character of ``text``: what it may be (of A-Z, 0-9 and ``<``, in upper case) -> probability; empty = not known."""

    @property
    def height_px(self) -> float:
        return float(self.box_xyxy[3] - self.box_xyxy[1])

    @property
    def middle_px(self) -> float:
        return float(self.box_xyxy[1] + self.box_xyxy[3]) / 2


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _engine(pid: int) -> Any:
    # Keyed by process: a session does not survive fork().
    del pid
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            # The orientation classifier turns a bare MRZ upside down.
            "Global.use_cls": False,
            # An empty page is an answer here, not a warning on somebody's terminal.
            "Global.log_level": "critical",
            # The picture comes in the size it is to be searched in.
            "Det.limit_type": "min",
            "Det.limit_side_len": _MIN_SIDE_PX,
            # Each line at its own width: padding short ones to long ones was a third of the time.
            "Rec.rec_img_shape": [3, 48, 48],
            "Rec.rec_batch_num": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # Memory kept from call to call would be 250 MB a process and save no time.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )
    recogniser = engine._load_rec_model()  # noqa: SLF001 (else it is loaded with the first line that is found)
    recogniser.postprocess_op = decoder = _Decoder(recogniser.postprocess_op)
    # Its settings are parsed with exceptions that end up in cycles; their frames would hold on to the first clip that is judged.
    gc.collect()
    return engine, decoder


class _Decoder:
    """RapidOCR's decoder, which in passing notes what each character of a line may have been instead."""

    def __init__(self, decode: Any) -> None:
        self.decode = decode
        self.noted: dict[tuple[str, float], tuple[Mapping[str, float], ...]] = {}
        """(text, confidence) of a line, which is all that RapidOCR hands through -> chances of its characters."""
        places = {c: i for i, c in enumerate(decode.character)}
        forms = [[places[c] for c in sorted({a, a.lower()}) if c in places] for a in ALPHABET]
        self.places = np.concatenate(forms)
        """Classes of every letter in both cases, letter by letter."""
        self.starts = np.cumsum([0, *map(len, forms)])[:-1]

    def __call__(self, preds: Any, *args: Any, **kwargs: Any) -> Any:
        lines, words = self.decode(preds, *args, **kwargs)
        for (text, score), steps in zip(lines, preds, strict=True):
            best = steps.argmax(axis=1)
            # CTC: a character is where the best class changes to something else than blank, class 0.
            at = np.flatnonzero((best != 0) & (best != np.concatenate([[-1], best[:-1]])))
            shares = np.add.reduceat(steps[at][:, self.places], self.starts, axis=1)
            self.noted[text, score] = tuple({ALPHABET[i]: float(row[i]) for i in np.flatnonzero(row >= _LEAST_CHANCE)} for row in shares)
        return lines, words


@stage("OCR")
def read_text(image_rgb: UInt8Array) -> tuple[TextLine, ...]:
    """All legible lines of a picture, top to bottom, then left to right; empty where there is no text.

    Safe to call from several threads; calls queue for the one session.

    Args:
        image_rgb: (H, W, 3) uint8 RGB.
    """
    from rapidocr.ch_ppocr_rec import TextRecInput
    from rapidocr.utils.process_img import get_rotate_crop_image

    height, width = image_rgb.shape[:2]
    unit = min(1.0, _MAX_SIDE_PX / max(height, width))
    if min(height, width) * unit < _MIN_SIDE_PX:
        return ()
    picture_bgr = _scaled(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), unit)
    with _lock:
        engine, decoder = _engine(os.getpid())
        boxes = _find_lines(engine, picture_bgr)
        if not len(boxes):
            return ()
        decoder.noted.clear()
        read = engine.text_rec(TextRecInput(img=[get_rotate_crop_image(picture_bgr, box.copy()) for box in boxes]))
        chances = dict(decoder.noted)
    lines = [
        TextLine(
            text,
            float(score),
            np.concatenate([corners.min(axis=0), corners.max(axis=0)]) / np.float32(unit),
            chances.get((text, score), ()),
        )
        for text, score, corners in zip(read.txts, read.scores, boxes, strict=True)
        if text.strip() and score >= engine.text_score
    ]
    return tuple(sorted(lines, key=lambda line: (line.middle_px, line.box_xyxy[0])))


def _find_lines(engine: Any, picture_bgr: UInt8Array) -> Float32Array:
    """(N, 4, 2) float32 corners of every line, clockwise from the top left, in pixels of the picture."""
    height, width = picture_bgr.shape[:2]
    small = _scaled(picture_bgr, _LOOK_SIDE_PX / max(height, width))
    found = engine(small, use_det=True, use_cls=False, use_rec=False).boxes
    if found is None:
        return np.empty((0, 4, 2), np.float32)
    corners = found.astype(np.float32) * np.array([width / small.shape[1], height / small.shape[0]], np.float32)
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2)
    return np.asarray(corners[(sides >= _LEAST_LINE_PX).all(axis=1)])


def _scaled(picture: UInt8Array, unit: float) -> UInt8Array:
    if unit == 1.0:
        return picture
    way = cv2.INTER_AREA if unit < 1 else cv2.INTER_LINEAR
    out: UInt8Array = cv2.resize(picture, None, fx=unit, fy=unit, interpolation=way)
    return out


def join_rows(lines: Sequence[TextLine]) -> tuple[TextLine, ...]:
    """Lines whose middles lie within half a line of each other, joined from left to right: a row split by wide gaps is whole again."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda one: one.middle_px):
        if rows and abs(rows[-1][0].middle_px - line.middle_px) < min(rows[-1][0].height_px, line.height_px) / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return tuple(_joined(sorted(row, key=lambda one: float(one.box_xyxy[0]))) for row in rows)


def _joined(row: Sequence[TextLine]) -> TextLine:
    boxes = np.stack([line.box_xyxy for line in row])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    known = all(line.chances for line in row)
    chances = [one for line in row for one in ({}, *line.chances)][1:] if known else []
    return TextLine(" ".join(line.text for line in row), min(line.confidence for line in row), box, tuple(chances))
