"""How the voice print is taught and judged, with a net of random weights for the teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from talking import SOUND_HZ, babble

from kyc_guard.errors import ModelError
from kyc_guard.speech.voice_print import MELS, WINDOW_FRAMES
from training import speaker
from training.places import CONFIGS
from training.speaker import Config, Pairs, Piece, SpeakerNet, embed, pairs_of, taught, teacher, told_apart, worn

CONFIG = Config.load(CONFIGS / "speaker.toml")


def made(count: int) -> list[Piece]:
    """Two people who differ by the height of their voice, ``count`` pieces each."""
    found = []
    for seed in range(count):
        voice = babble(2.0, seed=seed)[0]
        higher = np.interp(np.arange(0, len(voice), 1.4), np.arange(len(voice)), voice).astype(np.float32)
        found += [Piece("low", "studio", False, voice), Piece("high", "studio", False, higher)]
    return found


def test_another_file_is_no_teacher_and_the_remedy_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pip download .*Resemblyzer==0\.1\.4"):
        teacher(tmp_path / "missing.whl")
    (tmp_path / "other.whl").write_bytes(b"PK")
    with pytest.raises(ModelError, match="sha256"):
        teacher(tmp_path / "other.whl")


def test_worn_speech_is_as_long_as_it_was_and_not_the_same() -> None:
    voice = babble(2.0)[0]
    for seed in range(12):
        out = worn(voice, CONFIG, np.random.default_rng(seed))
        assert np.isfinite(out).all()
        assert abs(len(out) - len(voice)) < 0.1 * SOUND_HZ  # codecs pad
        assert np.abs(out).max() <= 1.0
        assert len(out) != len(voice) or not np.array_equal(out, voice)


def test_prints_are_unit_vectors_whatever_the_length() -> None:
    torch.manual_seed(0)
    net = SpeakerNet().eval()
    assert net(torch.rand(3, WINDOW_FRAMES, MELS)).shape == (3, 256)
    for seconds in (0.5, 2.0, 4.0):
        assert np.linalg.norm(embed(net, babble(seconds)[0])) == pytest.approx(1.0, abs=1e-5)


def test_teaching_tells_worn_people_apart_and_leaves_the_teacher_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    master = SpeakerNet().eval()
    with torch.no_grad():  # as drawn, it says the same of everything
        master.lstm.weight_ih_l0.mul_(100)
        master.linear.weight.mul_(10)
    monkeypatch.setattr(speaker, "teacher", lambda _: master)
    known = made(2)
    before = {k: v.clone() for k, v in master.state_dict().items()}
    net = taught(Path("unread"), known, replace(CONFIG, steps=15, batch=8, learning_rate=1e-3, contrast=5.0, average_decay=0.5))
    assert all(torch.equal(before[k], v) for k, v in master.state_dict().items())

    def gap(judge: SpeakerNet) -> float:
        pairs = pairs_of(judge, known, CONFIG, wear=True)
        return float(pairs.likeness[pairs.same].mean() - pairs.likeness[~pairs.same].mean())

    assert gap(net) > 2 * gap(master)


def test_pairs_are_counted_once_clean_and_both_ways_worn() -> None:
    torch.manual_seed(0)
    net, found = SpeakerNet().eval(), made(2)
    clean, rough = (pairs_of(net, found, CONFIG, wear=wear) for wear in (False, True))
    assert (len(clean.same), int(clean.same.sum())) == (6, 2)
    assert (len(rough.same), int(rough.same.sum())) == (12, 4)
    assert clean.home.all()


def test_what_lies_below_the_point_is_flagged_own_and_strange() -> None:
    pairs = Pairs(
        np.array([0.9, 0.6, 0.8, 0.2, 0.1]), np.array([True, True, False, False, False]), np.array([True, True, True, True, False])
    )
    found = told_apart(pairs, 0.7)
    assert (found["own"]["flagged"], found["own"]["of"]) == (1, 2)
    assert (found["strangers"]["flagged"], found["strangers"]["of"]) == (2, 3)
    assert (found["strangers of one source"]["flagged"], found["strangers of one source"]["of"]) == (1, 2)
    assert found["strangers"]["auc"] == pytest.approx(5 / 6)
