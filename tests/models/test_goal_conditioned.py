"""Goal-conditioned worlds: the goal picture is the first context frame of every window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conformance.conftest import actions, frames, untrained
from tests.tiny import tiny_config

from reelworld.cli.main import main
from reelworld.data.clip_index import ClipIndex
from reelworld.data.dataset import Dataset
from reelworld.evaluate.samples import Starts, roll
from reelworld.models.samplers import SamplerConfig
from reelworld.nn.pixels import to_float
from reelworld.systems import find_system
from reelworld.systems.ivideogpt.model import build
from reelworld.systems.ivideogpt.train import stages
from reelworld.train.data import TrainingData
from reelworld.train.world import finish
from reelworld.types import Clip, Conditions, UserError
from reelworld.worlds.world import World


def made(has_goal: bool = True, start_frames: int | None = None) -> World:
    """A window of six frames: the goal, the frame that is gone on from, four later ones."""
    short = tiny_config("ivideogpt", clip_frames=6, tokenizer__sampled_frames=3, rewards=True, goal=has_goal)
    short = replace(short, start_frames=start_frames)
    world = untrained("ivideogpt", "continuous", short)
    world.info = replace(world.info, sampler=SamplerConfig(temperature=0.0))
    goals = [frames(1, 1, seed=40 + i)[0, 0] for i in range(len(world.initial_contexts))]
    world.initial_contexts = [replace(c, goal=g) for c, g in zip(world.initial_contexts, goals, strict=True)]
    return world


@pytest.fixture(scope="module")
def world() -> World:
    """A world with goals."""
    return made()


def goal(seed: int = 7) -> np.ndarray:
    return frames(1, 1, seed=seed)[0, 0]


# ------------------------------------------------------------------ in a session


def test_a_goal_is_the_first_context_frame(world: World) -> None:
    """As the same weights say when the goal is given as one; what leads from there to the frame does nothing."""
    other = made(has_goal=False)
    given, steps = frames(1, 1), actions(world, 1, 4)
    towards = world.generate(given, None, steps, seed=0, goal=goal())
    plain = other.generate(np.concatenate([goal()[None, None], given], 1), actions(world, 1, 1, seed=3), steps, seed=0)
    assert np.array_equal(towards, plain)


def test_the_goal_stays_when_a_window_is_full(world: World) -> None:
    """A window makes four frames. What follows is as a new session from the last of them says."""
    steps = actions(world, 1, 7)
    whole = world.generate(frames(1, 1), None, steps, seed=0, goal=goal())
    rest = world.generate(whole[:, 3:4], None, {k: v[:, 4:] for k, v in steps.items()}, seed=0, goal=goal())
    assert np.array_equal(whole[:, 4:], rest)
    elsewhere = world.generate(whole[:, 3:4], None, {k: v[:, 4:] for k, v in steps.items()}, seed=0, goal=goal(8))
    assert all(not np.array_equal(a, b) for a, b in zip(rest[0], elsewhere[0], strict=True))


def test_a_window_may_begin_with_several_frames_behind_the_goal() -> None:
    """The goal, two frames to begin with, three drawn ones; then the last two begin the next window."""
    several = made(start_frames=3)
    steps = actions(several, 1, 6, seed=3)
    assert several.spec.context[1] == 2
    past = actions(several, 1, 1, seed=5)
    whole = several.generate(frames(1, 2), past, steps, seed=0, goal=goal())
    between, rest = ({k: v[:, part] for k, v in steps.items()} for part in (slice(2, 3), slice(3, None)))
    anew = several.generate(whole[:, 1:3], between, rest, seed=0, goal=goal())
    assert np.array_equal(whole[:, 3:], anew)
    other = several.generate(whole[:, 1:3], {k: 0 * v for k, v in between.items()}, rest, seed=0, goal=goal())
    assert not np.array_equal(anew, other)


def test_every_stream_has_its_own_goal(world: World) -> None:
    goals, steps = np.stack([goal(7), goal(8)]), actions(world, 1, 6)
    twice = {k: v.repeat(2, 0) for k, v in steps.items()}
    both = world.generate(frames(1, 1).repeat(2, 0), None, twice, seed=0, goal=goals)
    for i in range(2):
        alone = world.generate(frames(1, 1), None, steps, seed=0, goal=goals[i])
        assert np.abs(both[i].astype(int) - alone[0]).max() <= 1
    assert not np.array_equal(both[0], both[1])


def test_long_beginnings_are_cut_to_the_last_window(world: World) -> None:
    """Six given frames: the window that predicts the seventh begins with the fifth."""
    given, past, step = frames(1, 6), actions(world, 1, 5), actions(world, 1, 1, seed=3)
    late = {k: v[:, 4:] for k, v in past.items()}
    shown = [world.generate(f, p, step, seed=0, goal=goal()) for f, p in ((given, past), (given[:, 4:], late))]
    assert np.array_equal(*shown)


def test_forks_go_to_the_same_goal(world: World) -> None:
    session = world.session(1, 0)
    session.reset(frames(1, 1), goal=goal())
    forks, steps = session.fork(3), actions(world, 1, 6)
    for t in range(6):
        one = session.step({k: v[:, t] for k, v in steps.items()}).frame
        three = forks.step({k: v[:, t].repeat(3, 0) for k, v in steps.items()}).frame
        assert np.abs(three.astype(int) - one).max() <= 1


def test_goals_are_wanted_where_there_are_some_and_nowhere_else(world: World) -> None:
    with pytest.raises(UserError, match=r"goes towards a goal and none was given; give a picture of it"):
        world.session(1, 0).reset(frames(1, 1))
    with pytest.raises(UserError, match="a goal was given, but this world goes towards none; leave it out"):
        made(has_goal=False).session(1, 0).reset(frames(1, 1), goal=goal())
    with pytest.raises(UserError, match=r"the goal is uint8 \(8, 8, 3\); wanted uint8 \(1, 64, 64, 3\) or"):
        world.session(1, 0).reset(frames(1, 1), goal=goal()[:8, :8])


def test_start_clips_have_goals_and_another_can_be_given(world: World) -> None:
    runs = []
    for given in (None, world.initial_contexts[0].goal, goal()):
        session = world.session(1, 0)
        session.initial_contexts = world.initial_contexts[:1]
        session.reset(goal=given)
        runs.append(session.step().frame)
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


# ------------------------------------------------------------------ what depends on what


@torch.inference_mode()
def test_all_frames_see_the_goal_and_none_sees_what_comes_later(world: World) -> None:
    """In the published order, goal first: a changed frame moves itself and those behind it, the goal all of them."""
    video, told = frames(1, 6, seed=2), {k: torch.from_numpy(v) for k, v in actions(world, 1, 6).items()}

    def nats(shown: np.ndarray) -> torch.Tensor:
        codes = world.model.tokenizer.encode(to_float(torch.from_numpy(shown)))
        judged: torch.Tensor = world.model.dynamics.score(codes, Conditions(actions=told)).nll[0]
        return judged

    before = nats(video)
    for row in range(6):
        other = video.copy()
        other[:, row] = frames(1, 1, seed=30 + row)[:, 0]
        moved = ((nats(other) - before).abs() > 1e-5).tolist()  # of rows 2 to 5
        assert moved == [row < 2 or later >= row for later in range(2, 6)], row


def test_clips_are_scored_on_their_way_to_their_last_frame(world: World) -> None:
    video, moves = frames(1, 9)[0], {k: v[0] for k, v in actions(world, 1, 9).items()}
    clip = Clip(frames=video, actions=moves)
    score = world.score(clip)
    assert score.rewards is not None and len(score.rewards) == 8
    assert score.nats_per_frame == world.score(replace(clip, goal=video[-1])).nats_per_frame
    assert score.nats_per_frame != world.score(replace(clip, goal=video[0])).nats_per_frame


def test_evaluation_goes_towards_the_last_recorded_frame(world: World) -> None:
    clips = [
        Clip(frames=frames(1, 8, seed=i)[0], actions={"action": actions(world, 1, 8)["action"][0]}) for i in (1, 2)
    ]
    starts = Starts.drawn(clips, 1, 3, 1, seed=0)
    predicted = roll(world, starts, seed=0)[:, 0]
    for i, future in enumerate(starts.future):
        steps = {k: v[i : i + 1] for k, v in starts.actions.items()}
        alone = world.generate(starts.context[i : i + 1], None, steps, seed=0, goal=future[-1])
        assert np.abs(predicted[i].astype(int) - alone[0]).max() <= 1


# ------------------------------------------------------------------ in training


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four recordings of nine frames; action and reward of a step tell its number."""
    folder = tmp_path_factory.mktemp("recorded")
    for i in range(4):
        numbers = np.arange(9, dtype=np.float32)
        arrays = {"actions": np.stack([numbers, numbers], 1), "rewards": numbers, "terminated": numbers == 7}
        np.savez(folder / f"{i}.npz", frames=frames(1, 9, seed=i)[0], **arrays)
    return Dataset.open(folder)


def test_windows_begin_with_their_last_frame(recorded: Dataset) -> None:
    plain, led = ClipIndex(recorded, "all", 6), ClipIndex(recorded, "all", 6, goal_first=True)
    before, after = plain[2], led[2]
    assert np.array_equal(after["frames"], before["frames"][[5, 0, 1, 2, 3, 4]])
    for name in ("actions/action", "rewards"):  # row t leads from row t to row t + 1, from the second on
        assert np.array_equal(after[name][1:5], before[name][:4]), name
    clip, whole = led.clip(2), plain.clip(2)
    assert clip.goal is not None and np.array_equal(clip.goal, whole.frames[5])
    assert np.array_equal(clip.frames, whole.frames[:5])
    assert np.array_equal(clip.action, whole.action[:5])


def test_a_finished_world_has_goals_to_begin_with(recorded: Dataset, tmp_path: Path) -> None:
    config = tiny_config("ivideogpt", clip_frames=6, tokenizer__sampled_frames=3, rewards=True, goal=True)
    model, data = build(config, recorded.info), TrainingData(recorded, config, tmp_path)
    list(stages(config, model, data))
    world = finish(find_system("ivideogpt"), config, model, data)
    world.save(tmp_path / "world")
    again = World.load(tmp_path / "world")
    assert again.spec.goal and again.spec.context[1] == 1
    shown = {frame.tobytes() for frame in recorded.arrays(recorded.indices("val")[0], 5, 9)["frames"]}
    for clip in again.initial_contexts:
        assert len(clip.frames) == 1 and clip.goal is not None and clip.goal.tobytes() in shown
    runs = [w.session(2, 3) for w in (world, again)]
    assert np.array_equal(*[(s.reset(), s.step(np.zeros(2)).frame)[1] for s in runs])


def test_ends_are_expected_as_often_as_the_recordings_have_them(recorded: Dataset, tmp_path: Path) -> None:
    """One step of eight."""
    config = tiny_config("ivideogpt", clip_frames=6, tokenizer__sampled_frames=3, rewards=True, goal=True)
    model = build(config, recorded.info)
    parts: Any = model.parts
    data = TrainingData(recorded, config, tmp_path)
    assert [stage.name for stage in stages(config, model, data)] == ["tokenizer", "dynamics"]
    assert parts["dynamics"].ended.bias.detach().sigmoid().item() == pytest.approx(1 / 8)
    assert build(replace(config, rewards=False), recorded.info).parts["dynamics"].ended is None


def test_one_context_frame_is_too_few() -> None:
    with pytest.raises(UserError, match="with goal it must be at least 2"):
        tiny_config("ivideogpt", goal=True, context_frames=1)


# ------------------------------------------------------------------ on the command line


def test_generate_takes_a_goal(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.save(tmp_path / "goals")
    made(has_goal=False).save(tmp_path / "none")
    for name, picture in (("now", frames(1, 1)[0, 0]), ("then", goal())):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")

    def run(name: str, *words: str) -> tuple[int, str]:
        start = ["--image", str(tmp_path / "now.png"), "--frames", "3", "--actions", str(tmp_path / "still.npy")]
        code = main(["generate", str(tmp_path / name), *start, "--out", str(tmp_path / "film.npz"), "--force", *words])
        return code, capsys.readouterr().err

    then = ("--goal", str(tmp_path / "then.png"))
    np.save(tmp_path / "still.npy", np.zeros((3, 2), np.float32))
    assert run("goals", *then)[0] == 0
    with np.load(tmp_path / "film.npz") as film:
        wanted = world.generate(frames(1, 1), None, {"action": np.zeros((1, 3, 2), np.float32)}, seed=0, goal=goal())
        assert np.array_equal(film["frames"][1:], wanted[0])
    code, said = run("goals")
    assert code == 2 and "goes towards a goal and none was given" in said and said.count("\n") == 1
    code, said = run("none", *then)
    assert code == 2 and "a goal was given, but this world goes towards none" in said
    code, said = run("goals", "--goal", str(tmp_path / "nowhere.png"))
    assert code == 2 and "does not exist; give --goal a picture" in said
