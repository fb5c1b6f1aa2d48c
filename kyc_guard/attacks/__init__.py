"""Attack simulators: what an attacker makes of a face picture or clip. NumPy and OpenCV only, every draw seeded."""

from kyc_guard.attacks.clips import CLIP_ATTACKS, ClipAttack
from kyc_guard.attacks.codec import CODECS, Codec
from kyc_guard.attacks.composite import COMPOSITES
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.gallery import contact_sheet
from kyc_guard.attacks.generated import GENERATED
from kyc_guard.attacks.mask import MASKS
from kyc_guard.attacks.printing import PRINTS
from kyc_guard.attacks.reenact import REENACTMENTS
from kyc_guard.attacks.screen import SCREENS
from kyc_guard.attacks.swap import SWAPS

ATTACKS: tuple[Attack, ...] = (*PRINTS, *SCREENS, *MASKS, *SWAPS, *COMPOSITES, *REENACTMENTS, *GENERATED)
"""Every simulator of a picture; those with ``held_out`` are for validation alone."""

__all__ = [
    "ATTACKS",
    "CLIP_ATTACKS",
    "CODECS",
    "Attack",
    "Attacked",
    "ClipAttack",
    "Codec",
    "FaceImage",
    "contact_sheet",
]
