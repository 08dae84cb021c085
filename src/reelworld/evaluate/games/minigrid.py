"""MiniGrid: events read off frames and actions, and tests of the carried key.

In MiniGrid an action 3 (pick up), 4 (drop) or 5 (toggle) changes the frame exactly if it has an effect, so events are
detected without the simulator. The carried object is not visible between a pick-up and a drop. A world that forgets it
cannot drop it or open the door; this is the carried-key test. Fresh test episodes are played in the simulator if the
package minigrid is installed.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelworld.data.episodes import DataInfo
from reelworld.envs.policies import Policy
from reelworld.envs.policies.minigrid import carrier
from reelworld.envs.recorder import recorded_simulator
from reelworld.envs.simulator import Simulator
from reelworld.evaluate.games.tiles import OneStep, masked, one_step, takes_single_steps
from reelworld.evaluate.metrics import COPY, FROZEN
from reelworld.evaluate.protocol import EvalConfig, given_frames
from reelworld.evaluate.results import Metric, MetricBuilder, Text
from reelworld.evaluate.samples import EvalData, Evaluation, Starts, roll
from reelworld.evaluate.sections import Item, Section
from reelworld.evaluate.tiles import TileAtlas
from reelworld.types import Clip, ModelSpec
from reelworld.worlds.world import World

PICK_UP, DROP, TOGGLE = 3, 4, 5
MIN_CARRY_STEPS = 25
FIRST_SEED = 1_000_000_000
"""First seed of fresh test episodes; recordings count their seeds from small numbers."""
MAX_EPISODES = 400
MAX_STEPS = 90
BATCH = 16

TEXTS = {
    "events_exact": Text("Events right", "Pick-ups, drops and door toggles: the whole next frame is right."),
    "event_pick_up_exact": Text("Pick-ups right", "The whole next frame is right."),
    "event_drop_exact": Text("Drops right", "The whole next frame is right."),
    "event_toggle_exact": Text("Door toggles right", "Opening and closing, unlocking included."),
    "event_unlock_exact": Text("Unlocks right", "The first opening of a locked door."),
    "carried_key_works": Text(
        "Carried key",
        "Open loop from the start of an episode, a carried object is used after 25 or more steps of carrying: the door "
        "opens, or the dropped key appears in its cell.",
    ),
    "carried_key_toggle_works": Text("... opens the door", "Only episodes that end with a toggle."),
    "carried_key_drop_works": Text("... can be dropped", "Only episodes that end with a drop."),
}


def is_minigrid(info: DataInfo) -> bool:
    """Return True if recordings come from MiniGrid's full view, according to their provenance."""
    return _env_id(info).startswith("MiniGrid-") and [s.n for s in info.actions.values()] == [7]


def _env_id(info: DataInfo) -> str:
    simulator = info.provenance.get("simulator")
    return str(simulator.get("env_id", "")) if isinstance(simulator, Mapping) else ""


def event_masks(one: OneStep, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Find the events among one-step transitions.

    Args:
        one: Transitions with true tile ids before and after.
        clips: Clips of the transitions.

    Returns:
        Metric name -> bool (n,). An unlock is the first toggle of its clip with an effect: doors start locked.
    """
    action = np.array([int(clips[c].action[t]) for c, t in zip(one.clip.tolist(), one.step.tolist(), strict=True)])
    acts = (one.before != one.after).any((1, 2))
    masks = {
        "event_pick_up_exact": acts & (action == PICK_UP),
        "event_drop_exact": acts & (action == DROP),
        "event_toggle_exact": acts & (action == TOGGLE),
    }
    first_toggle = [next(_events(clip, TOGGLE), -1) for clip in clips]
    unlock = masks["event_toggle_exact"] & (one.step == np.array(first_toggle)[one.clip])
    any_event = masks["event_pick_up_exact"] | masks["event_drop_exact"] | masks["event_toggle_exact"]
    return {"events_exact": any_event, **masks, "event_unlock_exact": unlock}


def _events(clip: Clip, action: int) -> Iterator[int]:
    """Yield the steps at which an action changes the frame."""
    for t in np.flatnonzero(clip.action[:-1] == action).tolist():
        if (clip.frames[t] != clip.frames[t + 1]).any():
            yield t


@dataclass(frozen=True)
class KeyTest:
    """An episode up to the use of an object that was carried for a long time."""

    clip: Clip
    """Ends with the frame after the use."""
    kind: str
    """"toggle" or "drop"."""


def find_key_tests(clips: Sequence[Clip], context: int) -> list[KeyTest]:
    """Find, in each clip, the first drop or toggle after 25 or more steps of carrying.

    The object must be carried entirely within the generated frames, after ``context`` frames.
    """
    tests = []
    for clip in clips:
        since = None
        for t, action in sorted((t, a) for a in (PICK_UP, DROP, TOGGLE) for t in _events(clip, a)):
            if action == PICK_UP:
                since = max(t, context - 1)
            elif since is not None and t - since >= MIN_CARRY_STEPS:
                tests.append(KeyTest(_cut(clip, t + 2), "drop" if action == DROP else "toggle"))
                break
            elif action == DROP:
                since = None
    return tests


def _cut(clip: Clip, n_frames: int) -> Clip:
    actions = {k: v[:n_frames] for k, v in clip.actions.items()}
    return Clip(frames=clip.frames[:n_frames], actions=actions, fps=clip.fps, source=clip.source)


def fresh_key_tests(info: DataInfo, context: int, n_tests: int, seed: int) -> list[KeyTest]:
    """Play fresh episodes in the simulator the recordings came from, half ending in a toggle, half in a drop.

    Args:
        info: Its provenance holds the simulator's settings.
        context: Context frames of the world.
        n_tests: Number of tests.
        seed: Offset of the episodes' seeds.

    Returns:
        At most ``n_tests``; none without the package minigrid or without a key and a door in the game.
    """
    if importlib.util.find_spec("minigrid") is None or "DoorKey" not in _env_id(info):
        return []
    simulator = recorded_simulator(info)
    missing = {"toggle": n_tests - n_tests // 2, "drop": n_tests // 2}
    tests: list[KeyTest] = []
    for i in range(MAX_EPISODES):
        if not any(missing.values()):
            break
        number = FIRST_SEED + seed * MAX_EPISODES + i
        clip = _play(simulator, carrier, number, next(iter(info.actions)))
        for test in find_key_tests([clip], context):
            if missing[test.kind]:
                missing[test.kind] -= 1
                tests.append(test)
    simulator.close()
    # sorted by length: a batch runs as long as its longest test
    return sorted(tests, key=lambda t: len(t.clip.frames))


def _play(simulator: Simulator, policy: Policy, seed: int, stream: str) -> Clip:
    frames, actions = [simulator.reset(seed)], [0]  # the last row is padding
    for action in itertools.islice(policy(simulator, np.random.default_rng(seed)), MAX_STEPS):
        _, terminated, truncated = simulator.step(action)
        frames.append(simulator.frame())
        actions.insert(-1, int(np.asarray(action)))
        if terminated or truncated:
            break
    return Clip(frames=np.stack(frames), actions={stream: np.array(actions)}, source=f"fresh-{seed}")


def measure_events(evaluation: Evaluation) -> Iterator[Item]:
    """Compare the single steps at events of the game."""
    one = evaluation.memo("one_step", one_step)
    yield from event_metrics(evaluation.build(TEXTS, one.clip), one, event_masks(one, evaluation.wide))


def event_metrics(make: MetricBuilder, one: OneStep, events: Mapping[str, np.ndarray]) -> Iterator[Metric]:
    """Build the metrics of single steps at events, metric name -> bool (n,)."""
    shown = {"world": one.predicted, COPY: one.before, FROZEN: one.first}
    whole = {k: (v == one.after).all((1, 2)) for k, v in shown.items()}
    metrics = (masked(make, name, whole, mask, "events") for name, mask in events.items())
    yield from (m for m in metrics if m.n)


def measure_key_tests(evaluation: Evaluation) -> Iterator[Item]:
    """Test the carried key on recorded clips, and on fresh episodes if there are too few clips."""
    assert evaluation.atlas is not None
    info, config, context = evaluation.data.info, evaluation.config, given_frames(evaluation.spec)
    tests = find_key_tests(evaluation.wide, context)[: config.key_tests]
    tests += fresh_key_tests(info, context, config.key_tests - len(tests), config.seed)
    if tests:
        yield from carried_key_metrics(evaluation.world, tests, evaluation.atlas, config.seed)


def carried_key_metrics(world: World, tests: Sequence[KeyTest], atlas: TileAtlas, seed: int) -> Iterator[Metric]:
    """Roll the world out through each test and compare the tiles that its last action changes.

    A use succeeds if every tile that changes at the last step is predicted right.
    """
    parts = [_works(world, tests[i : i + BATCH], atlas, seed + i) for i in range(0, len(tests), BATCH)]
    works, kinds = np.concatenate(parts), np.array([t.kind for t in tests])
    make = MetricBuilder(TEXTS, np.arange(len(tests)), seed)
    for name, mask in (
        ("carried_key_works", np.ones(len(tests), bool)),
        ("carried_key_toggle_works", kinds == "toggle"),
        ("carried_key_drop_works", kinds == "drop"),
    ):
        if mask.any():
            yield make.fraction(name, works, "episodes", mask, {COPY: 0.0})


def _works(world: World, tests: Sequence[KeyTest], atlas: TileAtlas, seed: int) -> np.ndarray:
    """Return True for each test whose last change comes out right, bool (n,)."""
    context = world.spec.context[1]
    clips = [t.clip for t in tests]
    n_steps = max(len(c.frames) for c in clips) - context
    starts = Starts.at_beginning(clips, context, n_steps)
    predicted = roll(world, starts, seed)[:, 0]
    rows, last = np.arange(len(clips)), np.array([len(c.frames) - context - 1 for c in clips])
    before, after = (atlas.true_ids(starts.future[rows, last - back]) for back in (1, 0))
    shown: np.ndarray = atlas.nearest_ids(predicted[rows, last])
    out: np.ndarray = ((shown == after) | (before == after)).all((1, 2))
    return out


def _has_events(spec: ModelSpec, data: EvalData, config: EvalConfig) -> bool:
    return takes_single_steps(spec, data, config) and is_minigrid(data.info)


def _has_keys(spec: ModelSpec, data: EvalData, _config: EvalConfig) -> bool:
    return data.has_tiles and bool(spec.actions) and is_minigrid(data.info)


SECTIONS = (
    Section(name="one_step", applies=_has_events, measure=measure_events),
    Section(name="open_loop", applies=_has_keys, measure=measure_key_tests),
)
