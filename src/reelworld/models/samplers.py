"""Choose codes from logits: greedy, temperature, top-k, top-p, and the order of masked decoding.

Shapes: B batch, ... any shape of tokens, V codebook size
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelworld.nn.random import Generators, uniform
from reelworld.types import Sampler, UserError

__all__ = ["CountingSampler", "SamplerConfig", "TokenSampler", "suited_sampler"]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Sampling settings of the next frame's codes."""

    steps: int = 1
    """Decoding passes per frame; more passes let codes of one frame agree with each other."""
    temperature: float = 1.0
    """0 takes the likeliest code, 1 draws from the model's distribution."""
    top_k: int = 0
    """Draw from the k likeliest codes only; 0 draws from all."""
    top_p: float = 1.0
    """Draw from the smallest set of codes with this much probability."""
    order_noise: float = 1.0
    """Noise on the order in which codes are kept when steps > 1; 0 keeps the surest first."""
    order: Literal["surest", "random"] = "surest"
    """Order in which codes are kept when steps > 1: most confident first, or random. No noise at temperature 0."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 64:
            raise UserError(f"sampler steps is {self.steps}; it must lie in 1..64.")
        if not 0 <= self.temperature <= 10 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.order_noise < 0:
            raise UserError(
                f"sampler has temperature={self.temperature}, top_k={self.top_k}, top_p={self.top_p}, "
                f"order_noise={self.order_noise}; wanted 0..10, at least 0, above 0 up to 1, at least 0."
            )


class TokenSampler:
    """Draws ids by inverting the cumulative distribution: one uniform number per token."""

    def __init__(self, config: SamplerConfig, on_progress: Callable[[float, int], object] | None = None) -> None:
        self.config = config
        self.steps = config.steps
        self.on_progress = on_progress

    def __call__(self, logits: Tensor, generator: Generators) -> Tensor:
        """Turn logits (B, ..., V) into ids, int64 (B, ...)."""
        if self.config.temperature == 0:
            return logits.argmax(-1)
        probabilities = self._filtered(logits).softmax(-1)
        edges = probabilities.cumsum(-1)
        draw = uniform(logits.shape[:-1], generator, logits.device)[..., None] * edges[..., -1:]
        # The draw lies below the last edge, so the index stays inside except for rounding.
        return torch.searchsorted(edges, draw, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)

    def confidence(self, logits: Tensor, ids: Tensor, generator: Generators) -> Tensor:
        """Log-probability of the ids plus Gumbel noise, (B, ...).

        Without noise the majority code (flat ground, say) is always kept first, and the world drifts to it.
        """
        return self.order(logits.float().log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1), generator)

    def order(self, sure: Tensor, generator: Generators, share_left: float = 1.0) -> Tensor:
        """Add Gumbel noise to log-probabilities (B, ...); the less, the fewer passes are to come.

        Source: Chang et al. 2022 (arXiv:2202.04200), authors' code.
        """
        if self.config.order == "random":
            return uniform(sure.shape, generator, sure.device)
        if self.config.order_noise == 0 or self.config.temperature == 0:
            return sure
        draw = uniform(sure.shape, generator, sure.device).clamp(1e-7, 1 - 1e-7)
        return sure - self.config.order_noise * share_left * torch.log(-torch.log(draw))

    def _filtered(self, logits: Tensor) -> Tensor:
        logits = logits.float() / self.config.temperature
        if self.config.top_k:
            least = logits.topk(min(self.config.top_k, logits.shape[-1]), -1).values[..., -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.config.top_p < 1:
            ordered, order = logits.sort(-1, descending=True)
            probabilities = ordered.softmax(-1)
            beyond = probabilities.cumsum(-1) - probabilities >= self.config.top_p
            logits = logits.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))
        return logits


class CountingSampler:
    """Wrap a sampler and count its calls, for progress; the draws are unchanged."""

    def __init__(self, sampler: Sampler, tell: Callable[[int], object]) -> None:
        self._sampler, self._tell, self._n = sampler, tell, 0
        self.steps, self.on_progress = sampler.steps, sampler.on_progress

    def __call__(self, logits: Tensor, generator: Generators) -> Tensor:
        """Turn logits (B, ..., V) into ids, int64 (B, ...)."""
        ids = self._sampler(logits, generator)
        self._n += 1
        self._tell(self._n)
        return ids

    def confidence(self, logits: Tensor, ids: Tensor, generator: Generators) -> Tensor:
        """Ask the other one, (B, ...)."""
        return self._sampler.confidence(logits, ids, generator)

    def order(self, sure: Tensor, generator: Generators, share_left: float = 1.0) -> Tensor:
        """Ask the other one, (B, ...)."""
        return self._sampler.order(sure, generator, share_left)


def suited_sampler(exact: float) -> SamplerConfig:
    """Choose the default sampler from the fraction of exact greedy next frames (0 to 1).

    Nearly deterministic worlds are decoded greedily in one pass. In uncertain worlds greedy decoding has the best PSNR
    but freezes after a few frames; there codes are sampled, in two passes for consistency.
    """
    if exact >= 0.9:
        return SamplerConfig(steps=1, temperature=0.0)
    return SamplerConfig(steps=2, temperature=0.9)
