"""The world beside the game itself: fresh seeds in the live simulator, under the same actions.

A data set that somebody sent must not decide which code runs here: only games that ``game_of`` tells of are played,
and by this package's own policies.

Shapes: n starts, T frames, S steps, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from reelworld.envs.policies import POLICIES
from reelworld.envs.recorder import RecordConfig, record_episode
from reelworld.envs.simulator import Simulator
from reelworld.evaluate import metrics
from reelworld.evaluate.clips import draw_starts, given_frames, roll
from reelworld.evaluate.control import HORIZONS
from reelworld.evaluate.figures import Figure, Section, db, gain_figure, missing_figure, per_clip, psnr_figure
from reelworld.evaluate.prediction import COPY
from reelworld.types import UserError
from reelworld.worlds.provenance import frame_stride, game_of

if TYPE_CHECKING:
    from reelworld.data.episodes import DataInfo
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["FIRST_SEED", "fresh_clips", "has_simulator", "open_simulator", "played", "simulated_section"]

FIRST_SEED = 1_100_000_000
"""Fresh episodes start here; recordings count their seeds from small numbers."""
EPISODE_STEPS = 64
STARTS_PER_EPISODE = 4


@contextmanager
def open_simulator(info: DataInfo, allow_code: Sequence[str] = ()) -> Iterator[Simulator]:
    """Open the simulator that recordings come from.

    Args:
        info: Of the recordings.
        allow_code: Modules besides the known packages that environments and wrappers may come from.

    Raises:
        UserError: If they come from none, it is not installed, or they name code that was not allowed.
    """
    game = game_of({"data": info.provenance}, allow_code)
    if game is None:
        raise UserError("these recordings come from no simulator; compare with what 'reelworld record' made.")
    simulator = Simulator(game.simulator)
    try:
        yield simulator
    finally:
        simulator.close()


def has_simulator(world: World, info: DataInfo) -> bool:
    """Say whether recordings come from a simulator whose actions the world takes, one per frame."""
    is_told = world.latent_actions is None or world.info.action_map is not None
    return (
        "simulator" in info.provenance
        and is_told
        and frame_stride(world.info.provenance) == 1
        and len(world.info.actions) == 1
    )


def fresh_clips(simulator: Simulator, info: DataInfo, n: int, n_steps: int, seed: int) -> list[Clip]:
    """Play fresh episodes, with the recordings' own mixture of policies where all of it is ours, else at random.

    Args:
        simulator: The game.
        info: Of the recordings.
        n: Episodes.
        n_steps: Most steps of an episode.
        seed: Equal seeds give equal episodes.
    """
    policy = info.provenance.get("policy")
    is_ours = isinstance(policy, Mapping) and all(name in POLICIES for name in policy)
    config = RecordConfig(
        simulator=simulator.config,
        policy=policy if isinstance(policy, Mapping) and is_ours else {"random": 1.0},
        episodes=n,
        max_steps=n_steps,
        seed=FIRST_SEED + 1000 * seed,
    )
    return [record_episode(simulator, config, i) for i in range(n)]


def played(simulator: Simulator, actions: np.ndarray, seed: int) -> np.ndarray:
    """Play actions in the game; when an episode ends, the next one begins.

    Args:
        simulator: The game.
        actions: One per step, (S,) or (S, A).
        seed: Of the first episode.

    Returns:
        uint8, (S, H, W, 3): the frames that the actions lead to.
    """
    simulator.reset(seed)
    frames = []
    for action in actions:
        _, terminated, truncated = simulator.step(action)
        frames.append(simulator.frame())
        if terminated or truncated:
            seed += 1
            simulator.reset(seed)
    return np.stack(frames)


def simulated_section(
    world: World, info: DataInfo, n_episodes: int, seed: int, allow_code: Sequence[str] = ()
) -> Section | None:
    """Compare predictions with what the live simulator shows under the same actions.

    Args:
        world: The world.
        info: Of the recordings; names their simulator.
        n_episodes: Fresh episodes.
        seed: Of the episodes, the starts and the noise.
        allow_code: As ``open_simulator`` takes it.

    Returns:
        None where there is no simulator to compare with.
    """
    if not has_simulator(world, info):
        return None
    figures: list[Figure]
    try:
        with open_simulator(info, allow_code) as simulator:
            clips = fresh_clips(simulator, info, n_episodes, EPISODE_STEPS + given_frames(world), seed)
        figures = _compare(world, clips, seed)
    except UserError as error:
        figures = [missing_figure("simulated_missing", "Closeness to the live game", f"Missing: {error}")]
    return Section(
        name="simulated",
        label="Does it do what the game itself does?",
        explanation="The simulator plays fresh episodes; from the same frames, the world predicts under the same "
        "actions.",
        figures=tuple(figures),
    )


def _compare(world: World, clips: Sequence[Clip], seed: int) -> list[Figure]:
    context = given_frames(world)
    long_enough = [clip for clip in clips if len(clip.frames) > context]
    if not long_enough or long_enough[0].frames.shape[1:3] != (world.info.height, world.info.width):
        raise UserError("the simulator's frames have another size, or its episodes end at once: record with --size.")
    starts = draw_starts(long_enough, context, max(HORIZONS), STARTS_PER_EPISODE, seed)
    predicted = roll(world, starts, seed)
    error = metrics.squared_error(starts.future, predicted)
    still = metrics.squared_error(starts.future, np.broadcast_to(starts.context[:, -1:], predicted.shape))
    n_clips, figures = len(long_enough), []
    for h in HORIZONS:
        mask = starts.valid[:, h - 1]
        count = per_clip(mask, starts.clip, n_clips)
        if mask.any():
            world_sum, copy_sum = (
                per_clip(np.where(mask, e[:, h - 1], 0), starts.clip, n_clips) for e in (error, still)
            )
            beside = {COPY: float(db(copy_sum.sum() / count.sum()))}
            figures.append(psnr_figure(f"simulated_psnr_h{h}", world_sum, count, seed=seed, baselines=beside))
            figures.append(gain_figure(f"gain_simulated_h{h}", world_sum, copy_sum, count, seed))
    return figures
