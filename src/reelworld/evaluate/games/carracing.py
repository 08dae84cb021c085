"""CarRacing: closed-loop driving on pixels, in the world and in the game, with road metrics of the frames.

Recorded actions leave the road within a hundred frames even in the game. A long rollout of a driving world is therefore
informative only with a reactive driver. This driver steers towards the grey area ahead of the car. It gives gas on one
step of four if the road is straight ahead, and more gas and the brake in bends.

Shapes: n runs, T frames, S steps, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelworld.data.episodes import DataInfo
from reelworld.envs.policies.carracing import BRAKE, COAST, GAS, encode_keys
from reelworld.evaluate.metrics import db, squared_error
from reelworld.evaluate.protocol import BLOCK, EvalConfig, fixed_clip, given_frames
from reelworld.evaluate.results import Metric, MetricBuilder, Series, Text, Unit, not_applicable
from reelworld.evaluate.samples import EvalData, Evaluation, Starts
from reelworld.evaluate.sections import Details, Item, Section
from reelworld.evaluate.sections.simulator import FIRST_SEED, has_simulator, open_simulator
from reelworld.models.samplers import SamplerConfig
from reelworld.types import ActionSpec, Clip, ModelSpec, UserError
from reelworld.worlds.world import World

DEAD_ZONE, BEND = 2.0, 6.0
"""Columns that the road's middle may be off before the driver steers, and before it takes the bend."""
ON_STRAIGHT = (GAS, COAST, COAST, COAST)
IN_BEND = (GAS, GAS, COAST, BRAKE, COAST, COAST)
MOTION = (22.0, 34.0)
"""PSNR range of neighbouring frames while driving, in dB: above it, the world is frozen; below it, it flickers."""
ROAD_TOLERANCE = 0.4
"""A block keeps its road when its fraction of the picture is within 40% of the same driver's in the game."""
CONNECTED = 0.9
"""A frame's road is connected when its largest piece has more than this fraction of it."""
GAME = "the game itself, same driver"
GREY_RANGE = 30
"""Greatest difference of the three channels of a road pixel; grass differs by a hundred."""
DARK, BRIGHT = 80, 135
"""Least and greatest mean of the three channels; the road is drawn with 100 to 110, the bar below in black."""
SIZE = 64
ROAD_ROWS = 56
"""Rows of a 64x64 frame above the bar of indicators."""
LOOK_ROWS = slice(30, 46)
"""Rows just ahead of the car, which is in rows 45 to 51."""

ROAD_AHEAD, NEAR_MIDDLE = 0.1, 8
"""The road is ahead when it fills this fraction of those rows, and its middle is no more columns off."""

TEXTS = {
    "driving_motion": Text(
        "Motion from frame to frame",
        "PSNR between neighbouring frames while driving. Above 34 dB the world stands still, below 22 dB it flickers.",
        "near the data",
    ),
    "driving_moves": Text(
        "Blocks with the motion of driving", "Blocks of 50 frames with 22 to 34 dB between neighbouring frames."
    ),
    "driving_road": Text("Road in the picture", "Mean fraction of the picture that is road.", "near the data"),
    "driving_keeps_road": Text(
        "Blocks that keep their road",
        "Blocks of 50 frames whose fraction of road is within 40% of the same driver's mean in the game.",
    ),
    "driving_connected": Text(
        "Frames with connected road", "The largest piece of road has more than 90% of the road pixels."
    ),
}


# ---------------------------------------------------------------------- road


def road_pixels(frames: np.ndarray) -> np.ndarray:
    """Mark the road pixels above the bar.

    Args:
        frames: uint8, (..., 64, 64, 3).

    Returns:
        bool, (..., 56, 64).
    """
    above = frames[..., :ROAD_ROWS, :, :].astype(np.int16)
    mean = above.sum(-1) / 3
    out: np.ndarray = (above.max(-1) - above.min(-1) <= GREY_RANGE) & (mean >= DARK) & (mean <= BRIGHT)
    return out


def road_centre(frames: np.ndarray) -> np.ndarray:
    """Find the mean column of the road just ahead of the car.

    Args:
        frames: uint8, (..., 64, 64, 3).

    Returns:
        float64, (...): columns right of the middle of the picture, where the car is; NaN without any road.
    """
    ahead = road_pixels(frames)[..., LOOK_ROWS, :]
    columns = np.arange(SIZE) - (SIZE - 1) / 2
    n = ahead.sum((-2, -1))
    with np.errstate(invalid="ignore"):
        return np.where(n > 0, (ahead * columns).sum((-2, -1)) / n, np.nan)


def sees_road(frames: np.ndarray) -> np.ndarray:
    """Return True where the road is ahead of the car, uint8 (..., 64, 64, 3) -> bool (...)."""
    ahead = road_pixels(frames)[..., LOOK_ROWS, :].mean((-2, -1))
    out: np.ndarray = (ahead >= ROAD_AHEAD) & (np.abs(road_centre(frames)) <= NEAR_MIDDLE)
    return out


def connectivity(road: np.ndarray) -> float:
    """Compute the fraction of road pixels in the largest piece of road; pixels that touch at a corner are connected.

    Args:
        road: bool, (H, W).

    Returns:
        0 to 1; 0 where there is no road.
    """
    # one node per horizontal run of road pixels; runs of neighbouring rows that touch are joined
    edges = np.diff(road.astype(np.int8), axis=1, prepend=0, append=0)
    rows, first = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    begins = np.searchsorted(rows, np.arange(len(road) + 1)).tolist()
    a, b = first.tolist(), stop.tolist()
    for row in range(1, len(road)):
        for i in range(begins[row], begins[row + 1]):
            for j in range(begins[row - 1], begins[row]):
                if a[i] <= b[j] and a[j] <= b[i]:
                    parent[root(i)] = root(j)
    if not parent:
        return 0.0
    sizes = np.bincount([root(i) for i in range(len(parent))], stop - first)
    return float(sizes.max() / sizes.sum())


# ---------------------------------------------------------------------- driving


class Reactive:
    """Driver of n cars, each by its own picture."""

    def __init__(self, n: int) -> None:
        self._steering = np.zeros(n, np.int64)
        self._t = 0

    def keys(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose steering (-1 left, 0, 1 right) and pedal, int64 (n,) each, from frames, uint8 (n, 64, 64, 3).

        Without any road the last direction is held.
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
    """Measurements of n drives of S steps."""

    motion: np.ndarray
    """float64, (n, S): mean squared error between neighbouring frames."""
    road: np.ndarray
    """float64, (n, S): fraction of the picture above the bar that is road."""
    is_connected: np.ndarray
    """bool, (n, S): the road is connected."""

    @classmethod
    def of(cls, frames: np.ndarray) -> Drives:
        """Measure drives, uint8 (n, S + 1, 64, 64, 3)."""
        roads = road_pixels(frames[:, 1:])
        pieces = [[connectivity(frame) for frame in run] for run in roads]
        return cls(
            motion=squared_error(frames[:, 1:], frames[:, :-1]),
            road=roads.mean((2, 3)),
            is_connected=np.array(pieces) > CONNECTED,
        )

    def first(self, n_steps: int) -> Drives:
        """The first steps of every drive."""
        return Drives(self.motion[:, :n_steps], self.road[:, :n_steps], self.is_connected[:, :n_steps])

    def blocks(self, values: np.ndarray) -> np.ndarray:
        """Average per block of 50 steps, (n, S) -> (n, B); steps that do not fill a block are left out."""
        n_blocks = values.shape[1] // BLOCK
        out: np.ndarray = values[:, : n_blocks * BLOCK].reshape(len(values), n_blocks, BLOCK).mean(2)
        return out


def can_drive(spec: ModelSpec, data: EvalData) -> bool:
    """Return True for worlds of CarRacing that take the game's own actions, one per frame."""
    simulator = data.info.provenance.get("simulator")
    is_car = isinstance(simulator, Mapping) and str(simulator.get("env_id", "")).startswith("CarRacing-")
    return is_car and has_simulator(spec, data) and (spec.height, spec.width) == (SIZE, SIZE)


def _drive(
    step: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, spec: ActionSpec, n_steps: int, seed: int
) -> np.ndarray:
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
    """Drive in the world.

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
    context = given_frames(world.spec)
    positions: list[tuple[int, int]] = []
    for i, clip in enumerate(clips):
        ahead = np.flatnonzero(sees_road(clip.frames[context - 1 : -1]))
        if len(ahead) and len(positions) < n_runs:
            positions.append((i, int(ahead[0]) + context - 1))
    if not positions:
        raise UserError("no recorded frame shows the road ahead of the car: record episodes in which the car drives.")
    starts = Starts.at(clips, positions, context, 1)
    (stream, spec), session = next(iter(world.spec.actions.items())), world.session(n=len(positions))
    session.sampler = sampler or session.sampler
    session.reset(starts.context, {stream: starts.context_actions[stream]}, seed=seed)
    return _drive(lambda keys: session.step({stream: keys}).frame, starts.context[:, -1], spec, n_steps, seed)


def drive_simulator(info: DataInfo, n_runs: int, n_steps: int, seed: int) -> np.ndarray:
    """Drive in the game on fresh tracks, uint8 (n, S + 1, 64, 64, 3); a finished lap goes on.

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


def driving_metrics(drives: Drives, game: Drives | None, seed: int) -> Iterator[Metric]:
    """Compute the metrics of drives in a world.

    Args:
        drives: In the world.
        game: The same driver in the game; None leaves out the comparison with it.
        seed: Of the bootstrap.
    """
    make = MetricBuilder(TEXTS, np.arange(len(drives.road)), seed)

    def beside(value: Callable[[Drives], np.ndarray]) -> dict[str, np.ndarray | float]:
        return {} if game is None else {GAME: value(game)}

    def moves(seen: Drives) -> np.ndarray:
        motion = db(seen.blocks(seen.motion))
        return (motion >= MOTION[0]) & (motion <= MOTION[1])

    yield make.psnr("driving_motion", drives.motion, baselines=beside(lambda d: d.motion))
    yield make.mean("driving_road", drives.road, "frames", "share", baselines=beside(lambda d: d.road))
    yield make.fraction("driving_moves", moves(drives), "blocks", baselines=beside(moves))
    if game is not None:
        usual = game.road.mean()

        def keeps_road(seen: Drives) -> np.ndarray:
            out: np.ndarray = np.abs(seen.blocks(seen.road) - usual) <= ROAD_TOLERANCE * usual
            return out

        yield make.fraction("driving_keeps_road", keeps_road(drives), "blocks", baselines=beside(keeps_road))
    connected = beside(lambda d: d.is_connected)
    yield make.fraction("driving_connected", drives.is_connected, "frames", baselines=connected)


def measure(evaluation: Evaluation) -> Iterator[Item]:
    """Drive in the world, and once in the game for reference where it is installed."""
    config = evaluation.config
    n_runs, n_steps, seed = config.stability_runs, config.stability_steps, config.seed
    yield Details(steps=str(n_steps))
    try:
        drives = Drives.of(drive_world(evaluation.world, evaluation.wide, n_runs, n_steps, seed))
    except UserError as error:
        yield not_applicable("driving_missing", "Driving", f"Missing: {error}")
        return
    game, missing = None, []
    try:
        game = Drives.of(drive_simulator(evaluation.data.info, n_runs, n_steps, seed))
    except UserError as error:
        missing = [not_applicable("driving_game_missing", GAME.capitalize(), f"Missing: {error}")]
    yield from driving_metrics(drives, game, seed)
    yield from missing
    yield from _series(drives, game)


def _series(drives: Drives, game: Drives | None) -> Iterator[Series]:
    kinds: list[tuple[str, str, Unit, Callable[[Drives], np.ndarray]]] = [
        ("motion", "Motion, block by block", "dB", lambda d: d.motion),
        ("road", "Road in the picture, block by block", "share", lambda d: d.road),
        ("is_connected", "Frames with connected road", "share", lambda d: d.is_connected),
    ]
    n_blocks = drives.road.shape[1] // BLOCK
    for name, label, unit, values in kinds if n_blocks else []:
        means = {k: d.blocks(values(d)).mean(0) for k, d in (("world", drives), (GAME, game)) if d is not None}
        yield Series(
            name=f"driving_{name}",
            label=label,
            x_label="frame",
            y_label="PSNR between neighbours" if unit == "dB" else "share",
            unit=unit,
            x=tuple(float(BLOCK * (b + 1)) for b in range(n_blocks)),
            lines={k: tuple((db(v) if unit == "dB" else v).tolist()) for k, v in means.items()},
        )


def _applies(spec: ModelSpec, data: EvalData, config: EvalConfig) -> bool:
    return config.stability_steps > 0 and not fixed_clip(spec) and can_drive(spec, data)


SECTIONS = (
    Section(
        name="driving",
        title="Driving for {steps} frames",
        description="A driver that steers on the pixels alone: towards the middle of the grey in the rows ahead of the "
        "car. The same driver in the game, on fresh tracks, is reported beside it.",
        applies=_applies,
        measure=measure,
    ),
)
