"""Action conditioning: each way against its formula, and that an action reaches its frame and later ones only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelworld.systems.genie.action_conditioning import (
    CONDITIONINGS,
    AddAction,
    ConcatAction,
    FiLMAction,
    NoAction,
    PrependAction,
    action_conditioning,
    leading_actions,
)
from reelworld.systems.genie.spacetime import STConfig, STTransformer

WIDTH, ACTION, LAYERS = 16, 5, 2


def draw(frames: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, frames, 6, WIDTH), torch.randn(2, frames, ACTION)


def through(kind: str, x: Tensor, action: Tensor, cached_from: int | None = None, space: str = "learned") -> Tensor:
    """Feed a transformer, all at once or frame by frame."""
    torch.manual_seed(0)
    config = STConfig(width=WIDTH, layers=LAYERS, heads=2, rows=2, columns=3, window=3, space=space)
    model, way = STTransformer(config).eval(), action_conditioning(kind, WIDTH, ACTION, LAYERS)
    for weight in model.parameters():
        weight.data.add_(0.2 * torch.randn(weight.shape))
    if cached_from is None:
        return way.strip(model(*way(x, action)))
    outs, cache = model.prefill(*way(x[:, :cached_from], action[:, :cached_from]))
    parts = [way.strip(outs)]
    for t in range(cached_from, x.shape[1]):
        fed, film = way(x[:, t : t + 1], action[:, t : t + 1])
        parts.append(way.strip(model.step(fed, cache, film)))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("kind", CONDITIONINGS)
@torch.inference_mode()
def test_an_action_reaches_its_frame_and_later_ones(kind: str) -> None:
    x, action = draw()
    other = action.clone()
    other[:, 3] += 1
    moved = (through(kind, x, other) - through(kind, x, action)).abs().amax((0, 2, 3))
    assert moved[:3].max() == 0 and moved[3:].min() > 1e-4, moved


@pytest.mark.parametrize("kind", CONDITIONINGS)
@pytest.mark.parametrize("space", ["learned", "rotary"])
@pytest.mark.parametrize("context", [0, 2])
@torch.inference_mode()
def test_cached_equals_parallel(kind: str, context: int, space: str) -> None:
    x, action = draw()
    parallel = through(kind, x, action, space=space)
    torch.testing.assert_close(through(kind, x, action, context, space), parallel, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_formulas() -> None:
    x, action = draw()
    add = AddAction(WIDTH, ACTION, LAYERS)
    by_hand = x[1, 2, 3] + add.project.weight @ action[1, 2] + add.project.bias
    torch.testing.assert_close(add(x, action).x[1, 2, 3], by_hand)
    prepend = PrependAction(WIDTH, ACTION, LAYERS)
    fed = prepend(x, action).x
    assert torch.equal(prepend.strip(fed), x) and fed.shape == (2, 6, 7, WIDTH)
    torch.testing.assert_close(fed[1, 2, 0], prepend.project.weight @ action[1, 2] + prepend.project.bias)
    concat = ConcatAction(WIDTH, ACTION, LAYERS)
    by_hand = x[1, 2, 3] + concat.mix.weight[:, WIDTH:] @ action[1, 2]
    torch.testing.assert_close(concat(x, action).x[1, 2, 3], by_hand)
    film = FiLMAction(WIDTH, ACTION, LAYERS)
    fed = film(x, action)
    assert fed.x is x
    by_hand = (film.project.weight @ action[1, 2] + film.project.bias).view(LAYERS, 2, WIDTH)
    torch.testing.assert_close(fed.film[1, 2], by_hand)
    assert NoAction()(x, action) == (x, None)


def test_actions_move_to_the_frames_they_lead_to() -> None:
    actions, first = torch.arange(6.0).view(1, 3, 2), torch.tensor([8.0, 9.0])
    assert leading_actions(actions, first).tolist() == [[[8, 9], [0, 1], [2, 3], [4, 5]]]
    assert leading_actions(actions[:, :0], first).tolist() == [[[8, 9]]]
