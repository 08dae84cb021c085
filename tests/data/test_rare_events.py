"""Event weights and the size of rewards against codes and rewards made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reelworld.data.clip_index import ClipIndex
from reelworld.data.code_store import CodeStoreWriter
from reelworld.data.dataset import Dataset, write_episode
from reelworld.data.episodes import DataInfo, Episode
from reelworld.data.rare_events import CHUNK, changes, event_weights, reward_scale
from reelworld.types import Clip, GridSpec, TokenSpec

N_FRAMES = 60


def store(folder: Path, codes: np.ndarray, steps: dict[str, np.ndarray], n_episodes: int = 1) -> Dataset:
    """A store of equal episodes, codes (T, 2)."""
    episodes = [Episode(source=str(i), n_frames=len(codes), split="train", file="") for i in range(n_episodes)]
    tokens = TokenSpec(grids={"video": GridSpec(rows=1, columns=2, codebook_size=10)})
    info = DataInfo(fps=1.0, height=8, width=16)
    writer = CodeStoreWriter(folder, info=info, episodes=episodes, tokens=tokens, identity="hand-made")
    for i in writer.missing():
        writer.write(i, codes, steps)
    return writer.finish().dataset


def test_rare_changes_outweigh_common_ones(tmp_path: Path) -> None:
    """Code 0 and 1 swap all the time; 2 appears once."""
    codes = np.tile(np.array([[0, 1], [1, 0]]), (30, 1))
    codes[41] = [2, 0]
    windows = ClipIndex(store(tmp_path, codes, {}, n_episodes=4), "train", 4)
    weights = event_weights(windows)
    has_rare = (windows.index[:, 1] <= 41) & (windows.index[:, 1] + 3 >= 41)
    assert weights[has_rare].min() > 5 * weights[~has_rare].max() > 0


@pytest.mark.parametrize("n_frames", [1, 2, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_steps_that_change_a_pixel_are_found_across_the_pieces(tmp_path: Path, n_frames: int) -> None:
    rng = np.random.default_rng(n_frames)
    is_changed = rng.random(n_frames - 1) < 0.5
    is_changed[CHUNK - 1 : CHUNK + 1] = [True, False][: len(is_changed[CHUNK - 1 : CHUNK + 1])]  # at the seam
    frames = np.zeros((n_frames, 8, 8, 3), np.uint8)
    frames[1:, 3, 5, 1] = np.cumsum(is_changed) % 256
    for name in ("a", "b", "c"):  # one recording alone is cut into stretches
        write_episode(tmp_path / f"{name}.npz", Clip(frames=frames, actions={}))
    assert changes(Dataset.open(tmp_path), 0).tolist() == is_changed.tolist()


@pytest.mark.parametrize("name", ["rewards", "terminated"])
@pytest.mark.parametrize(("length", "stride"), [(2, 1), (3, 1), (3, 2)])
def test_a_reward_or_end_belongs_to_the_steps_of_a_window(tmp_path: Path, name: str, length: int, stride: int) -> None:
    """Row 20 leads from frame 20 to frame 21; the last row is padding and no event."""
    rows = np.zeros(N_FRAMES, np.float32 if name == "rewards" else bool)
    rows[[20, N_FRAMES - 1]] = 1
    windows = ClipIndex(store(tmp_path, np.zeros((N_FRAMES, 2), int), {name: rows}), "train", length, stride)
    weights = event_weights(windows)
    starts = windows.index[weights > 10 * weights.min(), 1]
    assert starts.tolist() == list(range(20 - (length - 1) * stride + 1, 21))
    assert weights.min() > 0


def test_rewards_are_measured_by_those_that_are_not_zero(tmp_path: Path) -> None:
    rewards = np.zeros(N_FRAMES, np.float32)
    rewards[[3, 30, 31]] = [-1.0, 5.0, 7.0]
    rewards[-1] = 1000.0  # padding
    codes = np.zeros((N_FRAMES, 2), int)
    scale = reward_scale(ClipIndex(store(tmp_path / "paid", codes, {"rewards": rewards}, n_episodes=2), "train", 4))
    assert scale == pytest.approx(5.0)  # the root of (1 + 25 + 49) / 3
    assert reward_scale(ClipIndex(store(tmp_path / "unpaid", codes, {"rewards": 0 * rewards}), "train", 4)) == 1.0
    assert reward_scale(ClipIndex(store(tmp_path / "none", codes, {}), "train", 4)) == 1.0
