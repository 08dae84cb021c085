"""A draft of a whole frame at once, before its codes are drawn one after the other.

A perceptron reads the codes of the frames before, each with a vector of its own for every cell, and the actions
between them; it guesses every code of the next frame, none in the light of the others. A transformer over single codes
adds its own scores, and with them what the codes of one frame have to do with each other. A frame costs the perceptron
a fraction of what its codes cost a transformer, so that it sees many more of them in the same time. It learns first,
and stays as it is while the transformer learns, whose few clips it would learn by heart.

Source: ours. Related: Gloeckle et al. 2024 (arXiv:2404.19737), several tokens foretold at once from one state.

Shapes: B clips, F later frames, P frames that are read, M codes of a frame, A numbers of all actions of a step,
  E width, V codes of the codebook
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.types import Batch, Losses

__all__ = ["DraftTraining", "FrameDraft", "frames_before"]

PAST = 2
"""P: from two frames one can see how things move."""
LAYERS = 3
WIDENING = 2
DROPPED = 0.1
"""Share of what is read, and of what each layer adds, that training drops; twice that inside the layers."""
COPIED = 2.0
"""Score that the code of the frame before has from the beginning: most things stay."""


class FrameDraft(nn.Module):
    """Codes of the last frames and actions in; scores of the next frame's codes, and what they are read off, out."""

    def __init__(self, n_cells: int, n_codes: int, n_numbers: int, width: int) -> None:
        """Make the perceptron.

        Args:
            n_cells: M.
            n_codes: V.
            n_numbers: A, 0 without actions.
            width: E.
        """
        super().__init__()
        self.n_codes = n_codes
        n_entries = PAST * n_cells * (n_codes + 1)  # one more: nothing is known of this frame
        self.read = nn.Embedding(n_entries, width)
        self.act = nn.Linear(PAST * n_numbers, width) if n_numbers else None
        self.drop = nn.Dropout(DROPPED)
        self.layers = nn.ModuleList(_layer(width) for _ in range(LAYERS))
        self.guess = nn.Linear(width, n_cells * n_codes)
        self.copied = nn.Parameter(torch.tensor(COPIED))
        nn.init.normal_(self.read.weight, std=(PAST * n_cells) ** -0.5)
        self.first_entry: Tensor
        self.register_buffer("first_entry", torch.arange(PAST * n_cells) * (n_codes + 1), persistent=False)

    def be_silent(self) -> None:
        """Say nothing until it has learned: what it is added to goes on as it was."""
        for parameter in (*self.guess.parameters(), self.copied):
            nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> FrameDraft:
        """Enter training mode, unless it no longer learns: then nothing is dropped."""
        return super().train(mode and self.copied.requires_grad)

    def forward(self, past: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Guess frames.

        Args:
            past: Codes of the P frames before each, the last one first, int64 (B, F, P, M); V where none are known.
            actions: The numbers of the action that leads to each frame and of those before, (B, F, P, A).

        Returns:
            Scores (B, F, M, V) and features (B, F, E).
        """
        entries_BFN = past.flatten(2) + self.first_entry
        h_BFE = self.drop(self.read(entries_BFN)).sum(2)
        if self.act is not None:
            h_BFE = h_BFE + self.act(actions.flatten(2).to(h_BFE.dtype))
        for layer in self.layers:
            h_BFE = h_BFE + layer(h_BFE)
        last_BFMV = functional.one_hot(past[:, :, 0], self.n_codes + 1)[..., :-1]
        scores_BFMV = self.guess(h_BFE).unflatten(-1, (past.shape[-1], self.n_codes))
        return scores_BFMV + self.copied * last_BFMV, h_BFE


class DraftTraining(nn.Module):
    """A draft in training, without the transformer that it is for."""

    def __init__(self, draft: FrameDraft, loss: Callable[[Batch, torch.Generator | None], Losses]) -> None:
        """Put both together.

        Args:
            draft: What learns.
            loss: Of the dynamics that the draft is part of, which are no part of this module.
        """
        super().__init__()
        self.draft, self._loss = draft, loss

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Nats per code of a later frame, as the dynamics measure their drafts; ``batch`` has codes and actions."""
        return self._loss(batch, generator)


def frames_before(rows: Tensor, unknown: int | float) -> Tensor:
    """Give each of F frames (B, F, ...) the P rows before it, the last one first: (B, F + 1, P, ...), unknown at first.

    The row behind the last frame is that of the frame to come.
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
