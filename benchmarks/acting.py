"""Portraits acting challenges: a mesh turned in space, lids, lips and jaw moved, and the picture warped along.

A warp shows no new side of a head, so profiles (beyond 30 degrees) and hands cannot be acted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from skimage.data import astronaut

from kyc_guard.attacks.mesh import warp_mesh
from kyc_guard.attacks.reenact import drop_jaw
from kyc_guard.faces import face_finder
from kyc_guard.types import Float32Array, UInt8Array

SIDE_PX, RATE_HZ = 320, 15.0
ACTIONS = ("turn_left", "turn_right", "look_up", "blink", "smile", "open_mouth", "move_closer")
_WIDER = 0.28
"""Of the mouth's width: what a smile adds."""
_LIPS = (0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181, 185, 191, 267, 269, 270, 291, 308, 310, 311,
         312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415)  # fmt: skip
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133), 27),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263), 257),
)
"""Upper lid, lower lid, and a point on the skin above, whose colour a closed lid has."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A face at rest: (S, S, 3) RGB and its (478, 3) mesh."""

    image_rgb: UInt8Array
    mesh_px: Float32Array

    @classmethod
    def of(cls, image_rgb: UInt8Array) -> Portrait | None:
        """A square picture of one person, mouth closed so that it has room to open; ``None`` if no face is found in it."""
        image = cv2.resize(image_rgb, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
        if not (found := face_finder().find(image)):
            return None
        mesh = found[0].landmarks_px.copy()
        gap = float(np.linalg.norm(mesh[13] - mesh[14]))
        rest = drop_jaw(mesh[:, :2].copy(), -0.9 * gap)
        image = warp_mesh(image, mesh[:, :2].copy(), rest, SIDE_PX, SIDE_PX)
        found = face_finder().find(image)
        return cls(image, found[0].landmarks_px.copy()) if found else None


@cache
def laughing() -> Portrait:
    """A public-domain portrait."""
    portrait = Portrait.of(np.ascontiguousarray(astronaut()[:300, 70:370]))
    assert portrait is not None
    return portrait


@dataclass(frozen=True, slots=True)
class Act:
    """One action as somebody does it. ``size``: of the whole movement; a blink takes its own time."""

    action: str
    start_s: float
    size: float = 1.0
    rise_s: float = 0.6
    hold_s: float = 0.4

    def amount(self, now_s: float) -> float:
        """0..1: a smooth way there, a pause, a smooth way back."""
        rise_s, hold_s, fall_s = (0.1, 0.1, 0.15) if self.action == "blink" else (self.rise_s, self.hold_s, self.rise_s)
        since_s = now_s - self.start_s
        way = min(max(since_s / rise_s, 0.0), 1.0) - min(max((since_s - rise_s - hold_s) / fall_s, 0.0), 1.0)
        return self.size * way * way * (3 - 2 * way)


def film(
    script: Sequence[Act], seconds: float, *, seed: int = 0, portrait: Portrait | None = None, rate_hz: float = RATE_HZ, noise: float = 2.0
) -> UInt8Array:
    """(T, S, S, 3) RGB at ``rate_hz``: the script acted, over a head that is never quite still and a sensor's noise of that deviation."""
    random = np.random.default_rng(seed)
    times_s = np.arange(0, seconds, 1 / rate_hz)
    knots_s = np.arange(0, seconds + 1 / RATE_HZ, 1 / RATE_HZ)
    sway = [np.interp(times_s, knots_s, np.convolve(random.normal(0, 1, len(knots_s) + 30), np.hanning(31) / 6, "valid")) for _ in range(4)]
    portrait = portrait or laughing()
    image, mesh = portrait.image_rgb, portrait.mesh_px
    frames = np.empty((len(times_s), SIDE_PX, SIDE_PX, 3), np.uint8)
    for t, now_s in enumerate(times_s):
        done = dict.fromkeys(ACTIONS, 0.0)
        for act in script:
            done[act.action] = max(done[act.action], act.amount(float(now_s)))
        target = mesh.copy()
        width = float(np.linalg.norm(mesh[61] - mesh[291]))
        target[:, :2] = _smiling(drop_jaw(target[:, :2], 0.5 * width * done["open_mouth"]), done["smile"])
        yaw_deg = 1.0 * sway[0][t] + 30.0 * (done["turn_left"] - done["turn_right"])
        target = _turned(target, yaw_deg, 0.7 * sway[1][t] + 25.0 * done["look_up"], 1.0 + 0.4 * done["move_closer"])
        target[:, :2] += np.array([sway[2][t], sway[3][t]], np.float32)
        warped = warp_mesh(image, mesh[:, :2].copy(), target[:, :2].copy(), SIDE_PX, SIDE_PX)
        _close_eyes(warped, target[:, :2], done["blink"])
        frames[t] = (warped + np.float32(noise) * random.standard_normal(warped.shape, np.float32)).clip(0, 255)
    return frames


def _smiling(mesh: Float32Array, share: float) -> Float32Array:
    """Lips drawn apart along the line of their corners, and the corners a little up."""
    left, right = mesh[61].copy(), mesh[291].copy()
    across, middle = right - left, (left + right) / 2
    for i in _LIPS:
        along = float((mesh[i] - middle) @ across) / float(across @ across)
        mesh[i] += np.float32(share * _WIDER * along) * across
        mesh[i, 1] -= np.float32(share * 0.25 * along * along * np.linalg.norm(across))
    return mesh


def _turned(mesh: Float32Array, yaw_deg: float, pitch_deg: float, scale: float) -> Float32Array:
    """The mesh turned about a point behind the face; positive yaw to the image's right, positive pitch up."""
    middle = np.append(mesh[:468, :2].mean(axis=0), mesh[:468, 2].max() + 0.25 * float(np.ptp(mesh[:468, 0])))
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    turned: Float32Array = ((mesh - middle) @ (about_y @ about_x).T * scale + middle).astype(np.float32)
    return turned


def _close_eyes(image: UInt8Array, mesh: Float32Array, share: float) -> None:
    """Draw the upper lids down by ``share`` of the way to the lower ones."""
    for upper, lower, skin in _EYES:
        lid = mesh[list(upper)] + np.float32(share) * (mesh[list(lower)] - mesh[list(upper)])
        ring = np.concatenate([mesh[list(upper)], lid[::-1]])
        x, y = mesh[skin].round().astype(int)
        colour = image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(axis=0)
        if share > 0:
            cv2.fillPoly(image, [(ring * 16).round().astype(np.int32)], colour.tolist(), lineType=cv2.LINE_AA, shift=4)
            lashes = [(lid * 16).round().astype(np.int32)]
            cv2.polylines(image, lashes, isClosed=False, color=(60, 35, 30), thickness=2, lineType=cv2.LINE_AA, shift=4)
