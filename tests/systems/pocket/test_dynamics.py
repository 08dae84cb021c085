"""Grid dynamics: cached equals parallel, causality by perturbation, losses against a hand count, learning."""

from __future__ import annotations

import pytest
import torch

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.systems.pocket.dynamics import PocketDynamics, PocketDynamicsConfig
from reelworld.types import ActionSpec, Batch, Codes, Conditions, GridSpec

GRID = GridSpec(rows=3, columns=4, codebook_size=20, levels=(5, 4))
ACTIONS = {
    "discrete": {"action": ActionSpec(kind="discrete", n=5)},
    "stacked": {"action": ActionSpec(kind="discrete", n=5, repeat=3)},
    "continuous": {"move": ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 4.0))},
    "none": {},
}


def make(kind: str = "discrete", **fields: int | float) -> PocketDynamics:
    """Build a model whose every weight matters: fresh residual branches are zero and would hide errors."""
    torch.manual_seed(0)
    config = {"width": 16, "trunk_layers": 3, "temporal_layers": 2, "head_layers": 1, "window": 3, **fields}
    model = PocketDynamics(PocketDynamicsConfig(grid=GRID, actions=ACTIONS[kind], **config))
    for weight in model.parameters():
        weight.data.add_(0.5 * torch.randn(weight.shape) / max(weight.shape[-1] if weight.ndim else 1, 1) ** 0.5)
    return model.eval()


def draw_actions(kind: str, batch: int, frames: int) -> dict[str, torch.Tensor]:
    if kind == "continuous":
        return {"move": torch.rand(batch, frames, 2)}
    if kind == "none":
        return {}
    shape = (batch, frames, 3) if kind == "stacked" else (batch, frames)
    return {"action": torch.randint(0, 5, shape)}


class Recorder:
    """A sampler that keeps the logits it was shown."""

    steps = 1

    def __call__(self, logits: torch.Tensor, generator: object) -> torch.Tensor:
        self.logits = logits
        return logits.argmax(-1)

    def confidence(self, logits: torch.Tensor, ids: torch.Tensor, generator: object) -> torch.Tensor:
        raise AssertionError("one pass asks for no order")


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("context", [1, 2, 6])
@torch.inference_mode()
def test_cached_steps_equal_the_parallel_forward(kind: str, context: int) -> None:
    model = make(kind)
    codes, actions = torch.randint(0, 20, (2, 12, 12)), draw_actions(kind, 2, 12)
    parallel = model._logits(model._read(codes, actions)[0], codes)
    outcome = model._read(codes, actions)[1]
    before = {k: v[:, : context - 1] for k, v in actions.items()}
    state = model.prefill(Codes.of(codes[:, :context]), Conditions(actions=before))
    sampler = Recorder()
    for t in range(context - 1, 12):
        state.codes = codes[:, t]
        now = Conditions(actions={k: v[:, t : t + 1] for k, v in actions.items()})
        _, state = model.step(state, now, sampler, None)
        torch.testing.assert_close(sampler.logits[:, 0], parallel[:, t], atol=1e-4, rtol=1e-4)
        expected = outcome[:, t, 0].sigmoid() * outcome[:, t, 1]
        torch.testing.assert_close(state.reward, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(state.terminated, outcome[:, t, 2].sigmoid(), atol=1e-4, rtol=1e-4)
    assert parallel.std() > 0.1


@torch.inference_mode()
def test_future_frames_and_actions_change_nothing_before() -> None:
    model = make()
    codes, actions = torch.randint(0, 20, (1, 10, 12)), draw_actions("discrete", 1, 10)
    logits = model._logits(model._read(codes, actions)[0], codes)
    later_codes, later_actions = codes.clone(), {"action": actions["action"].clone()}
    later_codes[:, 6:] = (codes[:, 6:] + 1) % 20
    later_actions["action"][:, 6:] = (actions["action"][:, 6:] + 1) % 5
    moved = model._logits(model._read(later_codes, later_actions)[0], later_codes)
    torch.testing.assert_close(moved[:, :6], logits[:, :6])
    assert (moved[:, 6:] - logits[:, 6:]).abs().max() > 0.1


@torch.inference_mode()
def test_past_and_action_matter() -> None:
    model = make()
    codes, actions = torch.randint(0, 20, (1, 4, 12)), draw_actions("discrete", 1, 4)
    logits = model._logits(model._read(codes, actions)[0], codes)[:, 3]
    other_past = torch.cat([(codes[:, :1] + 1) % 20, codes[:, 1:]], 1)
    assert (model._logits(model._read(other_past, actions)[0], other_past)[:, 3] - logits).abs().max() > 1e-3
    other = {"action": torch.cat([actions["action"][:, :3], (actions["action"][:, 3:] + 1) % 5], 1)}
    assert (model._logits(model._read(codes, other)[0], codes)[:, 3] - logits).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 4])
@torch.inference_mode()
def test_streams_can_be_copied_and_replaced(steps: int) -> None:
    model = make()
    codes, actions = torch.randint(0, 20, (3, 5, 12)), draw_actions("discrete", 3, 12)
    sampler = TokenSampler(SamplerConfig(steps=steps, temperature=0.0))

    def run(rows: list[int], reset_at: int | None = None) -> list[torch.Tensor]:
        first = Codes.of(codes[rows])
        state = model.prefill(first, Conditions(actions={"action": actions["action"][rows, :4]}))
        seen = []
        for t in range(7):
            if t == reset_at:
                fresh = model.prefill(Codes.of(codes[:1]), Conditions(actions={"action": actions["action"][:1, :4]}))
                state.index_copy_(torch.tensor([1]), fresh)
            now = Conditions(actions={"action": actions["action"][rows, t : t + 1]})
            out, state = model.step(state, now, sampler, None)
            seen.append(out.video[:, 0])
        return seen

    together, alone = run([0, 1, 2]), run([2])
    assert all(torch.equal(a[2:], b) for a, b in zip(together, alone, strict=True))
    replaced = run([0, 1, 2], reset_at=3)
    assert all(torch.equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(together, replaced, strict=True))


@torch.inference_mode()
def test_replaced_stream_equals_a_fresh_one() -> None:
    model = make()
    codes, actions = torch.randint(0, 20, (2, 6, 12)), torch.randint(0, 5, (2, 12))
    sampler = TokenSampler(SamplerConfig(temperature=0.0))
    given = Conditions(actions={"action": actions[:, :5]})
    state = model.prefill(Codes.of(codes), given)
    for t in range(4):
        _, state = model.step(state, Conditions(actions={"action": actions[:, t : t + 1]}), sampler, None)
    fresh = model.prefill(Codes.of(codes[:1]), Conditions(actions={"action": actions[:1, :5]}))
    state.index_copy_(torch.tensor([1]), fresh)
    alone = model.prefill(Codes.of(codes[:1]), Conditions(actions={"action": actions[:1, :5]}))
    for t in range(6):
        now = actions[:, 4 + t : 5 + t]
        out, state = model.step(state, Conditions(actions={"action": now}), sampler, None)
        expected, alone = model.step(alone, Conditions(actions={"action": now[1:]}), sampler, None)
        assert torch.equal(out.video[1:], expected.video)


def test_loss_counts_masked_codes_and_real_frames() -> None:
    model = make(full_mask_prob=1.0)
    codes = Codes.of(torch.randint(0, 20, (2, 5, 12)))
    conditions = Conditions(actions=draw_actions("discrete", 2, 5))
    rewards, ended = torch.randn(2, 5), torch.zeros(2, 5, dtype=torch.bool)
    rewards[0, 1] = 0
    generator = torch.Generator().manual_seed(0)
    batch = Batch(codes=codes, conditions=conditions, rewards=rewards, terminated=ended)
    losses = model.loss(batch, generator)
    assert float(losses.terms["codes"][1]) == 2 * 4 * 12 and float(losses.terms["reward"][1]) == 2 * 4
    nll = model.score(codes, conditions).nll
    torch.testing.assert_close(losses.terms["codes"][0], nll.sum())
    _, outcome = model._read(codes.video, conditions.actions)
    paid = rewards[:, :4] != 0
    expected = (outcome[:, :4, 1] - rewards[:, :4])[paid].square().sum()
    torch.testing.assert_close(losses.terms["reward"][0], expected)
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1, 3:] = False
    short = model.loss(Batch(codes=codes, conditions=conditions, rewards=rewards, valid=valid), generator)
    assert float(short.terms["codes"][1]) == (4 + 2) * 12 and float(short.terms["reward"][1]) == 6


def test_mask_share_follows_the_schedule() -> None:
    model = make(full_mask_prob=0.5)
    known = model._draw_known(torch.zeros(400, 50, 12, dtype=torch.int64), torch.Generator().manual_seed(0))
    share = known.float().mean()
    # Half the frames show nothing, the others 1 - 2 / pi of their codes on average.
    assert abs(share - 0.5 * (1 - 2 / torch.pi)) < 0.01
    assert abs((known.float().sum(-1) == 0).float().mean() - 0.61) < 0.02  # 12 codes: some low shares round to none


def test_fresh_model_copies_the_current_frame() -> None:
    model = PocketDynamics(PocketDynamicsConfig(grid=GRID, actions={}, width=16))
    codes = Codes.of(torch.randint(0, 20, (2, 3, 12)).repeat_interleave(2, 1))
    is_right = model.score(codes, Conditions()).correct
    assert is_right[:, 0].all() and is_right[:, 2].all()


def test_learns_a_rule_from_actions() -> None:
    torch.manual_seed(0)
    grid = GridSpec(rows=3, columns=3, codebook_size=4, levels=(4,))
    spec = {"action": ActionSpec(kind="discrete", n=2)}
    model = PocketDynamics(
        PocketDynamicsConfig(grid=grid, actions=spec, width=32, trunk_layers=2, head_layers=1, window=3)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def episode(n: int) -> Batch:
        """Action 1 adds one to every cell, action 0 leaves them."""
        actions = torch.randint(0, 2, (n, 5))
        first = torch.randint(0, 4, (n, 1, 9))
        steps = torch.cat([torch.zeros(n, 1, dtype=torch.int64), actions[:, :-1].cumsum(1)], 1)
        return Batch(
            codes=Codes.of((first + steps[..., None]) % 4),
            conditions=Conditions(actions={"action": actions}),
            rewards=actions.float(),
        )

    for _ in range(120):
        losses = model.loss(episode(16))
        objective = sum(total / count for total, count in losses.terms.values())
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    test = episode(64)
    is_right = model.score(test.codes, test.conditions).correct
    is_still = (test.codes.video[:, 1:] == test.codes.video[:, :-1]).all(-1)
    assert is_right.float().mean() > 0.98 > 0.7 > is_still.float().mean()
    _, outcome = model._read(test.codes.video, test.conditions.actions)
    reward = outcome[..., 0].sigmoid() * outcome[..., 1]
    assert (reward - test.rewards).abs().mean() < 0.1


@torch.inference_mode()
def test_without_temporal_layers_only_the_current_frame_counts() -> None:
    model, told = make(temporal_layers=0), Conditions(actions={"action": torch.tensor([[1], [2]])})
    codes, before = torch.randint(0, 20, (2, 3, 12)), {"action": torch.zeros(2, 2, dtype=torch.int64)}
    logits = []
    for past in (codes, codes.flip(1).clone()):
        past[:, -1] = codes[:, -1]
        sampler = Recorder()
        state = model.prefill(Codes.of(past), Conditions(actions=before))
        model.step(state.index_select(torch.tensor([1, 0])), told, sampler, None)
        logits.append(sampler.logits)
    assert torch.equal(*logits)
