"""Models in 1xgpt's layout with random weights, and what they compute, written plainly from its description.

Nothing of our models is used here: importing a folder and comparing with ``logits`` compares two programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

BASE: dict[str, Any] = {
    "num_layers": 2,
    "num_heads": 2,
    "d_model": 16,
    "T": 3,
    "S": 9,
    "image_vocab_size": 36,
    "use_mup": False,
    "num_factored_vocabs": 2,
    "factored_vocab_size": 6,
    "max_corrupt_rate": 0.2,
    "non_mlm_ratio": 0.5,
    "num_prompt_frames": 2,
    "qkv_bias": False,
    "proj_bias": True,
    "attn_drop": 0.0,
    "qk_norm": False,
    "mlp_ratio": 4.0,
    "mlp_drop": 0.0,
    "mlp_bias": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "qk-norm": {"qk_norm": True},
    "biases": {"qkv_bias": True, "proj_bias": False, "mlp_bias": False, "mlp_ratio": 2.5},
    "one-factor": {"num_factored_vocabs": 1, "factored_vocab_size": 11, "image_vocab_size": 11},
    "three-factors": {"num_factored_vocabs": 3, "factored_vocab_size": 4, "image_vocab_size": 64, "T": 5, "S": 4},
    "mup": {"use_mup": True, "num_layers": 1, "num_heads": 4},
}
"""Fields that differ from BASE."""


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published tensors."""
    d, n, v = config["d_model"], config["num_factored_vocabs"], config["factored_vocab_size"]
    inside = int(d * config["mlp_ratio"])
    found: dict[str, tuple[int, ...]] = {
        "pos_embed_TSC": (1, config["T"], config["S"], d),
        "token_embed.mask_token_embed": (1, d),
        **{f"token_embed.factored_embeds.{k}.weight": (v, d) for k in range(n)},
        "out_x_proj.weight": (n * v, d),
        "out_x_proj.bias": (n * v,),
    }
    for i in range(config["num_layers"]):
        layer = f"decoder.layers.{i}."
        for kind in ("spatial_attn", "temporal_attn"):
            found[f"{layer}{kind}.qkv.weight"], found[f"{layer}{kind}.proj.weight"] = (3 * d, d), (d, d)
            found |= {f"{layer}{kind}.qkv.bias": (3 * d,)} if config["qkv_bias"] else {}
            found |= {f"{layer}{kind}.proj.bias": (d,)} if config["proj_bias"] else {}
            if config["qk_norm"]:
                found |= {f"{layer}{kind}.norm.{p}": (d // config["num_heads"],) for p in ("weight", "bias")}
        if not config["qk_norm"]:
            found |= {f"{layer}{norm}.{p}": (d,) for norm in ("norm1", "norm2") for p in ("weight", "bias")}
        found[f"{layer}mlp.fc1.weight"], found[f"{layer}mlp.fc2.weight"] = (inside, d), (d, inside)
        if config["mlp_bias"]:
            found |= {f"{layer}mlp.fc1.bias": (inside,), f"{layer}mlp.fc2.bias": (d,)}
    return found


def random_weights(config: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Make every tensor random, norms too."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(config).items():
        is_matrix = name.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight"))
        std = 0.7 * shape[-1] ** -0.5 if is_matrix else 0.5
        if name.startswith("out_x_proj"):  # logits of trained models, not certainty
            std *= config["d_model"] / 256 if config["use_mup"] else 1
        weights[name] = std * torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def write_folder(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], kind: str = "model") -> Path:
    """Write config.json and the weights: "model" or "state_dict" (safetensors), or "bin" (a pickle)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    if kind == "bin":
        torch.save(dict(weights), folder / "pytorch_model.bin")
    else:
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / f"{kind}.safetensors")
    return folder


# ------------------------------------------------------------------ what such a model computes


def attend(x: Tensor, weights: Mapping[str, Tensor], name: str, config: Mapping[str, Any], causal: bool) -> Tensor:
    """Self attention over the last but one axis of (rows, tokens, D)."""
    heads, width = config["num_heads"], config["d_model"] // config["num_heads"]
    qkv = functional.linear(x, weights[f"{name}.qkv.weight"], weights.get(f"{name}.qkv.bias"))
    q, k, v = (part.unflatten(-1, (heads, width)).transpose(1, 2) for part in qkv.split(config["d_model"], -1))
    if config["qk_norm"]:
        q, k = (
            functional.layer_norm(p, (width,), weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
            for p in (q, k)
        )
    scores = (q @ k.transpose(-1, -2)) * (8 / width if config["use_mup"] else width**-0.5)
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), dtype=x.dtype).triu(1)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return functional.linear(mixed, weights[f"{name}.proj.weight"], weights.get(f"{name}.proj.bias"))


def embed(weights: Mapping[str, Tensor], config: Mapping[str, Any], ids: Tensor) -> Tensor:
    """Turn ids (B, T, S), the codebook's size for a mask, into vectors."""
    total, rest = torch.zeros(*ids.shape, config["d_model"], dtype=weights["pos_embed_TSC"].dtype), ids
    for k in range(config["num_factored_vocabs"]):
        table = weights[f"token_embed.factored_embeds.{k}.weight"]
        total, rest = total + table[rest % len(table)], rest // len(table)
    is_mask = (ids == config["image_vocab_size"])[..., None]
    return torch.where(is_mask, weights["token_embed.mask_token_embed"][0], total)


def activations(weights: Mapping[str, Tensor], config: Mapping[str, Any], ids: Tensor) -> list[Tensor]:
    """Embeddings without positions, then the output of every block, each (B, T, S, D)."""
    batch, frames, tokens = ids.shape
    seen = [embed(weights, config, ids)]
    x = seen[0] + weights["pos_embed_TSC"][:, :frames]

    def norm(x: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in weights:
            return x
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    for i in range(config["num_layers"]):
        layer = f"decoder.layers.{i}"
        in_space = x.flatten(0, 1)
        in_space = in_space + attend(norm(in_space, f"{layer}.norm1"), weights, f"{layer}.spatial_attn", config, False)
        in_time = in_space.view(batch, frames, tokens, -1).transpose(1, 2).flatten(0, 1)
        in_time = in_time + attend(in_time, weights, f"{layer}.temporal_attn", config, True)
        x = in_time.view(batch, tokens, frames, -1).transpose(1, 2)
        up, down = ((weights[f"{layer}.mlp.fc{j}.weight"], weights.get(f"{layer}.mlp.fc{j}.bias")) for j in (1, 2))
        inside = functional.gelu(functional.linear(norm(x, f"{layer}.norm2"), *up))
        x = x + functional.linear(inside, *down)
        seen.append(x)
    return seen


def logits(weights: Mapping[str, Tensor], config: Mapping[str, Any], ids: Tensor) -> Tensor:
    """Logits of all digits side by side, (B, T, S, factors * size)."""
    x = activations(weights, config, ids)[-1]
    x = x * 256 / config["d_model"] if config["use_mup"] else x
    return functional.linear(x, weights["out_x_proj.weight"], weights["out_x_proj.bias"])
