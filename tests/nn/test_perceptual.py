"""Perceptual distance: LPIPS against plain arithmetic, its weights from a file, and the substitute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from reelworld.nn.perceptual import SquaredDifference, load_lpips
from reelworld.types import UserError

LAYERS = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
WIDTHS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


def weights() -> dict[str, Tensor]:
    """Random weights under the names of the package lpips."""
    generator, tensors, inputs = torch.Generator().manual_seed(0), {}, 3
    for block, layers in LAYERS.items():
        for layer in layers:
            shape = (WIDTHS[block], inputs, 3, 3)
            tensors[f"net.slice{block}.{layer}.weight"] = (
                torch.randn(shape, generator=generator) * (2 / (9 * inputs)) ** 0.5
            )
            tensors[f"net.slice{block}.{layer}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
            inputs = WIDTHS[block]
        tensors[f"lin{block - 1}.model.1.weight"] = torch.rand((1, WIDTHS[block], 1, 1), generator=generator)
    return tensors


def plain(tensors: dict[str, Tensor], one: Tensor, other: Tensor) -> Tensor:
    """LPIPS as the paper writes it, layer after layer."""
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.03, -0.088, -0.188), (0.458, 0.448, 0.45)))
    pair, total = [(x - shift) / scale for x in (one, other)], torch.zeros(len(one))
    for block, layers in LAYERS.items():
        if block > 1:
            pair = [functional.max_pool2d(x, 2, 2) for x in pair]
        for layer in layers:
            name = f"net.slice{block}.{layer}"
            pair = [functional.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1) for x in pair]
            pair = [x.clamp_min(0) for x in pair]
        unit = [x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in pair]
        apart = (unit[0] - unit[1]) ** 2 * tensors[f"lin{block - 1}.model.1.weight"][0].unsqueeze(0)
        total = total + apart.sum(1).mean((1, 2))
    return total


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_lpips_is_what_the_paper_writes(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "lpips.safetensors")
    model = load_lpips(tmp_path / "lpips.safetensors")
    torch.testing.assert_close(model(pictures(1), pictures(2)), plain(weights(), pictures(1), pictures(2)))
    assert (model(pictures(1), pictures(1)) == 0).all()
    assert not any(p.requires_grad for p in model.parameters())


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_lpips(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="no sound safetensors file"):
        load_lpips(tmp_path / "text.safetensors")
    some = weights()
    del some["net.slice3.12.bias"]
    save_file(some, tmp_path / "some.safetensors")
    with pytest.raises(UserError, match=r"lacks net\.slice3\.12\.bias"):
        load_lpips(tmp_path / "some.safetensors")
    save_file({**weights(), "lin2.model.1.weight": torch.zeros(1, 5, 1, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"shape of \(1, 5, 1, 1\) for lin2"):
        load_lpips(tmp_path / "other.safetensors")


def test_what_is_thin_and_bright_counts_more_than_an_even_shift_of_the_same_sum() -> None:
    model, one = SquaredDifference(), pictures(1)
    assert (model(one, one) == 0).all()
    with_rod = one.clone()
    with_rod[:, :, 4:20, 8] += 1.0
    even = (with_rod - one).mean()
    assert (model(with_rod, one) > 20 * model(one + even, one)).all()
    blurred = functional.avg_pool2d(one, 3, 1, 1)
    assert (model(blurred, one) > 0.1).all()
