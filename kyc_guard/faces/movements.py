"""What a face did over a clip, and whether it did what was asked: turn, look up, blink, smile, open the mouth, come closer, hide.

Each movement becomes one curve: 0 at rest, 1 where it counts as done, relative to the person's own rest. All verdicts are read
from such curves, so a scripted curve tests them all. No image is looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kyc_guard.types import Face, FaceTrack, Float64Array

EYE_CORNERS = (33, 263)
MOUTH_CORNERS = (61, 291)
CHEEKS = (234, 454)
_REST = 0.25
"""A movement begins where its curve leaves the lowest quarter on the way to 1, and its reaction time ends at a quarter of its height:
where noise matters less than at its foot."""
_ARRIVED = 0.9
"""A sweep ends at this share of its height: the rest is a pose being held."""
_KEPT = 0.75
"""A pose is held while its curve stays above this."""
_UNREST = 0.9
"""What a person at rest reaches all the same, as this quantile, does not count as movement: lips and heads of those who talk."""
_LEAD_S = 0.3
"""Rest is looked for from this long before the prompt."""
_BASELINE_SAMPLES = 3
_SMALLEST_REST = 1e-6
_Span: TypeAlias = tuple[float, float]
"""From when to when, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """What is measured of a face over time; all (M,) float64, NaN where the face was not found."""

    times_s: Float64Array
    yaw_deg: Float64Array
    """Positive: the face turns to the image's right, which is the person's left unless the clip is mirrored."""
    pitch_deg: Float64Array
    eyes: Float64Array
    """Eye openness, mean of both."""
    mouth: Float64Array
    smile: Float64Array
    """Width of the mouth over that of the face."""
    size: Float64Array
    """Distance of the eyes' outer corners in space, pixels: does not shrink when the head turns."""
    cover: Float64Array
    """Share of the face that a hand covers; known also where the face was lost, NaN where nobody looked."""

    @classmethod
    def of(cls, track: FaceTrack, times_s: Float64Array, cover: Float64Array) -> Traces:
        def curve(measure: Callable[[Face], float]) -> Float64Array:
            return np.array([np.nan if face is None else measure(face) for face in track.faces], np.float64)

        return cls(
            times_s=times_s,
            yaw_deg=curve(lambda f: f.yaw_deg),
            pitch_deg=curve(lambda f: f.pitch_deg),
            eyes=curve(lambda f: (f.eye_openness[0] + f.eye_openness[1]) / 2),
            mouth=curve(lambda f: f.mouth_openness),
            smile=curve(lambda f: _span(f, MOUTH_CORNERS) / max(_span(f, CHEEKS), 1e-6)),
            size=curve(lambda f: _span(f, EYE_CORNERS)),
            cover=cover,
        )


def _span(face: Face, ends: tuple[int, int]) -> float:
    a, b = face.landmarks_px[list(ends)]
    return float(np.linalg.norm(b - a))


@dataclass(frozen=True, slots=True)
class Gates:
    """From where on a movement counts as made; [quality] of policy.toml gives each with its grounds."""

    turn_min_deg: float
    turn_max_deg: float
    profile_min_deg: float
    look_up_min_deg: float
    blink_max_ratio: float
    smile_min_ratio: float
    mouth_min_open: float
    closer_min_ratio: float
    hand_min_cover: float
    half_share: float
    window_s: float
    min_latency_s: float
    min_latency_spread_s: float
    min_sweep_samples: float
    min_sweep_s: float
    max_leap: float
    max_backward: float
    rest_s: float
    min_hold_s: float
    max_unasked: float


@dataclass(frozen=True, slots=True)
class Kind:
    """One action: its curve, and what else is asked of it."""

    curve: Callable[[Traces, _Span, Gates], Float64Array]
    """(traces, from when to when the person was at rest, gates) -> (M,) progress."""
    sweeps: bool = True
    """Whether the way there must be seen, without jumps or return."""
    most: Callable[[Gates], float] = lambda _: np.inf
    """Progress beyond which it was overdone."""
    returns: bool = False
    """Whether it must be undone within the window: an eye that stays closed did not blink."""
    spontaneous: bool = False
    """Whether people do it unasked all the time: then one before its prompt means nothing."""


def _at_rest(values: Float64Array, times_s: Float64Array, rest_s: _Span) -> float:
    """The person's own baseline: the median while at rest, or of the whole clip where too little was seen then."""
    then = values[(times_s >= rest_s[0]) & (times_s <= rest_s[1]) & np.isfinite(values)]
    known = then if len(then) >= _BASELINE_SAMPLES else values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _over_rest(values: Float64Array, times_s: Float64Array, rest_s: _Span) -> Float64Array:
    """Values as shares of the baseline, NaN throughout where that is nothing a face could measure."""
    rest = _at_rest(values, times_s, rest_s)
    return values / rest if rest > _SMALLEST_REST else np.full_like(values, np.nan)


def _turn(sign: float, asked_deg: Callable[[Gates], float]) -> Callable[[Traces, _Span, Gates], Float64Array]:
    def curve(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
        return sign * (traces.yaw_deg - _at_rest(traces.yaw_deg, traces.times_s, rest_s)) / asked_deg(gates)

    return curve


def _look_up(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
    return (traces.pitch_deg - _at_rest(traces.pitch_deg, traces.times_s, rest_s)) / gates.look_up_min_deg


def _blink(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
    # A blinking rest is still an open eye: blinks are short, and the median does not see them.
    return (1.0 - _over_rest(traces.eyes, traces.times_s, rest_s)) / (1.0 - gates.blink_max_ratio)


def _smile(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
    return (_over_rest(traces.smile, traces.times_s, rest_s) - 1.0) / (gates.smile_min_ratio - 1.0)


def _open_mouth(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
    return (traces.mouth - _at_rest(traces.mouth, traces.times_s, rest_s)) / gates.mouth_min_open


def _closer(traces: Traces, rest_s: _Span, gates: Gates) -> Float64Array:
    return (_over_rest(traces.size, traces.times_s, rest_s) - 1.0) / (gates.closer_min_ratio - 1.0)


def _hand(traces: Traces, _: _Span, gates: Gates) -> Float64Array:
    return traces.cover / gates.hand_min_cover


def _too_far(gates: Gates) -> float:
    return gates.turn_max_deg / gates.turn_min_deg


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "turn_left": Kind(_turn(1.0, lambda g: g.turn_min_deg), most=_too_far),
        "turn_right": Kind(_turn(-1.0, lambda g: g.turn_min_deg), most=_too_far),
        "profile_left": Kind(_turn(1.0, lambda g: g.profile_min_deg)),
        "profile_right": Kind(_turn(-1.0, lambda g: g.profile_min_deg)),
        "look_up": Kind(_look_up),
        "blink": Kind(_blink, sweeps=False, returns=True, spontaneous=True),
        "smile": Kind(_smile, sweeps=False),
        "open_mouth": Kind(_open_mouth, sweeps=False),
        "move_closer": Kind(_closer),
        "hand_over_face": Kind(_hand, sweeps=False),
    }
)
"""Every action that can be asked. Left and right are the person's own."""
DELIBERATE = frozenset({"turn_left", "turn_right", "profile_left", "profile_right", "look_up", "move_closer", "hand_over_face"})
"""What people seldom do unasked; lips and lids move all the time."""


@dataclass(frozen=True, slots=True)
class Done:
    """How one action went.

    Attributes:
        fault: what was wrong: not_done, half_done, overdone, jumped, late, wrong_order, too_fast; ``None`` = done as asked.
        peak: highest progress in its window; 1 is where it counts.
        latency_s: from the prompt to the beginning of the movement.
        done_s: when the movement was complete.
    """

    action: str
    fault: str | None
    peak: float
    latency_s: float | None = None
    done_s: float | None = None


def judge(traces: Traces, actions: Sequence[str], prompts_s: Sequence[float], gates: Gates) -> tuple[Done, ...]:
    """How each asked action went, in the order asked.

    With prompts, each has its own window of ``gates.window_s``. Without, each is looked for from where the one before was complete,
    and nothing can be late or too fast.

    Args:
        actions: names in `KINDS`.
        prompts_s: when each was asked, on the clock of ``traces``; or empty.
    """
    if not len(traces.times_s):
        return tuple(Done(action, "not_done", 0.0) for action in actions)
    begin_s, end_s = float(traces.times_s[0]), float(traces.times_s[-1])
    found: list[Done] = []
    after_s = begin_s
    for i, action in enumerate(actions):
        kind = KINDS[action]
        start_s = prompts_s[i] if prompts_s else after_s
        curve = progress(traces, action, (prompts_s[0], start_s) if prompts_s else (begin_s, begin_s), gates)
        stop_s = min(start_s + gates.window_s, end_s) if prompts_s else end_s
        done = _in_window(traces.times_s, curve, action, (start_s, stop_s), gates, hurried=not prompts_s or kind.spontaneous)
        if done.fault in {"not_done", "half_done"}:
            again = next((p for a, p in zip(actions[i + 1 :], prompts_s[i + 1 :], strict=False) if a == action), end_s)
            later = _in_window(traces.times_s, curve, action, (stop_s, again), gates) if prompts_s else None
            earlier = _in_window(traces.times_s, curve, action, (begin_s, start_s), gates)
            if later is not None and later.fault is None:
                late_s = None if later.latency_s is None else later.latency_s + stop_s - start_s
                done = Done(action, "late", later.peak, late_s, later.done_s)
            elif earlier.fault is None and not kind.spontaneous and action not in actions[:i]:
                done = Done(action, "wrong_order", earlier.peak, None, earlier.done_s)
        if done.fault is None and done.done_s is not None:
            after_s = done.done_s
        found.append(done)
    return tuple(found)


def unasked(traces: Traces, actions: Sequence[str], prompts_s: Sequence[float], gates: Gates) -> tuple[str, ...]:
    """What else was clearly done while the asked actions were waited for: a clip that does everything in turn answers any challenge.

    Deliberate actions alone, each named once: heads that often turn one way are no such clip. None that the challenge asks for: those may
    come late or too early.

    Args:
        actions, prompts_s: as for `judge`.
    """
    if not len(traces.times_s) or not prompts_s:
        return ()
    others, found = sorted(DELIBERATE - set(actions)), dict[str, None]()
    for start_s in prompts_s:
        for other in others:
            curve = progress(traces, other, (prompts_s[0], start_s), gates)
            window_s = (start_s, min(start_s + gates.window_s, float(traces.times_s[-1])))
            if _in_window(traces.times_s, curve, other, window_s, gates).fault is None:
                found[other] = None
    return tuple(found)


def progress(traces: Traces, action: str, prompts_s: tuple[float, float], gates: Gates) -> Float64Array:
    """(M,) how far the movement has come, against two rests: before the first prompt, and just before its own.

    The lesser counts. The first rest alone would call a head that turned since a turn; the second alone would let a pose that is only
    just being left serve as rest.

    Args:
        prompts_s: the session's first prompt and the action's own.
    """
    first_s, own_s = prompts_s
    kind, curves = KINDS[action], []
    for rest_s in ((-np.inf, first_s), (own_s - gates.rest_s, own_s)):
        with np.errstate(invalid="ignore", divide="ignore"):
            curve = kind.curve(traces, rest_s, gates)
        resting = curve[(traces.times_s >= rest_s[0]) & (traces.times_s <= rest_s[1]) & np.isfinite(curve)]
        unrest = float(np.quantile(resting, _UNREST)) if len(resting) >= _BASELINE_SAMPLES and not kind.spontaneous else 0.0
        curves.append(curve - max(unrest, 0.0))
    return np.fmin(*curves)


def _in_window(times_s: Float64Array, curve: Float64Array, action: str, window_s: _Span, gates: Gates, *, hurried: bool = True) -> Done:
    """The first rise from rest to 1 in the window (from, to) that is as asked; without one, the first that is not.

    Args:
        hurried: whether a movement that begins before a person could have read the prompt is as good as any.
    """
    start_s, stop_s = window_s
    seen = np.flatnonzero((times_s >= start_s - _LEAD_S) & (times_s <= stop_s) & np.isfinite(curve))
    inside = seen[times_s[seen] >= start_s]
    if not len(inside):
        return Done(action, "not_done", 0.0)
    highest = float(curve[inside].max())
    rises = _rises(curve, seen, inside)
    tries = [_rise(times_s, curve, action, int(n), seen, start_s=start_s, gates=gates, hurried=hurried) for n in rises]
    made = [done for done in tries if done is not None]
    if not made:
        begun = gates.half_share <= highest < 1.0
        return Done(action, "half_done" if begun else "not_done", round(highest, 3))
    return next((done for done in made if done.fault is None), made[0])


def _rises(curve: Float64Array, seen: NDArray[np.int64], inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples inside at which the curve comes to 1."""
    high = curve[seen] >= 1.0
    came: NDArray[np.int64] = seen[high & ~np.r_[False, high[:-1]] & (seen >= inside[0])]
    return came


def _rise(
    times_s: Float64Array,
    curve: Float64Array,
    action: str,
    first: int,
    seen: NDArray[np.int64],
    *,
    start_s: float,
    gates: Gates,
    hurried: bool,
) -> Done | None:
    """The movement that comes to 1 at sample ``first``; ``None`` if it did not begin at rest: then it was not made for this prompt."""
    kind, before = KINDS[action], seen[seen < first]
    resting = before[curve[before] <= _REST]
    if not len(resting):
        return None
    begin = int(resting[-1])
    top = _top(curve, seen, first)
    peak = float(curve[top])
    way = seen[(seen >= begin) & (seen <= top)]
    latency_s = _crossing_s(times_s, curve, way, _REST * peak) - start_s
    fault = None
    if peak > kind.most(gates):
        fault = "overdone"
    elif kind.sweeps and not _swept(times_s, curve, way, first, gates):
        fault = "jumped"
    elif kind.returns:
        if not (curve[seen[seen > top]] <= 0.5).any():
            fault = "half_done"
    elif _held_s(times_s, curve, first) < gates.min_hold_s:
        fault = "half_done"
    # Last, because only what else answers the prompt accuses anybody of having known it: talkers twitch at every moment.
    if fault is None and not hurried and latency_s < gates.min_latency_s:
        fault = "too_fast"
    return Done(action, fault, round(peak, 3), round(latency_s, 3), round(float(times_s[top]), 3))


def _swept(times_s: Float64Array, curve: Float64Array, way: NDArray[np.int64], first: int, gates: Gates) -> bool:
    """Whether the way from rest to (nearly) the height was seen: long enough, in enough samples, without a leap or much return."""
    peak = float(curve[way[-1]])
    arrived = way[: int(np.flatnonzero(curve[way] >= _ARRIVED * peak)[0]) + 1]
    took_s = _crossing_s(times_s, curve, way, _ARRIVED * peak) - _crossing_s(times_s, curve, way, _REST * peak)
    heights, at_s = curve[arrived], times_s[arrived]
    # Over a span of time as well as from sample to sample, so that a cut is none the better for being filmed often.
    soon = np.interp(at_s + gates.min_sweep_s / 2, at_s, heights) - heights
    leap = max(float(np.diff(heights).max(initial=0.0)), float(soon.max(initial=0.0))) / float(np.ptp(heights))
    return (
        took_s >= gates.min_sweep_s
        and len(arrived) >= gates.min_sweep_samples
        and leap <= gates.max_leap
        and _backward(curve[way[way <= first]]) <= gates.max_backward
    )


def _held_s(times_s: Float64Array, curve: Float64Array, first: int) -> float:
    """How long the curve stays up from sample ``first`` on; also where the face was lost meanwhile, as in profile."""
    known = np.flatnonzero(np.isfinite(curve))
    known = known[known >= first]
    fallen = np.flatnonzero(curve[known] < _KEPT)
    return float(times_s[known[fallen[0]] if len(fallen) else known[-1]] - times_s[first])


def _top(curve: Float64Array, seen: NDArray[np.int64], first: int) -> int:
    """The height of the movement that reaches 1 at ``first``: before the curve falls under 1 again."""
    rest = seen[seen >= first]
    fallen = np.flatnonzero(curve[rest] < 1.0)
    rest = rest[: fallen[0]] if len(fallen) else rest
    return int(rest[curve[rest].argmax()])


def _crossing_s(times_s: Float64Array, curve: Float64Array, way: NDArray[np.int64], level: float) -> float:
    """When the curve first passes ``level`` on its way, between samples."""
    above = np.flatnonzero(curve[way] > level)
    at = int(above[0]) if len(above) else len(way) - 1
    if at == 0:
        return float(times_s[way[0]])
    before, after = way[at - 1], way[at]
    rise = float(curve[after] - curve[before])
    share = float(np.clip((level - curve[before]) / rise, 0.0, 1.0)) if rise > 0 else 1.0
    return float(times_s[before] + share * (times_s[after] - times_s[before]))


def _backward(way: Float64Array) -> float:
    """Share of a path that went back."""
    steps = np.diff(way)
    return float(-steps[steps < 0].sum() / max(np.abs(steps).sum(), 1e-9))


def latency_spread_s(done: Sequence[Done]) -> float | None:
    """Standard deviation of the reaction times; ``None`` with fewer than three. People vary, scripts do not."""
    latencies = [d.latency_s for d in done if d.fault is None and d.latency_s is not None and not KINDS[d.action].spontaneous]
    return float(np.std(latencies, ddof=1)) if len(latencies) >= 3 else None
