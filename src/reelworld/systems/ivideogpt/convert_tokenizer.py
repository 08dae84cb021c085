"""iVideoGPT's published tokenizer -> ours: sizes read off the weights and compared with what the config says.

Source: thuml/iVideoGPT (MIT), whose names of tensors and fields these are.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from reelworld.systems.ivideogpt.convert_names import published_tokenizer
from reelworld.types import UserError
from reelworld.worlds.pickle_check import brief

if TYPE_CHECKING:
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, ContextVQGANConfig
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["load_tokenizer"]


def load_tokenizer(checkpoint: ExternalCheckpoint) -> ContextVQGAN:
    """Make the tokenizer of a checkpoint.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
    from reelworld.worlds.external_model import ExternalModel

    model = ExternalModel.of(checkpoint)
    if "quant_linear.weight" not in model.tensors:
        raise model.error("holds no tokenizer of iVideoGPT: it lacks the tensor quant_linear.weight.")
    config = _tokenizer_config(model)
    tokenizer: ContextVQGAN = model.fill(lambda: ContextVQGAN(config), published_tokenizer)
    return tokenizer


def _tokenizer_config(model: ExternalModel) -> ContextVQGANConfig:
    """Read sizes off the weights and compare them with what is said."""
    from reelworld.systems.ivideogpt.context_vqgan import ContextVQGANConfig

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
        return ContextVQGANConfig(
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
