"""``reelworld actions``: the map of a known game, its output and files, and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_bad_input import contents, refused
from tests.models.counting import ALLOWED, TO_LATENT, counting_world, write
from tests.tiny import tiny_world

from reelworld.cli.main import main
from reelworld.data.dataset import DataInfo
from reelworld.evaluate.protocol import choose_clips, open_for
from reelworld.evaluate.samples import Starts, roll
from reelworld.types import ActionSpec
from reelworld.worlds.world import World


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds a world of latent actions."""
    folder = tmp_path_factory.mktemp("run")
    counting_world().save(folder / "world")
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def words(run: Path, *more: object) -> list[str]:
    return ["actions", str(run), "--allow-code", ALLOWED, *map(str, more)]


def loaded(folder: Path) -> World:
    return World.load(folder, allow_code=[ALLOWED])


def test_the_table_of_a_known_game(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps at the wall and actions that do nothing change no picture: they would say that 1 is played with code 3."""
    write(tmp_path / "data")
    assert main(words(run, "--data", tmp_path / "data", "--labels", 40)) == 0
    out = capsys.readouterr().out
    world = loaded(run)
    action_map = world.info.action_map
    assert action_map is not None and action_map.held_out is not None
    assert action_map.to_latent == TO_LATENT and action_map.to_real[:3] == (2, 1, 3)
    assert sum(action_map.n_labels) == 40 and action_map.n_labels[3] == 0
    assert action_map.unseen == (0, 4) and action_map.unreached == ()
    held_out = action_map.held_out
    assert (held_out.accuracy, held_out.high, held_out.purity) == (1, 1, 1)
    assert held_out.low == pytest.approx(0.025 ** (1 / held_out.n_steps))
    assert held_out.split == "test" and held_out.n_episodes == 3 and held_out.chance == pytest.approx(1 / 3)
    assert f"real action named   100.0%  (95% {held_out.low:.1%} to 100.0%; n={held_out.n_steps} steps of 3 test" in out
    assert "say no more" not in out
    assert "no label shows 0; 4: played as if nothing were done" in out
    assert f"reelworld play {run / 'world'}" in out
    assert "the map names the real action in 100.0%" in (run / "world" / "README.md").read_text()


def test_it_is_measured_on_episodes_it_was_not_fitted_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In other recordings 1 and 2 have changed places, so only steps of 3 are named. One episode has no interval."""
    data = write(tmp_path / "data")
    named, n = [], []
    for path in (*sorted((data / "test").iterdir()), *(data / "val").iterdir()):
        with np.load(path) as stored:
            frames, actions = stored["frames"], stored["actions"]
        moving = (frames[1:] != frames[:-1]).any((1, 2, 3))
        named.append(int((actions[:-1][moving] == 3).sum()))
        n.append(int(moving.sum()))
        np.savez(path, frames=frames, actions=np.array([0, 2, 1, 3, 4])[actions])
    assert main(words(run, "--data", data, "--labels", 40)) == 0
    assert "say no more about the real ones than the most frequent" in capsys.readouterr().out
    action_map = loaded(run).info.action_map
    assert action_map is not None and action_map.held_out is not None
    held_out = action_map.held_out
    assert action_map.to_latent == TO_LATENT
    assert held_out.accuracy == sum(named[:3]) / sum(n[:3]) and held_out.n_steps == sum(n[:3])
    assert held_out.purity == 1
    assert held_out.low is not None and held_out.high is not None
    assert 0 < held_out.low <= held_out.accuracy <= held_out.high < 1
    assert main(words(run, "--data", data, "--labels", 40, "--split", "val")) == 0
    other = loaded(run).info.action_map
    assert other is not None and other.held_out is not None
    assert other.held_out.accuracy == named[3] / n[3]
    assert f"(n={n[3]} steps of 1 val" in capsys.readouterr().out
    assert other.held_out.split == "val" and other.held_out.low is None


def test_the_table_of_vectors(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One up is to the right, one down to the left, three up is high; none of them lies exactly in one place."""
    data, rng = write(tmp_path / "data"), np.random.default_rng(0)
    for path in data.rglob("*.npz"):
        with np.load(path) as stored:
            frames, ids = stored["frames"], stored["actions"]
        vectors = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, 0]])[ids] + rng.uniform(-0.2, 0.2, (len(ids), 2))
        np.savez(path, frames=frames, actions=vectors.astype(np.float32))
    assert main(words(run, "--data", data, "--labels", 40)) == 0
    action_map = loaded(run).info.action_map
    assert action_map is not None and action_map.held_out is not None
    low, middle, high = 0, 1, 2
    assert action_map.meanings[:3].tolist() == [3 * low + low, 3 * high + low, 3 * middle + high]
    assert np.abs(np.array(action_map.to_real[:3]) - [[-1, 0], [1, 0], [0, 1]]).max() < 0.15
    assert action_map.held_out.accuracy == 1
    assert "0 middle, 1 high" in capsys.readouterr().out
    session = loaded(run).session(1, 0)
    session.reset()
    assert session.step(np.array([0.9, -0.1])).frame.shape == (1, 64, 64, 3)


def test_the_seed_decides(run: Path, tmp_path: Path) -> None:
    data, maps = write(tmp_path / "data"), []
    for i, seed in enumerate((1, 1, 2)):
        assert main(words(run, "--data", data, "--labels", 12, "--seed", seed, "--out", tmp_path / str(i))) == 0
        maps.append(loaded(tmp_path / str(i)).info.action_map)
    assert maps[0] == maps[1] != maps[2]


def test_out_leaves_the_world_and_undo_brings_it_back(run: Path, tmp_path: Path) -> None:
    before, data = contents(run), write(tmp_path / "data")
    assert main(words(run, "--data", data, "--labels", 12, "--out", tmp_path / "mapped")) == 0
    assert contents(run) == before
    assert loaded(tmp_path / "mapped").info.action_map is not None
    assert main(words(run, "--data", data, "--labels", 12)) == 0
    assert contents(run) != before
    assert main(words(run, "--undo")) == 0
    assert contents(run) == before


def test_a_mapped_world_is_measured_under_recorded_actions(run: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    bare = loaded(run)
    assert main(words(run, "--data", data, "--labels", 40)) == 0
    mapped, made = loaded(run), []
    for world in (bare, mapped):
        dataset = open_for(world, data)
        starts = Starts.drawn(choose_clips(world, dataset, "test", 2, 0), 2, 3, 6, 0)
        made.append((starts, roll(world, starts, 0)[:, 0]))
    assert set(made[0][0].actions) == {"latent"} and set(made[1][0].actions) == {"action"}
    recorded = np.load(data / "test" / "e90.npz")["actions"]
    assert np.array_equal(open_for(mapped, data).read(open_for(mapped, data).indices("test")[0]).action, recorded)
    # 1 at the wall is the only real action that the frames do not show
    told, found = mapped.info.action_map.latent(made[1][0].actions["action"]), made[0][0].actions["latent"]  # type: ignore[union-attr]
    at_wall = told != found
    assert (made[1][0].actions["action"][at_wall] == 1).all()
    same = ~at_wall.any(1)
    assert same.any() and np.array_equal(made[0][1][same], made[1][1][same])


@pytest.mark.parametrize("verb", ["generate", *(pytest.param(v, marks=pytest.mark.slow) for v in ("eval", "bench"))])
def test_other_verbs_take_a_mapped_world(verb: str, run: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    assert main(words(run, "--data", data, "--labels", 40)) == 0
    few = {
        "eval": [
            *["--data", data, "--clips", 2, "--single-steps", 4, "--free-run-steps", 3, "--tiles", "no"],
            *["--control-starts", 4, "--inverse-steps", 1, "--stability-steps", 0],
        ],
        "generate": ["--out", tmp_path / "film.npz", "--actions", "1,2,3,4,0", "--frames", 5],
        "bench": ["--steps", 5, "--warmup", 1, "--threads", 1, "--allow-busy"],
    }
    assert main([verb, str(run), "--allow-code", ALLOWED, *map(str, few[verb])]) == 0
    if verb == "generate":
        with np.load(tmp_path / "film.npz") as film:
            assert film["actions"][1:6].tolist() == [1, 2, 3, 4, 0]


# ------------------------------------------------------------------ refusals


def two_streams(folder: Path) -> Path:
    write(folder)
    for path in folder.rglob("*.npz"):
        with np.load(path) as stored:
            frames, actions = stored["frames"], stored["actions"]
        np.savez(path, **{"frames": frames, "actions/move": actions, "actions/look": actions})
    return folder


def one_without(folder: Path) -> Path:
    two_streams(folder)
    for path in (folder / "train").iterdir():
        with np.load(path) as stored:
            arrays = dict(stored)
        del arrays["actions/look"]
        np.savez(path, **arrays)
    return folder


def latent_stream(folder: Path) -> Path:
    write(folder)
    for path in folder.rglob("*.npz"):
        with np.load(path) as stored:
            np.savez(path, **{"frames": stored["frames"], "actions/latent": stored["actions"]})
    return folder


def no_actions(folder: Path) -> Path:
    write(folder)
    for path in folder.rglob("*.npz"):
        with np.load(path) as stored:
            frames = stored["frames"]
        np.savez(path, frames=frames)
    return folder


def still_frames(folder: Path, split: str) -> Path:
    """Episodes that differ from each other and in which nothing moves."""
    write(folder)
    for i, path in enumerate(sorted(folder.glob(f"{split}/*.npz"))):
        with np.load(path) as stored:
            actions = stored["actions"]
        np.savez(path, frames=np.full((len(actions), 64, 64, 3), 100 + i + len(split), np.uint8), actions=actions)
    return folder


SMALL = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
ONE = np.zeros((1, 64, 64, 3), np.uint8)
Write = Callable[[Path], Any]
REFUSALS: dict[str, tuple[Write, list[object], list[str]]] = {
    "absent": (lambda d: None, [], ["does not exist"]),
    "other-rows": (lambda d: write(d, actions=np.zeros(33, np.int64)), [], ["33", "30 frames"]),
    "no-actions": (no_actions, [], ["has no actions", "what a latent action means"]),
    "no-such-stream": (two_streams, ["--stream", "loook"], ["loook", "did you mean 'look'"]),
    "several-streams": (two_streams, [], ["look, move", "--stream"]),
    "stream-lacks": (one_without, ["--stream", "look"], ["train/e", "no actions 'look'", "other recordings"]),
    "stream-called-latent": (latent_stream, [], ["'latent'", "name it differently"]),
    "other-size": (lambda d: write(d, frames=SMALL), [], ["32x32", "64x64", "recordings of that size"]),
    "one-frame": (lambda d: write(d, frames=ONE, actions=np.zeros(1, np.int64)), [], ["single frame"]),
    "still": (lambda d: still_frames(d, "*"), [], ["nothing moves in the training episodes"]),
    "still-test": (lambda d: still_frames(d, "test"), ["--labels", 20], ["nothing moves in the 3 test episodes"]),
    "too-few": (write, ["--labels", 5000], ["5000 labels", "give --labels"]),
    "fewer-than-codes": (write, ["--labels", 3], ["3 labels are few for 4 latent actions"]),
    "no-labels": (write, ["--labels", 0], ["labels is 0"]),
    "data-and-undo": (write, ["--undo"], ["either --data", "or --undo"]),
    "wide": (
        lambda d: write(d, actions=np.random.default_rng(0).random((30, 9)).astype(np.float32)),
        [],
        ["9 numbers wide; at most 8"],
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_labels_that_say_nothing(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, more, said = REFUSALS[name]
    prepare(tmp_path / "data")
    line = refused(tmp_path, capsys, *words(run, "--data", tmp_path / "data", *more))
    assert all(word in line for word in said), line


def test_worlds_that_cannot_be_mapped(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data")
    info = DataInfo(height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=5)})
    tiny_world("pocket", info).save(tmp_path / "given")
    line = refused(tmp_path, capsys, "actions", tmp_path / "given", "--data", data)
    assert "no latent actions to map: it takes the actions that were recorded" in line
    assert "nothing to undo" in refused(tmp_path, capsys, *words(run, "--undo"))
    assert "either --data" in refused(tmp_path, capsys, *words(run))
    assert "nowhere" in refused(tmp_path, capsys, *words(tmp_path / "nowhere", "--data", data))
    more = words(run, "--data", data, "--out", tmp_path / "given")
    assert "is not empty; choose another folder" in refused(tmp_path, capsys, *more)


def test_episodes_that_the_world_learned_from_are_not_held_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = write(tmp_path / "data"), run / "world" / "world.json"
    info = json.loads(path.read_text())
    info["splits"] = {"train": ["test/e90", "test/e91"]}
    path.write_text(json.dumps(info))
    assert main(words(run, "--data", data, "--labels", 12)) == 0
    action_map = loaded(run).info.action_map
    assert action_map is not None and action_map.held_out is not None and action_map.held_out.n_episodes == 1
    info["splits"]["train"].append("test/e92")
    path.write_text(json.dumps(info))
    line = refused(tmp_path, capsys, *words(run, "--data", data, "--labels", 12))
    assert "the 3 test episodes" in line and "were all used to train this world" in line


def test_a_damaged_map_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, path = write(tmp_path / "data"), run / "world" / "world.json"
    assert main(words(run, "--data", data, "--labels", 12)) == 0
    good = json.loads(path.read_text())
    for change, said in (
        ({"to_latent": [0, 1, 2, 3, 4]}, "beyond its 4"),
        ({"stream": "other"}, "lacks the actions 'other'"),
        ({"to_real": [1, 1, 1], "n_labels": [1, 1, 1], "shares": [1.0] * 3, "to_latent": [0] * 5}, "a map to 3"),
    ):
        path.write_text(json.dumps({**good, "action_map": {**good["action_map"], **change}}))
        assert said in refused(tmp_path, capsys, *words(run, "--undo"))
