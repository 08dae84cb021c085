"""Small models in iVideoGPT's published layout, with random weights: a tokenizer's folder and a transformer's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

TOKENIZER: dict[str, Any] = {
    "_class_name": "CompressiveVQModel",
    "act_fn": "silu",
    "block_out_channels": [32, 64],
    "context_length": 2,
    "in_channels": 3,
    "latent_channels": 8,
    "layers_per_block": 1,
    "max_att_resolution": 8,
    "mid_block_add_attention": False,
    "norm_num_groups": 8,
    "norm_type": "group",
    "num_dyn_embeddings": 12,
    "num_vq_embeddings": 20,
    "out_channels": 3,
    "patch_size": 4,
    "resolution": 16,
    "vq_embed_dim": None,
}
TRANSFORMER: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.1,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 512,
    "model_type": "llama",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 34,
}


def frame_net(prefix: str, inputs: int, outputs: int, widths: list[int], n_layers: int, is_up: bool) -> dict[str, Any]:
    """Shapes of an encoder or a decoder, by their published names."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int) -> None:
        shapes[f"{prefix}.{name}.weight"], shapes[f"{prefix}.{name}.bias"] = shape, shape[:1]

    def resnet(name: str, i: int, o: int) -> None:
        add(f"{name}.norm1", i), add(f"{name}.conv1", o, i, 3, 3), add(f"{name}.norm2", o)
        add(f"{name}.conv2", o, o, 3, 3)
        if i != o:
            add(f"{name}.conv_shortcut", o, i, 1, 1)

    add("conv_in", widths[0], inputs, 3, 3)
    kind, move = ("up_blocks", "upsamplers") if is_up else ("down_blocks", "downsamplers")
    for b, (i, o) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True)):
        for n in range(n_layers + is_up):
            resnet(f"{kind}.{b}.resnets.{n}", i if n == 0 else o, o)
        if b < len(widths) - 1:
            add(f"{kind}.{b}.{move}.0.conv", o, o, 3, 3)
    middle = widths[0] if is_up else widths[-1]
    resnet("mid_block.resnets.0", middle, middle), resnet("mid_block.resnets.1", middle, middle)
    if prefix.startswith("cond"):
        add("mid_block.attentions.0.group_norm", middle)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            add(f"mid_block.attentions.0.{name}", middle, middle)
    add("conv_norm_out", widths[-1]), add("conv_out", outputs, widths[-1], 3, 3)
    return shapes


def cross_attention(prefix: str, channels: int, places: int, context: int) -> dict[str, Any]:
    """Shapes of one attention to the context."""
    sizes = {f"{norm}.{key}": (channels,) for norm in ("kv_norm", "q_norm") for key in ("weight", "bias")}
    sizes |= {"kv_pos_emb": (context * places, channels), "q_pos_emb": (places, channels)}
    sizes |= {"att.in_proj_weight": (3 * channels, channels), "att.in_proj_bias": (3 * channels,)}
    sizes |= {"att.out_proj.weight": (channels, channels), "att.out_proj.bias": (channels,)}
    return {f"{prefix}.{name}": shape for name, shape in sizes.items()}


def tokenizer_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tokenizer above: both blocks put out maps of 8x8, which attend."""
    latent, flat = 8, 4 * 4 * 8
    shapes: dict[str, Any] = {}
    for kind in ("", "cond_"):
        shapes |= frame_net(f"{kind}encoder", 3, latent, [32, 64], 1, is_up=False)
        shapes |= frame_net(f"{kind}decoder", latent, 3, [64, 32], 1, is_up=True)
    for n, channels in enumerate((32, 64)):
        shapes |= cross_attention(f"cond_encoder.cross_att_blocks.{n}", channels, 64, 2)
    shapes |= cross_attention("cond_decoder.cross_att_blocks.0", 64, 64, 2)
    for name, shape in {
        "quant_conv": (latent, latent, 1, 1),
        "post_quant_conv": (latent, latent, 1, 1),
        "quant_linear": (latent, flat),
        "post_quant_linear": (flat, latent),
    }.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {**shapes, "quantize.embedding.weight": (20, latent), "dynamics_quantize.embedding.weight": (12, latent)}


def transformer_shapes(action_dim: int = 0, has_rewards: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the transformer above."""
    prefix, d, f = "llm." if action_dim or has_rewards else "", 16, 24
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (34, d),
        "model.norm.weight": (d,),
        "lm_head.weight": (34, d),
    }
    for i in range(2):
        for name in "qkvo":
            shapes[f"model.layers.{i}.self_attn.{name}_proj.weight"] = (d, d)
        for name, shape in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f))):
            shapes[f"model.layers.{i}.mlp.{name}_proj.weight"] = shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{i}.{name}.weight"] = (d,)
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if action_dim:
        shapes |= {"action_linear.weight": (d, action_dim), "action_linear.bias": (d,)}
    if has_rewards:
        shapes |= {"reward_linear.weight": (1, d), "reward_linear.bias": (1,)}
    return shapes


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Make every tensor random; gains of norms lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 25
        weights[name] = torch.randn(shape, generator=generator) * fan_in**-0.5
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], name: str) -> Path:
    """Write a folder as it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / name)
    return folder


def write_tokenizer(folder: Path, **changed: Any) -> Path:
    """Write the tokenizer; fields of its config may be changed."""
    weights = random_weights(tokenizer_shapes())
    return write(folder, {**TOKENIZER, **changed}, weights, "diffusion_pytorch_model.safetensors")


def write_transformer(folder: Path, action_dim: int = 0, has_rewards: bool = False, **changed: Any) -> Path:
    """Write a transformer of its codes."""
    weights = random_weights(transformer_shapes(action_dim, has_rewards), seed=1)
    return write(folder, {**TRANSFORMER, **changed}, weights, "model.safetensors")
