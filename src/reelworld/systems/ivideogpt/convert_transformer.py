"""iVideoGPT's published transformer -> our dynamics, with or without heads for actions and rewards.

Source: thuml/iVideoGPT (MIT), whose names of tensors and fields these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from reelworld.systems.ivideogpt.convert_names import published_transformer
from reelworld.types import UserError
from reelworld.worlds.pickle_check import brief

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelworld.nn.llama import LlamaConfig
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGANConfig
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer, IVideoGPTTransformerConfig
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["ACTION", "load_transformer"]

LLM = "llm."
"""What stands before the names of a transformer that has heads for actions or rewards."""
ACTION = "action_linear."


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
            places for.
        action_dim: Numbers of an action. A transformer that was trained without actions gets a new head for them,
            which says nothing until it is trained. 0 takes what the checkpoint has.
        has_goal: Whether the first context frame was a goal; the checkpoint does not tell.

    Raises:
        UserError: If it holds none, contradicts itself, or does not fit the tokenizer or the numbers that are given.
    """
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
    from reelworld.worlds.external_model import ExternalModel

    model = _with_prefix(ExternalModel.of(checkpoint), action_dim > 0)
    if not any(name.endswith("model.embed_tokens.weight") for name in model.tensors):
        raise model.error("holds no transformer of iVideoGPT: it lacks the tensor model.embed_tokens.weight.")
    config = _transformer_config(model, tokenizer, frames, action_dim, has_goal)
    is_new = f"{ACTION}weight" not in model.tensors

    def names(part: nn.Module) -> Mapping[str, Tensor]:
        """Leave out heads that the file cannot have."""
        return {k: v for k, v in published_transformer(part).items() if not (is_new and k.startswith(ACTION))}

    dynamics: IVideoGPTTransformer = model.fill(lambda: IVideoGPTTransformer(config), names)
    return dynamics


def _with_prefix(model: ExternalModel, has_heads: bool) -> ExternalModel:
    """Name the tensors of a bare transformer as those of one with heads, where it is to get some."""
    if not has_heads or any(name.startswith(LLM) for name in model.tensors):
        return model
    return replace(model, tensors={LLM + name: tensor for name, tensor in model.tensors.items()})


def _transformer_config(
    model: ExternalModel, tokenizer: ContextVQGANConfig, frames: int, action_dim: int, has_goal: bool
) -> IVideoGPTTransformerConfig:
    from reelworld.systems.ivideogpt.token_layout import SequenceLayout
    from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformerConfig
    from reelworld.types import ActionSpec

    stack, grids = _llama_config(model), tokenizer.grids()
    layout = SequenceLayout.of(grids["context"], grids["video"], tokenizer.context_frames)
    _check_vocabulary(model, layout.vocabulary, tokenizer)
    has_actions = f"{ACTION}weight" in model.tensors
    found = model.shape(f"{ACTION}weight", 2)[1] if has_actions else action_dim
    if has_actions and action_dim not in (0, found):
        raise model.error(f"takes actions of {found} numbers; {action_dim} were asked for: leave out --action-dim.")
    try:
        return IVideoGPTTransformerConfig(
            grid=grids["video"],
            context_grid=grids["context"],
            context_frames=tokenizer.context_frames,
            frames=frames or max(tokenizer.context_frames + 1, min(FRAMES + has_goal, layout.frames(stack.places))),
            actions={"action": ActionSpec(kind="continuous", n=found)} if found else {},
            transformer=stack,
            has_goal=has_goal,
            has_rewards="reward_linear.weight" in model.tensors,
            recall_weight=1.0 if "action_recon_linear.weight" in model.tensors else 0.0,
        )
    except UserError as error:
        raise model.error(f"cannot be used like this: {error}") from None


FRAMES = 16
"""Frames of the clips that most published models were trained on."""


def _check_vocabulary(model: ExternalModel, wanted: int, tokenizer: ContextVQGANConfig) -> None:
    """Refuse a transformer of other codes."""
    prefix = LLM if any(name.startswith(LLM) for name in model.tensors) else ""
    found = model.shape(f"{prefix}model.embed_tokens.weight", 2)[0]
    model.agree(vocab_size=found)
    if found != wanted:
        raise model.error(
            f"has a vocabulary of {found:,}; this tokenizer's {tokenizer.context_codes:,} + {tokenizer.frame_codes:,} "
            f"codes and two slots make {wanted:,}: the two do not belong together."
        )


def _llama_config(model: ExternalModel) -> LlamaConfig:
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


def _above_0(model: ExternalModel, name: str, default: float) -> float:
    """Return a number above 0 that may be said."""
    value = model.said.get(name, default)
    if type(value) not in (int, float) or not 0 < value < inf:
        raise model.error(f"says {brief(value)} for {name}; wanted a number above 0.")
    return float(value)
