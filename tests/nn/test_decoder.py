"""Norms, positions and attention layers against their formulas; the sparse layout against a loop."""

from __future__ import annotations

import itertools

import pytest
import torch

from reelworld.nn.decoder import AxisPositions, ClassNorm, CrossAttention, LateEpsilonNorm, SelfAttention
from reelworld.systems.videogpt.block_sparse_layout import block_grid, strided_layout
from reelworld.types import UserError


def late_epsilon(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = x.double()
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return ((x - mean) * (1e-5 + variance.rsqrt()) * gain + bias).float()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_epsilon_comes_after_the_root(scale: float) -> None:
    torch.manual_seed(0)
    norm, x = LateEpsilonNorm(12), scale * torch.randn(3, 5, 12) + scale
    norm.gain.data.normal_()
    norm.bias.data.normal_()
    torch.testing.assert_close(norm(x), late_epsilon(x, norm.gain.detach(), norm.bias.detach()), rtol=2e-6, atol=2e-6)
    if scale == 1e4:  # here the epsilon shows: a tenth of the value
        usual = torch.nn.functional.layer_norm(x, [12], norm.gain, norm.bias)
        assert (norm(x) - usual).abs().max() > 0.05


def test_a_constant_row_gives_the_bias() -> None:
    norm = LateEpsilonNorm(6)
    norm.bias.data.normal_()
    assert torch.equal(norm(torch.full((1, 6), 3.0)), norm.bias[None])


def test_every_class_has_its_gain_and_bias() -> None:
    torch.manual_seed(0)
    norm, x = ClassNorm(8, 3), torch.randn(2, 4, 8)
    out = norm(x, torch.tensor([2, 0]))
    for row, number in enumerate((2, 0)):
        one_hot = torch.nn.functional.one_hot(torch.tensor(number), 3).float()
        gain, bias = 1 + norm.gain.weight.t() @ one_hot, norm.bias.weight.t() @ one_hot
        torch.testing.assert_close(out[row], late_epsilon(x[row], gain, bias))


def test_positions_stand_side_by_side() -> None:
    positions = AxisPositions((2, 3, 4), 8)
    table = positions().view(2, 3, 4, 8)
    assert [t.shape[1] for t in positions.tables] == [3, 3, 2]
    for t, h, w in itertools.product(range(2), range(3), range(4)):
        parts = [positions.tables[0][t], positions.tables[1][h], positions.tables[2][w]]
        assert torch.equal(table[t, h, w], torch.cat(parts))


def test_cross_attention_sees_all_features() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(width=8, features=10, heads=4)  # values of width 10 // 4 = 2
    x, features = torch.randn(2, 3, 8), torch.randn(2, 5, 10)
    out = layer(x, layer.keys_values(features))
    k, v = (features @ layer.key_value.weight.t()).split([8, 8], -1)
    q = x @ layer.query.weight.t()
    mixed = []
    for head in range(4):
        part = slice(2 * head, 2 * head + 2)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 2**0.5).softmax(-1)
        mixed.append(weights @ v[..., part])
    torch.testing.assert_close(out, layer.out(torch.cat(mixed, -1)))


def test_self_attention_without_a_mask() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(6, 2), torch.randn(1, 4, 6)
    q, k, v = (x @ w.t() for w in layer.qkv.weight.chunk(3))
    mixed = []
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        mixed.append((q[..., part] @ k[..., part].transpose(1, 2) / 3**0.5).softmax(-1) @ v[..., part])
    torch.testing.assert_close(layer(x), layer.out(torch.cat(mixed, -1)))


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((4, 32, 32), (4, 32)), ((4, 16, 16), (4, 8)), ((4, 8, 16), (4, 4)), ((2, 4, 4), (1,)), ((3, 64, 8), (3, 16))],
)
def test_grid_of_blocks(shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
    assert block_grid(shape) == grid


def test_layout_by_its_words() -> None:
    """Itself, four before, and earlier blocks at the same place of the other dimensions."""
    layout, grid = strided_layout((3, 2, 4, 16), block=32), (3, 2, 2)
    assert block_grid((3, 2, 4, 16)) == grid
    cells = list(itertools.product(*map(range, grid)))
    for i, a in enumerate(cells):
        for j, b in enumerate(cells):
            is_seen = i - 4 <= j <= i
            is_seen |= a[1:] == b[1:] and b[0] <= a[0]
            is_seen |= (a[0], a[2]) == (b[0], b[2]) and b[1] <= a[1]
            assert layout[i, j] == is_seen, (a, b)


def test_tokens_that_fill_no_whole_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="blocks of 32 tokens; a grid of 3x5x5 has 75"):
        strided_layout((3, 5, 5))
