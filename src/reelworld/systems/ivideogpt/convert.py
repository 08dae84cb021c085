"""iVideoGPT's published checkpoints -> a world.

    reelworld import ivideogpt --tokenizer DIR --transformer DIR --out worlds/robot

A tokenizer's folder holds ``config.json`` and ``diffusion_pytorch_model.safetensors``, a transformer's ``config.json``
and ``model.safetensors``. Sizes that the configs do not give are read from the shapes, and both must agree.

Source: thuml/iVideoGPT (MIT), whose names of tensors and fields these are; diffusers and transformers name most layers.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from pathlib import Path

from reelworld.data.episodes import DataInfo
from reelworld.models.samplers import SamplerConfig
from reelworld.nn.decoder import LlamaConfig
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig, with_context
from reelworld.systems.ivideogpt.token_layout import TokenLayout
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer, IVideoGPTTransformerConfig
from reelworld.types import ActionSpec, UserError
from reelworld.worlds.assemble import make_world, with_origin
from reelworld.worlds.external_checkpoint import ExternalCheckpoint, read_folder
from reelworld.worlds.external_model import ExternalModel
from reelworld.worlds.importer import describe_file, describe_size
from reelworld.worlds.pickle_check import brief
from reelworld.worlds.state_dict_adapter import Row, StateDictAdapter
from reelworld.worlds.world import World

LLM = "llm."
"""Prefix of the names in a transformer that has heads for actions or rewards."""
ACTION = "action_linear."
FRAMES = 16
"""Frames of the clips that most published models were trained on."""
TOKENIZER_NAMES = StateDictAdapter(
    Row("quantize.embedding.weight", "context_codebook.vectors"),
    Row("dynamics_quantize.embedding.weight", "frame_codebook.vectors"),
    Row((), "{frames}_codebook.{rest}"),  # statistics of use
    Row("{net}.cross_att_blocks.{i}.att.in_proj{rest}", "{net}.cross_att_blocks.{i}.in_proj{rest}"),
    Row("{net}.cross_att_blocks.{i}.att.out_proj{rest}", "{net}.cross_att_blocks.{i}.out_proj{rest}"),
    Row("cond_{net}.{rest}", "cond_{net}.net.{rest}"),
    Row("{rest}", "{rest}"),
)


def transformer_names(has_heads: bool, has_published_action: bool = True) -> StateDictAdapter:
    """Return the table of a transformer.

    Args:
        has_heads: True for one with heads for actions or rewards.
        has_published_action: False leaves out our head for actions, which is new.
    """
    llm = LLM if has_heads else ""
    layer, ours = f"{llm}model.layers.{{i}}", "transformer.blocks.{i}"
    return StateDictAdapter(
        Row(f"{llm}model.embed_tokens.weight", "embed.weight"),
        Row(tuple(f"{layer}.self_attn.{name}_proj.weight" for name in "qkv"), f"{ours}.attention.qkv.weight"),
        Row(f"{layer}.self_attn.o_proj.weight", f"{ours}.attention.out.weight"),
        Row((f"{layer}.mlp.gate_proj.weight", f"{layer}.mlp.up_proj.weight"), f"{ours}.mlp.gate_up.weight"),
        Row(f"{layer}.mlp.down_proj.weight", f"{ours}.mlp.down.weight"),
        Row(f"{layer}.input_layernorm.weight", f"{ours}.norm_attention.weight"),
        Row(f"{layer}.post_attention_layernorm.weight", f"{ours}.norm_mlp.weight"),
        Row(f"{llm}model.norm.weight", "transformer.norm.weight"),
        Row(f"{llm}lm_head.weight", "head.weight"),
        Row(f"{ACTION}{{key}}" if has_published_action else (), "action.{key}"),
        Row("reward_linear.{key}", "reward.{key}"),
        Row("action_recon_linear.{key}", "recall.{key}"),
        Row((), "reward_scale"),
    )


# ------------------------------------------------------------------ the world


def import_world(
    tokenizer: Path, transformer: Path, action_dim: int = 0, frames: int = 0, context: int = 0, has_goal: bool = False
) -> World:
    """Read a tokenizer and the transformer of its codes and make a world of them.

    Args:
        tokenizer: Folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``.
        transformer: Folder with ``config.json`` and ``model.safetensors``.
        action_dim: See ``load_transformer``.
        frames: See ``load_transformer``.
        context: Context frames; 0 takes those of the tokenizer.
        has_goal: True if the first of them was a goal.

    Returns:
        A world that draws as published: temperature 1 among the 100 likeliest codes. Its provenance names the files
        with their hashes, the parts that are new or were changed, and the facts that the files do not hold.

    Raises:
        UserError: If a folder holds no such model, or the two do not belong together.
    """
    files = {"tokenizer": read_folder(tokenizer), "transformer": read_folder(transformer)}
    coder = load_tokenizer(files["tokenizer"])
    learned = coder.config.context_frames
    if context and context != learned:
        coder = with_context(coder, context)
    dynamics = load_transformer(files["transformer"], coder.config, frames, action_dim, has_goal)
    shape, config = coder.config, dynamics.config
    fields = {
        "fit": "stretch",  # the published loader resizes to a square
        "context_frames": shape.context_frames,
        "clip_frames": config.frames,
        "actions": "given" if config.actions else "none",
        "rewards": config.has_rewards,
        "goal": config.has_goal,
    }
    world = make_world(
        "ivideogpt",
        fields,
        {"tokenizer": coder, "dynamics": dynamics},
        DataInfo(height=shape.height, width=shape.width),
        actions=config.actions,
        context_frames=shape.context_frames - config.has_goal,
        sampler=SamplerConfig(top_k=100),
    )
    unknown = ["frames per second", "ranges of the actions", "training data and splits", "clips to start from"]
    name = files["transformer"].path.absolute().parent
    world = with_origin(world, name.parent.name or name.name, files, unknown)
    changes = _changes(dynamics, files["transformer"], learned)
    world.info = replace(world.info, provenance={**world.info.provenance, "changes": changes})
    return world


def describe(world: World) -> dict[str, str]:
    """Describe an imported world as rows of a table."""
    tokenizer, transformer = world.parts["tokenizer"], world.parts["dynamics"]
    assert isinstance(tokenizer, ContextVQGAN) and isinstance(transformer, IVideoGPTTransformer)
    dynamics, stack = transformer.config, transformer.config.transformer
    grids = [f"{g.rows}x{g.columns} of {g.codebook_size:,}" for g in (dynamics.context_grid, dynamics.grid)]
    numbers = sum(spec.n for spec in dynamics.actions.values())
    notes = world.info.provenance["changes"]
    return {
        "tokenizer": f"{describe_file(world.info, 'tokenizer')}, {describe_size(tokenizer)}",
        "transformer": f"{describe_file(world.info, 'transformer')}, {describe_size(transformer)}",
        "frames": f"{tokenizer.config.height}x{tokenizer.config.width} pixels; frame rate unknown",
        "codes": f"{grids[0]} per context frame, {grids[1]} per later frame",
        "window": f"{dynamics.frames} frames, {dynamics.context_frames} of them context"
        + (", the first of which is the goal" if dynamics.has_goal else ""),
        "model": f"{stack.width} wide, {stack.heads} heads, {stack.layers} layers, {stack.places} positions",
        "conditioned on": f"actions of {numbers} numbers" if numbers else "no actions",
        "predicts": "frames and rewards" if dynamics.has_rewards else "frames",
        **({"note": "; ".join(notes)} if notes else {}),
    }


def _changes(dynamics: IVideoGPTTransformer, file: ExternalCheckpoint, learned: int) -> list[str]:
    """Return the properties of the world that are not in the files."""
    changes, n_context = [], dynamics.config.context_frames
    if dynamics.action is not None and f"{ACTION}weight" not in file.state_dict:
        n = dynamics.action_vector.width
        changes.append(f"the head for actions of {n} numbers is new: actions do nothing until it is trained")
    if n_context != learned:
        how = "the positions of the last are kept" if n_context < learned else "the first one's positions are repeated"
        changes.append(f"the context has {n_context} frames instead of {learned}: {how}; train on for good pictures")
    return changes


# ------------------------------------------------------------------ the tokenizer


def load_tokenizer(checkpoint: ExternalCheckpoint) -> ContextVQGAN:
    """Make the tokenizer of a checkpoint.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    model = ExternalModel.of(checkpoint)
    if "quant_linear.weight" not in model.tensors:
        raise model.error("holds no tokenizer of iVideoGPT: it lacks the tensor quant_linear.weight.")
    config = _tokenizer_config(model)
    return model.fill(lambda: ContextVQGAN(config), TOKENIZER_NAMES.published)


def _tokenizer_config(model: ExternalModel) -> ContextVQGANConfig:
    """Read sizes from the weights and compare them with the config."""
    said = model.hyper_parameters.get("block_out_channels")
    if not isinstance(said, list) or not said or not all(type(n) is int and 0 < n < 1 << 16 for n in said):
        raise model.error(f"says {brief(said)} for block_out_channels; wanted the channels of each block.")
    n_blocks, resolution = model.count(r"encoder\.down_blocks\.(\d+)\."), model.number("resolution", 256)
    if n_blocks != len(said):
        raise model.error(f"says {len(said)} block_out_channels; its weights have {n_blocks} blocks.")
    side = resolution >> (n_blocks - 1)
    places = model.shape("cond_decoder.cross_att_blocks.0.kv_pos_emb", 2)[0]
    if not side or places % (side * side):
        raise model.error(
            f"says resolution {resolution} with {n_blocks} blocks; its attention has {places} positions, no multiple "
            f"of {side}x{side}: the two do not belong together."
        )
    context_codes, code_width = model.shape("quantize.embedding.weight", 2)
    frame_codes = model.shape("dynamics_quantize.embedding.weight", 2)[0]
    latent = model.shape("post_quant_conv.weight", 4)[0]
    patch = isqrt(model.shape("quant_linear.weight", 2)[1] // latent)
    context_frames = places // (side * side)
    layers = model.count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")
    attends_in_middle = "encoder.mid_block.attentions.0.to_q.weight" in model.tensors
    model.agree(
        num_vq_embeddings=context_codes,
        num_dyn_embeddings=frame_codes,
        latent_channels=latent,
        vq_embed_dim=code_width,
        patch_size=patch,
        context_length=context_frames,
        layers_per_block=layers,
        mid_block_add_attention=attends_in_middle,
        in_channels=3,
        out_channels=3,
        act_fn="silu",
        norm_type="group",
    )
    try:
        return ContextVQGANConfig(
            height=resolution,
            width=resolution,
            context_frames=context_frames,
            channels=tuple(said),
            layers=layers,
            latent=latent,
            code_width=code_width,
            context_codes=context_codes,
            frame_codes=frame_codes,
            patch=patch,
            groups=model.number("norm_num_groups", 32),
            attends_in_middle=attends_in_middle,
            max_attention_resolution=model.number("max_att_resolution", 32),
        )
    except UserError as error:
        raise model.error(f"is no tokenizer that can be built: {error}") from None


# ------------------------------------------------------------------ the transformer


def load_transformer(
    checkpoint: ExternalCheckpoint,
    tokenizer: ContextVQGANConfig,
    frames: int = 0,
    action_dim: int = 0,
    has_goal: bool = False,
) -> IVideoGPTTransformer:
    """Make the dynamics of a checkpoint.

    Args:
        checkpoint: With or without heads for actions and rewards.
        tokenizer: Config of the tokenizer whose codes it learned.
        frames: Of a window, context included; 0 takes 16, or 17 with a goal, as published, or as many as there are
            positions for.
        action_dim: Numbers of an action. A transformer that was trained without actions gets a new head for them,
            which has no effect until it is trained. 0 takes those of the checkpoint.
        has_goal: True if the first context frame was a goal; the checkpoint does not say so.

    Raises:
        UserError: If it holds none, contradicts itself, or does not fit the tokenizer or the numbers that are given.
    """
    model = ExternalModel.of(checkpoint)
    if action_dim and not any(name.startswith(LLM) for name in model.tensors):
        # a bare transformer gets the names of one with heads
        model = replace(model, tensors={LLM + name: tensor for name, tensor in model.tensors.items()})
    if not any(name.endswith("model.embed_tokens.weight") for name in model.tensors):
        raise model.error("holds no transformer of iVideoGPT: it lacks the tensor model.embed_tokens.weight.")
    has_heads = any(name.startswith(LLM) for name in model.tensors)
    has_actions = f"{ACTION}weight" in model.tensors
    stack = _llama_config(model, LLM if has_heads else "")
    grids = tokenizer.grids()
    layout = TokenLayout.of(grids["context"], grids["video"], tokenizer.context_frames)
    _check_vocabulary(model, LLM if has_heads else "", layout.vocabulary, tokenizer)
    found = model.shape(f"{ACTION}weight", 2)[1] if has_actions else action_dim
    if has_actions and action_dim not in (0, found):
        raise model.error(f"takes actions of {found} numbers; {action_dim} were asked for: leave out --action-dim.")
    try:
        config = IVideoGPTTransformerConfig(
            grid=grids["video"],
            context_grid=grids["context"],
            context_frames=tokenizer.context_frames,
            frames=frames or max(tokenizer.context_frames + 1, min(FRAMES + has_goal, layout.frames(stack.places))),
            actions={"action": ActionSpec(kind="continuous", n=found)} if found else {},
            transformer=stack,
            has_goal=has_goal,
            has_rewards="reward_linear.weight" in model.tensors,
            action_recon_weight=1.0 if "action_recon_linear.weight" in model.tensors else 0.0,
        )
    except UserError as error:
        raise model.error(f"cannot be used like this: {error}") from None
    names = transformer_names(bool(config.actions) or config.has_rewards, has_published_action=has_actions)
    return model.fill(lambda: IVideoGPTTransformer(config), names.published)


def _check_vocabulary(model: ExternalModel, llm: str, wanted: int, tokenizer: ContextVQGANConfig) -> None:
    """Refuse a transformer of other codes."""
    found = model.shape(f"{llm}model.embed_tokens.weight", 2)[0]
    model.agree(vocab_size=found)
    if found != wanted:
        raise model.error(
            f"has a vocabulary of {found:,}; this tokenizer's {tokenizer.context_codes:,} + {tokenizer.frame_codes:,} "
            f"codes and two slots make {wanted:,}: the two do not belong together."
        )


def _llama_config(model: ExternalModel, llm: str) -> LlamaConfig:
    width = model.shape(f"{llm}model.embed_tokens.weight", 2)[1]
    inner = model.shape(f"{llm}model.layers.0.mlp.down_proj.weight", 2)[1]
    layers, heads = model.count(rf"{llm}model\.layers\.(\d+)\."), model.number("num_attention_heads")
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
    if model.hyper_parameters.get("rope_scaling") is not None:
        raise model.error("says that its positions are scaled (rope_scaling); wanted null.")
    if not heads or width % (2 * heads):
        raise model.error(f"says num_attention_heads {heads}; its width of {width} is no multiple of twice that.")
    return LlamaConfig(
        width=width,
        inner=inner,
        layers=layers,
        heads=heads,
        places=model.number("max_position_embeddings"),
        dropout=model.fraction("attention_dropout", 0.0),
        base=model.positive("rope_theta", 10_000.0),
        epsilon=model.positive("rms_norm_eps", 1e-6),
    )
