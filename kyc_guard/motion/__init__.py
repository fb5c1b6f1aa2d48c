"""Figures of how a filmed face moves, is lit and carries noise over a clip: what a picture of a face cannot copy."""

from kyc_guard.motion.measuring import GROUPS, POOLED_NAMES, MotionFeatures, measure_motion, measure_repeats
from kyc_guard.motion.returns import Repeats, Return

__all__ = ["GROUPS", "POOLED_NAMES", "MotionFeatures", "Repeats", "Return", "measure_motion", "measure_repeats"]
