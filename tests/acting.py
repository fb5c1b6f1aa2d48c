"""A public-domain portrait acting challenges: its mesh turned in space, its lids and jaw moved, and the picture warped along.

A warp shows no new side of a head, so profiles (beyond 30 degrees) and hands cannot be acted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from skimage.data import astronaut

from kyc_guard.attacks.mesh import warp_mesh
from kyc_guard.attacks.reenact import drop_jaw
from kyc_guard.faces import face_finder
from kyc_guard.types import Float32Array, UInt8Array

SIDE_PX, RATE_HZ = 320, 15
ACTIONS = ("turn_left", "turn_right", "look_up", "blink", "open_mouth", "move_closer")
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133), 27),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263), 257),
)
"""Upper lid, lower lid, and a point on the skin above, whose colour a closed lid has."""


@cache
def _portrait() -> tuple[UInt8Array, Float32Array]:
    image = cv2.resize(np.ascontiguousarray(astronaut()[:300, 70:370]), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    mesh = face_finder().find(image)[0].landmarks_px.copy()
    # The astronaut laughs; a resting mouth has room to open.
    gap = float(np.linalg.norm(mesh[13] - mesh[14]))
    rest = drop_jaw(mesh[:, :2].copy(), -0.9 * gap)
    image = warp_mesh(image, mesh[:, :2].copy(), rest, SIDE_PX, SIDE_PX)
    return image, face_finder().find(image)[0].landmarks_px.copy()


def amount(times_s: np.ndarray, start_s: float, *, blink: bool) -> np.ndarray:
    """0..1 over time: a smooth way there, a pause, a smooth way back."""
    rise_s, hold_s, fall_s = (0.1, 0.1, 0.15) if blink else (0.6, 0.4, 0.6)
    way = np.clip((times_s - start_s) / rise_s, 0, 1) - np.clip((times_s - start_s - rise_s - hold_s) / fall_s, 0, 1)
    return way * way * (3 - 2 * way)


def film(script: Sequence[tuple[str, float]], seconds: float, seed: int = 0) -> UInt8Array:
    """(T, S, S, 3) RGB at `RATE_HZ`: each (action, start_s) acted, over a head that is never quite still and a sensor's noise."""
    random = np.random.default_rng(seed)
    times_s = np.arange(0, seconds, 1 / RATE_HZ)
    sway = [np.convolve(random.normal(0, 1, len(times_s) + 30), np.hanning(31) / 6, "valid") for _ in range(4)]
    image, mesh = _portrait()
    frames = np.empty((len(times_s), SIDE_PX, SIDE_PX, 3), np.uint8)
    for t, now_s in enumerate(times_s):
        done = dict.fromkeys(ACTIONS, 0.0)
        for action, start_s in script:
            done[action] = max(done[action], float(amount(np.array(now_s), start_s, blink=action == "blink")))
        target = mesh.copy()
        width = float(np.linalg.norm(mesh[61] - mesh[291]))
        target[:, :2] = drop_jaw(target[:, :2], 0.5 * width * done["open_mouth"])
        yaw_deg = 1.0 * sway[0][t] + 30.0 * (done["turn_left"] - done["turn_right"])
        target = _turned(target, yaw_deg, 0.7 * sway[1][t] + 18.0 * done["look_up"], 1.0 + 0.4 * done["move_closer"])
        target[:, :2] += np.float32([sway[2][t], sway[3][t]])
        warped = warp_mesh(image, mesh[:, :2].copy(), target[:, :2].copy(), SIDE_PX, SIDE_PX)
        _close_eyes(warped, target[:, :2], done["blink"])
        frames[t] = (warped + random.normal(0, 2, warped.shape)).clip(0, 255)
    return frames


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
