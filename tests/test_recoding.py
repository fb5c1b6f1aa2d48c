"""What a codec leaves of a picture."""

from __future__ import annotations

import numpy as np
import pytest

from kyc_guard.recoding import jpeg
from kyc_guard.types import UInt8Array

RNG = np.random.default_rng(4)


def lost(before: UInt8Array, after: UInt8Array) -> float:
    return float(np.abs(before.astype(float) - after).mean())


def test_size_and_colours_stay_and_the_original_is_not_touched() -> None:
    image = np.broadcast_to(np.array([230, 120, 20], np.uint8), (37, 51, 3)).copy()
    untouched = image.copy()
    after = jpeg(image, 90)
    assert (after.shape, after.dtype) == (image.shape, np.uint8)
    assert np.abs(after.astype(int) - image).max() <= 3
    assert np.array_equal(image, untouched)


@pytest.mark.parametrize("subsampled", [True, False])
def test_less_quality_leaves_less(subsampled: bool) -> None:
    image = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    losses = [lost(image, jpeg(image, quality, subsampled=subsampled)) for quality in (95, 80, 60, 30)]
    assert losses == sorted(losses)


def test_halved_chroma_loses_fine_colour_and_whole_chroma_keeps_it() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2, 0] = image[:, 1::2, 2] = 200
    assert lost(image, jpeg(image, 95, subsampled=False)) < 5
    assert lost(image, jpeg(image, 95)) > 30
