"""Where training finds its data and configs, and where it keeps what it makes."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve()

DATA = _HERE.parents[2] / "shared" / "data"
CACHE = Path.home() / ".cache" / "kyc_guard_training"
CONFIGS = _HERE.parent / "configs"
RESULTS = _HERE.parents[1] / "benchmarks" / "results"
