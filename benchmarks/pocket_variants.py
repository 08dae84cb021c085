"""Compare variants of the pocket dynamics at equal CPU time: what each choice is worth, and what it costs at play.

    python benchmarks/pocket_variants.py --run RUN --data DATA --seconds 60 --out results.json

RUN is a finished pocket run: its tokenizer and its codes are shared by all variants, which differ in the dynamics
only. Every variant starts from the same seed and gets the same CPU seconds on one thread, a few at a time in turn.
Figures are on the validation split; a frame is exact when all of its codes are right.

Shapes: B clips, T frames, N tokens per frame, F = B * T, R C grid rows and columns, D width
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
from reelworld.data.code_store import CodeStore
from reelworld.data.dataset import Dataset
from reelworld.data.loader import Loader
from reelworld.data.rare_events import event_weights, reward_scale
from reelworld.models.samplers import SamplerConfig
from reelworld.nn import conv_mixer as grid_module
from reelworld.system_info import commit, describe_machine
from reelworld.systems import find_system
from reelworld.systems.pocket import train as pocket
from reelworld.systems.pocket.dynamics import PocketDynamics
from reelworld.train.loop import step_seed
from reelworld.train.validation import dynamics_check
from reelworld.worlds.world import World

SLICE_SECONDS = 3.0


class AttentionBlock(nn.Module):
    """Pre-norm spatial attention and a feed-forward layer: as a factorised transformer has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.mix, self.outer):
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens of each frame: (F, R, C, D) -> (F, R, C, D)."""
        frames, rows, columns, width = x.shape
        qkv = self.qkv(self.norm(x)).view(frames, rows * columns, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(x.shape)
        x = x + self.mix(mixed)
        return x + self.outer(nn.functional.gelu(self.inner(self.after(x))))


class UnpooledBlock(grid_module.ConvMixerBlock):
    """ConvMixerBlock without its global mean and maximum."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens of each frame: (F, R, C, D) -> (F, R, C, D)."""
        h = self.norm(x)
        local = self.local(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.out(nn.functional.gelu(local))


def with_blocks(block: type[nn.Module]) -> Callable[[PocketDynamics], None]:
    """Replace every grid block."""

    def change(model: PocketDynamics) -> None:
        width = model.config.width
        model.trunk = nn.ModuleList([block(width) for _ in model.trunk])
        model.head = nn.ModuleList([block(width) for _ in model.head])

    return change


def without_copy(model: PocketDynamics) -> None:
    """Start from nothing instead of a copy of the current frame, and never learn to copy."""
    nn.init.zeros_(model.copy.bias)
    model.copy.requires_grad_(False)


def without_digits(model: PocketDynamics) -> None:
    """Give every code rows of its own only."""
    for table in (model.codes, model.readout):
        nn.init.zeros_(table.shared)
        table.shared.requires_grad_(False)


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[PocketDynamics], None] | None]] = {
    "pocket": ({}, None),
    "spatial attention instead of convolution": ({}, with_blocks(AttentionBlock)),
    "no global pooling": ({}, with_blocks(UnpooledBlock)),
    "no copy start": ({}, without_copy),
    "no sharing over digits": ({}, without_digits),
    "no event oversampling": ({"event_share": 0.0}, None),
    "no temporal attention": ({"temporal_layers": 0}, None),
    "width 128": ({"width": 128}, None),
    "width 192": ({"width": 192}, None),
    "always fully masked": ({"full_mask_share": 1.0}, None),
    "context noise 0.1": ({"context_noise": 0.1}, None),
    "short clips (3 frames, 28 per step)": ({"clip_frames": 3, "batch": 28}, None),
}


class Trainer:
    """Trains one variant in slices, so that all variants share the machine's good and bad minutes."""

    def __init__(self, config: pocket.Config, model: PocketDynamics, store: CodeStore, seconds: float) -> None:
        windows = ClipIndex(store, "train", config.clip_frames, config.frame_stride, config.merge)
        weights = event_weights(windows) if config.event_share else None
        loader = Loader(windows, config.batch, config.seed, weights=weights, weighted_share=config.event_share)
        model.reward_scale.fill_(reward_scale(windows))
        self.config, self.model, self.seconds = config, model, seconds
        self.batches = loader.batches()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.98))
        self.steps, self.used = 0, 0.0

    def run(self, seconds: float) -> None:
        """Train for some CPU seconds, at most to the end of the budget."""
        until = min(self.used + seconds, self.seconds)
        while self.used < until:
            began = time.process_time()
            self._step()
            self.used += time.process_time() - began

    def _step(self) -> None:
        share = min(1.0, self.used / self.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, (self.steps + 1) / 50) * (1 + math.cos(math.pi * share)) / 2
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, "dynamics", self.steps))
        with torch.autocast("cpu", torch.bfloat16):
            losses = self.model.loss(next(self.batches), generator)
        objective = sum(losses.weights.get(k, 1.0) * total / count for k, (total, count) in losses.terms.items())
        self.optimizer.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1


@torch.inference_mode()
def measure(world: World, store: CodeStore, dataset: Dataset, config: pocket.Config) -> dict[str, float]:
    """Score one variant on the validation split."""
    windows = ClipIndex(store, "val", 9, config.frame_stride, config.merge)
    figures = dynamics_check(world.dynamics, windows, 256)()
    weights = event_weights(windows)
    eventful = np.argsort(-weights, kind="stable")[: len(weights) // 10]
    rows = Subset(windows, eventful)
    figures["val_exact_in_eventful_clips"] = dynamics_check(world.dynamics, rows, 256)()["val_exact"]
    figures |= rollout(world, dataset, config)
    session = world.session(seed=0)
    session.reset(dataset.read(dataset.indices("val")[0], 0, 2).frames[-1:])
    times = []
    for _ in range(80):
        began = time.process_time()
        session.step()
        times.append(time.process_time() - began)
    figures["play_cpu_ms"] = 1000 * float(np.median(times[20:]))
    return figures


class Subset:
    """Some of the windows."""

    def __init__(self, windows: ClipIndex, rows: np.ndarray) -> None:
        self.windows, self.rows = windows, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self.windows[int(self.rows[i])]


def rollout(world: World, dataset: Dataset, config: pocket.Config, n: int = 96) -> dict[str, float]:
    """PSNR after one, four and eight steps of rollout under recorded actions, minus that of the last real frame."""
    windows = ClipIndex(dataset, "val", config.context_frames + 8, config.frame_stride, config.merge)
    clips = [windows.clip(i) for i in evenly_spaced(len(windows), n)]
    frames = np.stack([c.frames for c in clips])
    actions = {k: np.stack([c.actions[k] for c in clips]) for k in world.info.actions}
    k = config.context_frames
    made = world.generate(
        frames[:, :k],
        {a: v[:, : k - 1] for a, v in actions.items()},
        {a: v[:, k - 1 : k + 7] for a, v in actions.items()},
        seed=0,
    )
    truth = frames[:, k:].astype(np.float64)

    def psnr(made: np.ndarray, t: int) -> float:
        error = ((made - truth[:, t]) ** 2).mean((1, 2, 3))
        return float((10 * np.log10(255**2 / np.maximum(error, 0.1))).mean())

    return {f"psnr_over_copy_{t + 1}": psnr(made[:, t], t) - psnr(frames[:, k - 1], t) for t in (0, 3, 7)}


def main() -> None:
    """Train and measure the variants asked for; results are appended as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--greedy", action="store_true", help="roll out greedily (tile games)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset, store = Dataset.open(args.data), CodeStore.open(args.run / "codes")
    tokenizer = World.load(args.run).tokenizer
    sampler = SamplerConfig(steps=1, temperature=0.0) if args.greedy else SamplerConfig(steps=2, temperature=0.9)
    command = f"python benchmarks/pocket_variants.py --run RUN --data {args.data.name} --seconds {args.seconds:g}"
    command += " --greedy" if args.greedy else ""
    results: dict[str, Any] = {"what": "pocket dynamics variants", "command": command, "commit": commit()}
    results |= {"seed": args.seed, "seconds": args.seconds, "machine": describe_machine(), "variants": {}}
    trainers = {}
    for name in args.only:
        fields, change = VARIANTS[name]
        config = replace(find_system("pocket").presets["small"], seed=args.seed, **fields)
        model = pocket.build(config, dataset.info)["dynamics"]
        assert isinstance(model, PocketDynamics)
        if change:
            change(model)
        trainers[name] = Trainer(config, model, store, args.seconds)
    for _ in range(math.ceil(args.seconds / SLICE_SECONDS)):
        for trainer in trainers.values():
            trainer.run(SLICE_SECONDS)
    for name, trainer in trainers.items():
        parts = {"tokenizer": tokenizer, "dynamics": trainer.model.eval()}
        world = pocket.assemble(trainer.config, parts, dataset.info, sampler)
        figures = {"steps": trainer.steps, "parameters": sum(p.numel() for p in trainer.model.parameters())}
        results["variants"][name] = figures | measure(world, store, dataset, trainer.config)
        args.out.write_text(json.dumps(results, indent=2) + "\n")
        print(name, json.dumps({k: round(v, 4) for k, v in results["variants"][name].items()}), flush=True)


if __name__ == "__main__":
    main()
