"""1xgpt's published dynamics (``STMaskGIT``, the models GENIE_35M and GENIE_138M) -> a world of codes.

    reelworld import genie-1x GENIE_138M --out worlds/genie

The folder holds ``config.json`` and the weights. What the config does not say is read off the shapes, and both must
agree. The tokenizer, MAGVIT2, is not in it: such a world continues and scores codes.

Source: 1x-technologies/1xgpt, genie/ (Apache-2.0), whose names of tensors and fields these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isqrt, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.types import UserError
from reelworld.worlds.inert_pickle import brief

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelworld.dynamics.maskgit import MaskGIT, MaskGITConfig
    from reelworld.worlds.foreign_checkpoint import ForeignCheckpoint
    from reelworld.worlds.foreign_model import ForeignModel
    from reelworld.worlds.world import World

__all__ = ["import_world", "load_dynamics", "published"]

MUP_BASE_WIDTH = 256
"""Width that the published code scales from (``set_mup_shapes``)."""
SPACE_STRIDE = 16
"""Pixels per token of MAGVIT2, along each side."""
LARGEST_WINDOW = 1 << 20
"""Codes of a window; published models have 4,096."""


# ------------------------------------------------------------------ names


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


# ------------------------------------------------------------------ what a checkpoint says


def load_dynamics(checkpoint: ForeignCheckpoint) -> MaskGIT:
    """Make the dynamics of a checkpoint.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    from reelworld.dynamics.maskgit import MaskGIT
    from reelworld.worlds.foreign_model import ForeignModel

    model = ForeignModel.of(checkpoint)
    config = _config(model)
    dynamics: MaskGIT = model.fill(lambda: MaskGIT(config()), published)
    return dynamics


def _config(model: ForeignModel) -> Callable[[], MaskGITConfig]:
    """Read sizes off the weights and compare them with what is said."""
    one, frames, tokens, width = model.shape("pos_embed_TSC", 4)
    side = isqrt(tokens)
    if one != 1 or side * side != tokens or frames * tokens > LARGEST_WINDOW:
        raise model.error(
            f"has positions of shape {(one, frames, tokens, width)}; wanted 1 x frames x a square number of tokens x "
            f"width, at most {LARGEST_WINDOW:,} tokens."
        )
    n_factors = model.count(r"token_embed\.factored_embeds\.(\d+)\.weight$")
    factors = tuple(model.shape(f"token_embed.factored_embeds.{k}.weight", 2)[0] for k in range(n_factors))
    if not factors:
        raise model.error("lacks the tensor token_embed.factored_embeds.0.weight; it is no STMaskGIT of 1xgpt.")
    layers = model.count(r"decoder\.layers\.(\d+)\.")
    model.agree(T=frames, S=tokens, d_model=width, num_layers=layers, num_factored_vocabs=n_factors)
    model.agree(
        image_vocab_size=prod(factors), **({"factored_vocab_size": factors[0]} if len(set(factors)) == 1 else {})
    )
    rates = {
        "corrupt_rate": model.share("max_corrupt_rate", 0.2, may_be_one=True),
        "rollout_share": model.share("non_mlm_ratio", 0.5, may_be_one=True),
        "prompt_frames": max(1, model.number("num_prompt_frames", 8)),
    }
    stack = {"width": width, "layers": layers, "rows": side, "columns": side, "window": frames, **_stack(model, width)}
    return lambda: _maskgit_config(factors, stack, rates)


def _maskgit_config(factors: tuple[int, ...], stack: dict[str, Any], rates: dict[str, Any]) -> MaskGITConfig:
    from reelworld.dynamics.maskgit import MaskGITConfig
    from reelworld.dynamics.masking import CosineMasking
    from reelworld.nn.st_transformer import STConfig
    from reelworld.types import GridSpec

    prompt = rates["prompt_frames"]
    return MaskGITConfig(
        grid=GridSpec(rows=stack["rows"], columns=stack["columns"], codebook_size=prod(factors)),
        actions={},
        transformer=STConfig(time="none", space="none", **stack),
        factors=factors,
        masking=CosineMasking(**rates),
        positions="table",
        kept_frames=prompt if prompt < stack["window"] else 0,
        has_outcomes=False,
        mup_base_width=MUP_BASE_WIDTH if stack["is_mup"] else 0,
    )


def _stack(model: ForeignModel, width: int) -> dict[str, Any]:
    """Say how the blocks are made: which parts there are shows in the names."""
    first = "decoder.layers.0"
    there = {
        "qkv_bias": f"{first}.temporal_attn.qkv.bias" in model.tensors,
        "proj_bias": f"{first}.temporal_attn.proj.bias" in model.tensors,
        "mlp_bias": f"{first}.mlp.fc1.bias" in model.tensors,
        "qk_norm": f"{first}.temporal_attn.norm.weight" in model.tensors,
    }
    model.agree(**there)
    heads, inside = model.number("num_heads"), model.shape(f"{first}.mlp.fc1.weight", 2)[0]
    if not heads or width % heads:
        raise model.error(f"says num_heads {heads}; its width of {width} is no multiple of that.")
    if there["qk_norm"] and (found := model.shape(f"{first}.temporal_attn.norm.weight", 1)[0]) != width // heads:
        raise model.error(f"says num_heads {heads}; its heads are {found} wide, which makes {width // found} of them.")
    ratio = model.said.get("mlp_ratio", inside / width)
    if type(ratio) not in (int, float) or int(width * ratio) != inside:
        raise model.error(f"says mlp_ratio {brief(ratio)}; its weights have {inside} of {width}.")
    return {
        **there,
        "heads": heads,
        "mlp_ratio": float(ratio),
        "norms": "none" if there["qk_norm"] else "no_time",
        "dropout": model.share("mlp_drop", 0.0),
        "is_mup": model.flag("use_mup", False),
    }


# ------------------------------------------------------------------ the world


def import_world(folder: Path) -> World:
    """Read the published layout and make a world of codes.

    Args:
        folder: With ``config.json`` and ``model.safetensors``, ``state_dict.safetensors`` or ``pytorch_model.bin``.

    Returns:
        A world without pictures that decodes as published: two passes, the likeliest codes, in random order.

    Raises:
        UserError: If the folder holds no such model, or its parts contradict each other.
    """
    from reelworld.worlds.fitting import check_parts
    from reelworld.worlds.foreign_checkpoint import read_folder

    checkpoint = read_folder(folder)
    if "pos_embed_TSC" not in checkpoint.state_dict:
        raise UserError(f"{checkpoint.path} holds no STMaskGIT of 1xgpt: it lacks the tensor pos_embed_TSC.")
    world = _world(load_dynamics(checkpoint), checkpoint)
    check_parts(world, str(folder))
    return world


def _world(dynamics: MaskGIT, checkpoint: ForeignCheckpoint) -> World:
    import reelworld
    from reelworld.data.folder import DataInfo
    from reelworld.generate.samplers import SamplerConfig
    from reelworld.tokenizers.absent import AbsentTokenizer, AbsentTokenizerConfig
    from reelworld.worlds.making import make_world
    from reelworld.worlds.parts import file_hash

    grid = dynamics.config.grid
    tokenizer = AbsentTokenizer(
        AbsentTokenizerConfig(
            rows=grid.rows,
            columns=grid.columns,
            codebook_size=grid.codebook_size,
            space_stride=SPACE_STRIDE,
            name="MAGVIT2 of 1x-technologies/1xgpt",
        )
    )
    world = make_world(
        "genie-1x",
        dynamics.config,
        {"tokenizer": tokenizer, "dynamics": dynamics},
        DataInfo(height=grid.rows * SPACE_STRIDE, width=grid.columns * SPACE_STRIDE),
        actions={},
        context_frames=dynamics.table.kept if dynamics.table else 1,
        sampler=SamplerConfig(steps=2, temperature=0.0, order="random"),
    )
    provenance = {
        "imported": {"dynamics": {"file": checkpoint.path.name, "sha256": file_hash(checkpoint.path)}},
        "names_passed_over": sorted(checkpoint.inert),
        "unknown": ["the tokenizer (MAGVIT2): no pictures", "frames per second", "training data and splits"],
        "config": world.info.provenance["config"],
        "versions": {"reelworld": reelworld.__version__},
    }
    world.info = replace(world.info, name=checkpoint.path.absolute().parent.name, provenance=provenance)
    return world
