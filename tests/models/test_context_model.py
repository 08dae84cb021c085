"""Context models: windows, a single prefill, forks, scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conformance.conftest import actions, frames, untrained
from tests.tiny import tiny_config

from reelworld.models.samplers import SamplerConfig
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.rollout.session import Session
from reelworld.types import Clip, Codes, Conditions, UserError
from reelworld.worlds.world import World


@pytest.fixture(scope="module", params=[2, 4])
def world(request: pytest.FixtureRequest) -> World:
    """A window of six frames, two of them context; sessions and windows begin with two or with four."""
    short = tiny_config("ivideogpt", clip_frames=6, tokenizer__sampled_frames=3, rewards=True)
    short = replace(short, start_frames=request.param)
    made = untrained("ivideogpt", "continuous", short)
    made.info = replace(made.info, sampler=SamplerConfig(temperature=0.0))
    return made


@pytest.fixture(scope="module")
def saved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("saved") / "world"
    world.save(folder)
    return folder


def plain(world: World, given: np.ndarray, past: np.ndarray, future: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy frames and rewards from whole parallel passes, a window after the other; actions (T, A)."""
    model, tokenizer = world.model.dynamics, world.model.tokenizer
    shown, taken, rewards, first = list(given), np.concatenate([past, future]), [], 0
    drawn: dict[int, torch.Tensor] = {}  # frame of this window -> its codes
    for _ in range(len(future)):
        if len(shown) - first == 6:
            first, drawn = len(shown) - world.spec.context[1], {}
        window = torch.from_numpy(np.stack(shown[first:]))[None]
        codes = tokenizer.encode(to_float(window))
        for frame, kept in drawn.items():
            codes.video[:, frame - first] = kept
        layout, told = model.layout, torch.from_numpy(taken[first:])[None]
        video = torch.cat([codes.video, torch.zeros(1, 1, codes.video.shape[2], dtype=torch.int64)], 1)
        context = torch.cat([codes.grids["context"], codes.grids["context"][:, :1] * 0], 1)
        for place in range(layout.frame_tokens):
            ids = layout.pack(Codes({"context": context, "video": video}))
            logits = model.logits(ids, Conditions(actions={"action": told}))[0, -layout.stride + place]
            video[0, -1, place] = logits[layout.frame_ids].argmax()
        whole = Codes({"context": context, "video": video})
        rewards.append(float(model.score(whole, Conditions(actions={"action": told})).reward[0, -1]))
        drawn[len(shown)] = video[:, -1]
        shown.append(to_uint8(tokenizer.decode(whole)[0, -1]).numpy())
    return np.stack(shown[len(given) :]), np.array(rewards)


@torch.no_grad()
def test_a_run_over_several_windows_is_as_a_plain_program_says(world: World) -> None:
    given, past, future = frames(1, 3), actions(world, 1, 2)["action"], actions(world, 1, 9, seed=2)["action"]
    session = world.session(1, 0)
    session.reset(given, past)
    steps = [session.step(future[:, t]) for t in range(9)]
    wanted, rewards = plain(world, given[0], past[0], future[0])
    apart = np.abs(np.stack([s.frame[0] for s in steps]).astype(int) - wanted)
    assert apart.max() <= 1
    assert np.allclose([s.reward[0] for s in steps], rewards, atol=1e-4) and len(set(rewards.tolist())) > 5


def test_a_context_is_read_once_for_any_number_of_candidates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for part, name in (
        (world.model.dynamics, "prefill"),
        (world.model.tokenizer, "watch"),
        (world.model.tokenizer, "init_state"),
    ):
        original = getattr(part, name)
        monkeypatch.setattr(part, name, lambda *a, name=name, original=original: (calls.append(name), original(*a))[1])
    session = world.session(1, 0)
    session.reset(frames(1, 2), actions(world, 1, 1))
    forks = session.fork(4)
    for t in range(3):
        forks.step(actions(world, 4, 1, seed=t)["action"][:, 0])
    assert sorted(calls) == ["init_state", "prefill", "watch"]


def test_forks_are_as_sessions_of_their_own(world: World) -> None:
    """Of the same seeds: every fork is as a session that read the context and took the first steps by itself."""
    given, past, steps = frames(1, 2), actions(world, 1, 1), actions(world, 3, 7, seed=2)["action"]
    bold = SamplerConfig(temperature=1.0)

    def begun() -> Any:
        session = world.session(1, 4)
        session.sampler = bold
        session.reset(given, past)
        session.step(steps[:1, 0])
        return session

    parent = begun()
    forks = parent.fork(3)
    assert forks._state.dynamics.cache.prefix is not None  # what was read is there once
    seeds = [generator.get_state() for generator in forks._generators]
    made_together = [forks.step(steps[:, t]) for t in range(1, 7)]  # beyond the window of six frames
    for i, seed in enumerate(seeds):
        alone = begun()
        alone._generators[0].set_state(seed)
        for t, together in enumerate(made_together, 1):
            result = alone.step(steps[i : i + 1, t])
            assert np.array_equal(result.info["codes"][0], together.info["codes"][i]), (i, t)
            assert np.abs(result.frame[0].astype(int) - together.frame[i]).max() <= 1
    assert len({r.info["codes"].tobytes() for r in made_together}) > 1
    assert not np.array_equal(made_together[0].info["codes"][0], made_together[0].info["codes"][1])


def test_one_picture_is_enough_and_stands_still(world: World) -> None:
    one, two = frames(1, 1), np.repeat(frames(1, 1), 2, 1)
    runs = []
    for given in (one, two):
        session = world.session(1, 0)
        session.reset(given)
        runs.append(np.stack([session.step(actions(world, 1, 1, seed=3)["action"][:, 0]).frame for _ in range(2)]))
    assert np.array_equal(*runs)
    with pytest.raises(UserError, match="give one or more"):
        world.session(1, 0).reset(frames(1, 0))


def test_long_clips_are_scored_window_after_window(world: World) -> None:
    video, moves = frames(1, 13)[0], {k: v[0] for k, v in actions(world, 1, 13).items()}
    score = world.score(Clip(frames=video, actions=moves))
    nats: list[Any] = []
    known = world.spec.context[1]
    firsts = {2: (0, 4, 8), 4: (0, 2, 4, 6, 8)}[known]  # the last frames of each window begin the next one
    for first in firsts:
        part = world.model.dynamics.score(
            world.model.tokenizer.encode(to_float(torch.from_numpy(video[None, first : first + 6]))),
            Conditions(actions={k: torch.from_numpy(v[None, first : first + 6]) for k, v in moves.items()}),
        )
        nats += part.nll[0, known - 2 if first else 0 :].tolist()
    assert len(nats) == 11 and score.nats_per_frame == pytest.approx(float(np.mean(nats)), rel=1e-5)
    assert score.rewards is not None and len(score.rewards) == 11
    with pytest.raises(UserError, match="needs at least 3"):
        world.score(Clip(frames=video[:2], actions={k: v[:2] for k, v in moves.items()}))


def test_a_long_context_is_cut_to_the_last_window(world: World) -> None:
    """Eleven frames: the window that predicts the twelfth begins with the ninth, or the seventh."""
    given, past = frames(1, 11), actions(world, 1, 10)
    session, late = world.session(1, 0), world.session(1, 0)
    session.reset(given, past)
    first = {2: 8, 4: 6}[world.spec.context[1]]
    late.reset(given[:, first:], {k: v[:, first:] for k, v in past.items()})
    step = actions(world, 1, 1, seed=3)["action"][:, 0]
    assert np.array_equal(session.step(step).frame, late.step(step).frame)


@pytest.mark.parametrize("n", [-3, 1, 6, 9])
def test_a_window_must_have_room_behind_what_it_begins_with(saved: Path, n: int) -> None:
    described = saved / "world.json"
    fields = json.loads(described.read_text())
    fields["spec"]["context"][1] = n
    described.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=rf"says to begin with {n} frames; this world can begin with 2 to 5"):
        World.load(saved)


def test_streams_at_different_places_keep_what_their_windows_begin_with(world: World) -> None:
    """Stepped together, and begun anew one by one, each is as a session of its own."""
    given, past, steps = frames(2, 5), actions(world, 2, 4), actions(world, 2, 8, seed=4)["action"]
    alone = []
    for i, n_given in ((0, 5), (1, 4)):
        session = world.session(1, i)
        session.reset(given[i : i + 1, :n_given], {k: v[i : i + 1, : n_given - 1] for k, v in past.items()})
        alone.append([session.step(steps[i : i + 1, t]) for t in range(8)])
    both = [world.session(1, i) for i in range(2)]
    for i, n_given in ((0, 5), (1, 4)):
        both[i].reset(given[i : i + 1, :n_given], {k: v[i : i + 1, : n_given - 1] for k, v in past.items()})
    for t in range(8):
        together = Session.step_batch(both, [{"action": steps[i : i + 1, t]} for i in range(2)])
        for i, result in enumerate(together):
            assert np.abs(result.frame[0].astype(int) - alone[i][t].frame[0]).max() <= 1, (i, t)
            assert np.allclose(result.reward, alone[i][t].reward, atol=1e-4), (i, t)
    one = world.session(2, 0)
    other = np.array([-1, 1], np.float32)[:, None, None]  # what the first stream did before it begins anew
    one.reset(given[:, :4], {k: v[:, :3] * other for k, v in past.items()})
    one.reset(given[:1, :5], {k: v[:1, :4] for k, v in past.items()}, streams=[0])
    for t in range(8):
        result = one.step(steps[:, t])
        for i in range(2):
            assert np.abs(result.frame[i].astype(int) - alone[i][t].frame[0]).max() <= 1, (i, t)
            assert np.allclose(result.reward[i], alone[i][t].reward, atol=1e-4), (i, t)
