"""The names that iVideoGPT's published checkpoints give to what our parts hold.

Source: thuml/iVideoGPT (MIT), whose names of tensors these are; diffusers and transformers name most of the layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["published_tokenizer", "published_transformer"]

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
    """Give the tensors of a ContextVQGAN their published names.

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


def published_transformer(model: Any, read: Read = itself) -> dict[str, Tensor]:
    """Give the tensors of a IVideoGPTTransformer their published names.

    Args:
        model: The dynamics.
        read: As above.

    Returns:
        As above; what is one matrix here and several there are views of it.
    """
    has_heads = model.action is not None or model.reward is not None
    found = ((name, read(tensor), part) for name, tensor, part in _transformer(model, "llm." if has_heads else ""))
    return {name: of_part(t.detach(), part) for name, t, part in found if t is not None}


def of_part(tensor: Tensor, part: tuple[int, int]) -> Tensor:
    """Cut out one of n equal groups of rows."""
    return tensor.chunk(part[1])[part[0]]


WHOLE = (0, 1)


def _transformer(model: Any, prefix: str) -> Iterator[tuple[str, Tensor, tuple[int, int]]]:
    """Yield published names, our tensors, and which of how many equal parts of them it is."""
    yield f"{prefix}model.embed_tokens.weight", model.embed.weight, WHOLE
    for i, block in enumerate(model.transformer.blocks):
        layer = f"{prefix}model.layers.{i}."
        for k, name in enumerate("qkv"):
            yield f"{layer}self_attn.{name}_proj.weight", block.attention.qkv.weight, (k, 3)
        for k, name in enumerate(("gate", "up")):
            yield f"{layer}mlp.{name}_proj.weight", block.gate_up.weight, (k, 2)
        yield f"{layer}self_attn.o_proj.weight", block.attention.out.weight, WHOLE
        yield f"{layer}mlp.down_proj.weight", block.down.weight, WHOLE
        yield f"{layer}input_layernorm.weight", block.norm_attention.weight, WHOLE
        yield f"{layer}post_attention_layernorm.weight", block.norm_mlp.weight, WHOLE
    yield f"{prefix}model.norm.weight", model.transformer.norm.weight, WHOLE
    yield f"{prefix}lm_head.weight", model.head.weight, WHOLE
    heads = {"action_linear": model.action, "reward_linear": model.reward, "action_recon_linear": model.recall}
    for name, head in heads.items():
        if head is not None:
            for key, tensor in head.named_parameters():
                yield f"{name}.{key}", tensor, WHOLE
