"""Frames per second that `record` writes, beside stepping and drawing the same environment alone.

    python benchmarks/recording.py --out benchmarks/results/recording.json

Pong of the Arcade Learning Environment, every action repeated four times, frames of 64x64, random actions, as many
processes as are named. The target: at least half of what the environment alone reaches.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import idle_state, keep_speed, row, speed_flags

from reelworld.envs.recorder import record, record_config

ENV, REPEAT, STEPS, ROUNDS, TARGET = "ALE/Pong-v5", 4, 150, 3, 0.5
KWARGS = {"frameskip": 1, "repeat_action_probability": 0}


def alone(seed: int) -> int:
    """Step and draw one episode; return its frames."""
    import ale_py
    import gymnasium as gym

    gym.register_envs(ale_py)
    env = gym.make(ENV, render_mode="rgb_array", **KWARGS)
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        action = int(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
        for _ in range(REPEAT):
            env.step(action)
        env.render()
    env.close()
    return STEPS


def recorded(n: int, episodes: int, seed: int) -> float:
    """Record; return frames per second from the first episode of every process on: their start does not count."""
    config = record_config(
        ENV, episodes=episodes, seed=seed, policy="random", max_steps=STEPS, env_kwargs=KWARGS, action_repeat=REPEAT,
        size=(64, 64),
    )  # fmt: skip
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        record(config, Path(folder) / "out", n_processes=n, on_episode=lambda _: marks.append(time.perf_counter()))
    return (episodes - n) * STEPS / (marks[-1] - marks[n - 1])


def main() -> None:
    parser = speed_flags(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=24)
    arguments = parser.parse_args()
    state = idle_state(arguments)
    n, episodes = arguments.processes, arguments.episodes
    bare, written = [], []
    with multiprocessing.get_context("spawn").Pool(n) as pool:
        pool.map(alone, range(n), chunksize=1)  # start and imports do not count
        for number in range(ROUNDS):
            start = time.perf_counter()
            frames = sum(pool.map(alone, range(episodes), chunksize=1))
            bare.append(frames / (time.perf_counter() - start))
            written.append(recorded(n, episodes, 1000 * number))
    rates = {"stepping and drawing alone": np.array(bare), "record": np.array(written)}
    keep_speed(
        "recording",
        arguments.out,
        state,
        seed=0,
        environment=ENV,
        processes=n,
        target=TARGET,
        ratio=float(np.median(written) / np.median(bare)),
        results=[row(name, values, n, "uint8", "frames/s") for name, values in rates.items()],
    )


if __name__ == "__main__":
    main()
