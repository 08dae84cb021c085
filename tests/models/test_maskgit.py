"""MaskGIT decoding: the schedule, and the passes over a frame."""

from __future__ import annotations

import torch

from reelworld.models.maskgit import decode, n_still_masked


def test_the_cosine_schedule() -> None:
    """Figures of the published formula: ceil(cos(pi / 2 * k / K) * S)."""
    assert [n_still_masked(256, k, 2) for k in (1, 2)] == [182, 0]
    assert [n_still_masked(16, k, 4) for k in (1, 2, 3, 4)] == [15, 12, 7, 0]
    for steps in (3, 8, 25):
        left = [n_still_masked(256, k, steps) for k in range(1, steps + 1)]
        assert left == sorted(left, reverse=True) and left[-1] == 0


def test_known_codes_stay_and_the_rest_is_drawn_again() -> None:
    """Codes count the passes: the most confident ones, here the last, are kept from the pass in which they came."""
    passes = []

    def predict(codes: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        passes.append(known.sum(-1).tolist())
        return torch.full_like(codes, len(passes))

    order = torch.arange(16).expand(2, 16).float()
    codes = decode(torch.zeros(2, 16).long(), predict, lambda logits: logits, lambda logits, codes, left: order, 4)
    assert passes == [[1, 1], [4, 4], [9, 9]]
    assert codes[0].tolist() == [3] * 7 + [2] * 5 + [1] * 3 + [0]


def test_one_pass_predicts_nothing_again() -> None:
    codes = decode(torch.ones(1, 4).long(), lambda *_: 1 / 0, lambda logits: logits, lambda *_: 1 / 0, 1)
    assert codes.tolist() == [[1] * 4]
