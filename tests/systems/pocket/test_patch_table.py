"""Table of patches: exact where patches recur, chosen where the learned code loses what is small and rare."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reelworld.cli.train import train_world
from reelworld.data.dataset import DataInfo, Dataset, Episode, write_episode, write_info
from reelworld.data.foreground import compare_foreground, median_picture
from reelworld.nn.pixels import to_float, to_uint8, unpatchify
from reelworld.systems.pocket.config import PRESETS
from reelworld.systems.pocket.patch_table import choose_patches, order_by_likeness
from reelworld.systems.pocket.tokenizer import PatchTokenizer, PatchTokenizerConfig
from reelworld.types import ActionSpec, Clip
from reelworld.worlds.world import World

LEVELS = (8, 5, 5, 5)


def ball_game(folder: Path, n_episodes: int = 12, n_frames: int = 40) -> Dataset:
    """A flickering wall and a ball of 2x2 pixels that crosses patches: one patch in sixteen shows it, at 49 places."""
    folder.mkdir()
    info = DataInfo(fps=10, height=32, width=32, actions={"action": ActionSpec(kind="discrete", n=2)})
    episodes = []
    for number in range(n_episodes):
        rng = np.random.default_rng(number)
        frames = np.zeros((n_frames, 32, 32, 3), np.uint8)
        x, y = rng.integers(0, 30, 2)
        for t in range(n_frames):
            frames[t, :8] = (60, 60, 160)
            x, y = (x + 1) % 30, (y + rng.integers(-1, 2)) % 22
            frames[t, y + 8 : y + 10, x : x + 2] = (230, 230, 40)
        actions = rng.integers(0, 2, n_frames)
        steps = {"rewards": np.zeros(n_frames, np.float32), "truncated": np.arange(n_frames) == n_frames - 2}
        clip = Clip(frames=frames, actions={"action": actions}, terminated=np.zeros(n_frames, bool), **steps)
        write_episode(folder / f"{number}.npz", clip)
        split = "val" if number % 4 == 3 else "train"
        episodes.append(Episode(source=str(number), n_frames=n_frames, split=split, file=f"{number}.npz"))
    write_info(folder, info, episodes)
    return Dataset.open(folder)


def test_frequent_and_far_patches_are_chosen() -> None:
    rng = np.random.default_rng(0)
    common = rng.integers(0, 20, (300, 192), dtype=np.uint8)
    rare = np.full((1, 192), 200, np.uint8)
    patches, counts = np.concatenate([common, rare]), np.r_[np.arange(300)[::-1] + 2, 1]
    chosen = choose_patches(patches, counts, 50)
    assert len(set(chosen.tolist())) == 50 and 300 in chosen and set(range(25)) <= set(chosen.tolist())
    assert choose_patches(patches, counts, 1000).tolist() == list(range(301))


@pytest.mark.parametrize("n", [1, 7, 999, 1000])
def test_codes_are_distinct_and_like_patches_share_digits(n: int) -> None:
    rng = np.random.default_rng(0)
    patches = np.repeat(rng.integers(0, 256, (n, 1)), 192, 1).astype(np.uint8)
    codes = order_by_likeness(patches, LEVELS)
    assert len(set(codes.tolist())) == n and codes.min() >= 0 and codes.max() < 1000
    if n > 100:
        slow = codes // 200  # the slowest digit
        spread = np.mean([patches[slow == s, 0].std() for s in range(5)])
        assert spread < patches[:, 0].std() / 2


def test_a_table_gives_back_its_patches_exactly_and_others_the_nearest() -> None:
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (40, 192), dtype=np.uint8)
    tokenizer = PatchTokenizer(PatchTokenizerConfig(rows=2, columns=2, width=16, has_table=True)).eval()
    tokenizer.use_table(patches)
    video = to_float(torch.from_numpy(patches[rng.integers(0, 40, (3, 5, 4))]))

    frames = unpatchify(video, 8, 2, 2)
    with torch.inference_mode():
        codes = tokenizer.encode(frames)
        assert torch.equal(to_uint8(tokenizer.decode(codes)), to_uint8(frames))
        near = (frames + 0.02 * torch.randn(frames.shape)).clamp(-1, 1)
        assert torch.equal(tokenizer.encode(near).video, codes.video)
    loaded = PatchTokenizer(tokenizer.config)
    loaded.load_state_dict(tokenizer.state_dict())
    assert torch.equal(loaded.encode(frames).video, codes.video)


def test_training_takes_the_table_for_a_ball_and_the_world_keeps_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, tiny = ball_game(tmp_path / "data"), PRESETS["tiny"]
    config = replace(tiny, precision="fp32", tokenizer=replace(tiny.tokenizer, levels=LEVELS))
    with caplog.at_level(logging.WARNING):
        world = World.load(train_world("pocket:tiny", config, tmp_path / "data", tmp_path / "run"))
    assert "codes: a table of " in caplog.text
    frames = np.concatenate([dataset.read(i).frames for i in dataset.indices("val")])
    with torch.inference_mode():
        decoded = world.model.reconstruct(to_float(torch.from_numpy(frames))[None])
    assert decoded is not None
    figures = compare_foreground(frames, to_uint8(decoded)[0].numpy(), median_picture(frames))
    assert figures.kept_mass > 0.9 and figures.psnr > 30

    never = replace(config, tokenizer=replace(config.tokenizer, table="never"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        world = World.load(train_world("pocket:tiny", never, tmp_path / "data", tmp_path / "never"))
    assert "may be missing from the world" in caplog.text
    assert (tmp_path / "never" / "tokenizer-losses.png").is_file()


def test_foreground_figures_by_hand() -> None:
    median = np.full((4, 4, 3), 10, np.uint8)
    frames, copies = np.repeat(median[None], 3, 0), np.repeat(median[None], 3, 0)
    frames[0, 1, 1] = 110  # lost
    frames[1, 2, 2], copies[1, 2, 2] = 110, 60  # half
    figures = compare_foreground(frames, copies, median)
    np.testing.assert_allclose(figures.kept, [0, 0.5, 1])
    np.testing.assert_allclose(figures.fraction, [1 / 16, 1 / 16, 0])
    assert figures.kept_mass == 0.25
    np.testing.assert_allclose(figures.psnr, 10 * np.log10(255**2 / ((100**2 + 50**2) / 2)))
