"""Curves of a face that does what a script says, for the challenge check and its benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from kyc_guard.faces.movements import KINDS, Traces
from kyc_guard.types import Float64Array

RATE_HZ = 15.0
LENGTH_S = 15.0

REST = {"yaw_deg": 3.0, "pitch_deg": -2.0, "eyes": 0.28, "mouth": 0.02, "smile": 0.40, "size": 90.0, "cover": 0.0}
FULL: Mapping[str, tuple[str, float]] = {
    "turn_left": ("yaw_deg", 24.0),
    "turn_right": ("yaw_deg", -24.0),
    "profile_left": ("yaw_deg", 58.0),
    "profile_right": ("yaw_deg", -58.0),
    "look_up": ("pitch_deg", 16.0),
    "blink": ("eyes", -0.22),
    "smile": ("smile", 0.08),
    "open_mouth": ("mouth", 0.5),
    "move_closer": ("size", 35.0),
    "hand_over_face": ("cover", 0.6),
}
"""What a person changes, and by how much."""
TIMES_S = np.arange(0.0, LENGTH_S, 1 / RATE_HZ)


def pose(start_s: float, *, rise_s: float = 0.5, hold_s: float = 0.5, fall_s: float = 0.5, times_s: Float64Array = TIMES_S) -> Float64Array:
    """(M,) 0..1: a smooth way to a pose, a pause, a smooth way back."""
    way = np.clip((times_s - start_s) / rise_s, 0, 1) - np.clip((times_s - start_s - rise_s - hold_s) / fall_s, 0, 1)
    return way * way * (3 - 2 * way)


def acted(
    *script: tuple[str, float, float],
    noise: float = 0.02,
    seed: int = 0,
    shape: Callable[..., Float64Array] = pose,
    times_s: Float64Array = TIMES_S,
) -> Traces:
    """Traces of a person who does each (action, start_s, amount)."""
    chance = np.random.default_rng(seed)
    curves = {name: np.full(len(times_s), value) for name, value in REST.items()}
    for action, start_s, amount in script:
        name, change = FULL[action]
        if action == "blink":
            curves[name] += change * amount * pose(start_s, rise_s=0.1, hold_s=0.1, fall_s=0.15, times_s=times_s)
        else:
            curves[name] += change * amount * shape(start_s, times_s=times_s)
    for action in ("turn_left", "look_up", "blink", "smile", "open_mouth", "move_closer", "hand_over_face"):
        name, change = FULL[action]
        curves[name] += chance.normal(0, noise * abs(change), len(times_s))
    return Traces(times_s=times_s, **curves)


def cycling(seed: int) -> Traces:
    """Everything that can be asked, one after the other, whatever is asked."""
    chance, times_s = np.random.default_rng(seed), np.arange(0.0, 16.0, 1 / RATE_HZ)
    order, every_s = chance.permutation(sorted(KINDS)), chance.uniform(1.2, 1.6)
    acts = [(str(order[i % len(order)]), 0.8 + i * every_s, 1.0) for i in range(round(15 / every_s))]
    return acted(*acts, seed=seed, times_s=times_s, shape=partial(pose, rise_s=0.35, hold_s=0.45, fall_s=0.35))
