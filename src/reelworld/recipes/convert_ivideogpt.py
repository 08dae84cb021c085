"""iVideoGPT's published checkpoints -> a world: names, shapes, hyper-parameters.

    reelworld import ivideogpt --tokenizer DIR --transformer DIR --out worlds/robot

A tokenizer's folder holds ``config.json`` and ``diffusion_pytorch_model.safetensors``, a transformer's ``config.json``
and ``model.safetensors``. What the configs do not say is read off the shapes, and both must agree.

Source: thuml/iVideoGPT (MIT), whose names of tensors and fields these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, isqrt
from pathlib import Path
from typing import TYPE_CHECKING

from reelworld.recipes.convert_ivideogpt_names import published_tokenizer, published_transformer
from reelworld.types import UserError
from reelworld.worlds.inert_pickle import brief

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelworld.dynamics.slot_transformer import SlotTransformer, SlotTransformerConfig
    from reelworld.nn.llama import LlamaConfig
    from reelworld.tokenizers.conditional_vqgan import ConditionalVQGAN, ConditionalVQGANConfig
    from reelworld.worlds.foreign_checkpoint import ForeignCheckpoint
    from reelworld.worlds.foreign_model import ForeignModel
    from reelworld.worlds.world import World

__all__ = ["import_world", "load_tokenizer", "load_transformer"]


def load_tokenizer(checkpoint: ForeignCheckpoint) -> ConditionalVQGAN:
    """Make the tokenizer of a checkpoint.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    from reelworld.tokenizers.conditional_vqgan import ConditionalVQGAN
    from reelworld.worlds.foreign_model import ForeignModel

    model = ForeignModel.of(checkpoint)
    if "quant_linear.weight" not in model.tensors:
        raise model.error("holds no tokenizer of iVideoGPT: it lacks the tensor quant_linear.weight.")
    config = _tokenizer_config(model)
    tokenizer: ConditionalVQGAN = model.fill(lambda: ConditionalVQGAN(config), published_tokenizer)
    return tokenizer


def _tokenizer_config(model: ForeignModel) -> ConditionalVQGANConfig:
    """Read sizes off the weights and compare them with what is said."""
    from reelworld.tokenizers.conditional_vqgan import ConditionalVQGANConfig

    said = model.said.get("block_out_channels")
    if not isinstance(said, list) or not said or not all(type(n) is int and 0 < n < 1 << 16 for n in said):
        raise model.error(f"says {brief(said)} for block_out_channels; wanted the channels of each block.")
    n_blocks, resolution = model.count(r"encoder\.down_blocks\.(\d+)\."), model.number("resolution", 256)
    if n_blocks != len(said):
        raise model.error(f"says {len(said)} block_out_channels; its weights have {n_blocks} blocks.")
    side = resolution >> (n_blocks - 1)
    places = model.shape("cond_decoder.cross_att_blocks.0.kv_pos_emb", 2)[0]
    if not side or places % (side * side):
        raise model.error(
            f"says resolution {resolution} with {n_blocks} blocks; its attention has {places} places, no multiple of "
            f"{side}x{side}: the two do not belong together."
        )
    context_codes, code_width = model.shape("quantize.embedding.weight", 2)
    frame_codes = model.shape("dynamics_quantize.embedding.weight", 2)[0]
    latent = model.shape("post_quant_conv.weight", 4)[0]
    patch = isqrt(model.shape("quant_linear.weight", 2)[1] // latent)
    model.agree(
        num_vq_embeddings=context_codes,
        num_dyn_embeddings=frame_codes,
        latent_channels=latent,
        vq_embed_dim=code_width,
        patch_size=patch,
        context_length=places // (side * side),
        layers_per_block=model.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        mid_block_add_attention="encoder.mid_block.attentions.0.to_q.weight" in model.tensors,
        in_channels=3,
        out_channels=3,
        act_fn="silu",
        norm_type="group",
    )
    try:
        return ConditionalVQGANConfig(
            height=resolution,
            width=resolution,
            context_frames=places // (side * side),
            channels=tuple(said),
            layers=model.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
            latent=latent,
            code_width=code_width,
            context_codes=context_codes,
            frame_codes=frame_codes,
            patch=patch,
            groups=model.number("norm_num_groups", 32),
            attends_in_middle="encoder.mid_block.attentions.0.to_q.weight" in model.tensors,
            largest_attention=model.number("max_att_resolution", 32),
        )
    except UserError as error:
        raise model.error(f"is no tokenizer that can be built: {error}") from None


# ------------------------------------------------------------------ the transformer

LLM = "llm."
"""What stands before the names of a transformer that has heads for actions or rewards."""
ACTION = "action_linear."


def load_transformer(
    checkpoint: ForeignCheckpoint, tokenizer: ConditionalVQGANConfig, frames: int = 0, action_dim: int = 0
) -> SlotTransformer:
    """Make the dynamics of a checkpoint.

    Args:
        checkpoint: With or without heads for actions and rewards.
        tokenizer: Config of the tokenizer whose codes it learned.
        frames: Of a window, context included; 0 takes 16, as published, or as many as there are places for.
        action_dim: Numbers of an action. A transformer that was trained without actions gets a new head for them,
            which says nothing until it is trained. 0 takes what the checkpoint has.

    Raises:
        UserError: If it holds none, contradicts itself, or does not fit the tokenizer or the numbers that are given.
    """
    from reelworld.dynamics.slot_transformer import SlotTransformer
    from reelworld.worlds.foreign_model import ForeignModel

    model = _with_prefix(ForeignModel.of(checkpoint), action_dim > 0)
    if not any(name.endswith("model.embed_tokens.weight") for name in model.tensors):
        raise model.error("holds no transformer of iVideoGPT: it lacks the tensor model.embed_tokens.weight.")
    config = _transformer_config(model, tokenizer, frames, action_dim)
    is_new = f"{ACTION}weight" not in model.tensors

    def names(part: nn.Module) -> Mapping[str, Tensor]:
        """Leave out heads that the file cannot have."""
        return {k: v for k, v in published_transformer(part).items() if not (is_new and k.startswith(ACTION))}

    dynamics: SlotTransformer = model.fill(lambda: SlotTransformer(config), names)
    return dynamics


def _with_prefix(model: ForeignModel, has_heads: bool) -> ForeignModel:
    """Name the tensors of a bare transformer as those of one with heads, where it is to get some."""
    if not has_heads or any(name.startswith(LLM) for name in model.tensors):
        return model
    return replace(model, tensors={LLM + name: tensor for name, tensor in model.tensors.items()})


def _transformer_config(
    model: ForeignModel, tokenizer: ConditionalVQGANConfig, frames: int, action_dim: int
) -> SlotTransformerConfig:
    from reelworld.dynamics.sequence_layout import SequenceLayout
    from reelworld.dynamics.slot_transformer import SlotTransformerConfig
    from reelworld.types import ActionSpec

    stack, grids = _llama_config(model), tokenizer.grids()
    layout = SequenceLayout.of(grids["context"], grids["video"], tokenizer.context_frames)
    _check_vocabulary(model, layout.vocabulary, tokenizer)
    has_actions = f"{ACTION}weight" in model.tensors
    found = model.shape(f"{ACTION}weight", 2)[1] if has_actions else action_dim
    if has_actions and action_dim not in (0, found):
        raise model.error(f"takes actions of {found} numbers; {action_dim} were asked for: leave out --action-dim.")
    try:
        return SlotTransformerConfig(
            grid=grids["video"],
            context_grid=grids["context"],
            context_frames=tokenizer.context_frames,
            frames=frames or max(tokenizer.context_frames + 1, min(FRAMES, layout.frames(stack.places))),
            actions={"action": ActionSpec(kind="continuous", n=found)} if found else {},
            transformer=stack,
            has_rewards="reward_linear.weight" in model.tensors,
            recall_weight=1.0 if "action_recon_linear.weight" in model.tensors else 0.0,
        )
    except UserError as error:
        raise model.error(f"cannot be used like this: {error}") from None


FRAMES = 16
"""Frames of the clips that most published models were trained on."""


def _check_vocabulary(model: ForeignModel, wanted: int, tokenizer: ConditionalVQGANConfig) -> None:
    """Refuse a transformer of other codes."""
    prefix = LLM if any(name.startswith(LLM) for name in model.tensors) else ""
    found = model.shape(f"{prefix}model.embed_tokens.weight", 2)[0]
    model.agree(vocab_size=found)
    if found != wanted:
        raise model.error(
            f"has a vocabulary of {found:,}; this tokenizer's {tokenizer.context_codes:,} + {tokenizer.frame_codes:,} "
            f"codes and two slots make {wanted:,}: the two do not belong together."
        )


def _llama_config(model: ForeignModel) -> LlamaConfig:
    from reelworld.nn.llama import LlamaConfig

    prefix = LLM if any(name.startswith(LLM) for name in model.tensors) else ""
    width = model.shape(f"{prefix}model.embed_tokens.weight", 2)[1]
    inner = model.shape(f"{prefix}model.layers.0.mlp.down_proj.weight", 2)[1]
    layers, heads = model.count(rf"{prefix}model\.layers\.(\d+)\."), model.number("num_attention_heads")
    model.agree(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_key_value_heads=heads,
        hidden_act="silu",
        attention_bias=False,
        tie_word_embeddings=False,
        model_type="llama",
    )
    if model.said.get("rope_scaling") is not None:
        raise model.error("says that its positions are scaled (rope_scaling); wanted null.")
    if not heads or width % (2 * heads):
        raise model.error(f"says num_attention_heads {heads}; its width of {width} is no multiple of twice that.")
    return LlamaConfig(
        width=width,
        inner=inner,
        layers=layers,
        heads=heads,
        places=model.number("max_position_embeddings"),
        dropout=model.share("attention_dropout", 0.0),
        base=_above_0(model, "rope_theta", 10_000.0),
        epsilon=_above_0(model, "rms_norm_eps", 1e-6),
    )


def _above_0(model: ForeignModel, name: str, default: float) -> float:
    """Return a number above 0 that may be said."""
    value = model.said.get(name, default)
    if type(value) not in (int, float) or not 0 < value < inf:
        raise model.error(f"says {brief(value)} for {name}; wanted a number above 0.")
    return float(value)


# ------------------------------------------------------------------ the world


def import_world(tokenizer: Path, transformer: Path, action_dim: int = 0, frames: int = 0, context: int = 0) -> World:
    """Read a tokenizer and the transformer of its codes and make a world of them.

    Args:
        tokenizer: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``.
        transformer: Folder with ``config.json`` and ``model.safetensors``.
        action_dim: See ``load_transformer``.
        frames: See ``load_transformer``.
        context: Context frames; 0 takes those of the tokenizer.

    Returns:
        A world that draws as published: temperature 1 among the 100 likeliest codes. Its provenance names the files
        with their hashes, what is new or was changed, and what the files do not tell.

    Raises:
        UserError: If a folder holds no such model, or the two do not belong together.
    """
    from reelworld.tokenizers.conditional_vqgan import with_context
    from reelworld.worlds.fitting import check_parts
    from reelworld.worlds.foreign_checkpoint import read_folder

    files = {"tokenizer": read_folder(tokenizer), "transformer": read_folder(transformer)}
    coder = load_tokenizer(files["tokenizer"])
    learned = coder.config.context_frames
    if context and context != learned:
        coder = with_context(coder, context)
    dynamics = load_transformer(files["transformer"], coder.config, frames, action_dim)
    world = _world(coder, dynamics, files, _changes(dynamics, files["transformer"], learned))
    check_parts(world, str(transformer))
    return world


def _changes(dynamics: SlotTransformer, file: ForeignCheckpoint, learned: int) -> list[str]:
    """Say what the world has that the files do not."""
    changes, n_context = [], dynamics.config.context_frames
    if dynamics.action is not None and f"{ACTION}weight" not in file.state_dict:
        n = dynamics.action_vector.width
        changes.append(f"the head for actions of {n} numbers is new: actions do nothing until it is trained")
    if n_context != learned:
        how = "the positions of the last are kept" if n_context < learned else "the first one's positions are repeated"
        changes.append(f"the context has {n_context} frames instead of {learned}: {how}; train on for good pictures")
    return changes


def _world(
    tokenizer: ConditionalVQGAN, dynamics: SlotTransformer, files: dict[str, ForeignCheckpoint], changes: list[str]
) -> World:
    from reelworld.data.folder import DataInfo
    from reelworld.generate.samplers import SamplerConfig
    from reelworld.worlds.making import make_world, with_origin

    shape, config = tokenizer.config, dynamics.config
    fields = {
        "fit": "stretch",  # the published loader resizes to a square
        "context_frames": shape.context_frames,
        "clip_frames": config.frames,
        "actions": "given" if config.actions else "none",
        "rewards": config.has_rewards,
    }
    world = make_world(
        "ivideogpt",
        fields,
        {"tokenizer": tokenizer, "dynamics": dynamics},
        DataInfo(height=shape.height, width=shape.width),
        actions=config.actions,
        context_frames=shape.context_frames,
        sampler=SamplerConfig(top_k=100),
    )
    unknown = ["frames per second", "ranges of the actions", "training data and splits", "clips to start from"]
    name = files["transformer"].path.absolute().parent
    world = with_origin(world, name.parent.name or name.name, files, unknown)
    world.info = replace(world.info, provenance={**world.info.provenance, "changes": changes})
    return world
