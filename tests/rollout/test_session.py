"""Sessions: accepted and refused inputs, and costs; behaviour is tested in tests/conformance."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import tiny_world

from reelworld.data.dataset import DataInfo
from reelworld.rollout import validation as inputs
from reelworld.rollout.session import Session
from reelworld.rollout.validation import action_tensor
from reelworld.types import ActionSpec, UserError
from reelworld.worlds.world import World

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def world() -> World:
    info = DataInfo(fps=10.0, height=64, width=64, actions={"action": ActionSpec(kind="discrete", n=4)})
    return tiny_world("pocket", info)


SPECS = {
    "ids": ActionSpec(kind="discrete", n=4, null=3),
    "vectors": ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 1.0)),
    "stacked ids": ActionSpec(kind="discrete", n=4, repeat=2),
    "stacked vectors": ActionSpec(kind="continuous", n=2, repeat=3),
}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("ids", 2, [[2]] * 3),
        ("ids", [0, 1, 2], [[0], [1], [2]]),
        ("ids", [[0], [1], [2]], [[0], [1], [2]]),
        ("ids", None, [[3]] * 3),
        ("vectors", [0.5, 1.0], [[[0.5, 1.0]]] * 3),
        ("vectors", None, [[[0.0, 0.5]]] * 3),
        ("vectors", [[0.0, 0.1], [0.2, 0.3], [0.4, 0.5]], [[[0.0, 0.1]], [[0.2, 0.3]], [[0.4, 0.5]]]),
        ("stacked ids", 1, [[[1, 1]]] * 3),
        ("stacked ids", [[0, 1], [1, 2], [2, 3]], [[[0, 1]], [[1, 2]], [[2, 3]]]),
        ("stacked vectors", [1.0, 2.0], [[[[1.0, 2.0]] * 3]] * 3),
    ],
)
def test_actions_of_a_step(kind: str, given: Any, expected: Any) -> None:
    made = action_tensor(SPECS[kind], given, (3, 1), is_step=True)
    torch.testing.assert_close(made, torch.tensor(expected))


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("ids", 4, "span 4..4; this world has 0..3"),
        ("ids", -1, "span -1..-1"),
        ("ids", 1.5, "not an integer id"),
        ("ids", "up", "not an integer id"),
        ("ids", [0, 1], r"shape \(2,\); wanted \(3, 1\)"),
        ("vectors", [1.0, float("nan")], "NaN"),
        ("vectors", 1.0, r"shape \(\)"),
        ("vectors", {"a": 1}, "not a vector"),
        ("vectors", [[1.0, 2.0], [1.0]], "different lengths"),
    ],
)
def test_wrong_actions_are_one_line(kind: str, given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        action_tensor(SPECS[kind], given, (3, 1), is_step=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("repeat", [1, 2])
def test_actions_far_outside_the_range_are_cut_and_told_of_once(repeat: int, caplog: pytest.LogCaptureFixture) -> None:
    """A game goes on; what is a little outside passes as it is."""
    inputs._warn_far.cache_clear()
    spec = replace(SPECS["vectors"], repeat=repeat)
    near = action_tensor(spec, [-2.0, 1.5], (2, 1), is_step=True)
    assert near.shape == (2, 1, 2)[: 2 + (repeat == 1)] + ((2, 2) if repeat > 1 else ())
    assert near.reshape(-1, 2)[-1].tolist() == [-2.0, 1.5] and not caplog.messages
    for _ in range(3):
        far = action_tensor(spec, [-30.0, 0.5], (2, 1), is_step=True)
        assert far.reshape(-1, 2)[-1].tolist() == [-2.0, 0.5]
    assert caplog.messages == [
        "actions far outside the range of this world (-1 to 1 in dimension 0) are cut to -2 to 2."
    ]
    assert action_tensor(SPECS["stacked vectors"], [1e6, 0.0], (1, 1), is_step=True).max() == 1e6  # no range is known


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.reset(FRAMES.astype(np.float32)), "float32"),
        (lambda s: s.reset(FRAMES[:, :32]), "resize"),
        (lambda s: s.reset(FRAMES[:0]), "0 context frames were given; this world goes on from a frame"),
        (lambda s: s.reset(FRAMES, [0, 1, 2]), r"wanted \(1, 2\)"),
        (lambda s: s.reset(), "no start clips"),
        (lambda s: s.reset(FRAMES, seed=-1), "seed is -1"),
        (lambda s: s.reset(FRAMES, streams=[1]), r"streams \[1\].*one or more of 0\.\.0"),
        (lambda s: s.reset(FRAMES, streams=[0, 0]), "each once"),
        (lambda s: s.reset(FRAMES, streams=[]), "one or more"),
        (lambda s: s.snapshot(), "was reset"),
        (lambda s: s.fork(2), "was reset"),
        (lambda s: s.step({"actoin": 1}), "start clips"),
        (lambda s: (s.reset(FRAMES), s.step({"actoin": 1})), "did you mean 'action'"),
    ],
)
def test_wrong_calls_are_one_line(world: World, call: Callable[[Session], object], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        call(world.session())
    assert "\n" not in str(caught.value)


def test_worlds_without_actions_refuse_some() -> None:
    world = tiny_world("pocket", DataInfo(height=64, width=64))
    session = world.session(2, seed=0)
    session.reset(FRAMES, {})
    assert session.step({}).frame.shape == (2, 64, 64, 3)
    for given in (0, [1, 2], {"action": 1}):
        with pytest.raises(UserError, match="this world runs by itself; leave them out"):
            session.step(given)
    with pytest.raises(UserError, match="runs by itself"):
        session.reset(FRAMES, [0, 0])
    with pytest.raises(UserError, match="this world has no classes"):
        session.reset(FRAMES, class_id=0)


def test_streams_may_be_reset_in_any_order(world: World) -> None:
    """Frame and state of a stream stay together."""
    frames = np.stack([FRAMES, FRAMES[::-1]])
    session, turned = world.session(2), world.session(2)
    turned.reset(frames)
    for s, order in ((session, [0, 1]), (turned, [1, 0])):
        s.reset(frames[order], [[0, 1], [0, 1]], seed=0, streams=order)
    assert np.array_equal(session.frame, turned.frame)
    ahead, turned_ahead = session.step([1, 2]), turned.step([1, 2])
    assert np.array_equal(ahead.info["codes"], turned_ahead.info["codes"])
    assert not np.array_equal(ahead.info["codes"][0], ahead.info["codes"][1])


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_steps() -> None:
    small = DataInfo(fps=10.0, height=16, width=16, actions={"action": ActionSpec(kind="discrete", n=4)})
    session = tiny_world("pocket", small).session(seed=0)
    session.reset(FRAMES[:, :16, :16])
    peaks = []
    for _ in range(5):
        for _ in range(2000):
            session.step(1)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # One leaked frame of 768 bytes per step would add 6 MB after the first block.
    assert peaks[-1] - peaks[0] < 3_000, f"peak kilobytes after each 2,000 steps: {peaks}"
    assert session.n_steps == 10_000
