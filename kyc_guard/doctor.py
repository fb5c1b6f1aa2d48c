"""Is this installation able to judge? Versions, models, policy, colour order, disk, speed.

The colour-order test is the one that matters most: a network fed BGR for RGB still answers, and lets attacks pass. A golden
probe, the public-domain portrait of scikit-image, goes through the whole path from encoded bytes to score, and must give what
was written down when the models were exported. `write_selftest` writes it down, together with what swapped colours would give.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.errors import KycGuardError, ModelError
from kyc_guard.media import read_clip
from kyc_guard.media.encode import mp4, png
from kyc_guard.pipeline import Verifier
from kyc_guard.types import UInt8Array
from kyc_guard.weights import Weights

_PACKAGES = ("kyc-guard", "numpy", "opencv-python", "mediapipe", "onnxruntime", "av", "pillow", "rapidocr")
_FREE_BYTES = 1_000_000_000
_POWER = 0.2
"""Log-odds by which swapped colours must move a detector for the probe to be worth anything."""
_SHARE = 0.25
"""The probe may stray from its written value by this share of what swapped colours would do: CPUs differ in the last digits."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> tuple[Check, ...]:
    """All checks, in the order in which they build on one another. A check that breaks is a failed check, never an exception."""
    checks = [
        _look("versions", _versions),
        _look("policy", lambda: f"{settings.policy_path}: {', '.join(Policy.load(settings.policy_path).checks)}"),
        _look("thresholds", lambda: ", ".join(Thresholds.load(settings.thresholds_path).tables)),
        _look("models", lambda: _models(settings)),
        _look("picture colours", lambda: _decoded_colours(png(_flag_rgb()), "flag.png", settings)),
        _look("video colours", lambda: _decoded_colours(mp4(np.repeat(_flag_rgb()[None], 25, axis=0)), "flag.mp4", settings)),
        _look("disk", _disk),
    ]
    try:
        verifier = Verifier(settings)
    except KycGuardError as error:
        return (*checks, Check("detectors", ok=False, detail=str(error)))
    with verifier:
        return (
            *checks,
            Check("detectors", ok=True, detail=", ".join(f"{d.name} {d.version}" for d in verifier.detectors)),
            _look("nets", lambda: _nets(verifier)),
            _look("colour order", lambda: _colour_order(verifier)),
            _look("speed", lambda: _speed(verifier)),
        )


def write_selftest(settings: Settings) -> Path:
    """Write ``selftest.json`` beside the weights: what the golden probe gives now, in right and in swapped colours.

    Called whenever models or calibration are exported, and only then: it declares the present answers to be right.

    Raises:
        ModelError: swapped colours would not move any detector enough for the probe to notice.
    """
    with Verifier(settings) as verifier:
        right, swapped = _probe(verifier, _portrait_rgb()), _probe(verifier, _portrait_rgb()[..., ::-1])
        detectors = {name: {"rgb": right[name], "bgr": swapped[name]} for name in right if name in swapped}
        if not any(abs(d["rgb"] - d["bgr"]) >= _POWER for d in detectors.values()):
            raise ModelError(f"selftest: no detector tells RGB from BGR ({detectors}). Remedy: choose a probe that does")
        text = json.dumps({"probe": "skimage.data.astronaut", **_stamp(verifier), "log_odds": detectors}, indent=2)
    path = settings.weights_dir / "selftest.json"
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except KycGuardError as error:
        return Check(name, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001  a doctor must finish the round; what it does not understand is a failure
        return Check(name, ok=False, detail=f"{type(error).__name__}: {error}")


def _versions() -> str:
    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed as a package"

    return f"Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in _PACKAGES)


def _models(settings: Settings) -> str:
    weights = Weights(settings.weights_dir)
    found = [weights.get(name) for name in weights.names()]
    if not found:
        raise ModelError(f"{settings.weights_dir}: manifest.toml names no model")
    return ", ".join(f"{w.name} {w.version} (sha256 {w.sha256[:12]})" for w in found)


def _decoded_colours(encoded: bytes, name: str, settings: Settings) -> str:
    clip = read_clip(encoded, settings.sampling, settings.limits, name=name)
    for frame in (*clip.frames_rgb, *clip.burst_rgb):
        left, right = frame[:, :60].mean(axis=(0, 1)), frame[:, 68:].mean(axis=(0, 1))
        if not (left[0] > 100 > left[2] and right[2] > 100 > right[0]):
            raise ModelError(f"red and blue are decoded as {left.round()} and {right.round()}. Remedy: reinstall the pinned packages")
    return "red is read as red and blue as blue"


def _colour_order(verifier: Verifier) -> str:
    path = verifier.settings.weights_dir / "selftest.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    strong = {n: e for n, e in expected["log_odds"].items() if abs(e["rgb"] - e["bgr"]) >= _POWER}
    if not strong:
        raise ModelError(f"{path}: holds no expectation that could notice swapped colours. Remedy: export again")
    got = _probe(verifier, _portrait_rgb())
    for name, e in strong.items():
        value = got.get(name, math.nan)
        if not abs(value - e["rgb"]) <= _SHARE * abs(e["rgb"] - e["bgr"]):
            stale = [key for key, now in _stamp(verifier).items() if expected.get(key) != now]
            raise ModelError(
                f"{name} gives log-odds {value:.2f} on the probe; right colours give {e['rgb']:.2f}, swapped ones {e['bgr']:.2f}"
                + (f"; {path} was written for other {' and '.join(stale)}" if stale else "")
                + ". Remedy: do not judge with this installation; reinstall the pinned packages and the weights"
            )
    return ", ".join(f"{n} {got[n]:+.2f} as expected (swapped {e['bgr']:+.2f})" for n, e in strong.items())


def _nets(verifier: Verifier) -> str:
    """Where they run. One that fell back is slower, not wrong: it is said, and nothing fails."""
    on = {name: net.provider + (f" ({net.fallback})" if net.fallback else "") for name, net in verifier.bundle.nets.items()}
    return f"device {verifier.settings.device}: " + "; ".join(f"{where} for {_listed(on, where)}" for where in dict.fromkeys(on.values()))


def _listed(on: Mapping[str, str], where: str) -> str:
    return ", ".join(name for name, place in on.items() if place == where)


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < _FREE_BYTES:
        raise OSError(f"{free / 1e9:.2f} GB free at {Path.cwd()}. Remedy: free {_FREE_BYTES / 1e9:.0f} GB")
    return f"{free / 1e9:.1f} GB free at {Path.cwd()}"


def _speed(verifier: Verifier) -> str:
    portrait, rounds = _portrait_rgb(), 5
    verifier.attack_score(portrait, "warm-up")
    started = time.perf_counter()
    for _ in range(rounds):
        verifier.attack_score(portrait, "speed")
    return f"{(time.perf_counter() - started) / rounds * 1000:.0f} ms a photo of {portrait.shape[1]} x {portrait.shape[0]} px in one thread"


def _probe(verifier: Verifier, portrait_rgb: UInt8Array) -> dict[str, float]:
    """Log-odds of every presentation-attack detector that judges the portrait, given as the bytes of a PNG file."""
    signals = verifier.attack_score(png(portrait_rgb), "selftest.png").signals
    return {s.detector: math.log((s.score + 1e-12) / (1 - s.score + 1e-12)) for s in signals if s.score is not None}


def _stamp(verifier: Verifier) -> Mapping[str, Any]:
    return {"models": dict(verifier.models), "thresholds": verifier.bundle.thresholds.sha256}


def _portrait_rgb() -> UInt8Array:
    """(512, 512, 3) uint8 RGB: astronaut Eileen Collins, a NASA picture in the public domain."""
    from skimage.data import astronaut

    portrait: UInt8Array = np.asarray(astronaut(), np.uint8)
    return portrait


def _flag_rgb() -> UInt8Array:
    flag = np.zeros((96, 128, 3), np.uint8)
    flag[:, :64, 0] = flag[:, 64:, 2] = 200
    return flag
