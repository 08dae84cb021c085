"""The names that iVideoGPT's published checkpoints give to what our parts hold.

Source: thuml/iVideoGPT (MIT), whose names of tensors these are; diffusers and transformers name most of the layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["published_tokenizer"]

Read = Callable[["Tensor"], "Tensor | None"]


def itself(tensor: Tensor) -> Tensor:
    """Return what came."""
    return tensor


TOKENIZER = (
    (r"^(cond_\w+)\.net\.", r"\1."),
    (r"(cross_att_blocks\.\d+)\.(in_proj|out_proj)", r"\1.att.\2"),
    (r"^context_codebook\.vectors$", "quantize.embedding.weight"),
    (r"^frame_codebook\.vectors$", "dynamics_quantize.embedding.weight"),
)
"""Our names -> published ones; all others are the same."""


def published_tokenizer(model: nn.Module, read: Read = itself) -> dict[str, Tensor]:
    """Give the tensors of a ConditionalVQGAN their published names.

    Args:
        model: The tokenizer.
        read: What to take of each of our tensors; ``lambda p: p.grad`` gives gradients. Where it gives None, the
            name is left out.

    Returns:
        Published name -> our tensor, without gradient tracking, that can be copied into.
    """
    named = {}
    for name, tensor in model.named_parameters():
        for ours, theirs in TOKENIZER:
            name = re.sub(ours, theirs, name)
        found = read(tensor)
        if found is not None:
            named[name] = found.detach()
    return named
