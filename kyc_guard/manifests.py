"""Content Credentials (C2PA): a signed manifest inside a file that says what made it, and whether the file is still as signed.

Needs the extra ``c2pa``. Nothing is fetched from the network: neither manifests kept elsewhere nor revocation lists.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
from dataclasses import dataclass
from enum import StrEnum

_NO_CAMERA = frozenset(
    {"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "virtualRecording", "screenCapture"}
)
"""Source: IPTC NewsCodes, Digital Source Type."""
_SOURCE_TYPE = re.compile(r'"digitalSourceType":\s*"[^"]*?(\w+)"')
_FAILURES = 3


class Standing(StrEnum):
    """What a manifest is worth."""

    TRUSTED = "trusted"
    """The file is as signed, by a certificate under one of our anchors."""
    UNKNOWN_SIGNER = "unknown_signer"
    """The file is as signed, by somebody: anyone can make himself a certificate."""
    INVALID = "invalid"
    """The file is not as signed, or the manifest cannot be read."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the C2PA manifest of a file says."""

    standing: Standing
    detail: str
    """What failed, or who signed."""
    no_camera: str | None
    """Source that is no camera, as the manifest or one it builds on declares it."""


def installed() -> bool:
    """Whether manifests can be verified here."""
    return importlib.util.find_spec("c2pa") is not None


def read_manifest(mp4: bytes, anchors_pem: str | None) -> Manifest:
    """Verify the manifest of an MP4 or MOV.

    Args:
        anchors_pem: certificates of the authorities whose signers are trusted; ``None`` trusts nobody.
    """
    import c2pa

    options = {
        "trust": {"trust_anchors": anchors_pem} if anchors_pem else {},
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    try:
        settings = c2pa.Settings.from_dict(options)
        with c2pa.Context(settings) as context, c2pa.Reader("video/mp4", io.BytesIO(mp4), context=context) as reader:
            text = reader.json()
        said = json.loads(text)
        active = said["manifests"][said["active_manifest"]]
        failures = [str(f["code"]) for f in said["validation_results"]["activeManifest"]["failure"]]
        state, signer = said["validation_state"], active.get("signature_info", {}).get("common_name", "nobody named")
    except (c2pa.C2paError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # What cannot be read vouches for nothing; the file does carry a manifest, so it is not merely absent.
        return Manifest(Standing.INVALID, f"unreadable ({type(error).__name__.lstrip('_')})", no_camera=None)
    no_camera = next((kind for kind in _SOURCE_TYPE.findall(text) if kind in _NO_CAMERA), None)
    if state == "Trusted":
        return Manifest(Standing.TRUSTED, f"signed by {signer}", no_camera)
    if state == "Valid":
        return Manifest(Standing.UNKNOWN_SIGNER, f"signed by {signer}", no_camera)
    return Manifest(Standing.INVALID, ", ".join(failures[:_FAILURES]), no_camera)
