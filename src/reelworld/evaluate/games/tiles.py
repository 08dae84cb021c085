"""Sections for tile-based games: single steps, tiles of reconstructions and rollouts, and the agent's cell.

About half of all steps of a grid game change nothing, so copying is right for half of the frames and 99% of the tiles.
Every metric is therefore reported together with the copy baseline; steps that change something are reported separately.

Shapes: n transitions or starts, T frames, R C tile rows and columns, K tiles of the atlas
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelworld.evaluate.games.agent import NOWHERE, SEVERAL, AgentFinder, most_frequent
from reelworld.evaluate.metrics import COPY, FROZEN, bootstrap
from reelworld.evaluate.protocol import EvalConfig, fixed_clip, recorded_clips
from reelworld.evaluate.results import Metric, MetricBuilder, Series, Text
from reelworld.evaluate.samples import EvalData, Evaluation, Starts, draws_futures, reconstruct, roll
from reelworld.evaluate.sections import Item, Section, prediction
from reelworld.evaluate.sections.tokenizer import MAX_CLIPS, MAX_FRAMES
from reelworld.evaluate.tiles import TileAtlas
from reelworld.types import Clip, ModelSpec
from reelworld.worlds.world import World

CHUNK_STARTS = 512
RARE_FRACTION = 0.03

TEXTS = {
    "tokenizer_tiles_right": Text(
        "Tiles reconstructed", "Each decoded tile, read as the nearest tile of the game, is the right one."
    ),
    "tokenizer_kinds_right": Text(
        "Kinds of tile always right", "Rare tiles count as much as common ones here: the agent, a key, a door."
    ),
    "open_loop_tiles_right": Text("Tiles right, open loop", "Mean over all scored steps and tiles."),
    "agent": Text(
        "Agent in the right cell, {h} steps",
        "The cell in which most of {k} samples show the agent is the recorded one. A sample without an agent, or with "
        "two, is no vote.",
    ),
    "gain_agent": Text(
        "... gain over the last frame, {h} steps",
        "Fraction of starts with the right cell minus the fraction for the agent's last cell seen, in points.",
    ),
    "agent_single": Text(
        "Agent right in single samples, {h} steps",
        "Each sample alone; one without an agent, or with two, is wrong.",
        "",
    ),
    "agent_lost": Text(
        "Samples without one agent, {h} steps", "Samples in which no agent is found, or more than one.", "lower"
    ),
    "one_step_frames_exact": Text(
        "Exact next frames", "From true frames, one step under the true action: every tile is right."
    ),
    "one_step_changed_frames_exact": Text(
        "Exact next frames, steps with changes", "The same, only steps that change the picture."
    ),
    "one_step_unchanged_frames_exact": Text(
        "Exact next frames, steps without changes", "The same, only steps that change nothing: copying is right."
    ),
    "one_step_tiles_right": Text("Tiles right", "All tiles of the next frame, still ones included."),
    "one_step_changed_tiles_right": Text("Changed tiles right", "Only the tiles that differ from the frame before."),
    "one_step_change_f1": Text(
        "F1 of changes",
        "Predicted changes of tiles against true ones: twice the rightly changed tiles over both together. A copy of "
        "the last frame has 0.",
    ),
    "rare_changes_exact": Text(
        "Rare changes right",
        "Steps with a change of tile that the training recordings show in under 3% of changing steps.",
    ),
}


# ---------------------------------------------------------------------- single steps


@dataclass(frozen=True)
class OneStep:
    """Tile ids around one-step predictions."""

    clip: np.ndarray
    """int64, (n,)."""
    step: np.ndarray
    """int64, (n,): index of the frame the prediction starts from."""
    before: np.ndarray
    """int64, (n, R, C)."""
    after: np.ndarray
    predicted: np.ndarray
    first: np.ndarray
    """int64, (n, R, C): first frame of the clip."""

    @classmethod
    def of(cls, world: World, clips: Sequence[Clip], atlas: TileAtlas, n_steps: int, seed: int) -> OneStep:
        """Predict single steps from true frames under true actions.

        Args:
            world: The world.
            clips: Held-out clips.
            atlas: Tiles of the training split.
            n_steps: At most this many, drawn without repetition from all steps with a full context.
            seed: Of the draw and of the world's noise.
        """
        context = world.spec.context[1]
        positions = [(c, t) for c, clip in enumerate(clips) for t in range(context - 1, len(clip.frames) - 1)]
        chosen = sorted(np.random.default_rng(seed).permutation(len(positions))[:n_steps].tolist())
        parts: list[list[np.ndarray]] = []
        for i in range(0, len(chosen), CHUNK_STARTS):
            some = [positions[j] for j in chosen[i : i + CHUNK_STARTS]]
            starts = Starts.at(clips, some, context, 1)
            predicted = atlas.nearest_ids(roll(world, starts, seed + i)[:, 0, 0])
            actual = [atlas.true_ids(x) for x in (starts.context[:, -1], starts.future[:, 0], starts.first)]
            parts.append([starts.clip, np.array([t for _, t in some]), actual[0], actual[1], predicted, actual[2]])
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def one_step(evaluation: Evaluation) -> OneStep:
    """Predict the single steps of an evaluation."""
    assert evaluation.atlas is not None
    config = evaluation.config
    return OneStep.of(evaluation.world, evaluation.wide, evaluation.atlas, config.single_steps, config.seed)


def measure_one_step(evaluation: Evaluation) -> Iterator[Item]:
    """Compare single steps tile by tile."""
    assert evaluation.atlas is not None
    one = evaluation.memo("one_step", one_step)
    rare = rare_changes(evaluation.atlas.true_ids(c.frames) for c in recorded_clips(evaluation.dataset))
    yield from one_step_metrics(evaluation.build(TEXTS, one.clip), one, rare)


def one_step_metrics(make: MetricBuilder, one: OneStep, rare: set[tuple[int, int]]) -> Iterator[Metric]:
    """Build the metrics of single steps; ``rare`` are kinds of change (tile before, tile after)."""
    right = {"world": one.predicted == one.after, COPY: one.before == one.after, FROZEN: one.first == one.after}
    whole = {k: v.all((1, 2)) for k, v in right.items()}
    changed = one.before != one.after
    moves = changed.any((1, 2))
    metrics = [
        masked(make, "one_step_frames_exact", whole, np.ones_like(moves), "frames"),
        masked(make, "one_step_changed_frames_exact", whole, moves, "frames"),
        masked(make, "one_step_unchanged_frames_exact", whole, ~moves, "frames"),
        masked(make, "one_step_changed_tiles_right", right, changed, "tiles"),
        _change_f1(make, one, changed),
        masked(make, "one_step_tiles_right", right, np.ones_like(changed), "tiles"),
        masked(make, "rare_changes_exact", whole, _is_rare(one, changed, rare), "steps"),
    ]
    yield from (m for m in metrics if m.n)


def masked(make: MetricBuilder, name: str, right: Mapping[str, np.ndarray], mask: np.ndarray, trials: str) -> Metric:
    """Build the fraction of "world" over the trials of a mask, with the other entries as baselines."""
    return make.fraction(name, right["world"], trials, mask, {k: v for k, v in right.items() if k != "world"})


def _change_f1(make: MetricBuilder, one: OneStep, changed: np.ndarray) -> Metric:
    """Build F1 of changes: 2 * correctly predicted / (predicted + true), resampled as a fraction."""

    def counts(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predicted = shown != one.before
        return predicted & changed & (shown == one.after), np.stack([predicted, changed], -1)

    def trials_of(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # each predicted and each true change is one trial; both are hits if they agree
        hits, trials = counts(shown)
        return np.stack([hits, hits], -1), trials

    hits, trials = trials_of(one.predicted)
    beside: dict[str, np.ndarray | float] = {}
    for name, still in ((COPY, one.before), (FROZEN, one.first)):
        right, all_trials = trials_of(still)
        beside[name] = float(right.sum() / max(all_trials.sum(), 1))
    return make.fraction("one_step_change_f1", hits, "predicted and true changes", trials, beside)


def _is_rare(one: OneStep, changed: np.ndarray, rare: set[tuple[int, int]]) -> np.ndarray:
    """Mark the steps with a rare change, or with a tile that is not in the training split."""
    result = np.zeros(len(one.clip), bool)
    at, _, _ = changed.nonzero()
    for i, old, new in zip(at.tolist(), one.before[changed].tolist(), one.after[changed].tolist(), strict=True):
        result[i] |= (old, new) in rare or min(old, new) < 0
    return result


def rare_changes(clips: Iterable[np.ndarray], max_fraction: float = RARE_FRACTION) -> set[tuple[int, int]]:
    """Find the rare kinds of change of a game.

    Args:
        clips: Tile ids (T, R, C) of training clips.
        max_fraction: A kind (tile before, tile after) is rare if it occurs in fewer of the steps that change
            anything.

    Returns:
        The rare kinds that occur at all.
    """
    steps: dict[tuple[int, int], int] = {}
    n_changing = 0
    for ids in clips:
        before, after = ids[:-1], ids[1:]
        changed = before != after
        n_changing += int(changed.any((1, 2)).sum())
        t, _, _ = changed.nonzero()
        kinds = np.unique(np.stack([t, before[changed], after[changed]], 1), axis=0)
        for _, old, new in kinds.tolist():
            steps[old, new] = steps.get((old, new), 0) + 1
    return {kind for kind, n in steps.items() if n < max_fraction * n_changing}


# ---------------------------------------------------------------------- tiles of other sections


def measure_reconstruction(evaluation: Evaluation) -> Iterator[Item]:
    """Compare the tiles of reconstructions with those of the originals."""
    assert evaluation.atlas is not None
    most = MAX_CLIPS * fixed_clip(evaluation.spec) or MAX_FRAMES
    decoded = [reconstruct(evaluation.world, c.frames[:most]) for c in evaluation.clips]
    actual = [c.frames[: len(d)] for c, d in zip(evaluation.clips, decoded, strict=True)]
    clip = np.repeat(np.arange(len(decoded)), [len(d) for d in decoded])
    make = evaluation.build(TEXTS, clip)
    yield from reconstruction_metrics(make, evaluation.atlas, np.concatenate(actual), np.concatenate(decoded))


def reconstruction_metrics(
    make: MetricBuilder, atlas: TileAtlas, frames: np.ndarray, decoded: np.ndarray
) -> Iterator[Metric]:
    """Build the metrics of tiles, uint8 (n, H, W, 3) twice."""
    n_clips = int(make.clip.max()) + 1
    actual = atlas.true_ids(frames)
    right = actual == atlas.nearest_ids(decoded)
    common = float((actual == np.bincount(actual[actual >= 0]).argmax()).mean())
    yield make.fraction("tokenizer_tiles_right", right, "tiles", baselines={"the most common tile everywhere": common})
    # per clip and kind: was it there, was it ever wrong
    shown = np.zeros((n_clips, len(atlas.tiles)), bool)
    wrong = shown.copy()
    at = np.broadcast_to(make.clip[:, None, None], actual.shape)
    known = actual >= 0
    shown[at[known], actual[known]] = True
    wrong[at[known & ~right], actual[known & ~right]] = True

    def whole_kinds(totals: np.ndarray) -> np.ndarray:
        there, failed = np.split(totals, 2, axis=-1)
        out: np.ndarray = ((there > 0) & (failed == 0)).sum(-1) / (there > 0).sum(-1)
        return out

    kinds = bootstrap(np.concatenate([shown, wrong], 1), whole_kinds, make.seed)
    n = int(shown.any(0).sum())
    yield make.build("tokenizer_kinds_right", kinds, "share", n, "kinds of tile", n_clips=n_clips)


def measure_open_loop(evaluation: Evaluation) -> Iterator[Item]:
    """Compare the tiles of open-loop rollouts with the recorded ones."""
    assert evaluation.atlas is not None
    starts, atlas = evaluation.free_run_starts, evaluation.atlas
    predicted = evaluation.rollouts(starts)[:, 0]
    actual = atlas.true_ids(starts.future)
    others = {
        COPY: np.broadcast_to(starts.context[:, -1:], predicted.shape),
        FROZEN: np.broadcast_to(starts.first[:, None], predicted.shape),
    }
    right = {"world": actual == atlas.nearest_ids(predicted)}
    right |= {k: actual == atlas.true_ids(v) for k, v in others.items()}
    make = evaluation.build(TEXTS, starts.clip)
    yield masked(make, "open_loop_tiles_right", right, starts.valid, "tiles")
    yield prediction.by_step(make, "open_loop_tiles", "Tiles right by step", right, starts.valid)


# ---------------------------------------------------------------------- the agent


@dataclass(frozen=True)
class Cells:
    """Cell of the agent at the horizons of a section; negative where there is not one agent."""

    before: np.ndarray
    """int64, (n,): in the last frame seen."""
    actual: np.ndarray
    """int64, (n, horizons): in the recorded frames."""
    samples: np.ndarray
    """int64, (n, K, horizons)."""

    @classmethod
    def find(
        cls, finder: AgentFinder, atlas: TileAtlas, starts: Starts, samples: np.ndarray, horizons: Sequence[int]
    ) -> Cells:
        """Find the agent in true frames, and in samples by the nearest tile of the game."""
        at = np.array(horizons) - 1
        return cls(
            before=finder.cells(atlas.true_ids(starts.context[:, -1])),
            actual=finder.cells(atlas.true_ids(starts.future[:, at])),
            samples=finder.cells(atlas.nearest_ids(samples[:, :, at])),
        )

    def right(self, i: int) -> dict[str, np.ndarray]:
        """Return 1 where the agent's cell is right at horizon number i, float64 (n,) each; NaN where it is unknown."""
        actual, drawn = self.actual[:, i], self.samples[:, :, i]
        known = (actual >= 0) & (self.before >= 0)
        right = {
            "world": most_frequent(drawn) == actual,
            COPY: self.before == actual,
            prediction.SINGLE: (drawn == actual[:, None]).mean(1),
            "none": (drawn == NOWHERE).mean(1),
            "several": (drawn == SEVERAL).mean(1),
        }
        return {k: np.where(known, v, np.nan) for k, v in right.items()}


def measure_agent(evaluation: Evaluation) -> Iterator[Item]:
    """Compare the agent's cell in samples with the recorded one, in games with a detectable agent."""
    assert evaluation.atlas is not None
    atlas, starts, horizons = evaluation.atlas, evaluation.starts, evaluation.horizons
    finder = AgentFinder.learn(atlas, (atlas.true_ids(c.frames) for c in recorded_clips(evaluation.dataset)))
    if finder is None:
        return
    samples = evaluation.rollouts(starts, evaluation.n_samples)
    cells = Cells.find(finder, atlas, starts, samples, horizons)
    yield from agent_metrics(evaluation.build(TEXTS, starts.clip), starts, cells, evaluation.n_samples, horizons)


def agent_metrics(
    make: MetricBuilder, starts: Starts, cells: Cells, n_samples: int, horizons: Sequence[int]
) -> Iterator[Metric | Series]:
    """Build the metrics of the agent's cell at horizons."""
    k, single = str(n_samples), prediction.SINGLE
    reached = [(i, h) for i, h in enumerate(horizons) if starts.valid[:, h - 1].any()]
    right = {h: cells.right(i) for i, h in reached}
    valid = {h: starts.valid[:, h - 1] & ~np.isnan(right[h][COPY]) for _, h in reached}
    each = f"starts of {k} samples"  # samples of one start are not independent
    for _, h in reached:
        at, mask = right[h], valid[h]
        if not mask.any():
            continue
        copied = {COPY: at[COPY]}
        lost = {"none": at["none"], "several": at["several"]}
        yield make.fraction(f"agent_h{h}", at["world"], "starts", mask, {**copied, single: at[single]}, k=k)
        yield make.mean(f"gain_agent_h{h}", at["world"] - at[COPY], "starts", "points", mask, k=k)
        yield make.fraction(f"agent_single_h{h}", at[single], each, mask, copied, k=k)
        yield make.fraction(f"agent_lost_h{h}", at["none"] + at["several"], each, mask, lost, k=k)
    names = {"world": f"cell that most of {k} samples show", COPY: COPY, single: single}
    yield make.series(
        "samples_agent",
        "Agent in the right cell",
        {shown: np.stack([right[h][key] for _, h in reached], 1) for key, shown in names.items()},
        [h for _, h in reached],
        x_label="steps ahead",
        y_label="share of starts",
        unit="share",
        mask=np.stack([valid[h] for _, h in reached], 1),
    )


def _has_tiles(_spec: ModelSpec, data: EvalData, _config: EvalConfig) -> bool:
    return data.has_tiles


def takes_single_steps(spec: ModelSpec, data: EvalData, _config: EvalConfig) -> bool:
    """Return True for tile-based worlds that predict single frames."""
    return data.has_tiles and not fixed_clip(spec)


ONE_STEP = Section(
    name="one_step",
    title="Single steps",
    description="From true frames, one step under the true action. Each predicted tile is read as the nearest tile of "
    "the game; a frame counts only when all its tiles are right.",
    applies=takes_single_steps,
    measure=measure_one_step,
)
SECTIONS = (
    Section(
        name="tokenizer",
        applies=lambda spec, data, _config: data.has_tiles and bool(spec.grids),
        measure=measure_reconstruction,
    ),
    ONE_STEP,
    Section(
        name="samples",
        applies=lambda spec, data, config: data.has_tiles and draws_futures(spec, config),
        measure=measure_agent,
    ),
    Section(name="open_loop", applies=_has_tiles, measure=measure_open_loop),
)
