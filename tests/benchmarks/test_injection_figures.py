"""The benchmark of injection: what counts as a false alarm and as found, and that made files show what they are made for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.injection import ATTACK, HONEST, MADE, NOT_ASKED, Trial, figures, page
from benchmarks.record import plain
from kyc_guard.config import Limits, Sampling, Settings
from kyc_guard.detectors.injection import FINDINGS, Injection
from kyc_guard.detectors.protocol import Bundle
from kyc_guard.errors import InputError
from kyc_guard.media import read_clip
from kyc_guard.redteam_tools import Material
from kyc_guard.submission import Submission
from kyc_guard.types import Evidence

POINTS = {"review": 0.45, "reject": 0.9}
TRIALS = [
    Trial(HONEST, "a", "p1", 0.1, ("injection_library",)),
    Trial(HONEST, "a", "p1", 0.5, ("injection_library", "injection_gap")),
    Trial(HONEST, "b", "p1", 0.02, ()),
    Trial(HONEST, "b", "p2", None, ("no_clip",)),
    Trial(ATTACK, "a", "p3", 0.2, ("injection_library",)),
    Trial("one picture", "a", "p1", 0.95, ("injection_frozen",)),
    Trial("one picture", "b", "p1", 0.3, ()),
]


def test_alarms_are_counted_by_clip_person_and_source_and_what_is_not_judged_by_none() -> None:
    found = figures(TRIALS, POINTS)
    assert (found["honest"], found["people"], found["not_judged"]) == (3, 2, 1)
    assert (found["alarms"]["review"].errors, found["alarms"]["review"].n) == (1, 3)
    library = found["findings"]["injection_library"]
    assert (library["honest"].errors, library["honest"].n, library["people"].errors, library["people"].n) == (2, 3, 1, 2)
    assert {s: (r.errors, r.n) for s, r in library["sources"].items()} == {"a": (2, 2)}
    assert (library["attacks"].errors, library["attacks"].n) == (1, 1)
    assert not set(NOT_ASKED) & set(found["findings"])
    assert set(NOT_ASKED) | set(found["findings"]) == set(FINDINGS)


def test_made_files_count_as_found_by_the_finding_they_are_made_for() -> None:
    made = figures(TRIALS, POINTS)["made"]
    assert list(made) == ["one picture"]
    assert (made["one picture"]["found"].errors, made["one picture"]["found"].n) == (1, 2)
    assert made["one picture"]["reached"]["reject"].errors == 1


def test_calibration_weighs_honest_and_made_alike_whatever_their_number() -> None:
    fit = figures(TRIALS, POINTS)["calibration"]
    assert fit["auc"] == pytest.approx(5 / 6)
    assert fit["brier"] == pytest.approx((np.mean([0.01, 0.25, 0.0004]) + np.mean([0.0025, 0.49])) / 2)
    assert sum(b["honest"] for b in fit["bins"]) == 3
    assert sum(b["made"] for b in fit["bins"]) == 2
    last = fit["bins"][-1]
    assert (last["made"], last["made_share"]) == (1, 1.0)
    assert fit["bins"][2]["made_share"] is None or fit["bins"][2]["honest"]


def test_the_page_says_all_of_it() -> None:
    text = page(plain({"command": "x", "about": {}, **figures(TRIALS, POINTS)}))
    assert "| frozen |" in text
    assert "| one picture | frozen | 50.0 % [1.3, 98.7] 1/2 |" in text
    assert "injection_seen_before" in text


def test_nothing_honest_to_judge_is_bad_input() -> None:
    with pytest.raises(InputError, match="no honest clip"):
        figures([t for t in TRIALS if t.kind != HONEST], POINTS)


@pytest.mark.parametrize(
    "name", ["re-encoded as hardware does, with jitter", "re-encoded by x264", "a pause of 1.5 s", "20 frames in 2 ms"]
)
def test_a_made_file_shows_the_finding_it_is_made_for(name: str) -> None:
    rng = np.random.default_rng(0)
    ground = rng.normal(128, 30, (24, 24)).repeat(8, axis=0).repeat(8, axis=1)
    frames = np.stack([np.roll(ground, 2 * t, axis=1) + rng.normal(0, 2, ground.shape) for t in range(80)])
    rgb = np.repeat(frames.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)
    code, write = MADE[name]
    data = write(rng, Material(rgb, (np.zeros((478, 2), np.float32),) * 80, 25.0, None, ()), rgb[::-1])
    detector = Injection.load(Bundle.load(Settings(capture_keys={})))
    signal = detector(Evidence(Submission(id="a", selfie=data), clip=read_clip(data, Sampling(), Limits())))
    assert code is None or code in {r.code for r in signal.reasons}
    # A careful forger's file says nothing but which library wrote it.
    assert code is not None or {r.code for r in signal.reasons} <= {"injection_library"}
