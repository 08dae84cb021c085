"""A world of latent actions that takes real ones does what it does under the latent ones they are mapped to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conformance.conftest import frames
from tests.models.counting import ALLOWED, counting_world

from reelworld.config import to_json
from reelworld.models.action_mapping import ActionMap, fit_map
from reelworld.models.frame_model import FrameModel
from reelworld.types import ActionSpec, Clip, UserError
from reelworld.worlds.action_mapping import with_latent_actions, with_real_actions
from reelworld.worlds.world import World

N, N_CONTEXT, N_STEPS = 2, 3, 4
SPECS = {
    "discrete": ActionSpec(kind="discrete", n=5, null=4, names=tuple("abcde"), keys={"KeyA": 0}),
    "continuous": ActionSpec(kind="continuous", n=1, low=(-1.0,), high=(1.0,), null=(0.0,), keys={"KeyA": (-1.0,)}),
}
LABELS = {
    "discrete": ([0, 1, 2, 3], [2, 0, 1, 3]),
    "continuous": ([0, 1, 2], [[0.75], [-0.5], [0.125]]),
}


@pytest.fixture(scope="module")
def bare() -> World:
    """A world that takes its latent actions."""
    return counting_world()


@pytest.fixture(scope="module", params=sorted(SPECS))
def action_map(request: pytest.FixtureRequest) -> ActionMap:
    """A map of each kind of action."""
    latent, real = (np.array(rows) for rows in LABELS[request.param])
    return fit_map(latent, real, SPECS[request.param], 4, stream="action")


def real_actions(action_map: ActionMap, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    if action_map.spec.kind == "discrete":
        return rng.integers(0, 5, shape)
    return rng.uniform(-1, 1, (*shape, 1)).astype(np.float32)


def played(session: Any, actions: np.ndarray) -> np.ndarray:
    return np.stack([session.step(actions[:, t]).frame for t in range(actions.shape[1])], 1)


def test_sessions_are_those_of_the_latent_actions(bare: World, action_map: ActionMap) -> None:
    steered = with_real_actions(bare, action_map)
    context, before = frames(N, N_CONTEXT), real_actions(action_map, N, N_CONTEXT - 1)
    actions = real_actions(action_map, N, N_STEPS)
    assert len(np.unique(action_map.latent(actions))) > 1
    one, other = steered.session(N, 3), bare.session(N, 3)
    one.reset(context, before), other.reset(context, action_map.latent(before))
    assert np.array_equal(played(one, actions), played(other, action_map.latent(actions)))
    moment, same = one.snapshot(), other.snapshot()
    more = real_actions(action_map, N, 2)
    first = played(one, more)
    assert np.array_equal(first, played(other, action_map.latent(more)))
    one.restore(moment), other.restore(same)
    assert np.array_equal(played(one, more), first)
    single, latent = steered.session(1, 3), bare.session(1, 3)
    single.reset(context[:1], before[:1]), latent.reset(context[:1], action_map.latent(before[:1]))
    assert np.array_equal(played(single.fork(N), more), played(latent.fork(N), action_map.latent(more)))


def test_other_latent_actions_make_other_frames(bare: World, action_map: ActionMap) -> None:
    """Guard the tests here: the world listens to actions, in the context as well."""
    context, actions = frames(N, N_CONTEXT), action_map.latent(real_actions(action_map, N, N_STEPS))
    before = np.zeros((N, N_CONTEXT - 1), np.int64)
    made = bare.generate(context, before, actions, seed=0)
    assert not np.array_equal(made, bare.generate(context, before, (actions + 1) % 4, seed=0))
    assert not np.array_equal(made, bare.generate(context, before + 1, actions, seed=0))


def test_generate_and_score_too(bare: World, action_map: ActionMap) -> None:
    steered = with_real_actions(bare, action_map)
    context, before = frames(N, N_CONTEXT), real_actions(action_map, N, N_CONTEXT - 1)
    actions = real_actions(action_map, N, N_STEPS)
    to_latent = action_map.latent
    made = steered.generate(context, before, actions, seed=1)
    assert np.array_equal(made, bare.generate(context, to_latent(before), to_latent(actions), seed=1))
    codes = np.random.default_rng(0).integers(0, 32, (N, N_CONTEXT, 64))
    made = steered.generate_codes(codes, before, actions, seed=1)
    assert np.array_equal(made, bare.generate_codes(codes, to_latent(before), to_latent(actions), seed=1))
    rows = real_actions(action_map, N_CONTEXT)
    scores = [
        steered.score(Clip(frames=context[0], actions={"action": rows})),
        bare.score(Clip(frames=context[0], actions={"latent": to_latent(rows)})),
        steered.score_codes(codes[0], rows[:-1]),
        bare.score_codes(codes[0], to_latent(rows[:-1])),
    ]
    assert scores[0].nats_per_frame == scores[1].nats_per_frame != scores[3].nats_per_frame
    assert scores[2].nats_per_frame == scores[3].nats_per_frame


def test_nothing_pressed_is_the_null_action(bare: World, action_map: ActionMap) -> None:
    steered = with_real_actions(bare, action_map)
    null = action_map.latent(np.array(action_map.spec.null, np.float32 if action_map.cuts else np.int64))
    made = steered.generate(frames(1, 1), None, n_frames=2, seed=0)
    assert np.array_equal(made, bare.generate(frames(1, 1), None, np.full((1, 2), null), seed=0))


def test_start_clips_mean_the_same(bare: World, action_map: ActionMap) -> None:
    """Latent actions of the starts are those of the map, there and back: 0, 1, 2."""
    steered = with_real_actions(bare, action_map)
    for clip, before in zip(steered.initial_contexts, bare.initial_contexts, strict=True):
        assert np.array_equal(action_map.latent(clip.actions["action"]), before.actions["latent"])
    one, other = steered.session(N, 4), bare.session(N, 4)
    assert np.array_equal(one.reset().frame, other.reset().frame)
    actions = real_actions(action_map, N, N_STEPS)
    assert np.array_equal(played(one, actions), played(other, action_map.latent(actions)))


def test_a_mapped_world_comes_back_from_disk(bare: World, action_map: ActionMap, tmp_path: Path) -> None:
    steered = with_real_actions(bare, action_map)
    steered.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world", allow_code=[ALLOWED])
    assert loaded.info == steered.info and loaded.info.actions == {"action": action_map.spec}
    assert loaded.info.action_map == action_map
    actions = real_actions(action_map, N, N_STEPS)
    made = [w.generate(frames(N, 1), None, actions, seed=2) for w in (steered, loaded)]
    assert np.array_equal(*made)
    card = (tmp_path / "world" / "README.md").read_text()
    assert f"mapped to them with {sum(action_map.n_labels)} labelled steps." in card
    assert all(f"- {text}" in card for text in action_map.limits())
    assert ("- no label shows e: played" in card) == (action_map.spec.kind == "discrete")


def test_undo_brings_back_every_file(bare: World, action_map: ActionMap, tmp_path: Path) -> None:
    bare.save(tmp_path / "bare")
    with_real_actions(bare, action_map).save(tmp_path / "world")
    again = with_latent_actions(World.load(tmp_path / "world", allow_code=[ALLOWED]))
    again.save(tmp_path / "world")
    files = sorted(p.name for p in (tmp_path / "bare").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "world").iterdir())
    for name in files:
        assert (tmp_path / "bare" / name).read_bytes() == (tmp_path / "world" / name).read_bytes(), name
    with pytest.raises(UserError, match="no map"):
        with_latent_actions(again)


def test_a_second_map_replaces_the_first(bare: World, action_map: ActionMap) -> None:
    other = fit_map(np.array([3, 2, 1, 0]), np.arange(4), SPECS["discrete"], 4, stream="keys")
    twice = with_real_actions(with_real_actions(bare, action_map), other)
    assert to_json(twice.info) == to_json(with_real_actions(bare, other).info)
    assert [sorted(clip.actions) for clip in twice.initial_contexts] == [["keys", "latent"]] * len(
        bare.initial_contexts
    )


def test_a_map_of_another_world_is_refused(bare: World) -> None:
    three = fit_map(np.arange(3), np.arange(3), SPECS["discrete"], 3)
    with pytest.raises(UserError, match=r"a map to 3 latent actions; its dynamics learned .*4"):
        with_real_actions(bare, three)
    same_name = fit_map(np.arange(4), np.arange(4), SPECS["discrete"], 4, stream="latent")
    with pytest.raises(UserError, match="its map is for the stream 'latent'"):
        with_real_actions(bare, same_name)
    without = World(bare.info, FrameModel(bare.spec, bare.model.tokenizer, bare.model.dynamics), bare.initial_contexts)
    with pytest.raises(UserError, match="no part that infers latent actions"):
        with_real_actions(without, fit_map(np.arange(4), np.arange(4), SPECS["discrete"], 4))
