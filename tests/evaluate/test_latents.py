"""Latent-action metrics: tables with known results, and codes with full, partial and no information."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluate import toy
from reelworld.data.dataset import Dataset
from reelworld.data.transforms import with_actions
from reelworld.evaluate.metrics import perplexity
from reelworld.systems.genie.evaluate import information, latent_metrics, purity
from reelworld.types import ActionSpec


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset: Dataset = toy.write_dataset(tmp_path_factory.mktemp("toy"))
    return dataset


def test_tables_with_known_answers() -> None:
    table = np.array([[[3.0, 1, 0], [0, 2, 2], [0, 0, 0]]])
    assert purity(table) == pytest.approx([5 / 8])
    assert perplexity(table.sum(-1)) == pytest.approx([2.0])
    # H(actions) of (3, 3, 2)/8 less H(actions | code) = (H(3/4, 1/4) + H(1/2, 1/2)) / 2, in bits
    entropy = -(2 * 3 / 8 * np.log2(3 / 8) + 2 / 8 * np.log2(2 / 8))
    left = (0.8112781244591328 + 1) / 2
    assert information(table) == pytest.approx([(entropy - left) / entropy])


def measured(recordings: Dataset, kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    recorded = [recordings.steps(i)["actions/action"] for i in range(len(recordings.episodes))]
    codes = {
        "all": [4 - rows for rows in recorded],
        "half": [rows // 2 for rows in recorded],
        "nothing": [rng.integers(0, 5, len(rows)) for rows in recorded],
        "one": [np.zeros(len(rows), np.int64) for rows in recorded],
    }[kind]
    labelled = with_actions(recordings, "latent", ActionSpec(kind="discrete", n=8), codes)
    return {metric.name: metric for metric in latent_metrics(labelled, recordings, "test", seed=0)}


def test_codes_that_know_all_something_or_nothing(recordings: Dataset) -> None:
    everything, half, nothing, one = (measured(recordings, kind) for kind in ("all", "half", "nothing", "one"))
    assert everything["latent_purity"].value == pytest.approx(everything["latent_information"].value) == 1
    n = everything["latent_purity"].n  # all right n times: 95% sure that it happens at least so often
    assert everything["latent_purity"].low ** n == pytest.approx(0.025) and everything["latent_purity"].high == 1
    assert np.isnan(everything["latent_information"].low) and not np.isnan(half["latent_information"].low)
    assert everything["latent_codes_used"].value == pytest.approx(5 / 8)
    assert 0.4 < half["latent_information"].value < 0.8
    assert nothing["latent_information"].value < 0.1 < half["latent_information"].low
    assert nothing["latent_purity"].value < 0.45
    assert one["latent_purity"].value == one["latent_purity"].baselines["one code for all"]
    assert one["latent_information"].value == pytest.approx(0)
    assert one["latent_perplexity"].value == pytest.approx(1)


def test_only_steps_that_change_the_picture_count(recordings: Dataset) -> None:
    changes = 0
    for i in recordings.indices("test"):
        frames = recordings.arrays(i, 0, recordings.episodes[i].n_frames)["frames"]
        changes += int((frames[1:] != frames[:-1]).any((1, 2, 3)).sum())
    steps = sum(recordings.episodes[i].n_frames - 1 for i in recordings.indices("test"))
    assert 0 < changes < steps
    assert measured(recordings, "all")["latent_purity"].n == changes


def test_recordings_without_actions_are_not_compared(recordings: Dataset) -> None:
    codes = [recordings.steps(i)["actions/action"] for i in range(len(recordings.episodes))]
    spec = ActionSpec(kind="discrete", n=8)
    blind = with_actions(recordings, "latent", spec, codes)
    vectors = with_actions(recordings, "vector", ActionSpec(kind="continuous", n=2), codes)
    assert not list(latent_metrics(blind, vectors, "test", 0))
