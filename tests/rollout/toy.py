"""A toy world that codes whole clips, exact to the bit.

Codes are made with whole numbers and logits are looked up, so that nothing depends on how many streams run side by
side. The tokenizer is not causal in either direction: every code depends on the brightness of the whole clip, every
pixel on all codes. The dynamics depend on the absolute place in the window.

Shapes: B streams, T frames, P latent frames, N = 4 tokens, K = 16 codes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from reelworld.models.clip_model import ClipModel
from reelworld.models.parts import ClipPrior, Tokenizer
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import Clip, Codes, GridSpec, ModelSpec, TokenSpec, UserError
from reelworld.worlds.info import WorldInfo
from reelworld.worlds.world import World

CLIP, STRIDE, SIDE, N_TOKENS, N_CODES = 8, 2, 16, 4, 16
N_LATENTS = CLIP // STRIDE
GRID = GridSpec(rows=2, columns=2, codebook_size=N_CODES)
CLASSES = ("walk", "run", "jump")


@dataclass(frozen=True, kw_only=True)
class ToyTokenizerConfig:
    """Nothing can be chosen but this."""

    clip_frames: int = CLIP


@dataclass(frozen=True, kw_only=True)
class ToyPriorConfig:
    """What the dynamics are told."""

    grid: GridSpec = GRID
    latent_frames: int = N_LATENTS
    cond_frames: int = 0
    n_classes: int = 0


class ToyTokenizer(Tokenizer):
    """Two frames and 8x8 pixels per code."""

    def __init__(self, config: ToyTokenizerConfig) -> None:
        super().__init__()
        self.config = config

    def spec(self, n_frames, height, width):
        if (height, width) != (SIDE, SIDE):
            raise UserError(f"frames are {height}x{width}; this toy reads {SIDE}x{SIDE}.")
        return TokenSpec(
            grids={"video": GRID}, time_stride=STRIDE, is_causal=False, clip_frames=self.config.clip_frames
        )

    def encode(self, video):
        pixels = to_uint8(video).long()
        b, t = pixels.shape[:2]
        assert t % STRIDE == 0
        patches = pixels.reshape(b, t // STRIDE, STRIDE, 2, 8, 2, 8, 3)
        bright = patches.sum((2, 4, 6, 7)).flatten(2) // (STRIDE * 8 * 8 * 3)
        whole = bright.sum((1, 2), keepdim=True) // (bright.shape[1] * N_TOKENS)
        return Codes.of((3 * bright + whole) // 4 * N_CODES // 256)

    def loss(self, batch, generator=None):
        raise NotImplementedError

    def decode(self, codes):
        ids = codes.video
        whole = ids.sum((1, 2), keepdim=True) % 7
        values = (ids * 16 + whole).unflatten(2, (2, 2)).repeat_interleave(STRIDE, 1)
        values = values + 3 * (torch.arange(values.shape[1]) % STRIDE)[:, None, None]
        pixels = values.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., None].expand(-1, -1, -1, -1, 3)
        return to_float(pixels.to(torch.uint8))


@dataclass
class ToyState:
    codes: Tensor
    n_latents: int


class ToyPrior(ClipPrior):
    """Logits from a table of noise: by place, code before, code above, class and the shown frames."""

    def __init__(self, config: ToyPriorConfig) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(2 * torch.randn(1009, N_CODES, generator=generator))

    def row(self, codes_BL, place, conditions):
        """Logits (B, K) of the token at a place, given all tokens before it, (B, L)."""
        b = len(codes_BL)
        before = codes_BL[:, place - 1] if place else torch.full((b,), 16)
        above = codes_BL[:, place - N_TOKENS] if place >= N_TOKENS else torch.full((b,), 16)
        key = place * 311 + before * 17 + above * 71
        if self.config.n_classes:
            key = key + 401 * conditions.class_id
        if self.config.cond_frames:
            shown = conditions.context_video
            assert shown.shape[1] == self.config.cond_frames
            key = key + to_uint8(shown).long().sum((1, 2, 3, 4)) // 64
        return self.table[key % 1009]

    def prefill(self, codes, conditions):
        given = codes.video
        assert given.shape[1] < self.config.latent_frames and given.shape[2] == N_TOKENS
        return ToyState(codes=given.flatten(1), n_latents=given.shape[1])

    def step(self, state, conditions, sampler, generator):
        codes = state.codes
        for _ in range(N_TOKENS):
            drawn = sampler(self.row(codes, codes.shape[1], conditions), generator)
            codes = torch.cat([codes, drawn[:, None]], 1)
        return Codes.of(codes[:, None, -N_TOKENS:]), ToyState(codes, state.n_latents + 1)

    def logits(self, codes, conditions):
        flat = codes.video.flatten(1)
        rows = [self.row(flat[:, :i], i, conditions) for i in range(flat.shape[1])]
        return torch.stack(rows, 1).unflatten(1, codes.video.shape[1:])

    @property
    def grid(self):
        return self.config.grid

    @property
    def n_latents(self):
        return self.config.latent_frames

    @property
    def cond_frames(self):
        return self.config.cond_frames

    @property
    def n_classes(self):
        return self.config.n_classes

    def check_tokenizer(self, tokenizer, height, width):
        pass

    def loss(self, batch, generator=None):
        raise NotImplementedError

    def nll(self, codes, conditions):
        logs = self.logits(codes, conditions).log_softmax(-1)
        return -logs.gather(-1, codes.video[..., None]).squeeze(-1)


def toy_world(cond_frames: int = 0, classes: Sequence[str] = (), context_frames: int | None = None) -> World:
    """A world of the toy parts, without start clips."""
    prior = ToyPrior(ToyPriorConfig(cond_frames=cond_frames, n_classes=len(classes)))
    usual = cond_frames if context_frames is None else context_frames
    spec = ModelSpec(height=SIDE, width=SIDE, fps=5.0, classes=tuple(classes), context=(0, usual, None))
    model = ClipModel(spec, ToyTokenizer(ToyTokenizerConfig()), prior)
    return World(WorldInfo(name="toy", system="tests.rollout", spec=model.spec), model)


def frames(n: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Random blocks, uint8 (n, T, 16, 16, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, n_frames, 2, 2, 1), dtype=np.uint8)
    return blocks.repeat(8, 2).repeat(8, 3).repeat(3, 4)


def start_clips(n_frames: int, classes: Sequence[str] = ()) -> list[Clip]:
    """Two clips per class."""
    ids = [i for i in range(len(classes)) for _ in range(2)] or [None, None]
    return [
        replace(Clip(frames=f, fps=5.0, source=f"{i:03d}"), class_id=c)
        for i, (f, c) in enumerate(zip(frames(len(ids), n_frames, seed=7), ids, strict=True))
    ]
