"""The figures of motion, family by family; `kyc_guard.motion.measuring` names them and puts them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.faces import LEFT_EYE, MESH_POINTS, OVAL, RIGHT_EYE, face_square
from kyc_guard.motion.regions import BROW_LEFT, BROW_RIGHT, GRID, LIPS, REGIONS, SCALE, SIDE_PX, View, log, pooled
from kyc_guard.types import Face, Float32Array, Float64Array

MOVING = ("skin", "eyes", "mouth", "rim", "around", "far")
"""The regions that are followed from frame to frame."""
GROUPS = {
    "eyes": (*LEFT_EYE, *RIGHT_EYE),
    "brows": (*BROW_LEFT, *BROW_RIGHT),
    "nose": (1, 2, 4, 5, 6, 48, 64, 94, 98, 168, 195, 197, 278, 294, 327),
    "mouth": LIPS,
    "oval": OVAL,
}
"""Parts of the mesh."""
_IRIS = ((468, 33, 133), (473, 362, 263))
_SKIN, _SURROUND = REGIONS.index("skin"), REGIONS.index("around")
_AT = np.array([REGIONS.index(r) for r in MOVING])
_AROUND = MOVING.index("around")


def steps(burst: Sequence[View], found: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What happens from each frame to the next.

    Returns:
        (S, figures) rows, and (S, 4): change of light of skin and surround, log grain of skin and surround.
    """
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    ys, xs = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
    rows: list[list[float]] = []
    series: list[list[float]] = []
    previous: Float32Array | None = None
    for k in range(1, len(burst)):
        if found[k] - found[k - 1] != 1:
            previous = None
            continue
        before, now = burst[k - 1], burst[k]
        flow: Float32Array = estimator.calc(now.luma_u8, before.luma_u8, None)
        moved = cv2.remap(before.luma, xs + flow[:, :, 0], ys + flow[:, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = now.luma - before.luma
        unexplained = now.luma - moved
        grain = change - cv2.blur(change, (3, 3))
        # Without a change before it, the first transition of a run has no flicker.
        flicker = np.full_like(change, np.nan) if previous is None else np.abs(change - previous)
        chroma = np.abs(now.chroma[0] - before.chroma[0]) + np.abs(now.chroma[1] - before.chroma[1])
        values = pooled([np.abs(change), np.abs(unexplained), np.abs(grain), flicker, chroma, change], now.regions)
        logs = np.log(values[:5, _AT] + 0.02)
        # Against the surround, whose own level stays as the last word on noise: cameras differ more than regions do.
        relative = logs - logs[:, [_AROUND]]
        relative[:, MOVING.index("around")] = logs[:, MOVING.index("around")]
        fresh = logs[2, :-1] - 0.5 * now.fine[_AT[:-1]]
        fresh[: MOVING.index("around")] -= fresh[MOVING.index("around")]
        row = [*relative.ravel(), *fresh]
        light = [values[5, _SKIN], values[5, _SURROUND], values[5, _SKIN] - values[5, _SURROUND]]
        row += [*log(np.abs(light) + 0.02)]
        row += _flow_row(flow, now.regions)
        row += _mesh_row(before.mesh, now.mesh, flow)
        rows.append(row)
        series.append([values[5, _SKIN], values[5, _SURROUND], logs[2, MOVING.index("skin")], logs[2, _AROUND]])
        previous = change
    return np.array(rows, np.float64), np.array(series, np.float64)


def accords(series: NDArray[np.float64]) -> Float64Array:
    """Do skin and surround brighten together, and does their grain rise and fall together, as one sensor and one codec make them?"""
    out = []
    for one, other in (series[:, :2].T, series[:, 2:].T) if len(series) >= 6 else ():
        known = np.isfinite(one) & np.isfinite(other)
        a, b = one[known] - one[known].mean(), other[known] - other[known].mean()
        out.append(float(a @ b / (np.sqrt((a @ a) * (b @ b)) + 1e-3)) if known.sum() >= 6 else math.nan)
    return np.array(out or [math.nan, math.nan])


_AXIS = (np.arange(GRID, dtype=np.float64) + 0.5) / GRID * 2 - 1
_GX, _GY = (a.ravel() for a in np.meshgrid(_AXIS, _AXIS))
_AFFINE = np.stack([np.ones_like(_GX), _GX, _GY], axis=1)
_CELLS = 2  # every second cell in both directions carries all a planar model needs
_FEW = np.zeros((GRID, GRID), bool)
_FEW[::_CELLS, ::_CELLS] = True
_FEW = _FEW.ravel()


def _flow_row(flow: Float32Array, regions: Float32Array) -> list[float]:
    """Speed of face, surround and background, and what one affine or one planar motion leaves unexplained; in hundredths of a face."""
    unit = 100.0 * SCALE / SIDE_PX
    small = cv2.resize(flow, (GRID, GRID), interpolation=cv2.INTER_AREA).reshape(-1, 2).astype(np.float64) * unit
    few = _FEW
    small, weights = small[few], regions[:, few].astype(np.float64)
    gx, gy, affine = _GX[few], _GY[few], _AFFINE[few]
    names = {n: weights[i] for i, n in enumerate(REGIONS)}
    face = names["skin"] + names["eyes"] + names["mouth"]
    everything = np.where(weights.sum(axis=0) > 0, 1.0, 0.0)

    def rms(values: Float64Array, weight: Float64Array) -> float:
        total = weight.sum()
        return float(np.sqrt((np.square(values).sum(axis=1) * weight).sum() / total)) if total > 0 else math.nan

    solved = _solve(affine, small, face)
    predicted = affine @ solved
    # Instantaneous motion of a plane: eight parameters, the quadratic ones shared by both components.
    # Source: Longuet-Higgins, "The visual ambiguity of a moving plane", 1984.
    zero = np.zeros_like(affine)
    planar = np.concatenate(
        [
            np.concatenate([affine, zero, np.stack([gx * gx, gx * gy], axis=1)], axis=1),
            np.concatenate([zero, affine, np.stack([gx * gy, gy * gy], axis=1)], axis=1),
        ]
    )
    target = np.concatenate([small[:, 0], small[:, 1]])
    plane = _solve(planar, target[:, None], np.concatenate([everything, everything]))
    left = (target - (planar @ plane)[:, 0]).reshape(2, -1).T
    speeds = [rms(small, names[n]) for n in ("around", "far")]
    figures = [
        rms(small, face), *speeds, rms(small - predicted, face), rms(left, everything),
        rms(small - predicted, names["around"]), rms(small - predicted, names["far"]),
    ]  # fmt: skip
    return [float(log(v + 0.01)) for v in figures]


def _solve(design: Float64Array, target: Float64Array, weight: Float64Array) -> Float64Array:
    """Weighted least squares by the normal equations, with a trace of ridge for empty regions."""
    weighted = design * weight[:, None]
    normal = weighted.T @ design
    normal += np.eye(len(normal)) * (1e-9 + 1e-6 * float(np.trace(normal)))
    return np.linalg.solve(normal, weighted.T @ target)


def _fit_similarity(source: NDArray[Any], target: NDArray[Any]) -> Float64Array:
    """``source`` (N, 2 or 3) moved onto ``target`` by shift, turn and scale. Source: Umeyama, PAMI 1991."""
    a, b = source.astype(np.float64), target.astype(np.float64)
    ma, mb = a.mean(axis=0), b.mean(axis=0)
    a0, b0 = a - ma, b - mb
    u, s, vt = np.linalg.svd(a0.T @ b0)
    sign = np.ones(len(s))
    sign[-1] = np.sign(np.linalg.det(u @ vt)) or 1.0
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / max(np.square(a0).sum(), 1e-9))
    return np.asarray(scale * a0 @ rotation + mb)


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(values).sum(axis=-1).mean()))


def _mesh_row(before: Float32Array, now: Float32Array, flow: Float32Array) -> list[float]:
    """Motion of the mesh, how far it parts from the pixels', and what similarity leaves of each group; in hundredths of a face."""
    unit = 100.0 * SCALE / SIDE_PX
    a, b = before[:MESH_POINTS], now[:MESH_POINTS]
    left = (b - _fit_similarity(a, b)) * unit
    x, y = np.clip(b.round().astype(int), 0, SIDE_PX - 1).T
    parted = (a - b - flow[y, x]) * unit
    return [
        float(log(_rms((b - a) * unit) + 0.01)),
        float(log(_rms(parted) + 0.01)),
        *(float(log(_rms(left[list(g)]) + 0.01)) for g in GROUPS.values()),
    ]


def mesh_figures(faces: Sequence[Face | None]) -> Float64Array:
    """Jitter (second differences) and sway (deviation) of shape by group, place and size, over the burst."""
    count = 2 * len(GROUPS) + 3
    meshes = np.stack([f.landmarks_px[:MESH_POINTS, :2] for f in faces if f is not None]).astype(np.float64)
    if len(meshes) < 4:
        return np.full(count, np.nan)
    size = float(np.median([face_square(f)[1] for f in faces if f is not None]))
    mean = meshes.mean(axis=0)
    shape = np.stack([_fit_similarity(m, mean) for m in meshes]) * (100.0 / size)
    jerk = np.diff(shape, n=2, axis=0)
    groups = [list(g) for g in GROUPS.values()]
    jitter = [_rms(jerk[:, g]) for g in groups]
    sway = [_rms(shape[:, g] - shape[:, g].mean(axis=0)) for g in groups]
    place = meshes.mean(axis=1) * (100.0 / size)
    sizes = np.sqrt(np.square(meshes - meshes.mean(axis=1, keepdims=True)).sum(axis=2).mean(axis=1)) * (100.0 / size)
    rest = [_rms(np.diff(place, n=2, axis=0)), _rms(place - place.mean(axis=0)), float(np.sqrt(np.square(np.diff(sizes, n=2)).mean()))]
    return np.asarray(log(np.array([*jitter, *sway, *rest]) + 0.01))


def _gaze(face: Face) -> list[float]:
    """Where each iris stands between the corners of its eye, left and right, along the eye's axis."""
    out = []
    for iris, a, b in _IRIS:
        p, q, c = (face.landmarks_px[i, :2].astype(np.float64) for i in (a, b, iris))
        axis = q - p
        out.append(float((c - p) @ axis / max(float(axis @ axis), 1e-6)))
    return out


def _jerk(series: NDArray[Any]) -> float:
    return float(np.abs(np.diff(series, n=2, axis=0)).mean()) if len(series) > 2 else math.nan


def life_figures(everywhere: Sequence[Face], burst: Sequence[Face | None]) -> Float64Array:
    """Blinks, lips, gaze, turning: ranges over all frames and jerks over the burst."""
    eyes = np.array([np.mean(f.eye_openness) for f in everywhere])
    mouth = np.array([f.mouth_openness for f in everywhere])
    gaze = np.array([_gaze(f) for f in everywhere])
    sizes = np.array([face_square(f)[1] for f in everywhere])
    near_mouth = np.array([f.mouth_openness for f in burst if f is not None])
    near_gaze = np.array([_gaze(f) for f in burst if f is not None])
    open_eye = max(float(np.percentile(eyes, 75)), 1e-3)
    return np.array(
        [
            float(log(np.ptp(eyes) / open_eye + 0.01)),
            float(eyes.min() / open_eye),
            float(log(np.ptp(mouth) + 0.005)),
            float(log(_jerk(near_mouth) + 0.001)),
            float(log(np.std(gaze.mean(axis=1)) + 0.001)),
            float(log(_jerk(near_gaze) + 0.001)),
            float(log(np.std(gaze[:, 0] - gaze[:, 1]) + 0.001)),
            float(log(np.ptp([f.yaw_deg for f in everywhere]) + 0.1)),
            float(log(sizes.std() / max(sizes.mean(), 1e-6) + 0.001)),
        ]
    )


def plane_figures(spread: Sequence[View]) -> Float64Array:
    """Does one homography carry face and surround from sample to sample, as it does for a photo that is moved?"""
    half = SIDE_PX // 2
    rows: list[list[float]] = []
    for a, b in pairwise(spread):
        source, target = a.mesh[:MESH_POINTS], b.mesh[:MESH_POINTS]
        matrix, _ = cv2.findHomography(source.astype(np.float64), target.astype(np.float64), 0)
        if matrix is None:
            continue
        unit = 100.0 * SCALE / SIDE_PX
        flat = cv2.perspectiveTransform(source[None].astype(np.float64), matrix)[0]
        similar = _fit_similarity(source, target)
        residual, motion = _rms((flat - target) * unit), _rms((similar - target) * unit)
        size = max(face_square(b.face)[1], 1e-6)
        solid = _fit_similarity(a.face.landmarks_px[:MESH_POINTS], b.face.landmarks_px[:MESH_POINTS])
        depth = _rms((solid - b.face.landmarks_px[:MESH_POINTS]) * (100.0 / size))
        shrink = np.diag([0.5, 0.5, 1.0])
        small_a, small_b = (cv2.resize(v.luma, (half, half), interpolation=cv2.INTER_AREA) for v in (a, b))
        warped = cv2.warpPerspective(small_a, shrink @ matrix @ np.linalg.inv(shrink), (half, half), borderMode=cv2.BORDER_REPLICATE)
        moved, stayed = _match(warped, small_b, b.regions), _match(small_a, small_b, b.regions)
        at = [REGIONS.index(r) for r in ("skin", "eyes", "mouth", "around", "far")]
        rows.append([residual, motion, math.nan, depth, *moved[at], stayed[REGIONS.index("far")], moved[at[3]] - stayed[at[3]]])
    if not rows:
        return np.full(11, np.nan)
    middle = median(np.array(rows))
    out = middle.copy()
    out[[0, 1, 3]] = log(middle[[0, 1, 3]] + 0.01)
    out[2] = out[0] - out[1]
    return out


def _match(a: Float32Array, b: Float32Array, regions: Float32Array) -> Float64Array:
    """Normalised correlation of two pictures' detail, region by region."""
    a, b = a - cv2.blur(a, (11, 11)), b - cv2.blur(b, (11, 11))
    ab, aa, bb = pooled([a * b, a * a, b * b], regions)
    return np.asarray(ab / np.sqrt((aa + 1.0) * (bb + 1.0)))


def band_figures(burst: Sequence[View]) -> Float64Array:
    """Brightness bands that wander down the picture, as a display filmed by a camera shows them, and jerks of the light as a whole."""
    if len(burst) < 6:
        return np.full(3, np.nan)
    rows = np.stack([cv2.resize(v.luma, (1, GRID), interpolation=cv2.INTER_AREA)[:, 0] for v in burst]).astype(np.float64)
    light = rows.mean(axis=1)
    rows = rows - rows.mean(axis=0) - (light - light.mean())[:, None]
    power = np.square(np.abs(np.fft.rfft2(rows * np.hanning(len(rows))[:, None], axes=(1, 0))))
    power[:, 0] = 0
    low = power[:, 1:6] if power.shape[1] > 6 else power
    return np.array(
        [
            float(log(np.sqrt(np.square(rows).mean()) + 0.01)),
            float(log(low.max() / max(float(power.sum()), 1e-9))),
            float(log(np.abs(np.diff(light, n=2)).mean() + 0.005)),
        ]
    )


def median(rows: NDArray[Any]) -> Float64Array:
    if not len(rows):
        return np.full(rows.shape[1], np.nan)
    bad = np.isnan(rows).all(axis=0)
    out = np.zeros(rows.shape[1])
    out[~bad] = np.nanmedian(rows[:, ~bad], axis=0)
    out[bad] = np.nan
    return out


def sway(rows: NDArray[Any]) -> Float64Array:
    """Robust deviation (90th to 10th percentile, halved) of each column."""
    if len(rows) < 3:
        return np.full(rows.shape[1], np.nan)
    bad = np.isnan(rows).all(axis=0)
    out = np.zeros(rows.shape[1])
    low, high = np.nanpercentile(rows[:, ~bad], [10, 90], axis=0)
    out[~bad] = (high - low) / 2
    out[bad] = np.nan
    return out
