"""The mouth over time, in the head's own frame: what the lips do, whichever way the head is turned.

Lengths are in units of the distance between the outer eye corners, which no expression changes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from kyc_guard.types import FaceTrack, Float32Array, Float64Array

# Landmark numbers of the MediaPipe mesh.
_EYE_CORNERS = (33, 263)
_NASION, _SUBNASALE, _CHIN = 168, 2, 152
_CORNERS = (61, 291)
_UPPER_INNER = (80, 81, 82, 13, 312, 311, 310)
_LOWER_INNER = (88, 178, 87, 14, 317, 402, 318)
_UPPER_EDGE, _LOWER_EDGE = 0, 17
_MIDDLE = slice(2, 5)
_TOUCHING = 0.015
"""Inner lips nearer than this touch: the mesh's own noise on closed lips; a unit of measure, not a gate."""


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """Curves of (M,) float64, NaN where the face was not found.

    Attributes:
        times_s: presentation times.
        opening: gap between the inner lips, mean of the middle three pairs of points.
        width: between the corners.
        protrusion: how far the lips stand out before the base of the nose.
        contact: share of the inner-lip pairs that touch, 0 open .. 1 closed.
        upper, lower: height of each lip's red; pressed (p, b, m) or tucked in (f, v) lips are thin.
        jaw: from the base of the nose to the chin.
    """

    times_s: Float64Array
    opening: Float64Array
    width: Float64Array
    protrusion: Float64Array
    contact: Float64Array
    upper: Float64Array
    lower: Float64Array
    jaw: Float64Array

    @classmethod
    def of(cls, track: FaceTrack, times_s: Float64Array) -> Self:
        """Measure every face of ``track``, seen at (M,) ``times_s``."""
        rows = np.full((len(track.faces), 7), np.nan)
        for i, face in enumerate(track.faces):
            if face is not None:
                rows[i] = _measured(face.landmarks_px)
        return cls(times_s, *np.ascontiguousarray(rows.T))

    def between(self, start_s: float, stop_s: float) -> Self:
        """The part from ``start_s`` on and before ``stop_s``, on the same clock."""
        inside = (self.times_s >= start_s) & (self.times_s < stop_s)
        return type(self)(*(getattr(self, field.name)[inside] for field in fields(self)))

    @property
    def found_s(self) -> Float64Array:
        """(K,) times at which the mouth was found."""
        return np.asarray(self.times_s[np.isfinite(self.opening)])

    @property
    def seen(self) -> float:
        """Share of the frames in which the mouth was found."""
        return float(np.isfinite(self.opening).mean()) if len(self.opening) else 0.0

    @property
    def rate_hz(self) -> float:
        """Frames a second; 0 for fewer than two."""
        return float((len(self.times_s) - 1) / np.ptp(self.times_s)) if len(self.times_s) > 1 and np.ptp(self.times_s) > 0 else 0.0


def _measured(landmarks_px: Float32Array) -> tuple[float, ...]:
    """opening, width, protrusion, contact, upper, lower, jaw of one mesh."""
    mesh = landmarks_px.astype(np.float64)
    across = mesh[_EYE_CORNERS[1]] - mesh[_EYE_CORNERS[0]]
    unit = float(np.linalg.norm(across)) + 1e-9
    x = across / unit
    down = mesh[_SUBNASALE] - mesh[_NASION]
    down -= (down @ x) * x
    y = down / (np.linalg.norm(down) + 1e-9)
    head = (mesh - mesh[_SUBNASALE]) @ np.stack([x, y, np.cross(x, y)], axis=1) / unit
    gaps = head[list(_LOWER_INNER), 1] - head[list(_UPPER_INNER), 1]
    lips = head[[_UPPER_EDGE, _UPPER_INNER[3], _LOWER_INNER[3], _LOWER_EDGE]]
    return (
        float(np.maximum(gaps[_MIDDLE], 0.0).mean()),
        float(head[_CORNERS[1], 0] - head[_CORNERS[0], 0]),
        float(-lips[:, 2].mean()),  # z grows away from the camera
        float((gaps < _TOUCHING).mean()),
        float(lips[1, 1] - lips[0, 1]),
        float(lips[3, 1] - lips[2, 1]),
        float(head[_CHIN, 1]),
    )
