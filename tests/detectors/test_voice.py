"""The hint about the voice: what it says of itself, and that it never decides."""

from __future__ import annotations

import numpy as np
import pytest
from stand_ins import bundle
from talking import speaking

import kyc_guard.detectors.voice as room
from kyc_guard.config import Policy, Settings
from kyc_guard.detectors.voice import Voice
from kyc_guard.errors import ConfigError
from kyc_guard.speech.timbre import FIGURES, GROUPS


def test_a_voice_is_judged_group_by_group_and_the_groups_add_up_to_the_score() -> None:
    detector = Voice.load(bundle())
    signal = detector(speaking())
    assert signal.score is not None
    logit = detector.hint.offset + sum(signal.facts["groups"].values())
    assert signal.score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    assert set(signal.facts["groups"]) == set(GROUPS)
    assert set(signal.facts["figures"]) == set(FIGURES)
    assert all(np.isfinite(a).all() for a in signal.artefacts.values())


def test_a_suspicion_names_the_group_that_speaks_loudest() -> None:
    shipped = bundle().thresholds.table("voice")
    detector = Voice.load(bundle(voice={**shipped, "offset": 20.0}))
    signal = detector(speaking())
    groups = signal.facts["groups"]
    assert [r.code for r in signal.reasons] == [f"voice_{max(groups, key=groups.__getitem__)}"]
    assert signal.species == "synthetic_speech"


def test_the_shipped_policy_lets_the_hint_decide_nothing() -> None:
    check = Policy.load(Settings().policy_path).checks["voice"]
    assert not check.mandatory
    assert check.review_at is None
    assert check.reject_at is None


def test_without_the_extra_it_abstains_with_the_install_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "speech_installed", lambda: False)
    signal = Voice.load(bundle())(speaking())
    assert signal.score is None
    assert [r.code for r in signal.reasons] == ["speech_not_installed"]


@pytest.mark.parametrize("change", [{"offset": float("nan")}, {"scale": dict.fromkeys(FIGURES, 0.0)}, {"weights": {}}])
def test_thresholds_that_cannot_be_used_stop_the_program(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="voice"):
        Voice.load(bundle(voice={**bundle().thresholds.table("voice"), **change}))
