"""Layout of block-sparse attention over a grid of tokens.

Source: Child et al. 2019 (arXiv:1904.10509) as VideoGPT (arXiv:2104.10157, authors' code) uses it.

Shapes: S blocks of a sequence
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reelworld.types import UserError

BLOCK = 32
"""Consecutive tokens that form a block."""
LOCAL_BLOCKS = 4
"""Preceding blocks that a block attends to."""


def block_grid(shape: Sequence[int], block: int = BLOCK) -> tuple[int, ...]:
    """Return the shape of the block grid of a token grid.

    Sizes are multiplied from the last dimension on until they exceed a block; what is left of them becomes the last
    dimension.

    Raises:
        UserError: If the tokens do not fill whole blocks.
    """
    if math.prod(shape) % block:
        raise UserError(
            f"sparse attention works on blocks of {block} tokens; a grid of {'x'.join(map(str, shape))} has "
            f"{math.prod(shape)}: choose another clip length, size or stride, or full attention."
        )
    product, axis = 1, len(shape)
    while product <= block and axis:
        axis -= 1
        product *= shape[axis]
    return (*shape[:axis], product // block)


def strided_layout(shape: Sequence[int], block: int = BLOCK, n_local: int = LOCAL_BLOCKS) -> Tensor:
    """Build the layout, bool (S, S): row i may attend to column j.

    A block attends to itself and to the ``n_local`` blocks before it. Along every dimension of the block grid but the
    last, it attends to the blocks before it with the same other coordinates.
    """
    grid = block_grid(shape, block)
    cells = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(-1, len(grid))
    numbers = torch.arange(len(cells))
    lag = numbers[:, None] - numbers
    layout = (lag >= 0) & (lag <= n_local)
    for axis in range(len(grid) - 1):
        is_same = cells[:, None] == cells[None]
        is_same[..., axis] = cells[:, None, axis] >= cells[None, :, axis]
        layout |= is_same.all(-1)
    return layout
