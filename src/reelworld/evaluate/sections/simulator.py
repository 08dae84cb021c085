"""Comparison with the live simulator: fresh seeds under the same actions.

An untrusted data set must not choose the code that runs. Only simulators accepted by ``game_of`` are used, with the
policies of this package.

Shapes: n starts, T frames, S steps, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from reelworld.data.episodes import DataInfo
from reelworld.envs.policies import POLICIES
from reelworld.envs.recorder import RecordConfig, record_episode
from reelworld.envs.simulator import Simulator
from reelworld.evaluate.metrics import COPY, squared_error
from reelworld.evaluate.protocol import EvalConfig, given_frames
from reelworld.evaluate.results import Metric, Text, not_applicable
from reelworld.evaluate.samples import CONTROL_HORIZONS, EvalData, Evaluation, Starts, roll
from reelworld.evaluate.sections import Item, Section
from reelworld.types import Clip, ModelSpec, UserError
from reelworld.worlds.provenance import game_of

FIRST_SEED = 1_100_000_000
"""First seed of fresh episodes; recordings count their seeds from small numbers."""
EPISODE_STEPS = 64
STARTS_PER_EPISODE = 4

TEXTS = {
    "simulator_psnr": Text(
        "PSNR against the live simulator after {h} steps",
        "Predicted frames against those of the simulator under the same actions, {h} steps after the context.",
    ),
    "gain_simulator": Text(
        "... gain over the last frame, {h} steps", "PSNR minus that of repeating the last frame seen."
    ),
}


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


def has_simulator(spec: ModelSpec, data: EvalData) -> bool:
    """Return True if the recordings come from a simulator and the world takes its actions, one per frame."""
    is_recorded = "simulator" in data.info.provenance and not data.is_labelled
    return is_recorded and spec.frame_stride == 1 and len(spec.actions) == 1


def fresh_clips(simulator: Simulator, info: DataInfo, n: int, n_steps: int, seed: int) -> list[Clip]:
    """Play fresh episodes with the recordings' mixture of policies if all are known, else at random.

    Args:
        simulator: Of the recordings.
        info: Of the recordings.
        n: Episodes.
        n_steps: Longest episode in steps.
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


def play(simulator: Simulator, actions: np.ndarray, seed: int) -> np.ndarray:
    """Play actions; a new episode begins when one ends.

    Args:
        simulator: Of the recordings.
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


def play_actions(evaluation: Evaluation, actions: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Play the actions of several runs, stream -> (n, S, ...), uint8 (S, H, W, 3) each.

    Raises:
        UserError: If the simulator is not installed, or does not take them.
    """
    if not has_simulator(evaluation.spec, evaluation.data):
        raise UserError("these recordings come from no simulator that takes the world's actions.")
    (stream,) = evaluation.spec.actions
    with open_simulator(evaluation.data.info, evaluation.config.allow_code) as simulator:
        return [play(simulator, row, FIRST_SEED + 1000 * i) for i, row in enumerate(actions[stream])]


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Compare predictions with the frames of the live simulator under the same actions."""
    config, info = evaluation.config, evaluation.data.info
    n_steps = EPISODE_STEPS + given_frames(evaluation.spec)
    try:
        with open_simulator(info, config.allow_code) as simulator:
            clips = fresh_clips(simulator, info, config.simulator_episodes, n_steps, config.seed)
        yield from _compare(evaluation, clips)
    except UserError as error:
        yield not_applicable("simulator_missing", "PSNR against the live simulator", f"Missing: {error}")


def _compare(evaluation: Evaluation, clips: Sequence[Clip]) -> list[Metric]:
    spec, context = evaluation.spec, given_frames(evaluation.spec)
    long_enough = [clip for clip in clips if len(clip.frames) > context]
    if not long_enough or long_enough[0].frames.shape[1:3] != (spec.height, spec.width):
        raise UserError("the simulator's frames have another size, or its episodes end at once: record with --size.")
    starts = Starts.drawn(long_enough, context, max(CONTROL_HORIZONS), STARTS_PER_EPISODE, evaluation.seed)
    predicted = roll(evaluation.world, starts, evaluation.seed)[:, 0]
    error = squared_error(starts.future, predicted)
    still = squared_error(starts.future, np.broadcast_to(starts.context[:, -1:], predicted.shape))
    make, metrics = evaluation.build(TEXTS, starts.clip), []
    for h in CONTROL_HORIZONS:
        at, beside, mask = error[:, h - 1], still[:, h - 1], starts.valid[:, h - 1]
        if mask.any():
            metrics.append(make.psnr(f"simulator_psnr_h{h}", at, mask=mask, baselines={COPY: beside}))
            metrics.append(make.gain(f"gain_simulator_h{h}", at, beside, mask=mask))
    return metrics


def _applies(spec: ModelSpec, data: EvalData, config: EvalConfig) -> bool:
    return config.simulator_episodes > 0 and has_simulator(spec, data)


SECTION = Section(
    name="simulator",
    title="Comparison with the live simulator",
    description="The simulator plays fresh episodes; from the same frames, the world predicts under the same actions.",
    applies=_applies,
    measure=measure,
)
