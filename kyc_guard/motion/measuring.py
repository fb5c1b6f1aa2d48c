"""What moves in a clip, and how: the numbers the liveness net reads. Training and inference both come through here.

A clip is looked at twice. The burst (consecutive frames) is cut out by one fixed square about the face, so that what changes
from frame to frame is the scene and the sensor, never our own resampling: optical flow, what flow does not explain, noise,
flicker. The spread samples, seconds apart, show the long way: whether one plane explains all motion. Whether pixels stand still or
come back is asked of every frame that was decoded.

Nothing here knows who is seen: every figure is a ratio, a residual or a change, in units of the face or of the clip's own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kyc_guard.faces import face_square
from kyc_guard.motion import figures, interior, returns
from kyc_guard.motion.figures import MOVING
from kyc_guard.motion.regions import SCALE, View
from kyc_guard.motion.returns import Repeats
from kyc_guard.types import Clip, FaceTrack, Float32Array

STEP_NAMES = (
    *(f"{what}_{r}" for what in ("change", "unexplained", "grain", "flicker", "chroma_change") for r in MOVING),
    *(f"fresh_{r}" for r in MOVING[:-1]),
    "light_skin", "light_around", "light_gap",
    "flow_face", "flow_around", "flow_far", "flow_face_bend", "flow_plane_bend", "flow_around_gap", "flow_far_gap",
    "mesh_motion", "mesh_parts", *(f"mesh_bend_{g}" for g in figures.GROUPS),
)  # fmt: skip
"""Columns of `MotionFeatures.step`: from each burst frame to the next."""

WHOLE_NAMES = (
    *(f"jitter_{g}" for g in figures.GROUPS), *(f"sway_{g}" for g in figures.GROUPS), "jitter_place", "sway_place", "jitter_size",
    "blink_range", "blink_low", "mouth_range", "mouth_jerk", "gaze_range", "gaze_jerk", "gaze_squint", "yaw_range", "size_range",
    "plane_residual", "plane_motion", "plane_gain", "solid_residual",
    *(f"match_{r}" for r in ("skin", "eyes", "mouth", "around", "far")), "match_stay_far", "match_gap",
    "band_level", "band_peak", "light_jerk", "light_accord", "grain_accord",
)  # fmt: skip
"""Entries of `MotionFeatures.whole`: once a clip."""


@dataclass(frozen=True, slots=True, eq=False)
class MotionFeatures:
    """The figures of one clip; NaN where something could not be measured."""

    still: Float32Array
    """(T, len(interior.NAMES)): spread frames with a face."""
    step: Float32Array
    """(S, len(STEP_NAMES)): burst transitions between two frames with a face."""
    whole: Float32Array
    """(len(WHOLE_NAMES),)."""

    def pooled(self) -> Float32Array:
        """(F,) float32, the net's input, in the order of `POOLED_NAMES`."""
        parts: list[NDArray[Any]] = [figures.median(self.still), figures.median(self.step), figures.sway(self.step), self.whole]
        return np.asarray(np.concatenate(parts), np.float32)


POOLED_NAMES = (
    *(f"still.{n}" for n in interior.NAMES),
    *(f"step.{n}" for n in STEP_NAMES),
    *(f"step_sway.{n}" for n in STEP_NAMES),
    *(f"whole.{n}" for n in WHOLE_NAMES),
)
"""Medians over the spread samples, medians and sway of the burst's steps, the whole."""

_PREFIXES = {
    "grain": ("change_", "unexplained_", "grain_", "flicker_", "fresh_", "chroma_change_"),
    "plane": ("flow_", "plane_", "match_", "solid_", "mesh_motion", "mesh_parts", "sway_place", "yaw_range", "size_range"),
    "life": ("mesh_bend_", "jitter_", "sway_", "blink_", "mouth_", "gaze_"),
    "light": ("light_", "band_"),
}


def _group_of(name: str) -> str:
    table, figure = name.split(".")
    if table == "still":
        return "interior"
    return next(group for group, prefixes in _PREFIXES.items() if figure.startswith(prefixes))


GROUPS = {group: tuple(n for n in POOLED_NAMES if _group_of(n) == group) for group in ("interior", *_PREFIXES)}
"""Group -> its figures. The net adds up one part a group, so that an operator sees which one spoke."""


def measure_motion(clip: Clip, track: FaceTrack, burst_track: FaceTrack) -> MotionFeatures:
    """All figures of one clip.

    Args:
        clip: spread samples and burst, uint8 RGB. track, burst_track: the subject in them; at least two burst frames with a face.

    Raises:
        ValueError: fewer than two burst frames with a face.
    """
    found = burst_track.found
    if len(found) < 2:
        raise ValueError(f"motion needs two burst frames with a face, got {len(found)}")
    faces = [burst_track.faces[i] for i in found]
    centre, crop = _fixed_square(burst_track)
    burst = [View.cut(clip.burst_rgb[i], f, centre, crop) for i, f in zip(found, faces, strict=True) if f is not None]
    spread = [View.follow(clip.frames_rgb[i], f) for i, f in enumerate(track.faces) if f is not None]
    steps, series = figures.steps(burst, found)
    all_faces = [f for f in (*track.faces, *burst_track.faces) if f is not None]
    whole = np.concatenate(
        [
            figures.mesh_figures(faces),
            figures.life_figures(all_faces, faces),
            figures.plane_figures(spread),
            figures.band_figures(burst),
            figures.accords(series),
        ]
    )
    return MotionFeatures(
        still=np.array([interior.row(v) for v in spread], np.float32).reshape(-1, len(interior.NAMES)),
        step=steps.astype(np.float32) if len(steps) else np.zeros((0, len(STEP_NAMES)), np.float32),
        whole=whole.astype(np.float32),
    )


def _fixed_square(burst_track: FaceTrack) -> tuple[tuple[float, float], float]:
    """Centre and side in pixels of the square that the burst is cut out by; at least one frame must have a face."""
    squares = [face_square(f) for f in burst_track.faces if f is not None]
    centre_px = (float(np.median([c[0] for c, _ in squares])), float(np.median([c[1] for c, _ in squares])))
    return centre_px, SCALE * float(np.median([s for _, s in squares]))


def measure_repeats(clip: Clip, burst_track: FaceTrack) -> Repeats:
    """Whether the pixels about the face stand still, rest, or come back.

    Args:
        clip: with a burst of two frames or more. burst_track: the subject in it, seen at least once.
    """
    centre_px, crop_px = _fixed_square(burst_track)
    shrunk = clip.motion_rgb.shape[2] / clip.frames_rgb.shape[2]
    small = (centre_px[0] * shrunk, centre_px[1] * shrunk)
    # A small frame came down by another road than a thumb of a full one: only frames of one size can be the same picture.
    full = np.stack([returns.thumb(f, centre_px, crop_px) for f in (*clip.frames_rgb, *clip.burst_rgb)])
    motion = np.array([returns.thumb(f, small, crop_px * shrunk) for f in clip.motion_rgb], np.float32).reshape(-1, *full.shape[1:])
    full_s, motion_s = np.concatenate([clip.timestamps_s, clip.burst_timestamps_s]), clip.motion_timestamps_s
    frozen_s = max(returns.longest_freeze_s(full, full_s), returns.longest_freeze_s(motion, motion_s))
    moments_s, first = np.unique(np.concatenate([full_s, motion_s]), return_index=True)
    returned = returns.best_return(np.concatenate([full, motion])[first], moments_s, _frame_step_s(clip))
    even = returns.evened(motion)
    unrest, brief_unrest = (returns.least_unrest(even, motion_s, rest) for rest in (returns.LONG_REST, returns.BRIEF_REST))
    return Repeats(frozen_s, unrest, brief_unrest, returned)


def _frame_step_s(clip: Clip) -> float:
    """Time from frame to frame: what prevails over the whole clip, for its middle may be made to tick otherwise."""
    times_s = clip.facts.packet_times_s
    return returns.usual_step_s(clip.burst_timestamps_s if times_s is None else times_s)
