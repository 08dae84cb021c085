"""What every recipe promises: its table entry, its config, its sizes, its world on disk."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.conformance.conftest import actions, classes, frames

from reelworld import systems
from reelworld.config import from_json, to_json
from reelworld.models.system_config import Settings
from reelworld.systems import SYSTEMS
from reelworld.types import UserError
from reelworld.worlds.world import World


def test_table_matches_the_folder() -> None:
    folders = {p.parent.name for p in Path(systems.__file__).parent.glob("*/__init__.py")}
    assert folders == set(SYSTEMS)


def test_sizes_survive_json(recipe: ModuleType) -> None:
    assert {"tiny", recipe.DEFAULT_SIZE} <= set(recipe.SIZES)
    for size in recipe.SIZES.values():
        assert from_json(recipe.Config, json.loads(json.dumps(to_json(size())))) == size()


def test_a_misspelt_field_names_the_closest(recipe: ModuleType) -> None:
    values = to_json(recipe.SIZES["tiny"]())
    values["sede"] = values.pop("seed")
    with pytest.raises(UserError, match="did you mean 'seed'"):
        from_json(recipe.Config, values)


def test_every_field_has_help(recipe: ModuleType) -> None:
    fields, bare = set(), []
    for kind in recipe.Config.__mro__[:-1]:
        (config,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(config, ast.ClassDef)
        for field, after in pairwise(config.body):
            if isinstance(field, ast.AnnAssign):
                fields.add(name := ast.unparse(field.target))
                if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                    bare.append(name)
    assert bare == []
    assert fields == {field.name for field in dataclasses.fields(recipe.Config)}
    assert issubclass(recipe.Config, Settings)


def weights(world: World) -> dict[str, torch.Tensor]:
    return {f"{p}.{k}": v for p, part in world.parts.items() for k, v in part.state_dict().items()}


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_save_then_load_is_the_identity(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "a")
    again = World.load(tmp_path / "a")
    assert again.info == world.info
    before, after = weights(world), weights(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert len(again.starts) == len(world.starts) == 3
    for clip, before_clip in zip(again.starts, world.starts, strict=True):
        assert np.array_equal(clip.frames, before_clip.frames)
        assert all(np.array_equal(clip.actions[k], before_clip.actions[k]) for k in world.info.actions)
        assert clip.class_id == before_clip.class_id
    again.save(tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert len(hashes(tmp_path / "a")) >= 3


def test_a_loaded_world_plays_the_same(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "a")
    again = World.load(tmp_path / "a")
    past, steps = actions(world, 1, 1), actions(world, 1, 5) or 5
    runs = [w.generate(frames(1, 2), past, steps, seed=3, class_id=classes(world, 1)) for w in (world, again)]
    assert np.array_equal(*runs)


def test_world_folders_hold_no_pickles(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "a")
    suffixes = {p.suffix for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".safetensors", ".md", ".npz", ".gif"}
