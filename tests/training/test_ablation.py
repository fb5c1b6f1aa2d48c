"""Ablations change one known thing each, and are judged by the four figures alone."""

from __future__ import annotations

from dataclasses import fields

import pytest

from kyc_guard.attacks import ATTACKS
from kyc_guard.faces.views import VIEWS
from training.ablation import Plan, judged
from training.places import CONFIGS
from training.resynthesis import KINDS
from training.train import Config

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("view", VIEWS)
def test_every_variant_but_the_first_changes_one_setting_of_the_view(view: str) -> None:
    plan = Plan.load(CONFIGS / "ablation.toml", view)
    base, *others = plan.variants.values()
    assert base == {}
    assert others
    known = {f.name for f in fields(Config)}
    assert all(len(changes) == 1 and set(changes) <= known for changes in others)


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_left_out_exists(view: str) -> None:
    names = {a.name for a in ATTACKS} | {f"{what}_{k}" for k in KINDS for what in ("rewritten", "rewritten_face")}
    for changes in Plan.load(CONFIGS / "ablation.toml", view).variants.values():
        assert set(changes.get("exclude", ())) <= names


def test_reserved_simulators_are_averaged_by_species_of_their_family() -> None:
    figures = {"physical pooled": 0.9, "digital pooled": 0.8, "real print": 0.1, "simulated print": 0.6, "simulated mask": 0.8}
    figures |= {"simulated swap": 0.5, "simulated swap above its own original": 0.0, "simulated generated": 0.7}
    assert judged(figures) == pytest.approx(
        {"physical": 0.9, "digital": 0.8, "reserved physical simulators": 0.7, "reserved digital simulators": 0.6}
    )
