"""Figures of how a filmed face moves, is lit and carries noise over a clip: what a picture of a face cannot copy."""

from kyc_guard.motion.measuring import GROUPS, POOLED_NAMES, MotionFeatures, measure_motion

__all__ = ["GROUPS", "POOLED_NAMES", "MotionFeatures", "measure_motion"]
