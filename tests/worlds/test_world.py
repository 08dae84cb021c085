"""World folders: what is damaged, newer or foreign is refused in one line; saving replaces all or nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.tiny import tiny_world

from reelworld.data.dataset import DataInfo
from reelworld.systems import SYSTEMS
from reelworld.types import ActionSpec, Clip, UserError
from reelworld.worlds.continuation import choose_actions
from reelworld.worlds.registry import file_hash, load_system
from reelworld.worlds.world import World


def make() -> World:
    info = DataInfo(fps=10.0, height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=4)})
    world = tiny_world("pocket", info)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    world.initial_contexts = [Clip(frames=frames, actions={"action": np.array([1, 0])}, source="a")]
    return world


def test_a_score_is_that_of_the_steps_of_a_clip() -> None:
    world, rng = make(), np.random.default_rng(1)
    for weight in world.model.dynamics.outcome.parameters():
        weight.data += 0.1  # fresh ones are all but blind
    frames = rng.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    clip = Clip(frames=frames, actions={"action": np.array([1, 3, 0, 2, 0])})
    score = world.score(clip)
    assert score.rewards is not None and score.terminated is not None
    assert score.rewards.shape == score.terminated.shape == (4,)
    # the window of this world is three frames: the same step, from the same true past
    session = world.session(1, seed=0)
    session.reset(frames[None, 1:4], np.array([[3, 0]]))
    step = session.step(2)
    assert step.reward[0] == pytest.approx(score.rewards[3], abs=1e-5)
    assert step.info["terminated_probability"][0] == pytest.approx(score.terminated[3], abs=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "world"
    make().save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "world"))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "world.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "dynamics.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)
    edit(folder, lambda w: w["parts"]["dynamics"].update(sha256=file_hash(path)))


def rewrite_starts(folder: Path, **changed: np.ndarray | None) -> None:
    (start,) = make().initial_contexts
    arrays = {"frames": start.frames, "action": start.action, **changed}
    names = {"frames": "000/frames", "action": "000/actions/action"}
    np.savez_compressed(folder / "starts.npz", **{names[k]: v for k, v in arrays.items() if v is not None})


def flip_last_byte(folder: Path) -> None:
    path = folder / "tokenizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def remove_six(tensors: dict[str, torch.Tensor]) -> None:
    for name in sorted(tensors)[:6]:
        del tensors[name]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: edit(f, lambda w: w.update(format_version=99)), "format version 99; this reelworld reads up to 2"),
        (lambda f: edit(f, lambda w: w["spec"].update(hieght=3)), "unknown field.*'hieght'; did you mean 'height'"),
        (lambda f: edit(f, lambda w: w.update(format_version=1)), "format version 1; this reelworld reads 2"),
        (lambda f: edit(f, lambda w: w["spec"].pop("width")), "lacks the field.*width"),
        (lambda f: edit(f, lambda w: w["spec"].update(rewards=False)), "rewards is False; its parts give True"),
        (lambda f: edit(f, lambda w: w.update(system="pockets")), "unknown system 'pockets'; did you mean 'pocket'"),
        (lambda f: edit(f, lambda w: w["parts"].pop("dynamics")), "no part 'dynamics'"),
        (
            lambda f: edit(f, lambda w: w["parts"]["dynamics"].update(type="PocketDynamic")),
            "did you mean 'PocketDynamics'",
        ),
        (lambda f: edit(f, lambda w: w["parts"]["dynamics"].update(type="os:system")), "--allow-code os"),
        (lambda f: edit(f, lambda w: w["parts"]["dynamics"]["config"].update(width="wide")), "config.*width is 'wide'"),
        (lambda f: (f / "world.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "world.json").unlink(), "is not a world"),
        (lambda f: (f / "dynamics.safetensors").unlink(), "lacks dynamics.safetensors"),
        (flip_last_byte, "sha256"),
        (lambda f: rewrite_tensors(f, remove_six), r"6 tensors missing \((\S+, ){4}\S+\), 0 surplus"),
        (lambda f: rewrite_tensors(f, lambda t: t.update(extra=torch.zeros(1))), r"1 surplus \(extra\)"),
        (lambda f: rewrite_tensors(f, lambda t: t.update(mask=torch.zeros(5))), "another shape.*mask.*5"),
        (lambda f: (f / "starts.npz").write_bytes(b"PK nonsense"), "starts.npz cannot be read"),
        (lambda f: (f / "starts.npz").write_bytes((f / "starts.npz").read_bytes()[:300]), "starts.npz cannot be read"),
        (
            lambda f: rewrite_starts(f, frames=np.zeros((2, 64, 64, 3))),
            r"holds frames float64 \(2, 64, 64, 3\); wanted",
        ),
        (lambda f: rewrite_starts(f, frames=np.zeros((2, 8, 8, 3), np.uint8)), r"holds frames uint8 \(2, 8, 8, 3\)"),
        (lambda f: rewrite_starts(f, action=np.zeros(1, np.int64)), "lacks the actions 'action' of its 2 frames"),
        (lambda f: rewrite_starts(f, action=None), "lacks the actions 'action'"),
        (lambda f: edit(f, lambda w: w["spec"].update(height=72)), "frames are 72x64; this tokenizer reads 64x64"),
        (
            lambda f: edit(f, lambda w: w["spec"]["actions"]["action"].update(n=9)),
            r"\('discrete', 9, 1\).*learned.*4, 1",
        ),
        (
            lambda f: edit(f, lambda w: w["spec"].update(actions={})),
            "lists the actions {}; its dynamics learned {'action'",
        ),
        (
            lambda f: edit(f, lambda w: w["parts"].update(tokenizer=w["parts"]["dynamics"])),
            "is a PocketDynamics; wanted a PatchTokenizer",
        ),
        (
            lambda f: edit(f, lambda w: w["parts"]["dynamics"]["config"].update(width=-4)),
            "width is -4; it must be a multiple of 4",
        ),
        (lambda f: edit(f, lambda w: w["parts"]["dynamics"]["config"].update(width=10**9)), "cannot be built.*memory"),
        (lambda f: (f / "world.json").write_text("[" * 100_000), "not valid JSON"),
    ],
)
def test_damaged_folders_are_one_line(folder: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=said) as caught:
        World.load(folder)
    assert "\n" not in str(caught.value)


def test_part_files_cannot_point_outside(folder: Path, tmp_path: Path) -> None:
    (folder / "dynamics.safetensors").rename(tmp_path / "dynamics.safetensors")
    edit(folder, lambda w: w["parts"]["dynamics"].update(file="../dynamics.safetensors"))
    with pytest.raises(UserError, match=r"lacks dynamics\.safetensors"):
        World.load(folder)


def test_starts_survive(folder: Path) -> None:
    (start,) = World.load(folder).initial_contexts
    (given,) = make().initial_contexts
    assert np.array_equal(start.frames, given.frames) and np.array_equal(start.action, given.action)


def test_a_run_folder_loads_its_world(tmp_path: Path) -> None:
    make().save(tmp_path / "run" / "world")
    assert World.load(tmp_path / "run").info.system == "pocket"


def test_saving_replaces_a_world_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    make().save(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["world"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(UserError, match="is not a world; choose another folder"):
        make().save(other)
    assert [p.name for p in other.iterdir()] == ["cat.jpg"]
    with pytest.raises(UserError, match="is not a world"):
        make().save(other / "cat.jpg")
    assert (other / "cat.jpg").read_bytes() == b"meow"


def test_code_that_is_allowed_and_absent_is_one_line(folder: Path) -> None:
    edit(folder, lambda w: w["parts"]["dynamics"].update(type="no_such_package:Model"))
    with pytest.raises(UserError, match=r"cannot be imported.*no_such_package"):
        World.load(folder, allow_code=["no_such_package"])


def test_wrong_arguments_are_one_line() -> None:
    world = make()
    frames = world.initial_contexts[0].frames
    with pytest.raises(UserError, match=r"lacks the actions \['action'\]"):
        world.score(Clip(frames=frames, source="x"))
    with pytest.raises(UserError, match=r"shape \(2,\); wanted \(n, S"):
        world.generate(frames[None], None, np.array([1, 2]))


@pytest.mark.parametrize(
    "damage", [lambda p: np.save(p, np.int64(3)), lambda p: p.write_bytes(b"PK\x03\x04 and no more")]
)
def test_unfit_action_files_are_one_line(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    world, path = make(), tmp_path / "actions.npy"
    damage(path)
    with pytest.raises(UserError, match=r"wanted \('steps',\)|holds no readable actions") as caught:
        choose_actions(world, world.initial_contexts[0], str(path), 2, 4, seed=0)
    assert "\n" not in str(caught.value)


def test_everything_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may keep a rename and lose the bytes."""
    events: list[str] = []
    real, rename = os.fsync, Path.rename

    def note_sync(handle: int) -> None:
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    def note_rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    make().save(tmp_path / "world")
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert {p.name for p in (tmp_path / "world").iterdir()} | {"world.tmp"} <= set(before)
    assert before[-1] == "world.tmp" and after == [tmp_path.name]


def test_a_full_disk_leaves_the_old_world(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    real = Path.write_bytes

    def fill_up(path: Path, content: bytes) -> int:
        if path.name.startswith("dynamics"):
            real(path, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(UserError, match=r"No space left on device.*free some space"):
        make().save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["world"]


def test_files_have_the_rights_of_any_new_file(folder: Path) -> None:
    (folder / "plain").write_text("")
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1


def test_a_part_that_no_model_knows_is_kept(folder: Path, tmp_path: Path) -> None:
    """A part beyond those of the system's model is loaded, and saved again with the same bytes."""
    edit(folder, lambda w: w["parts"].update(critic=dict(w["parts"]["tokenizer"], file="critic.safetensors")))
    shutil.copy(folder / "tokenizer.safetensors", folder / "critic.safetensors")
    world = World.load(folder)
    assert set(world.parts) == {"tokenizer", "dynamics", "critic"}
    world.save(tmp_path / "again")
    again = World.load(tmp_path / "again")
    assert again.info == world.info
    assert (tmp_path / "again" / "critic.safetensors").read_bytes() == (folder / "critic.safetensors").read_bytes()


@pytest.mark.parametrize("name", SYSTEMS)
def test_part_types_are_named_after_their_classes(name: str) -> None:
    assert all(kind.__name__ == part for part, kind in load_system(name).PARTS.items())
