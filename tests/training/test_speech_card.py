"""The cards of the speech checks say what the results and the shipped thresholds say."""

from __future__ import annotations

import pytest

from training.speech_card import PARTS, card
from training.thresholds import THRESHOLDS


@pytest.mark.parametrize("part", PARTS)
def test_the_shipped_card_is_the_one_its_figures_make(part: str) -> None:
    shipped = (THRESHOLDS.parent / "cards" / f"{part}.md").read_text(encoding="utf-8")
    assert card(part) == shipped, "Remedy: python -m training.speech_card"
