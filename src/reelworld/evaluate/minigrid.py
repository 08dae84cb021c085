"""What happens in MiniGrid, read off frames and actions, and tests of the carried key.

In MiniGrid an action 3 (pick up), 4 (drop) or 5 (toggle) changes the frame exactly when it does something, so
events need no access to the simulator. What the agent carries is not drawn: between a pick-up and a drop the
object is nowhere. A world that loses it can no longer drop it or open the door; that is the carried-key test.
Fresh test episodes come from the simulator when the package minigrid is installed.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.evaluate.clips import Starts, roll
from reelworld.evaluate.figures import Figure, per_clip, share_figure
from reelworld.types import Clip

if TYPE_CHECKING:
    from reelworld.data.dataset import DataInfo
    from reelworld.evaluate.tile_scores import OneStep
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.worlds.world import World

__all__ = ["KeyTest", "carried_key_figures", "event_masks", "find_key_tests", "fresh_key_tests", "is_minigrid"]

PICK_UP, DROP, TOGGLE = 3, 4, 5
MIN_CARRY_STEPS = 25
FIRST_SEED = 1_000_000_000
"""Fresh test episodes start here; recordings count their seeds from small numbers."""
MAX_EPISODES = 400
MAX_STEPS = 90


def is_minigrid(info: DataInfo) -> bool:
    """Say whether recordings come from MiniGrid's full view, as far as their provenance tells."""
    return _env_id(info).startswith("MiniGrid-") and [s.n for s in info.actions.values()] == [7]


def _env_id(info: DataInfo) -> str:
    simulator = info.provenance.get("simulator")
    return str(simulator.get("env_id", "")) if isinstance(simulator, Mapping) else ""


def event_masks(one: OneStep, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Find the events among one-step transitions.

    Args:
        one: Transitions with true tile ids before and after.
        clips: The clips they come from.

    Returns:
        Figure name -> bool (n,). An unlock is the first toggle of its clip that does anything: doors start locked.
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

    The whole carrying must also lie in the part that the world makes up, after ``context`` frames.
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
    return Clip(
        frames=clip.frames[:n_frames],
        actions={k: v[:n_frames] for k, v in clip.actions.items()},
        fps=clip.fps,
        source=clip.source,
    )


def fresh_key_tests(info: DataInfo, context: int, n_tests: int, seed: int) -> list[KeyTest]:
    """Play fresh episodes in the simulator the recordings came from, half ending in a toggle, half in a drop.

    Args:
        info: Its provenance holds the simulator's settings.
        context: Context frames of the world.
        n_tests: Wanted tests.
        seed: Offset of the episodes' seeds.

    Returns:
        At most ``n_tests``; none without the package minigrid or without a key and a door in the game.
    """
    if importlib.util.find_spec("minigrid") is None or "DoorKey" not in _env_id(info):
        return []
    from reelworld.envs.policies.minigrid import carrier
    from reelworld.envs.recorder import recorded_simulator

    simulator = recorded_simulator(info)
    wanted = {"toggle": n_tests - n_tests // 2, "drop": n_tests // 2}
    tests: list[KeyTest] = []
    for i in range(MAX_EPISODES):
        if not any(wanted.values()):
            break
        number = FIRST_SEED + seed * MAX_EPISODES + i
        clip = _play(simulator, carrier, number, next(iter(info.actions)))
        for test in find_key_tests([clip], context):
            if wanted[test.kind]:
                wanted[test.kind] -= 1
                tests.append(test)
    simulator.close()
    # of one length side by side: a batch runs as long as its longest test
    return sorted(tests, key=lambda t: len(t.clip.frames))


def _play(simulator: Any, policy: Any, seed: int, stream: str) -> Clip:
    frames, actions = [simulator.reset(seed)], []
    for action in itertools.islice(policy(simulator, np.random.default_rng(seed)), MAX_STEPS):
        _, terminated, truncated = simulator.step(action)
        frames.append(simulator.frame())
        actions.append(int(action))
        if terminated or truncated:
            break
    return Clip(frames=np.stack(frames), actions={stream: np.array([*actions, 0])}, source=f"fresh-{seed}")


def carried_key_figures(world: World, tests: Sequence[KeyTest], atlas: TileAtlas, seed: int) -> list[Figure]:
    """Run the world freely through each test and look at the tiles that its last action changes.

    The use works when every tile that truly changes at the last step is right in the prediction.
    """
    works = np.concatenate([_works(world, tests[i : i + 16], atlas, seed + i) for i in range(0, len(tests), 16)])
    rows = np.arange(len(tests))
    kinds = np.array([t.kind for t in tests])
    figures = []
    for name, mask in (
        ("carried_key_works", np.ones(len(tests), bool)),
        ("carried_key_toggle_works", kinds == "toggle"),
        ("carried_key_drop_works", kinds == "drop"),
    ):
        if mask.any():
            hits, trials = per_clip(works & mask, rows, len(rows)), per_clip(mask, rows, len(rows))
            figures.append(share_figure(name, hits, trials, "episodes", seed, {"copy of the last frame seen": 0.0}))
    return figures


def _works(world: World, tests: Sequence[KeyTest], atlas: TileAtlas, seed: int) -> np.ndarray:
    """Say of each test whether the last change comes out right, bool (n,)."""
    context = world.info.context_frames
    clips = [t.clip for t in tests]
    n_steps = max(len(c.frames) for c in clips) - context
    starts = Starts.at(clips, [(i, context - 1) for i in range(len(clips))], context, n_steps)
    predicted = roll(world, starts, seed)
    rows, last = np.arange(len(clips)), np.array([len(c.frames) - context - 1 for c in clips])
    before, after = (atlas.true_ids(starts.future[rows, last - back]) for back in (1, 0))
    shown: np.ndarray = atlas.nearest_ids(predicted[rows, last])
    return ((shown == after) | (before == after)).all((1, 2))
