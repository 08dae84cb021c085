"""What every recipe's sessions promise: exact caches, exact batches, exact copies, and no look ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tests.contract.conftest import actions, frames

from reelworld.generate.samplers import SamplerConfig
from reelworld.generate.session import Session, Snapshot
from reelworld.nn.pixels import to_float
from reelworld.types import Codes, Conditions
from reelworld.worlds.world import World

N_CONTEXT, N_STEPS = 4, 6


def play(session: Session, steps: dict[str, Any], start: int = 0, stop: int = N_STEPS) -> np.ndarray:
    """Step with (n, S, ...) actions; return the frames (n, S, H, W, 3)."""
    return play_codes(session, steps, start, stop)[0]


def play_codes(
    session: Session, steps: dict[str, Any], start: int = 0, stop: int = N_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Step with (n, S, ...) actions; return the frames and the codes (n, S, N) that were drawn."""
    results = [session.step({k: v[:, t] for k, v in steps.items()}) for t in range(start, stop)]
    return np.stack([r.frame for r in results], 1), np.stack([r.info["codes"] for r in results], 1)


def assert_same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> None:
    """Same codes; pixels may round differently by one level, as batches of two sizes add up in another order."""
    assert np.array_equal(one[1], other[1])
    assert np.abs(one[0].astype(np.int16) - other[0]).max() <= 1


def started(world: World, n: int, seed: int = 5) -> Session:
    session = world.session(n, seed)
    session.reset(frames(n, N_CONTEXT), actions(world, n, N_CONTEXT - 1))
    return session


def test_worlds_of_these_tests_react(world: World) -> None:
    """Guard the tests below: frames must differ over time, streams, actions and seeds."""
    run = play(started(world, 2), actions(world, 2, N_STEPS))
    assert len({frame.tobytes() for frame in run.reshape(-1, 64, 64, 3)}) == 2 * N_STEPS
    assert not np.array_equal(run, play(started(world, 2, seed=6), actions(world, 2, N_STEPS)))
    if world.info.actions:
        assert not np.array_equal(run, play(started(world, 2), actions(world, 2, N_STEPS, seed=1)))


def test_context_comes_back_as_given(world: World) -> None:
    given = frames(2, N_CONTEXT)
    result = world.session(2, 0).reset(given, actions(world, 2, N_CONTEXT - 1))
    assert np.array_equal(result.frame, given[:, -1])


def test_every_context_frame_and_action_counts(world: World) -> None:
    steps, past = actions(world, 1, N_STEPS), actions(world, 1, N_CONTEXT - 1)
    given = frames(1, N_CONTEXT)
    run = world.generate(given, past, steps or N_STEPS, seed=0)
    window = N_CONTEXT - 1  # pocket:tiny looks back three frames
    for t in range(N_CONTEXT - window, N_CONTEXT):
        other = given.copy()
        other[:, t] = frames(1, 1, seed=9)[:, 0]
        assert not np.array_equal(run, world.generate(other, past, steps or N_STEPS, seed=0)), t
    if past:
        other_past = {k: v[:, ::-1].copy() for k, v in past.items()}
        assert not np.array_equal(run, world.generate(given, other_past, steps, seed=0))


def test_context_is_context(world: World) -> None:
    """Change all frames and actions after the context: neither codes, nor scores, nor frames may move."""
    n_frames = N_CONTEXT + N_STEPS
    video, other = frames(2, n_frames), frames(2, n_frames)
    other[:, N_CONTEXT:] = frames(2, N_STEPS, seed=9)
    moves, other_moves = actions(world, 2, n_frames), actions(world, 2, n_frames)
    for name in moves:
        other_moves[name][:, N_CONTEXT - 1 :] = actions(world, 2, N_STEPS + 1, seed=9)[name]
    with torch.inference_mode():
        codes, other_codes = encode(world, video), encode(world, other)
        assert torch.equal(codes[:, :N_CONTEXT], other_codes[:, :N_CONTEXT])
        assert not torch.equal(codes[:, N_CONTEXT:], other_codes[:, N_CONTEXT:])
        nats = world.dynamics.judge(Codes.of(codes), conditions(moves)).nats
        other_nats = world.dynamics.judge(Codes.of(other_codes), conditions(other_moves)).nats
    torch.testing.assert_close(nats[:, : N_CONTEXT - 1], other_nats[:, : N_CONTEXT - 1])
    assert not torch.allclose(nats[:, N_CONTEXT - 1 :], other_nats[:, N_CONTEXT - 1 :])
    past = {k: v[:, : N_CONTEXT - 1] for k, v in moves.items()}
    future = actions(world, 2, N_STEPS, seed=3) or N_STEPS
    run = world.generate(video[:, :N_CONTEXT], past, future, seed=0)
    assert np.array_equal(run, world.generate(other[:, :N_CONTEXT], past, future, seed=0))


def encode(world: World, video: np.ndarray) -> torch.Tensor:
    """Codes of a clip, (n, T, N)."""
    codes: torch.Tensor = world.tokenizer.encode(to_float(torch.from_numpy(video))).video
    return codes


def conditions(moves: dict[str, Any]) -> Conditions:
    return Conditions(actions={k: torch.from_numpy(v) for k, v in moves.items()})


class Forced:
    """A sampler that answers with the true next codes and keeps the logits it was shown."""

    steps = 1

    def __init__(self, codes_BPN: torch.Tensor) -> None:
        self.codes, self.nats = codes_BPN, []

    def __call__(self, logits: torch.Tensor, generator: object) -> torch.Tensor:
        wanted = self.codes[:, N_CONTEXT + len(self.nats)].reshape(logits.shape[:-1])
        log = logits.log_softmax(-1).gather(-1, wanted[..., None])
        self.nats.append(-log.flatten(1).sum(1))
        return wanted


def test_cached_steps_equal_the_parallel_pass(world: World) -> None:
    """Longer than the attention window, so that the ring has wrapped."""
    video, moves = frames(2, N_CONTEXT + N_STEPS), actions(world, 2, N_CONTEXT + N_STEPS)
    with torch.inference_mode():
        codes = encode(world, video)
        judged = world.dynamics.judge(Codes.of(codes), conditions(moves))
        past = {k: v[:, : N_CONTEXT - 1] for k, v in moves.items()}
        state = world.dynamics.prefill(Codes.of(codes[:, :N_CONTEXT]), conditions(past))
        sampler, brought = Forced(codes), []
        for t in range(N_STEPS):
            now = {k: v[:, N_CONTEXT - 1 + t : N_CONTEXT + t] for k, v in moves.items()}
            made, state = world.dynamics.step(state, conditions(now), sampler, None)
            assert torch.equal(made.video[:, 0], codes[:, N_CONTEXT + t])
            brought.append(torch.stack([state.reward, state.terminated]))
    later = slice(N_CONTEXT - 1, None)
    torch.testing.assert_close(torch.stack(sampler.nats, 1), judged.nats[:, later], rtol=1e-4, atol=1e-3)
    expected = torch.stack([judged.reward, judged.terminated])[..., later]
    torch.testing.assert_close(torch.stack(brought, -1), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_streams_alone(world: World) -> None:
    steps = actions(world, 3, N_STEPS)
    batch = started(world, 3)
    moment = batch.snapshot()
    pixels, codes = play_codes(batch, steps)
    for i in range(3):
        alone = started(world, 1)
        state = moment.state.select(torch.tensor([i]))
        alone.restore(Snapshot(state, moment.generators[i : i + 1], moment.frame[i : i + 1], moment.n_steps))
        of_alone = play_codes(alone, {k: v[i : i + 1] for k, v in steps.items()})
        assert_same(of_alone, (pixels[i : i + 1], codes[i : i + 1]))


def test_snapshots_replay_exactly(world: World) -> None:
    session, steps = started(world, 2), actions(world, 2, N_STEPS)
    play(session, steps, 0, 2)
    moment = session.snapshot()
    first = play(session, steps, 2)
    session.restore(moment)
    assert np.array_equal(session.frame, moment.frame)
    assert np.array_equal(first, play(session, steps, 2))
    session.restore(moment)  # a moment may be used more than once
    assert np.array_equal(first, play(session, steps, 2))


def test_forks_go_on_from_the_same_past(world: World) -> None:
    parent, twin = started(world, 1), started(world, 1)
    steps = actions(world, 1, N_STEPS)
    play(parent, steps, 0, 2)
    play(twin, steps, 0, 2)
    parent.sampler = twin.sampler = SamplerConfig(temperature=0.0)
    children = parent.fork(3)
    many = {k: np.repeat(v, 3, 0) for k, v in steps.items()}
    pixels, codes = play_codes(children, many, 2)
    of_twin = play_codes(twin, steps, 2)
    for i in range(3):
        assert_same((pixels[i : i + 1], codes[i : i + 1]), of_twin)
    assert np.array_equal(play(parent, steps, 2), of_twin[0]), "forking or its children moved the parent"


def test_forks_draw_their_own_futures(world: World) -> None:
    parent = started(world, 1)
    many = {k: np.repeat(v, 3, 0) for k, v in actions(world, 1, N_STEPS).items()}
    run = play(parent.fork(3), many)
    assert len({stream.tobytes() for stream in run}) == 3


def test_streams_draw_their_own_futures(world: World) -> None:
    """Same context, same actions: only the draws differ."""
    session = world.session(3, seed=0)
    session.reset(frames(1, N_CONTEXT)[0], {k: v[0] for k, v in actions(world, 1, N_CONTEXT - 1).items()})
    run = play(session, {k: np.repeat(v, 3, 0) for k, v in actions(world, 1, N_STEPS).items()})
    assert len({stream.tobytes() for stream in run}) == 3


def test_sessions_begin_with_start_clips(world: World) -> None:
    firsts = {world.session(seed=i).reset().frame[0].tobytes() for i in range(12)}
    assert firsts == {clip.frames[-1].tobytes() for clip in world.starts}


def test_a_seed_decides_everything(world: World) -> None:
    steps = actions(world, 2, N_STEPS)
    assert np.array_equal(play(started(world, 2, seed=1), steps), play(started(world, 2, seed=1), steps))


def test_temperature_changes_the_draws(world: World) -> None:
    steps = actions(world, 1, N_STEPS)
    runs = {}
    for temperature in (0.0, 0.5, 1.0):
        session = started(world, 1)
        session.sampler = SamplerConfig(temperature=temperature)
        runs[temperature] = play(session, steps).tobytes()
    assert len(set(runs.values())) == 3
