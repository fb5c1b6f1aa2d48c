"""What a face did over a clip, and whether it did what was asked: turn, look up, blink, smile, open the mouth, come closer, hide.

Each movement becomes one curve: 0 at rest, 1 where it counts as done, relative to the person's own rest. All verdicts are read
from such curves, so a scripted curve tests them all. No image is looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kyc_guard.types import Face, FaceTrack, Float64Array

EYE_CORNERS = (33, 263)
MOUTH_CORNERS = (61, 291)
CHEEKS = (234, 454)
_REST = 0.25
"""A movement begins where its curve leaves the lowest quarter on the way to its height."""
_LEAD_S = 0.3
"""Rest is looked for from this long before the prompt."""
_BASELINE_SAMPLES = 3
_SMALLEST_REST = 1e-6


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
    max_backward: float


@dataclass(frozen=True, slots=True)
class Kind:
    """One action: its curve, and what else is asked of it."""

    curve: Callable[[Traces, float, Gates], Float64Array]
    """(traces, until when the person was at rest, gates) -> (M,) progress."""
    sweeps: bool = True
    """Whether the way there must be seen, without jumps or return."""
    most: Callable[[Gates], float] = lambda _: np.inf
    """Progress beyond which it was overdone."""
    returns: bool = False
    """Whether it must be undone within the window: an eye that stays closed did not blink."""
    spontaneous: bool = False
    """Whether people do it unasked all the time: then one before its prompt means nothing."""


def _at_rest(values: Float64Array, times_s: Float64Array, rest_until_s: float) -> float:
    """The person's own baseline: the median before the first prompt, or of the whole clip where nothing was seen before."""
    before = values[(times_s <= rest_until_s) & np.isfinite(values)]
    known = before if len(before) >= _BASELINE_SAMPLES else values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _over_rest(values: Float64Array, times_s: Float64Array, rest_until_s: float) -> Float64Array:
    """Values as shares of the baseline, NaN throughout where that is nothing a face could measure."""
    rest = _at_rest(values, times_s, rest_until_s)
    return values / rest if rest > _SMALLEST_REST else np.full_like(values, np.nan)


def _turn(sign: float, asked_deg: Callable[[Gates], float]) -> Callable[[Traces, float, Gates], Float64Array]:
    def curve(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
        return sign * (traces.yaw_deg - _at_rest(traces.yaw_deg, traces.times_s, rest_until_s)) / asked_deg(gates)

    return curve


def _look_up(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
    return (traces.pitch_deg - _at_rest(traces.pitch_deg, traces.times_s, rest_until_s)) / gates.look_up_min_deg


def _blink(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
    # A blinking rest is still an open eye: blinks are short, and the median does not see them.
    return (1.0 - _over_rest(traces.eyes, traces.times_s, rest_until_s)) / (1.0 - gates.blink_max_ratio)


def _smile(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
    return (_over_rest(traces.smile, traces.times_s, rest_until_s) - 1.0) / (gates.smile_min_ratio - 1.0)


def _open_mouth(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
    return (traces.mouth - _at_rest(traces.mouth, traces.times_s, rest_until_s)) / gates.mouth_min_open


def _closer(traces: Traces, rest_until_s: float, gates: Gates) -> Float64Array:
    return (_over_rest(traces.size, traces.times_s, rest_until_s) - 1.0) / (gates.closer_min_ratio - 1.0)


def _hand(traces: Traces, _: float, gates: Gates) -> Float64Array:
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
    end_s = float(traces.times_s[-1])
    rest_until_s = prompts_s[0] if prompts_s else float(traces.times_s[0])
    found: list[Done] = []
    after_s = float(traces.times_s[0])
    for i, action in enumerate(actions):
        kind = KINDS[action]
        with np.errstate(invalid="ignore", divide="ignore"):
            curve = kind.curve(traces, rest_until_s, gates)
        start_s = prompts_s[i] if prompts_s else after_s
        stop_s = min(start_s + gates.window_s, end_s) if prompts_s else end_s
        done = _in_window(traces.times_s, curve, action, (start_s, stop_s), gates)
        if (
            prompts_s
            and done.fault is None
            and done.latency_s is not None
            and done.latency_s < gates.min_latency_s
            and not kind.spontaneous
        ):
            done = Done(action, "too_fast", done.peak, done.latency_s, done.done_s)
        if done.fault in {"not_done", "half_done"}:
            again = next((p for a, p in zip(actions[i + 1 :], prompts_s[i + 1 :], strict=False) if a == action), end_s)
            later = _in_window(traces.times_s, curve, action, (stop_s, again), gates) if prompts_s else None
            earlier = _in_window(traces.times_s, curve, action, (float(traces.times_s[0]), start_s), gates)
            if later is not None and later.fault is None:
                done = Done(action, "late", later.peak, later.done_s - start_s if later.done_s is not None else None, later.done_s)
            elif earlier.fault is None and not kind.spontaneous and action not in actions[:i]:
                done = Done(action, "wrong_order", earlier.peak, None, earlier.done_s)
        if done.fault is None and done.done_s is not None:
            after_s = done.done_s
        found.append(done)
    return tuple(found)


def _in_window(times_s: Float64Array, curve: Float64Array, action: str, window_s: tuple[float, float], gates: Gates) -> Done:
    """The first time the curve rises to 1 in the window (from, to)."""
    kind, (start_s, stop_s) = KINDS[action], window_s
    seen = np.flatnonzero((times_s >= start_s - _LEAD_S) & (times_s <= stop_s) & np.isfinite(curve))
    inside = seen[times_s[seen] >= start_s]
    if not len(inside):
        return Done(action, "not_done", 0.0)
    highest = float(curve[inside].max())
    reached = inside[curve[inside] >= 1.0]
    if not len(reached):
        return Done(action, "half_done" if highest >= gates.half_share else "not_done", round(highest, 3))
    # Only what rises in the window was done for this prompt: from the lowest point before it, to the first height above 1.
    first = int(reached[0])
    before = seen[seen < first]
    if not len(before) or float(curve[before].min()) > 1.0 - gates.half_share:
        return Done(action, "not_done", round(highest, 3))
    low = float(curve[before].min())
    rest = low + _REST * (1.0 - low)
    begin = int(before[np.flatnonzero(curve[before] <= rest)[-1]])
    top = _top(curve, seen, first)
    peak = float(curve[top])
    latency_s = _crossing_s(times_s, curve, begin, seen, rest) - start_s
    way = curve[seen[(seen >= begin) & (seen <= first)]]
    fault = None
    if peak > kind.most(gates):
        fault = "overdone"
    elif kind.sweeps and (len(way) < gates.min_sweep_samples or _backward(way) > gates.max_backward):
        fault = "jumped"
    elif kind.returns and not (curve[seen[seen > top]] <= 0.5).any():
        fault = "half_done"
    return Done(action, fault, round(peak, 3), round(latency_s, 3), round(float(times_s[top]), 3))


def _top(curve: Float64Array, seen: NDArray[np.int64], first: int) -> int:
    """The height of the movement that reaches 1 at ``first``: before the curve falls under 1 again."""
    rest = seen[seen >= first]
    fallen = np.flatnonzero(curve[rest] < 1.0)
    rest = rest[: fallen[0]] if len(fallen) else rest
    return int(rest[curve[rest].argmax()])


def _crossing_s(times_s: Float64Array, curve: Float64Array, begin: int, seen: NDArray[np.int64], level: float) -> float:
    """When the curve passes ``level`` after sample ``begin``, between samples."""
    after = int(seen[seen > begin][0])
    rise = float(curve[after] - curve[begin])
    share = float(np.clip((level - curve[begin]) / rise, 0.0, 1.0)) if rise > 0 else 0.0
    return float(times_s[begin] + share * (times_s[after] - times_s[begin]))


def _backward(way: Float64Array) -> float:
    """Share of a path that went back."""
    steps = np.diff(way)
    return float(-steps[steps < 0].sum() / max(np.abs(steps).sum(), 1e-9))


def latency_spread_s(done: Sequence[Done]) -> float | None:
    """Standard deviation of the reaction times; ``None`` with fewer than three. People vary, scripts do not."""
    latencies = [d.latency_s for d in done if d.fault is None and d.latency_s is not None and not KINDS[d.action].spontaneous]
    return float(np.std(latencies, ddof=1)) if len(latencies) >= 3 else None
