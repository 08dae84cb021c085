"""A counting game, and a model that reads its actions.

The picture is one grey level out of eight. Action 1 goes one up, 2 one down, 3 three up (around the end); 0 and 4 do
nothing, and neither does 1 at a wall above level 5. The model's codes are 1, 0 and 2 for these, 3 where nothing moves.

Shapes: B clips, T frames
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tests.conformance.conftest import untrained
from torch import Tensor, nn

from reelworld.models.parts import ActionInference
from reelworld.nn.pixels import to_uint8
from reelworld.systems.genie.model import assemble
from reelworld.worlds.world import World

SIDE, N_LEVELS, WALL = 64, 8, 5
CHANGES = np.array([0, 1, -1, 3, 0])
CODES = torch.tensor([3, 1, 3, 2, 3, 3, 3, 0])
"""Code of each difference of levels."""
TO_LATENT = (3, 1, 0, 2, 3)
ALLOWED = "tests.models.counting"
"""The module that worlds with this model need."""


@dataclass(frozen=True, kw_only=True)
class ReadCountsConfig:
    """Nothing can be chosen but this."""

    n_codes: int = 4


class ReadCounts(ActionInference):
    """Read the difference of two levels."""

    def __init__(self, config: ReadCountsConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(1))

    @property
    def n_actions(self) -> int:
        return self.config.n_codes

    def encode(self, video: Tensor) -> Tensor:
        levels_BT = to_uint8(video)[:, :, 0, 0, 0].long() // 32
        codes_BT = CODES[(levels_BT[:, 1:] - levels_BT[:, :-1]) % N_LEVELS]
        return torch.cat([codes_BT, torch.zeros_like(codes_BT[:, :1])], 1)


def counting_world() -> World:
    """A tiny Genie with random weights whose latent actions are those of the game."""
    world = untrained("genie", "latent")
    parts = {**world.parts, "latent_actions": ReadCounts(ReadCountsConfig())}
    contexts = [replace(clip, actions={"latent": np.array([i, 0])}) for i, clip in enumerate(world.initial_contexts)]
    return World(world.info, assemble(world.spec, parts), contexts)


def episode(seed: int, n_frames: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Play at random: frames and actions."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, len(CHANGES), n_frames)
    levels = [int(rng.integers(N_LEVELS))]
    for action in actions[:-1].tolist():
        is_stopped = action == 1 and levels[-1] == WALL
        levels.append(levels[-1] if is_stopped else (levels[-1] + int(CHANGES[action])) % N_LEVELS)
    grey = np.array(levels, np.uint8) * 32 + 9
    return np.broadcast_to(grey[:, None, None, None], (n_frames, SIDE, SIDE, 3)).copy(), actions


def write(folder: Path, n_train: int = 4, n_test: int = 3, **arrays: np.ndarray) -> Path:
    """Write episodes into folders that are splits; ``arrays`` replace or add members."""
    for split, n, first in (("train", n_train, 0), ("val", 1, 50), ("test", n_test, 90)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            frames, actions = episode(first + i)
            np.savez(folder / split / f"e{first + i}.npz", **{"frames": frames, "actions": actions, **arrays})
    return folder
