"""Latent-action metrics against recorded actions, and the fit of the map from latent to real actions.

The map is fitted on labelled steps of training episodes and measured on other episodes. Only steps that change the
frame are used: the others carry no information about the action.

Shapes: T frames, S steps, A action width, K latent actions, L latent actions of a map
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from reelworld.config import unknown
from reelworld.data.dataset import Dataset
from reelworld.data.rare_events import changes
from reelworld.evaluate.metrics import Interval, bootstrap, entropy, fraction_interval, perplexity
from reelworld.evaluate.protocol import open_like
from reelworld.evaluate.results import Metric, MetricBuilder, Text, Unit
from reelworld.evaluate.samples import Evaluation
from reelworld.evaluate.sections import Item, Section
from reelworld.models.action_mapping import MAX_WIDTH, STREAM, ActionMap, HeldOut, fit_map
from reelworld.train.console import Display
from reelworld.train.pseudo_label import infer_latent_actions
from reelworld.types import ActionSpec, UserError
from reelworld.worlds.action_mapping import no_latent_actions, with_latent_actions
from reelworld.worlds.world import World

MAX_EPISODES = 128
FIT_EPISODES = 32
"""Training episodes from which labels are drawn; more if these have too few."""
HELD_OUT_EPISODES = 64
"""Largest number of held-out episodes."""

TEXTS = {
    "latent_purity": Text(
        "Purity",
        "Steps whose recorded action is the most frequent one of their latent action. Steps that change nothing in the "
        "picture are left out: they show nothing of an action.",
    ),
    "latent_information": Text(
        "Information about the recorded action",
        "Mutual information of latent and recorded actions as a fraction of the entropy of the recorded ones.",
    ),
    "latent_codes_used": Text("Latent actions in use", "Fraction of the latent actions that occur at all.", ""),
    "latent_perplexity": Text(
        "Perplexity of latent actions", "Number of latent actions if all were used equally often; 1 is a collapse.", ""
    ),
}


# ---------------------------------------------------------------------- sections


def measure_latent_actions(evaluation: Evaluation) -> Iterator[Item]:
    """Compare latent and recorded actions on the steps of the evaluation's split."""
    if evaluation.dataset.recorded is not None:
        yield from latent_metrics(
            evaluation.dataset, evaluation.dataset.recorded, evaluation.config.split, evaluation.seed
        )


def latent_metrics(dataset: Dataset, recorded: Dataset, split: str, seed: int) -> Iterator[Metric]:
    """Compare latent and recorded actions on steps that change the picture.

    Nothing is yielded if the recordings have no actions, several streams of them, or vectors.

    Args:
        dataset: Recordings with latent actions in place of their own.
        recorded: The same with their own actions.
        split: Episodes to use.
        seed: Of the choice of episodes (at most 128) and of the intervals.
    """
    specs = recorded.info.actions
    spec = next(iter(specs.values()), None)
    if spec is None or len(specs) > 1 or spec.kind != "discrete" or spec.repeat > 1:
        return
    n_codes, n_actions = next(iter(dataset.info.actions.values())).n, spec.n
    chosen = np.random.default_rng(seed).permutation(dataset.indices(split))[:MAX_EPISODES]
    tables_CKA = np.stack([_count(dataset, recorded, int(i), n_codes, n_actions) for i in chosen])
    totals, table_KA = tables_CKA.reshape(len(tables_CKA), -1), tables_CKA.sum(0)
    make, n = MetricBuilder(TEXTS, np.arange(len(totals)), seed), int(table_KA.sum())

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
        return bootstrap(totals, lambda t: statistic(t.reshape(*t.shape[:-1], n_codes, n_actions)), seed)

    def metric(name: str, interval: Interval, unit: Unit, one_for_all: float | None = None) -> Metric:
        beside = {} if one_for_all is None else {"one code for all": one_for_all}
        return make.build(name, interval, unit, n, "steps that change the picture", beside, len(totals))

    pure, informed = interval(purity), interval(information)
    if pure[0] == 1:  # resampling gives no interval: the fraction has an exact bound, the information has none
        pure = fraction_interval(totals.sum(1), totals.sum(1), seed)
        informed = (informed[0], math.nan, math.nan)
    yield metric("latent_purity", pure, "share", float(table_KA.sum(0).max() / max(n, 1)))
    yield metric("latent_information", informed, "share", 0.0)
    yield metric("latent_codes_used", interval(lambda table: (table.sum(-1) > 0).mean(-1)), "share")
    yield metric("latent_perplexity", interval(lambda table: perplexity(table.sum(-1))), "")


def _count(dataset: Dataset, original: Dataset, episode: int, n_codes: int, n_actions: int) -> np.ndarray:
    """Count pairs of code and recorded action in an episode, float64 (K, A)."""
    codes, recorded = (
        next(rows for name, rows in source.steps(episode).items() if name.startswith("actions/"))
        for source in (dataset, original)
    )
    is_seen = changes(dataset, episode)
    table = np.zeros((n_codes, n_actions))
    np.add.at(table, (codes[:-1][is_seen], recorded[:-1][is_seen]), 1)
    return table


def purity(table: np.ndarray) -> np.ndarray:
    """Return the fraction of steps whose action is the most frequent one of their code; tables (..., K, A) -> (...)."""
    result: np.ndarray = table.max(-1).sum(-1) / table.sum((-1, -2))
    return result


def information(table: np.ndarray) -> np.ndarray:
    """Return the mutual information of codes and actions as a fraction of the entropy of actions, (...)."""
    joint = table / table.sum((-1, -2), keepdims=True)
    of_codes, of_actions = entropy(joint.sum(-1)), entropy(joint.sum(-2))
    together = entropy(joint.reshape(*joint.shape[:-2], -1))
    result: np.ndarray = (of_codes + of_actions - together) / of_actions
    return result


# ---------------------------------------------------------------------- map to real actions


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Settings of fitting and measuring a map."""

    labels: int = 200
    """Labelled steps, drawn from steps of the training split that change the picture."""
    stream: str = ""
    """Name of the real actions; empty where the recordings have one stream."""
    split: Literal["val", "test"] | None = None
    """Split to measure on; None takes test, or val where test has no steps."""
    seed: int = 0
    """Of the draw of episodes and labels."""

    def __post_init__(self) -> None:
        if self.labels < 1 or self.seed < 0:
            raise UserError(f"labels is {self.labels}, seed {self.seed}; wanted 1 or more, and 0 or more.")


@dataclass(frozen=True)
class Steps:
    """The steps of one episode."""

    latent: np.ndarray
    """Inferred from the frames, int64 (S,)."""
    real: np.ndarray
    """Recorded, int64 (S,) or float32 (S, A)."""
    changes: np.ndarray
    """bool (S,): the picture changes."""

    @classmethod
    def cat(cls, episodes: Sequence[Steps]) -> Steps:
        """Concatenate the steps of several episodes."""
        return cls(*(np.concatenate([getattr(e, name) for e in episodes]) for name in ("latent", "real", "changes")))

    def moving(self) -> Steps:
        """Keep the steps that change the frame."""
        return Steps(self.latent[self.changes], self.real[self.changes], self.changes[self.changes])


def fit_on_recordings(world: World, path: Path, config: MapConfig, console: Console | None = None) -> ActionMap:
    """Fit the map of a world's latent actions on labelled recordings, and measure it on other episodes.

    Args:
        world: With latent actions.
        path: Recordings of the same game, with its real actions.
        config: Settings.
        console: Of the progress; the terminal by default.

    Returns:
        The map with its metrics. The world is not changed.

    Raises:
        UserError: If the world has no latent actions, or a map cannot be fitted on the recordings or their labels.
    """
    world = with_latent_actions(world) if world.info.action_map else world
    if STREAM not in world.spec.actions:
        raise no_latent_actions(world)
    n_latents = world.spec.actions[STREAM].n
    if config.labels < n_latents:
        raise UserError(f"{config.labels} labels are few for {n_latents} latent actions: give --labels {n_latents} up.")
    dataset, rng = open_like(world, path), np.random.default_rng(config.seed)
    stream, spec = _stream(dataset, config.stream)
    train = _with_steps(dataset, dataset.indices("train"))
    split: str = config.split or next((s for s in ("test", "val") if _with_steps(dataset, dataset.indices(s))), "val")
    held_out = rng.permutation(_held_out(world, dataset, split))[:HELD_OUT_EPISODES].tolist()
    fitting: list[Steps] = []
    tested: list[Steps] = []
    with Display("finding actions", console) as display:

        def show(last: float) -> None:
            n, expected = len(fitting) + len(tested), min(len(train), FIT_EPISODES) + len(held_out)
            display.update(min(last, n / expected), lambda: f"episode {n}")

        for episode in rng.permutation(train).tolist():
            fitting.append(_steps(dataset, world, episode, stream))
            show(0.99)  # more may be needed
            if len(fitting) >= FIT_EPISODES and sum(int(s.changes.sum()) for s in fitting) >= config.labels:
                break
        _check_moving(dataset, sum(int(s.changes.sum()) for s in fitting), config.labels)
        for episode in held_out:
            tested.append(_steps(dataset, world, episode, stream))
            show(1.0)
    every, moving = Steps.cat(fitting), Steps.cat(fitting).moving()
    drawn = rng.choice(len(moving.latent), config.labels, replace=False)
    at_rest = np.bincount(every.latent[~every.changes], minlength=n_latents)
    still = int(at_rest.argmax()) if at_rest.any() else None
    action_map = fit_map(moving.latent[drawn], moving.real[drawn], spec, n_latents, stream=stream, still=still)
    frequent = int(np.bincount(action_map.kinds(moving.real[drawn])).argmax())
    return replace(action_map, held_out=measure(action_map, tested, frequent, split, config.seed))


def measure(action_map: ActionMap, episodes: Sequence[Steps], frequent: int, split: str, seed: int = 0) -> HeldOut:
    """Measure a map on the steps of episodes that change the picture.

    Args:
        action_map: The map.
        episodes: Not those it was fitted on.
        frequent: Most frequent kind of real action among its labels.
        split: Split of the episodes.
        seed: Of the interval's resampling.

    Raises:
        UserError: If no step changes the picture.
    """
    moving = [episode.moving() for episode in episodes]
    moving = [steps for steps in moving if len(steps.latent)]
    if not moving:
        raise UserError(
            f"nothing moves in the {len(episodes)} {split} episodes, so the map cannot be measured: give another "
            "--split, or record something that changes."
        )
    kinds = [action_map.kinds(steps.real) for steps in moving]
    named = [action_map.meanings[steps.latent] for steps in moving]
    hits = np.array([(a == b).sum() for a, b in zip(kinds, named, strict=True)])
    accuracy, low, high = fraction_interval(hits, np.array([len(k) for k in kinds]), seed)
    counts_LK = np.zeros((len(action_map.to_real), action_map.n_kinds), np.int64)
    np.add.at(counts_LK, (Steps.cat(moving).latent, np.concatenate(kinds)), 1)
    return HeldOut(
        accuracy=accuracy,
        low=None if math.isnan(low) else low,
        high=None if math.isnan(high) else high,
        most_frequent=float((np.concatenate(kinds) == frequent).mean()),
        chance=1 / (action_map.n_kinds - len(action_map.unseen)),
        purity=float(purity(counts_LK)),
        n_steps=int(counts_LK.sum()),
        n_episodes=len(moving),
        split=split,
    )


def _stream(dataset: Dataset, wanted: str) -> tuple[str, ActionSpec]:
    """Choose the stream of real actions."""
    specs = dataset.info.actions
    if not specs:
        raise UserError(
            f"{dataset.path} has no actions, so nothing says what a latent action means: give recordings with labels, "
            "e.g. an action file beside each video (docs/data.md)."
        )
    if wanted and wanted not in specs:
        raise unknown("action stream", wanted, specs)
    if not wanted and len(specs) > 1:
        raise UserError(f"{dataset.path} has the action streams {', '.join(sorted(specs))}: choose one with --stream.")
    stream = wanted or next(iter(specs))
    if stream == STREAM:
        raise UserError(f"the stream {STREAM!r} has the name of the world's own latent actions: name it differently.")
    spec = specs[stream]
    if spec.kind != "discrete" and spec.n > (most := MAX_WIDTH[spec.kind]):
        raise UserError(f"the actions {stream!r} are {spec.n} numbers wide; at most {most} can be mapped.")
    return stream, spec


def _with_steps(dataset: Dataset, episodes: Sequence[int]) -> list[int]:
    return [i for i in episodes if dataset.episodes[i].n_frames > 1]


def _held_out(world: World, dataset: Dataset, split: str) -> list[int]:
    """Return the episodes of a split that the world was not trained on."""
    episodes, trained_on = _with_steps(dataset, dataset.indices(split)), set(world.info.splits.get("train", ()))
    kept = [i for i in episodes if dataset.episodes[i].source not in trained_on]
    if not kept:
        why = "were all used to train this world" if episodes else "hold no two frames"
        raise UserError(
            f"the {len(dataset.indices(split))} {split} episodes of {dataset.path} {why}, so the map cannot be "
            "measured: give another --split, or more recordings."
        )
    return kept


def _check_moving(dataset: Dataset, n_moving: int, n_wanted: int) -> None:
    """Refuse recordings with too few changing steps to fit a map."""
    if not n_moving:
        raise UserError(
            f"nothing moves in the training episodes of {dataset.path}: an action that changes nothing cannot be told "
            "from another; record something that changes."
        )
    if n_moving < n_wanted:
        raise UserError(
            f"{n_wanted} labels are wanted; the training episodes of {dataset.path} have {n_moving} steps that change "
            f"the picture: record more, or give --labels {n_moving} (or less)."
        )


def _steps(dataset: Dataset, world: World, episode: int, stream: str) -> Steps:
    """Read one episode and infer its latent actions."""
    real = dataset.steps(episode).get(f"actions/{stream}")
    n_frames = dataset.episodes[episode].n_frames
    if real is None:
        raise UserError(
            f"{dataset.episodes[episode].source} has no actions {stream!r}, other recordings have: add them, or take "
            "it away."
        )
    latent = infer_latent_actions(dataset, world.model, episode)
    return Steps(latent[:-1], real[: n_frames - 1], changes(dataset, episode))


SECTIONS = (
    Section(
        name="latent_actions",
        title="Latent actions",
        description="The actions of this world were learned from video alone. They are compared with the recorded "
        "ones, which training never saw.",
        applies=lambda _spec, data, _config: data.is_labelled,
        measure=measure_latent_actions,
    ),
)
