"""The nouns of the attack simulators: a face picture, what an attack made of it, and the attack itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kyc_guard.types import SPECIES, Float32Array, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class FaceImage:
    """A picture with one face whose mesh is known."""

    image_rgb: UInt8Array
    """(H, W, 3) uint8 RGB."""
    landmarks_px: Float32Array
    """(478, 2) float32: MediaPipe mesh with irises, x and y in pixels of ``image_rgb``; may lie outside the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Attacked:
    """What an attack made of a picture; the same height and width as the picture it was given."""

    image_rgb: UInt8Array
    """(H, W, 3) uint8 RGB, a new array."""
    mask: Float32Array
    """(H, W) float32 in 0..1: where the picture was manipulated; all ones where the whole picture was re-captured."""
    landmarks_px: Float32Array
    """(478, 2) float32: the mesh in the attacked picture, moved where the geometry moved."""


Simulator: TypeAlias = Callable[[np.random.Generator, FaceImage, "FaceImage | None"], Attacked]


@dataclass(frozen=True, slots=True)
class Attack:
    """One simulator under a name.

    Attributes:
        name: unique over all attacks, held-out ones included.
        species: the presentation attack instrument or manipulation; one of `SPECIES`.
        held_out: reserved for validation, never to be trained on.
        needs_donor: whether ``apply`` must be given a second face.
        apply: (generator, face, donor or None) -> attacked. All randomness is drawn from the generator: the same seed
            gives the same bytes. Never writes to its input.
    """

    name: str
    species: str
    held_out: bool
    needs_donor: bool
    apply: Simulator

    def __post_init__(self) -> None:
        if self.species not in SPECIES:
            raise ValueError(f"{self.name}: {self.species!r} is none of {', '.join(SPECIES)}")
