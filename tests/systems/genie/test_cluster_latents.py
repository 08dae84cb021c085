"""Merging of codes with the same effect."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from tests.systems.genie.test_latent_action import game, made, purity, train

from reelworld.systems.genie.cluster_latents import k_medoids
from reelworld.types import UserError


@pytest.mark.parametrize("seed", range(8))
def test_the_kept_codes_cost_nearly_the_least_possible(seed: int) -> None:
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(seed))
    cost = torch.cdist(points, points).square()

    def total(kept: list[int]) -> float:
        return float(cost[:, kept].amin(1).sum())

    kept = k_medoids(cost, 3).tolist()
    least, drawn = min(total(list(c)) for c in combinations(range(9), 3)), total([0, 1, 2])
    assert len(set(kept)) == 3
    assert total(kept) <= 1.1 * least < drawn  # exchanging one at a time may stop a little above


def test_groups_that_do_the_same_keep_one_code_each() -> None:
    groups = torch.tensor([0, 1, 0, 2, 1, 2, 2])
    cost = 5 * (groups[:, None] != groups[None]).float() + 0.1 * (1 - torch.eye(7))
    assert groups[k_medoids(cost, 3)].sort().values.tolist() == [0, 1, 2]
    assert k_medoids(cost, 20).sort().values.tolist() == list(range(7))  # as many as there are


@pytest.mark.slow
def test_many_codes_become_the_few_actions_of_a_game() -> None:
    model = made(augment_prob=0.5, n_codes=4, learned_codes=12)
    train(model, 400)
    video, actions = game(128, 2, 7)
    changes = (video[:, 0] != video[:, 1]).flatten(1).any(1)
    learned = model.encode(video)[:, 0]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert len(learned.unique()) > 4  # three colours, and nothing
    model.merge(game(128, 2, 8)[0])
    with torch.no_grad():
        codes = model.encode(video)
        error = (model.predict(video[:, :-1], codes[:, :-1]) - video[:, 1:]).square().mean()
    assert set(codes.unique().tolist()) <= {0, 1, 2, 3}
    assert purity(codes[changes, 0], actions[changes, 0]) > 0.98  # 0.33 to 0.45 for codes that say nothing
    # a code stands in where it was never learned, so this is worse than before
    assert error < 0.5 * (video[:, :-1] - video[:, 1:]).square().mean()
    shares = model.encode(game(128, 2, 8)[0])[:, 0].bincount(minlength=4)
    assert shares.tolist() == sorted(shares.tolist(), reverse=True)  # the most frequent is the first
    assert [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])] == ["merged", "kept"]
    again = {k: v.clone() for k, v in model.state_dict().items()}
    model.merge(game(128, 2, 8)[0])
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


def test_nothing_is_merged_where_no_more_codes_were_learned() -> None:
    model = made()
    model.merge(game(8, 2, 0)[0])
    assert model.kept.tolist() == model.merged.tolist() == [0, 1, 2, 3]


def test_fewer_learned_codes_than_wanted_are_refused() -> None:
    with pytest.raises(UserError, match="learned_codes is 3; it must be 0, or at least n_codes, 4"):
        made(learned_codes=3)
