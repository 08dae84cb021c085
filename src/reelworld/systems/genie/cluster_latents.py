"""Merge codes with the same effect: choose a few representative codes (k-medoids).

Shapes: K codes
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["k_medoids"]

LEAST_GAIN = 1e-4
"""Least relative decrease of the cost per swap; prevents endless swaps due to rounding."""


def k_medoids(cost_KK: Tensor, n: int) -> Tensor:
    """Choose the n codes that replace all others at the least cost.

    Codes are chosen greedily, then swapped while the cost decreases (k-medoids).

    Args:
        cost_KK: Row a, column b: the summed error of the steps with code a when code b is used instead.
        n: Codes to keep.

    Returns:
        Their numbers, int64, (min(n, K),), in no order.
    """
    kept: list[int] = []
    best_K = torch.full_like(cost_KK[:, 0], torch.inf)
    for _ in range(min(n, len(cost_KK))):
        kept.append(int(torch.minimum(best_K[:, None], cost_KK).sum(0).argmin()))
        best_K = torch.minimum(best_K, cost_KK[:, kept[-1]])
    place, unchanged = 0, 0
    while len(kept) > 1 and unchanged < len(kept):
        rest_K = cost_KK[:, kept[:place] + kept[place + 1 :]].amin(1)
        totals_K = torch.minimum(rest_K[:, None], cost_KK).sum(0)
        better = int(totals_K.argmin())
        is_better = bool(totals_K[better] < totals_K[kept[place]] * (1 - LEAST_GAIN))
        kept[place] = better if is_better else kept[place]
        place, unchanged = (place + 1) % len(kept), 0 if is_better else unchanged + 1
    return torch.tensor(kept, device=cost_KK.device)
