"""Clips for the liveness net: bona fide windows, the real attacks, and attacks simulated from the bona fide ones.

A window is cut, framed, shaken and lit by one draw that bona fide and attack share, so that only the attack differs; the codec
is drawn for each alone, so that neither its strength nor the number of generations tells a class. Finished clips and their
meshes are kept in the cache: figures can be measured anew in minutes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from kyc_guard.attacks.clips import CLIP_ATTACKS, ClipAttack, Tracking, framewise
from kyc_guard.attacks.face_image import Attack, FaceImage
from kyc_guard.attacks.reenact import REENACTMENTS
from kyc_guard.attacks.swap import SWAPS
from kyc_guard.config import Limits, Sampling
from kyc_guard.errors import InputError
from kyc_guard.faces import face_finder, face_square, measure, track_faces
from kyc_guard.media import read_clip
from kyc_guard.media.encode import mp4
from kyc_guard.types import Clip, Face, FaceTrack, Float32Array, UInt8Array
from training.data import ManifestRow, read_manifest

MOST_FRAMES = 240
"""Frames of a source clip that are looked at."""
MOST_SIDE_PX = 512
STREAM_ATTACKS = frozenset({"clip_freeze", "clip_loop", "clip_there_and_back"})
"""Done to the finished stream, after the camera's shake; the others happen before the camera."""
FRAMEWISE: tuple[Attack, ...] = (*SWAPS, *REENACTMENTS)


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One finished clip of the cache.

    Attributes:
        key: file name in the cache. group: clips made from the same window by the same draw.
        attack: name of the simulator; "" for a real clip. held_out: its simulator is for validation alone.
    """

    key: str
    group: str
    path: str
    label: str
    attack_type: str
    source: str
    subject: str
    split: str
    attack: str
    held_out: bool
    variant: int

    @property
    def is_attack(self) -> bool:
        return self.label == "attack"


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A decoded clip with a mesh at every frame that has a face."""

    frames: UInt8Array
    fps: float
    meshes: list[Float32Array | None]


@dataclass(frozen=True, slots=True)
class _Draw:
    """Framing, time, shake and light of one window."""

    seed: int
    start: float
    length_s: float
    scale: float
    aspect: float
    off: tuple[float, float]
    side_px: int
    shake: float
    gain: float
    gamma: float
    halve: bool

    @classmethod
    def of(cls, group: str) -> _Draw:
        rng = np.random.default_rng(crc32(group.encode()))
        return cls(
            seed=int(rng.integers(2**31)),
            start=float(rng.random()),
            length_s=float(rng.uniform(2.2, 4.0)),
            scale=float(rng.uniform(2.1, 3.6)),
            aspect=float(rng.choice((1.0, 4 / 3, 3 / 4, 16 / 9))),
            off=(float(rng.normal(0, 0.15)), float(rng.normal(0, 0.12))),
            side_px=int(rng.integers(300, MOST_SIDE_PX)),
            shake=float(rng.choice((0.0, 0.0, 0.4, 1.0))),
            gain=float(rng.uniform(0.8, 1.15)),
            gamma=float(np.exp(rng.normal(0, 0.12))),
            halve=bool(rng.random() < 0.12),
        )


def build(data: Path, cache: Path, *, variants: int, sims: int, part: tuple[int, int] = (0, 1), sources: Sequence[str] = ()) -> None:
    """Make every clip of the cache that is not there yet; can be interrupted.

    Args:
        cache: folder of ``<key>.mp4``, ``<key>.npz`` (meshes) and ``<key>.json``.
        variants: windows of each clip beside the clip as it is. sims: simulated attacks made of each bona fide window.
    """
    cache.mkdir(parents=True, exist_ok=True)
    rows = [r for r in read_manifest(data) if r.path.startswith("clips/")]
    donors = [r for r in rows if r.label == "bona_fide"]
    mine = [r for r in rows if not sources or r.source in sources][part[0] :: part[1]]
    # Round by round, so that an unfinished cache is already a balanced one.
    for variant in range(variants + 1):
        for row in mine:
            try:
                _build_round(data, cache, row, donors, variant=variant, sims=sims)
            except InputError as error:
                print(f"skipped {error}", file=sys.stderr)
        print(f"round {variant}: done", flush=True)


def group_of(row: ManifestRow, variant: int) -> str:
    """The two halves of a live-swap pair and all that is made from one window share a group."""
    stem = row.path.replace("/fake/", "/").replace("/real/", "/").replace("_fake", "").replace("_real", "")
    return f"{stem}#{variant}"


def _build_round(data: Path, cache: Path, row: ManifestRow, donors: Sequence[ManifestRow], *, variant: int, sims: int) -> None:
    source: _Source | None = None
    for clip_row, attack in _planned(row, variant, sims):
        if (cache / f"{clip_row.key}.json").exists():
            continue
        if variant == 0:
            encoded = (data / row.path).read_bytes()
        else:
            source = source or load(data / row.path, cache / "sources" / f"{stem_of(row)}.npz")
            made = make(data, source, clip_row, attack, donors)
            if made is None:
                continue
            encoded = made
        finish(cache, clip_row, encoded)


def stem_of(row: ManifestRow) -> str:
    """What the files made from a clip are called after."""
    return row.path.removeprefix("clips/").replace("/", "_").rsplit(".", 1)[0]


def _planned(row: ManifestRow, variant: int, sims: int) -> Iterator[tuple[ClipRow, ClipAttack | Attack | None]]:
    """The clip itself, and for bona fide windows the simulators drawn for it."""
    stem = stem_of(row)
    facts = {k: getattr(row, k) for k in ("path", "source", "subject", "split")}
    group = group_of(row, variant)
    yield (
        ClipRow(
            f"{stem}-{variant}", group, label=row.label, attack_type=row.attack_type, attack="", held_out=False, variant=variant, **facts
        ),
        None,
    )
    if row.label != "bona_fide" or variant == 0:
        return
    rng = np.random.default_rng(crc32(f"sims/{group}".encode()))
    for kind in _drawn_attacks(rng, sims, reserved=row.split == "validation"):
        yield (
            ClipRow(
                f"{stem}-{variant}-{kind.name}", group, label="attack", attack_type=kind.species, attack=kind.name,
                held_out=kind.held_out, variant=variant, **facts,
            ),
            kind,
        )  # fmt: skip


_WEIGHTS = {"live_swap": 4.0, "live_swap_donor": 4.0, "self_blend": 0.7, "morph": 0.7}


def _drawn_attacks(rng: np.random.Generator, count: int, *, reserved: bool) -> list[ClipAttack | Attack]:
    """Half physical and stream attacks, half frame-wise ones; the reserved simulators for validation windows only."""
    out: list[ClipAttack | Attack] = []
    for pool, share in ((CLIP_ATTACKS, count // 2), (FRAMEWISE, count - count // 2)):
        allowed = [a for a in pool if reserved or not a.held_out]
        weights = np.array([3.0 if a.held_out else _WEIGHTS.get(a.name, 1.0) for a in allowed])
        picked = rng.choice(len(allowed), size=min(share, len(allowed)), replace=False, p=weights / weights.sum())
        out += [allowed[int(i)] for i in picked]
    return out


def load(path: Path, store: Path) -> _Source:
    """Decode a source clip; its meshes are found once and kept in ``store``."""
    clip = read_clip(path, Sampling(frames=1, burst_frames=MOST_FRAMES), Limits())
    times = clip.burst_timestamps_s
    fps = float(np.clip((len(times) - 1) / max(times[-1] - times[0], 1e-3), 5, 60)) if len(times) > 1 else 25.0
    if store.exists():
        with np.load(store) as stored:
            found = stored["meshes"]
    else:
        blank = np.full((478, 2), np.nan, np.float32)
        faces = [face_finder().find(frame) for frame in clip.burst_rgb]
        found = np.stack([f[0].landmarks_px[:, :2] if f else blank for f in faces])
        store.parent.mkdir(parents=True, exist_ok=True)
        np.savez(store, meshes=found)
    return _Source(clip.burst_rgb, fps, [None if np.isnan(m).any() else m for m in found])


def make(data: Path, source: _Source, row: ClipRow, attack: ClipAttack | Attack | None, donors: Sequence[ManifestRow]) -> bytes | None:
    """Window, attack, camera, codec; ``None`` where the window shows no face throughout."""
    draw = _Draw.of(row.group)
    window = _window(source, draw)
    if window is None:
        return None
    frames, meshes, fps = window
    rng = np.random.default_rng([draw.seed, crc32(row.key.encode())])
    if isinstance(attack, Attack):
        frames = _framewise(rng, attack, frames, meshes, _donor(data, rng, row, donors) if attack.needs_donor else None)
    elif attack is not None and attack.name not in STREAM_ATTACKS:
        frames = attack.apply(rng, frames, meshes[0])
    frames = _camera(frames, draw)
    if attack is not None and attack.name in STREAM_ATTACKS:
        frames = attack.apply(rng, frames, meshes[0])  # type: ignore[arg-type,assignment]
    return _codec(rng, frames, fps)


def _window(source: _Source, draw: _Draw) -> tuple[UInt8Array, list[Float32Array], float] | None:
    """Frames cut to a square-ish framing about the face, meshes in their pixels, and the rate."""
    count = min(len(source.frames), max(16, round(draw.length_s * source.fps)))
    start = round(draw.start * (len(source.frames) - count))
    step = 2 if draw.halve and count >= 48 else 1
    chosen = range(start, start + count, step)
    known = [source.meshes[i] for i in chosen]
    if sum(m is None for m in known) > 0.1 * len(known) or known[0] is None:
        return None
    meshes: list[Float32Array] = []
    for mesh in known:
        meshes.append(mesh if mesh is not None else meshes[-1])
    every = np.concatenate(meshes)
    low, high = every.min(axis=0), every.max(axis=0)
    side = float(np.median([np.ptp(m, axis=0).max() for m in meshes]))
    height, width = source.frames.shape[1:3]
    reach = np.array([draw.scale * max(draw.aspect, 1.0), draw.scale / min(draw.aspect, 1.0)]) * side / 2
    centre = (low + high) / 2 + np.array(draw.off) * side
    x0, y0 = (max(0, int(v)) for v in np.minimum(centre - reach, low - 0.1 * side))
    x1, y1 = min(width, int(max(centre[0] + reach[0], high[0]))), min(height, int(max(centre[1] + reach[1], high[1])))
    scale = min(1.3, draw.side_px / max(x1 - x0, y1 - y0))
    size = (max(32, round((x1 - x0) * scale / 2) * 2), max(32, round((y1 - y0) * scale / 2) * 2))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    frames = np.stack([cv2.resize(source.frames[i, y0:y1, x0:x1], size, interpolation=way) for i in chosen])
    unit = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)], np.float32)
    return frames, [((m - (x0, y0)) * unit).astype(np.float32) for m in meshes], source.fps / step


def _framewise(
    rng: np.random.Generator, attack: Attack, frames: UInt8Array, meshes: Sequence[Float32Array], donor: FaceImage | None
) -> UInt8Array:
    """The still simulator at every frame: the same draw throughout, the mesh trailing and trembling as a tracker's does, now and
    then a frame drawn anew.
    """
    tracking = Tracking(
        seed=int(rng.integers(2**31)),
        follow=float(rng.uniform(0.35, 1.0)),
        tremble=float(rng.choice((0.0, 0.002, 0.005))),
        slip=float(rng.choice((0.0, 0.0, 0.03))),
    )
    return framewise(rng, attack, frames, meshes, donor, tracking=tracking)


def _donor(data: Path, rng: np.random.Generator, row: ClipRow, donors: Sequence[ManifestRow]) -> FaceImage | None:
    """A frame of another person of the same split."""
    others = [d for d in donors if d.split == row.split and d.subject != row.subject]
    if not others:
        others = [d for d in donors if d.split == "train" and d.subject != row.subject]
    pick = others[int(rng.integers(len(others)))]
    clip = read_clip(data / pick.path, Sampling(frames=1, burst_frames=0), Limits())
    faces = face_finder().find(clip.frames_rgb[0])
    return FaceImage(clip.frames_rgb[0], faces[0].landmarks_px[:, :2]) if faces else None


def _camera(frames: UInt8Array, draw: _Draw) -> UInt8Array:
    """Hand shake of the recording camera, exposure and tone: the same for both classes."""
    rng = np.random.default_rng(draw.seed)
    count, height, width = frames.shape[:3]
    table = np.clip(255 * draw.gain * (np.arange(256) / 255) ** draw.gamma, 0, 255).astype(np.uint8)
    knots = max(4, count // 8)
    spread = np.array([0.012 * width, 0.012 * height, 0.6, 0.008]) * draw.shake
    ways = cv2.resize(rng.normal(0, 1, (knots, 4)) * spread, (4, count), interpolation=cv2.INTER_CUBIC)
    out = np.empty_like(frames)
    for i, (x, y, turn, size) in enumerate(ways.tolist()):
        frame = frames[i]
        if draw.shake:
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.04 + size)
            matrix[:, 2] += (x, y)
            frame = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        out[i] = table[frame]
    return out


def _codec(rng: np.random.Generator, frames: UInt8Array, fps: float) -> bytes:
    """One to three generations of H.264, the earlier ones finer."""
    for _ in range(int(rng.choice(3, p=(0.5, 0.35, 0.15)))):
        frames = read_clip(mp4(frames, fps=fps, crf=int(rng.integers(14, 28))), Sampling(frames=1, burst_frames=512), Limits()).burst_rgb
    return mp4(frames, fps=fps, crf=int(rng.integers(17, 33)))


def finish(cache: Path, row: ClipRow, encoded: bytes) -> None:
    """Write a clip, its meshes and its row into the cache."""
    clip = read_clip(encoded, Sampling(), Limits(), name=row.key)
    track, burst = (track_faces(f, other_face_ratio=0.5) for f in (clip.frames_rgb, clip.burst_rgb))
    np.savez(cache / f"{row.key}.npz", spread=_meshes(track), burst=_meshes(burst))
    (cache / f"{row.key}.mp4").write_bytes(encoded)
    (cache / f"{row.key}.json").write_text(json.dumps(asdict(row)), encoding="utf-8")


def _meshes(track: FaceTrack) -> NDArray[np.float32]:
    blank = np.full((478, 3), np.nan, np.float32)
    return np.stack([blank if f is None else f.landmarks_px for f in track.faces]) if track.faces else blank[None][:0]


def read_rows(cache: Path) -> list[ClipRow]:
    """All finished clips, in the order of their keys."""
    return [ClipRow(**json.loads(p.read_text(encoding="utf-8"))) for p in sorted(cache.glob("*.json"))]


def read_finished(cache: Path, row: ClipRow) -> tuple[Clip, FaceTrack, FaceTrack]:
    """The clip as the verifier would have it, without finding faces again."""
    even = Sampling(motion_hz=Sampling().challenge_hz)
    clip = read_clip((cache / f"{row.key}.mp4").read_bytes(), even, Limits(), name=row.key)
    with np.load(cache / f"{row.key}.npz") as stored:
        return clip, _track(clip.frames_rgb, stored["spread"]), _track(clip.burst_rgb, stored["burst"])


def _track(frames: UInt8Array, meshes: NDArray[np.float32]) -> FaceTrack:
    faces: list[Face | None] = [None if np.isnan(m).any() else measure(f, m) for f, m in zip(frames, meshes, strict=True)]
    return FaceTrack(tuple(faces), other_faces=0)


def largest_side_px(track: FaceTrack) -> float:
    return max((face_square(f)[1] for f in track.faces if f is not None), default=0.0)
