"""Causal action-conditioned dynamics on a grid of codes: a cached trunk and a small masked head.

The trunk reads each clean frame once, together with the action taken after it. Its temporal attention keeps keys and
values in a ring buffer, so a step costs one frame. The cache is exact: masked frames never enter it. The head predicts
the next frame's codes from the trunk's features at the same position and from the codes that are already decoded, in
one to four passes. Its logits start as a copy of the current frame.

Source: Chang et al. 2022 (arXiv:2202.04200), section 3, for masked decoding. Differs: each position reads both the
clean current frame and the partly masked next frame, so every frame of a window is supervised and no pass is spent on
writing the cache; convolution and pooling instead of spatial attention.

Shapes: B batch, T frames, F = B * T, N tokens per frame, R C grid rows and columns, D width, V codebook size,
  H heads, E width of a head, S summed levels of the code's digits
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.models.heads import OutcomeHead, expected_outcome, outcome_terms
from reelworld.models.maskgit import decode
from reelworld.models.parts import Dynamics
from reelworld.nn.attention import FrameMask, attention
from reelworld.nn.conditioning import ActionEmbedder
from reelworld.nn.conv_mixer import ConvMixerBlock
from reelworld.nn.kv_cache import FrameCache
from reelworld.nn.quantize.fsq import code_digits
from reelworld.nn.random import Generators, uniform
from reelworld.nn.streams import Streams
from reelworld.systems.pocket.config import DynamicsConfig
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec, Losses, Sampler, StepScores


@dataclass(frozen=True, kw_only=True)
class PocketDynamicsConfig(DynamicsConfig):
    """Shape of a grid dynamics model."""

    grid: GridSpec
    """The tokenizer's grid for one frame."""
    actions: Mapping[str, ActionSpec]
    """Action streams; empty for worlds without actions."""
    heads: int = 4
    """Attention heads."""
    outcome_weight: float = 0.1
    """Weight of the losses of rewards and ends of episodes, relative to the codes."""


@dataclass(kw_only=True)
class PocketState(Streams):
    """State of B streams; the cache holds everything before the current frame."""

    codes: Tensor
    """Codes of the current frame, int64, (B, N)."""
    cache: FrameCache
    """Keys and values of the frames before it, of every temporal layer."""
    reward: Tensor
    """Expected reward of the last step, (B,)."""
    terminated: Tensor
    """Predicted probability that the last step ended the episode, (B,)."""


class TemporalAttention(nn.Module):
    """Causal attention over the past of each grid position, with a learned bias per lag (no absolute time)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.lag_bias = nn.Parameter(torch.zeros(heads, window))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix all frames over time: (B, T, N, D), positions (T,) -> mixed (B, T, N, D), keys and values."""
        q, k, v = self._project(x)
        mask = FrameMask(q_positions=positions, k_positions=positions, lag_bias=self.lag_bias)
        return self._merge(x, attention(q, k, v, mask)), k, v

    def step(self, x: Tensor, positions: Tensor, layer: int, cache: FrameCache) -> Tensor:
        """Write one frame, (B, 1, N, D) at positions (B, 1), to the cache and mix it with what is there."""
        q, k, v = self._project(x)
        keys, values = cache.put(layer, k, v)
        mask = FrameMask(
            q_positions=positions,
            k_positions=cache.positions,
            lag_bias=self.lag_bias,
            group=x.shape[2],
        )
        return self._merge(x, attention(q, keys, values, mask))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, frames, tokens, width = x.shape
        qkv = self.qkv(self.norm(x).transpose(1, 2))
        qkv = qkv.reshape(batch * tokens, frames, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B * N, H, T, E)
        return q, k, v

    def _merge(self, x: Tensor, mixed: Tensor) -> Tensor:
        batch, frames, tokens, width = x.shape
        mixed_BNTD = mixed.transpose(1, 2).reshape(batch, tokens, frames, width)
        out: Tensor = x + self.out(mixed_BNTD.transpose(1, 2))
        return out


class CodeTable(nn.Module):
    """Embeddings of codes: a free row per code plus one shared row per digit value.

    Sharing over digits lets rare codes learn from common ones; nothing else is worth as much (docs/log.md).
    """

    digits: Tensor

    def __init__(self, grid: GridSpec, width: int, std: float) -> None:
        super().__init__()
        self.free = nn.Embedding(grid.codebook_size, width)
        nn.init.normal_(self.free.weight, std=std)
        levels = grid.levels or (1,)
        self.shared = nn.Parameter(torch.randn(sum(levels), width) * std)
        offsets = torch.tensor([sum(levels[:i]) for i in range(len(levels))])
        digits_VK = code_digits(levels) + offsets if grid.levels else torch.zeros(grid.codebook_size, 1).long()
        self.register_buffer("digits", digits_VK, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed codes: (...) -> (..., D)."""
        out: Tensor = self.free(codes) + functional.embedding(self.digits[codes], self.shared).sum(-2)
        return out

    def logits(self, features: Tensor) -> Tensor:
        """Score every code: (..., D) -> (..., V)."""
        table_VD = self.free.weight + functional.embedding(self.digits, self.shared).sum(-2)
        return functional.linear(features, table_VD)


class PocketDynamics(Dynamics[PocketState]):
    """Predict the next frame's codes, the reward and the end of the episode from frames and actions.

    Attributes:
        reward_scale: Size of a typical reward, a scalar; rewards are learned in this unit. Set it before training.
    """

    config: PocketDynamicsConfig
    reward_scale: Tensor

    def __init__(self, config: PocketDynamicsConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.grid
        self.codes = CodeTable(grid, width, std=0.3)
        self.mask = nn.Parameter(torch.randn(width) * 0.3)
        self.place = nn.Parameter(torch.randn(grid.n_tokens, width) * 0.02)
        self.actions = ActionEmbedder(config.actions, width)
        self.trunk = nn.ModuleList([ConvMixerBlock(width) for _ in range(config.trunk_layers)])
        self.temporal = nn.ModuleList(
            [TemporalAttention(width, config.heads, config.window) for _ in range(config.temporal_layers)]
        )
        self.join = nn.Linear(width, width)
        self.head = nn.ModuleList([ConvMixerBlock(width) for _ in range(config.head_layers)])
        self.norm = nn.LayerNorm(width)
        self.readout = CodeTable(grid, width, std=width**-0.5 / 4)
        self.copy = nn.Linear(width, 1)
        nn.init.zeros_(self.copy.weight)
        nn.init.constant_(self.copy.bias, 4.0)  # start as a copy of the current frame
        self.register_buffer("reward_scale", torch.ones(()))
        self.outcome = OutcomeHead(width)

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Cross-entropy of masked codes of every next frame, and losses of reward and termination.

        Args:
            batch: ``codes`` (B, T, N), ``conditions.actions`` (B, T, ...), optionally rewards, terminated, valid.
            generator: Source of masks and context noise.

        Returns:
            Terms ``codes`` (per masked code), ``rewarded``, ``reward`` and ``terminated`` (per frame).
        """
        assert batch.codes is not None
        codes_BTN = batch.codes.video
        now_BTN, next_BTN = codes_BTN[:, :-1], codes_BTN[:, 1:]
        actions = {name: stream[:, :-1] for name, stream in batch.conditions.actions.items()}
        seen_BTN = self._noisy(now_BTN, generator)
        trunk_BTND, outcome_BT3 = self._read(seen_BTN, actions)
        known_BTN = self._draw_known(next_BTN, generator)
        logits_BTNV = self._logits(trunk_BTND, seen_BTN, next_BTN, known_BTN)
        nats_BTN = functional.cross_entropy(logits_BTNV.float().flatten(0, 2), next_BTN.flatten(), reduction="none")
        weight_BTN = (~known_BTN).float()
        if batch.valid is not None:
            weight_BTN = weight_BTN * batch.valid[:, 1:, None].float()
        terms = {"codes": ((nats_BTN.view_as(weight_BTN) * weight_BTN).sum(), weight_BTN.sum())}
        outcome = outcome_terms(outcome_BT3, batch, self.reward_scale)
        return Losses({**terms, **outcome}, dict.fromkeys(outcome, self.config.outcome_weight))

    def _noisy(self, codes_BTN: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.config.context_noise == 0:
            return codes_BTN
        rate_B11 = uniform((codes_BTN.shape[0], 1, 1), generator, codes_BTN.device) * self.config.context_noise
        hit_BTN = uniform(codes_BTN.shape, generator, codes_BTN.device) < rate_B11
        # Codes drawn from the batch have the frequencies of real codes, unlike uniform ones.
        order = uniform((codes_BTN.numel(),), generator, codes_BTN.device).argsort()
        return torch.where(hit_BTN, codes_BTN.flatten()[order].view_as(codes_BTN), codes_BTN)

    def _draw_known(self, codes_BTN: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the mask of known codes of each next frame, bool (B, T, N)."""
        batch, frames, _ = codes_BTN.shape
        draw_BT = uniform((batch, frames), generator, codes_BTN.device)
        share = self.config.full_mask_prob
        masked_BT = torch.cos((draw_BT - share).clamp_min(0) / max(1 - share, 1e-6) * math.pi / 2)
        return uniform(codes_BTN.shape, generator, codes_BTN.device) >= masked_BT[..., None].clamp_min(1e-6)

    def score(self, codes: Codes, conditions: Conditions) -> StepScores:
        """Compare every next frame with its prediction from the true past.

        Args:
            codes: (B, P, N).
            conditions: Actions (B, P, ...); the last row is not used.

        Returns:
            Nats under one-pass decoding at temperature 1, whether the likeliest codes are right, and expected reward
            and termination.
        """
        now_BTN, next_BTN = codes.video[:, :-1], codes.video[:, 1:]
        actions = {name: stream[:, : now_BTN.shape[1]] for name, stream in conditions.actions.items()}
        trunk_BTND, outcome_BT3 = self._read(now_BTN, actions)
        log_BTNV = self._logits(trunk_BTND, now_BTN).float().log_softmax(-1)
        nats_BT = -log_BTNV.gather(-1, next_BTN[..., None]).squeeze(-1).sum(-1)
        is_right_BT = (log_BTNV.argmax(-1) == next_BTN).all(-1)
        return StepScores(nats_BT, is_right_BT, *expected_outcome(outcome_BT3, self.reward_scale))

    # ------------------------------------------------------------------ the two halves

    def _read(self, codes_BTN: Tensor, actions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Run the trunk over all frames at once: features (B, T, N, D) and outcomes (B, T, 3)."""
        positions = torch.arange(codes_BTN.shape[1], device=codes_BTN.device)
        x_BTND = self._embed(codes_BTN, actions)
        for i, block in enumerate(self.trunk):
            x_BTND = self._over_grid(block, x_BTND)
            if i < len(self.temporal):
                x_BTND = self.temporal[i](x_BTND, positions)[0]
        return x_BTND, self.outcome(x_BTND)

    def _embed(self, codes_BTN: Tensor, actions: Mapping[str, Tensor]) -> Tensor:
        x_BTND = self.codes(codes_BTN) + self.place
        embedded = self.actions(actions)
        out: Tensor = x_BTND + embedded.unsqueeze(2) if isinstance(embedded, Tensor) else x_BTND
        return out

    def _over_grid(self, block: nn.Module, x_BTND: Tensor) -> Tensor:
        batch, frames, tokens, width = x_BTND.shape
        grid = self.config.grid
        out: Tensor = block(x_BTND.reshape(batch * frames, grid.rows, grid.columns, width)).view(
            batch, frames, tokens, width
        )
        return out

    def _logits(
        self,
        trunk_BTND: Tensor,
        now_BTN: Tensor,
        next_BTN: Tensor | None = None,
        known_BTN: Tensor | None = None,
    ) -> Tensor:
        """Run the head: logits (B, T, N, V) of the next frame, given those of its codes that are known."""
        hint = self.mask.expand_as(trunk_BTND)
        if next_BTN is not None and known_BTN is not None:
            hint = torch.where(known_BTN[..., None], self.codes(next_BTN).to(hint.dtype), hint)
        x_BTND = trunk_BTND + self.join(hint)
        for block in self.head:
            x_BTND = self._over_grid(block, x_BTND)
        x_BTND = self.norm(x_BTND)
        logits_BTNV = self.readout.logits(x_BTND)
        return logits_BTNV.scatter_add(-1, now_BTN[..., None], self.copy(x_BTND).to(logits_BTNV.dtype))

    # ------------------------------------------------------------------ stepping

    def prefill(self, codes: Codes, conditions: Conditions) -> PocketState:
        """Read P context frames, (B, P, N), and the P - 1 actions between them."""
        codes_BPN = codes.video
        batch, frames = codes_BPN.shape[:2]
        config, device = self.config, codes_BPN.device
        past_BPN = codes_BPN[:, :-1]
        positions = torch.arange(frames - 1, device=device)
        layers = []
        x_BTND = self._embed(past_BPN, {k: v[:, : frames - 1] for k, v in conditions.actions.items()})
        for i, block in enumerate(self.trunk[: len(self.temporal)]):
            x_BTND, k, v = self.temporal[i](self._over_grid(block, x_BTND), positions)
            layers.append((k, v))
        nothing = x_BTND.new_zeros(batch, 1, frames - 1, 1)  # frames are counted without temporal layers too
        return PocketState(
            codes=codes_BPN[:, -1],
            cache=FrameCache.of(layers or [(nothing, nothing)], batch, config.window),
            reward=torch.zeros(batch, device=device),
            terminated=torch.zeros(batch, device=device),
        )

    def step(
        self, state: PocketState, conditions: Conditions, sampler: Sampler, generator: Generators
    ) -> tuple[Codes, PocketState]:
        """Take one action per stream and decode the next frame in ``sampler.steps`` passes.

        The cache of ``state`` is written in place; ``index_select`` a copy first to keep the old one.
        """
        x_BTND = self._embed(state.codes[:, None], conditions.actions)
        positions_B1 = state.cache.reserve(1)
        for i, block in enumerate(self.trunk):
            x_BTND = self._over_grid(block, x_BTND)
            if i < len(self.temporal):
                x_BTND = cast(TemporalAttention, self.temporal[i]).step(x_BTND, positions_B1, i, state.cache)
        state.cache.advance(1)
        reward_B, ended_B = expected_outcome(self.outcome(x_BTND)[:, 0], self.reward_scale)
        codes_BN = self._decode(x_BTND, state.codes, sampler, generator)
        after = PocketState(
            codes=codes_BN,
            cache=state.cache,
            reward=reward_B,
            terminated=ended_B,
        )
        return Codes.of(codes_BN[:, None]), after

    def _decode(self, trunk_BTND: Tensor, now_BN: Tensor, sampler: Sampler, generator: Generators) -> Tensor:
        now_B1N = now_BN[:, None]
        codes_B1N = decode(
            self._logits(trunk_BTND, now_B1N),
            lambda codes, known: self._logits(trunk_BTND, now_B1N, codes, known),
            lambda logits: sampler(logits, generator),
            lambda logits, codes, _: sampler.confidence(logits, codes, generator),
            sampler.steps,
        )
        return codes_B1N[:, 0]
