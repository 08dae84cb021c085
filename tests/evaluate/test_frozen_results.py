"""Frozen metrics: small evaluations of both shipped worlds and of a tiny world of each system are unchanged.

``python -m tests.evaluate.test_frozen_results [CASE ...]`` writes cases anew: only a change that is meant to change
figures may do so, and its commit says why.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conformance.conftest import ACTIONS, CLASSES, untrained
from tests.tiny import tiny_config

from reelworld.data.dataset import Dataset, write_episode, write_info
from reelworld.data.episodes import DataInfo, Episode
from reelworld.envs.recorder import record, record_config
from reelworld.evaluate.protocol import EvalConfig, open_for
from reelworld.evaluate.run import evaluate_to_folder
from reelworld.types import Clip
from reelworld.worlds.world import World

FILE = Path(__file__).with_name("frozen_results.json")
CASES: dict[str, dict[str, Any]] = {
    "doorkey": {"single_steps": 60, "inverse_steps": 3, "key_tests": 2, "simulator_episodes": 2},
    "driving": {"single_steps": 20, "inverse_steps": 0, "simulator_episodes": 1},
    "pocket-discrete": {"single_steps": 30, "inverse_steps": 2, "free_run_steps": 12},
    "pocket-none": {"samples": 2},
    "videogpt-none": {"samples": 2, "train_clips": 8},
    "videogpt-classes": {"samples": 1, "train_clips": 8, "protocol": "published"},
    "genie-latent": {"inverse_steps": 0},
    "ivideogpt-discrete": {"inverse_steps": 0, "tiles": "no"},
    "ivideogpt-continuous": {
        "inverse_steps": 0,
        "stability_steps": 0,
        "clips": 2,
        "samples": 2,
        "protocol": "published",
    },
}
SMALL = {
    "split": "all",
    "clips": 3,
    "free_run_steps": 8,
    "control_starts": 6,
    "stability_steps": 50,
    "stability_runs": 2,
    "allow_train": True,
}
SIMULATORS = {"doorkey": ("MiniGrid-DoorKey-8x8-v0", 8, 60), "driving": ("CarRacing-v3", 4, 120)}
RENAMED = {
    "nats_per_frame": "nll_per_frame",
    "nats_per_code": "nll_per_code",
    "nats_over_best": "nll_over_best",
    "nats_per_later_code": "nll_per_later_code",
    "samples_apart": "sample_diversity",
    "free_run": "open_loop",
    "control": "controllability",
    "following": "action_recovery",
    "drift": "stability",
    "simulated": "simulator",
    "gain_simulated": "gain_simulator",
    "ends_auc": "termination_auc",
    "ends_foreseen": "termination_recall",
    "ends_true": "termination_precision",
    "keys of another clip": "actions of another clip",
    "random keys": "random actions",
    "how often each code occurs at its place": "how often each code occurs at its position",
    "series": "lines",
    "sample and what happened": "sample and recording",
}
"""Names, or their beginnings, when the file was written -> today's."""
NEWER = ("foreground_kept", "foreground_psnr")
"""Metrics that there were not yet."""


def recordings(name: str, folder: Path) -> Dataset:
    """Record a simulator, or write episodes of a square that moves over coarse blocks."""
    if name in SIMULATORS:
        env_id, n, n_steps = SIMULATORS[name]
        record(record_config(env_id, episodes=n, max_steps=n_steps), folder)
        return Dataset.open(folder)
    kind = name.partition("-")[2]
    info = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS[kind], classes=CLASSES if kind == "classes" else ())
    if kind == "latent":
        info = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS["discrete"])
    folder.mkdir(parents=True)
    listed = []
    for i in range(16):
        clip = moving_square(i, 72, info)
        write_episode(folder / f"{clip.source}.npz", clip)
        class_id = -1 if clip.class_id is None else clip.class_id
        split = "train" if i < 10 else "test"
        listed.append(
            Episode(
                source=clip.source, n_frames=len(clip.frames), split=split, file=f"{clip.source}.npz", class_id=class_id
            )
        )
    write_info(folder, info, listed)
    return Dataset.open(folder)


def moving_square(seed: int, n_frames: int, info: DataInfo) -> Clip:
    """Draw an episode: each action moves the square by one block; the corner pays and ends."""
    rng = np.random.default_rng(seed)
    tiles = np.random.default_rng(99).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    background = (np.indices((8, 8)).sum(0) % 2).astype(int)
    moves = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
    at, boards, ids = np.array([seed % 8, seed // 8 + 2]), [], []
    for _ in range(n_frames):
        board = background.copy()
        board[tuple(at)] = 2
        boards.append(board)
        ids.append(int(rng.integers(4)))
        at = (at + moves[ids[-1]]).clip(0, 7)
    frames = np.moveaxis(tiles[np.stack(boards)], -4, -3).reshape(n_frames, 64, 64, 3)
    actions = {
        stream: np.array(ids) if spec.kind == "discrete" else moves[ids].astype(np.float32)
        for stream, spec in info.actions.items()
    }
    pays = np.array([board[0, 0] == 2 for board in [*boards[1:], boards[-1]]])
    return Clip(
        frames=frames,
        actions=actions,
        rewards=pays.astype(np.float32) + (np.arange(n_frames) % 5 == 0),
        terminated=pays & (np.arange(n_frames) > n_frames - 9),
        fps=10.0,
        source=f"square-{seed:03d}",
        class_id=seed % len(info.classes) if info.classes else None,
    )


def tiny(system: str, kind: str) -> World:
    """Build the tiny world of a system; latent actions are not merged, which only training does."""
    changes = {"latent_actions__learned_codes": 0} if kind == "latent" else {}
    return untrained(system, kind, tiny_config(system, **changes))


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Evaluate a world; metrics and series by name, as results.json keeps them."""
    recordings(name, folder / "data")
    system, _, kind = name.partition("-")
    world = World.load(name) if name in SIMULATORS else tiny(system, kind)
    config = EvalConfig(**{**SMALL, **CASES[name]})
    evaluate_to_folder(world, open_for(world, folder / "data"), config, folder / "out", command="")
    sections = json.loads((folder / "out/results.json").read_text())["sections"]
    metrics = {m["name"]: m for section in sections for m in section["metrics"]}
    series = {s["name"]: s for section in sections for s in section["series"]}
    kept = ("value", "low", "high", "n", "n_clips", "baselines")
    metrics = {k: m for k, m in metrics.items() if k not in NEWER}
    return {
        "sections": [section["name"] for section in sections],
        "metrics": {k: {field: m[field] for field in kept} for k, m in metrics.items()},
        "series": {k: {field: s[field] for field in ("x", "lines", "low", "high", "n")} for k, s in series.items()},
    }


def renamed(value: Any) -> Any:
    """Rename the keys of JSON values."""
    if isinstance(value, list):
        return [renamed(v) for v in value]
    return {_today(k): renamed(v) for k, v in value.items()} if isinstance(value, dict) else value


def _today(name: str) -> str:
    if name in RENAMED:
        return RENAMED[name]
    old = max((k for k in RENAMED if name.startswith(f"{k}_")), key=len, default="")
    return RENAMED[old] + name.removeprefix(old) if old else name


def same(actual: Any, expected: Any, where: str) -> None:
    """Compare JSON values; numbers to 1e-9 of their size, likelihoods to 1e-6."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key, value in expected.items():
            same(actual[key], value, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for i, value in enumerate(expected):
            same(actual[i], value, f"{where}/{i}")
    elif isinstance(expected, float):
        tolerance = 1e-6 if "/nll_" in where or "series/codes" in where else 1e-9  # the likelihood is of float32 logits
        assert math.isclose(actual, expected, rel_tol=tolerance, abs_tol=tolerance), f"{where}: {actual} for {expected}"
    else:
        assert actual == expected, where


QUICK = ("doorkey", "videogpt-none")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_figures_are_as_they_were(name: str, tmp_path: Path) -> None:
    if name in SIMULATORS:
        pytest.importorskip("minigrid" if name == "doorkey" else "Box2D")
    expected, actual = json.loads(FILE.read_text())[name], measured(name, tmp_path)
    for kind in ("metrics", "series"):
        same(actual[kind], renamed(expected[kind]), kind)


if __name__ == "__main__":
    stored = json.loads(FILE.read_text())
    for case in sys.argv[1:] or CASES:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            stored[case] = measured(case, Path(temporary))
        print(case, round(time.monotonic() - begun, 1))
    FILE.write_text(json.dumps(stored, separators=(",", ":")) + "\n")
