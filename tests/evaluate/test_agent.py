"""Agent detection by its moves, and accuracy of its cell."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evaluate import toy
from reelworld.evaluate.games.agent import NOWHERE, SEVERAL, AgentFinder, most_frequent
from reelworld.evaluate.tiles import TileAtlas


def learn(boards):
    """From recordings as tile ids of the toy game."""
    frames = [toy.draw(b) for b in boards]
    atlas = TileAtlas.build(frames)
    return atlas, AgentFinder.learn(atlas, [atlas.true_ids(f) for f in frames])


def shown(atlas, finder):
    """The tiles that were taken for the agent's, by the toy's numbers."""
    tiles = atlas.tiles[finder.is_agent[:-1]]
    return {int((tile == toy.TILES).all((1, 2, 3)).argmax()) for tile in tiles}


@pytest.fixture(scope="module")
def boards():
    return [np.stack([toy.read(f) for f in toy.episode(i).frames]) for i in range(20)]


def test_what_moves_is_the_agent_and_the_door_is_not(boards):
    atlas, finder = learn(boards)
    assert len(atlas.tiles) == 4 and shown(atlas, finder) == {toy.AGENT}
    for board in boards:
        cells = finder.cells(atlas.true_ids(toy.draw(board)))
        np.testing.assert_array_equal(cells, (board == toy.AGENT).reshape(len(board), -1).argmax(1))


def test_none_and_several_are_told_apart(boards):
    atlas, finder = learn(boards)
    board = boards[0][:3].copy()
    board[0][board[0] == toy.AGENT] = toy.FLOOR
    board[1, 3, :2] = toy.AGENT
    ids = atlas.true_ids(toy.draw(board))
    ids[2, 0, 0] = -1  # a tile that training never showed is no agent
    assert finder.cells(ids).tolist()[:2] == [NOWHERE, SEVERAL] and finder.cells(ids)[2] >= 0
    assert finder.cells(ids[None]).shape == (1, 3)


def test_a_game_with_two_movers_has_no_agent():
    """They take turns, so that each step looks like an agent's; but every picture shows both."""
    board = np.full((4, 4), toy.FLOOR)
    steps = []
    for t in range(12):
        board = np.full((4, 4), toy.FLOOR)
        board[0, (t + 1) // 2 % 4], board[3, t // 2 % 4] = toy.AGENT, toy.OPEN
        steps.append(board)
    assert learn([np.stack(steps)])[1] is None


def test_nothing_moves_nothing_is_found(boards):
    assert learn([np.repeat(b[:1], 5, 0) for b in boards])[1] is None


def test_tiles_that_an_agent_turns_into_follow():
    """Walks left and right; turns in place; on one cell it looks different (a doorway)."""
    right, left, door, floor = range(4)
    steps = [(0, right), (1, right), (1, left), (0, left), (0, right), (1, right), (2, door), (1, left), (0, left)]
    boards = np.full((len(steps), 4, 4), floor)
    for t, (cell, tile) in enumerate(steps):
        boards[t, 0, cell] = tile
    atlas, finder = learn([boards])
    assert shown(atlas, finder) == {right, left, door}


def test_tiles_that_an_agent_only_comes_from_follow():
    """Every episode begins in the doorway, which nobody enters again."""
    right, door, floor = toy.AGENT, toy.OPEN, toy.FLOOR
    boards = np.full((5, 4, 4), floor)
    for t, (cell, tile) in enumerate([(0, door), (1, right), (2, right), (3, right), (2, right)]):
        boards[t, 0, cell] = tile
    atlas, finder = learn([boards] * 3)
    assert shown(atlas, finder) == {right, door}


def test_minigrid_agents_are_where_the_simulator_has_them(tmp_path):
    pytest.importorskip("minigrid", reason="the package minigrid is not installed")
    from reelworld.data.dataset import Dataset
    from reelworld.envs.recorder import record, record_config, recorded_simulator

    record(record_config("MiniGrid-DoorKey-8x8-v0", episodes=40, max_steps=60), tmp_path / "data")
    dataset = Dataset.open(tmp_path / "data")
    clips = [dataset.read(i) for i in dataset.indices("all")]
    atlas = TileAtlas.build(c.frames for c in clips)
    finder = AgentFinder.learn(atlas, [atlas.true_ids(c.frames) for c in clips])
    assert finder is not None
    simulator = recorded_simulator(dataset.info)
    n = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        simulator.reset(10_000 + seed)
        for _ in range(20):
            column, row = simulator.env.unwrapped.agent_pos
            frame = simulator.frame()
            cell = finder.cells(atlas.true_ids(frame[None]))[0]
            if cell != NOWHERE:  # an agent somewhere the recordings never had it looks new
                assert cell == 8 * row + column
                n += 1
            simulator.step(int(rng.integers(7)))
    simulator.close()
    assert n > 90


@given(arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=st.integers(-2, 3)))
def test_votes(cells):
    for row, winner in zip(cells.tolist(), most_frequent(cells).tolist(), strict=True):
        votes = Counter(c for c in row if c >= 0)  # keeps the order in which cells were first seen
        assert winner == (max(votes, key=votes.__getitem__) if votes else NOWHERE)
