"""The names that VideoGPT's published checkpoints give to what our parts hold.

The published attention keeps queries, keys and values in three matrices, ours in one; gains and biases of classes lie
transposed. Both are views, so that copying into a name fills our part.

Source: the authors' code and checkpoints of Yan et al. 2021 (arXiv:2104.10157).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelworld.nn.transformer import CrossAttention, SelfAttention
    from reelworld.systems.videogpt.conditioning_resnet import FrameNet

    Entry = tuple[str, Tensor, Callable[[Tensor], Tensor]]
    """Published name, our tensor, and which part of it that is."""

__all__ = ["published"]


def published(module: nn.Module, read: Callable[[Tensor], Tensor | None] = lambda tensor: tensor) -> dict[str, Tensor]:
    """Give a part's tensors their published names.

    Args:
        module: A VQVAE3D or an AutoregressivePrior.
        read: What to take of each of our tensors; ``lambda p: p.grad`` gives gradients. Where it gives None, the
            name is left out.

    Returns:
        Published name -> a view of our tensor, without gradient tracking, that can be copied into. The masks of full
        attention, which the published prior saves, are not among them: ours are made, not stored.
    """
    from reelworld.systems.videogpt.vqvae import VQVAE3D

    entries = _vqvae_names(module) if isinstance(module, VQVAE3D) else _prior_names(module)
    found = ((name, read(tensor), cut) for name, tensor, cut in entries)
    return {name: cut(tensor.detach()) for name, tensor, cut in found if tensor is not None}


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _third(i: int, tensor: Tensor) -> Tensor:
    return tensor.chunk(3)[i]


def _layer(name: str, layer: nn.Module) -> Iterator[Entry]:
    for key, tensor in layer.state_dict(keep_vars=True).items():
        yield f"{name}.{key}", tensor, _whole


def _vqvae_names(model: Any) -> Iterator[Entry]:
    for i, conv in enumerate(model.encoder.down):
        yield from _layer(f"encoder.convs.{i}.conv", conv)
    yield from _layer("encoder.conv_last.conv", model.encoder.last)
    yield from _residual_names("encoder.res_stack", model.encoder.residuals)
    yield from _layer("pre_vq_conv.conv", model.before)
    for name, tensor in (("embeddings", "vectors"), ("N", "counts"), ("z_avg", "sums")):
        yield f"codebook.{name}", getattr(model.codebook, tensor), _whole
    yield from _layer("post_vq_conv.conv", model.after)
    yield from _residual_names("decoder.res_stack", model.decoder.residuals)
    for i, conv in enumerate(model.decoder.up):
        yield from _layer(f"decoder.convts.{i}.convt", conv)


def _residual_names(name: str, stack: Any) -> Iterator[Entry]:
    *blocks, norm, _ = stack
    for i, block in enumerate(blocks):
        for j in (0, 3, 6):
            yield from _layer(f"{name}.{i}.block.{j}", block.block[j])
        for j in (2, 5):
            yield from _layer(f"{name}.{i}.block.{j}.conv", block.block[j])
        for axis, attention in (("w", "columns"), ("h", "rows"), ("t", "frames")):
            yield from _attention_names(f"{name}.{i}.block.8.attn_{axis}", getattr(block.block[8], attention))
    yield from _layer(f"{name}.{len(blocks)}", norm)


def _attention_names(name: str, attention: SelfAttention) -> Iterator[Entry]:
    for i, key in enumerate(("w_qs", "w_ks", "w_vs")):
        yield f"{name}.{key}.weight", attention.qkv.weight, partial(_third, i)
    yield from _layer(f"{name}.fc", attention.out)


def _cross_attention_names(name: str, attention: CrossAttention) -> Iterator[Entry]:
    yield from _layer(f"{name}.w_qs", attention.query)
    yield f"{name}.w_ks.weight", attention.key_value.weight, lambda tensor: tensor[: attention.width]
    yield f"{name}.w_vs.weight", attention.key_value.weight, lambda tensor: tensor[attention.width :]
    yield from _layer(f"{name}.fc", attention.out)


def _norm_names(name: str, norm: Any) -> Iterator[Entry]:
    from reelworld.nn.transformer import ClassNorm

    if isinstance(norm, ClassNorm):
        yield f"{name}.w.weight", norm.gain.weight, lambda tensor: tensor.t()
        yield f"{name}.wb.weight", norm.bias.weight, lambda tensor: tensor.t()
    else:
        yield f"{name}.g", norm.gain, _whole
        yield f"{name}.b", norm.bias, _whole


def _prior_names(model: Any) -> Iterator[Entry]:
    yield from _layer("fc_in", model.embed)
    yield "attn_stack.right_shift.sos", model.start, _whole
    for i, table in enumerate(model.positions.tables):
        yield f"attn_stack.pos_embd.emb.d_{i}", table, _whole
    for i, block in enumerate(model.blocks):
        name = f"attn_stack.attn_nets.{i}"
        yield from _norm_names(f"{name}.pre_attn_norm", block.norm_attention)
        yield from _attention_names(f"{name}.attn", block.attention)
        if block.frames is not None:
            yield from _norm_names(f"{name}.pre_enc_norm", block.norm_frames)
            yield from _cross_attention_names(f"{name}.enc_attn", block.frames)
        yield from _norm_names(f"{name}.pre_fc_norm", block.norm_mlp)
        for j in (0, 2):
            yield from _layer(f"{name}.fc_block.{j}", block.mlp[j])
    yield from _norm_names("norm", model.norm)
    yield from _layer("fc_out", model.head)
    if model.frame_net is not None:
        yield from _frame_net_names(model.frame_net)
        for i, table in enumerate(model.frame_positions.tables):
            yield f"cond_pos_embd.emb.d_{i}", table, _whole


def _frame_net_names(net: FrameNet) -> Iterator[Entry]:
    yield from _layer("resnet.stem.0", net.stem[0])
    yield from _layer("resnet.stem.1.norm.norm", net.stem[1])
    for i, group in enumerate(net.groups):
        blocks: Any = group
        for j, block in enumerate(blocks):
            name = f"resnet.group{i + 1}." + (f"blocks.{j - 1}" if j else "start_block")
            for k in (1, 2):
                yield from _layer(f"{name}.conv{k}", getattr(block, f"conv{k}"))
                yield from _layer(f"{name}.bnr{k}.norm.norm", getattr(block, f"norm{k}"))
            if j == 0:
                yield from _layer(f"{name}.proj_conv", block.shortcut[0])
                yield from _layer(f"{name}.proj_bnr.norm.norm", block.shortcut[1])
