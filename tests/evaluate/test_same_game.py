"""Domain check: recordings of another game with equal sizes and actions."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate import toy, toy_clips
from reelworld.evaluate.protocol import EvalConfig
from reelworld.evaluate.run import check_domain, evaluate
from reelworld.types import Clip, UserError


def own(world, n=3):
    world.initial_contexts = [toy.episode(seed, 12) for seed in range(n)]
    return world


def other(n=4):
    rng = np.random.default_rng(3)
    still = rng.integers(0, 256, (n, 1, 32, 32, 3), dtype=np.uint8).repeat(20, 1)
    return [Clip(frames=f, actions={"action": np.zeros(20, int)}, source=f"other-{i}") for i, f in enumerate(still)]


def test_another_game_is_refused_with_the_reason(tmp_path):
    world = own(toy.ToyWorld(toy.perfect))
    check_domain(world, [toy.episode(50)], tmp_path)
    with pytest.raises(UserError, match=r"shows another game: .* its own start clips with inf dB") as caught:
        check_domain(world, other(), tmp_path)
    assert "\n" not in str(caught.value) and "how the games differ" in str(caught.value)


def test_a_poor_tokenizer_is_not_another_game(tmp_path):
    class Poor(toy.ExactTokenizer):
        def decode(self, codes):
            return -super().decode(codes)

    world = own(toy.ToyWorld(toy.perfect, Poor()))
    check_domain(world, [toy.episode(50)], tmp_path)
    check_domain(world, other(), tmp_path)


def test_without_start_clips_nothing_is_known(tmp_path):
    check_domain(toy.ToyWorld(toy.perfect), other(), tmp_path)
    short = toy_clips.clip_world(toy_clips.random_walk)
    short.initial_contexts = [toy.episode(0, 2)]  # less than a whole clip
    check_domain(short, other(), tmp_path)


def test_eval_refuses_before_it_measures(tmp_path):
    from reelworld.data.dataset import Dataset, write_episode, write_info
    from reelworld.data.episodes import DataInfo, Episode

    listed = []
    for clip in other(6):
        write_episode(tmp_path / f"{clip.source}.npz", clip)
        listed.append(Episode(source=clip.source, n_frames=20, split="test", file=f"{clip.source}.npz"))
    write_info(tmp_path, DataInfo(fps=5.0, height=32, width=32, actions={"action": toy.SPEC}), listed)
    said = []
    with pytest.raises(UserError, match="another game"):
        evaluate(
            own(toy.ToyWorld(toy.perfect)), Dataset.open(tmp_path), EvalConfig(), lambda what, _: said.append(what)
        )
    assert said == []
