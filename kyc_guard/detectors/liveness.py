"""Is this clip a living face before a camera: what moves, how, and what a camera's noise does meanwhile.

The figures are `kyc_guard.motion`'s; linear discriminants, one a family of attacks, weigh them group by group,
so that a reviewer reads which group spoke. Two findings need no net: pixels that stand still and pixels that come back, which a
sensor never gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from kyc_guard.calibration import Platt
from kyc_guard.config import Policy
from kyc_guard.detectors.protocol import Bundle, abstain, missing
from kyc_guard.errors import ConfigError, ModelError
from kyc_guard.motion import GROUPS, POOLED_NAMES, Repeats, measure_motion, measure_repeats
from kyc_guard.runtime import Net
from kyc_guard.types import Clip, Evidence, Face, FaceTrack, Modality, Reason, Signal

SPECIES = ("print", "print_cut", "replay", "swap", "reenactment")
"""Order of the net's species output."""
CODES = {
    "interior": "interior_differs",
    "grain": "grain_differs",
    "plane": "planar_motion",
    "life": "unlike_life",
    "light": "screen_flicker",
}
"""Group of figures -> reason code when that group speaks for an attack more loudly than bona fide clips make it."""
_KEY_FIGURES = (
    "whole.plane_gain", "whole.match_gap", "whole.jitter_mouth", "whole.blink_range", "still.fine_skin", "still.middle_rim",
    "step.grain_skin", "whole.band_peak",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Liveness:
    """P(attack) of a clip.

    Frozen and looped clips are attacks by what `liveness_max_frozen_s`, `liveness_min_unrest`, `liveness_min_brief_unrest` and
    `liveness_max_return` of the policy allow; how sure that makes us stands in ``[liveness.findings]``, and from which contribution a
    group is named in ``[liveness.groups]``.
    """

    net: Net
    platt: Platt
    findings: Mapping[str, float]
    groups: Mapping[str, float]
    policy: Policy
    name: str = "liveness"
    version: str = "1"
    needs: frozenset[Modality] = frozenset({Modality.FACE, Modality.CLIP})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        table = bundle.thresholds.table("liveness")
        try:
            findings = {code: float(table["findings"][code]) for code in ("frozen_clip", "looped_clip")}
            groups = {group: float(table["groups"][group]) for group in GROUPS}
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"thresholds.toml: [liveness] lacks {error}. Remedy: run python -m training.liveness export") from error
        net = bundle.net("liveness")
        if net.inputs["figures"][-1] != len(POOLED_NAMES):
            raise ModelError(
                f"{net.weight.path}: reads {net.inputs['figures'][-1]} figures, motion.py gives {len(POOLED_NAMES)}. Remedy: export anew"
            )
        return cls(net=net, platt=Platt.from_table(table, "liveness"), findings=findings, groups=groups, policy=bundle.policy)

    def __call__(self, evidence: Evidence) -> Signal:
        if (absent := missing(self, evidence)) is not None:
            return absent
        clip, track, burst = evidence.clip, evidence.track, evidence.burst_track
        assert clip is not None
        assert track is not None
        if burst is None:
            return abstain(self, Reason("clip_too_short", "no consecutive frames were decoded"))
        if unfit := self._unfit(clip, track, burst):
            return abstain(self, *unfit)
        figures = measure_motion(clip, track, burst)
        pooled = figures.pooled()
        repeats = measure_repeats(clip, burst)
        findings = self._findings(repeats)
        if not findings and (still := self._still(pooled)):
            return abstain(self, still)
        out = self.net.run(figures=pooled[None])
        logit, parts, species = float(out["logit"][0]), out["groups"][0], out["species"][0]
        spared = 1.0 - self.platt(logit)
        for finding in findings:
            spared *= 1.0 - self.findings[finding.code]
        loud = [(float(p) - self.groups[g], g) for g, p in zip(GROUPS, parts, strict=True) if p >= self.groups[g]]
        named = tuple(
            Reason(CODES[g], f"{g} figures speak for an attack ({excess:+.2f} beyond bona fide)")
            for excess, g in sorted(loud, reverse=True)
        )
        return Signal(
            detector=self.name,
            version=self.version,
            score=1.0 - spared,
            quality=len(burst.found) / len(burst.faces),
            species="replay" if findings else SPECIES[int(np.argmax(species))],
            reasons=findings + named,
            facts={
                "logit": round(logit, 3),
                "groups": {g: round(float(p), 3) for g, p in zip(GROUPS, parts, strict=True)},
                "species": {name: round(float(p), 4) for name, p in zip(SPECIES, species, strict=True)},
                "frozen_s": round(repeats.frozen_s, 3),
                "unrest": round(repeats.unrest, 4) if np.isfinite(repeats.unrest) else None,
                "brief_unrest": round(repeats.brief_unrest, 4) if np.isfinite(repeats.brief_unrest) else None,
                "returned": {"likeness": round(repeats.returned.likeness, 3), "turned": repeats.returned.turned},
                "figures": {
                    n: round(float(pooled[POOLED_NAMES.index(n)]), 3) for n in _KEY_FIGURES if np.isfinite(pooled[POOLED_NAMES.index(n)])
                },
            },
            artefacts={"steps": figures.step, "stills": figures.still},
        )

    def _unfit(self, clip: Clip, track: FaceTrack, burst: FaceTrack) -> tuple[Reason, ...]:
        """Why the clip cannot be judged; the gates stand in policy.toml."""
        gate = self.policy.gate
        times_s = np.concatenate([clip.timestamps_s, clip.burst_timestamps_s])
        span_s = float(np.ptp(times_s)) if np.isfinite(times_s).all() else 0.0
        near: list[Face] = [f for f in track.faces if f is not None]
        if span_s < gate("liveness_min_duration_s"):
            return (Reason("clip_too_short", f"{span_s:.2f} s between first and last frame"),)
        if len(burst.found) < gate("liveness_min_burst_faces") or len(near) < gate("liveness_min_faces"):
            return (
                Reason(
                    "face_lost", f"face in {len(near)} of {len(track.faces)} samples, {len(burst.found)} of {len(burst.faces)} of the burst"
                ),
            )
        size = float(np.median([f.quality.size_px for f in near]))
        light = float(np.median([f.quality.brightness for f in near]))
        # "not at least" instead of "below", so that what was not measured (NaN) is unfit.
        checks = (
            ("face_too_small", not size >= gate("liveness_min_face_px"), f"{size:.0f} px wide"),
            ("face_too_dark", not light >= gate("liveness_min_brightness"), f"brightness {light:.0f} of 255"),
        )
        return tuple(Reason(code, detail) for code, failed, detail in checks if failed)

    def _findings(self, repeats: Repeats) -> tuple[Reason, ...]:
        gate, returned, found = self.policy.gate, repeats.returned, list[Reason]()
        if repeats.frozen_s > gate("liveness_max_frozen_s"):
            found.append(Reason("frozen_clip", f"no pixel changes for {repeats.frozen_s:.2f} s"))
        elif repeats.unrest < gate("liveness_min_unrest"):
            found.append(Reason("frozen_clip", f"for a second and more nothing but noise and light changes, {repeats.unrest:.1%}"))
        elif repeats.brief_unrest < gate("liveness_min_brief_unrest"):
            found.append(
                Reason("frozen_clip", f"for most of a second nothing but repairs of the picture changes, {repeats.brief_unrest:.1%}")
            )
        if returned.likeness > gate("liveness_max_return"):
            way = "backwards" if returned.turned else "again"
            found.append(Reason("looped_clip", f"a movement comes back {way}, {returned.likeness:.0%} alike"))
        return tuple(found)

    def _still(self, pooled: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Reason | None:
        """Alive in its noise, but nothing moves: neither a plane nor a head can be told."""
        motion = max(
            float(np.nan_to_num(pooled[POOLED_NAMES.index(n)], nan=-9.0))
            for n in ("whole.plane_motion", "whole.size_range", "whole.sway_place")
        )
        if motion < self.policy.gate("liveness_min_motion"):
            return Reason("face_too_still", f"log motion {motion:.2f}")
        return None
