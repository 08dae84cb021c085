"""Requirements of the sessions of every system: exact caches, batches and copies, and causality."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conformance.conftest import actions, classes, frames
from tests.rollout.plain import plain_run

from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import Context
from reelworld.nn.pixels import to_float
from reelworld.rollout.session import Session, Snapshot
from reelworld.types import Clip, Codes, StepScores, UserError
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
    session.reset(frames(n, N_CONTEXT), actions(world, n, N_CONTEXT - 1), class_id=classes(world, n))
    return session


def continued(world: World, context: np.ndarray, past: Any, future: Any, **changed: Any) -> np.ndarray:
    """Frames that the world makes after a context."""
    wanted = {"seed": 0, "class_id": classes(world, len(context)), **changed}
    return world.generate(context, past, future, **wanted)


def test_worlds_of_these_tests_react(world: World) -> None:
    """Guard the tests below: frames must differ over time, streams, actions, classes and seeds."""
    run = play(started(world, 2), actions(world, 2, N_STEPS))
    assert len({frame.tobytes() for frame in run.reshape(-1, 64, 64, 3)}) == 2 * N_STEPS
    assert not np.array_equal(run, play(started(world, 2, seed=6), actions(world, 2, N_STEPS)))
    if world.info.actions:
        assert not np.array_equal(run, play(started(world, 2), actions(world, 2, N_STEPS, seed=1)))
    if world.spec.classes:
        runs = [continued(world, frames(1, N_CONTEXT), None, N_STEPS, class_id=i) for i in range(3)]
        assert len({r.tobytes() for r in runs}) == 3
    assert len(np.unique(encode(world, frames(1, world.spec.window or N_STEPS)).video)) > 8


def test_context_comes_back_as_given(world: World) -> None:
    given = frames(2, N_CONTEXT)
    result = world.session(2, 0).reset(given, actions(world, 2, N_CONTEXT - 1), class_id=classes(world, 2))
    assert np.array_equal(result.frame, given[:, -1])


def test_every_context_frame_and_action_counts(world: World) -> None:
    steps, past = actions(world, 1, N_STEPS), actions(world, 1, N_CONTEXT - 1)
    given = frames(1, N_CONTEXT)
    run = continued(world, given, past, steps or N_STEPS)
    window = N_CONTEXT - (world.spec.chunk == 1)  # pocket:tiny looks back three frames
    for t in range(N_CONTEXT - window, N_CONTEXT):
        other = given.copy()
        other[:, t] = frames(1, 1, seed=9)[:, 0]
        assert not np.array_equal(run, continued(world, other, past, steps or N_STEPS)), t
    if past:
        other_past = {k: v[:, ::-1].copy() for k, v in past.items()}
        assert not np.array_equal(run, continued(world, given, other_past, steps))


def clips_of(world: World, video: np.ndarray, moves: dict[str, Any]) -> Context:
    """Clips to score, (n, T, H, W, 3), with actions (n, T, ...)."""
    ids = classes(world, len(video))
    return Context(
        frames=video,
        actions={k: torch.from_numpy(v[:, :-1].copy()) for k, v in moves.items()},
        class_id=None if ids is None else torch.tensor(ids),
    )


@torch.inference_mode()
def scores(world: World, video: np.ndarray, moves: dict[str, Any], n_context: int) -> StepScores:
    """Score clips behind a context."""
    found = world.model.score(clips_of(world, video, moves), n_context)
    assert found is not None
    return found


@torch.inference_mode()
def encode(world: World, video: np.ndarray) -> Codes:
    """Encode clips."""
    codes = world.model.encode(to_float(torch.from_numpy(video)))
    assert codes is not None
    return codes


def n_frames_of(world: World) -> int:
    """Length of a clip that is scored in one piece, and longer than every attention window."""
    return min(N_CONTEXT + N_STEPS, world.spec.window or N_CONTEXT + N_STEPS)


def test_context_is_context(world: World) -> None:
    """Change all frames and actions after the context: neither scores of the context, nor frames may move."""
    n_frames = n_frames_of(world)
    video, other = frames(1, n_frames), frames(1, n_frames)
    other[:, N_CONTEXT:] = frames(1, n_frames - N_CONTEXT, seed=9)
    moves, other_moves = actions(world, 1, n_frames), actions(world, 1, n_frames)
    for name in moves:
        other_moves[name][:, N_CONTEXT - 1 :] = actions(world, 1, n_frames - N_CONTEXT + 1, seed=9)[name]
    if world.spec.likelihood is not None:
        nll, other_nll = (scores(world, v, m, N_CONTEXT).nll for v, m in ((video, moves), (other, other_moves)))
        n_scored = (n_frames - N_CONTEXT) // world.spec.time_stride  # behind the context; the rest is within it
        within = nll.shape[1] - n_scored
        torch.testing.assert_close(nll[:, :within], other_nll[:, :within])
        assert not torch.allclose(nll[:, within:], other_nll[:, within:])
    past = {k: v[:, : N_CONTEXT - 1] for k, v in moves.items()}
    future = actions(world, 1, N_STEPS, seed=3) or N_STEPS
    run = continued(world, video[:, :N_CONTEXT], past, future)
    assert np.array_equal(run, continued(world, other[:, :N_CONTEXT], past, future))


def test_scores_do_not_see_later_frames(world: World) -> None:
    """Causality by perturbation: a later frame moves no earlier score."""
    n_frames = n_frames_of(world)
    if world.spec.chunk > 1:  # codes of whole clips depend on all their frames; the order of codes is tested below
        return
    video, moves = frames(1, n_frames), actions(world, 1, n_frames)
    other = video.copy()
    other[:, -1] = frames(1, 1, seed=9)[:, 0]
    nll, other_nll = scores(world, video, moves, 1).nll, scores(world, other, moves, 1).nll
    torch.testing.assert_close(nll[:, :-1], other_nll[:, :-1])
    assert not torch.allclose(nll[:, -1], other_nll[:, -1])


class Forced:
    """A sampler that answers with the true next codes and keeps the surprise at them."""

    steps, on_progress = 1, None

    def __init__(self, codes_BL: torch.Tensor) -> None:
        self.codes, self.nll, self.place = codes_BL, [], 0

    def __call__(self, logits: torch.Tensor, generator: object) -> torch.Tensor:
        n = logits[0, ..., 0].numel()  # a whole frame, or one code
        wanted = self.codes[:, self.place : self.place + n].reshape(logits.shape[:-1])
        log = logits.log_softmax(-1).gather(-1, wanted[..., None])
        self.nll.append(-log.flatten(1))
        self.place += n
        return wanted


def test_cached_steps_equal_the_parallel_pass(world: World) -> None:
    """Steps that are made to sample the recorded codes find them as likely as the parallel pass does.

    Longer than the attention window of the tiny presets, so that rings have wrapped.
    """
    n_frames, stride = n_frames_of(world), world.spec.time_stride
    video, moves = frames(2, n_frames), actions(world, 2, n_frames)
    expected = scores(world, video, moves, N_CONTEXT)
    codes_BPN = encode(world, video).video[:, N_CONTEXT // stride :]
    clips, sampler = clips_of(world, video, moves), Forced(codes_BPN.flatten(1))
    context = replace(
        clips, frames=video[:, :N_CONTEXT], actions={k: v[:, : N_CONTEXT - 1] for k, v in clips.actions.items()}
    )
    outcomes = []
    with torch.inference_mode():
        rng = [torch.Generator(), torch.Generator()]
        _, state = world.model.begin(context, sampler, rng)
        for t in range(N_CONTEXT, n_frames):
            now = {k: v[:, t - 1 : t] for k, v in clips.actions.items()}
            output, state = world.model.step(state, now, sampler, rng)
            assert np.array_equal(output.codes, codes_BPN[:, (t - N_CONTEXT) // stride].numpy())
            outcomes.append(np.stack([output.reward, output.terminated]))
    n_latents = codes_BPN.shape[1]
    nll = torch.cat(sampler.nll, 1).unflatten(1, (n_latents, -1)).sum(-1)
    torch.testing.assert_close(nll.double(), expected.nll[:, -n_latents:].double(), rtol=1e-4, atol=1e-3)
    for row, name in enumerate(("reward", "terminated")):
        if (found := getattr(expected, name)) is not None:
            steps = np.stack(outcomes, -1)[row]
            np.testing.assert_allclose(steps, found[:, -n_latents:].numpy(), rtol=1e-4, atol=1e-5)


def test_whole_clips_slide_as_a_plain_program_says(world: World) -> None:
    """Beyond the first window, against the parallel pass, one token after the other."""
    if world.spec.chunk == 1:
        return
    n_steps, ids = world.spec.chunk - N_CONTEXT + world.spec.time_stride, classes(world, 1)
    session = started(world, 1)
    (state,) = session.snapshot().generators
    made, codes = play_codes(session, {}, stop=n_steps)
    generator = torch.Generator()
    generator.set_state(state)
    plain = plain_run(world, frames(1, N_CONTEXT)[0], n_steps, generator, None if ids is None else ids[0])
    assert_same((made[0], codes[0]), plain)


def test_a_batch_equals_its_streams_alone(world: World) -> None:
    steps = actions(world, 3, N_STEPS)
    batch = started(world, 3)
    moment = batch.snapshot()
    pixels, codes = play_codes(batch, steps)
    for i in range(3):
        alone = started(world, 1)
        state = moment.state.index_select(torch.tensor([i]))
        alone.restore(Snapshot(state, moment.generators[i : i + 1], moment.frame[i : i + 1], moment.n_steps))
        of_alone = play_codes(alone, {k: v[i : i + 1] for k, v in steps.items()})
        assert_same(of_alone, (pixels[i : i + 1], codes[i : i + 1]))


def test_sessions_that_step_together_play_as_if_alone(world: World) -> None:
    """They join and leave in the middle, are of different age and draw by different seeds."""
    seeds, here = (5, 6, 7), (range(N_STEPS), range(2, 7), range(1, 4))
    steps = [actions(world, 1, N_STEPS, seed=seed) for seed in seeds]
    alone = [play_codes(started(world, 1, s), a, 0, len(t)) for s, a, t in zip(seeds, steps, here, strict=True)]
    sessions, made, n_in_company = [started(world, 1, seed) for seed in seeds], [[], [], []], []
    for tick in range(7):
        waiting = [i for i in range(3) if tick in here[i]]
        while waiting:
            group = [i for i in waiting if sessions[i].batch_key == sessions[waiting[0]].batch_key]
            waiting = [i for i in waiting if i not in group]
            wanted = [{k: v[:, tick - here[i].start] for k, v in steps[i].items()} for i in group]
            for i, result in zip(group, Session.step_batch([sessions[i] for i in group], wanted), strict=True):
                made[i].append(result)
            n_in_company.append(len(group))
    assert max(n_in_company) >= 2
    for i in range(3):
        frames_made = np.stack([r.frame for r in made[i]], 1)
        assert_same((frames_made, np.stack([r.info["codes"] for r in made[i]], 1)), alone[i])
        assert sessions[i].n_steps == len(here[i]) and np.array_equal(sessions[i].frame, frames_made[:, -1])


def test_streams_that_begin_anew_leave_the_others_alone(world: World) -> None:
    """One of three is reset in the middle: the others go on as if nothing had happened, and it as if alone."""
    steps, context = actions(world, 3, N_STEPS), frames(1, 2, seed=6)
    ids, past = classes(world, 1), actions(world, 1, 1, seed=6)
    undisturbed = play_codes(started(world, 3), steps)
    session = started(world, 3)
    before = play_codes(session, steps, 0, 3)
    session.reset(context, past, streams=[1], class_id=ids)
    moment = session.snapshot()
    after = play_codes(session, steps, 3)
    whole = [np.concatenate(pair, 1) for pair in zip(before, after, strict=True)]
    assert_same((whole[0][[0, 2]], whole[1][[0, 2]]), (undisturbed[0][[0, 2]], undisturbed[1][[0, 2]]))
    alone = world.session(1)
    alone.reset(context, past, class_id=ids)
    alone.restore(Snapshot(alone.snapshot().state, moment.generators[1:2], alone.frame, 0))
    of_alone = play_codes(alone, {k: v[1:2] for k, v in steps.items()}, 3)
    assert_same(of_alone, (after[0][1:2], after[1][1:2]))


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
    session, past = world.session(3, seed=0), actions(world, 1, N_CONTEXT - 1)
    session.reset(
        frames(1, N_CONTEXT)[0], {k: v[0] for k, v in past.items()}, class_id=0 if classes(world, 1) else None
    )
    run = play(session, {k: np.repeat(v, 3, 0) for k, v in actions(world, 1, N_STEPS).items()})
    assert len({stream.tobytes() for stream in run}) == 3


def test_sessions_begin_with_start_clips(world: World) -> None:
    firsts = {world.session(seed=i).reset().frame[0].tobytes() for i in range(12)}
    assert firsts == {clip.frames[-1].tobytes() for clip in world.initial_contexts}


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


def test_codes_continue_as_frames_do(world: World) -> None:
    """Continuing and scoring codes is what happens behind frames; whole clips, and contexts apart, are refused."""
    given, past, steps = frames(2, N_CONTEXT), actions(world, 2, N_CONTEXT - 1), actions(world, 2, N_STEPS)
    grids = encode(world, given)
    codes = grids.video
    if world.spec.chunk > 1 or "context" in grids.grids:
        for call in (lambda: world.generate_codes(codes, n_frames=1), lambda: world.score_codes(codes[0])):
            with pytest.raises(UserError, match="whole clips" if world.spec.chunk > 1 else "another grid"):
                call()
        return
    _, drawn = play_codes(started(world, 2), steps)
    made = world.generate_codes(codes, past or None, steps or N_STEPS, seed=5)
    assert np.array_equal(made, drawn)
    clip = Clip(frames=given[0], actions={k: np.concatenate([v[0], v[0, :1]]) for k, v in past.items()})
    of_codes = world.score_codes(codes[0], {k: v[0] for k, v in past.items()} or None)
    of_frames = world.score(clip)
    assert of_codes.nats_per_frame == pytest.approx(of_frames.nats_per_frame, rel=1e-5)
    assert of_codes.rewards is not None and of_frames.rewards is not None
    assert np.allclose(of_codes.rewards, of_frames.rewards, atol=1e-5)
