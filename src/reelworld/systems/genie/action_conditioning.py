"""Action conditioning of a spacetime transformer: add, prepend a token, concatenate, or FiLM.

All four map frame embeddings and one vector per frame to the transformer's input. Published systems disagree on the
best one (Genie adds, its reproductions prepend or concatenate), so it is configurable.

Source: adding: Bruce et al. 2024 (arXiv:2402.15391), section 2.1; a token of its own: Jasmine (arXiv:2510.27002);
concatenation: GenieRedux (arXiv:2409.06445); scale and shift: FiLM (arXiv:1709.07871), section 2, in each block's
feed-forward.

Shapes: B batch, T frames, S tokens per frame, D width, A width of an action's vector, L layers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

Conditioning = Literal["add", "prepend", "concat", "film"]
INIT_STD = 0.02


class Conditioned(NamedTuple):
    """Input of a spacetime transformer."""

    x: Tensor
    """Embeddings, (B, T, S, D); one token more per frame if the action is prepended."""
    film: Tensor | None = None
    """Scales and shifts per layer, (B, T, L, 2, D)."""


class ActionConditioning(Protocol):
    """Conditions the transformer's input on actions."""

    def __call__(self, x: Tensor, action: Tensor) -> Conditioned:
        """Condition frames (B, T, S, D) on their actions (B, T, A)."""
        ...

    def strip(self, x: Tensor) -> Tensor:
        """Remove added tokens from the output (B, T, S, D)."""
        ...


class _NoToken(nn.Module):
    """No token is added."""

    def strip(self, x: Tensor) -> Tensor:
        """Leave it as it is."""
        return x


class NoAction(_NoToken):
    """Unconditional: worlds without actions."""

    def forward(self, x: Tensor, action: Tensor) -> Conditioned:
        """Change nothing."""
        return Conditioned(x)


class AddAction(_NoToken):
    """The projected action is added to every token of its frame."""

    def __init__(self, width: int, action_width: int, layers: int) -> None:
        super().__init__()
        self.project = nn.Linear(action_width, width)

    def forward(self, x: Tensor, action: Tensor) -> Conditioned:
        """Add it."""
        return Conditioned(x + self.project(action).unsqueeze(2))


class PrependAction(nn.Module):
    """The projected action is a token of its own before those of its frame."""

    def __init__(self, width: int, action_width: int, layers: int) -> None:
        super().__init__()
        self.project = nn.Linear(action_width, width)

    def forward(self, x: Tensor, action: Tensor) -> Conditioned:
        """Prepend it to the frame's tokens."""
        return Conditioned(torch.cat([self.project(action).unsqueeze(2).to(x.dtype), x], 2))

    def strip(self, x: Tensor) -> Tensor:
        """Remove it."""
        return x[:, :, 1:]


class ConcatAction(_NoToken):
    """The action is concatenated to every token's channels, and one matrix mixes both."""

    def __init__(self, width: int, action_width: int, layers: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width + action_width, width)
        with torch.no_grad():  # tokens pass unchanged at the start
            self.mix.weight[:, :width].copy_(torch.eye(width))
            nn.init.normal_(self.mix.weight[:, width:], std=action_width**-0.5)
            nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor, action: Tensor) -> Conditioned:
        """Mix it into all tokens."""
        beside = action.unsqueeze(2).expand(-1, -1, x.shape[2], -1).to(x.dtype)
        return Conditioned(self.mix(torch.cat([x, beside], -1)))


class FiLMAction(_NoToken):
    """The action scales and shifts what each block's feed-forward reads."""

    def __init__(self, width: int, action_width: int, layers: int) -> None:
        super().__init__()
        self.shape = (layers, 2, width)
        self.project = nn.Linear(action_width, 2 * layers * width)
        # not zero: the action must have an effect from the first step on
        nn.init.normal_(self.project.weight, std=INIT_STD)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, action: Tensor) -> Conditioned:
        """Leave tokens as they are; make scales and shifts."""
        return Conditioned(x, self.project(action).unflatten(-1, self.shape))


CONDITIONINGS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "add": AddAction,
    "prepend": PrependAction,
    "concat": ConcatAction,
    "film": FiLMAction,
}


def action_conditioning(kind: Conditioning, width: int, action_width: int, layers: int) -> ActionConditioning:
    """Make an action conditioning.

    Args:
        kind: Kind of conditioning.
        width: D.
        action_width: A.
        layers: L of the transformer.
    """
    return cast(ActionConditioning, CONDITIONINGS[kind](width, action_width, layers))


def leading_actions(actions: Tensor, first: Tensor) -> Tensor:
    """Move actions to the frames they lead to.

    Args:
        actions: Vectors of the actions taken after each frame but the last, (B, T - 1, A).
        first: Vector of the unknown action that led to the first frame, (A,).

    Returns:
        Vectors of the actions that led to each frame, (B, T, A).
    """
    return torch.cat([first.to(actions.dtype).expand(actions.shape[0], 1, -1), actions], 1)
