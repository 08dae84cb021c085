"""1xgpt's published dynamics: their sizes, read off the weights and compared with what their config says.

Source: 1x-technologies/1xgpt, genie/ (Apache-2.0), whose fields these are.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import TYPE_CHECKING, Any

from reelworld.systems.genie.convert_names import published
from reelworld.worlds.pickle_check import brief

if TYPE_CHECKING:
    from reelworld.systems.genie.maskgit import MaskGIT, MaskGITConfig
    from reelworld.worlds.external_checkpoint import ExternalCheckpoint
    from reelworld.worlds.external_model import ExternalModel

__all__ = ["load_dynamics"]

MUP_BASE_WIDTH = 256
"""Width that the published code scales from (``set_mup_shapes``)."""
LARGEST_WINDOW = 1 << 20
"""Codes of a window; published models have 4,096."""


def load_dynamics(checkpoint: ExternalCheckpoint) -> MaskGIT:
    """Make the dynamics of a checkpoint.

    Raises:
        UserError: If it holds none, or its weights and its config contradict each other.
    """
    from reelworld.systems.genie.maskgit import MaskGIT
    from reelworld.worlds.external_model import ExternalModel

    model = ExternalModel.of(checkpoint)
    config = _config(model)
    dynamics: MaskGIT = model.fill(lambda: MaskGIT(config()), published)
    return dynamics


def _config(model: ExternalModel) -> Callable[[], MaskGITConfig]:
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
    from reelworld.models.maskgit import CosineMasking
    from reelworld.nn.spacetime import STConfig
    from reelworld.systems.genie.maskgit import MaskGITConfig
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


def _stack(model: ExternalModel, width: int) -> dict[str, Any]:
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
