"""Requirements of every system: table entry, config, presets, world on disk."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import typing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conformance.conftest import actions, classes, frames

from reelworld import systems
from reelworld.config import from_json, to_json
from reelworld.models.system import System, SystemConfig
from reelworld.systems import SYSTEMS
from reelworld.types import UserError
from reelworld.worlds.world import World


def test_table_matches_the_folder() -> None:
    folders = {p.parent.name for p in Path(systems.__file__).parent.glob("*/__init__.py")}
    assert folders == set(SYSTEMS)


def test_presets_survive_json(system: System) -> None:
    assert {"tiny", system.default} <= set(system.presets)
    for preset in system.presets.values():
        assert from_json(system.config, json.loads(json.dumps(to_json(preset)))) == preset


def test_a_misspelt_field_names_the_closest(system: System) -> None:
    values = to_json(system.presets["tiny"])
    values["sede"] = values.pop("seed")
    with pytest.raises(UserError, match="did you mean 'seed'"):
        from_json(system.config, values)


def test_every_field_has_help(system: System) -> None:
    assert issubclass(system.config, SystemConfig)
    assert bare_fields(system.config) == []


def bare_fields(config: type) -> list[str]:
    """Fields without a docstring below them, in a config and in those nested in it."""
    fields, bare = set(), []
    for kind in config.__mro__[:-1]:
        (source,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(source, ast.ClassDef)
        for field, after in pairwise(source.body):
            if isinstance(field, ast.AnnAssign):
                fields.add(name := ast.unparse(field.target))
                if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                    bare.append(f"{kind.__name__}.{name}")
    assert fields == {field.name for field in dataclasses.fields(config)}
    hints = typing.get_type_hints(config).values()
    return bare + [name for hint in hints if dataclasses.is_dataclass(hint) for name in bare_fields(hint)]


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
    assert len(again.initial_contexts) == len(world.initial_contexts) == 3
    for clip, before_clip in zip(again.initial_contexts, world.initial_contexts, strict=True):
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
