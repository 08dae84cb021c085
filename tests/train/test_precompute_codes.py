"""A recording becomes codes once; a stopped encoding goes on; other weights are refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from reelworld.data.dataset import Dataset
from reelworld.nn.pixels import to_float
from reelworld.systems.pocket.tokenizer import PatchTokenizer, PatchTokenizerConfig
from reelworld.train.precompute_codes import precompute_codes, replay_batches, weights_hash
from reelworld.types import Batch, UserError

QUIET = Console(quiet=True)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, rng = tmp_path / "recordings", np.random.default_rng(0)
    folder.mkdir()
    for number in range(3):
        frames = rng.integers(0, 256, (5 + number, 16, 16, 3), dtype=np.uint8)
        np.savez(folder / f"e{number}.npz", frames=frames, actions=rng.integers(0, 4, 5 + number))
    return Dataset.open(folder)


@pytest.fixture
def tokenizer() -> PatchTokenizer:
    torch.manual_seed(0)
    return PatchTokenizer(PatchTokenizerConfig(rows=2, columns=2, width=16)).train()


def test_codes_are_those_of_the_tokenizer(tmp_path: Path, dataset: Dataset, tokenizer: PatchTokenizer) -> None:
    store = precompute_codes(dataset, tokenizer, tmp_path / "codes", batch_frames=2, console=QUIET)
    assert tokenizer.training
    assert [e.n_frames for e in store.dataset.episodes] == [5, 6, 7]
    tokenizer.eval()
    for episode, e in enumerate(store.dataset.episodes):
        found, given = store.dataset.arrays(episode, 0, e.n_frames), dataset.arrays(episode, 0, e.n_frames)
        expected = tokenizer.encode(to_float(torch.from_numpy(given["frames"])[None])).video[0]
        np.testing.assert_array_equal(found["codes"], expected.numpy())
        (name,) = (k for k in given if k.startswith("actions"))
        np.testing.assert_array_equal(found[name], given[name])
    assert len({int(c) for e in (0, 1) for c in store.dataset.arrays(e, 0, 5)["codes"].flat}) > 5


def test_an_interrupted_encoding_goes_on(tmp_path: Path, dataset: Dataset, tokenizer: PatchTokenizer) -> None:
    whole = precompute_codes(dataset, tokenizer, tmp_path / "whole", console=QUIET)
    inner, calls = tokenizer.encode, []

    def encode(video: torch.Tensor) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(video)

    tokenizer.encode = encode
    with pytest.raises(KeyboardInterrupt):
        precompute_codes(dataset, tokenizer, tmp_path / "codes", console=QUIET)
    store = precompute_codes(dataset, tokenizer, tmp_path / "codes", console=QUIET)
    assert len(calls) == 4  # one episode kept, one interrupted and done again, one new
    for episode, e in enumerate(store.dataset.episodes):
        for name, values in whole.dataset.arrays(episode, 0, e.n_frames).items():
            np.testing.assert_array_equal(store.dataset.arrays(episode, 0, e.n_frames)[name], values)
    precompute_codes(dataset, tokenizer, tmp_path / "codes", console=QUIET)
    assert len(calls) == 4  # finished: opened as it is


def test_codes_of_other_weights_are_refused(tmp_path: Path, dataset: Dataset, tokenizer: PatchTokenizer) -> None:
    precompute_codes(dataset, tokenizer, tmp_path / "codes", console=QUIET)
    with torch.no_grad():
        next(tokenizer.parameters())[0, 0] += 1
    with pytest.raises(UserError, match="codes of another tokenizer"):
        precompute_codes(dataset, tokenizer, tmp_path / "codes", console=QUIET)


def test_hash_sees_every_weight_and_nothing_else() -> None:
    torch.manual_seed(0)
    module = nn.BatchNorm1d(2).double()
    before = weights_hash(module)
    assert weights_hash(module.to(memory_format=torch.contiguous_format)) == before
    for tensor in module.state_dict().values():
        tensor.add_(1)
        assert weights_hash(module) != before
        tensor.sub_(1)
    assert weights_hash(module) == before


def test_batches_come_again_and_a_run_goes_on_where_it_was() -> None:
    made: list[int] = []

    def batches(start: int) -> Iterator[Batch]:
        for number in count(start):
            made.append(number)
            yield Batch(rewards=torch.tensor([[float(number)]]))

    def numbers(start: int, n: int) -> list[int]:
        passing = replay_batches(batches, times=3, seed=0, n_kept=5)(start)
        return [int(next(passing).rewards) for _ in range(n)]  # type: ignore[arg-type]

    drawn = numbers(0, 30)
    assert made == list(range(10))
    passes = [drawn[i : i + 5] for i in range(0, 30, 5)]
    assert [sorted(p) for p in passes] == [[0, 1, 2, 3, 4]] * 3 + [[5, 6, 7, 8, 9]] * 3
    assert len({tuple(p) for p in passes}) == 6 and passes[0] == [0, 1, 2, 3, 4]
    assert all(numbers(start, 30 - start) == drawn[start:] for start in range(30))
    assert replay_batches(batches, times=1, seed=0) is batches
