"""The simulators reserved for validation, applied to bona fide faces: attacks of kinds no net was trained on.

Every face is judged as it is and after each reserved attack, all through the same JPEG quality. What is done in a computer
differs from its original in the attack alone. A print or screen does not: its simulator ends in a camera of its own (resampling, Bayer
mosaic, noise, JPEG), which the untouched original never met, and a net that knows that camera would look as if it knew paper. So prints
and screens are held against their originals seen through such a camera too (`live_capture`, with a seed of its own): that is the figure
that speaks of the attack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.figures import separation
from benchmarks.sample import face_picture, in_turn
from kyc_guard import pool
from kyc_guard.attacks import ATTACKS, FaceImage
from kyc_guard.attacks.mesh import yaw
from kyc_guard.attacks.optics import live_capture
from kyc_guard.attacks.printing import PRINTS
from kyc_guard.attacks.screen import SCREENS
from kyc_guard.config import Settings
from kyc_guard.errors import KycGuardError
from kyc_guard.pipeline import Verifier
from kyc_guard.progress import bar
from kyc_guard.recoding import jpeg
from kyc_guard.reports.metrics import Rate
from kyc_guard.reports.presentations import Presentation, Score, Table
from kyc_guard.types import DIGITAL, PHYSICAL

RESERVED = tuple(a for a in ATTACKS if a.held_out)
THROUGH_CAMERA = frozenset(a.name for a in (*PRINTS, *SCREENS))
"""Simulators that end in a camera; masks are laid into the picture, as what is made in a computer is."""
PLAIN, CAPTURED = "untouched originals", "originals seen through a camera"
_ORIGINALS = (PLAIN, CAPTURED)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One bona fide face and the face an attacker would lend it."""

    row: Presentation
    face: FaceImage
    donor: FaceImage
    number: int


@dataclass(frozen=True, slots=True)
class Attacker:
    """Subject -> scores of the original, of it seen through a camera, and of every reserved attack; ``None`` where there was no response.

    The score is face_attack's, the only detector that judges a still.
    """

    make: Callable[[], Verifier]

    def __call__(self) -> Callable[[Subject], list[float | None]]:
        judge = self.make().attack_score

        def work(subject: Subject) -> list[float | None]:
            # One quality for all pictures of a face; another for another face.
            quality = int(np.random.default_rng([2, subject.number]).integers(70, 96))
            pictures = [subject.face.image_rgb, live_capture(np.random.default_rng([4, subject.number]), subject.face.image_rgb)]
            for kind, attack in enumerate(RESERVED):
                rng = np.random.default_rng([3, subject.number, kind])
                pictures.append(attack.apply(rng, subject.face, subject.donor if attack.needs_donor else None).image_rgb)
            return [judge(jpeg(picture, quality), subject.row.path).score for picture in pictures]

        return work


def subjects(rows: Sequence[Presentation], settings: Settings, count: int) -> list[Subject]:
    """``count`` bona fide faces, every source in turn, each with the other face that is turned most alike as its donor."""
    found = []
    for row in in_turn([r for r in rows if r.label == "bona_fide"], count):
        assert row.file is not None
        picture = face_picture(row.file, settings.limits)
        if picture is not None:
            frame, seen = picture
            found.append((row, FaceImage(frame, seen.landmarks_px[:, :2].astype(np.float32))))
    turned = np.array([yaw(face.landmarks_px) for _, face in found])
    people = np.array([f"{row.source}/{row.subject or row.path}" for row, _ in found])
    chosen = []
    for i, (row, face) in enumerate(found):
        unlike = np.where(people == people[i], np.inf, np.abs(turned - turned[i]))
        donor = int(unlike.argmin())
        if np.isfinite(unlike[donor]):
            chosen.append(Subject(row, face, found[donor][1], i))
    return chosen


def run(rows: Sequence[Presentation], make: Callable[[], Verifier], settings: Settings, *, count: int, workers: int | None) -> list[Any]:
    """Up to ``count`` subjects, each with the scores of `Attacker`.

    Raises:
        KycGuardError: a subject could not be judged; a benchmark that leaves some out would flatter.
    """
    if not count:
        return []
    chosen = subjects(rows, settings, count)
    tasks = pool.run(Attacker(make), chosen, workers=workers or pool.default_workers(), ordered=True)
    judged = []
    with bar(len(chosen), 0) as advance:
        for subject, scores in tasks:
            if isinstance(scores, pool.Failure):
                raise KycGuardError(f"{subject.row.path}: a reserved attack could not be judged: {scores.code} {scores.detail}")
            judged.append((subject, scores))
            advance()
    return judged


def figures(judged: Sequence[tuple[Subject, list[float | None]]], points: dict[str, float]) -> dict[str, Any]:
    """Each reserved simulator, each species, and the physical and the digital ones together, against the same faces unharmed.

    ``pooled`` has the physical ones against untouched originals, then prints and screens alone against captured ones.
    """
    names = (*_ORIGINALS, *(a.name for a in RESERVED))
    species = dict.fromkeys(_ORIGINALS, "") | {a.name: a.species for a in RESERVED}
    by_name: defaultdict[str, list[tuple[Presentation, Score]]] = defaultdict(list)
    above: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for subject, scores in judged:
        originals = dict(zip(_ORIGINALS, scores, strict=False))
        for name, score in zip(names, scores, strict=True):
            label = "attack" if species[name] else "bona_fide"
            person = subject.row.subject or subject.row.path
            shown = Presentation(f"{subject.row.path}#{name}", label, species[name], subject.row.source, person)
            by_name[name].append((shown, Score(score)))
            for original, before in originals.items():
                if label == "attack" and score is not None and before is not None:
                    above[name, original].append(score > before)

    def against(original: str, names: Sequence[str]) -> dict[str, Any]:
        pairs = [*by_name[original], *(pair for name in names for pair in by_name[name])]
        return {"against": original, **separation(Table.of([r for r, _ in pairs], [s for _, s in pairs]), points)}

    def one(name: str, original: str) -> dict[str, Any]:
        ranked = above[name, original]
        rates = {"above_own_original": Rate.of(sum(ranked), len(ranked))}
        return {"name": name, "species": species[name], **rates, **against(original, [name])}

    physical, digital = ([a.name for a in RESERVED if a.species in kinds] for kinds in (PHYSICAL, DIGITAL))
    seen = [name for name in physical if name in THROUGH_CAMERA]
    return {
        "faces": len(judged),
        "simulators": [one(a.name, original) for a in RESERVED for original in _originals_of(a.name)],
        "pooled": [
            {"name": "physical", **against(PLAIN, physical)},
            {"name": "print and screen", **against(PLAIN, seen)},
            {"name": "print and screen", **against(CAPTURED, seen)},
            {"name": "digital", **against(PLAIN, digital)},
        ],
    }


def _originals_of(name: str) -> tuple[str, ...]:
    """What a simulator is held against."""
    return _ORIGINALS if name in THROUGH_CAMERA else (PLAIN,)
