"""Whether small things survive: the ball, paddle and chicken of Atari games, after the tokenizer and in free runs.

    reelworld record ALE/Breakout-v5 --env-kwargs '{"frameskip": 1, "repeat_action_probability": 0}' \\
        --action-repeat 4 --size 64 --policy paddle --max-steps 120 --episodes 60 --out breakout
    (the same with --episodes 8 --seed 1000 --out breakout-test; Freeway with crossing, Pong with tennis)
    reelworld train pocket --data breakout --out runs/breakout --threads 1
    python benchmarks/small_objects.py breakout runs/breakout/world breakout-test --out result.json

Objects are found by their colour in the part of the picture where they are. A ball is "one" if its brightness is 0.4 to
1.6 times the recorded median and lies close together. Free runs of 30 steps take the recorded actions; they are beside
a copy of their first frame. Where chance decides (after a serve), existence and speed are compared, not places.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import flags, keep

from reelworld.data.dataset import Dataset
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.rollout.rollout import rollout
from reelworld.worlds.world import World

STEPS, SEED = 30, 0
STARTS = (20, 50, 85)
SPREAD = 3.0


@dataclass(frozen=True)
class Thing:
    """An object: its brightness in a part of the picture, uint8 (N, 64, 64, 3) -> float (N, rows, columns)."""

    seen: Callable[[np.ndarray], np.ndarray]
    is_ball: bool = False

    def measure(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mass (N,), centre (N, 2) and spread (N,) in pixels; NaN where there is none."""
        light = self.seen(frames.astype(np.float64))
        mass = light.sum((1, 2))
        rows, columns = np.mgrid[: light.shape[1], : light.shape[2]]
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = np.stack([(light * rows).sum((1, 2)), (light * columns).sum((1, 2))], 1) / mass[:, None]
            far = (light * ((rows - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2)).sum(
                (1, 2)
            ) / mass
        return mass, centre, np.sqrt(far)


def bright(light: np.ndarray, least: float) -> np.ndarray:
    return np.where(light > least, light, 0)


def chicken(frames: np.ndarray) -> np.ndarray:
    part = frames[:, :, 16:24]
    light = bright(np.minimum(part[..., 0], part[..., 1]) - part[..., 2], 45)
    light[:, 30:33] = 0  # the line between the lanes is yellow too
    return light


GAMES: dict[str, dict[str, Thing]] = {
    "breakout": {
        "ball": Thing(lambda f: bright(f[:, 29:57, 4:60].max(-1), 40), is_ball=True),
        "paddle": Thing(lambda f: bright(f[:, 57:59, 4:60, 0] - f[:, 57:59, 4:60, 2], 40)),
    },
    "pong": {
        "ball": Thing(lambda f: bright(f[:, 11:58, 9:54, 2] - 60, 20), is_ball=True),
        "paddle": Thing(lambda f: bright(f[:, 11:58, 54:60, 1] - f[:, 11:58, 54:60, 0], 30)),
    },
    "freeway": {"chicken": Thing(chicken, is_ball=False)},
}


def presence(thing: Thing, recorded: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Compare an object in made frames with the recorded ones, frame by frame."""
    mass, centre, _ = thing.measure(recorded)
    found, place, spread = thing.measure(made)
    typical = float(np.median(mass[mass > 0]))
    there = mass > 0.5 * typical
    is_one = (found > 0.4 * typical) & (found < 1.6 * typical) & ((spread < SPREAD) | (not thing.is_ball))
    distance = np.linalg.norm(place - centre, axis=1)
    return {
        "frames_with_it": int(there.sum()),
        "kept": float((found[there] > 0.4 * mass[there]).mean()),
        "exactly_one": float(is_one[there].mean()),
        "within_1_px": float((distance[there] < 1).mean()),
        "within_2_px": float((distance[there] < 2).mean()),
        "made_where_there_is_none": float((found[~there] > 0.4 * typical).mean()) if (~there).any() else 0.0,
    }


def median_step(thing: Thing, clips: np.ndarray) -> float:
    """Return the median distance of an object between two frames of clips, (n, T, H, W, 3), that both show it."""
    n, length = clips.shape[:2]
    mass, centre, _ = thing.measure(clips.reshape(n * length, *clips.shape[2:]))
    typical = np.median(mass[mass > 0])
    shown = (mass > 0.4 * typical).reshape(n, length)
    step = np.linalg.norm(np.diff(centre.reshape(n, length, 2), axis=1), axis=2)
    steps = step[shown[:, 1:] & shown[:, :-1]]
    return float(np.median(steps)) if len(steps) else 0.0


def free_runs(world: World, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return recorded and made frames of free runs, (n, STEPS + 1, H, W, 3); the first frame is the last one given."""
    n_context = world.spec.context[1]
    clips = [dataset.read(i, s - n_context + 1, s + STEPS + 1) for i in dataset.indices("all") for s in STARTS
             if s + STEPS < dataset.episodes[i].n_frames]  # fmt: skip
    frames = np.stack([c.frames for c in clips])
    actions = {name: np.stack([c.actions[name] for c in clips]) for name in world.spec.actions}
    session = world.session(len(clips), seed=SEED)
    session.reset(frames[:, :n_context], {k: v[:, : n_context - 1] for k, v in actions.items()})
    ahead = {k: v[:, n_context - 1 : -1] for k, v in actions.items()}
    made = np.stack([result.frame for result in rollout(session, ahead)], 1)
    recorded = frames[:, n_context - 1 :]
    return recorded, np.concatenate([recorded[:, :1], made], 1)


@torch.inference_mode()
def tokenized(world: World, frames: np.ndarray) -> np.ndarray:
    """Encode and decode frames."""
    copies = world.model.reconstruct(to_float(torch.from_numpy(frames))[None])
    assert copies is not None
    return to_uint8(copies)[0].numpy()


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("world", type=Path)
    parser.add_argument("data", type=Path, help="test recordings of fresh seeds")
    arguments = parser.parse_args()
    world, dataset = World.load(arguments.world), Dataset.open(arguments.data)
    frames = np.concatenate([dataset.read(i).frames for i in dataset.indices("all")])
    copies = tokenized(world, frames)
    recorded, made = free_runs(world, dataset)
    flat, still = recorded[:, 1:].reshape(-1, *frames.shape[1:]), np.repeat(recorded[:, :1], STEPS, 1)
    things: dict[str, Any] = {}
    for name, thing in GAMES[arguments.game].items():
        things[name] = {
            "tokenizer": presence(thing, frames, copies),
            "free_run": presence(thing, flat, made[:, 1:].reshape(flat.shape)),
            "copy_of_the_first_frame": presence(thing, flat, still.reshape(flat.shape)),
            "median_step": {"game": median_step(thing, recorded), "world": median_step(thing, made)},
        }
    stages = world.info.provenance["training"]["stages"]  # type: ignore[index,call-overload]
    keep(
        "small-objects",
        arguments.out,
        game=arguments.game,
        seeds=[0],
        training_minutes={k: v["minutes"] for k, v in stages.items()},
        uses_table=bool(world.info.parts["tokenizer"].config.get("uses_table")),
        n_test_frames=len(frames),
        n_free_runs=len(made),
        steps=STEPS,
        things=things,
    )


if __name__ == "__main__":
    sys.exit(main())
