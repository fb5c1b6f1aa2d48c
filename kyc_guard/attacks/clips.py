"""Attack clips: what a print, a display, a frozen stream or a loop looks like over time.

Every clip has one set of optics, drawn once; hands move it smoothly. Frames are (T, H, W, 3) uint8 RGB in and out, same shape;
``landmarks_px`` is the (478, 2) mesh of the first frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks import printing, screen
from kyc_guard.attacks.face_image import Attack, FaceImage
from kyc_guard.attacks.optics import Pose, Rng, chance, light_of, uniform
from kyc_guard.types import SPECIES, Float32Array, UInt8Array

_STEADY, _HAND, _RESTLESS = 0.15, 1.0, 2.5
"""Amplitude of motion: a stand, a hand, an attacker who tilts the sheet to make it look alive."""


@dataclass(frozen=True, slots=True)
class ClipAttack:
    """One clip simulator; ``apply`` is (generator, frames, mesh of the first frame) -> frames. See `Attack`."""

    name: str
    species: str
    held_out: bool
    apply: Callable[[Rng, UInt8Array, Float32Array], UInt8Array]

    def __post_init__(self) -> None:
        if self.species not in SPECIES:
            raise ValueError(f"{self.name}: {self.species!r} is none of {', '.join(SPECIES)}")


def hold_print(
    rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array, *, ranges: printing.Range, cut: bool = False, fps: float = 25.0
) -> UInt8Array:
    """The first frame printed and held before the camera; with ``cut``, the clip itself is alive behind the eye holes."""
    face = FaceImage(frames_rgb[0], landmarks_px)
    paper, camera, pose, surround = printing.draw_optics(rng, face, ranges)
    sheet = printing.ink(face.image_rgb, paper, rng)
    mean_light = light_of(face.image_rgb)
    holes = int(rng.integers(2**31))
    poses = _moved(rng, pose, len(frames_rgb), fps, _RESTLESS if chance(rng, 0.3) else _HAND, hide_edges=surround is None)
    filmed = np.empty_like(frames_rgb)
    for i, now in enumerate(poses):
        shown = sheet
        if cut:
            # The same seed at every frame cuts the same holes.
            shown = printing.cut_holes(np.random.default_rng(holes), face, frames_rgb[i], sheet, mouth=0.4, jagged=False)
        filmed[i] = printing.hold(shown, paper=paper, camera=camera, pose=now, surround=surround, rng=rng, mean_light=mean_light)
    return filmed


def replay_screen(rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array, *, ranges: screen.Range, fps: float = 25.0) -> UInt8Array:
    """The clip played on a display before the camera: its own motion, the hand's, and a refresh band that wanders."""
    face = FaceImage(frames_rgb[0], landmarks_px)
    display, camera, pose, surround = screen.draw_optics(rng, face, ranges)
    mean_light = light_of(face.image_rgb)
    # The band's speed is the difference of two clocks, the display's and the camera's: anything, mostly slow.
    drift = float(rng.normal(0, 1.5)) / fps
    flicker = uniform(rng, 0.0, 0.04) if chance(rng, 0.4) else 0.0
    poses = _moved(rng, pose, len(frames_rgb), fps, _STEADY if chance(rng, 0.4) else _HAND, hide_edges=surround is None)
    filmed = np.empty_like(frames_rgb)
    for i, now in enumerate(poses):
        level = replace(camera, exposure=camera.exposure * (1.0 + flicker * math.sin(2 * math.pi * 7.3 * drift * i)))
        filmed[i] = screen.show(
            frames_rgb[i], display=display, camera=level, pose=now, surround=surround, rng=rng, band_phase=drift * i, mean_light=mean_light
        )
    return filmed


def freeze(rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array) -> UInt8Array:
    """An injected stream that stops: from some frame on, in the first two thirds, nothing moves any more."""
    del landmarks_px
    start = int(rng.integers(0, max(1, 2 * len(frames_rgb) // 3)))
    frozen = frames_rgb.copy()
    frozen[start:] = frames_rgb[start]
    return frozen


def loop(rng: Rng, frames_rgb: UInt8Array, landmarks_px: Float32Array, *, there_and_back: bool) -> UInt8Array:
    """An injected stream that repeats: a quarter to a half of the clip again and again, from its start or back and forth."""
    del landmarks_px
    count = len(frames_rgb)
    length = max(1, int(count * uniform(rng, 0.25, 0.5)))
    start = int(rng.integers(0, count - length + 1))
    steps = np.arange(count)
    if there_and_back:
        period = max(1, 2 * length - 2)
        turned = steps % period
        order = np.where(turned < length, turned, period - turned)
    else:
        order = steps % length
    repeated: UInt8Array = frames_rgb[start + order]
    return repeated


@dataclass(frozen=True, slots=True)
class Tracking:
    """How well a program that edits every frame follows the face.

    Attributes:
        seed: of the edit, the same at every frame. follow: 0..1, how far its mesh moves to the true one with each frame.
        tremble: deviation of its place, in faces. slip: probability that a frame is edited with another draw.
    """

    seed: int
    follow: float = 1.0
    tremble: float = 0.0
    slip: float = 0.0


def framewise(
    rng: Rng, attack: Attack, frames_rgb: UInt8Array, meshes_px: Sequence[Float32Array], donor: FaceImage | None, *, tracking: Tracking
) -> UInt8Array:
    """A picture's simulator at every frame, its mesh trailing and trembling as a tracker's does; ``meshes_px`` (478, 2) each."""
    edited = np.empty_like(frames_rgb)
    smooth = meshes_px[0]
    for i, (frame, mesh) in enumerate(zip(frames_rgb, meshes_px, strict=True)):
        smooth = (smooth + np.float32(tracking.follow) * (mesh - smooth)).astype(np.float32)
        size = float(np.ptp(mesh, axis=0).max())
        seen = (smooth + rng.normal(0, tracking.tremble * size, size=2)).astype(np.float32)
        now = tracking.seed if rng.random() >= tracking.slip else int(rng.integers(2**31))
        edited[i] = attack.apply(np.random.default_rng(now), FaceImage(frame, seen), donor).image_rgb
    return edited


def _moved(rng: Rng, pose: Pose, count: int, fps: float, amount: float, *, hide_edges: bool) -> Iterator[Pose]:
    """``count`` poses near one: each freedom wanders smoothly with a couple of turns a second, as hands do."""
    knots = max(4, math.ceil(count / fps * 2.0) + 2)
    spread = np.array([0.03, 0.03, 1.5, 0.02, 0.02, 0.02, 0.08]) * amount
    # Cubic interpolation between random knots; a column a freedom.
    ways = cv2.resize(rng.normal(0, 1, (knots, 7)) * spread, (7, max(1, count)), interpolation=cv2.INTER_CUBIC)
    # What is held close enough to fill the frame stays so: without an edge in view none may come into view.
    closer = 0.12 if hide_edges else 0.0
    for x, y, turn, size, tilt_x, tilt_y, bend in ways.tolist():
        yield replace(
            pose,
            shift_x=pose.shift_x + x,
            shift_y=pose.shift_y + y,
            rotation_deg=pose.rotation_deg + turn,
            scale=pose.scale + closer + size,
            tilt_x=pose.tilt_x + tilt_x,
            tilt_y=pose.tilt_y + tilt_y,
            bend=min(0.85, abs(pose.bend + bend)) if pose.bend else 0.0,
        )


CLIP_ATTACKS = (
    ClipAttack("clip_print_photo", "print", False, partial(hold_print, ranges=printing.PHOTO)),
    ClipAttack("clip_print_halftone", "print", False, partial(hold_print, ranges=printing.HALFTONE)),
    ClipAttack("clip_print_cut", "print_cut", False, partial(hold_print, ranges=printing.PHOTO, cut=True)),
    ClipAttack("clip_print_line_screen", "print", True, partial(hold_print, ranges=printing.LINE_SCREEN)),
    ClipAttack("clip_screen_monitor", "replay", False, partial(replay_screen, ranges=screen.MONITOR)),
    ClipAttack("clip_screen_phone", "replay", False, partial(replay_screen, ranges=screen.PHONE)),
    ClipAttack("clip_screen_retina", "replay", False, partial(replay_screen, ranges=screen.RETINA)),
    ClipAttack("clip_screen_oled", "replay", True, partial(replay_screen, ranges=screen.OLED)),
    ClipAttack("clip_freeze", "replay", False, freeze),
    ClipAttack("clip_loop", "replay", False, partial(loop, there_and_back=False)),
    ClipAttack("clip_there_and_back", "replay", True, partial(loop, there_and_back=True)),
)
