"""The autoregressive prior of VideoGPT: a transformer over all codes of a clip, in raster order.

Its input is the codebook's vectors, not an embedding table of its own; positions are learned per axis. It may be
conditioned on the first frames as pixels (residual network and cross attention) and on a class (gains and biases of
all norms). Positions are absolute, so a clip has a fixed number of latent frames; longer videos re-read a shifted
window.

Source: Yan et al. 2021 (arXiv:2104.10157), section 3.2 and the authors' code. Differs: the block-sparse layout is a
mask, so that it trains and samples everywhere; sampling reads the visible prefix only, and projects the conditioning
frames once; a clip's first latent frames can be given.

Shapes: B batch, P latent frames, N tokens per latent frame, L = P * N tokens in raster order, K codes,
  E width of a code's vector, D width, V = K
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.config import require
from reelworld.models.parts import ClipPrior, Tokenizer
from reelworld.nn.attention import BlockMask, CausalMask
from reelworld.nn.decode import decode_library
from reelworld.nn.decoder import (
    AxisPositions,
    ClassNorm,
    CrossAttention,
    DecoderBlock,
    KeysValues,
    LateEpsilonNorm,
    SelfAttention,
    quick_gelu_mlp,
)
from reelworld.nn.kv_cache import KVCache
from reelworld.nn.random import Generators
from reelworld.nn.streams import Streams
from reelworld.systems.videogpt.block_sparse_layout import BLOCK, block_grid, strided_layout
from reelworld.systems.videogpt.compiled_decoder import CompiledDecoder
from reelworld.systems.videogpt.conditioning_resnet import SPACE_STRIDE, ConditioningResNet
from reelworld.systems.videogpt.config import DynamicsConfig
from reelworld.systems.videogpt.vqvae import VQVAE3D
from reelworld.types import Batch, Codes, Conditions, GridSpec, Losses, Sampler, UserError


@dataclass(frozen=True, kw_only=True)
class PriorConfig(DynamicsConfig):
    """Shape of an autoregressive prior."""

    grid: GridSpec
    """Codes of one latent frame."""
    latent_frames: int
    """Latent frames of a clip, P."""
    embedding_dim: int = 256
    """Width of a code's vector."""
    cond_height: int = 64
    """Pixel rows of conditioning frames."""
    cond_width: int = 64
    """Their pixel columns."""
    n_classes: int = 0
    """Classes a clip may have; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "latent_frames embedding_dim", lambda v: v >= 1, "at least 1")
        require(self, "n_classes", lambda v: v >= 0, "at least 0")
        if self.cond_frames:
            is_even = self.cond_height % SPACE_STRIDE == self.cond_width % SPACE_STRIDE == 0
            if not is_even or min(self.cond_height, self.cond_width) < SPACE_STRIDE:
                raise UserError(
                    f"frames of {self.cond_height}x{self.cond_width} pixels cannot condition; both sides must be "
                    f"multiples of {SPACE_STRIDE}."
                )
        if self.attention == "sparse":
            block_grid(self.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip."""
        return self.latent_frames, self.grid.rows, self.grid.columns

    @property
    def n_tokens(self) -> int:
        """Tokens of a clip, L."""
        return self.latent_frames * self.grid.n_tokens


@dataclass(kw_only=True)
class PriorState(Streams):
    """Unfinished clips: the latent frames so far, and keys and values."""

    codes: Tensor
    """int64, (B, P', N)."""
    tokens: KVCache
    """Of the tokens that were read: all so far but the last."""
    memory: KVCache | None
    """Of the conditioning frames, for every block."""
    class_id: Tensor | None
    """int64, (B,)."""
    inputs: Tensor = field(metadata={"streams": False})
    """Embeddings of all codes, float32 (V, D)."""
    positions: Tensor = field(metadata={"streams": False})
    """Positions of all tokens, float32 (L, D)."""
    decoder: CompiledDecoder | None = None
    """Compiled blocks, where there is a compiler."""

    @property
    def n_latents(self) -> int:
        """Latent frames so far."""
        return self.codes.shape[1]


def make_norm(config: PriorConfig) -> nn.Module:
    """Make a norm: with a gain per class where there are classes."""
    if config.n_classes:
        return ClassNorm(config.hidden_dim, config.n_classes)
    return LateEpsilonNorm(config.hidden_dim)


def make_block(config: PriorConfig) -> DecoderBlock:
    """Make a block of the prior."""
    width, heads, layers = config.hidden_dim, config.heads, config.layers
    # the published sparse kernels have no dropout
    dropout = config.attn_dropout if config.attention == "full" else 0.0
    return DecoderBlock(
        partial(make_norm, config),
        partial(SelfAttention, width, heads, layers, dropout),
        partial(quick_gelu_mlp, width),
        partial(CrossAttention, width, config.resnet_dim, heads, layers) if config.cond_frames else None,
        config.dropout,
    )


class AutoregressivePrior(ClipPrior[PriorState]):
    """Autoregressive distribution over the codes of a clip."""

    codebook: Tensor
    layout: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        width, n_codes = config.hidden_dim, config.grid.codebook_size
        self.register_buffer("codebook", torch.zeros(n_codes, config.embedding_dim))
        self.embed = nn.Linear(config.embedding_dim, width, bias=False)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.positions = AxisPositions(config.shape, width)
        self.frame_net: ConditioningResNet | None = None
        if config.cond_frames:
            self.frame_net = ConditioningResNet(config.resnet_width, config.resnet_dim)
            sides = (config.cond_height // SPACE_STRIDE, config.cond_width // SPACE_STRIDE)
            self.frame_positions = AxisPositions((config.cond_frames, *sides), config.resnet_dim)
        self.blocks = nn.ModuleList(make_block(config) for _ in range(config.layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(width, n_codes, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        layout = strided_layout(config.shape) if config.attention == "sparse" else torch.zeros(0, 0, dtype=torch.bool)
        self.register_buffer("layout", layout, persistent=False)

    @property
    def grid(self) -> GridSpec:
        """Grid of codes of a latent frame."""
        return self.config.grid

    @property
    def n_latents(self) -> int:
        """Latent frames of a clip."""
        return self.config.latent_frames

    @property
    def cond_frames(self) -> int:
        """First frames of a clip that are read as pixels."""
        return self.config.cond_frames

    @property
    def n_classes(self) -> int:
        """Classes of a class-conditional prior, else 0."""
        return self.config.n_classes

    def check_tokenizer(self, tokenizer: Tokenizer, height: int, width: int) -> None:
        """Refuse a tokenizer with another codebook, or frames of another size, than this prior was trained on.

        Raises:
            UserError: If it has.
        """
        config = self.config
        if config.cond_frames and (config.cond_height, config.cond_width) != (height, width):
            raise UserError(
                f"the world has frames of {height}x{width} pixels; its dynamics read "
                f"{config.cond_height}x{config.cond_width}: restore world.json."
            )
        vectors = tokenizer.codebook.vectors if isinstance(tokenizer, VQVAE3D) else self.codebook
        is_same = vectors.shape == self.codebook.shape
        if not is_same or not (vectors.is_meta or torch.equal(vectors, self.codebook.to(vectors))):
            raise UserError(
                f"the dynamics learned on another codebook {tuple(self.codebook.shape)} than its tokenizer has "
                f"{tuple(vectors.shape)}; the two parts do not belong together."
            )

    # ------------------------------------------------------------------ the parallel pass

    def logits(self, codes: Codes, conditions: Conditions) -> Tensor:
        """Score every code of whole clips given all before it.

        Args:
            codes: (B, P, N).
            conditions: ``context_video`` and ``class_id`` if the model uses them.

        Returns:
            (B, P, N, V), float32.
        """
        codes_BL = codes.video.flatten(1)
        x = self._inputs(codes_BL[:, :-1]) + self.positions()
        mask = self._mask(self.config.n_tokens)
        for block, frames in zip(self.blocks, self._frames(conditions), strict=True):
            x = block(x, mask, class_id=conditions.class_id, frames=frames)
        out: Tensor = self._head(x, conditions.class_id).unflatten(1, codes.video.shape[1:])
        return out

    def nll(self, codes: Codes, conditions: Conditions) -> Tensor:
        """Return the negative log-likelihood of every code of whole clips, (B, P, N)."""
        logits = self.logits(codes, conditions)
        return functional.cross_entropy(logits.flatten(0, 2), codes.video.flatten(), reduction="none").view_as(
            codes.video
        )

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Mean negative log-likelihood per code, in nats.

        Args:
            batch: With ``codes`` of whole clips and the model's conditions.
            generator: Not used: nothing is drawn here but dropout, which follows torch's own generator.
        """
        assert batch.codes is not None
        nats = self.nll(batch.codes, batch.conditions)
        return Losses(terms={"nats": (nats.sum(), nats.new_tensor(float(nats.numel())))})

    def features(self, frames_BTHWC: Tensor) -> Tensor:
        """Read conditioning frames, float in [-1, 1]: (B, T, H / 4, W / 4, F)."""
        assert self.frame_net is not None
        features: Tensor = self.frame_net(frames_BTHWC)
        return features

    def _frames(self, conditions: Conditions) -> list[KeysValues] | list[None]:
        """Project the conditioning frames for every block."""
        if self.frame_net is None:
            return [None] * len(self.blocks)
        video = conditions.context_video
        assert video is not None and video.shape[1] == self.config.cond_frames
        features = self.features(video.to(self.embed.weight.dtype)).flatten(1, 3) + self.frame_positions()
        readers = [block.frames for block in self._blocks()]
        return [reader.keys_values(features) for reader in readers if reader is not None]

    def _blocks(self) -> list[DecoderBlock]:
        return cast("list[DecoderBlock]", list(self.blocks))

    def _inputs(self, codes_BL: Tensor) -> Tensor:
        """Embed codes after the start vector, (B, L + 1, D)."""
        x = self.embed(self.codebook[codes_BL])
        return torch.cat([self.start.to(x.dtype).expand(len(x), 1, -1), x], 1)

    def _mask(self, n_tokens: int, first: int = 0) -> BlockMask | CausalMask:
        if self.config.attention == "sparse":
            return BlockMask(layout=self.layout, block=BLOCK, queries=n_tokens, first=first)
        return CausalMask(first=first)

    def _head(self, x: Tensor, class_id: Tensor | None) -> Tensor:
        logits: Tensor = self.head(self.norm(x, class_id))
        return logits.float()

    # ------------------------------------------------------------------ one latent frame after the other

    @torch.no_grad()
    def prefill(self, codes: Codes, conditions: Conditions) -> PriorState:
        """Read the first latent frames of clips.

        Args:
            codes: (B, P', N) with 0 <= P' < P.
            conditions: As for ``logits``.

        Raises:
            UserError: If there is no room for another latent frame.
        """
        given = codes.video
        if given.shape[1] >= self.config.latent_frames:
            raise UserError(
                f"{given.shape[1]} latent frames are given; a clip of this model has {self.config.latent_frames}, "
                "so that at most one less can be."
            )
        config, class_id, frames = self.config, conditions.class_id, self._frames(conditions)
        library = decode_library(self.embed.weight)
        is_half = library is not None
        shape = (config.layers, len(given), config.heads, config.n_tokens, config.hidden_dim // config.heads)
        tokens = KVCache.empty(shape, self.embed.weight, is_half=is_half)
        if n_tokens := given[0].numel():
            x, mask = self._inputs(given.flatten(1)[:, :-1]) + self.positions()[:n_tokens], self._mask(n_tokens)
            for layer, (block, pair) in enumerate(zip(self.blocks, frames, strict=True)):
                x = block(x, mask, layer, tokens, class_id=class_id, frames=pair)
            tokens.advance(n_tokens)
        memory = None
        for layer, pair in enumerate(frames):
            if pair is None:
                break
            if memory is None:
                memory = KVCache.empty((config.layers, *pair[0].shape), pair[0], pair[1].shape[-1], is_half=True)
            memory.append(layer, *pair)
        if memory is not None:
            memory.advance(memory.keys.shape[3])
        return PriorState(
            codes=given,
            tokens=tokens,
            memory=memory,
            class_id=class_id,
            inputs=self.embed(self.codebook).float(),
            positions=self.positions().float(),
            decoder=None if library is None else CompiledDecoder(library, self._blocks(), self.norm, self.head),
        )

    @torch.no_grad()
    def step(
        self, state: PriorState, conditions: Conditions, sampler: Sampler, generator: Generators
    ) -> tuple[Codes, PriorState]:
        """Draw one latent frame, code by code; the caches are extended.

        Args:
            state: Of ``prefill`` or of the last step; not to be used again.
            conditions: Not used: they are in the state.
            sampler: Turns logits (B, V) into codes (B,), once per token.
            generator: One for all, or one per stream.

        Returns:
            Codes (B, 1, N) and the new state.
        """
        n_tokens = self.config.grid.n_tokens
        first = state.n_latents * n_tokens
        if first >= self.config.n_tokens:
            raise UserError(f"all {self.config.latent_frames} latent frames of the clip are drawn; start a new window.")
        before = state.codes.flatten(1)[:, -1] if first else None
        drawn: list[Tensor] = []
        for position in range(first, first + n_tokens):
            x = self.start.float().expand(len(state.codes), -1) if before is None else state.inputs[before]
            before = sampler(self.decode_token(state, x + state.positions[position]), generator)
            drawn.append(before)
        new = torch.stack(drawn, 1)[:, None]
        state.codes = torch.cat([state.codes, new], 1)
        return Codes.of(new), state

    def decode_token(self, state: PriorState, x: Tensor) -> Tensor:
        """Read the next token, an embedding float32 (B, D), and return the logits of the one after it, (B, V)."""
        mask = self._mask(1, state.tokens.longest)
        if state.decoder is not None:
            return state.decoder(x, state.tokens, state.memory, state.class_id, mask)
        frames: Iterable[KeysValues | None] = [None] * len(self.blocks)
        if state.memory is not None:
            state.memory.unshare()
            frames = zip(state.memory.keys, state.memory.values, strict=True)
        x_B1D = x[:, None].to(self.embed.weight.dtype)
        for layer, (block, pair) in enumerate(zip(self.blocks, frames, strict=True)):
            x_B1D = block(x_B1D, mask, layer, state.tokens, class_id=state.class_id, frames=pair)
        state.tokens.advance(1)
        return self._head(x_B1D, state.class_id)[:, 0]
