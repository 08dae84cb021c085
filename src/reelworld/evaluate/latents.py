"""What latent actions have to do with the recorded ones that were hidden from training.

Shapes: K latent actions, A recorded actions
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from reelworld.data.dataset import Dataset
from reelworld.data.rare_events import changes
from reelworld.evaluate.figures import Figure, Section, Unit, bootstrap, build, share_interval

__all__ = ["measure_latents"]

MOST_EPISODES = 128
TINY = 1e-12


def measure_latents(dataset: Dataset, split: str, seed: int) -> Section | None:
    """Compare codes and recorded actions on steps that change the picture; the others show nothing of an action.

    Args:
        dataset: Recordings with codes in place of their actions.
        split: Episodes to use.
        seed: Of the choice of episodes (at most 128) and of the intervals.

    Returns:
        None if the recordings name no actions, several streams of them, or vectors.
    """
    recorded = dataset.recorded
    assert recorded is not None
    specs = recorded.info.actions
    spec = next(iter(specs.values()), None)
    if spec is None or len(specs) > 1 or spec.kind != "discrete" or spec.repeat > 1:
        return None
    n_codes = next(iter(dataset.info.actions.values())).n
    chosen = np.random.default_rng(seed).permutation(dataset.indices(split))[:MOST_EPISODES]
    tables_CKA = np.stack([_count(dataset, recorded, int(i), n_codes, spec.n) for i in chosen])
    totals, table_KA = tables_CKA.reshape(len(tables_CKA), -1), tables_CKA.sum(0)
    n = int(table_KA.sum())

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
        return bootstrap(totals, lambda t: statistic(t.reshape(*t.shape[:-1], n_codes, spec.n)), seed)

    def figure(name: str, interval: tuple[float, float, float], unit: Unit, **baselines: float) -> Figure:
        beside = {k.replace("_", " "): v for k, v in baselines.items()}
        what = "steps that change the picture"
        return build(name, interval, unit=unit, n=n, trials=what, n_clips=len(totals), baselines=beside)

    pure, informed = interval(purity), interval(information)
    if pure[0] == 1:  # resampling cannot show any doubt: the share has an exact bound, the information has none
        pure = share_interval(totals.sum(1), totals.sum(1), seed)
        informed = (informed[0], math.nan, math.nan)
    figures = (
        figure("latent_purity", pure, "share", one_code_for_all=float(table_KA.sum(0).max() / max(n, 1))),
        figure("latent_information", informed, "share", one_code_for_all=0.0),
        figure("latent_codes_used", interval(used), "share"),
        figure("latent_perplexity", interval(perplexity), ""),
    )
    return Section(
        name="latent_actions",
        label="Did it find the actions?",
        explanation="The actions of this world were found in video alone. Here they are compared with those that the "
        "recordings name and that training never saw.",
        figures=figures,
    )


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
    """Share of steps whose action is the most frequent one of their code; tables (..., K, A) -> (...)."""
    result: np.ndarray = table.max(-1).sum(-1) / table.sum((-1, -2))
    return result


def information(table: np.ndarray) -> np.ndarray:
    """Mutual information of codes and actions as a share of the entropy of actions, (...)."""
    joint = table / table.sum((-1, -2), keepdims=True)
    of_codes, of_actions = _entropy(joint.sum(-1)), _entropy(joint.sum(-2))
    together = _entropy(joint.reshape(*joint.shape[:-2], -1))
    result: np.ndarray = (of_codes + of_actions - together) / of_actions
    return result


def used(table: np.ndarray) -> np.ndarray:
    """Share of codes that occur, (...)."""
    result: np.ndarray = (table.sum(-1) > 0).mean(-1)
    return result


def perplexity(table: np.ndarray) -> np.ndarray:
    """How many codes would be needed if all were used equally often, (...)."""
    result: np.ndarray = np.exp(_entropy(table.sum(-1) / table.sum((-1, -2))[..., None]))
    return result


def _entropy(shares: np.ndarray) -> np.ndarray:
    result: np.ndarray = -(shares * np.log(np.maximum(shares, TINY))).sum(-1)
    return result
