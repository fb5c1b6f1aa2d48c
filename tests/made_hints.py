"""Tables of hints of doubt that find nothing unless told to."""

from __future__ import annotations

from typing import Any

from kyc_guard.documents.doubt import NAMES


def hint_table(kind: str, **changes: Any) -> dict[str, Any]:
    count = len(NAMES[kind])
    plain = {
        "figures": list(NAMES[kind]),
        "centre": [0.0] * count,
        "scale": [1.0] * count,
        "weights": [0.0] * count,
        "away": [0.0] * count,
        "offset": -1.0,
        "cut": 3.0,
        "calibration": {"slope": 1.0, "offset": 0.0},
        "points": {"review": 0.9},
    }
    return plain | changes


def tables(**changes: Any) -> dict[str, Any]:
    """A table under which no hint ever finds anything, but for ``changes``: kind -> its entries."""
    return {kind: hint_table(kind, **changes.get(kind, {})) for kind in NAMES}
