"""Perceptual distance of two images: LPIPS from published weights, and a substitute without them.

Shapes: B pictures, C channels, H W rows and columns
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.types import UserError

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of VGG-16, block by block; features are read at the end of each."""
FIRST_LAYERS = (0, 5, 10, 17, 24)
"""Number of each block's first layer in the published weights; convolutions are two apart."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """LPIPS: distance of VGG-16 features with weights fitted to human judgements.

    Source: Zhang et al. 2018 (arXiv:1801.03924), section 3, version 0.1 with VGG as trained for classification.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(width for block in BLOCKS for width in block))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths))
        self.weighings = nn.ModuleList(nn.Conv2d(block[-1], 1, 1, bias=False) for block in BLOCKS)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Compare pictures in [-1, 1], (B, 3, H, W), both sides 16 or more: a distance each, (B,)."""
        total = found.new_zeros(len(found))
        pairs = zip(self._features(found), self._features(wanted), self.weighings, strict=True)
        for one, other, weighing in pairs:
            total = total + weighing((one - other).square()).mean((1, 2, 3))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        """Features after each block, scaled to length 1 at every position."""
        x, n, features = (x - self.shift) / self.scale, 0, []
        for number, block in enumerate(BLOCKS):
            x = functional.max_pool2d(x, 2) if number else x
            for _ in block:
                x, n = functional.relu(self.convs[n](x)), n + 1
            features.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return features


class SquaredDifference(nn.Module):
    """Substitute for LPIPS: squared differences of pixels and of their differences to neighbours, at three sizes.

    Ours. Absolute errors alone are least when whatever is thin, bright and rare is left out; squared ones are not. It
    is no model of human vision.
    """

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Compare pictures (B, 3, H, W), both sides 8 or more: a distance each, (B,)."""
        error, total = found - wanted, found.new_zeros(len(found))
        for number in range(3):
            error = functional.avg_pool2d(error, 2) if number else error
            for part in (error, error.diff(dim=2), error.diff(dim=3)):
                total = total + part.square().mean((1, 2, 3))
        return total


def load_lpips(path: Path) -> LPIPS:
    """Read the weights of LPIPS-VGG.

    Args:
        path: A .safetensors file of the state of ``lpips.LPIPS(net="vgg")`` of the package lpips (names such as
            net.slice1.0.weight and lin0.model.1.weight).

    Raises:
        UserError: If the file is absent, is none, or lacks a tensor.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file; wanted the weights of LPIPS-VGG as .safetensors.")
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is no sound safetensors file ({error}); save the state of lpips.LPIPS again."
        ) from None
    model = LPIPS()
    wanted: dict[str, Tensor] = {}
    for i, layer in enumerate(model.weighings):
        wanted |= {f"lin{i}.model.1.{key}": tensor for key, tensor in layer.named_parameters()}
    layers = iter(model.convs)
    for number, (block, first) in enumerate(zip(BLOCKS, FIRST_LAYERS, strict=True), 1):
        for i in range(len(block)):
            name = f"net.slice{number}.{first + 2 * i}"
            wanted |= {f"{name}.{key}": tensor for key, tensor in next(layers).named_parameters()}
    for name, tensor in wanted.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            came = "lacks" if name not in tensors else f"has a shape of {tuple(tensors[name].shape)} for"
            raise UserError(f"{path} {came} {name} {tuple(tensor.shape)}; wanted the state of lpips.LPIPS(net='vgg').")
        tensor.data.copy_(tensors[name])
    return model.eval().requires_grad_(False)
