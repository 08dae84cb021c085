"""Compare variants of the pocket tokenizer at equal CPU time.

    python benchmarks/tokenizer_variants.py --data DATA --seconds 45 --out results.json

Every variant starts from the same seed and gets the same CPU seconds on one thread, with a cosine over them.
Figures are on the validation split: PSNR of the pooled error, codes in use, codes unchanged from frame to frame,
and, for games drawn from tiles, the share of patches whose nearest tile (of the training frames) is the right one.

Shapes: B clips, T frames, N tokens per frame, K digits of a code, X pixel values of a patch
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelworld.data.clip_index import ClipIndex, evenly_spaced
from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader
from reelworld.nn.pixels import patchify, to_float, to_uint8
from reelworld.system_info import commit, describe_machine
from reelworld.systems import find_system
from reelworld.systems.pocket import train as pocket
from reelworld.systems.pocket.patch_pool import PatchPool
from reelworld.systems.pocket.tokenizer import PatchTokenizer


class OverlappingEncoder(nn.Module):
    """The usual strided convolutions: each code sees its neighbours. Patches (B, T, N, X) -> (B, T, N, K)."""

    def __init__(self, tokenizer: PatchTokenizer) -> None:
        super().__init__()
        config = tokenizer.config
        self.config = config
        width = config.width
        self.layers = nn.Sequential(
            nn.Conv2d(3, width // 4, 4, 2, 1), nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 4, 2, 1), nn.GELU(),
            nn.Conv2d(width // 2, width, 4, 2, 1), nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1), nn.GELU(),
            nn.Conv2d(width, len(config.levels), 1),
        )  # fmt: skip

    def forward(self, patches: Tensor) -> Tensor:
        """Put the picture together again and convolve."""
        config = self.config
        batch, frames = patches.shape[:2]
        grid = patches.view(batch * frames, config.rows, config.columns, config.patch, config.patch, 3)
        picture = grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return self.layers(picture).flatten(2).transpose(1, 2).view(batch, frames, -1, len(config.levels))


def overlapping(tokenizer: PatchTokenizer) -> None:
    """Let the encoder see neighbours."""
    tokenizer.encoder = OverlappingEncoder(tokenizer)  # type: ignore[assignment]


def without_spread(tokenizer: PatchTokenizer) -> None:
    """Round the digits as they come."""
    tokenizer.spread = nn.Identity()  # type: ignore[assignment]


def with_rarity(power: float) -> Callable[[PatchTokenizer], None]:
    """Change how much rare patches weigh."""

    def change(tokenizer: PatchTokenizer) -> None:
        tokenizer.config = replace(tokenizer.config, rarity=power)

    return change


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[PatchTokenizer], None] | None]] = {
    "pocket": ({}, None),
    "digits not spread": ({}, without_spread),
    "no mosaics of distinct patches": ({"mosaic_share": 0.0}, None),
    "all patches weigh alike": ({}, with_rarity(0.0)),
    "no mosaics, all patches weigh alike": ({"mosaic_share": 0.0}, with_rarity(0.0)),
    "encoder sees neighbours (strided convolutions)": ({}, overlapping),
}


def train(config: pocket.Config, model: PatchTokenizer, dataset: Dataset, pool: PatchPool, seconds: float) -> int:
    """Train for a number of CPU seconds; return the steps taken."""
    loader = Loader(ClipIndex(dataset, "train", 1), config.tokenizer_batch, config.seed)
    share = config.mosaic_share if pool.distinct_share < pocket.TILE_SHARE else 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.tokenizer_lr, betas=(0.9, 0.98))
    began = time.process_time()
    for step, batch in enumerate(pool.mixed(loader, share)):
        used = (time.process_time() - began) / seconds
        if used >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = config.tokenizer_lr * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * used)) / 2
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.loss(batch)
        objective = sum(losses.weights[k] * total / count for k, (total, count) in losses.terms.items())
        optimizer.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise AssertionError("batches never end")


@torch.inference_mode()
def measure(model: PatchTokenizer, dataset: Dataset, pool: PatchPool) -> dict[str, float]:
    """Score one variant on pairs of neighbouring validation frames."""
    windows = ClipIndex(dataset, "val", 2)
    frames = torch.from_numpy(np.stack([windows[i]["frames"] for i in evenly_spaced(len(windows), 500)]))
    codes = model.encode(to_float(frames))
    decoded = to_uint8(model.decode(codes))
    error = (decoded.float() - frames.float()).square().mean()
    ids = codes.video
    figures = {
        "psnr": float(10 * torch.log10(255**2 / error.clamp_min(1e-3))),
        "codes_used": ids.unique().numel(),
        "codes_unchanged": float((ids[:, 1:] == ids[:, :-1]).float().mean()),
    }
    if pool.distinct_share < pocket.TILE_SHARE:
        tiles = torch.from_numpy(pool.patches).float()
        nearest = [
            torch.cdist(patchify(x, pool.patch).flatten(0, 2).float(), tiles).argmin(1) for x in (decoded, frames)
        ]
        figures["tiles_right"] = float((nearest[0] == nearest[1]).float().mean())
        kinds = nearest[1].unique()
        per_kind = [(nearest[0] == nearest[1])[nearest[1] == k].float().mean() for k in kinds]
        figures["worst_tile_right"] = float(torch.stack(per_kind).min())
    return figures


def main() -> None:
    """Train and measure the variants asked for; results are written as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset.open(args.data)
    pool = PatchPool.of(dataset, pocket.PATCH)
    command = f"python benchmarks/tokenizer_variants.py --data {args.data.name} --seconds {args.seconds:g}"
    results: dict[str, Any] = {"what": "pocket tokenizer variants", "command": command, "commit": commit()}
    results |= {"seed": args.seed, "machine": describe_machine(), "provenance": dataset.info.provenance, "variants": {}}
    for name in args.only:
        fields, change = VARIANTS[name]
        config = replace(find_system("pocket").presets["small"], seed=args.seed, **fields)
        model = pocket.build(config, dataset.info)["tokenizer"]
        assert isinstance(model, PatchTokenizer)
        if change:
            change(model)
        steps = train(config, model.train(), dataset, pool, args.seconds)
        results["variants"][name] = {"steps": steps, **measure(model.eval(), dataset, pool)}
        args.out.write_text(json.dumps(results, indent=2) + "\n")
        print(name, json.dumps({k: round(v, 4) for k, v in results["variants"][name].items()}), flush=True)


if __name__ == "__main__":
    main()
