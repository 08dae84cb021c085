"""Rotary positions of the paper, against complex numbers."""

from __future__ import annotations

import pytest
import torch

from reelworld.nn.rotary import GeometricRotary
from reelworld.types import UserError


def test_pairs_turn_by_their_wavelengths() -> None:
    x = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([0, 1, 2, 5, 9, 30, 31])
    turns = torch.tensor([10_000.0 ** (-2 * i / 8) for i in range(4)])
    angles = places[:, None] * turns
    pairs = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
    found = GeometricRotary(8, 32)(x, places)
    torch.testing.assert_close(found, torch.cat([pairs.real, pairs.imag], -1), atol=1e-5, rtol=1e-5)


def test_odd_heads_are_refused() -> None:
    with pytest.raises(UserError, match="even width"):
        GeometricRotary(7, 4)
