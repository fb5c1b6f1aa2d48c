"""What judges: the hashes of policy, thresholds and models. Results are comparable only where these are equal."""

from __future__ import annotations

from typing import Any

from kyc_guard.config import Policy, Settings, Thresholds
from kyc_guard.weights import Weights


def identity(settings: Settings) -> dict[str, Any]:
    """The fields of a `Decision` that say what judged it, read without loading a model.

    Raises:
        ConfigError, ModelError: policy, thresholds or a model file cannot be used.
    """
    weights = Weights(settings.weights_dir)
    return {
        "policy_sha256": Policy.load(settings.policy_path).sha256,
        "thresholds_sha256": Thresholds.load(settings.weights_dir / "thresholds.toml").sha256,
        "models": {name: weights.get(name).sha256 for name in weights.names()},
    }
