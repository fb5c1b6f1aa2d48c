"""Pictures written by networks of our own: small autoencoders trained on bona fide faces, and the attacks they make.

A generated face, a diffusion picture and a live swap's interior have all been through a learnt decoder. What that leaves can
be imitated by filters (kyc_guard.attacks.generated), but a decoder does it by itself, and differently for each way of going
up in size. A bona fide face and what an autoencoder makes of it differ in nothing else: same person, light, pose and camera.
The autoencoders serve training only; none is shipped, and one kind is reserved for validation.

Source: A. S. Rajan et al., "Aligned Datasets Improve Detection of Latent Diffusion-Generated Images", ICLR 2025 (reconstructions
as attacks); the shape of the decoders: R. Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kyc_guard.attacks import blending, hulls
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.attacks.swap import oval_mask, segmented
from kyc_guard.types import UInt8Array
from training.chips import ChipStore
from training.models import AttackNet, normalise

_SIDE_PX = 128
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """One autoencoder: how its decoder goes up in size, how often its encoder halves, how wide its code is, how long it learns."""

    up: str
    halvings: int
    code: int
    minutes: float
    held_out: bool


KINDS: Mapping[str, Kind] = {
    "nearest": Kind("nearest", halvings=3, code=12, minutes=9, held_out=False),
    "transposed": Kind("transposed", halvings=2, code=4, minutes=7, held_out=False),
    "shuffle": Kind("shuffle", halvings=3, code=16, minutes=5, held_out=True),
}


class Autoencoder(nn.Module):
    """(N, 3, H, W) normalised RGB -> the same, H and W multiples of 2 ** halvings."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        widths = [32, 64, 96][: kind.halvings]
        down: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU(), _Residual(after)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], kind.code, 1))
        up: list[nn.Module] = [nn.Conv2d(kind.code, widths[-1], 3, padding=1), _Residual(widths[-1])]
        for before, after in zip(widths[::-1], [*widths[-2::-1], 0], strict=True):
            up += [_Residual(before), _upsampling(kind.up, before, after or 3)]
            up += [nn.SiLU()] if after else []
        self.decoder = nn.Sequential(*up)

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.encoder(x))
        return decoded


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.body(x)
        return changed


def _upsampling(up: str, before: int, after: int) -> nn.Module:
    if up == "transposed":
        return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
    if up == "shuffle":
        return nn.Sequential(nn.Conv2d(before, after * 4, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1))


def train(cache: Path, name: str, *, seed: int = 3) -> None:
    """Fit autoencoder ``name`` to training people's bona fide chips into ``cache/resynthesis``; done once, then kept.

    Loss: the pixels' absolute error and that of Lite0's first features, so that texture is written and not averaged away.
    """
    path = cache / "resynthesis" / f"{name}.pt"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng, store = np.random.default_rng(seed), ChipStore(cache / "real")
    rows = [i for i, r in enumerate(store.rows) if r.split == "train" and not r.is_attack]
    net = Autoencoder(KINDS[name]).to(memory_format=torch.channels_last)
    judge = AttackNet(4).eval().requires_grad_(requires_grad=False)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    started, step, shown, done = time.monotonic(), 0, 0.0, 0.0
    while done < 1:
        x = normalise(torch.from_numpy(np.stack([_crop(rng, store, rows[rng.integers(len(rows))]) for _ in range(_BATCH)])))
        x = x.contiguous(memory_format=torch.channels_last)
        y = net(x)
        loss = 2 * functional.l1_loss(y, x) + _feature_loss(judge, y, x)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step, done = step + 1, (time.monotonic() - started) / (60 * KINDS[name].minutes)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01)
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            print({"net": name, "done": round(done, 3), "step": step, "l1": round(float(functional.l1_loss(y.detach(), x)), 4)}, flush=True)
    torch.save(net.state_dict(), path)


def _crop(rng: np.random.Generator, store: ChipStore, i: int) -> UInt8Array:
    """A square of a chip about the face, at a size where the face spans 70 to 220 px but never enlarged."""
    image = store[i].image_rgb
    face_px = store.rows[i].face_xy_side[2]
    scale = min(1.0, float(np.exp(rng.uniform(np.log(70), np.log(220)))) / face_px)
    side = max(_SIDE_PX, round(image.shape[0] * scale))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    x, y = rng.integers(side - _SIDE_PX + 1, size=2)
    crop = small[y : y + _SIDE_PX, x : x + _SIDE_PX]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _feature_loss(judge: AttackNet, y: Tensor, x: Tensor) -> Tensor:
    total = torch.zeros(())
    for layer in (judge.stem, judge.stages[0], judge.stages[1]):
        y = layer(y)
        with torch.no_grad():
            x = layer(x)
        total = total + functional.l1_loss(y, x) / x.abs().mean()
    return total


def names_of(kind: str) -> tuple[str, str]:
    """The two simulators of an autoencoder: the whole picture rewritten, and the face alone as a live swap does it."""
    return f"rewritten_{kind}", f"rewritten_face_{kind}"


def attacks(cache: Path) -> tuple[Attack, ...]:
    """The simulators of the trained autoencoders, see `names_of`."""
    made: list[Attack] = []
    for name, kind in KINDS.items():
        net = Autoencoder(kind).eval()
        net.load_state_dict(torch.load(cache / "resynthesis" / f"{name}.pt", weights_only=True))
        whole, face = names_of(name)
        made.append(Attack(whole, "generated", held_out=kind.held_out, needs_donor=False, apply=partial(_whole, net)))
        made.append(Attack(face, "swap", held_out=kind.held_out, needs_donor=False, apply=partial(_face, net)))
    return tuple(made)


@torch.inference_mode()
def rewrite(net: Autoencoder, image_rgb: UInt8Array) -> UInt8Array:
    """(H, W, 3) uint8 RGB through the autoencoder, the same size."""
    height_px, width_px = image_rgb.shape[:2]
    padded = cv2.copyMakeBorder(image_rgb, 0, -height_px % 8, 0, -width_px % 8, cv2.BORDER_REFLECT_101)
    out = net(normalise(torch.from_numpy(padded)[None]))[0].permute(1, 2, 0).numpy() * 128 + 127
    return np.ascontiguousarray(np.clip(np.rint(out), 0, 255).astype(np.uint8)[:height_px, :width_px])


def _scaled(rng: np.random.Generator, net: Autoencoder, image_rgb: UInt8Array, face_px: float) -> UInt8Array:
    """Rewritten at the network's own size, where the face spans 80 to 240 px, and brought back."""
    height_px, width_px = image_rgb.shape[:2]
    scale = min(1.0, float(np.exp(rng.uniform(np.log(80), np.log(240)))) / face_px)
    if scale > 0.9:
        return rewrite(net, image_rgb)
    small = cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    way = int(rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)))
    out: UInt8Array = cv2.resize(rewrite(net, small), (width_px, height_px), interpolation=way)
    return out


def _whole(net: Autoencoder, rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """Every pixel from the decoder; at native size two times in three, since what is generated is rarely enlarged."""
    image = face.image_rgb
    written = rewrite(net, image) if rng.random() < 2 / 3 else _scaled(rng, net, image, hulls.face_size_px(face.landmarks_px))
    return Attacked(blending.shift_tone(rng, written, rng.uniform(0, 0.6)), np.ones(image.shape[:2], np.float32), face.landmarks_px.copy())


def _face(net: Autoencoder, rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """The face alone from the decoder, laid over the camera's picture with a live swap's soft oval and imperfect colours."""
    height_px, width_px = face.image_rgb.shape[:2]
    written = _scaled(rng, net, face.image_rgb, hulls.face_size_px(face.landmarks_px))
    if rng.random() < 0.4:
        written = blending.sharpen(written, rng.uniform(0.2, 1.0), rng.uniform(0.7, 1.6))
    mask = oval_mask(rng, face.landmarks_px, height_px, width_px)
    if rng.random() < 0.6:
        mask = segmented(rng, mask, face, written)
    toned = blending.restrain(written, mask, rng.uniform((0.85, 0.65, 0.55), (1.05, 1.1, 1.1)), rng.normal(0, (1.8, 0.7, 0.7)))
    return Attacked(blending.blend(toned, face.image_rgb, mask), mask, face.landmarks_px.copy())
