"""Fixtures shared by all rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Shared machines stall: a slow example is no wrong one. Reproducible, so that a red run can be run again.
settings.register_profile("kyc_guard", deadline=None, derandomize=True)
settings.load_profile("kyc_guard")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real training and validation data, which lies beside the checkout on machines that have it."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"{path} is absent: this test needs the shared data")
    return path
