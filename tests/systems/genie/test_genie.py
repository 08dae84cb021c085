"""Recordings that latent actions cannot be learned from, and labels that fit their frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import tiny_config

from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.models.action_mapping import STREAM
from reelworld.nn.pixels import to_float
from reelworld.systems.genie.conv_latent_action import GridLatentActions, GridLatentConfig
from reelworld.systems.genie.train import check_movement
from reelworld.train.pseudo_label import with_pseudo_labels
from reelworld.types import UserError


def recorded(folder: Path, frames: list[np.ndarray]) -> Dataset:
    for i, episode in enumerate(frames):
        np.savez(folder / f"{i:02d}.npz", frames=episode, actions=np.arange(len(episode)) % 3)
    return Dataset.open(folder)


def moving(n_frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n_frames, 16, 16, 3), dtype=np.uint8)


def test_a_recording_in_which_nothing_moves_is_refused(tmp_path: Path) -> None:
    still = [np.repeat(moving(1, i), 20, 0) for i in range(3)]
    dataset = recorded(tmp_path, still)
    with pytest.raises(UserError, match=r"nothing moves in .* no action can be learned"):
        check_movement(tiny_config("genie"), ClipIndex(dataset, "all", 3))
    still[1][10:] = 255 - still[1][10:]
    other = tmp_path / "other"
    other.mkdir()
    check_movement(tiny_config("genie"), ClipIndex(recorded(other, still), "all", 3))


def test_more_codes_than_steps_are_refused(tmp_path: Path) -> None:
    clips = ClipIndex(recorded(tmp_path, [moving(5, 0)]), "all", 2)
    with pytest.raises(UserError, match=r"4 steps to learn 8 latent actions from.*fewer --latent-actions.n-codes"):
        check_movement(tiny_config("genie", latent_actions__n_codes=8, latent_actions__learned_codes=0), clips)


def test_labels_belong_to_their_frames(tmp_path: Path) -> None:
    """Longer than a piece: labels found piece by piece are those of each pair of frames."""
    torch.manual_seed(0)
    config = GridLatentConfig(height=16, width=16, patch=8, n_codes=6, code_width=4, model_width=8, encoder_layers=1)
    model = GridLatentActions(replace(config, decoder_layers=1)).eval()
    with torch.no_grad():
        for block in model.encoder.blocks:
            torch.nn.init.normal_(block.out.weight)
    dataset = recorded(tmp_path, [moving(150, 1), moving(2, 2)])
    labelled = with_pseudo_labels(dataset, model)
    assert set(labelled.info.actions) == {STREAM}
    for i, episode in enumerate(dataset.episodes):
        frames = torch.from_numpy(dataset.arrays(i, 0, episode.n_frames)["frames"])
        pairs = torch.stack([frames[:-1], frames[1:]], 1)
        alone = model.encode(to_float(pairs))[:, 0].numpy()
        assert np.array_equal(labelled.steps(i)[f"actions/{STREAM}"][:-1], alone)
        assert np.array_equal(labelled.arrays(i, 1, 2)[f"actions/{STREAM}"], np.append(alone, 0)[1:2])
        assert "actions/action" not in labelled.steps(i)
    assert (
        len(np.unique(labelled.steps(int(np.argmax([e.n_frames for e in dataset.episodes])))[f"actions/{STREAM}"])) > 2
    )
