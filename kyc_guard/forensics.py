"""What a clip shows of how it was made: measures over container facts and frames, each a pure function.

They measure and never judge: what a figure is worth stands in ``[injection]`` of thresholds.toml and in `detectors.injection`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.types import ContainerFacts, Float64Array, UInt8Array

# Names of programs, not of cameras. Libraries are also inside honest apps, browsers and messengers; the others are studios,
# screen recorders and virtual cameras, which an applicant has no cause to use.
_LIBRARIES = re.compile(r"lav[fc]\d|x26[45]\b|libx26[45]|gstreamer|\bmp4box|\bgpac|xvid|\bvirtualdub", re.IGNORECASE)
_STUDIOS = re.compile(
    r"\bobs\b|obs-studio|handbrake|manycam|xsplit|snap camera|deepfacelive|e2esoft|camtasia|bandicam|fraps|screen ?record|capcut"
    r"|premiere|after effects|davinci|final cut|imovie|kdenlive|shotcut|movavi|filmora|vegas|inshot|vlc media|录屏",
    re.IGNORECASE,
)
_SOFTWARE_TAGS = ("encoder", "encoded_by", "software", "comment", "title", "writer", "tool", "description", "handler_name")

DEVICE_TAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "model": ("com.apple.quicktime.model", "com.android.model", "Model", "model"),
        "platform": ("com.apple.quicktime.platform", "platform"),
    }
)
"""What a capture client may declare -> tags in which phones say the same."""

_FIRST_YEAR = 2000
"""Earlier dates are zeros of a clock (1904, 1970)."""
_LOOP_MIN_S = 0.4
_MIN_OVERLAP = 24
"""A correlation over fewer pairs says nothing."""
_LEFT_OUT = 1 << 30
_MAX_DEVIATIONS = 4.0
"""Few huge values must not make a correlation, or a comb of one tooth."""
_LONGEST_COMB = 64
_HASH_SIDE = 16


def software_names(facts: ContainerFacts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts in tags and stream that name (video libraries, studio programs)."""
    texts = [v for k, v in facts.tags.items() if k.lower().rsplit(".", 1)[-1] in _SOFTWARE_TAGS and not k.startswith("found.")]
    texts += facts.encoder_notes
    studios = tuple(dict.fromkeys(t for t in texts if _STUDIOS.search(t)))
    return tuple(dict.fromkeys(t for t in texts if _LIBRARIES.search(t) and t not in studios)), studios


# ------------------------------------------------------------------------------------------------------------------ time


def grid_error_s(times_s: Float64Array) -> float | None:
    """How far the worst presentation time lies from the nearest evenly ticking clock; ``None`` for fewer than eight times."""
    if len(times_s) < 8 or not np.isfinite(times_s).all():
        return None
    numbers = np.arange(len(times_s))
    slope, start = np.polyfit(numbers, times_s, 1)
    return float(np.abs(times_s - (slope * numbers + start)).max())


def tick_s(facts: ContainerFacts) -> float:
    """The container's unit of time for the picture; a coarse one hides jitter. 1 ms where it is not known."""
    video = next((s for s in facts.streams if s.kind == "video"), None)
    try:
        return float(Fraction(video.time_base)) if video is not None and video.time_base else 1e-3
    except (ValueError, ZeroDivisionError):
        return 1e-3


def frame_rate_hz(facts: ContainerFacts) -> float | None:
    """Frames a second by the median step; ``None`` without times."""
    if facts.packet_times_s is None:
        return None
    steps_s = np.diff(facts.packet_times_s[np.isfinite(facts.packet_times_s)])
    usual_s = float(np.median(steps_s)) if len(steps_s) else 0.0
    return 1.0 / usual_s if usual_s > 0 else None


def created_at(facts: ContainerFacts) -> datetime | None:
    """When the file says it was made; ``None`` if it says nothing or a clock's zero."""
    for key in sorted(facts.tags):
        if key.rsplit(".", 1)[-1] in {"creation_time", "creationdate", "date"}:
            try:
                moment = datetime.fromisoformat(facts.tags[key])
            except ValueError:
                continue
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            if moment.year >= _FIRST_YEAR:
                return moment
    return None


def faulty_times(times_s: Float64Array, least_step_s: float) -> int:
    """Presentation times no camera gives: missing, or equal to another, or less than ``least_step_s`` after it."""
    known = np.sort(times_s[np.isfinite(times_s)])
    steps_s = np.diff(known)
    return int(len(times_s) - len(known) + ((steps_s <= 0) | (steps_s < least_step_s)).sum())


def found(facts: ContainerFacts, what: str) -> int:
    """How many of ``what`` the reader met (``found.*`` tags); 0 where it says nothing."""
    return int(facts.tags.get(f"found.{what}", 0))


def longest_gap(times_s: Float64Array) -> tuple[float, float]:
    """The longest time between neighbouring frames, in seconds, and in usual (median) steps."""
    steps_s = np.diff(np.sort(times_s[np.isfinite(times_s)]))
    if len(steps_s) < 2 or (usual_s := float(np.median(steps_s))) <= 0:
        return 0.0, 0.0
    return float(steps_s.max()), float(steps_s.max() / usual_s)


def sound_drift(facts: ContainerFacts) -> tuple[float, float] | None:
    """How sound and picture disagree: (their ends apart in seconds, sound clock over sample clock minus one).

    The first grows when a track was replaced or cut; the second when sound was stretched or lost. ``None`` without both.
    """
    if facts.sound_times_s is None or facts.sound_lengths_s is None or facts.packet_times_s is None:
        return None
    starts_s, lengths_s, video_s = facts.sound_times_s, facts.sound_lengths_s, facts.packet_times_s[np.isfinite(facts.packet_times_s)]
    if len(video_s) < 2 or len(starts_s) < _MIN_OVERLAP or not (np.isfinite(starts_s).all() and np.isfinite(lengths_s).all()):
        return None
    if np.ptp(lengths_s[:-1]) > 0.01 * lengths_s.max():
        drift = 0.0  # codecs whose blocks vary (Vorbis) are declared too roughly
    else:
        drift = float(starts_s[-1] - starts_s[0]) / max(float(lengths_s[:-1].sum()), 1e-9) - 1.0
    ends_apart_s = abs(float(starts_s[-1] + lengths_s[-1]) - float(video_s.max() + np.median(np.diff(np.sort(video_s)))))
    return ends_apart_s, drift


# --------------------------------------------------------------------------------------------------------------- packets


def reordered(decode_order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(P,) whether a frame shown later was decoded earlier (a B-frame), in presentation order."""
    later = np.minimum.accumulate(decode_order[::-1])[::-1]
    return np.append(decode_order[:-1] > later[1:], np.zeros(min(len(decode_order), 1), np.bool_))


def b_runs(decode_order: NDArray[np.int64]) -> tuple[int, ...]:
    """Lengths of the runs of B-frames, in order; hardware writes one length, x264 chooses each."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], reordered(decode_order).astype(np.int8), [0]])))
    return tuple(int(n) for n in edges[1::2] - edges[::2])


def key_positions(facts: ContainerFacts) -> NDArray[np.int64]:
    """Places of the keyframes among the packets, in presentation order."""
    if facts.packet_times_s is None or facts.keyframe_times_s is None:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.isin(facts.packet_times_s, facts.keyframe_times_s))


def off_grid_keys(keys: NDArray[np.int64]) -> int:
    """Keyframes that break an otherwise regular interval, as at a cut; 0 where no interval prevails or fewer than five are known."""
    gaps = np.diff(keys)
    if len(gaps) < 4:
        return 0
    lengths, counts = np.unique(gaps, return_counts=True)
    if counts.max() / len(gaps) < 0.5:
        return 0
    return int((gaps != lengths[counts.argmax()]).sum())


class Loop(NamedTuple):
    """The best candidate for a repetition in a clip."""

    period: int
    """Frames."""
    correlation: float
    contrast: float
    """Correlation less that of the best other shift: periodic encoders correlate at many shifts, a loop at one."""


def size_loop(facts: ContainerFacts) -> Loop | None:
    """Whether the frames' coded sizes repeat: a looped clip costs the encoder the same bytes again, even re-encoded.

    Sizes are taken as logarithms, relative to neighbours of their kind, without keyframes.
    """
    if facts.packet_sizes_bytes is None or facts.packet_times_s is None or facts.decode_order is None:
        return None
    unusual = _unusual_sizes(facts.packet_sizes_bytes, reordered(facts.decode_order), key_positions(facts))
    step_s = float(np.nanmedian(np.diff(facts.packet_times_s))) if len(facts.packet_times_s) > 1 else 0.0
    shortest = max(12, round(_LOOP_MIN_S / step_s)) if step_s > 0 else 12
    shifts = np.arange(shortest, len(unusual) - _MIN_OVERLAP + 1)
    correlations = np.array([_correlation(unusual[:-s], unusual[s:]) for s in shifts])
    if not len(shifts):
        return None
    best = int(correlations.argmax())
    period = int(shifts[best])
    beside = (shifts + 3) % period > 6  # not near a multiple of the period
    others = correlations[beside].max() if beside.any() else 0.0
    return Loop(period, float(correlations[best]), float(correlations[best] - others))


def _unusual_sizes(sizes: NDArray[np.int64], is_b: NDArray[np.bool_], keys: NDArray[np.int64]) -> Float64Array:
    """(P,) how much larger (log, in robust deviations) each frame is than its like nearby; NaN for keyframes and the frame after.

    Alike are frames of one kind after equally many B-frames: the farther the reference, the dearer the frame.
    """
    logs = np.log(np.maximum(sizes, 1).astype(np.float64))
    kind = np.zeros(len(logs), np.int64)
    for i in range(1, len(kind)):
        kind[i] = kind[i - 1] + 1 if is_b[i - 1] else 0
    kind = np.where(is_b, ~kind, kind)
    kind[keys] = kind[np.minimum(keys + 1, len(logs) - 1)] = _LEFT_OUT
    unusual = np.full(len(logs), np.nan)
    for one in np.unique(kind[kind != _LEFT_OUT]):
        places = np.flatnonzero(kind == one)
        if len(places) >= 8:
            own = np.pad(logs[places], 8, mode="edge")
            unusual[places] = logs[places] - np.median(np.lib.stride_tricks.sliding_window_view(own, 17), axis=1)
    gaps = np.diff(keys)
    if len(gaps) >= 2 and (gaps == gaps[0]).all():
        # Encoders with a fixed group of pictures favour places within it; that is their period, not the scene's.
        phase = (np.arange(len(logs)) - keys[0]) % gaps[0]
        for place in range(int(gaps[0])):
            here = (phase == place) & np.isfinite(unusual)
            if here.any():
                unusual[here] -= np.median(unusual[here])
    known = unusual[np.isfinite(unusual)]
    deviation = 1.4826 * float(np.median(np.abs(known))) if len(known) else 0.0
    return np.clip(unusual / max(deviation, 1e-9), -_MAX_DEVIATIONS, _MAX_DEVIATIONS)


def _correlation(a: Float64Array, b: Float64Array) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < _MIN_OVERLAP:
        return 0.0
    a, b = a[known] - a[known].mean(), b[known] - b[known].mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-9 else 0.0


class Comb(NamedTuple):
    """Frames at one interval that cost more than their neighbours."""

    period: int
    """Frames."""
    strength: float
    """Median excess of the frames on the comb, in standard errors, less that of the next best phase of the same period."""


def former_keyframes(facts: ContainerFacts) -> Comb | None:
    """What an earlier encoder's keyframes left: re-encoded, they cost more than their neighbours, at the old interval.

    Seen where the earlier keyframes differed much from the frames between (MPEG-4 and hardware at low rates) and the new encoder
    uses no B-frames; x264 over x264 leaves too little. ``None`` with too few frames.

    Source: the idea of Stamm, Lin, Liu, "Temporal forensics and anti-forensics for motion compensated video", IEEE TIFS 2012.
    """
    if facts.packet_sizes_bytes is None or facts.decode_order is None or len(facts.packet_sizes_bytes) < 4 * _MIN_OVERLAP:
        return None
    unusual = _unusual_sizes(facts.packet_sizes_bytes, reordered(facts.decode_order), key_positions(facts))
    best = Comb(0, 0.0)
    for period in range(8, min(len(unusual) // 5, _LONGEST_COMB) + 1):
        teeth = np.append(unusual, np.full(-len(unusual) % period, np.nan)).reshape(-1, period)
        counts = np.isfinite(teeth).sum(axis=0)
        # The (lower) median: every tooth must stand out, not one. Sorting puts NaN last.
        medians = np.sort(teeth, axis=0)[np.maximum(counts - 1, 0) // 2, np.arange(period)]
        strengths = np.where(counts >= 5, medians, 0.0) * np.sqrt(counts)
        top = int(strengths.argmax())
        beside = np.delete(strengths, [(top - 1) % period, top, (top + 1) % period])
        if (strength := float(strengths[top] - beside.max())) > best.strength:
            best = Comb(period, strength)
    return best


def bits_per_pixel(facts: ContainerFacts) -> float | None:
    """Mean coded bits a pixel and frame: how much of the sensor's noise the encoder could afford to keep."""
    video = next((s for s in facts.streams if s.kind == "video"), None)
    if video is None or facts.packet_sizes_bytes is None or not video.width_px or not video.height_px:
        return None
    return float(facts.packet_sizes_bytes.mean()) * 8 / (video.width_px * video.height_px)


# ---------------------------------------------------------------------------------------------------------------- frames


def luma_of(frames_rgb: UInt8Array) -> Sequence[UInt8Array]:
    """(H, W) uint8 of each of (B, H, W, 3) uint8 RGB frames."""
    return [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames_rgb]


def neighbour_differences(luma: Sequence[UInt8Array]) -> Float64Array:
    """(B - 1,) mean absolute difference between neighbouring frames, 0..255; exactly 0 = the very same picture."""
    return np.array([float(cv2.absdiff(a, b).mean()) for a, b in itertools.pairwise(luma)])


def repeats(differences: Float64Array, same_frame: float) -> NDArray[np.bool_]:
    """(B - 1,) where a frame repeats the one before: the difference is at most ``same_frame``, or under a third of both beside it.

    The latter sees repetitions through coding noise; movement that starts or stops is low on one side only.
    """
    beside = np.pad(differences, 1, mode="reflect") if len(differences) > 1 else np.zeros(len(differences) + 2)
    return (differences <= same_frame) | (differences < np.minimum(beside[:-2], beside[2:]) / 3)


class Noise(NamedTuple):
    """What differs between neighbouring frames where nothing moves."""

    sigma: float
    """Standard deviation, grey levels; a sensor's is seldom below 0.5 before compression."""
    likeness: float
    """Correlation of the noise at neighbouring pixels: a camera's demosaicing and scaling leave 0.3 and more, added noise none."""


def temporal_noise(luma: Sequence[UInt8Array]) -> Noise | None:
    """Noise over a burst, from the quietest quarter of 16 px blocks; ``None`` with fewer than three frames or tiny ones.

    Args:
        luma: B times (H, W) uint8, consecutive.
    """
    if len(luma) < 3 or min(luma[0].shape) < 64:
        return None
    height, width = (n // 16 * 16 for n in luma[0].shape)
    sigmas, likenesses = [], []
    for a, b in itertools.pairwise(frame[:height, :width].astype(np.float32) for frame in luma):
        blocks = ((b - a) / np.float32(np.sqrt(2))).reshape(height // 16, 16, width // 16, 16).swapaxes(1, 2).reshape(-1, 16, 16)
        blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
        variance = (blocks * blocks).mean(axis=(1, 2))
        quiet = variance <= np.quantile(variance, 0.25)
        sigmas.append(float(np.sqrt(np.median(variance[quiet]))))
        power = float(variance[quiet].mean())
        if power > 1e-6:
            likenesses.append(float((blocks[quiet, :, 1:] * blocks[quiet, :, :-1]).mean()) / power)
    return Noise(float(np.quantile(sigmas, 0.9)), float(np.median(likenesses)) if likenesses else 0.0)


def frame_prints(frames_rgb: UInt8Array) -> UInt8Array:
    """(T, 32) uint8: 256 bits a frame, that scaling and re-encoding hardly change.

    Each bit says whether one cell of a 16 x 17 grid is darker than its right neighbour (difference hash).
    """
    prints = np.empty((len(frames_rgb), _HASH_SIDE * _HASH_SIDE // 8), np.uint8)
    for i, frame in enumerate(luma_of(frames_rgb)):
        luma = frame
        while min(luma.shape) >= 16 * _HASH_SIDE:  # halving is cheap, a crooked shrink of a whole frame is not
            luma = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
        grid = cv2.resize(luma, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA)
        prints[i] = np.packbits(grid[:, 1:] > grid[:, :-1])
    return prints


def print_distances(a: UInt8Array, b: UInt8Array) -> Float64Array:
    """(A, B) share of bits in which prints differ: 0 the same picture, about 0.5 strangers."""
    bits = np.unpackbits(a[:, None, :] ^ b[None, :, :], axis=2)
    shares: Float64Array = bits.mean(axis=2, dtype=np.float64)
    return shares


def clip_distance(a: UInt8Array, b: UInt8Array) -> float:
    """How far two clips' prints are apart, 0..1: the median over the shorter clip's frames of the distance to the other's nearest."""
    if not len(a) or not len(b):
        return 1.0
    distances = print_distances(a, b)
    nearest = distances.min(axis=1) if len(a) <= len(b) else distances.min(axis=0)
    return float(np.median(nearest))


def cut_contrast(prints: UInt8Array) -> tuple[int, float]:
    """Where two stretches of a clip look least alike, and by how much more than within them.

    Returns:
        (index of the first frame after the cut, share of bits across it less the largest share between neighbours within); the
        index is 0 and the contrast 0 with fewer than six frames.
    """
    if len(prints) < 6:
        return 0, 0.0
    distances = print_distances(prints, prints)
    best = (0, 0.0)
    for cut in range(2, len(prints) - 1):
        within = max(float(np.diag(distances[:cut, :cut], 1).max(initial=0.0)), float(np.diag(distances[cut:, cut:], 1).max(initial=0.0)))
        if (contrast := float(distances[:cut, cut:].min()) - within) > best[1]:
            best = (cut, contrast)
    return best
