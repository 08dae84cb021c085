"""iVideoGPT transformer: actions, rewards, sampled ids, losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.decoder import LlamaConfig
from reelworld.systems.ivideogpt.transformer import IVideoGPTTransformer, IVideoGPTTransformerConfig
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec, UserError

ACTIONS = {
    "arm": ActionSpec(kind="continuous", n=2, low=(-2.0, 0.0), high=(2.0, 1.0)),
    "grip": ActionSpec(kind="discrete", n=3),
}
SMALL = IVideoGPTTransformerConfig(
    grid=GridSpec(rows=1, columns=3, codebook_size=5), context_grid=GridSpec(rows=2, columns=2, codebook_size=7),
    context_frames=2, frames=6, actions=ACTIONS,
    transformer=LlamaConfig(width=16, inner=32, layers=2, heads=2, places=40),
)  # fmt: skip


def made(config: IVideoGPTTransformerConfig = SMALL, scale: float = 0.3) -> IVideoGPTTransformer:
    torch.manual_seed(0)
    model = IVideoGPTTransformer(config).eval()
    for weight in model.parameters():
        weight.data.add_(scale * torch.randn(weight.shape))
    return model


def codes(n: int = 2, frames: int = 6) -> Codes:
    generator = torch.Generator().manual_seed(1)
    context = torch.randint(0, 7, (n, frames, 4), generator=generator)
    return Codes({"context": context, "video": torch.randint(0, 5, (n, frames, 3), generator=generator)})


def told(n: int = 2, frames: int = 6) -> Conditions:
    generator = torch.Generator().manual_seed(2)
    arm = torch.rand(n, frames, 2, generator=generator)
    return Conditions(actions={"arm": arm, "grip": torch.randint(0, 3, (n, frames), generator=generator)})


@torch.no_grad()
def test_an_action_moves_the_frames_it_leads_to() -> None:
    """Action t leads to frame t + 1: it moves that frame and those behind it, unless it lies between context frames."""
    model = made()
    before = model.score(codes(), told()).nll
    for t in range(6):
        other = told()
        other.actions["arm"][:, t] += 1
        moved = ((model.score(codes(), other).nll - before).abs() > 1e-6).all(0).tolist()  # of frames 2 to 5
        assert moved == [1 <= t < frame for frame in range(2, 6)], t


@torch.no_grad()
def test_new_heads_change_nothing() -> None:
    """A transformer that was trained without actions goes on as it was when it gets a head for them."""
    bare = made(replace(SMALL, actions={}, has_rewards=False))
    torch.manual_seed(3)
    model = IVideoGPTTransformer(SMALL).eval()
    missing, surplus = model.load_state_dict(bare.state_dict(), strict=False)
    assert not surplus and {name.split(".")[0] for name in missing} == {"action", "reward"}
    ids = model.layout.pack(codes())
    assert torch.equal(model.logits(ids, told()), bare.logits(ids, Conditions()))
    assert (model.score(codes(), told()).reward == 0).all()


@torch.no_grad()
def test_tokens_are_told_their_cell() -> None:
    """One table, a row for each cell of a context frame and of a later one, is added to what tokens enter as."""
    model, bare = made(replace(SMALL, cell_positions=True)), IVideoGPTTransformer(SMALL).eval()
    rest = model.state_dict()
    table = rest.pop("cell.weight")
    bare.load_state_dict(rest)
    ids = model.layout.pack(codes(frames=4))
    cells = [1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]  # c c c c S c c c c Z d d d Z d d d
    x = bare.embed(ids) + table[cells]
    x[:, 9::4] += bare.action(bare.action_vector(told().actions)[:, 1:3])
    torch.testing.assert_close(model.logits(ids, told()), bare.head(bare.transformer(x)))
    greedy = TokenSampler(SamplerConfig(temperature=0.0))
    free = model.free_ids(ids[:, : model.layout.prelude], 2, told(), greedy, None)
    likeliest = model.logits(free, told()).argmax(-1)
    for place in (10, 11, 12, 14, 15, 16):  # all but the slots, which are given
        assert torch.equal(free[:, place], likeliest[:, place - 1])


@torch.no_grad()
def test_steps_draw_codes_of_later_frames_only() -> None:
    """Free ids are of all kinds with random weights; those of steps are not."""
    model, drawing = made(), TokenSampler(SamplerConfig())
    generator = torch.Generator().manual_seed(0)
    ids = model.layout.pack(codes(8, 2))
    free = model.free_ids(ids, 4, told(8), drawing, generator)[:, model.layout.prelude :].unflatten(1, (4, 4))
    assert (free[:, :, 0] == model.layout.frame_slot).all()  # given, for there are actions
    assert len({int(i) for i in free[:, :, 1:].flatten() if not 7 <= i < 12}) > 3
    bare = made(replace(SMALL, actions={}))
    alone = bare.free_ids(ids, 4, Conditions(), drawing, generator)[:, model.layout.prelude :].unflatten(1, (4, 4))
    assert (alone[:, 0, 0] == bare.layout.frame_slot).all() and not (alone[:, 1:, 0] == bare.layout.frame_slot).all()
    state = model.prefill(codes(8, 2), told(8, 2))
    for t in range(1, 5):
        now = Conditions(actions={k: v[:, t : t + 1] for k, v in told(8).actions.items()})
        drawn, state = model.step(state, now, drawing, generator)
        assert drawn.video.shape == (8, 1, 3)
        assert 0 <= int(drawn.video.min()) <= int(drawn.video.max()) < 5


@torch.no_grad()
@pytest.mark.parametrize("changed", [{}, {"cell_positions": True}, {"frame_prior_width": 8}])
@pytest.mark.parametrize("n_given", [2, 3, 4])
def test_greedy_steps_are_the_likeliest_of_the_parallel_pass(n_given: int, changed: dict[str, Any]) -> None:
    model, greedy, past = (
        made(replace(SMALL, **changed)),
        TokenSampler(SamplerConfig(temperature=0.0)),
        codes(2, n_given),
    )
    before = Conditions(actions={k: v[:, : n_given - 1] for k, v in told().actions.items()})
    state, made_codes, rewards = model.prefill(past, before), [], []
    for t in range(n_given - 1, 5):
        now = Conditions(actions={k: v[:, t : t + 1] for k, v in told().actions.items()})
        drawn, state = model.step(state, now, greedy, None)
        made_codes.append(drawn.video)
        rewards.append(state.reward)
    video = torch.cat([past.video, *made_codes], 1)
    context = torch.cat([past.grids["context"], torch.zeros(2, 6 - n_given, 4, dtype=torch.int64)], 1)
    judged = model.score(Codes({"context": context, "video": video}), told())
    drawn_from = n_given - 2
    assert judged.correct[:, drawn_from:].all()
    torch.testing.assert_close(torch.stack(rewards, 1), judged.reward[:, drawn_from:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frame_prior_width", [0, 8])
@torch.no_grad()
def test_rewards_belong_to_the_frame_that_is_arrived_at(frame_prior_width: int) -> None:
    model = made(replace(SMALL, frame_prior_width=frame_prior_width))
    rewards = torch.randn(2, 6, generator=torch.Generator().manual_seed(4))
    batch = Batch(codes=codes(), conditions=told(), rewards=rewards)
    total, count = (model.frame_prior_loss if frame_prior_width else model.loss)(batch).terms["reward"]
    expected = (model.score(codes(), told()).reward - rewards[:, 1:5]).square()  # steps 1 to 4 lead to frames 2 to 5
    torch.testing.assert_close(total / count, expected.mean())


@pytest.mark.parametrize("frame_prior_width", [0, 8])
@torch.no_grad()
def test_rewards_stay_what_they_were_in_another_unit(frame_prior_width: int) -> None:
    model = made(replace(SMALL, frame_prior_width=frame_prior_width))
    before = model.score(codes(), told()).reward
    model.set_reward_scale(8.0)
    assert model.reward_scale == 8
    torch.testing.assert_close(model.score(codes(), told()).reward, before)


@torch.no_grad()
def test_ends_belong_to_the_frame_that_is_arrived_at() -> None:
    model = made(replace(SMALL, has_ends=True))
    ends = torch.rand(2, 6, generator=torch.Generator().manual_seed(4)) < 0.5
    total, count = model.loss(Batch(codes=codes(), conditions=told(), terminated=ends)).terms["terminated"]
    foreseen = model.score(codes(), told()).terminated
    wanted = torch.where(ends[:, 1:5], foreseen, 1 - foreseen).log().neg()  # steps 1 to 4 lead to frames 2 to 5
    torch.testing.assert_close(total / count, wanted.mean())
    state = model.prefill(codes(2, 5), Conditions(actions={k: v[:, :4] for k, v in told().actions.items()}))
    now = Conditions(actions={k: v[:, 4:5] for k, v in told().actions.items()})
    drawn, state = model.step(state, now, TokenSampler(SamplerConfig(temperature=0.0)), None)
    whole = codes()
    whole.video[:, 5:] = drawn.video
    torch.testing.assert_close(state.terminated, model.score(whole, told()).terminated[:, -1])


@torch.no_grad()
def test_a_new_head_for_ends_expects_as_many_as_there_are() -> None:
    torch.manual_seed(0)
    model = IVideoGPTTransformer(replace(SMALL, has_ends=True))
    assert (model.score(codes(), told()).terminated < 2e-6).all()  # where recordings say nothing of ends
    model.set_termination_rate(0.1)
    torch.testing.assert_close(model.score(codes(), told()).terminated, torch.full((2, 4), 0.1))
    trained = made(replace(SMALL, has_ends=True))
    before = trained.score(codes(), told()).terminated
    trained.set_termination_rate(0.1)
    assert torch.equal(trained.score(codes(), told()).terminated, before)


@torch.no_grad()
@pytest.mark.parametrize("frame_prior_width", [0, 8])
@pytest.mark.parametrize("n", [1, 3])
def test_half_the_bytes_are_enough(n: int, frame_prior_width: int) -> None:
    """In bfloat16, with keys and values in float32, also where streams share them."""
    config = replace(SMALL, has_ends=True, frame_prior_width=frame_prior_width)
    model, half = made(config), made(config).bfloat16()
    greedy = TokenSampler(SamplerConfig(temperature=0.0))
    seen = []
    for one in (model, half):
        before = Conditions(actions={k: v[:1, :1] for k, v in told().actions.items()})
        state = one.prefill(codes(1, 2), before).index_select(torch.zeros(n, dtype=torch.int64))
        assert state.cache.keys.dtype == torch.float32
        now = Conditions(actions={k: v[:1, 1:2].repeat_interleave(n, 0) for k, v in told().actions.items()})
        first: list[torch.Tensor] = []

        class Looking(TokenSampler):
            def __call__(
                self, logits: torch.Tensor, generator: object, first: list[torch.Tensor] = first
            ) -> torch.Tensor:
                first.append(logits.float())
                return super().__call__(logits, None)

        one.step(state, now, Looking(greedy.config), None)
        seen.append(first[0])
    assert (seen[0] - seen[1]).abs().max() < 0.05 * seen[0].std() + 0.05


@torch.no_grad()
def test_frames_that_are_not_there_do_not_count() -> None:
    model, valid = made(), torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    whole, other = codes(), codes()
    other.video[1, 4:] = (other.video[1, 4:] + 1) % 5
    batches = [Batch(codes=c, conditions=told(), rewards=torch.ones(2, 6), valid=valid) for c in (whole, other)]
    one, two = (model.loss(b).mean() for b in batches)
    assert one == two


def test_telling_actions_back_is_learned_beside_the_rest() -> None:
    model = made(replace(SMALL, action_recon_weight=0.5))
    batch = Batch(codes=codes(), conditions=told(), rewards=torch.zeros(2, 6))
    losses = model.loss(batch)
    assert losses.weights["recall"] == 0.5
    with torch.no_grad():
        assert model.recall is not None
        features = model.features(model.layout.pack(codes()), told())[:, model.layout.prelude :]
        said = model.recall(features).unflatten(1, (4, 4))
    arm = (told().actions["arm"] - torch.tensor([0.0, 0.5])) / torch.tensor([2.0, 0.5])
    wanted = torch.cat([arm, torch.nn.functional.one_hot(told().actions["grip"], 3).float()], -1)[:, 1:5, None]
    torch.testing.assert_close(losses.mean()["recall"], float((said - wanted).square().mean()))


def test_it_learns_what_actions_do() -> None:
    """The codes of a frame are those of the context moved by the sum of the actions."""
    torch.manual_seed(0)
    config = replace(SMALL, actions={"key": ActionSpec(kind="discrete", n=2)})
    model, generator = IVideoGPTTransformer(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def batch(n: int) -> Batch:
        keys = torch.randint(0, 2, (n, 6), generator=generator)
        start = torch.randint(0, 5, (n,), generator=generator)
        place = (start[:, None] + torch.cat([torch.zeros(n, 2, dtype=torch.int64), keys[:, 1:5].cumsum(1)], 1)) % 5
        grids = {"context": place[:, :, None].expand(-1, -1, 4), "video": place[:, :, None].expand(-1, -1, 3)}
        conditions = Conditions(actions={"key": keys})
        return Batch(codes=Codes(grids), conditions=conditions, rewards=keys.float())

    for _ in range(150):
        losses = model.loss(batch(32))
        loss = sum(losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    held_out = batch(64)
    assert held_out.codes is not None and held_out.rewards is not None
    with torch.no_grad():
        judged = model.eval().score(held_out.codes, held_out.conditions)
    assert judged.correct.float().mean() > 0.9, float(judged.correct.float().mean())
    assert (judged.reward - held_out.rewards[:, 1:5]).square().mean() < 0.05


def test_what_does_not_fit_is_said() -> None:
    model = made()
    with pytest.raises(UserError, match="begins with 2 or more"):
        model.prefill(codes(1, 1), told(1, 1))
    with pytest.raises(UserError, match=r"7 frames; .* up to 6 at a time"):
        model.score(codes(1, 7), told(1, 7))
    with pytest.raises(UserError, match=r"9 frames, .* are 37 tokens; .* places for 33: take at most 8 frames"):
        replace(SMALL, frames=9, transformer=replace(SMALL.transformer, places=33))
    with pytest.raises(UserError, match="take fewer context frames"):
        replace(SMALL, context_frames=5, transformer=replace(SMALL.transformer, places=24))
    state = model.prefill(codes(1, 6), told(1, 6))
    assert model.full(state).tolist() == [0]
    with pytest.raises(UserError, match="window of 6 frames is full"):
        model.step(state, told(1, 1), TokenSampler(SamplerConfig()), None)
