"""Token layout of a clip: ids and positions of codes and of the slots between frames.

A clip of K context frames and F later ones is

    c c c S c c c Z d d Z d d Z d d

with the codes c of context frames and d of later frames, a context slot S between two context frames, and a frame slot
Z before every later frame. A goal is the first frame of the context. Codes of later
frames follow those of the context in the vocabulary, then come S and Z.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), section 3.2, appendix A.2 (goals) and the authors' code.

Shapes: B clips, T frames, K context frames, F later frames, N M codes of a context frame and of a later one, L tokens
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelworld.types import Codes, GridSpec

IGNORED = -100
"""Label of a token that is not predicted."""


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Positions and ids of tokens. All arithmetic on them is in this class."""

    context_frames: int
    """K."""
    context_tokens: int
    """N."""
    frame_tokens: int
    """M."""
    context_codes: int
    """Size of the context's codebook."""
    frame_codes: int
    """Size of the later frames' codebook."""

    @classmethod
    def of(cls, context: GridSpec, frame: GridSpec, context_frames: int) -> TokenLayout:
        """Lay out the codes of two grids."""
        return cls(
            context_frames=context_frames,
            context_tokens=context.n_tokens,
            frame_tokens=frame.n_tokens,
            context_codes=context.codebook_size,
            frame_codes=frame.codebook_size,
        )

    # ------------------------------------------------------------------ ids

    @property
    def context_slot(self) -> int:
        """Id of S."""
        return self.context_codes + self.frame_codes

    @property
    def frame_slot(self) -> int:
        """Id of Z."""
        return self.context_slot + 1

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return self.context_slot + 2

    @property
    def frame_ids(self) -> slice:
        """Ids of the codes of later frames."""
        return slice(self.context_codes, self.context_codes + self.frame_codes)

    # ------------------------------------------------------------------ positions

    @property
    def prelude(self) -> int:
        """Tokens before the first frame slot."""
        return self.context_frames * (self.context_tokens + 1) - 1

    @property
    def stride(self) -> int:
        """Tokens from one frame slot to the next."""
        return self.frame_tokens + 1

    def length(self, n_frames: int) -> int:
        """Count the tokens of a clip of T frames, context included."""
        return self.prelude + (n_frames - self.context_frames) * self.stride

    @property
    def n_cells(self) -> int:
        """Cells that tokens can have within their frames, slots included."""
        return self.context_tokens + 1 + self.stride

    @property
    def frame_cell(self) -> int:
        """Cell of Z; the cells of its frame's codes follow."""
        return self.context_tokens + 1

    def cells(self, n_tokens: int, device: torch.device | None = None) -> Tensor:
        """Number the cell within its frame of each token of a sequence, (L,)."""
        positions_L = torch.arange(n_tokens, device=device)
        later_L = self.frame_cell + (positions_L - self.prelude) % self.stride
        return torch.where(positions_L < self.prelude, (positions_L + 1) % self.frame_cell, later_L)

    def frames(self, n_tokens: int) -> int:
        """Count the frames, context included, that fit into so many tokens; 0 if the context does not fit."""
        if n_tokens < self.prelude:
            return 0
        return self.context_frames + (n_tokens - self.prelude) // self.stride

    # ------------------------------------------------------------------ codes <-> ids

    def pack(self, codes: Codes) -> Tensor:
        """Turn the codes of T >= K frames, both grids (B, T, ...), into ids (B, L)."""
        context_BKN = codes.grids["context"][:, : self.context_frames]
        slots_BK1 = context_BKN.new_full((*context_BKN.shape[:2], 1), self.context_slot)
        before = torch.cat([slots_BK1, context_BKN], 2).flatten(1)[:, 1:]  # between frames only
        return torch.cat([before, self.pack_frames(codes.video[:, self.context_frames :])], 1)

    def pack_frames(self, codes_BFM: Tensor) -> Tensor:
        """Turn the codes of later frames into ids with their slots, (B, F * (M + 1))."""
        slots_BF1 = codes_BFM.new_full((*codes_BFM.shape[:2], 1), self.frame_slot)
        return torch.cat([slots_BF1, codes_BFM + self.context_codes], 2).flatten(1)

    def unpack(self, ids: Tensor) -> Codes:
        """Turn ids (B, L) into codes by position; ids outside their grid's codebook become the nearest code."""
        n_context, n_later = self.context_frames, self.frames(ids.shape[1]) - self.context_frames
        padded = torch.cat([ids[:, :1], ids[:, : self.prelude]], 1).unflatten(1, (n_context, -1))
        context_BKN = padded[:, :, 1:].clamp(0, self.context_codes - 1)
        later = ids[:, self.prelude :].unflatten(1, (n_later, self.stride))[:, :, 1:]
        later_BFM = (later - self.context_codes).clamp(0, self.frame_codes - 1)
        context = torch.cat([context_BKN, context_BKN.new_zeros(len(ids), n_later, self.context_tokens)], 1)
        video = torch.cat([later_BFM.new_zeros(len(ids), n_context, self.frame_tokens), later_BFM], 1)
        return Codes({"context": context, "video": video})

    def labels(self, ids: Tensor) -> Tensor:
        """Mask tokens that are not predicted: the context and the first frame slot."""
        labels = ids.clone()
        labels[:, : self.prelude + 1] = IGNORED
        return labels
