"""The spacetime transformer: attention within each frame, causal attention over time at each place, one feed-forward.

It maps embeddings to embeddings, independent of codes and pixels: masked dynamics, tokenizers that are
causal in time and latent action models share it. Frames can be read all at once (``forward``) or as they come
(``prefill``, ``step``): the past is kept as keys and values of the last frames per layer, so a step costs the frames
that it is given. Both give the same numbers: ``forward`` looks back over the same window in every layer.

Source: Bruce et al. 2024 (arXiv:2402.15391), section 2 and figure 4. Differs: time is given by rotary angles or by a
bias per lag where the paper has tables, so that the window can slide for ever; ``time="none"``, ``space="none"`` and
``norms`` leave room for published weights whose tables belong to the dynamics.

Shapes: B batch, T frames, S tokens per frame (those of the grid, and perhaps others before them), D width, H heads,
  E width of a head, L layers, Q frames that a step reads
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from reelworld.config import require
from reelworld.nn.attention import FrameMask, Mask, WindowMask, attention
from reelworld.nn.kv_cache import FrameCache
from reelworld.nn.rotary import GridRotary, Rotary
from reelworld.types import UserError

NORMS = {"pre": (True, True, True, True), "no_time": (True, False, True, False), "none": (False,) * 4}
"""Name -> whether there is a norm before attention in space, in time, before the feed-forward, and at the end."""
INIT_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class STConfig:
    """Shape of a spacetime transformer."""

    width: int = 512
    """D."""
    layers: int = 8
    """Blocks."""
    heads: int = 8
    """Attention heads, of both kinds."""
    rows: int = 16
    """Rows of a frame's grid."""
    columns: int = 16
    """Columns of a frame's grid."""
    window: int = 16
    """Frames that attention in time reaches back to, the current one included."""
    time: Literal["rotary", "lags", "none"] = "rotary"
    """Positions of attention in time: rotary angles, a learned bias per lag, or none."""
    space: Literal["learned", "rotary", "none"] = "learned"
    """Positions within a frame: a learned table that is added to the input, rotary angles, or none."""
    norms: Literal["pre", "no_time", "none"] = "pre"
    """Position of layer norms: before each part and at the end; before attention in space and the feed-forward only
    (1xgpt); nowhere (1xgpt with qk_norm)."""
    qk_norm: bool = True
    """Norm queries and keys per head."""
    qkv_bias: bool = False
    """Add a bias to queries, keys and values."""
    proj_bias: bool = True
    """Add a bias to the outputs of attention."""
    mlp_bias: bool = True
    """Add biases to the feed-forward."""
    mlp_ratio: float = 4.0
    """Width of the feed-forward's inside, in widths."""
    dropout: float = 0.0
    """Probability that a number of the feed-forward is dropped in training."""
    attn_dropout: float = 0.0
    """Probability that an attention weight is dropped in training."""
    is_mup: bool = False
    """Scale scores by 8 / E instead of E ** -0.5 (muP)."""

    def __post_init__(self) -> None:
        require(self, "layers heads rows columns window", lambda v: v >= 1, "at least 1")
        require(self, "width", lambda v: v >= 1 and v % self.heads == 0, f"a multiple of heads ({self.heads})")
        require(self, "dropout attn_dropout", lambda v: 0 <= v < 1, "at least 0 and below 1")
        require(self, "mlp_ratio", lambda v: v > 0 and int(v * self.width) >= 1, "above 0")

    @property
    def tokens(self) -> int:
        """Tokens of a frame's grid."""
        return self.rows * self.columns

    @property
    def head_width(self) -> int:
        """E."""
        return self.width // self.heads


# ------------------------------------------------------------------ positions in time


class TimePositions(Protocol):
    """Positions of one layer's attention in time."""

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Change queries or keys (B, S, H, T, E) for frames of these numbers, (T,) or (B, T)."""
        ...

    def mask(self, seen: WindowMask) -> Mask:
        """Complete the mask of visible frames."""
        ...


class NoTimePositions(nn.Module):
    """No positions: they are part of the embeddings."""

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Leave them as they are."""
        return x

    def mask(self, seen: WindowMask) -> Mask:
        """Add nothing."""
        return seen


class RotaryTime(nn.Module):
    """Queries and keys are rotated by the number of their frame."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.rotary = Rotary(width, window)

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn them."""
        out: Tensor = self.rotary(x, positions if positions.dim() == 1 else positions[:, None, None])
        return out

    def mask(self, seen: WindowMask) -> Mask:
        """Add nothing."""
        return seen


class LagTime(nn.Module):
    """Scores get a learned bias per head and lag."""

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.lag_bias = nn.Parameter(torch.zeros(heads, window))

    def turn(self, x: Tensor, positions: Tensor) -> Tensor:
        """Leave them as they are."""
        return x

    def mask(self, seen: WindowMask) -> Mask:
        """Add the bias."""
        return FrameMask(
            q_positions=seen.q_positions,
            k_positions=seen.k_positions,
            drafts=seen.drafts,
            group=seen.group,
            lag_bias=self.lag_bias,
        )


def _time_positions(config: STConfig) -> nn.Module:
    match config.time:
        case "rotary":
            return RotaryTime(config.head_width, config.window)
        case "lags":
            return LagTime(config.heads, config.window)
        case "none":
            return NoTimePositions()


# ------------------------------------------------------------------ the block


class Heads(nn.Module):
    """Projections of both kinds of attention: one matrix for queries, keys and values, norms, output."""

    def __init__(self, config: STConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attn_dropout
        self.scale = 8 / config.head_width if config.is_mup else config.head_width**-0.5
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.norm = nn.LayerNorm(config.head_width) if config.qk_norm else nn.Identity()
        self.out = nn.Linear(config.width, config.width, bias=config.proj_bias)

    def project(self, x_BTSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn embeddings into queries, keys and values, each (B, T, S, H, E)."""
        q, k, v = self.qkv(x_BTSD).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.norm(q), self.norm(k), v

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None) -> Tensor:
        """Attend over the last but one axis."""
        return attention(q, k, v, mask, self.dropout if self.training else 0.0, self.scale)


class SpaceAttention(nn.Module):
    """Attention in space: each token attends to all tokens of its frame."""

    def __init__(self, config: STConfig) -> None:
        super().__init__()
        self.heads = Heads(config)
        is_rotary = config.space == "rotary"
        self.rotary = GridRotary(config.head_width, config.rows, config.columns) if is_rotary else nn.Identity()

    def forward(self, x_BTSD: Tensor) -> Tensor:
        """Mix the tokens of each frame."""
        q, k, v = (part.flatten(0, 1).transpose(1, 2) for part in self.heads.project(x_BTSD))  # (B * T, H, S, E)
        mixed = self.heads.mix(self.rotary(q), self.rotary(k), v)
        out: Tensor = self.heads.out(mixed.transpose(1, 2).reshape(x_BTSD.shape))
        return out


class TimeAttention(nn.Module):
    """Attention in time: each token attends to its position in its own and earlier frames."""

    def __init__(self, config: STConfig) -> None:
        super().__init__()
        self.heads = Heads(config)
        self.sense = _time_positions(config)

    def forward(self, x_BTSD: Tensor, seen: WindowMask) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each position over the given frames; also return keys and values, (B * S, H, T, E)."""
        q, k, v = self._project(x_BTSD, seen.q_positions)
        return self._merge(x_BTSD, self.heads.mix(q, k, v, self._sense.mask(seen))), k, v

    def step(self, x_BQSD: Tensor, seen: WindowMask, layer: int, cache: FrameCache) -> Tensor:
        """Append frames to the cache and attend to all cached frames."""
        q, k, v = self._project(x_BQSD, seen.q_positions)
        keys, values = cache.put(layer, k, v)
        return self._merge(x_BQSD, self.heads.mix(q, keys, values, self._sense.mask(seen)))

    @property
    def _sense(self) -> TimePositions:
        return cast(TimePositions, self.sense)

    def _project(self, x_BTSD: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (part.permute(0, 2, 3, 1, 4) for part in self.heads.project(x_BTSD))  # (B, S, H, T, E)
        q, k = self._sense.turn(q, positions), self._sense.turn(k, positions)
        return q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)

    def _merge(self, x_BTSD: Tensor, mixed: Tensor) -> Tensor:
        mixed_BSHTE = mixed.unflatten(0, (x_BTSD.shape[0], x_BTSD.shape[2]))
        out: Tensor = self.heads.out(mixed_BSHTE.permute(0, 3, 1, 2, 4).reshape(x_BTSD.shape))
        return out


class STBlock(nn.Module):
    """Space, then time, then one feed-forward for both; each adds to the stream."""

    def __init__(self, config: STConfig) -> None:
        super().__init__()
        inside = int(config.width * config.mlp_ratio)
        norms = [nn.LayerNorm(config.width) if there else nn.Identity() for there in NORMS[config.norms][:3]]
        self.norm_space, self.norm_time, self.norm_mlp = norms
        self.space, self.time = SpaceAttention(config), TimeAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, inside, bias=config.mlp_bias),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(inside, config.width, bias=config.mlp_bias),
            nn.Dropout(config.dropout),
        )

    def forward(self, x_BTSD: Tensor, seen: WindowMask, film_BT2D: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Map frames; also return the keys and values of attention in time."""
        x_BTSD = x_BTSD + self.space(self.norm_space(x_BTSD))
        mixed, k, v = self.time(self.norm_time(x_BTSD), seen)
        return self._feed(x_BTSD + mixed, film_BT2D), k, v

    def step(self, x_BQSD: Tensor, seen: WindowMask, layer: int, cache: FrameCache, film_BQ2D: Tensor | None) -> Tensor:
        """Map frames that come after those in the cache."""
        x_BQSD = x_BQSD + self.space(self.norm_space(x_BQSD))
        x_BQSD = x_BQSD + self.time.step(self.norm_time(x_BQSD), seen, layer, cache)
        return self._feed(x_BQSD, film_BQ2D)

    def _feed(self, x_BTSD: Tensor, film_BT2D: Tensor | None) -> Tensor:
        h_BTSD = self.norm_mlp(x_BTSD)
        if film_BT2D is not None:
            scale, shift = film_BT2D.unsqueeze(2).unbind(3)
            h_BTSD = torch.addcmul(shift, h_BTSD, 1 + scale)
        out: Tensor = x_BTSD + self.mlp(h_BTSD)
        return out


# ------------------------------------------------------------------ the stack


class STTransformer(nn.Module):
    """A stack of spacetime blocks over (B, T, S, D)."""

    def __init__(self, config: STConfig) -> None:
        """Make the stack.

        Args:
            config: Its shape. Tokens of a frame are its ``rows * columns`` in raster order; others (an action, say)
                may come before them.
        """
        super().__init__()
        self.config = config
        self.place = _Places(config.tokens, config.width) if config.space == "learned" else nn.Identity()
        self.blocks = nn.ModuleList([STBlock(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width) if NORMS[config.norms][3] else nn.Identity()
        self._initialize()

    def _initialize(self) -> None:
        """Initialize for constant variance at any width; residual branches start smaller in deeper stacks."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self._blocks():
            for layer in (block.space.heads.out, block.time.heads.out, block.mlp[3]):
                cast(nn.Linear, layer).weight.data.mul_((3 * self.config.layers) ** -0.5)

    def forward(
        self,
        x: Tensor,
        film: Tensor | None = None,
        positions: Tensor | None = None,
        drafts: Tensor | None = None,
    ) -> Tensor:
        """Map frames, all at once.

        Args:
            x: Embeddings, (B, T, S, D).
            film: Scales and shifts of each block's feed-forward, (B, T, L, 2, D); None changes nothing.
            positions: Numbers of the frames, int64, (T,); None for frames that follow each other.
            drafts: Which frames are drafts, bool, (T,): a draft has the number of a settled frame
                and sees itself and settled frames before it; nothing else sees it.

        Returns:
            Embeddings, (B, T, S, D). Those of a frame depend on that frame and earlier ones only; each layer looks
            back over ``window`` frames.
        """
        return self._read(x, film, self._seen(x, positions, drafts))[0]

    def prefill(self, x: Tensor, film: Tensor | None = None, ahead: int = 1) -> tuple[Tensor, FrameCache]:
        """Read the first frames of streams into a cache for later frames.

        Args:
            x: Embeddings, (B, T, S, D); T may be 0.
            film: As in ``forward``.
            ahead: The most frames that a step will read.

        Returns:
            Embeddings (B, T, S, D), and the cache.
        """
        out, kept = self._read(x, film, self._seen(x, None, None))
        return out, FrameCache.of(kept, x.shape[0], self.config.window - 1 + ahead)

    def step(self, x: Tensor, cache: FrameCache, film: Tensor | None = None, keep: int = 1) -> Tensor:
        """Read the frames that come next.

        Args:
            x: Embeddings, (B, Q, S, D); Q no more than ``ahead`` of the prefill.
            cache: Of the frames before; written in place.
            film: As in ``forward``, (B, Q, L, 2, D).
            keep: How many of the frames, the first ones, join the past. The others are drafts: the next step reads
                frames of the same numbers again.

        Returns:
            Embeddings, (B, Q, S, D).
        """
        seen = WindowMask(
            q_positions=cache.reserve(x.shape[1]),
            k_positions=cache.positions,
            window=self.config.window,
            group=x.shape[2],
        )
        x = self.place(x)
        for i, block in enumerate(self._blocks()):
            x = block.step(x, seen, i, cache, _film_of(film, i))
        cache.advance(keep)
        out: Tensor = self.norm(x)
        return out

    def _seen(self, x: Tensor, positions: Tensor | None, drafts: Tensor | None) -> WindowMask:
        self._check(x)
        is_row = positions is None and drafts is None and x.shape[1] <= self.config.window
        numbers = torch.arange(x.shape[1], device=x.device) if positions is None else positions
        return WindowMask(
            q_positions=numbers,
            k_positions=numbers,
            window=self.config.window,
            drafts=None if drafts is None else (drafts, drafts),
            is_row=is_row,
        )

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[2] < self.config.tokens or x.shape[3] != self.config.width:
            raise UserError(
                f"embeddings have the shape {tuple(x.shape)}; wanted (batch, frames, {self.config.tokens} tokens or "
                f"more, {self.config.width})."
            )

    def _read(self, x: Tensor, film: Tensor | None, seen: WindowMask) -> tuple[Tensor, Sequence[tuple[Tensor, Tensor]]]:
        x, kept = self.place(x), []
        for i, block in enumerate(self._blocks()):
            x, k, v = block(x, seen, _film_of(film, i))
            kept.append((k, v))
        return self.norm(x), kept

    def _blocks(self) -> list[STBlock]:
        return cast(list[STBlock], list(self.blocks))


class _Places(nn.Module):
    """A learned vector per cell of the grid; tokens before the grid get none."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(INIT_STD * torch.randn(tokens, width))

    def forward(self, x_BTSD: Tensor) -> Tensor:
        """Add it."""
        before = x_BTSD.shape[2] - len(self.table)
        if not before:
            return x_BTSD + self.table
        return torch.cat([x_BTSD[:, :, :before], x_BTSD[:, :, before:] + self.table], 2)


def _film_of(film: Tensor | None, layer: int) -> Tensor | None:
    return None if film is None else film[:, :, layer]
