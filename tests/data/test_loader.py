import multiprocessing
import os
import signal
from itertools import islice

import numpy as np
import pytest
import torch

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import DataInfo, Dataset, write_episode, write_info
from reelworld.data.loader import Loader, to_batch
from reelworld.types import ActionSpec, Clip, UserError


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for i in range(3):
        n = 20 + i
        clip = Clip(
            frames=rng.integers(0, 256, (n, 4, 4, 3), np.uint8),
            actions={"action": rng.standard_normal((n, 2)).astype(np.float32)},
            rewards=rng.random(n).astype(np.float32),
            terminated=np.zeros(n, bool),
        )
        write_episode(folder / f"{i}.npz", clip)
    write_info(folder, DataInfo(height=4, width=4, actions={"action": ActionSpec(kind="continuous", n=2)}), [])
    return ClipIndex(Dataset.open(folder), "all", 5)


def same(a, b):
    return (
        torch.equal(a.video, b.video)
        and torch.equal(a.conditions.actions["action"], b.conditions.actions["action"])
        and torch.equal(a.rewards, b.rewards)
        and torch.equal(a.terminated, b.terminated)
    )


def test_a_batch_is_what_its_windows_say(windows):
    loader = Loader(windows, 6, seed=3)
    batch = next(loader.batches(2))
    assert batch.video.dtype == torch.float32
    assert batch.video.shape == (6, 5, 4, 4, 3)
    for row, i in enumerate(loader.order(2)):
        want = windows[int(i)]
        np.testing.assert_allclose(batch.video[row].numpy(), want["frames"] / 127.5 - 1, atol=1e-6)
        np.testing.assert_array_equal(batch.conditions.actions["action"][row], want["actions/action"])
        np.testing.assert_array_equal(batch.rewards[row], want["rewards"])


@pytest.mark.parametrize("n_workers", [0, 2])
def test_any_start_and_any_worker_gives_the_same_batches(windows, n_workers):
    weights = np.arange(len(windows), dtype=float)
    straight = list(islice(Loader(windows, 8, 1, weights=weights, weighted_fraction=0.3).batches(), 14))
    loader = Loader(windows, 8, 1, n_workers=n_workers, weights=weights, weighted_fraction=0.3)
    for start in (0, 5, 13):
        again = list(islice(loader.batches(start), 14 - start))
        assert all(same(a, b) for a, b in zip(straight[start:], again, strict=True))


def test_every_epoch_shows_every_window_once_in_another_order(windows):
    loader = Loader(windows, 7, seed=0)
    n = len(windows)
    order = np.concatenate([loader.order(b) for b in range(2 * n)])  # 14 epochs, batches straddle their borders
    epochs = order[: 14 * n].reshape(14, n)
    assert all(sorted(e) == list(range(n)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 14
    assert not np.array_equal(loader.order(0), Loader(windows, 7, seed=1).order(0))


def test_order_may_be_asked_for_backwards(windows):
    loader = Loader(windows, 7, seed=0)
    forwards = [loader.order(b) for b in range(30)]
    backwards = [loader.order(b) for b in reversed(range(30))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_a_share_is_drawn_by_weight_and_the_rest_in_order(windows):
    weights = np.zeros(len(windows))
    weights[[4, 9]] = [1, 3]
    loader = Loader(windows, 10, 0, weights=weights, weighted_fraction=0.4)
    drawn = np.concatenate([loader.order(b)[6:] for b in range(500)])
    assert set(drawn) == {4, 9}
    assert 0.72 < (drawn == 9).mean() < 0.78
    plain = np.concatenate([loader.order(b)[:6] for b in range(len(windows))])
    assert np.bincount(plain).tolist() == [6] * len(windows)
    everything = Loader(windows, 10, 0, weights=weights, weighted_fraction=1.0)
    assert set(everything.order(0)) <= {4, 9}


def test_codes_become_int64():
    batch = to_batch({"codes": torch.zeros(2, 3, 4, dtype=torch.uint16), "actions/a": torch.zeros(2, 3)})
    assert batch.codes.video.dtype == torch.int64
    assert batch.video is None


def test_mistakes_are_named(windows):
    with pytest.raises(UserError, match="batch size is 0"):
        Loader(windows, 0, 0)
    with pytest.raises(UserError, match="weighted fraction"):
        Loader(windows, 1, 0, weighted_fraction=2.0)
    for weights in (np.ones(3), np.zeros(len(windows)), np.full(len(windows), np.nan)):
        with pytest.raises(UserError, match="finite numbers"):
            Loader(windows, 1, 0, weights=weights, weighted_fraction=0.5)


def test_a_ctrl_c_leaves_the_workers_to_the_main_process(windows):
    """It reaches the whole process group; the loop still wants batches for its last step."""
    straight = list(islice(Loader(windows, 8, 1).batches(), 12))
    batches = Loader(windows, 8, 1, n_workers=2).batches()
    again = list(islice(batches, 2))  # one from each: both run
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
    again += islice(batches, 10)
    assert all(worker.is_alive() for worker in workers)
    assert all(same(a, b) for a, b in zip(straight, again, strict=True))
