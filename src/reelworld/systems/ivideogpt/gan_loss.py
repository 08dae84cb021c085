"""Perceptual (LPIPS) and adversarial losses for VQGAN training.

Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), section 3.1 and the authors' code. Differs: every batch trains the
tokenizer, and in the same step the discriminator if there is one. The published code alternates between the two, and
every second batch has no effect while there is no discriminator.

Shapes: B clips, T frames of a window, K context frames, F later frames, H W pixel rows and columns
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reelworld.systems.ivideogpt.context_vqgan import ContextVQGAN, Rebuilt
from reelworld.systems.ivideogpt.discriminator import Discriminator
from reelworld.types import Batch, Losses

__all__ = ["GANLossConfig", "ShuffledTraining", "VQGANTraining"]

GREATEST_RATIO = 1e4

Terms = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class GANLossConfig:
    """Start, weight and discriminator of the adversarial loss."""

    start_step: int
    """First step of the adversarial loss."""
    weight: float = 0.8
    """Its weight, times the ratio of perceptual to adversarial gradients at the decoder's last layer."""
    width: int = 512
    """Channels of the discriminator."""


class VQGANTraining(nn.Module):
    """Tokenizer in training: ``loss`` samples frames of each window and adds perceptual and adversarial losses."""

    n_steps: Tensor

    def __init__(
        self,
        tokenizer: ContextVQGAN,
        looks: nn.Module,
        n_later: int,
        opposition: GANLossConfig | None = None,
        looks_weight: float = 1.0,
    ) -> None:
        """Put the parts together.

        Args:
            tokenizer: Tokenizer to train.
            looks: Perceptual distance of images (B, 3, H, W) in [-1, 1]; frozen, and not saved in checkpoints.
            n_later: F, later frames that are drawn of each window.
            opposition: None for no adversarial loss.
            looks_weight: Weight of the perceptual loss.
        """
        super().__init__()
        self.tokenizer, self.n_later, self.opposition = tokenizer, n_later, opposition
        self.weights = {**tokenizer.weights, "context_looks": looks_weight, "frames_looks": looks_weight}
        self._looks = (looks,)  # in a tuple: its weights are not this module's
        self.opponent = Discriminator(opposition.width) if opposition else None
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Reconstruction, perceptual and commitment losses, and the adversarial loss from its first step on.

        Args:
            batch: With ``video``.
            generator: Of the frames that are picked and the codebooks' draws.
        """
        assert batch.video is not None
        video = self.picked(batch.video, generator)
        rebuilt = self.tokenizer.rebuild(video, generator)
        terms = self.tokenizer.terms(video, rebuilt)
        n_context = self.tokenizer.config.context_frames
        real = {"context": video[:, :n_context], "frames": video[:, n_context:]}
        looks = {name: self._look(getattr(rebuilt, name) * 2 - 1, real[name]) for name in real}
        terms |= {f"{name}_looks": term for name, term in looks.items()}
        if self.opposition is not None and int(self.n_steps) >= self.opposition.start_step:
            total, count = looks["frames"]
            terms |= self._oppose(rebuilt, real["frames"], self.weights["frames_looks"] * total / count)
        if self.training:
            self.n_steps += 1
        return Losses(terms, self.weights)

    def picked(self, video: Tensor, generator: torch.Generator | None) -> Tensor:
        """Take the first K frames of windows (B, T, ...) and a random F of the later ones, in their order."""
        n_context = self.tokenizer.config.context_frames
        order = torch.rand(len(video), video.shape[1] - n_context, generator=generator, device=video.device).argsort(1)
        later_BF = order[:, : self.n_later].sort(1).values + n_context
        first_BK = torch.arange(n_context, device=video.device).expand(len(video), -1)
        rows = torch.arange(len(video), device=video.device)[:, None]
        return video[rows, torch.cat([first_BK, later_BF], 1)]

    def _look(self, found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Compare frames (B, F, H, W, 3) in [-1, 1]."""
        self._looks[0].to(found.device)
        distance: Tensor = self._looks[0](_pictures(found), _pictures(wanted))
        return distance.sum(), distance.new_tensor(float(len(distance)))

    def _oppose(self, rebuilt: Rebuilt, real: Tensor, looks: Tensor) -> Terms:
        """Hinge losses of generator and discriminator.

        The tokenizer's loss does not train the discriminator. It is scaled to the gradient of the perceptual loss at
        the decoder's last layer.
        """
        assert self.opponent is not None and self.opposition is not None
        fake = _pictures(rebuilt.frames * 2 - 1)
        self.opponent.requires_grad_(False)
        said = self.opponent(fake)
        self.opponent.requires_grad_(True)
        last = self.tokenizer.cond_decoder.net.conv_out.weight
        by_looks, by_opponent = (
            torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (looks, -said.mean())
        )
        ratio = (by_looks / (by_opponent + 1e-4)).clamp(0, GREATEST_RATIO).detach()
        of_real, of_fake = self.opponent(_pictures(real)), self.opponent(fake.detach())
        hinge = functional.relu(1 - of_real) + functional.relu(1 + of_fake)
        count = said.new_tensor(float(said.numel()))
        return {
            "adversarial": (-said.sum() * ratio * self.opposition.weight, count),
            "opponent": (0.5 * hinge.sum(), count.clone()),
        }


class ShuffledTraining(VQGANTraining):
    """GAN loss for worlds with goals: any frames of a window may be the context of any others.

    Source: Wu et al. 2024, iVideoGPT (arXiv:2405.15223), appendix A.2.
    """

    def picked(self, video: Tensor, generator: torch.Generator | None) -> Tensor:
        """Take random frames of windows (B, T, ...) in a random order, K + F of them."""
        order = torch.rand(video.shape[:2], generator=generator, device=video.device).argsort(1)
        rows = torch.arange(len(video), device=video.device)[:, None]
        return video[rows, order[:, : self.tokenizer.config.context_frames + self.n_later]]


def _pictures(frames: Tensor) -> Tensor:
    """Turn (B, F, H, W, 3) into (B * F, 3, H, W)."""
    return frames.flatten(0, 1).permute(0, 3, 1, 2)
