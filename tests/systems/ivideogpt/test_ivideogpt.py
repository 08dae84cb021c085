"""iVideoGPT: published sizes, fine-tuning another world, and configs refused before training."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.conformance.conftest import ACTIONS, actions, frames, untrained
from tests.tiny import tiny_config, tiny_world

from reelworld.data.dataset import DataInfo, Dataset
from reelworld.systems import find_system
from reelworld.systems.ivideogpt.config import PRESETS
from reelworld.systems.ivideogpt.model import build
from reelworld.systems.ivideogpt.train import perceptual_loss
from reelworld.systems.ivideogpt.train import stages as stages_of
from reelworld.train import autotune as probe
from reelworld.train.data import TrainingData
from reelworld.train.loop import Interrupted, train
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.train.world import finish
from reelworld.types import ActionSpec, Batch, Losses, UserError
from reelworld.worlds.assemble import world_of
from reelworld.worlds.world import World

ROBOT = DataInfo(fps=10.0, height=64, width=64, actions=ACTIONS["continuous"])


@pytest.mark.parametrize(
    ("size", "pixels", "tokenizer", "transformer"),
    [
        ("oxe_64", 64, 114_159_174, 138_434_304),
        ("oxe_64_medium", 64, 114_159_174, 436_261_888),
        ("oxe_256", 256, 310_472_774, 138_434_304),
    ],
)
def test_published_sizes_have_the_published_numbers_of_parameters(
    size: str, pixels: int, tokenizer: int, transformer: int
) -> None:
    """As counted in the published models."""
    with torch.device("meta"):
        parts = build(PRESETS[size], DataInfo(height=pixels, width=pixels)).parts
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert counts == {"tokenizer": tokenizer, "dynamics": transformer}


def test_published_sizes_have_the_published_sequence() -> None:
    config = PRESETS["oxe_64"]
    with torch.device("meta"):
        layout: Any = build(config, DataInfo(height=64, width=64)).parts["dynamics"]
    assert layout.layout.length(config.clip_frames) == 751 and layout.layout.vocabulary == 16_386


# ------------------------------------------------------------------ beginning with another world


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world without actions whose every weight is far from fresh."""
    config = tiny_config("ivideogpt", actions="none")
    folder = tmp_path_factory.mktemp("before") / "world"
    untrained("ivideogpt", "none", config).save(folder)
    return folder


def begun(path: Path, info: DataInfo = ROBOT, **changed: Any) -> World:
    config = tiny_config("ivideogpt", pretrained=str(path), **changed)
    return world_of("ivideogpt", config, build(config, info), info)


def test_a_world_goes_on_where_the_other_stopped(before: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is done: new heads say nothing yet."""
    with caplog.at_level(logging.WARNING):
        world = begun(
            before, rewards=True, dynamics__cell_positions=True, frame_prior__width=8, dynamics__initial_std=0.1
        )
    assert sorted(message.split(": ", 1)[1] for message in caplog.messages) == [
        "the frame prior is new, and begins at zero.",
        "the head for actions is new, and begins at zero.",
        "the head for ends is new, and begins at zero.",
        "the projection of the frame prior to slots is new, and begins at zero.",
        "the reward head that reads codes is new, and begins at zero.",
        "the table of cells is new, and begins at zero.",
    ]
    old = World.load(before)
    told = world.generate(frames(1, 2), actions(world, 1, 1), actions(world, 1, 3), seed=1)
    assert np.array_equal(told, old.generate(frames(1, 2), None, 3, seed=1))
    theirs = old.model.dynamics.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in world.model.dynamics.state_dict().items() if k in theirs)


def test_heads_for_the_same_actions_are_kept_and_others_left_behind(
    before: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = begun(before, rewards=True)
    for head in (world.model.dynamics.action, world.model.dynamics.reward):
        torch.nn.init.normal_(head.weight)
    world.save(tmp_path / "told")
    caplog.clear()
    same = begun(tmp_path / "told", rewards=True)
    assert torch.equal(same.model.dynamics.action.weight, world.model.dynamics.action.weight) and not caplog.messages
    other = replace(ROBOT, actions={"action": ActionSpec(kind="discrete", n=2)})  # as wide, and another thing
    with caplog.at_level(logging.WARNING):
        changed = begun(tmp_path / "told", other)
    assert (changed.model.dynamics.action.weight == 0).all() and changed.model.dynamics.reward is None
    said = " ".join(caplog.messages)
    assert "actions is new" in said and "actions is not used" in said and "rewards is not used" in said


def test_a_context_may_shrink_and_grow(before: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n, said in ((1, "keeps the positions of the last"), (3, "repeats the positions of the first")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            world = begun(before, context_frames=n)
        assert said in caplog.messages[0] and "context of 2 frames" in caplog.messages[0]
        assert world.generate(frames(1, n), None, 2, seed=0).shape[1] == 2


def test_other_shapes_and_other_worlds_are_refused(before: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has width 24, the settings say 48"):
        begun(before, dynamics__width=48)
    with pytest.raises(UserError, match=r"has frame_codes 64, the settings say 32"):
        begun(before, tokenizer__frame_codes=32)
    with pytest.raises(UserError, match="is not a world"):
        begun(tmp_path)

    tiny_world("pocket", ROBOT).save(tmp_path / "pocket")
    with pytest.raises(UserError, match=r"a world of pocket; --pretrained wants one of ivideogpt"):
        begun(tmp_path / "pocket")


# ------------------------------------------------------------------ what is refused


def recorded(folder: Path, **more: np.ndarray) -> Dataset:
    for i in range(3):
        np.savez(folder / f"{i}.npz", frames=frames(1, 20, seed=i)[0], **more)
    return Dataset.open(folder)


@torch.no_grad()
def test_the_settings_of_codes_and_first_weights_arrive() -> None:
    for alone, std in ((False, 0.02), (True, 0.1)):
        changes = {"tokenizer__unconditional_encoder": alone, "dynamics__initial_std": std}
        config = tiny_config("ivideogpt", actions="none", **changes)
        parts: Any = build(config, ROBOT).parts
        assert bool(parts["tokenizer"].cond_encoder.cross_att_blocks) is not alone
        matrices = [block.mlp.gate_up.weight for block in parts["dynamics"].transformer.blocks]
        assert float(torch.cat(matrices).std()) == pytest.approx(std, rel=0.1)
        assert float(parts["dynamics"].embed.weight.std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.slow
def test_drafts_learn_first_then_stay_and_a_stopped_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset = recorded(tmp_path / "data", actions=np.zeros((20, 2), np.float32))
    steps = {"frame_prior__steps": 4, "dynamics__steps": 2, "tokenizer__steps": 1}
    batches = {"frame_prior__batch": 4, "dynamics__batch": 1}
    config = tiny_config("ivideogpt", frame_prior__width=8, precision="fp32", **steps, **batches)

    def learn(folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        model = build(config, dataset.info)
        parts: Any = model.parts
        dynamics: Any = parts["dynamics"]
        inner, drafts, calls = dynamics.frame_prior_loss, [dynamics.frame_prior.guess.weight.detach().clone()], []

        def loss(batch: Batch, generator: torch.Generator | None = None) -> Losses:
            calls.append(1)
            if len(calls) == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return inner(batch, generator)

        def stages(run: Run) -> Iterator[Stage]:
            for stage in stages_of(config, model, TrainingData(dataset, config, run.folder)):
                yield stage
                drafts.append(dynamics.frame_prior.guess.weight.detach().clone())

        dynamics.frame_prior_loss = loss
        with Run.open(folder, {"seed": 0}) as run:
            train(stages(run), run, parts, seed=0, device="cpu", console=Console(quiet=True))
        moved = [not torch.equal(*two) for two in pairwise(drafts)]
        assert not moved[-1] and any(moved)  # drafts stay as they are while the transformer learns
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["stage"] for line in lines if "val_draft" in line.get("validation", {})] == ["draft"]
        known = parts["tokenizer"].frame_codebook.vectors
        torch.testing.assert_close(dynamics.frame_prior.reader.vectors[:-1] * known.std(), known)
        return dict(dynamics.state_dict())

    whole = learn(tmp_path / "whole")
    with pytest.raises(Interrupted):
        learn(tmp_path / "run", stop_at=1 + probe.REPEATS + 2)  # the first ones are the probe's
    again = learn(tmp_path / "run")
    assert all(torch.equal(weight, whole[name]) for name, weight in again.items())


def test_rewards_must_be_there_to_be_learned(tmp_path: Path) -> None:
    dataset = recorded(tmp_path, actions=np.zeros((20, 2), np.float32))
    config = tiny_config("ivideogpt", rewards=True)
    with pytest.raises(UserError, match="has no rewards to learn from; leave out --rewards"):
        next(stages_of(config, build(config, dataset.info), TrainingData(dataset, config, tmp_path)))


def test_start_clips_are_as_long_as_sessions_begin(tmp_path: Path) -> None:
    dataset = recorded(tmp_path, actions=np.zeros((20, 2), np.float32))
    for start_frames, n in ((None, 2), (4, 4)):
        config = tiny_config("ivideogpt", start_frames=start_frames)
        model, data = build(config, dataset.info), TrainingData(dataset, config, tmp_path)
        list(stages_of(config, model, data))
        world = finish(find_system("ivideogpt"), config, model, data)
        assert world.spec.context[1] == n and {len(clip.frames) for clip in world.initial_contexts} == {n}


def test_actions_must_be_there_to_be_learned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no actions; .*--actions none"):
        build(tiny_config("ivideogpt"), recorded(tmp_path).info)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clip_frames": 2}, "clip_frames is 2; it must be above context_frames"),
        ({"tokenizer__sampled_frames": 13}, "tokenizer.sampled_frames is 13; clips have 12 frames"),
        ({"tokenizer__channels": (32, 48)}, "multiple of groups"),
        ({"clip_frames": 60}, "take at most"),
        ({"tokenizer__patch": 16}, "multiples of 128"),
        ({"start_frames": 1}, "start_frames is 1; it must be from context_frames, 2, to below clip_frames, 12"),
        ({"start_frames": 12}, "start_frames is 12; it must be from"),
    ],
)
def test_settings_that_do_not_fit(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(tiny_config("ivideogpt", **changed), ROBOT)


def test_without_lpips_a_line_says_what_stands_in(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        perceptual_loss(tiny_config("ivideogpt"))
    assert caplog.messages == [
        "no weights of LPIPS were given (--tokenizer.lpips FILE): squared differences stand in for it."
    ]
    with pytest.raises(UserError, match="does not exist"):
        perceptual_loss(tiny_config("ivideogpt", tokenizer__lpips=str(tmp_path / "none.safetensors")))
