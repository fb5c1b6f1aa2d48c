"""What a batch is made of, and the one crop, codec and resolution path both classes go through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from kyc_guard.attacks.codec import Codec, one_of
from kyc_guard.attacks.optics import live_capture
from kyc_guard.detectors.face_attack import CLASSES
from kyc_guard.faces import square_crop
from kyc_guard.faces.views import View
from kyc_guard.recoding import jpeg
from kyc_guard.types import PHYSICAL, Float32Array, UInt8Array
from training.chips import MASK_SIDE, Chip, ChipRow, ChipStore

_LOCAL = frozenset({"swap", "composite", "reenactment"})
_REFILMED_ANYHOW = 0.2
"""Of the share of pairs whose simulator has a camera, so often in all other pairs, both halves alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One view ready for the net: rgb (S, S, 3) uint8, targets (physical, digital) of 0, 1 or NaN for the head that is not
    asked, species index, map (h, w) or NaN where unknown.
    """

    rgb: UInt8Array
    targets: tuple[float, float]
    species: int
    map: Float32Array


@dataclass(frozen=True, slots=True)
class Jitter:
    """One draw of the geometry, shared by the two halves of a pair so that only the attack differs."""

    scale: float
    shift: tuple[float, float]
    anchor: tuple[float, float]
    flip: bool
    rotate_deg: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Jitter:
        return cls(
            scale=float(np.exp(rng.normal(0, 0.12))),
            shift=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
            anchor=(float(rng.uniform(-0.33, 0.33)), float(rng.uniform(-0.33, 0.35))),
            flip=bool(rng.random() < 0.5),
            rotate_deg=float(rng.normal(0, 7)) if rng.random() < 0.3 else 0.0,
        )


def cut(view: View, row: ChipRow, chip: Chip, jitter: Jitter, map_side: int) -> tuple[UInt8Array, Float32Array]:
    """The view's pixels and the manipulation mask seen through the same window, (map_side, map_side) in 0..1."""
    cx, cy, side = row.face_xy_side
    unit = MASK_SIDE / row.side_px
    image, mask = _turned(chip.image_rgb, (cx, cy), jitter.rotate_deg), _turned(chip.mask, (cx * unit, cy * unit), jitter.rotate_deg)
    dx, dy = jitter.shift if view.scale else jitter.anchor
    centre = (cx + dx * side, cy + dy * side)
    crop = view.crop_px(side) * jitter.scale
    rgb = square_crop(image, centre, crop, view.side_px)
    mask3 = np.repeat(mask[:, :, None], 3, axis=2)
    seen = square_crop(mask3, (centre[0] * unit, centre[1] * unit), crop * unit, map_side)[:, :, 0].astype(np.float32) / 255
    if jitter.flip:
        rgb, seen = rgb[:, ::-1], seen[:, ::-1]
    return np.ascontiguousarray(rgb), np.ascontiguousarray(seen)


def _turned(image: UInt8Array, centre_px: tuple[float, float], degrees: float) -> UInt8Array:
    if not degrees:
        return image
    matrix, size = cv2.getRotationMatrix2D(centre_px, degrees, 1.0), image.shape[1::-1]
    out: UInt8Array = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return out


def degrade(rgb: UInt8Array, rng: np.random.Generator, gentle_share: float, codecs: Sequence[Codec]) -> UInt8Array:
    """Camera, light, resolution and codec as they vary in uploads; the same for both classes, so none gives a label away.

    ``gentle_share`` of the samples stay nearly untouched: seams and up-sampling traces must be seen before they can be seen
    through dirt; of codecs they know mild JPEG alone, the others all of ``codecs``.
    """
    side = rgb.shape[0]
    gentle = rng.random() < gentle_share
    if not gentle and rng.random() < 0.5:
        small = max(24, round(side * rng.uniform(0.3, 0.95)))
        way = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
        rgb = cv2.resize(cv2.resize(rgb, (small, small), interpolation=way), (side, side), interpolation=cv2.INTER_LINEAR)
    if not gentle and rng.random() < 0.25:
        rgb = cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.4, 2.2)))
    elif rng.random() < 0.1:
        soft = cv2.GaussianBlur(rgb, (0, 0), 1.0)
        amount = float(rng.uniform(0.2, 0.8))
        rgb = cv2.addWeighted(rgb, 1 + amount, soft, -amount, 0)
    if rng.random() < 0.8:
        rgb = _recolour(rgb, rng)
    if not gentle and rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(1, 8), (side, side, 1 if rng.random() < 0.5 else 3)).astype(np.float32)
        rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    if rng.random() < (0.5 if gentle else 0.8):
        rgb = jpeg(rgb, int(rng.integers(75, 97)), subsampled=rng.random() < 0.75) if gentle else one_of(codecs, rng, rgb)
    if rng.random() < 0.1:
        rgb = rgb.copy()
        w, h = (int(side * rng.uniform(0.1, 0.4)) for _ in range(2))
        x, y = (int(rng.integers(0, side - k)) for k in (w, h))
        rgb[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return np.ascontiguousarray(rgb)


def _recolour(rgb: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Exposure, contrast, white balance, gamma and saturation as one table a channel; greyscale in one of ten."""
    levels = np.arange(256, dtype=np.float32) / 255
    gamma, gain, lift = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.15)), rng.normal(0, 0.04)
    balance = np.exp(rng.normal(0, 0.1, 3))
    table = np.clip((levels[:, None] ** gamma * gain + lift) * balance[None], 0, 1)
    out: UInt8Array = cv2.LUT(rgb, (table * 255).astype(np.uint8).reshape(1, 256, 3))
    if rng.random() < 0.1:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif rng.random() < 0.4:
        grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        keep = float(rng.uniform(0.4, 1.4))
        out = cv2.addWeighted(out, keep, grey, 1 - keep, 0)
    return out


class PairSampler:
    """Draws (bona fide, attack) pairs: attacks balanced by species, then source or simulator; partners as close as can be.

    Balanced by the square root of what there is: in equal shares, the ninety composites there are would be learnt by heart.

    ``exclude`` names sources and simulators.

    The partner of a simulated attack is the very chip it was made from; of a real attack the same person's or source's
    bona fide chip where there is one, so that identity and camera carry little of the label. In a quarter of the pairs, and where
    there is no such chip, it is any bona fide chip: the nets must tell faces of different cameras apart too.
    """

    def __init__(
        self, real: ChipStore, bank: ChipStore, *, simulated: float, exclude: Sequence[str] = (), species: Sequence[str] = ()
    ) -> None:

        def keep(row: ChipRow) -> bool:
            return row.split == "train" and row.source not in exclude and row.attack not in exclude

        def wanted(row: ChipRow) -> bool:
            return not species or row.attack_type in species

        self._stores = (real, bank)
        self._simulated = simulated
        self._bona_by_source: dict[str, list[int]] = defaultdict(list)
        self._bona_by_person: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._bona_at: dict[tuple[str, int], int] = {}
        real_groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, row in enumerate(real.rows):
            if not keep(row):
                continue
            if row.is_attack:
                if wanted(row):
                    real_groups[row.attack_type][row.source].append(i)
            else:
                self._bona_by_source[row.source].append(i)
                self._bona_by_person[row.source, row.subject.split("+")[0]].append(i)
                self._bona_at[row.path, row.frame] = i
        made_groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, row in enumerate(bank.rows):
            if keep(row) and wanted(row):
                made_groups[row.attack_type][row.attack].append(i)
        self._groups = (
            {k: dict(v) for k, v in real_groups.items()},
            {k: dict(v) for k, v in made_groups.items()},
        )
        self._sources = sorted(self._bona_by_source)

    def draw(self, rng: np.random.Generator) -> tuple[tuple[ChipRow, Chip], tuple[ChipRow, Chip]]:
        real, bank = self._stores
        made = int(rng.random() < self._simulated)
        groups = self._groups[made]
        kinds = sorted(groups)
        by_group = groups[_one_of(kinds, [sum(map(len, groups[k].values())) for k in kinds], rng)]
        names = sorted(by_group)
        members = by_group[_one_of(names, [len(by_group[n]) for n in names], rng)]
        a = members[rng.integers(len(members))]
        store = (real, bank)[made]
        row = store.rows[a]
        b = self._bona_at.get((row.path, row.frame)) if made else self._partner(row, rng)
        if b is None or rng.random() < 0.25:
            pool = self._bona_by_source[_one_of(self._sources, [len(self._bona_by_source[s]) for s in self._sources], rng)]
            b = pool[rng.integers(len(pool))]
        return (real.rows[b], real[b]), (row, store[a])

    def _partner(self, attack: ChipRow, rng: np.random.Generator) -> int | None:
        twin = self._bona_at.get((attack.path.replace("/fake/", "/real/").replace("_fake", "_real"), attack.frame))
        if twin is not None:
            return twin
        person = self._bona_by_person.get((attack.source, attack.subject.split("+")[0]))
        pool = person or self._bona_by_source.get(attack.source)
        return pool[rng.integers(len(pool))] if pool else None


def _one_of(names: Sequence[str], sizes: Sequence[int], rng: np.random.Generator) -> str:
    """One name; large ones come more often, but not in proportion."""
    weights = np.sqrt(sizes)
    return names[rng.choice(len(names), p=weights / weights.sum())]


def refilm_share(attack: ChipRow, refilm: float) -> float:
    """How often a picture of this attack's pair goes through `live_capture`.

    A simulated print, screen or mask was filmed by its simulator, its original never: without this the camera is the label.
    """
    return refilm if attack.attack and attack.attack_type in PHYSICAL else refilm * _REFILMED_ANYHOW


def sample_of(
    view: View,
    row: ChipRow,
    chip: Chip,
    jitter: Jitter,
    rng: np.random.Generator,
    *,
    map_side: int,
    gentle_share: float,
    refilm: float,
    codecs: Sequence[Codec],
) -> Sample:
    """One training sample; real local manipulations have no known mask, so their map target is NaN.

    Args:
        refilm: how often the picture goes through one more camera, unless its simulator filmed it already.
    """
    filmed = bool(row.attack) and row.attack_type in PHYSICAL
    camera = rng.spawn(1)[0]  # its own, so that halves that share their draws share them whether filmed or not
    if not filmed and camera.random() < refilm:
        # At twice the net's resolution for the whole face, which cameras film finer than it is judged.
        fine = replace(view, side_px=2 * view.side_px) if view.scale else view
        rgb, mask = cut(fine, row, chip, jitter, map_side)
        rgb = live_capture(camera, rgb)
        rgb = cv2.resize(rgb, (view.side_px, view.side_px), interpolation=cv2.INTER_AREA)
    else:
        rgb, mask = cut(view, row, chip, jitter, map_side)
    if row.is_attack and not row.attack and row.attack_type in _LOCAL:
        mask = np.full_like(mask, np.nan)
    species = CLASSES.index(row.attack_type if row.is_attack else "bona_fide")
    physical = row.attack_type in PHYSICAL
    targets = (1.0 if physical else np.nan, np.nan if physical else 1.0) if row.is_attack else (0.0, 0.0)
    if row.is_attack and not view.scale and np.isfinite(mask).all() and float(mask.max()) < 0.1:
        targets, species = (0.0, 0.0), 0  # the window shows only untouched pixels of a locally manipulated face
    return Sample(degrade(rgb, rng, gentle_share, codecs), targets, species, mask)
