"""Families of attacks, variants of streams, and sentences of the data: what liveness and speech are fitted and judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kyc_guard.attacks.clips import CLIP_ATTACKS
from training.discriminant import FAMILIES, family_of
from training.liveness_clips import FRAMEWISE, ClipRow
from training.liveness_variants import STREAMS, disguised
from training.phrase import timed_words


def row(attack: str, attack_type: str, label: str = "attack") -> ClipRow:
    return ClipRow("key", "group", "path", label, attack_type, "source", "subject", "train", attack, False, 1)


def test_every_simulator_and_every_real_attack_has_a_family_and_bona_fide_clips_have_none() -> None:
    assert {family_of(row(a.name, a.species)) for a in (*CLIP_ATTACKS, *FRAMEWISE)} == set(FAMILIES)
    assert [family_of(row("", kind)) for kind in ("replay", "swap", "reenactment")] == ["replay", "live", "driven"]
    assert family_of(row("", "", "bona_fide")) == ""


@pytest.mark.parametrize("name", STREAMS)
def test_streams_show_no_frame_that_was_not_filmed_unless_disguised(name: str) -> None:
    frames = np.repeat(np.arange(40, 100, dtype=np.uint8)[:, None, None, None], 3, axis=3) * np.ones((1, 8, 8, 1), np.uint8)
    mesh = np.zeros((478, 2), np.float32)
    played = STREAMS[name].apply(np.random.default_rng(3), frames, mesh)
    hidden = disguised(np.random.default_rng(3), frames, mesh, stream=STREAMS[name].apply)
    filmed = {frame.tobytes() for frame in frames}
    assert {frame.tobytes() for frame in played} < filmed
    assert not {frame.tobytes() for frame in hidden} & filmed
    assert np.abs(hidden.mean(axis=(1, 2, 3)) / played.mean(axis=(1, 2, 3)) - 1).max() < 0.3


def test_sentences_come_from_the_word_times_without_silence(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("path,start_s,end_s,word\na.mpg,0,0.4,sil\na.mpg,0.4,0.7,lay\na.mpg,0.7,1,blue\nb.mpg,0,1,bin\n", encoding="utf-8")
    assert timed_words(path) == {"a.mpg": ("lay", "blue"), "b.mpg": ("bin",)}
