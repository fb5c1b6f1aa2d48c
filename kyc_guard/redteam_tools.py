"""What a red team has in hand: for every species three tools, from crude to careful, that turn a bona fide submission into a file.

Strength is the quality of the attacker's tools: 1 crude, what every home has; 2 ordinary; 3 careful, the best that is simulated
here. The order within a species is by effort and by what the tool leaves in the picture as it is built; no tool is fitted to a
detector. Everything else (pose, light, camera, colours) is drawn from a seed, the same way at every strength.

Every clip is cut, shrunk and encoded as the *control* is: the same window of the bona fide clip with nothing done to it. So what a
check finds in the attack and not in the control, it finds in the attack itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from kyc_guard.attacks import ATTACKS, FaceImage, clips, document, mesh, printing, screen
from kyc_guard.attacks.optics import Rng
from kyc_guard.config import Limits, Sampling
from kyc_guard.documents.page import find_portrait
from kyc_guard.errors import UnreadableError
from kyc_guard.faces.following import follow_face
from kyc_guard.forensics import frame_rate_hz
from kyc_guard.media import AUDIO_RATE_HZ, read_audio, read_clip, read_image
from kyc_guard.media.encode import jpeg, mp4, png
from kyc_guard.media.sampling import shrunk
from kyc_guard.types import Float32Array, UInt8Array

STRENGTHS = (1, 2, 3)
STRENGTH_NAMES = {1: "crude", 2: "ordinary", 3: "careful"}

_SIDE_PX = 640
_PAGE_SIDE_PX = 1600
_MOST_BYTES = 600_000_000
"""Of decoded frames held at once, in one worker."""
_FACES_NEEDED = 0.8
_CRF = 20


class NotApplicableError(Exception):
    """A tool cannot be used on a submission; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What the attacker has of one person.

    Attributes:
        frames_rgb: (T, H, W, 3) uint8 RGB, even height and width; one frame for a photo.
        meshes_px: (478, 2) float32 for each frame. sound: (N,) float32, 16 kHz, from the first frame on.
        pages_rgb: the documents, (H, W, 3) uint8 RGB each.
    """

    frames_rgb: UInt8Array
    meshes_px: tuple[Float32Array, ...]
    fps: float
    sound: Float32Array | None
    pages_rgb: tuple[UInt8Array, ...]

    @property
    def is_still(self) -> bool:
        return len(self.frames_rgb) == 1

    @property
    def face(self) -> FaceImage:
        """The frame in which it looks straightest into the camera."""
        best = min(range(len(self.meshes_px)), key=lambda i: abs(mesh.yaw(self.meshes_px[i])))
        return FaceImage(self.frames_rgb[best], self.meshes_px[best])

    @classmethod
    def read(cls, selfie: Path, documents: Sequence[Path], *, seconds: float, limits: Limits) -> Material:
        """Decode the ``seconds`` in the middle of the selfie, its sound and the documents.

        Raises:
            InputError: a file cannot be read, or a face is not seen in most of the selfie.
        """
        frames, fps, start_s = _window(selfie, seconds, limits)
        track = follow_face(frames)
        if len(track.found) < _FACES_NEEDED * len(frames):
            raise UnreadableError(
                selfie, f"shows a face in {len(track.found)} of {len(frames)} frames", "attack clips of a face seen throughout"
            )
        meshes: list[Float32Array] = []
        for face in (track.faces[track.found[0]], *track.faces):
            # Where it is lost for a moment it is where it was.
            meshes.append(meshes[-1] if face is None else np.ascontiguousarray(face.landmarks_px[:, :2]))
        sound = read_audio(selfie, limits)
        if sound is not None:
            first = round(start_s * AUDIO_RATE_HZ)
            sound = sound[first : first + round(len(frames) / fps * AUDIO_RATE_HZ)]
        pages = tuple(shrunk(read_image(page, limits)[0], _PAGE_SIDE_PX) for page in documents)
        return cls(frames, tuple(meshes[1:]), fps, sound if sound is not None and sound.any() else None, pages)


def _window(selfie: Path, seconds: float, limits: Limits) -> tuple[UInt8Array, float, float]:
    """Frames, how many a second, and when the first is shown."""
    first = read_clip(selfie, Sampling(frames=1, burst_frames=0), limits)
    if first.is_still:
        return _even(first.frames_rgb), 25.0, 0.0
    rate_hz = frame_rate_hz(first.facts) or 25.0
    count = min(round(seconds * rate_hz), 512, _MOST_BYTES // first.frames_rgb[0].nbytes)
    clip = read_clip(selfie, Sampling(frames=1, burst_frames=max(2, count)), limits)
    # Twice a camera's usual rate doubles the work and shows nothing more.
    step = 2 if rate_hz > 31 else 1
    return _even(clip.burst_rgb[::step]), float(np.clip(rate_hz / step, 5.0, 60.0)), float(clip.burst_timestamps_s[0])


def _even(frames_rgb: UInt8Array) -> UInt8Array:
    small = [shrunk(frame, _SIDE_PX) for frame in frames_rgb]
    height, width = (n // 2 * 2 for n in small[0].shape[:2])
    return np.stack([frame[:height, :width] for frame in small])


@dataclass(frozen=True, slots=True)
class Made:
    """A file's bytes and the suffix they are named by."""

    data: bytes
    suffix: str


Make = Callable[[Rng, Material, Material | None], Made]


@dataclass(frozen=True, slots=True)
class Tool:
    """One species at one strength.

    Attributes:
        make: (generator, the attacked, another person or None) -> file, or NotApplicableError. The same seed gives the same bytes.
        role: of the file in the submission, selfie or document.
        as_donor: the rest of the submission is the other person's: documents and claims beside a *selfie* (the attacker wears that
            face), the selfie beside a *document* (their own portrait on a stolen document).
    """

    species: str
    strength: int
    name: str
    make: Make
    role: str = "selfie"
    as_donor: bool = False


# --------------------------------------------------------------------------------------------------------------- selfies


def _selfie(frames_rgb: UInt8Array, own: Material, sound: Float32Array | None) -> Made:
    """Frames as the control is written."""
    if own.is_still:
        return Made(jpeg(frames_rgb[0], quality=95), ".jpg")
    return Made(mp4(frames_rgb, fps=own.fps, crf=_CRF, sound=sound), ".mp4")


def control(_rng: Rng, own: Material, _donor: Material | None) -> Made:
    """The window with nothing done to it."""
    return _selfie(own.frames_rgb, own, own.sound)


def _filmed(simulate: Callable[..., UInt8Array], rng: Rng, own: Material, _donor: Material | None) -> Made:
    """A print or a display before the camera."""
    return _selfie(simulate(rng, own.frames_rgb, own.meshes_px[0], fps=own.fps), own, own.sound)


def _streamed(simulate: Callable[..., UInt8Array], rng: Rng, own: Material, _donor: Material | None) -> Made:
    """Frames repeated in an injected stream."""
    return _selfie(simulate(rng, _moving(own).frames_rgb, own.meshes_px[0]), own, own.sound)


def _edited(attack: str, tracking: Mapping[str, float], rng: Rng, own: Material, donor: Material | None) -> Made:
    """Every frame edited; careful attackers' trackers neither lag nor tremble."""
    follows = clips.Tracking(int(rng.integers(2**31)), **tracking)
    simulator = next(a for a in ATTACKS if a.name == attack)
    other = donor.face if donor is not None else None
    frames = clips.framewise(rng, simulator, own.frames_rgb, own.meshes_px, other, tracking=follows)
    return _selfie(frames, own, own.sound)


_TRACKING: tuple[Mapping[str, float], ...] = ({"follow": 0.5, "tremble": 0.006, "slip": 0.03}, {"follow": 0.8, "tremble": 0.002}, {})


def _moving(own: Material) -> Material:
    if own.is_still:
        raise NotApplicableError("the selfie is a photo")
    return own


def _dub_other(_rng: Rng, own: Material, donor: Material | None) -> Made:
    if _moving(own).sound is None:
        raise NotApplicableError("the clip has no sound")
    if donor is None or donor.sound is None:
        raise NotApplicableError("no other submission's sound is at hand")
    return _selfie(own.frames_rgb, own, donor.sound[: round(len(own.frames_rgb) / own.fps * AUDIO_RATE_HZ)])


def _dub_late(late_s: float, _rng: Rng, own: Material, _donor: Material | None) -> Made:
    if _moving(own).sound is None:
        raise NotApplicableError("the clip has no sound")
    assert own.sound is not None
    late = round(late_s * AUDIO_RATE_HZ)
    return _selfie(own.frames_rgb, own, np.concatenate([np.zeros(late, np.float32), own.sound[: max(0, len(own.sound) - late)]]))


def _injected(strength: int, rng: Rng, own: Material, _donor: Material | None) -> Made:
    """The clip itself, not from a camera but from a program that writes the stream."""
    frames, count = _moving(own).frames_rgb, len(own.frames_rgb)
    match strength:
        case 1:
            small = [cv2.resize(cv2.resize(f, None, fx=0.5, fy=0.5), f.shape[1::-1]) for f in frames]
            data = mp4(np.stack(small), fps=own.fps, crf=34, sound=own.sound, tags={"comment": "OBS Virtual Camera"})
        case 2:
            data = mp4(frames, fps=own.fps, crf=23, sound=own.sound)
        case _:
            # What hardware writes: no B-frames, a keyframe every second, times that jitter.
            jitter_s = np.clip(rng.normal(0, 0.0015, count), -0.2 / own.fps, 0.2 / own.fps)
            times_s = np.arange(count) / own.fps + jitter_s - jitter_s[0]
            hardware = {"bf": "0", "g": str(round(own.fps)), "sc_threshold": "0"}
            data = mp4(frames, fps=own.fps, crf=18, sound=own.sound, times_s=times_s, options=hardware)
    return Made(data, ".mp4")


# ------------------------------------------------------------------------------------------------------------- documents


def _recaptured(simulate: Callable[[Rng, UInt8Array], document.Shot], rng: Rng, own: Material, _donor: Material | None) -> Made:
    if not own.pages_rgb:
        raise NotApplicableError("there is no document")
    return Made(jpeg(simulate(rng, own.pages_rgb[0]).image_rgb, quality=92), ".jpg")


def _pasted(paste: Callable[[Rng, FaceImage, FaceImage], UInt8Array], rng: Rng, own: Material, donor: Material | None) -> Made:
    """The donor's portrait on this document, for the donor to pass with it."""
    if not own.pages_rgb:
        raise NotApplicableError("there is no document")
    if donor is None:
        raise NotApplicableError("no other person's submission is at hand")
    found = find_portrait(own.pages_rgb[0])
    if found is None:
        raise NotApplicableError("no portrait was found on the document's first page")
    pasted = paste(rng, FaceImage(found.upright_rgb, np.ascontiguousarray(found.face.landmarks_px[:, :2])), donor.face)
    return Made(png(pasted), ".png")


def _three(species: str, *named: tuple[str, Make], role: str = "selfie", as_donor: bool = False) -> tuple[Tool, ...]:
    return tuple(Tool(species, s, name, make, role, as_donor) for s, (name, make) in zip(STRENGTHS, named, strict=True))


def _edits(species: str, *named: tuple[str, str], as_donor: bool = False) -> tuple[Tool, ...]:
    makes = ((name, partial(_edited, attack, steadiness)) for (name, attack), steadiness in zip(named, _TRACKING, strict=True))
    return _three(species, *makes, as_donor=as_donor)


TOOLS = (
    *_three(
        "print",
        ("office laser print, black and white", partial(_filmed, partial(clips.hold_print, ranges=printing.LASER_GREY))),
        ("inkjet print", partial(_filmed, partial(clips.hold_print, ranges=printing.INKJET))),
        ("photo paper", partial(_filmed, partial(clips.hold_print, ranges=printing.PHOTO))),
    ),
    *_three(
        "print_cut",
        ("office laser print with eye holes", partial(_filmed, partial(clips.hold_print, ranges=printing.LASER_GREY, cut=True))),
        ("inkjet print with eye holes", partial(_filmed, partial(clips.hold_print, ranges=printing.INKJET, cut=True))),
        ("photo paper with eye holes", partial(_filmed, partial(clips.hold_print, ranges=printing.PHOTO, cut=True))),
    ),
    *_three(
        "replay",
        ("coarse monitor, its pixels beat with the camera's", partial(_filmed, partial(clips.replay_screen, ranges=screen.MONITOR))),
        ("phone", partial(_filmed, partial(clips.replay_screen, ranges=screen.PHONE))),
        ("display finer than the camera resolves", partial(_filmed, partial(clips.replay_screen, ranges=screen.RETINA))),
    ),
    *_edits("mask", ("paper mask", "mask_paper"), ("latex mask", "mask_latex"), ("silicone mask", "mask_silicone")),
    *_edits(
        "swap",
        ("phone filter: another face in an oval", "pasted_oval"),
        ("another face warped onto the mesh", "mesh_swap"),
        ("live swap stream of a network", "live_swap_donor"),
        as_donor=True,
    ),
    *_edits(
        "composite",
        ("another's upper half pasted", "pasted_upper_half"),
        ("another's eyes pasted", "pasted_eyes"),
        ("another's eyes cloned in the gradient domain", "cloned_eyes"),
    ),
    *_edits(
        "reenactment",
        ("lower half written by a lip-sync network of 96-160 px", "lip_sync"),
        ("mouth warped", "mouth_warp"),
        ("talking head: the whole head drawn anew", "talking_head"),
    ),
    *_three(
        "loop",
        ("stream that freezes", partial(_streamed, clips.freeze)),
        ("loop with a jump", partial(_streamed, partial(clips.loop, there_and_back=False))),
        ("loop there and back, without a jump", partial(_streamed, partial(clips.loop, there_and_back=True))),
    ),
    *_three(
        "dub",
        ("another person's sound", _dub_other),
        ("own sound 0.6 s late", partial(_dub_late, 0.6)),
        ("own sound 0.2 s late", partial(_dub_late, 0.2)),
    ),
    *_three(
        "injection",
        ("virtual camera that names itself, half the size, coarse", partial(_injected, 1)),
        ("re-encoded by x264", partial(_injected, 2)),
        ("re-encoded as hardware does, with jitter", partial(_injected, 3)),
    ),
    *_three(
        "document_recapture",
        ("document on a coarse monitor", partial(_recaptured, partial(document.show_page, ranges=screen.MONITOR))),
        ("inkjet copy of the document", partial(_recaptured, partial(document.print_page, ranges=printing.INKJET))),
        ("photo print of the document", partial(_recaptured, partial(document.print_page, ranges=printing.PHOTO))),
        role="document",
    ),
    *_three(
        "document_paste",
        ("photo glued over the portrait", partial(_pasted, document.glue_portrait)),
        ("portrait replaced in an editor", partial(_pasted, document.match_portrait)),
        ("face cloned into the portrait", partial(_pasted, document.clone_portrait)),
        role="document",
        as_donor=True,
    ),
)
"""Weakest first within each species."""

SPECIES = tuple(dict.fromkeys(tool.species for tool in TOOLS))


def find_tool(species: str, strength: int) -> Tool:
    return next(tool for tool in TOOLS if (tool.species, tool.strength) == (species, strength))
