"""The iBeta-shaped table: volume first, then limits; it never says yes to what was not shown."""

from __future__ import annotations

from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.rehearsal import NOTICE, rehearse

NAMES = ("print", "cut print", "phone", "tablet", "video", "mask")


def verdicts(errors: int, attacks: int, species: int, bpcer: Rate) -> list[bool | None]:
    apcer = {name: Rate.of(0, attacks) for name in NAMES[: species - 1]} | {"worst": Rate.of(errors, attacks)}
    return [level["met"] for level in rehearse(apcer, bpcer)]


def test_limits_and_volumes_of_the_three_levels() -> None:
    fine = Rate.of(10, 250)
    assert verdicts(0, 150, 6, fine) == [True, True, True]
    assert verdicts(1, 150, 6, fine) == [False, True, True]  # 0.7 %
    assert verdicts(2, 150, 6, fine) == [False, False, True]  # 1.3 %
    assert verdicts(8, 150, 6, fine) == [False, False, False]  # 5.3 %
    assert verdicts(0, 150, 5, fine) == [None, True, True]
    assert verdicts(0, 149, 6, fine) == [None, None, None]
    assert verdicts(0, 150, 6, Rate.of(2, 50)) == [True, None, True]
    assert verdicts(0, 150, 6, Rate.of(30, 250)) == [True, True, False]  # 12 %
    assert verdicts(0, 150, 6, Rate.of(0, 0)) == [None, None, None]


def test_what_is_over_a_limit_is_over_it_however_few_there_are() -> None:
    level = rehearse({"print": Rate.of(1, 10)}, Rate.of(9, 10))[0]
    assert level["met"] is False
    assert level["over"] == ["print", "BPCER"]
    assert level["lacking"] == ["6 more species with 150 presentations", "40 more bona fides"]


def test_it_says_that_it_is_no_certification() -> None:
    assert "rehearsal" in NOTICE
    assert "no certification" in NOTICE
