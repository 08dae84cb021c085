"""Sessions over worlds that code whole clips, against a plain program on a toy that is exact to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.rollout.plain import plain_run
from tests.rollout.toy import CLASSES, CLIP, N_LATENTS, N_TOKENS, SIDE, STRIDE, frames, start_clips, toy_world
from tests.tiny import tiny_world

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.rollout.session import Session
from reelworld.systems.videogpt.model import assemble
from reelworld.types import Clip, Codes, Conditions, UserError
from reelworld.worlds.world import World

N_STEPS = 3 * CLIP
NOTHING = np.zeros((1, 0, SIDE, SIDE, 3), np.uint8)


def generators_of(session: Session) -> list[torch.Generator]:
    """Copies of the streams' generators, as they stand."""
    copies = []
    for state in session.snapshot().generators:
        copies.append(torch.Generator())
        copies[-1].set_state(state)
    return copies


def seeded(seed: int, n: int = 1) -> list[torch.Generator]:
    """The generators that a session of n streams begins with."""
    probe = toy_world().session(n, seed)
    return [torch.Generator().manual_seed(g.initial_seed()) for g in probe._generators]


def play(session: Session, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, S, H, W, 3) and codes (n, S, N) of the next steps."""
    results = [session.step() for _ in range(n_steps)]
    return np.stack([r.frame for r in results], 1), np.stack([r.info["codes"] for r in results], 1)


# ------------------------------------------------------------------ what is shown


@pytest.mark.parametrize(
    ("cond_frames", "given", "kept"),
    [
        (0, 0, 0), (0, 2, 2), (0, 5, 4), (0, 7, 6), (0, 8, 8),
        (1, 1, 1), (1, 2, 2), (1, 5, 4), (1, 8, 8),
        (3, 3, 3), (3, 4, 4), (3, 5, 4), (5, 5, 5), (5, 7, 6),
    ],
)  # fmt: skip
def test_a_film_equals_the_plain_program(cond_frames: int, given: int, kept: int) -> None:
    world, context = toy_world(cond_frames), frames(1, given, seed=given)
    session = world.session(1, seed=3)
    first = session.reset(context)
    skipped = 0
    if given:
        assert np.array_equal(first.frame, context[:, -1])
    else:
        skipped = 1  # the first frame was made and shown by the reset
    made, codes = play(session, N_STEPS)
    plain, plain_codes = plain_run(world, context[0, given - kept :], N_STEPS + skipped, *seeded(3))
    assert np.array_equal(made[0], plain[skipped:])
    assert np.array_equal(codes[0], plain_codes[skipped:])
    if skipped:
        assert np.array_equal(first.frame[0], plain[0])


def test_less_than_one_latent_frame_stands_still_first() -> None:
    """Else the dynamics would know nothing of the only frame that was given."""
    world, picture = toy_world(), frames(1, 1)
    assert np.array_equal(
        world.generate(picture, n_frames=N_STEPS, seed=0),
        world.generate(picture.repeat(STRIDE, 1), n_frames=N_STEPS, seed=0),
    )


def test_a_window_needs_frames_that_were_shown_to_slide() -> None:
    """The dynamics want the first 7 of 8 frames, but only 6 are there when a latent frame of 2 is drawn."""
    session = toy_world(7).session(seed=0)
    session.reset(frames(1, 7))
    session.step()
    with pytest.raises(UserError, match="first 7 of 8 frames, so that no window can follow"):
        session.step()


def test_frames_of_the_context_that_count_do_count() -> None:
    world, context = toy_world(1), frames(1, 5)
    run = world.generate(context, n_frames=N_STEPS, seed=0)
    for t in range(1, 5):  # the oldest is dropped: 5 frames are two latent frames and one more
        other = context.copy()
        other[:, t] = frames(1, 1, seed=9)[:, 0]
        assert not np.array_equal(run, world.generate(other, n_frames=N_STEPS, seed=0)), t


def test_classes_count_from_the_first_window_to_the_last() -> None:
    world = toy_world(1, CLASSES)
    context, n = frames(1, 2), len(CLASSES)
    made = world.generate(context.repeat(n, 0), n_frames=N_STEPS, seed=0, class_id=[2, 0, 1])
    for i, (generator, class_id) in enumerate(zip(seeded(0, n), [2, 0, 1], strict=True)):
        assert np.array_equal(made[i], plain_run(world, context[0], N_STEPS, generator, class_id)[0])


def test_steps_that_make_nothing_draw_nothing() -> None:
    session = toy_world().session(seed=0)
    session.reset(frames(1, 4))
    session.step()
    before = session.snapshot().generators[0]
    for _ in range(CLIP - 4 - 1):
        session.step()
    assert torch.equal(before, session.snapshot().generators[0])
    session.step()
    assert not torch.equal(before, session.snapshot().generators[0])


def test_changed_samplers_hold_for_frames_that_are_not_made() -> None:
    world, greedy = toy_world(), SamplerConfig(temperature=0.0)
    session = world.session(seed=0)
    session.reset(frames(1, 4))
    session.sampler = greedy
    assert np.array_equal(play(session, 9)[0][0], plain_run(world, frames(1, 4)[0], 9, *seeded(0), sampler=greedy)[0])


# ------------------------------------------------------------------ streams


def test_streams_at_different_places_of_their_windows_equal_streams_alone() -> None:
    """Streams begin anew at drawn moments, with contexts of drawn lengths; each is replayed by the plain program."""
    world, n, rng = toy_world(0, CLASSES), 4, np.random.default_rng(0)
    session = world.session(n, seed=5)
    session.reset(frames(n, 2), class_id=[0, 1, 2, 0])
    stories = [(seeded(5, n)[i], frames(n, 2)[i], [0, 1, 2, 0][i], []) for i in range(n)]
    finished, phases = [], set()
    for t in range(60):
        if t % 3 == 2:
            streams = rng.permutation(n)[: rng.integers(1, n)].tolist()
            length, class_id = int(2 * rng.integers(1, 5)), int(rng.integers(3))
            context, now = frames(len(streams), length, seed=t), generators_of(session)
            first = session.reset(context, streams=streams, class_id=class_id).frame
            for row, i in enumerate(streams):
                finished.append(stories[i])
                stories[i] = (now[i], context[row], class_id, [])
                assert np.array_equal(first[i], context[row, -1])
        frame = session.step().frame
        phases.add(tuple(session._state.shown.tolist()))
        for i in range(n):
            stories[i][3].append(frame[i])
    assert len(phases) > 20
    for generator, context, class_id, shown in finished + stories:
        if shown:
            plain, _ = plain_run(world, context, len(shown), generator, class_id)
            assert np.array_equal(np.stack(shown), plain)


def test_snapshots_of_any_moment_replay_exactly() -> None:
    session = toy_world().session(2, seed=0)
    session.reset(frames(2, 2))
    session.step()
    session.reset(frames(1, 6), streams=[1])
    for _ in range(CLIP):
        moment = session.snapshot()
        first = play(session, CLIP + 1)[0]
        session.restore(moment)
        assert np.array_equal(first, play(session, CLIP + 1)[0])
        session.restore(moment)
        session.step()


def test_forks_share_what_is_made_and_part_after_it() -> None:
    session = toy_world().session(seed=0)
    session.reset(frames(1, 2))
    session.step()
    children = session.fork(3)
    made = play(children, CLIP - 3)[0]
    assert all(np.array_equal(made[0], other) for other in made[1:])
    later = play(children, 2)[0]
    assert len({run.tobytes() for run in later}) == 3
    assert np.array_equal(play(session, CLIP - 3)[0][0], made[0])


# ------------------------------------------------------------------ where a session begins


def test_a_world_that_needs_nothing_begins_from_nothing() -> None:
    world = toy_world()
    plain, _ = plain_run(world, NOTHING[0], N_STEPS, *seeded(4))
    session = world.session(seed=4)
    assert np.array_equal(session.reset().frame[0], plain[0])
    assert np.array_equal(play(session, N_STEPS - 1)[0][0], plain[1:])
    session = world.session(seed=4)
    assert np.array_equal(session.step().frame[0], plain[1])  # the reset showed the first one
    assert np.array_equal(world.generate(NOTHING, n_frames=N_STEPS, seed=4)[0], plain)
    assert world.generate(NOTHING, n_frames=0).shape == (1, 0, SIDE, SIDE, 3)
    world.initial_contexts = start_clips(4)
    assert np.array_equal(world.generate(NOTHING, n_frames=3, seed=4)[0], plain[:3])


def test_a_stream_that_begins_anew_from_nothing_draws_by_itself() -> None:
    world = toy_world()
    session = world.session(3, seed=0)
    session.reset(frames(3, 2))
    session.step()
    generator = generators_of(session)[2]
    made = [session.reset(NOTHING, streams=[2]).frame[2], *(session.step().frame[2] for _ in range(CLIP + 1))]
    assert np.array_equal(np.stack(made), plain_run(world, NOTHING[0], CLIP + 2, generator)[0])


def test_classes_are_drawn_where_nothing_says_which() -> None:
    world = toy_world(0, CLASSES)
    drawn = {int(world.session(seed=i)._context([0], None, None, None, None).class_id) for i in range(20)}
    assert drawn == {0, 1, 2}
    alone = world.generate(NOTHING, n_frames=CLIP, seed=1)
    assert any(np.array_equal(alone[0], plain_after_one_draw(world, c)) for c in range(3))


def plain_after_one_draw(world: World, class_id: int) -> np.ndarray:
    (generator,) = seeded(1)
    torch.randint(3, (1,), generator=generator)
    return plain_run(world, NOTHING[0], CLIP, generator, class_id)[0]


def test_start_clips_bring_their_class_and_are_chosen_by_it() -> None:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(4, CLASSES)
    classes = {clip.frames[-1].tobytes(): clip.class_id for clip in world.initial_contexts}
    session = world.session(6, seed=0)
    begun = [classes[frame.tobytes()] for frame in session.reset().frame]
    assert session._state.class_id.tolist() == begun and len(set(begun)) > 1
    firsts = {session.reset(class_id=2).frame[i].tobytes() for i in range(6)}
    assert {classes[first] for first in firsts} == {2} and len(firsts) == 2


# ------------------------------------------------------------------ progress


def test_the_watch_is_told_every_token_of_a_window() -> None:
    session, seen = toy_world().session(2, seed=0), []
    session.watch = lambda share, n_frames: seen.append((share, n_frames))
    session.reset(frames(2, 4))
    assert seen == []
    session.step()
    n = (N_LATENTS - 2) * N_TOKENS
    assert seen == [((i + 1) / n, CLIP - 4) for i in range(n)]
    seen.clear()
    play(session, CLIP - 4)
    assert seen == [((i + 1) / N_TOKENS, STRIDE) for i in range(N_TOKENS)]
    session.step()
    seen.clear()
    session.reset(frames(1, 2), streams=[0])
    session.step()  # one stream makes a window and the other one latent frame
    n = N_LATENTS * N_TOKENS
    assert seen == [((i + 1) / n, CLIP - 2) for i in range(n)]


def test_a_watch_that_raises_ends_the_making_and_nothing_else() -> None:
    """In the first window and in one that slid: the session stands where it stood, and can go on."""
    world, context = toy_world(), frames(1, 4)
    for n_before in (0, CLIP - 4):
        session = world.session(seed=2)
        session.reset(context)
        shown = [*context[0], *(session.step().frame[0] for _ in range(n_before))]
        before = session.frame.copy()

        def stop(share: float, n_frames: int) -> None:
            if share > 0.5:
                raise TimeoutError

        session.watch = stop
        for _ in range(2):
            with pytest.raises(TimeoutError):
                session.step()
        assert np.array_equal(session.frame, before) and session.n_steps == n_before
        session.watch = None
        (generator,) = generators_of(session)
        rest = plain_rest(world, np.stack(shown), session, generator)
        assert np.array_equal(play(session, 2)[0][0], rest)


def plain_rest(world: World, shown: np.ndarray, session: Session, generator: torch.Generator) -> np.ndarray:
    """The next two frames of a film, of which all latent frames in the window but the unknown ones are known."""
    known = session.snapshot().state.codes[:, : N_LATENTS - 1] if len(shown) == CLIP else None
    if known is None:
        return plain_run(world, shown, 2, generator)[0]
    tokens = [*known[0].flatten().tolist()]
    for _ in range(N_TOKENS):
        row = world.model.dynamics.row(torch.tensor([tokens]), len(tokens), Conditions())
        tokens.append(int(TokenSampler(world.info.sampler)(row, [generator])[0]))
    codes = torch.tensor(tokens).view(1, N_LATENTS, N_TOKENS)
    return to_uint8(world.model.tokenizer.decode(Codes.of(codes)))[0, -STRIDE:].numpy()


# ------------------------------------------------------------------ scores


@torch.no_grad()
def test_a_score_is_that_of_the_latent_frames_after_the_context() -> None:
    world = toy_world(1, CLASSES, context_frames=3)
    film = frames(1, 2 * CLIP + 3)[0]
    total, n_frames = 0.0, 0
    for window in (film[:CLIP], film[CLIP : 2 * CLIP]):
        given = np.stack([*window[:2], *[window[1]] * (CLIP - 2)])  # of 3 frames 2 are whole latent frames
        codes = world.model.tokenizer.encode(to_float(torch.from_numpy(window))[None]).video
        codes[:, :1] = world.model.tokenizer.encode(to_float(torch.from_numpy(given))[None]).video[:, :1]
        conditions = Conditions(context_video=to_float(torch.from_numpy(window[None, :1])), class_id=torch.tensor([1]))
        total += float(world.model.dynamics.nll(Codes.of(codes), conditions)[:, 1:].sum())
        n_frames += CLIP - 2
    score = world.score(Clip(frames=film, class_id=1))
    assert score.nats_per_frame == pytest.approx(total / n_frames, rel=1e-6)
    assert score.kind == "exact" and score.rewards is None
    assert world.score(Clip(frames=film), class_id=1) == score
    assert world.score(Clip(frames=film, class_id=1), class_id=2) != score


# ------------------------------------------------------------------ mistakes


def with_starts(world: World, n_frames: int) -> World:
    world.initial_contexts = start_clips(n_frames, world.spec.classes)
    return world


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: toy_world().session().reset(frames(1, 9)), "9 context frames were given.*8 frames at a time"),
        (lambda: toy_world(3).session().reset(frames(1, 2)), "2 context frames were given.*at least 3, at most 8"),
        (lambda: toy_world(3).session().reset(NOTHING), "0 context frames were given.*at least 3"),
        (lambda: toy_world(3).session().reset(), "no start clips"),
        (lambda: toy_world(3).session().step(), "no start clips"),
        (lambda: with_starts(toy_world(3), 2).session().reset(), "2 context frames"),
        (lambda: toy_world().session().reset(class_id=0), "class_id 0 was given, but this world has no classes"),
        (lambda: toy_world().generate(frames(1, 2), n_frames=2, class_id=1), "has no classes"),
        (
            lambda: toy_world(0, CLASSES).session().reset(frames(1, 2)),
            r"give class_id, 0 to 2 \(0 walk, 1 run, 2 jump\)",
        ),
        (lambda: toy_world(0, CLASSES).session().reset(class_id=3), r"class_id is 3; wanted 0 to 2 \(0 walk, 1 run"),
        (lambda: toy_world(0, CLASSES).session(2).reset(class_id=[0, -1]), r"class_id is -1; wanted 0 to 2"),
        (lambda: toy_world(0, CLASSES).session(2).reset(class_id=[0, 1, 1]), "wanted a whole number, or 2 of them"),
        (lambda: toy_world(0, CLASSES).session().reset(class_id="run"), "class_id is 'run'; wanted a whole number"),
        (lambda: toy_world(0, CLASSES).session().reset(class_id=[[0], [1, 2]]), "wanted a whole number"),
        (lambda: toy_world(0, CLASSES).score(Clip(frames=frames(1, 8)[0])), "give class_id"),
        (lambda: toy_world(0, CLASSES).score(Clip(frames=frames(1, 8)[0], class_id=7)), "class_id is 7"),
        (lambda: with_starts(toy_world(0, CLASSES[:1]), 2).session().reset(class_id=1), "class_id is 1; wanted 0 to 0"),
        (lambda: toy_world().session().step(1), "actions 1 were given, but this world runs by itself"),
        (lambda: toy_world().session().step({"action": 1}), "runs by itself"),
        (lambda: toy_world().session().reset(frames(1, 2), [1]), "runs by itself"),
        (lambda: toy_world().score(Clip(frames=frames(1, 7)[0])), "has 7 frames; scoring needs at least 8"),
        (lambda: toy_world(0, context_frames=8).score(Clip(frames=frames(1, 8)[0])), "nothing to score"),
        (lambda: toy_world().generate(frames(1, 2)), "how many frames are wanted"),
        (lambda: toy_world().generate(frames(1, 2), None, 3, n_frames=3), "either which actions"),
        (lambda: toy_world().generate(frames(1, 2), n_frames=-1), "-1 frames were asked for"),
    ],
)
def test_wrong_calls_are_one_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_classes_without_start_clips_are_named() -> None:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(2, CLASSES)[:2]
    with pytest.raises(UserError, match="no start clips of class 2"):
        world.session().reset(class_id=2)


def test_nothing_is_changed_by_a_step_that_is_refused() -> None:
    session = toy_world().session(seed=0)
    session.reset(frames(1, 2))
    before = session.snapshot()
    with pytest.raises(UserError, match="runs by itself"):
        session.step(3)
    assert torch.equal(session.snapshot().generators[0], before.generators[0])
    assert session.n_steps == 0


# ------------------------------------------------------------------ on disk

ALLOWED = ["tests.rollout"]


def test_classes_and_start_clips_survive_the_disk(tmp_path: Path) -> None:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(4, CLASSES)
    world.save(tmp_path / "world")
    again = World.load(tmp_path / "world", allow_code=ALLOWED)
    assert again.spec.classes == CLASSES
    assert [clip.class_id for clip in again.initial_contexts] == [0, 0, 1, 1, 2, 2]
    pairs = zip(again.initial_contexts, world.initial_contexts, strict=True)
    assert all(np.array_equal(a.frames, b.frames) for a, b in pairs)
    runs = [play(w.session(3, seed=1), N_STEPS)[0] for w in (world, again)]
    assert np.array_equal(*runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["walk"]}, "lists 1 classes; its dynamics learned 3"),
        ({"classes": []}, "lists 0 classes; its dynamics learned 3"),
        ({"context": [1, 9, 8]}, "begin with 9 frames; this world can begin with 1 to 8"),
        ({"context": [1, 0, 8]}, "begin with 0 frames; this world can begin with 1 to 8"),
        ({"actions": {"a": {"kind": "discrete", "n": 2}}}, "lists the actions .*learned {}"),
        ({"dynamics": {"latent_frames": 3}}, "clips of 3 latent frames, its tokenizer makes 4"),
        ({"dynamics": {"grid": {"rows": 1, "columns": 4, "codebook_size": 16}}}, "1x4 codes of 16.*makes 2x2 codes"),
    ],
)
def test_descriptions_that_do_not_fit_are_one_line(tmp_path: Path, change: dict, said: str) -> None:
    toy_world(1, CLASSES).save(tmp_path / "world")
    path = tmp_path / "world" / "world.json"
    content = json.loads(path.read_text())
    content["parts"]["dynamics"]["config"].update(change.pop("dynamics", {}))
    content["spec"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as caught:
        World.load(tmp_path / "world", allow_code=ALLOWED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [np.array(3), np.array("run"), np.array([0, 1])])
def test_start_clips_of_unknown_classes_are_one_line(tmp_path: Path, label: np.ndarray) -> None:
    world = toy_world(1, CLASSES)
    world.initial_contexts = start_clips(2, CLASSES)
    world.save(tmp_path / "world")
    path = tmp_path / "world" / "starts.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "001/class_id": label})
    with pytest.raises(UserError, match=r"gives a clip the class .*; wanted 0 to 2 \(0 walk"):
        World.load(tmp_path / "world", allow_code=ALLOWED)


def test_two_codebooks_are_one_line(tmp_path: Path) -> None:
    """Parts of two trainings look alike, and would make noise."""
    from reelworld.data.dataset import DataInfo

    world = tiny_world("videogpt", DataInfo(height=64, width=64))
    world.save(tmp_path / "one")
    assert World.load(tmp_path / "one").info.system == "videogpt"
    world.model.dynamics.codebook[3, 2] += 1
    world.save(tmp_path / "two")
    with pytest.raises(UserError, match=r"learned on another codebook \(32, 8\) than its tokenizer has"):
        World.load(tmp_path / "two")
    with pytest.raises(UserError, match="frames are 32x32 pixels"):
        assemble(replace(world.spec, height=32, width=32), world.parts)
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two"}
