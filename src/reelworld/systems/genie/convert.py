"""1xgpt's published dynamics (``STMaskGIT``, the models GENIE_35M and GENIE_138M) -> a world of codes.

    reelworld import genie-1x GENIE_138M --out worlds/genie

The folder holds ``config.json`` and the weights. Sizes that the config does not give are read from the shapes, and both
must agree. The tokenizer, MAGVIT2, is not included: such a world continues and scores codes.

Source: 1x-technologies/1xgpt, genie/ (Apache-2.0), whose names of tensors and fields these are.
"""

from __future__ import annotations

from math import isqrt, prod
from pathlib import Path
from typing import Any

from reelworld.data.episodes import DataInfo
from reelworld.models.samplers import SamplerConfig
from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
from reelworld.systems.genie.masking import CosineMasking
from reelworld.systems.genie.missing_tokenizer import MissingTokenizer, MissingTokenizerConfig
from reelworld.systems.genie.spacetime import STConfig
from reelworld.types import GridSpec, UserError
from reelworld.worlds.assemble import make_world, with_origin
from reelworld.worlds.external_checkpoint import ExternalCheckpoint, read_folder
from reelworld.worlds.external_model import ExternalModel
from reelworld.worlds.importer import describe_file, describe_size
from reelworld.worlds.pickle_check import brief
from reelworld.worlds.state_dict_adapter import Row, StateDictAdapter, with_leading_axis
from reelworld.worlds.world import World

SPACE_STRIDE = 16
"""Pixels per token of MAGVIT2, along each side."""
MUP_BASE_WIDTH = 256
"""Width that the published code scales from (``set_mup_shapes``)."""
LARGEST_WINDOW = 1 << 20
"""Codes of a window; published models have 4,096."""
NAMES = StateDictAdapter(
    Row("pos_embed_TSC", "table.table", with_leading_axis),
    Row("token_embed.mask_token_embed", "embed.mask", with_leading_axis),
    Row("token_embed.factored_embeds.{k}.weight", "embed.tables.{k}.weight"),
    Row("decoder.layers.{i}.norm1.{key}", "transformer.blocks.{i}.norm_space.{key}"),
    Row("decoder.layers.{i}.norm2.{key}", "transformer.blocks.{i}.norm_mlp.{key}"),
    Row("decoder.layers.{i}.mlp.fc1.{key}", "transformer.blocks.{i}.mlp.0.{key}"),
    Row("decoder.layers.{i}.mlp.fc2.{key}", "transformer.blocks.{i}.mlp.3.{key}"),
    Row("decoder.layers.{i}.spatial_attn.proj.{key}", "transformer.blocks.{i}.space.heads.out.{key}"),
    Row("decoder.layers.{i}.spatial_attn.{rest}", "transformer.blocks.{i}.space.heads.{rest}"),
    Row("decoder.layers.{i}.temporal_attn.proj.{key}", "transformer.blocks.{i}.time.heads.out.{key}"),
    Row("decoder.layers.{i}.temporal_attn.{rest}", "transformer.blocks.{i}.time.heads.{rest}"),
    Row("out_x_proj.{key}", "head.{key}"),
    Row((), "reward_scale"),
)


def import_world(folder: Path) -> World:
    """Read the published layout and make a world of codes.

    Args:
        folder: With ``config.json`` and ``model.safetensors``, ``state_dict.safetensors`` or ``pytorch_model.bin``.

    Returns:
        A world without pixels that decodes as published: two passes, the likeliest codes, in random order.

    Raises:
        UserError: If the folder holds no such model, or its parts contradict each other.
    """
    checkpoint = read_folder(folder)
    if "pos_embed_TSC" not in checkpoint.state_dict:
        raise UserError(f"{checkpoint.path} holds no STMaskGIT of 1xgpt: it lacks the tensor pos_embed_TSC.")
    dynamics = load_dynamics(checkpoint)
    grid = dynamics.config.grid
    tokenizer = MissingTokenizer(
        MissingTokenizerConfig(
            rows=grid.rows,
            columns=grid.columns,
            codebook_size=grid.codebook_size,
            space_stride=SPACE_STRIDE,
            name="MAGVIT2 of 1x-technologies/1xgpt",
        )
    )
    world = make_world(
        "genie",
        dynamics.config,
        {"tokenizer": tokenizer, "dynamics": dynamics},
        DataInfo(height=grid.rows * SPACE_STRIDE, width=grid.columns * SPACE_STRIDE),
        actions={},
        context_frames=dynamics.table.kept if dynamics.table else 1,
        sampler=SamplerConfig(steps=2, temperature=0.0, order="random"),
    )
    unknown = ["the tokenizer (MAGVIT2): no pictures", "frames per second", "training data and splits"]
    return with_origin(world, checkpoint.path.absolute().parent.name, {"dynamics": checkpoint}, unknown)


def describe(world: World) -> dict[str, str]:
    """Describe an imported world as rows of a table."""
    tokenizer, dynamics = world.parts["tokenizer"], world.parts["dynamics"]
    assert isinstance(tokenizer, MissingTokenizer) and isinstance(dynamics, MaskGIT)
    config, stack = dynamics.config, dynamics.config.transformer
    return {
        "dynamics": describe_file(world.info, "dynamics"),
        "tokenizer": f"{tokenizer.config.name}, not part of it: no pictures",
        "codes": f"{config.grid.rows}x{config.grid.columns} per frame, {config.grid.codebook_size:,} codes as "
        f"{' x '.join(map(str, config.sizes))}; frame rate unknown",
        "model": f"{stack.width} wide, {stack.heads} heads, {stack.layers} layers, {describe_size(dynamics)}",
        "window": f"{stack.window} frames; a longer run begins a full window anew with its last "
        f"{dynamics.table.kept if dynamics.table else 1}",
    }


def load_dynamics(checkpoint: ExternalCheckpoint) -> MaskGIT:
    """Make the dynamics of a checkpoint: sizes from the weights, compared with the config.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    model = ExternalModel.of(checkpoint)
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
    masking = CosineMasking(
        corrupt_rate=model.fraction("max_corrupt_rate", 0.2, may_be_one=True),
        rollout_share=model.fraction("non_mlm_ratio", 0.5, may_be_one=True),
        prompt_frames=max(1, model.number("num_prompt_frames", 8)),
    )
    sizes: dict[str, Any] = {"width": width, "layers": layers, "rows": side, "columns": side, "window": frames}
    parts, is_mup = _parts(model, width), model.flag("use_mup", False)

    def build() -> MaskGIT:
        config = MaskGITConfig(
            grid=GridSpec(rows=side, columns=side, codebook_size=prod(factors)),
            actions={},
            transformer=STConfig(time="none", space="none", is_mup=is_mup, **sizes, **parts),
            factors=factors,
            masking=masking,
            positions="table",
            kept_frames=masking.prompt_frames if masking.prompt_frames < frames else 0,
            has_outcomes=False,
            mup_base_width=MUP_BASE_WIDTH if is_mup else 0,
        )
        return MaskGIT(config)

    return model.fill(build, NAMES.published)


def _parts(model: ExternalModel, width: int) -> dict[str, Any]:
    """Read the structure of the blocks from the names of the tensors."""
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
    ratio = model.hyper_parameters.get("mlp_ratio", inside / width)
    if not isinstance(ratio, int | float) or int(width * ratio) != inside:
        raise model.error(f"says mlp_ratio {brief(ratio)}; its weights have {inside} of {width}.")
    return {
        **there,
        "heads": heads,
        "mlp_ratio": float(ratio),
        "norms": "none" if there["qk_norm"] else "no_time",
        "dropout": model.fraction("mlp_drop", 0.0),
    }
