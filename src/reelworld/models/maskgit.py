"""MaskGIT decoding: masked codes are filled in in several passes.

Shapes: ... any leading shape, N tokens per frame, V codebook size
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def n_still_masked(tokens: int, done: int, steps: int) -> int:
    """Return how many codes of a frame stay masked after some of the passes.

    Args:
        tokens: Codes of the frame.
        done: Passes that were made, 1 to ``steps``.
        steps: Passes in all.

    Source: Chang et al. 2022 (arXiv:2202.04200), section 3.3, cosine schedule.
    """
    return math.ceil(tokens * math.cos(done / steps * math.pi / 2)) if done < steps else 0


def decode(
    logits: Tensor,
    predict: Callable[[Tensor, Tensor], Tensor],
    draw: Callable[[Tensor], Tensor],
    confidence: Callable[[Tensor, Tensor, float], Tensor],
    steps: int,
) -> Tensor:
    """Fill in masked codes in several passes: each keeps the most confident ones, the last one all.

    Args:
        logits: Of the first pass, all codes masked, (..., N, V).
        predict: Turns codes (..., N) and which of them are known, bool (..., N), into logits.
        draw: Turns logits into codes.
        confidence: Rates codes from logits, codes and the fraction of passes to come, (..., N).
        steps: Passes in all.

    Returns:
        Codes, int64 (..., N).

    Source: Chang et al. 2022 (arXiv:2202.04200), section 3.2.
    """
    codes = draw(logits)
    known, tokens = torch.zeros_like(codes, dtype=torch.bool), codes.shape[-1]
    for done in range(1, steps):
        sure = confidence(logits, codes, 1 - done / steps).masked_fill(known, float("inf"))
        kept = sure.topk(tokens - n_still_masked(tokens, done, steps), -1).indices
        known = torch.zeros_like(known).scatter(-1, kept, True)
        logits = predict(codes, known)
        codes = torch.where(known, codes, draw(logits))
    return codes
