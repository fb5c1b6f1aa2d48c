"""One file per question; `DETECTORS` is the whole list, in the order in which they are asked."""

from __future__ import annotations

from kyc_guard.detectors.protocol import Detector

DETECTORS: tuple[type[Detector], ...] = ()
