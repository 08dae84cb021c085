"""A driver that sees nothing but pixels, in CarRacing itself and in the world: is there still a road to drive on?

Recorded actions leave the road within a hundred frames even in the game, so a long run of a driving world says
something only under somebody who reacts. This driver steers towards the grey ahead of the car, gives gas on one step
of four where the road is straight ahead, and more and the brake where it bends.

Shapes: n runs, T frames, S steps, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.envs.policies.carracing import BRAKE, COAST, GAS, encode_keys
from reelworld.evaluate import metrics
from reelworld.evaluate.clips import Starts, given_frames
from reelworld.evaluate.drift import BLOCK
from reelworld.evaluate.figures import (
    Curve,
    Figure,
    Section,
    Unit,
    db,
    missing_figure,
    psnr_figure,
    ratio_figure,
    share_figure,
)
from reelworld.evaluate.road import SIZE, connectivity, road_centre, road_pixels, sees_road
from reelworld.evaluate.simulated import FIRST_SEED, has_simulator, open_simulator
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.data.episodes import DataInfo
    from reelworld.models.samplers import SamplerConfig
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["Drives", "Reactive", "can_drive", "drive_simulator", "drive_world", "driving_figures", "driving_section"]

DEAD_ZONE, BEND = 2.0, 6.0
"""Columns that the road's middle may be off before the driver steers, and before it takes the bend."""
ON_STRAIGHT = (GAS, COAST, COAST, COAST)
IN_BEND = (GAS, GAS, COAST, BRAKE, COAST, COAST)
MOTION = (22.0, 34.0)
"""PSNR between neighbouring frames, in dB, that driving has: above it stands still, below it flickers."""
ROAD_TOLERANCE = 0.4
"""A block keeps its road when its share of the picture is within 40% of the same driver's in the game."""
CONNECTED = 0.9
"""A frame's road hangs together when its largest piece has more than this share of it."""
GAME = "the game itself, same driver"


class Reactive:
    """Drives n cars, each by its own picture."""

    def __init__(self, n: int) -> None:
        self._steering = np.zeros(n, np.int64)
        self._t = 0

    def keys(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose steering (-1 left, 0, 1 right) and pedal, int64 (n,) each, from frames, uint8 (n, 64, 64, 3).

        Where no road is seen, the last direction is held.
        """
        centre = road_centre(frames)
        is_lost = np.isnan(centre)
        seen = np.where(is_lost, 0, centre)
        turn = np.where(np.abs(seen) < DEAD_ZONE, 0, np.sign(seen)).astype(np.int64)
        steering = np.where(is_lost, self._steering, turn)
        self._steering = np.where(turn != 0, turn, self._steering)
        is_straight = ~is_lost & (np.abs(seen) < BEND)
        straight, bend = ON_STRAIGHT[self._t % len(ON_STRAIGHT)], IN_BEND[self._t % len(IN_BEND)]
        self._t += 1
        return steering, np.where(is_straight, straight, bend)


@dataclass(frozen=True)
class Drives:
    """What is seen of n drives of S steps."""

    motion: np.ndarray
    """float64, (n, S): mean squared error between neighbouring frames."""
    road: np.ndarray
    """float64, (n, S): share of the picture above the bar that is road."""
    is_connected: np.ndarray
    """bool, (n, S): the road hangs together."""

    @classmethod
    def of(cls, frames: np.ndarray) -> Drives:
        """Look at drives, uint8 (n, S + 1, 64, 64, 3)."""
        roads = road_pixels(frames[:, 1:])
        pieces = [[connectivity(frame) for frame in run] for run in roads]
        return cls(
            motion=metrics.squared_error(frames[:, 1:], frames[:, :-1]),
            road=roads.mean((2, 3)),
            is_connected=np.array(pieces) > CONNECTED,
        )

    def first(self, n_steps: int) -> Drives:
        """The first steps of every drive."""
        return Drives(self.motion[:, :n_steps], self.road[:, :n_steps], self.is_connected[:, :n_steps])

    def blocks(self, values: np.ndarray) -> np.ndarray:
        """Average per block of 50 steps, (n, S) -> (n, B); steps that do not fill a block are left out."""
        n_blocks = values.shape[1] // BLOCK
        return values[:, : n_blocks * BLOCK].reshape(len(values), n_blocks, BLOCK).mean(2)


def can_drive(world: World, info: DataInfo) -> bool:
    """Say whether this is a world of CarRacing that takes the game's own keys, one per frame."""
    simulator = info.provenance.get("simulator")
    is_car = isinstance(simulator, dict) and str(simulator.get("env_id", "")).startswith("CarRacing-")
    return is_car and has_simulator(world, info) and (world.info.height, world.info.width) == (SIZE, SIZE)


def _drive(step: Callable[[Any], np.ndarray], frames: np.ndarray, spec: Any, n_steps: int, seed: int) -> np.ndarray:
    """Drive from first frames, uint8 (n, 64, 64, 3) -> (n, S + 1, 64, 64, 3); ``step`` takes one action per car."""
    driver, rng = Reactive(len(frames)), np.random.default_rng(seed)
    seen = [frames]
    for _ in range(n_steps):
        keys = zip(*driver.keys(seen[-1]), strict=True)
        seen.append(step(np.array([encode_keys(spec, int(turn), int(pedal), rng) for turn, pedal in keys])))
    return np.stack(seen, 1)


def drive_world(
    world: World, clips: Sequence[Clip], n_runs: int, n_steps: int, seed: int, sampler: SamplerConfig | None = None
) -> np.ndarray:
    """Let the driver drive in the world.

    Args:
        world: Of CarRacing.
        clips: Held-out recordings. Each drive begins in the first frame of its clip with the context before it and
            the road ahead.
        n_runs: At most so many drives, one per clip.
        n_steps: Steps S.
        seed: Of the world's noise.
        sampler: Instead of the world's own.

    Returns:
        uint8, (n, S + 1, 64, 64, 3): from the last context frame on.

    Raises:
        UserError: If no clip has a road ahead.
    """
    context = given_frames(world)
    places: list[tuple[int, int]] = []
    for i, clip in enumerate(clips):
        ahead = np.flatnonzero(sees_road(clip.frames[context - 1 : -1]))
        if len(ahead) and len(places) < n_runs:
            places.append((i, int(ahead[0]) + context - 1))
    if not places:
        raise UserError("no recorded frame shows the road ahead of the car: record episodes of somebody who drives.")
    starts = Starts.at(clips, places, context, 1)
    (stream, spec), session = next(iter(world.info.actions.items())), world.session(n=len(places))
    session.sampler = sampler or session.sampler
    session.reset(starts.context, {stream: starts.context_actions[stream]}, seed=seed)
    return _drive(lambda keys: session.step({stream: keys}).frame, starts.context[:, -1], spec, n_steps, seed)


def drive_simulator(info: DataInfo, n_runs: int, n_steps: int, seed: int) -> np.ndarray:
    """Let the driver drive in the game on fresh tracks, uint8 (n, S + 1, 64, 64, 3); a finished lap goes on.

    Raises:
        UserError: If the simulator is not installed.
    """
    runs = []
    with open_simulator(info) as simulator:

        def step(keys: np.ndarray) -> np.ndarray:
            simulator.step(keys[0])
            return simulator.frame()[None]

        for i in range(n_runs):
            first = simulator.reset(FIRST_SEED + 1000 * seed + i)[None]
            runs.append(_drive(step, first, simulator.action_spec, n_steps, seed + i)[0])
    return np.stack(runs)


def driving_figures(drives: Drives, game: Drives | None, seed: int) -> list[Figure]:
    """Judge drives in a world.

    Args:
        drives: In the world.
        game: The same driver in the game; None leaves out what is compared with it.
        seed: Of the bootstrap.
    """
    n_runs, n_steps = drives.road.shape
    steps = np.full(n_runs, n_steps)

    def beside(value: Callable[[Drives], np.ndarray]) -> dict[str, float]:
        return {} if game is None else {GAME: float(value(game).mean())}

    def moves(seen: Drives) -> np.ndarray:
        motion = db(seen.blocks(seen.motion))
        return (motion >= MOTION[0]) & (motion <= MOTION[1])

    shares = {"driving_moves": moves}
    if game is not None:
        usual = game.road.mean()
        shares["driving_keeps_road"] = lambda seen: np.abs(seen.blocks(seen.road) - usual) <= ROAD_TOLERANCE * usual
    figures = [
        psnr_figure(
            "driving_motion",
            drives.motion.sum(1),
            steps,
            seed=seed,
            baselines={} if game is None else {GAME: float(db(game.motion.mean()))},
        ),
        ratio_figure("driving_road", drives.road.sum(1), steps, "frames", "share", seed, beside(lambda d: d.road)),
    ]
    for name, judge in shares.items():
        good = judge(drives)
        trials = np.full(n_runs, good.shape[1])
        figures.append(share_figure(name, good.sum(1), trials, "blocks", seed, beside(judge)))
    connected = beside(lambda d: d.is_connected)
    figures.append(share_figure("driving_connected", drives.is_connected.sum(1), steps, "frames", seed, connected))
    return figures


def driving_section(
    world: World, info: DataInfo, clips: Sequence[Clip], n_runs: int, n_steps: int, seed: int
) -> Section:
    """Drive in the world, and once in the game for reference where it is installed."""
    figures: list[Figure] = []
    curves: tuple[Curve, ...] = ()
    try:
        drives = Drives.of(drive_world(world, clips, n_runs, n_steps, seed))
    except UserError as error:
        figures = [missing_figure("driving_missing", "Driving", f"Missing: {error}")]
    else:
        game = None
        try:
            game = Drives.of(drive_simulator(info, n_runs, n_steps, seed))
        except UserError as error:
            figures = [missing_figure("driving_game_missing", GAME.capitalize(), f"Missing: {error}")]
        figures = [*driving_figures(drives, game, seed), *figures]
        curves = _curves(drives, game)
    return Section(
        name="driving",
        label=f"Can one drive in it for {n_steps} frames?",
        explanation="A driver that steers on the pixels alone: towards the middle of the grey in the rows ahead of "
        "the car. Beside it the same driver in the game, on tracks that nobody has seen.",
        figures=tuple(figures),
        curves=curves,
    )


def _curves(drives: Drives, game: Drives | None) -> tuple[Curve, ...]:
    kinds: list[tuple[str, str, Unit]] = [
        ("motion", "Motion, block by block", "dB"),
        ("road", "Road in the picture, block by block", "share"),
        ("is_connected", "Frames whose road hangs together", "share"),
    ]
    curves = []
    for field, label, unit in kinds:
        series = {}
        for name, seen in (("world", drives), (GAME, game)):
            if seen is not None:
                mean = seen.blocks(getattr(seen, field)).mean(0)
                series[name] = tuple((db(mean) if unit == "dB" else mean).tolist())
        n_blocks = len(series["world"])
        if n_blocks:
            curves.append(
                Curve(
                    name=f"driving_{field}",
                    label=label,
                    x_label="frame",
                    y_label="PSNR between neighbours" if unit == "dB" else "share",
                    unit=unit,
                    x=tuple(float(BLOCK * (b + 1)) for b in range(n_blocks)),
                    series=series,
                )
            )
    return tuple(curves)
