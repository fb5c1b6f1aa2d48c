"""How differently two faces are built, whatever their pose: a hint of its own beside the embedding."""

from __future__ import annotations

import numpy as np

from kyc_guard.types import Float32Array

# Mesh landmarks that hardly move with expression: eye corners, bridge and base of the nose, brows, cheeks, chin, mouth corners.
_FIRM = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 61, 291, 70, 105, 336, 334, 234, 454, 152, 10, 132, 361, 50, 280, 127, 356,
)  # fmt: skip


def shape_gap(a_px: Float32Array, b_px: Float32Array) -> float:
    """Distance of two meshes (>= 468, 3) after the shift, scale and turn in space that bring them closest; 0 = one shape.

    Source: Procrustes analysis; J. C. Gower, "Generalized Procrustes analysis", Psychometrika 1975. Landmarks as a sign of morphs: U.
    Scherhag et al., "Detecting morphed face images using facial landmarks", ICISP 2018.
    """
    a, b = (_normalised(points) for points in (a_px, b_px))
    left, _, right = np.linalg.svd(a.T @ b)
    return float(np.linalg.norm(a @ (left @ right) - b))


def _normalised(points_px: Float32Array) -> Float32Array:
    firm = points_px[list(_FIRM), :3]
    centred = firm - firm.mean(axis=0)
    scaled: Float32Array = centred / max(float(np.linalg.norm(centred)), 1e-6)
    return scaled
