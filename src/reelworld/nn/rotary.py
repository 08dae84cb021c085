"""Rotary positions: queries and keys are rotated by an angle that grows with their position.

Source: Su et al. 2021 (arXiv:2104.09864), section 3.2, as in ``GeometricRotary``. The others differ: all angles are
whole multiples of a turn divided by ``PERIOD``, so that they come from a small table and are exact however many frames
have passed; wavelengths reach from 2 pi to four times the distance of the window, not to 10,000.

Shapes: ... any leading shape, E width of a head (even), R C rows and columns of a grid, S tokens of a frame
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reelworld.types import UserError

PERIOD = 4096
"""Positions after which angles repeat; windows are far shorter."""


def _turns(pairs: int, distance: int) -> Tensor:
    """Choose the rotations of each pair of channels in PERIOD positions: 1 radian each and slower, int64 (pairs,)."""
    if not 1 <= distance <= PERIOD // 4:
        raise UserError(f"rotary positions reach over {distance} places; wanted 1 to {PERIOD // 4}.")
    fast, slow = PERIOD / (2 * math.pi), PERIOD / (4 * distance)
    share = torch.arange(pairs, dtype=torch.float64) / max(pairs - 1, 1)
    return (fast * (slow / fast) ** share).round().long()


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels (i, i + E / 2) of (..., E) by angles in units of 1 / PERIOD of a turn, (..., E / 2)."""
    radians = (angles % PERIOD).to(torch.float32) * (2 * math.pi / PERIOD)
    return rotate(x, radians.cos(), radians.sin())


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels (i, i + E / 2) of (..., E) by angles whose cosines and sines are (..., E / 2)."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Rotary(nn.Module):
    """Rotates by a position on a line, e.g. the number of a frame."""

    turns: Tensor

    def __init__(self, width: int, distance: int) -> None:
        """Make the layer.

        Args:
            width: E, even.
            distance: Largest distance between two positions that attend to each other.
        """
        super().__init__()
        if width % 2:
            raise UserError(f"rotary positions need heads of an even width; this one is {width} wide.")
        self.register_buffer("turns", _turns(width // 2, distance), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate (..., E) by positions, int64, broadcast to (...)."""
        return _turn(x, positions.unsqueeze(-1) * self.turns)


class GeometricRotary(nn.Module):
    """Rotates by a position on a line, with the wavelengths of the paper, as published transformers do."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, places: int, base: float = 10_000.0) -> None:
        """Make the layer.

        Args:
            width: E, even.
            places: Number of positions.
            base: The longest wavelength is about 2 pi times this.
        """
        super().__init__()
        if width % 2:
            raise UserError(f"rotary positions need heads of an even width; this one is {width} wide.")
        turns = base ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
        angles = torch.arange(places, dtype=torch.float32)[:, None] * turns
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Rotate (..., E) by positions, int64, broadcast to (...)."""
        return rotate(x, *self.at(places))

    def at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Look up positions once for a stack of layers: the arguments of ``rotate``, (..., E / 2) each."""
        return self.cos[places], self.sin[places]


class GridRotary(nn.Module):
    """Rotates by row (half of the channels) and column (the other half); tokens before the grid are not turned."""

    angles: Tensor

    def __init__(self, width: int, rows: int, columns: int) -> None:
        """Make the layer.

        Args:
            width: E, a multiple of 4.
            rows: R.
            columns: C.
        """
        super().__init__()
        if width % 4:
            raise UserError(f"rotary positions on a grid need heads of a width divisible by 4; this one is {width}.")
        turns = _turns(width // 4, max(rows, columns))
        places = torch.cartesian_prod(torch.arange(1, rows + 1), torch.arange(1, columns + 1))
        self.register_buffer("angles", (places.unsqueeze(-1) * turns).flatten(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (..., S, E), the last R * C tokens in raster order."""
        before = x.shape[-2] - len(self.angles)
        return _turn(x, torch.cat([self.angles.new_zeros(before, self.angles.shape[1]), self.angles]))
