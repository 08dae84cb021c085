"""Frame prior and reward head: a whole frame is predicted at once before its codes are drawn one after the other.

MLPs read the codes of three frames as the tokenizer's vectors, and actions. The frame prior predicts every code of the
next frame independently; the transformer adds its own scores, which model the dependence of the codes. The reward head
predicts the reward of a given frame. A frame costs an MLP a fraction of its cost in the transformer, so it sees many
more frames in the same time. Both are trained first and then frozen: trained jointly they overfit the small set of
clips that the transformer sees.

Source: ours. Related: Gloeckle et al. 2024 (arXiv:2404.19737), several tokens predicted at once from one state.

Shapes: B clips, F later frames, P frames that are read, M codes of a frame, A numbers of all actions of a step,
  E width, V codes of the codebook, C numbers of a code's vector
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.types import Batch, Losses

PAST = 3
"""P: two frames determine velocity; a third one helps, as codes are coarse."""
LAYERS = 3
REWARD_LAYERS = 2
"""Layers of the reward head."""
WIDENING = 2
DROPPED = 0.1
"""Dropout of the input and of each layer's output; twice that inside the layers."""
COPIED = 2.0
"""Initial score of the previous frame's code: most of a frame does not change."""


@dataclass(frozen=True, kw_only=True)
class FrameSizes:
    """Sizes of the input and of the MLPs."""

    n_cells: int
    """M."""
    n_codes: int
    """V."""
    code_width: int
    """C."""
    n_numbers: int
    """A, 0 without actions."""
    width: int
    """E."""


class FrameReader(nn.Module):
    """Codes of frames and actions in, features out."""

    vectors: Tensor
    """Vectors of the codes, (V + 1, C); the last row, for unknown codes, is zero."""

    def __init__(self, sizes: FrameSizes, layers: int) -> None:
        """Make the MLP, so many layers after the first; until ``load_code_vectors``, the vectors are random."""
        super().__init__()
        self.register_buffer("vectors", torch.zeros(sizes.n_codes + 1, sizes.code_width))
        self.read = nn.Linear(PAST * sizes.n_cells * sizes.code_width, sizes.width)
        self.act = nn.Linear(PAST * sizes.n_numbers, sizes.width) if sizes.n_numbers else None
        self.drop = nn.Dropout(DROPPED)
        self.layers = nn.ModuleList(_layer(sizes.width) for _ in range(layers))
        self.load_code_vectors(torch.randn(sizes.n_codes, sizes.code_width))

    @torch.no_grad()
    def load_code_vectors(self, vectors: Tensor) -> None:
        """Read codes by the vectors (V, C) of their codebook, in units of these vectors' spread."""
        self.vectors[:-1] = vectors / vectors.std().clamp(min=1e-6)

    def train(self, mode: bool = True) -> FrameReader:
        """Enter training mode; a frozen model stays in eval mode, without dropout."""
        return super().train(mode and self.read.weight.requires_grad)

    def forward(self, frames: Tensor, actions: Tensor) -> Tensor:
        """Read frames.

        Args:
            frames: Codes of P frames each, the last one first, int64 (B, F, P, M); V where none are known.
            actions: Numbers of P actions, the last one first, (B, F, P, A).

        Returns:
            Features (B, F, E).
        """
        h_BFE: Tensor = self.read(self.drop(self.vectors[frames].flatten(2)))
        if self.act is not None:
            h_BFE = h_BFE + self.act(actions.flatten(2).to(h_BFE.dtype))
        for layer in self.layers:
            h_BFE = h_BFE + layer(h_BFE)
        return h_BFE


class FramePrior(nn.Module):
    """Codes of the last frames and actions in, scores of the next frame's codes and features out."""

    def __init__(self, sizes: FrameSizes) -> None:
        """Make the MLP."""
        super().__init__()
        self.n_codes = sizes.n_codes
        self.reader = FrameReader(sizes, LAYERS)
        self.guess = nn.Linear(sizes.width, sizes.n_cells * sizes.n_codes)
        self.copied = nn.Parameter(torch.tensor(COPIED))

    def zero_scores(self) -> None:
        """Start from zero scores: the scores that they are added to stay the same."""
        for parameter in (*self.guess.parameters(), self.copied):
            nn.init.zeros_(parameter)

    def forward(self, past: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Predict frames.

        Args:
            past: Codes of the P frames before each, as ``FrameReader`` takes them.
            actions: The action that leads to each frame and those before.

        Returns:
            Scores (B, F, M, V) and features (B, F, E).
        """
        h_BFE = self.reader(past, actions)
        last_BFMV = functional.one_hot(past[:, :, 0], self.n_codes + 1)[..., :-1]
        scores_BFMV = self.guess(h_BFE).unflatten(-1, (past.shape[-1], self.n_codes))
        return scores_BFMV + self.copied * last_BFMV, h_BFE


class RewardHead(nn.Module):
    """Codes of a frame and of those before in, reward of arriving at the frame out."""

    def __init__(self, sizes: FrameSizes) -> None:
        """Make the MLP; untrained, it predicts 0."""
        super().__init__()
        self.reader = FrameReader(sizes, REWARD_LAYERS)
        self.reward = nn.Linear(sizes.width, 1)
        for parameter in self.reward.parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: Tensor, actions: Tensor) -> Tensor:
        """Predict the rewards of given frames.

        Args:
            frames: Each frame's codes and those of the frames before, as ``FrameReader`` takes them.
            actions: The actions that led to them.

        Returns:
            Rewards (B, F), in the unit that they are learned in.
        """
        rewards_BF: Tensor = self.reward(self.reader(frames, actions)).squeeze(-1)
        return rewards_BF


class FramePriorTraining(nn.Module):
    """Training of the frame prior and reward head without their transformer."""

    def __init__(self, parts: Iterable[nn.Module], loss: Callable[[Batch, torch.Generator | None], Losses]) -> None:
        """Put them together.

        Args:
            parts: Modules to train.
            loss: Loss of the dynamics that contain them; the dynamics are not a submodule.
        """
        super().__init__()
        self.parts, self._loss = nn.ModuleList(parts), loss

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Losses of the frame prior and reward head; ``batch`` has codes, actions and perhaps rewards."""
        return self._loss(batch, generator)


def frames_before(rows: Tensor, unknown: int | float) -> Tensor:
    """Give each of F frames (B, F, ...) the P rows before it, the last one first: (B, F + 1, P, ...), unknown at first.

    The last row is for the next frame.
    """
    padded = torch.cat([rows.new_full((len(rows), PAST, *rows.shape[2:]), unknown), rows], 1)
    n = rows.shape[1] + 1
    return torch.stack([padded[:, PAST - 1 - i :][:, :n] for i in range(PAST)], 2)


def _layer(width: int) -> nn.Sequential:
    inner = WIDENING * width
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Dropout(2 * DROPPED), nn.Linear(inner, width),
        nn.Dropout(DROPPED),
    )  # fmt: skip
