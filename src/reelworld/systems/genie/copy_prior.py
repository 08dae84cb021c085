"""Copy prior: a masked code reads the previous frame's code at its position; its logits start as a copy of it.

Most of a frame does not change, so the model learns the changes only.

Shapes: ... any leading shape, V = sum of the sizes of a code's digits, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.systems.genie.factored_codes import Factors

FIRST_BIAS = 4.0
"""Initial logit bonus of the previous code, in nats."""


class CopyPrior(nn.Module):
    """A vector per digit of the previous code, and a learned bonus of that code in the logits."""

    def __init__(self, factors: Factors, width: int, std: float = 0.02) -> None:
        super().__init__()
        self.factors = factors
        self.tables = nn.ModuleList([nn.Embedding(size, width) for size in factors.sizes])
        for weight in self.tables.parameters():
            nn.init.normal_(weight, std=std)
        self.stays = nn.Parameter(torch.tensor(FIRST_BIAS))

    def embed_previous(self, x: Tensor, before: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Add the vectors of the previous codes, int64 (...), to x (..., D), where ``hidden`` (...) is true."""
        if hidden is None:
            return x
        assert before is not None
        return torch.where(hidden[..., None], x + self.factors.embed(self.tables, before), x)

    def add_to_logits(self, logits: Tensor, before: Tensor) -> Tensor:
        """Raise the logits (..., V) of the previous codes, int64 (...)."""
        digits = self.factors.split(before).unbind(-1)
        same = [functional.one_hot(digit, size) for digit, size in zip(digits, self.factors.sizes, strict=True)]
        return logits + self.stays * torch.cat(same, -1).to(logits.dtype)


class NoCopyPrior(nn.Module):
    """For models without a copy prior."""

    def embed_previous(self, x: Tensor, before: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Change nothing."""
        return x

    def add_to_logits(self, logits: Tensor, before: Tensor) -> Tensor:
        """Change nothing."""
        return logits
