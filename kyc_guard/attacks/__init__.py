"""Attack simulators: what an attacker makes of a face picture. NumPy and OpenCV only, every draw seeded."""

from kyc_guard.attacks.codec import CODECS, Codec
from kyc_guard.attacks.face_image import SPECIES, Attack, Attacked, FaceImage
from kyc_guard.attacks.mask import MASKS
from kyc_guard.attacks.printing import PRINTS
from kyc_guard.attacks.screen import SCREENS

ATTACKS: tuple[Attack, ...] = (*PRINTS, *SCREENS, *MASKS)
"""Every simulator; those with ``held_out`` are for validation alone."""

__all__ = ["ATTACKS", "CODECS", "SPECIES", "Attack", "Attacked", "Codec", "FaceImage"]
