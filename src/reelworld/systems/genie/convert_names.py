"""The names that 1xgpt's published dynamics give to what our parts hold.

Source: 1x-technologies/1xgpt, genie/ (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["published"]


def published(model: nn.Module, read: Callable[[Tensor], Tensor | None] = lambda tensor: tensor) -> dict[str, Tensor]:
    """Give the tensors of a model their published names.

    Args:
        model: A MaskGIT that ``load_dynamics`` made, or of such a config.
        read: What to take of each of our tensors; ``lambda p: p.grad`` gives gradients. Where it gives None, the
            name is left out.

    Returns:
        Published name -> a view of our tensor, without gradient tracking, that can be copied into.
    """
    found = ((name, read(tensor), is_row) for name, tensor, is_row in _names(model))
    return {name: t.detach()[None] if is_row else t.detach() for name, t, is_row in found if t is not None}


def _names(model: Any) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield published names, our tensors, and whether the published one has an axis of 1 before them."""
    yield "pos_embed_TSC", model.table.table, True
    yield "token_embed.mask_token_embed", model.embed.mask, True
    for k, table in enumerate(model.embed.tables):
        yield f"token_embed.factored_embeds.{k}.weight", table.weight, False
    for i, block in enumerate(model.transformer.blocks):
        layers = {"norm1": block.norm_space, "norm2": block.norm_mlp, "mlp.fc1": block.mlp[0], "mlp.fc2": block.mlp[3]}
        for kind, attention in (("spatial", block.space.heads), ("temporal", block.time.heads)):
            layers |= {f"{kind}_attn.qkv": attention.qkv, f"{kind}_attn.proj": attention.out}
            layers[f"{kind}_attn.norm"] = attention.norm
        for name, layer in layers.items():
            for key, tensor in layer.named_parameters():
                yield f"decoder.layers.{i}.{name}.{key}", tensor, False
    for key, tensor in model.head.named_parameters():
        yield f"out_x_proj.{key}", tensor, False
