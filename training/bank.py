"""The bank: simulated attacks made once from the real bona fide chips and kept beside them.

Training and calibration chips get the simulators that are not reserved; validation chips get only the reserved ones, so
that validation never sees a simulator the nets were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.attacks import contact_sheet
from kyc_guard.attacks.face_image import Attack, FaceImage
from kyc_guard.attacks.mesh import yaw
from kyc_guard.types import SPECIES, Float32Array
from training.chips import MASK_SIDE, Chip, ChipRow, ChipStore, ChipWriter

SHARD_CHIPS = 120
DONOR_CHOICES = 10


def build_bank(cache: Path, attacks: Sequence[Attack], *, variants: float, seed: int = 7, part: Sequence[int] = (0, 1)) -> None:
    """Make about ``variants`` attacks of each species from every bona fide chip in ``cache/real`` into ``cache/bank``.

    A species' finished shards are skipped, so the work can be interrupted and a new species added later. Frames of a clip
    are near-duplicates: each gets a quarter of a picture's share.

    Args:
        part: (k, n): do only every n-th shard from k on, for n processes side by side.
    """
    store = ChipStore(cache / "real")
    bona_fide = [i for i, row in enumerate(store.rows) if not row.is_attack]
    donors = {split: [i for i in bona_fide if store.rows[i].split == split] for split in {r.split for r in store.rows}}
    turned = np.array([yaw(chip.landmarks_px) for chip in store])
    people = np.array([f"{row.source}/{row.subject or row.path}" for row in store.rows])
    for kind, species in enumerate(SPECIES):
        if not any(a.species == species for a in attacks):
            continue
        for number, start in enumerate(range(0, len(bona_fide), SHARD_CHIPS)):
            name = f"bank_{species}_{number:04d}"
            if number % part[1] != part[0] or (cache / "bank" / f"{name}.json").exists():
                continue
            rng = np.random.default_rng([seed, kind, number])
            writer = ChipWriter(cache / "bank", name)
            for i in bona_fide[start : start + SHARD_CHIPS]:
                row = store.rows[i]
                choices = [a for a in attacks if a.species == species and a.held_out == (row.split == "validation")]
                share = variants * (0.25 if row.path.startswith("clips/") else 1.0)
                for _ in range(int(share + rng.random())):
                    attack = choices[rng.integers(len(choices))]
                    made = simulate(attack, rng, store[i], store[_donor(rng, i, donors[row.split], turned, people)])
                    if made is not None:
                        square = _square(made.landmarks_px, row)
                        named = replace(row, label="attack", attack_type=species, attack=attack.name, held_out=attack.held_out)
                        writer.add(replace(named, face_xy_side=square), made)
            writer.close()
        print(f"{species}: done", flush=True)


def simulate(attack: Attack, rng: np.random.Generator, chip: Chip, donor: Chip) -> Chip | None:
    """One simulated attack from a chip; ``None`` when the simulated face left the picture."""
    source = FaceImage(np.ascontiguousarray(chip.image_rgb), chip.landmarks_px)
    other = FaceImage(np.ascontiguousarray(donor.image_rgb), donor.landmarks_px) if attack.needs_donor else None
    made = attack.apply(rng, source, other)
    landmarks = made.landmarks_px.astype(np.float32)
    centre = landmarks.mean(0)
    if not np.isfinite(landmarks).all() or (centre < 0).any() or (centre > chip.image_rgb.shape[0]).any():
        return None
    mask = cv2.resize(made.mask, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
    return Chip(made.image_rgb, landmarks, (np.clip(mask, 0, 1) * 255).astype(np.uint8))


def render_gallery(cache: Path, attacks: Sequence[Attack], out: Path, *, seed: int, faces: int) -> None:
    """Write a contact sheet of ``attacks`` on ``faces`` training chips drawn with ``seed``."""
    store = ChipStore(cache / "real")
    choices = [i for i, r in enumerate(store.rows) if r.split == "train" and not r.is_attack]
    drawn = np.random.default_rng(seed).choice(choices, faces, replace=False)
    sheet = contact_sheet([FaceImage(np.ascontiguousarray(store[i].image_rgb), store[i].landmarks_px) for i in drawn], attacks, seed)
    cv2.imwrite(str(out), sheet[..., ::-1])


def _donor(rng: np.random.Generator, i: int, donors: Sequence[int], turned: NDArray[np.float64], people: NDArray[np.str_]) -> int:
    """Of a few faces of others the one turned most alike: a swap between unlike poses would be no swap, and one with oneself neither."""
    few = rng.choice(donors, DONOR_CHOICES)
    others = few[people[few] != people[i]]
    few = others if len(others) else few
    return int(few[np.abs(turned[few] - turned[i]).argmin()])


def _square(landmarks_px: Float32Array, row: ChipRow) -> tuple[float, float, float]:
    """The face square of the moved mesh, as `faces.face_square` takes it from a found one."""
    low, high = landmarks_px[:468].min(0), landmarks_px[:468].max(0)
    centre, side = (low + high) / 2, float((high - low).max())
    return float(centre[0]), float(centre[1]), side if side > 8 else row.face_xy_side[2]
