"""A contact sheet of attacks: one look at what the simulators make."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from kyc_guard.attacks.face_image import Attack, FaceImage
from kyc_guard.types import UInt8Array

_TILE_PX = 192


def contact_sheet(faces: Sequence[FaceImage], attacks: Sequence[Attack], seed: int) -> UInt8Array:
    """The faces in the first row, then a row for each attack on them, named; held-out attacks are marked.

    Each face's donor is the next one. ((1 + attacks) * 192, faces * 192, 3) uint8 RGB; the same seed gives the same sheet.

    Raises:
        ValueError: no face was given.
    """
    if not faces:
        raise ValueError("a contact sheet needs at least one face")
    rows = [_row("original", [face.image_rgb for face in faces])]
    for number, attack in enumerate(attacks):
        pictures = []
        for column, face in enumerate(faces):
            rng = np.random.default_rng([seed, number, column])
            pictures.append(attack.apply(rng, face, faces[(column + 1) % len(faces)]).image_rgb)
        rows.append(_row(f"{attack.name}{' (held out)' if attack.held_out else ''}", pictures))
    return np.vstack(rows)


def _row(name: str, pictures: Sequence[UInt8Array]) -> UInt8Array:
    row = np.hstack([_tile(picture) for picture in pictures])
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, thickness, cv2.LINE_AA)
    return row


def _tile(picture_rgb: UInt8Array) -> UInt8Array:
    height, width = picture_rgb.shape[:2]
    scale = _TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    fitted = cv2.resize(picture_rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((_TILE_PX, _TILE_PX, 3), 32, np.uint8)
    top, left = (_TILE_PX - size[1]) // 2, (_TILE_PX - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = fitted
    return tile
