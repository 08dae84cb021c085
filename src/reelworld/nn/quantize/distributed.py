"""Sums over the processes of data-parallel training; no-ops in a single process.

Everything here is a collective: all ranks call it equally often. Quantizers therefore call it in training mode only, so
that one rank may evaluate alone.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F


def _is_alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is that of the sum of all ranks' losses."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        """Add up."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        """Every rank's loss depends on every rank's input."""
        total = grad.clone()
        dist.all_reduce(total)
        return total


def sum_ranks(x: Tensor) -> Tensor:
    """Add up a tensor of one shape over all ranks.

    Its gradient is that of the *sum* of the ranks' losses. Data-parallel training averages gradients over ranks, which
    makes it the gradient of the mean loss, as one process with the whole batch has it.
    """
    if _is_alone():
        return x
    total: Tensor = _Sum.apply(x)
    return total


@torch.no_grad()
def first_rank(x: Tensor) -> Tensor:
    """Return the first rank's tensor, on every rank."""
    if _is_alone():
        return x
    x = x.contiguous().clone()
    dist.broadcast(x, 0)
    return x


@torch.no_grad()
def gather_ranks(codes: Tensor) -> Tensor:
    """Return all ranks' codes (R,), in the order of the ranks; codes are not negative, R may differ."""
    if _is_alone():
        return codes
    longest = torch.tensor(len(codes), device=codes.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    padded = F.pad(codes, (0, int(longest) - len(codes)), value=-1)
    parts = [torch.empty_like(padded) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, padded)
    found = torch.cat(parts)
    return found[found >= 0]
