"""Does this voice sound synthetic? A hint for a reviewer, from figures of pauses, upper band, glottis and movement.

It is near chance on synthesisers it has not met, as published detectors are, so the shipped policy lets it decide nothing; see
`weights/cards/voice.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kyc_guard.calibration import Hint, Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError
from kyc_guard.speech.hearing import NOT_INSTALLED, SPEECH_STEP_S, ear, speech_installed
from kyc_guard.speech.recording import bandwidth_hz, spectrogram, unfit_sound
from kyc_guard.speech.timbre import FIGURES, GROUPS, timbre
from kyc_guard.types import Evidence, Float64Array, Modality, Reason, Signal

_TABLES = ("centre", "scale", "weights", "away")


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """P(synthetic voice)."""

    hint: Hint
    suspected_at: float
    policy: Policy
    name: str = "voice"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.AUDIO})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("voice")
        try:
            tables = {key: np.array([float(table[key][name]) for name in FIGURES]) for key in _TABLES}
            offset, cut = float(table["offset"]), float(table["cut"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"thresholds.toml: [voice] lacks {error}. Remedy: run python -m training.voice") from error
        if not np.isfinite([*np.concatenate(list(tables.values())), offset, cut]).all() or (tables["scale"] <= 0).any():
            raise ConfigError("thresholds.toml: [voice] has unusable numbers. Remedy: run python -m training.voice")
        return cls(Hint(**tables, offset=offset, cut=cut), bundle.thresholds.point("voice", "review"), bundle.policy)

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        if not speech_installed():
            return abstain(self, NOT_INSTALLED)
        audio = evidence.audio
        assert audio is not None
        if (unfit := unfit_sound(audio, self.policy)) is not None:
            return abstain(self, unfit)
        speech = ear().speech(audio)
        speech_s = float((speech > 0.5).sum()) * SPEECH_STEP_S
        if speech_s < self.policy.gate("speech_min_s"):
            return abstain(self, Reason("voice_no_speech", f"{speech_s:.1f} s of speech"))
        figures = timbre(audio, speech)
        added = dict(zip(FIGURES, self.hint.added(np.array([figures[name] for name in FIGURES])).tolist(), strict=True))
        parts = {group: sum(added[name] for name in names) for group, names in GROUPS.items()}
        score = Platt(1.0, 0.0)(self.hint.offset + sum(parts.values()))
        loudest = max(parts, key=lambda group: parts[group])
        named = (Reason(f"voice_{loudest}", f"{loudest} unlike those of real voices ({parts[loudest]:+.2f})"),)
        return Signal(
            detector=self.name,
            version=self.version,
            score=score,
            quality=min(speech_s / 5.0, 1.0),
            species="synthetic_speech" if score >= self.suspected_at else None,
            reasons=named if score >= self.suspected_at else (),
            facts=self._facts(figures, parts, speech_s) | {"bandwidth_hz": round(bandwidth_hz(audio))},
            artefacts={
                "times_s": np.arange(len(speech)) * SPEECH_STEP_S,
                "speech": speech,
                "spectrum_db": _spectrum_db(spectrogram(audio)),
            },
        )

    def _facts(self, figures: dict[str, float], parts: dict[str, float], speech_s: float) -> dict[str, Any]:
        return {
            "speech_s": round(speech_s, 2),
            "groups": {group: round(value, 3) for group, value in parts.items()},
            "figures": {name: round(value, 3) for name, value in figures.items()},
        }


def _spectrum_db(power: Float64Array) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """(257,) long-term spectrum below its peak, 0 to 8 kHz."""
    mean = power.mean(axis=0)
    return np.asarray(10 * np.log10(mean / (mean.max() + 1e-30) + 1e-12), np.float32)
