"""Traces of text that was not always there: each line against the paper round it and against lines of its size. Figures only.

Text typed over a photo stands on paper without its noise and guilloche, is sharper or softer than its neighbours, of another ink,
height, weight or spacing, and off the line. Text copied within the photo is the same, grain and all, in two places.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.documents.planes import Planes, blockiness, log, noise, ranks
from kyc_guard.types import Float32Array, Float64Array

_MIN_HEIGHT_PX = 7
_MIN_CONTRAST = 18.0
_MIN_DETAIL = 0.5
"""Grey levels: with less there is nothing that could be found again."""
_ALIKE = 1.4
"""Lines whose heights differ by less are of one size."""

_AGAINST_PAPER = ("paper_noise", "paper_wave", "paper_luma", "paper_red", "paper_blue", "paper_right", "paper_below", "paper_flat")
_AGAINST_PEERS = (
    "edge", "weight", "height", "ink", "ink_red", "ink_blue", "width", "gap", "feet", "slope", "inside_noise", "stroke_noise", "grid",
    "contrast",
)  # fmt: skip
NAMES = (*_AGAINST_PAPER, *(f"peer_{name}" for name in _AGAINST_PEERS), "own_feet", "own_contrast", "size", "copied")


def rows(planes: Planes) -> tuple[Float64Array, list[int]]:
    """((N, len(NAMES)), which lines): figures of each line with enough contrast and height; NaN where one cannot be told."""
    measured = [(i, *found) for i, box in enumerate(planes.lines_xyxy) if (found := _line(planes, box)) is not None]
    if not measured:
        return np.zeros((0, len(NAMES))), []
    own = np.array([paper for _, paper, _, _ in measured])
    peers = np.array([print_ for _, _, print_, _ in measured])
    heights = np.array([height for *_, height in measured])
    copied = _copied(planes)
    table = []
    for i in range(len(measured)):
        others = np.flatnonzero(
            (np.maximum(heights, heights[i]) / np.minimum(heights, heights[i]) < _ALIKE) & (np.arange(len(heights)) != i)
        )
        if len(others) < 2:
            others = np.flatnonzero(np.arange(len(heights)) != i)
        typical = _middle(peers[others]) if len(others) else np.full(peers.shape[1], np.nan)
        alone = (peers[i][_AGAINST_PEERS.index("feet")], measured[i][2][-1], np.log(heights[i]), copied[measured[i][0]])
        table.append([*own[i], *(peers[i] - typical), *alone])
    return np.array(table), [i for i, *_ in measured]


_PIECE = 2.0
"""Width of a piece over the line's height: some three letters, few enough to lie in what was copied, too many to repeat often."""
_MOST_COMPARISONS = 500
"""Of a piece with a line, at up to 0.2 ms. Cards take 100 to 350; a page full of text is no card."""


def _copied(planes: Planes) -> Float64Array:
    """(N,) how alike a piece of each line and a place in another line are, fine detail alone: -log(1 - correlation).

    NaN for lines too short to tell, and for all of a page with too much text.

    Copy-move as in Fridrich, Soukal and Lukas, "Detection of copy-move forgery in digital images", 2003, kept to lines of text. Words
    that a form repeats are alike too, but each is printed and seen anew.
    """
    height, width = planes.fine.shape
    tall = planes.lines_xyxy[:, 3] - planes.lines_xyxy[:, 1]
    reach = np.stack([-0.2 * tall, -0.1 * tall, 0.2 * tall, 0.1 * tall], axis=1)
    x0, y0, x1, y1 = np.clip(planes.lines_xyxy + reach, 0, (width, height, width, height)).astype(int).T
    best = np.full(len(tall), np.nan)
    size, each = np.maximum(tall, _MIN_HEIGHT_PX), np.arange(len(tall))
    wide = np.round(_PIECE * size).astype(int)
    # Side by side: of what was copied, twice as wide as a piece, one lies in it whole.
    pieces = [range(x0[i], x1[i] - wide[i] + 1, wide[i]) if tall[i] >= _MIN_HEIGHT_PX else range(0) for i in each]
    # Each pair once: what was copied is found from either side.
    alike = (tall < _ALIKE * tall[:, None]) & (_ALIKE * tall > tall[:, None]) & (each > each[:, None])
    if sum(len(starts) * int(row.sum()) for starts, row in zip(pieces, alike, strict=True)) > _MOST_COMPARISONS:
        return best
    for i in each:
        inner = round(0.2 * tall[i])
        for x in pieces[i]:
            piece = planes.fine[y0[i] + inner : y1[i] - inner, x : x + wide[i]]
            if not piece.size or piece.std() < _MIN_DETAIL:
                continue
            for k in np.flatnonzero(alike[i]):
                place = planes.fine[y0[k] : y1[k], x0[k] : x1[k]]
                if place.shape[0] >= piece.shape[0] and place.shape[1] >= wide[i]:
                    found = cv2.matchTemplate(place, piece, cv2.TM_CCOEFF_NORMED).max()
                    best[[i, k]] = np.fmax(best[[i, k]], -np.log(max(1.0 - found, 1e-3)))
    return best


def _middle(table: Float64Array) -> Float64Array:
    return np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in table.T])


def _line(planes: Planes, box: Float32Array) -> tuple[list[float], list[float], float] | None:
    """What one line shows: against its paper, of its print, and its height; ``None`` where no print stands out."""
    height, width = planes.luma.shape
    tall = float(box[3] - box[1])
    x0, x1 = max(0, int(box[0] - 0.3 * tall)), min(width, int(box[2] + 0.3 * tall) + 1)
    y0, y1 = max(0, int(box[1] - 0.5 * tall)), min(height, int(box[3] + 0.5 * tall) + 1)
    if tall < _MIN_HEIGHT_PX or x1 - x0 < 12 or y1 - y0 < 12:
        return None
    luma = planes.luma[y0:y1, x0:x1]
    inside = np.zeros(luma.shape, bool)
    inside[max(0, int(box[1]) - y0) : int(box[3]) + 1 - y0, max(0, int(box[0]) - x0) : int(box[2]) + 1 - x0] = True
    level, _ = cv2.threshold(luma[inside].astype(np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ink = (luma <= level) & inside
    letters, paper = luma[ink], luma[inside & ~ink]
    if letters.size < 20 or paper.size < 20 or ranks(paper, 0.5)[0] - ranks(letters, 0.5)[0] < _MIN_CONTRAST:
        return None
    near = cv2.dilate(ink.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    within, beyond = inside & ~near, ~inside & ~cv2.dilate(near.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    if within.sum() < 24 or beyond.sum() < 24:
        return None
    print_ = _print(planes, (slice(y0, y1), slice(x0, x1)), ink, within)
    return None if print_ is None else (_against(planes, (slice(y0, y1), slice(x0, x1)), within, beyond), *print_)


def _against(planes: Planes, area: tuple[slice, slice], within: NDArray[np.bool_], beyond: NDArray[np.bool_]) -> list[float]:
    """Paper between the letters against paper round the line, named in `_AGAINST_PAPER`."""
    luma, fine = planes.luma[area], planes.fine[area]
    red, blue = (c[area] for c in planes.chroma)
    wave = planes.wave[area]
    right = fine[:, 1:] * fine[:, :-1]
    below = fine[1:] * fine[:-1]

    def share(products: Float32Array, mask: NDArray[np.bool_]) -> float:
        return float(products[mask[: products.shape[0], : products.shape[1]]].mean()) / (float(np.square(fine[mask]).mean()) + 0.05)

    flat = np.abs(np.diff(luma, axis=1, append=luma[:, -1:])) < 0.5
    return [
        noise(fine[within]) - noise(fine[beyond]),
        noise(wave[within], 0.2) - noise(wave[beyond], 0.2),
        *((ranks(p[within], 0.5)[0] - ranks(p[beyond], 0.5)[0]) / unit for p, unit in ((luma, 8), (red, 4), (blue, 4))),
        share(right, within) - share(right, beyond),
        share(below, within) - share(below, beyond),
        float(flat[within].mean() - flat[beyond].mean()),
    ]


def _print(
    planes: Planes, area: tuple[slice, slice], ink: NDArray[np.bool_], within: NDArray[np.bool_]
) -> tuple[list[float], float] | None:
    """The letters themselves, named in `_AGAINST_PEERS` with their contrast behind, and their height in pixels."""
    luma, fine = planes.luma[area], planes.fine[area]
    count, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    boxes = stats[1:count]
    boxes = boxes[boxes[:, cv2.CC_STAT_AREA] >= 6]
    if not len(boxes):
        return None
    tallest = np.percentile(boxes[:, cv2.CC_STAT_HEIGHT], 75)
    boxes = boxes[boxes[:, cv2.CC_STAT_HEIGHT] >= 0.6 * tallest]
    if tallest < 5 or not len(boxes):
        return None
    boxes = boxes[np.argsort(boxes[:, cv2.CC_STAT_LEFT], kind="stable")]
    left, wide = boxes[:, cv2.CC_STAT_LEFT].astype(float), boxes[:, cv2.CC_STAT_WIDTH].astype(float)
    feet = boxes[:, cv2.CC_STAT_TOP] + boxes[:, cv2.CC_STAT_HEIGHT].astype(float)
    height = float(np.median(boxes[:, cv2.CC_STAT_HEIGHT]))
    slope, off = 0.0, float("nan")
    if len(boxes) >= 3 and np.ptp(left) > 2 * height:
        middles = left + wide / 2 - (left + wide / 2).mean()
        slope = float(middles @ feet / (middles @ middles))
        off = float(np.median(np.abs(feet - feet.mean() - slope * middles))) / height
    gaps = left[1:] - (left + wide)[:-1]
    dark = ranks(luma[ink], 0.2)[0]
    contrast = ranks(luma[within], 0.5)[0] - dark
    core = cv2.erode(ink.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rim = float(ink.sum() - core.sum()) + 1.0
    tints = [(ranks(c[area][ink], 0.5)[0] - ranks(c[area][within], 0.5)[0]) / contrast for c in planes.chroma]
    edge = ranks(np.abs(np.diff(luma, axis=1))[ink[:, 1:]], 0.9)[0] / contrast
    return [
        log(edge, 0.02),
        log(float(ink.sum()) / rim / height, 0.02),
        log(height, 0.5),
        dark / 32,
        *(t * 4 for t in tints),
        log(float(np.median(wide)) / height, 0.1),
        log(float(np.median(gaps)) / height if len(gaps) else float("nan"), 0.1) if len(gaps) else float("nan"),
        off,
        slope * 10,
        noise(fine[within]),
        noise(fine[core]) if core.sum() >= 12 else float("nan"),
        blockiness(luma),
        contrast / 64,
    ], height
