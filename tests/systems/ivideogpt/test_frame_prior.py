"""Frame prior: inputs, zero initialization, training, and use in steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from tests.systems.ivideogpt.test_transformer import SMALL, codes, made, told

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.ivideogpt.frame_prior import FramePrior, FramePriorTraining, FrameSizes, frames_before
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer
from reelworld.systems.ivideogpt.transformer_state import IVideoGPTState
from reelworld.types import Batch, Codes, Conditions

DRAFTING = replace(SMALL, frame_prior_width=8, code_width=3)


def test_frames_before_are_the_last_three_and_unknown_at_first() -> None:
    rows = torch.tensor([[[1], [2], [3]]])
    assert frames_before(rows, 9)[0, :, :, 0].tolist() == [[9, 9, 9], [1, 9, 9], [2, 1, 9], [3, 2, 1]]
    assert frames_before(rows[:, :0], 9)[0, :, :, 0].tolist() == [[9, 9, 9]]


@torch.no_grad()
def test_a_draft_knows_three_frames_and_the_actions_between_and_behind_them() -> None:
    """Later frames are 2 to 7 of eight; their drafts are rows 0 to 5. Action t leads to frame t + 1."""
    model = made(DRAFTING)

    def drafts(video: torch.Tensor, arm: torch.Tensor) -> torch.Tensor:
        conditions = Conditions(actions={**told(frames=8).actions, "arm": arm})
        return model._predict_frames(video[:, 2:], model._led(conditions, 2, 6))[0]

    video, arm = codes(frames=8).video, told(frames=8).actions["arm"]
    before = drafts(video, arm)
    for frame in range(2, 8):
        other = video.clone()
        other[:, frame] = (other[:, frame] + 1) % 5
        moved = (drafts(other, arm) != before).flatten(2).any(-1).all(0).tolist()
        assert moved == [frame < f <= frame + 3 for f in range(2, 8)], frame
    for t in range(8):
        other = arm.clone()
        other[:, t] += 0.5
        moved = (drafts(video, other) != before).flatten(2).any(-1).all(0).tolist()
        assert moved == [t >= 1 and t + 1 <= f <= t + 3 for f in range(2, 8)], t


@torch.no_grad()
def test_codes_mean_something_else_in_every_cell() -> None:
    torch.manual_seed(0)
    draft = FramePrior(FrameSizes(n_cells=3, n_codes=5, code_width=4, n_numbers=0, width=8)).eval()
    past = torch.tensor([[[[0, 1, 2], [3, 4, 5], [2, 2, 0]]]])
    none = torch.zeros(1, 1, 3, 0)
    guesses = [draft(p, none)[1] for p in (past, past.flip(2), past.roll(1, 3))]
    assert not torch.allclose(guesses[0], guesses[1]) and not torch.allclose(guesses[0], guesses[2])
    assert draft(past, none)[0].shape == (1, 1, 3, 5)


@torch.no_grad()
def test_codes_with_the_same_vector_are_the_same_and_one_unknown_is_none_of_them() -> None:
    torch.manual_seed(0)
    draft = FramePrior(FrameSizes(n_cells=3, n_codes=5, code_width=4, n_numbers=0, width=8)).eval()
    vectors = torch.randn(5, 4)
    vectors[3] = vectors[1]
    draft.reader.load_code_vectors(10 * vectors)
    torch.testing.assert_close(draft.reader.vectors[:-1], vectors / vectors.std())
    past, none = torch.tensor([[[[0, 1, 2], [1, 4, 0], [2, 1, 1]]]]), torch.zeros(1, 1, 3, 0)
    guesses = [draft(torch.where(past == 1, code, past), none)[1] for code in (1, 3, 5)]
    assert torch.equal(guesses[0], guesses[1]) and not torch.allclose(guesses[0], guesses[2])


@torch.no_grad()
def test_at_first_things_stay_and_a_silent_draft_says_nothing() -> None:
    torch.manual_seed(0)
    draft = FramePrior(FrameSizes(n_cells=3, n_codes=5, code_width=4, n_numbers=2, width=8)).eval()
    draft.guess.weight.zero_()
    draft.guess.bias.zero_()
    past, actions = torch.tensor([[[[0, 1, 2], [3, 4, 5], [2, 2, 0]]]]), torch.rand(1, 1, 3, 2)
    assert draft(past, actions)[0].argmax(-1).tolist() == [[[0, 1, 2]]]
    draft.zero_scores()
    assert not draft(past, actions)[0].any()
    assert draft.train().reader.training and not draft.requires_grad_(False).train().reader.training


@torch.no_grad()
def test_scores_are_those_of_the_draft_and_of_the_transformer() -> None:
    """A transformer with a silent draft is one without; what a draft says of a code is added to its score."""
    model = made(DRAFTING)
    assert model.frame_prior is not None and model.hint is not None
    bare = IVideoGPTTransformer(replace(SMALL, has_rewards=False)).eval()
    bare_names = {k.split(".")[0] for k in bare.state_dict()}
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if k.split(".")[0] in bare_names})
    ids = model.layout.pack(codes())
    model.hint.weight.zero_()
    model.hint.bias.zero_()
    scores = model._predict_frames(codes().video[:, 2:], model._led(told(), 2, 4))[0]
    added = (model.logits(ids, told()) - bare.logits(ids, told()))[:, model.layout.prelude :].unflatten(1, (4, 4))
    torch.testing.assert_close(added[:, :, :3, model.layout.frame_ids], scores)
    added[:, :, :3, model.layout.frame_ids] = 0
    assert not added.any()
    batch = Batch(codes=codes(), conditions=told())
    expected = torch.nn.functional.cross_entropy(scores.flatten(0, 2), codes().video[:, 2:].flatten())
    torch.testing.assert_close(torch.tensor(model.frame_prior_loss(batch).mean()["draft"]), expected)
    model.frame_prior.zero_scores()
    assert torch.equal(model.logits(ids, told()), bare.logits(ids, told()))


@torch.no_grad()
def test_streams_keep_their_past_when_they_are_copied_joined_and_replaced() -> None:
    model, greedy = made(DRAFTING), TokenSampler(SamplerConfig(temperature=0.0))

    def begun(stream: int) -> IVideoGPTState:
        one = Codes({name: grid[stream : stream + 1, :4] for name, grid in codes().grids.items()})
        return model.prefill(
            one, Conditions(actions={k: v[stream : stream + 1, :3] for k, v in told().actions.items()})
        )

    def frames(state: IVideoGPTState, stream: int) -> list[list[int]]:
        found = []
        for t in (3, 4):
            now = {
                k: v[:1, t : t + 1].expand(len(state.reward), *[-1] * (v.ndim - 1)) for k, v in told().actions.items()
            }
            drawn, state = model.step(state, Conditions(actions=now), greedy, None)
            found.append(drawn.video[stream, 0].tolist())
        return found

    alone = [frames(begun(stream), 0) for stream in (0, 1)]
    assert alone[0] != alone[1]
    both = IVideoGPTState.cat([begun(1), begun(0)])
    assert frames(both.index_select(torch.tensor([1, 0, 1])), 0) == alone[0]
    swapped = both.index_select(torch.tensor([0, 1]))
    swapped.index_copy_(torch.tensor([0]), begun(0))
    assert frames(swapped, 0) == alone[0] and torch.equal(both.past[:1], begun(1).past)


def test_drafts_and_verdicts_learn_alone() -> None:
    """The codes of a frame are those of the one before, moved on by its action; one of them is rewarded."""
    torch.manual_seed(0)
    model, generator = IVideoGPTTransformer(replace(DRAFTING, frame_prior_width=32)), torch.Generator().manual_seed(0)
    assert model.frame_prior is not None and model.reward_head is not None
    model.set_reward_scale(10.0)
    training = FramePriorTraining([model.frame_prior, model.reward_head], model.frame_prior_loss)
    assert {*training.parameters()} == {*model.frame_prior.parameters(), *model.reward_head.parameters()}
    optimizer = torch.optim.Adam(training.parameters(), 3e-3)

    def batch(n: int) -> Batch:
        conditions = told(n)
        grip = torch.randint(0, 2, (n, 6), generator=generator)
        moved = torch.cat([torch.zeros(n, 2, dtype=torch.int64), grip[:, 1:5].cumsum(1)], 1)
        video = ((torch.randint(0, 5, (n, 1), generator=generator) + moved) % 5)[:, :, None].expand(-1, -1, 3)
        given = Codes({"context": codes(n).grids["context"], "video": video})
        rewards = 20.0 * (video[:, :, 0] == 3).float().roll(-1, 1)  # row t is for arriving at frame t + 1
        return Batch(codes=given, conditions=Conditions(actions={**conditions.actions, "grip": grip}), rewards=rewards)

    for _ in range(200):
        losses = training.loss(batch(32))
        optimizer.zero_grad()
        sum(total / count for total, count in losses.terms.values()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        held_out = batch(64)
        assert held_out.codes is not None
        later = held_out.codes.video[:, 2:]
        guessed = model._predict_frames(later, model._led(held_out.conditions, 64, 4))[0].argmax(-1)
    right = (guessed == later)[:, 1:].float().mean()  # the first one has nothing before it
    assert right > 0.95, float(right)
    assert held_out.rewards is not None
    with torch.no_grad():
        expected = model.score(held_out.codes, held_out.conditions).reward
    wanted = held_out.rewards[:, 1:-1]
    unexplained = (expected - wanted).square().mean() / wanted.var()
    assert unexplained < 0.1, float(unexplained)
