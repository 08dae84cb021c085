"""GAN training of the context VQGAN: sampled frames, perceptual loss, and the discriminator from its first step on."""

from __future__ import annotations

import pytest
import torch
from tests.systems.ivideogpt.test_context_vqgan import SMALL
from torch import Tensor, nn

from reelworld.nn.perceptual import SquaredDifference
from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN
from reelworld.systems.ivideogpt.gan_loss import GANLossConfig, ShuffledTraining, VQGANTraining
from reelworld.types import Batch, Losses


def made(opposition: GANLossConfig | None = None) -> VQGANTraining:
    torch.manual_seed(0)
    return VQGANTraining(ContextVQGAN(SMALL), SquaredDifference(), 3, opposition).train()


def windows(n: int = 4, frames: int = 9) -> Tensor:
    return torch.rand(n, frames, 16, 32, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def total(losses: Losses) -> Tensor:
    loss = sum(losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items())
    assert isinstance(loss, Tensor)
    return loss


def test_the_context_stays_and_later_frames_are_drawn_in_their_order() -> None:
    numbers = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(64, -1, 1, 1, 1)
    picked = made().picked(numbers, torch.Generator().manual_seed(0)).flatten(1)
    assert picked.shape == (64, 5)
    assert picked[:, :2].tolist() == [[0.0, 1.0]] * 64
    assert (picked.diff(dim=1) > 0).all()
    assert picked[:, 2:].unique().tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    again = made().picked(numbers, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal(picked, again)


def test_shuffled_frames_are_the_context_of_any_others() -> None:
    numbers = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(256, -1, 1, 1, 1)
    training = ShuffledTraining(ContextVQGAN(SMALL), SquaredDifference(), 3)
    picked = training.picked(numbers, torch.Generator().manual_seed(0)).flatten(1)
    assert picked.shape == (256, 5)
    assert all(len(row.unique()) == 5 for row in picked)
    assert all(len(column.unique()) == 9 for column in picked.T)


def test_every_batch_teaches_the_tokenizer() -> None:
    """The published code leaves every second one out while there is no opponent."""
    model, before = made(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        total(model.loss(Batch(video=windows()), torch.Generator().manual_seed(0))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        before.append(model.tokenizer.decoder.conv_out.weight.detach().clone())
    assert not torch.equal(before[0], before[1]) and not torch.equal(before[1], before[2])


def test_the_opponent_joins_at_its_step_and_is_taught_by_its_own_term_alone() -> None:
    model = made(GANLossConfig(start_step=2, width=32))
    assert model.opponent is not None
    names = [set(model.loss(Batch(video=windows()), torch.Generator().manual_seed(0)).terms) for _ in range(3)]
    assert ["adversarial" in terms for terms in names] == [False, False, True]
    terms = model.loss(Batch(video=windows()), torch.Generator().manual_seed(0)).terms
    weights = list(model.opponent.parameters())
    decoder = model.tokenizer.cond_decoder.net.conv_out.weight
    of_adversarial = torch.autograd.grad(terms["adversarial"][0], [decoder], retain_graph=True)[0]
    assert of_adversarial.abs().sum() > 0
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(terms["adversarial"][0], weights, retain_graph=True)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(terms["opponent"][0], weights[-1:], retain_graph=True))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(terms["opponent"][0], [decoder])


def test_the_adversarial_loss_weighs_as_much_as_looks_at_the_last_layer() -> None:
    model = made(GANLossConfig(start_step=0, weight=0.8, width=32))
    terms = model.loss(Batch(video=windows()), torch.Generator().manual_seed(0)).terms
    decoder = model.tokenizer.cond_decoder.net.conv_out.weight

    def norm(name: str) -> float:
        s, n = terms[name]
        return float(torch.autograd.grad(s / n, decoder, retain_graph=True)[0].norm())

    assert norm("adversarial") == pytest.approx(0.8 * norm("frames_looks"), rel=0.02)


def test_an_opponent_learns_to_tell_apart() -> None:
    model = made(GANLossConfig(start_step=0, width=32))
    assert model.opponent is not None
    optimizer, video = torch.optim.Adam(model.opponent.parameters(), 2e-3), windows(2, 5)
    values = []
    for _ in range(15):
        s, n = model.loss(Batch(video=video), torch.Generator().manual_seed(0)).terms["opponent"]
        optimizer.zero_grad()
        (s / n).backward()
        optimizer.step()
        values.append(float((s / n).detach()))
    assert values[-1] < 0.85 * values[0], values


def test_what_compares_pictures_is_no_part_of_checkpoints() -> None:
    torch.manual_seed(0)
    model = VQGANTraining(ContextVQGAN(SMALL), nn.Conv2d(3, 3, 1), 3)
    assert {name.split(".")[0] for name in model.state_dict()} == {"tokenizer", "n_steps"}
