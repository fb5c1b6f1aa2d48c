"""Did the person in the clip do what this session asked: each action, in order, inside its window?

Doing as asked binds the clip to the session; it does not prove a living face. Research evaded action checks with up to 97 % of
reenactments (LiveBugger, USENIX Security 2022), so a pass here adds nothing to the other checks' answers, and only a failure
speaks. A blink is weakest: people blink unasked every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from kyc_guard.calibration import noisy_or
from kyc_guard.detectors.protocol import Bundle, Memory, SessionBook, abstain
from kyc_guard.errors import ConfigError
from kyc_guard.faces.embedding import MODEL
from kyc_guard.faces.hands import covered_share, hand_finder
from kyc_guard.faces.movements import KINDS, Done, Gates, Traces, judge, latency_spread_s, unasked
from kyc_guard.faces.performer import Performer
from kyc_guard.faces.subject import same_subject
from kyc_guard.submission import Challenge
from kyc_guard.types import Clip, Evidence, Face, FaceTrack, Float64Array, Modality, Reason, Signal

FINDINGS = (
    "challenge_not_done",
    "challenge_half_done",
    "challenge_overdone",
    "challenge_jumped",
    "challenge_late",
    "challenge_wrong_order",
    "challenge_too_fast",
    "challenge_even_latencies",
    "challenge_other_actions",
    "challenge_other_person",
    "challenge_not_compared",
    "challenge_wrong_nonce",
    "challenge_replayed",
    "challenge_expired",
    "challenge_locked",
)
"""The reasons this detector may give; each needs its probability in thresholds.toml, beside ``prior``."""


@dataclass(frozen=True, slots=True)
class ChallengeResponse:
    """P(the clip does not answer the challenge), from the movements of the face over the clip."""

    gates: Gates
    findings: Mapping[str, float]
    min_seen: float
    mirrored: bool
    """Whether clips come as in a mirror; the operator's word, never the client's, who would choose his left after the fact."""
    performer: Performer
    sessions: SessionBook | None = None
    name: str = "challenge"
    version: str = "2"
    needs: frozenset[Modality] = frozenset({Modality.FACE, Modality.CLIP})

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        gate = bundle.policy.gate
        table = bundle.thresholds.table("challenge").get("findings", {})
        for code in ("prior", *FINDINGS):
            if not isinstance(table.get(code), int | float) or not 0.0 <= table[code] <= 1.0:
                raise ConfigError(
                    f"{bundle.thresholds.path}: [challenge.findings] lacks a usable {code}. "
                    "Remedy: python -m training.thresholds training/configs/challenge.toml"
                )
        return cls(
            gates=Gates(
                turn_min_deg=gate("challenge_turn_min_deg"),
                turn_max_deg=gate("challenge_turn_max_deg"),
                profile_min_deg=gate("challenge_profile_min_deg"),
                look_up_min_deg=gate("challenge_look_up_min_deg"),
                blink_max_ratio=gate("challenge_blink_max_ratio"),
                smile_min_ratio=gate("challenge_smile_min_ratio"),
                mouth_min_open=gate("challenge_mouth_min_open"),
                closer_min_ratio=gate("challenge_closer_min_ratio"),
                hand_min_cover=gate("challenge_hand_min_cover"),
                half_share=gate("challenge_half_share"),
                window_s=gate("challenge_window_s"),
                min_latency_s=gate("challenge_min_latency_s"),
                min_latency_spread_s=gate("challenge_min_latency_spread_s"),
                min_sweep_samples=gate("challenge_min_sweep_samples"),
                min_sweep_s=gate("challenge_min_sweep_s"),
                max_leap=gate("challenge_max_leap"),
                max_backward=gate("challenge_max_backward"),
                rest_s=gate("challenge_rest_s"),
                min_hold_s=gate("challenge_min_hold_s"),
                max_unasked=gate("challenge_max_unasked"),
            ),
            findings=MappingProxyType({code: float(table[code]) for code in ("prior", *FINDINGS)}),
            min_seen=gate("challenge_min_seen"),
            mirrored=bundle.policy.mirrored_clips,
            performer=Performer.load(bundle.net(MODEL), bundle.policy, bundle.thresholds),
        )

    def remembering(self, memory: Memory) -> Self:
        return replace(self, sessions=memory.sessions)

    def __call__(self, evidence: Evidence) -> Signal:
        signal = self._acted(evidence)
        return signal if self.sessions is None else self._in_session(self.sessions, evidence.submission.challenge, signal)

    def _in_session(self, book: SessionBook, challenge: Challenge | None, acted: Signal) -> Signal:
        """With what the server knows of the session, which is asked of every submission, whatever it was asked to do."""
        if challenge is None or challenge.nonce is None:
            problem: Reason | None = Reason("challenge_no_nonce", "the submission names no session")
        else:
            problem = book.problem(challenge)
        reasons = acted.reasons if problem is None else (problem, *acted.reasons)
        score = acted.score
        # What was asked and could not be judged stays without a score. Where no action was asked, the session is the whole question.
        if score is not None or (problem is not None and {r.code for r in acted.reasons} == {"challenge_not_asked"}):
            weighed = [r for r in reasons if r.code in self.findings]
            score = noisy_or(self.findings, weighed) if score is not None or weighed else None
        told = None if problem is None else {"code": problem.code, "detail": problem.detail}
        facts = {**acted.facts, "nonce": "checked", "session_problem": told}
        return replace(acted, score=score, reasons=reasons, facts=MappingProxyType(facts))

    def _acted(self, evidence: Evidence) -> Signal:
        challenge = evidence.submission.challenge
        if challenge is None or not challenge.actions:
            return abstain(self, Reason("challenge_not_asked", "the submission's session asked for no action"))
        asked = ", ".join(challenge.actions)
        if unknown := [a for a in challenge.actions if a not in KINDS]:
            return abstain(self, Reason("challenge_unknown_action", f"{unknown[0]!r} was asked; known are {', '.join(KINDS)}"))
        clip, track = evidence.clip, evidence.motion_track
        # A reason of its own, not no_clip or no_face: those are waived for optional checks, but what was asked must be shown.
        if clip is None or clip.is_still or track is None or not len(track.faces):
            return abstain(self, Reason("challenge_not_shown", f"{asked}: there is no clip to see it in"))
        seen = len(track.found) / len(track.faces)
        if seen < self.min_seen:
            return abstain(self, Reason("challenge_not_shown", f"{asked}: the face is seen in {100 * seen:.0f} % of the clip"))
        if not same_subject(clip, evidence.track, track):
            return abstain(self, Reason("challenge_not_shown", f"{asked}: another face than the subject's was followed"))
        cover = _hand_cover(clip, track) if "hand_over_face" in challenge.actions else np.full(len(track.faces), np.nan)
        traces = Traces.of(track, clip.motion_timestamps_s, cover)
        if self.mirrored:
            traces = replace(traces, yaw_deg=-traces.yaw_deg)
        done = judge(traces, challenge.actions, challenge.prompts_s, self.gates)
        assert evidence.track is not None
        made = [d for d in done if d.done_s is not None]
        others = self.performer.scores(clip, evidence.track, track, traces, [d.done_s for d in made if d.done_s is not None])
        besides = unasked(traces, challenge.actions, challenge.prompts_s, self.gates)
        reasons = (*self._reasons(challenge, done), *self._besides(besides), *self._performers(made, others))
        return Signal(
            detector=self.name,
            version=self.version,
            score=noisy_or(self.findings, reasons),
            quality=seen,
            reasons=reasons,
            facts=MappingProxyType(_facts(done, made, others, besides)),
            artefacts=MappingProxyType(
                {
                    "times_s": traces.times_s,
                    "yaw_deg": traces.yaw_deg,
                    "pitch_deg": traces.pitch_deg,
                    "eyes": traces.eyes,
                    "mouth": traces.mouth,
                    "smile": traces.smile,
                    "size_px": traces.size,
                    "cover": traces.cover,
                }
            ),
        )

    def _reasons(self, challenge: Challenge, done: Sequence[Done]) -> Iterator[Reason]:
        for number, one in enumerate(done, start=1):
            if one.fault is not None:
                yield Reason(f"challenge_{one.fault}", f"{number}. {one.action}: {_told(one)}")
        spread_s = latency_spread_s(done) if challenge.prompts_s else None
        if spread_s is not None and spread_s < self.gates.min_latency_spread_s:
            yield Reason("challenge_even_latencies", f"reaction times vary by {1000 * spread_s:.0f} ms; people's vary more")

    def _besides(self, besides: Sequence[str]) -> Iterator[Reason]:
        if len(besides) > self.gates.max_unasked:
            yield Reason("challenge_other_actions", f"unasked, while others were asked for: {', '.join(besides)}")

    def _performers(self, made: Sequence[Done], others: Sequence[float] | None) -> Iterator[Reason]:
        if others is None:
            yield Reason("challenge_not_compared", "no frontal, uncovered face of some size to hold against the subject's")
            return
        strangers = [one.action for one, other in zip(made, others, strict=True) if other >= self.performer.different_from]
        if strangers:
            yield Reason("challenge_other_person", f"at {', '.join(strangers)}: another face than the subject's")


def _told(done: Done) -> str:
    latency = "" if done.latency_s is None else f", begun {done.latency_s:.2f} s after it was asked"
    return f"{100 * done.peak:.0f} % of the movement{latency}"


def _hand_cover(clip: Clip, track: FaceTrack) -> Float64Array:
    """(M,) share of the face under a hand; where the face is lost, of where it was last."""
    cover = np.full(len(track.faces), np.nan)
    last: Face | None = None
    for i, face in enumerate(track.faces):
        last = face or last
        if last is not None:
            cover[i] = covered_share(last, hand_finder().find(clip.motion_rgb[i]))
    return cover


def _facts(done: Sequence[Done], made: Sequence[Done], others: Sequence[float] | None, besides: Sequence[str]) -> dict[str, Any]:
    return {
        "unasked": list(besides),
        "other_person": None if others is None else {d.action: round(p, 3) for d, p in zip(made, others, strict=True)},
        "actions": [{"action": d.action, "fault": d.fault, "peak": d.peak, "latency_s": d.latency_s, "done_s": d.done_s} for d in done],
        "nonce": "not checked here",
    }
