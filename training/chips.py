"""A folder of face chips: raw pixels in large files, memory-mapped, so that several training processes share one page cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kyc_guard.types import Float32Array, UInt8Array

MASK_SIDE = 32
_LANDMARKS = 478


@dataclass(frozen=True, slots=True)
class ChipRow:
    """What is known of one chip. ``attack`` names the simulator for made chips, "" for real pictures."""

    path: str
    label: str
    attack_type: str
    source: str
    subject: str
    group: str
    split: str
    detail: str
    frame: int
    side_px: int
    attack: str = ""
    held_out: bool = False
    face_xy_side: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre and side of the face square inside the chip, px."""

    @property
    def is_attack(self) -> bool:
        return self.label == "attack"


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """image_rgb (S, S, 3) uint8; landmarks_px (478, 2) float32 in chip pixels; mask (32, 32) uint8, 255 = manipulated."""

    image_rgb: UInt8Array
    landmarks_px: Float32Array
    mask: UInt8Array


class ChipWriter:
    """Writes one shard. Nothing is visible to readers until `close`, so an interrupted shard is simply made again."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._final = folder / name
        self._pixels = (folder / f"{name}.bin.part").open("wb")
        self._rows: list[dict[str, object]] = []

    def add(self, row: ChipRow, chip: Chip) -> None:
        assert chip.image_rgb.shape == (row.side_px, row.side_px, 3)
        assert chip.landmarks_px.shape == (_LANDMARKS, 2)
        offset = self._pixels.tell()
        self._pixels.write(np.ascontiguousarray(chip.image_rgb).tobytes())
        self._pixels.write(chip.landmarks_px.astype(np.float32).tobytes())
        self._pixels.write(chip.mask.astype(np.uint8).tobytes())
        self._rows.append({**asdict(row), "offset": offset})

    def close(self) -> None:
        self._pixels.close()
        Path(f"{self._final}.bin.part").replace(f"{self._final}.bin")
        index = Path(f"{self._final}.json.part")
        index.write_text(json.dumps(self._rows))
        index.replace(f"{self._final}.json")


class ChipStore:
    """All finished shards of a folder, in name order."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[ChipRow] = []
        self._places: list[tuple[int, int]] = []
        self._maps: list[np.memmap[tuple[int, ...], np.dtype[np.uint8]]] = []
        for index in sorted(folder.glob("*.json")):
            rows = json.loads(index.read_text())
            if not rows:
                continue
            self._maps.append(np.memmap(index.with_suffix(".bin"), np.uint8, "r"))
            for row in rows:
                self._places.append((len(self._maps) - 1, row.pop("offset")))
                row["face_xy_side"] = tuple(row["face_xy_side"])
                self.rows.append(ChipRow(**row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Chip]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Chip:
        which, start = self._places[i]
        side = self.rows[i].side_px
        raw = self._maps[which]
        a, b = start + side * side * 3, start + side * side * 3 + _LANDMARKS * 8
        return Chip(
            image_rgb=np.asarray(raw[start:a]).reshape(side, side, 3),
            landmarks_px=np.frombuffer(raw[a:b].tobytes(), np.float32).reshape(_LANDMARKS, 2),
            mask=np.asarray(raw[b : b + MASK_SIDE * MASK_SIDE]).reshape(MASK_SIDE, MASK_SIDE),
        )
