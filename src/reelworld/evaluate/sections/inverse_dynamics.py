"""Inverse-dynamics model: a small network that infers the action from three frames, trained on recordings only.

Its accuracy on a world's frames measures the visible effect of actions.

Source: inverse dynamics models as in Baker et al. 2022 (arXiv:2206.11795), here a few convolutions on three frames.

Shapes: B batch, T frames, H W pixel rows and columns, C channels, D width, K columns of an action stream,
  V ids of an action
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from reelworld.data.clip_index import ClipIndex
from reelworld.data.loader import Loader
from reelworld.nn.conditioning import module_key
from reelworld.nn.pixels import to_float
from reelworld.train.config import OptimConfig
from reelworld.train.loop import train
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.types import ActionSpec, Batch, Losses, UserError

N_FRAMES = 3
"""Frame before the action, frame of the action, next frame."""
WIDTHS = (32, 64, 64, 128)
HIDDEN = 128
CELLS = 4
"""Features are averaged to so many rows and columns, whatever the size of the frames."""
BATCH = 64
READ_FRAMES = 1024
MIN_WINDOWS = 256
"""Fewer training windows are refused."""
FORMAT = 1


class InverseDynamics(nn.Module):
    """Network from three frames to the action between the last two."""

    def __init__(self, specs: Mapping[str, ActionSpec]) -> None:
        """Build the network for these action streams."""
        super().__init__()
        self.specs = dict(specs)
        widths = (3 * N_FRAMES, *WIDTHS)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
        self.trunk = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(CELLS), nn.Flatten(), nn.Linear(WIDTHS[-1] * CELLS**2, HIDDEN), nn.GELU()
        )
        n_outputs = {name: spec.n * spec.repeat for name, spec in specs.items()}
        self.heads = nn.ModuleDict({f"head_{module_key(name)}": nn.Linear(HIDDEN, n) for name, n in n_outputs.items()})

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        """Infer actions from frames.

        Args:
            video: float32 in [-1, 1], (B, 3, H, W, 3).

        Returns:
            Stream -> logits (B, K, V) for ids, values (B, K) for numbers; K counts the actions between two kept frames,
            and their numbers.
        """
        before, now, after = video.movedim(-1, 2).unbind(1)
        features_BD = self.trunk(torch.cat([now, now - before, after - now], 1))
        outputs = {name: self.heads[f"head_{module_key(name)}"](features_BD) for name in self.specs}
        return {
            name: out.unflatten(1, (self.specs[name].repeat, -1)) if self.specs[name].kind == "discrete" else out
            for name, out in outputs.items()
        }

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Loss on the recorded actions of steps that change the frame; other steps have no visible effect."""
        assert batch.video is not None
        seen_B = (batch.video[:, 2] != batch.video[:, 1]).flatten(1).any(1)
        terms: dict[str, tuple[Tensor, Tensor]] = {}
        for name, out in self(batch.video).items():
            actual_BK = batch.conditions.actions[name][:, 1].reshape(len(seen_B), -1)
            if self.specs[name].kind == "discrete":
                each = F.cross_entropy(out.flatten(0, 1), actual_BK.flatten(), reduction="none").view_as(actual_BK)
            else:
                each = (out - actual_BK).square()
            terms[name] = ((each.mean(1) * seen_B).sum(), seen_B.sum())
        return Losses(terms)

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Infer the actions of clips.

        Args:
            frames: uint8, (n, T, H, W, 3), T at least 3.

        Returns:
            Stream -> ids, int64 (n, T - 2, K), or values, float32 (n, T - 2, K): the action taken in frame t + 1.
        """
        n, n_windows = len(frames), frames.shape[1] - N_FRAMES + 1
        windows = np.lib.stride_tricks.sliding_window_view(frames, N_FRAMES, axis=1)
        flat = np.moveaxis(windows, -1, 2).reshape(n * n_windows, N_FRAMES, *frames.shape[2:])
        device = next(self.parameters()).device
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.specs}
        for i in range(0, len(flat), READ_FRAMES):
            video = torch.from_numpy(np.array(flat[i : i + READ_FRAMES])).to(device)  # a view cannot be written to
            for name, out in self(to_float(video)).items():
                kind = self.specs[name].kind
                read = out.argmax(-1) if kind == "discrete" else (out > 0.5).float() if kind == "buttons" else out
                parts[name].append(read.cpu().numpy())
        return {name: np.concatenate(rows).reshape(n, n_windows, -1) for name, rows in parts.items()}


@torch.inference_mode(mode=False)
def trained(
    windows: ClipIndex, specs: Mapping[str, ActionSpec], steps: int, seed: int, cache: Path, device: torch.device
) -> InverseDynamics:
    """Train the network on windows of recordings, or load it from its folder in the cache.

    Args:
        windows: Of three frames.
        specs: The actions of the windows.
        steps: Optimizer steps.
        seed: Seed of the initial weights and of every batch.
        cache: Folder; other recordings, actions, steps or seeds get folders of their own in it.
        device: Of the training.

    Raises:
        UserError: If there are too few windows.
    """
    if len(windows) < MIN_WINDOWS:
        raise UserError(
            f"{len(windows)} windows of {N_FRAMES} frames can be learned from; {MIN_WINDOWS} are wanted: name more "
            "training recordings with --train-data."
        )
    config = _described(windows, specs, steps, seed)
    key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InverseDynamics(specs)
    stage = Stage(
        name="inverse_dynamics",
        part="inverse_dynamics",
        module=model,
        batches=Loader(windows, BATCH, seed).batches,
        steps=steps,
        optim=OptimConfig(lr=1e-3),
        precision="fp32",  # not timed: the same seed gives the same figures
        frames_per_batch=BATCH * N_FRAMES,
    )
    with Run.open(cache / key, config) as run:
        train([stage], run, {stage.part: model}, seed=seed, device=str(device), console=Console(quiet=True))
    return model


def _described(windows: ClipIndex, specs: Mapping[str, ActionSpec], steps: int, seed: int) -> dict[str, object]:
    """Return the cache key: all that the weights depend on."""
    episodes = [windows.source.episodes[i] for i in np.unique(windows.index[:, 0]).tolist()]
    names = "".join(f"{e.source} {e.n_frames}\n" for e in episodes)
    info = windows.source.info
    return {
        "kind": "inverse dynamics",
        "format": FORMAT,
        "recordings": hashlib.sha256(names.encode()).hexdigest(),
        "size": [info.height, info.width],
        "stride": windows.stride,
        "merge": windows.merge,
        "actions": {name: [spec.kind, spec.n, spec.repeat] for name, spec in specs.items()},
        "steps": steps,
        "seed": seed,
    }
