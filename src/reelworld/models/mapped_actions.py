"""Wrapper that gives a world model with latent actions real ones. All other code sees real actions only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from reelworld.models.action_mapping import STREAM, ActionMap, kinds_of
from reelworld.models.samplers import SamplerConfig
from reelworld.models.world_model import Actions, Context, FrameOutput, Rng, WorldModel, describe_actions
from reelworld.nn.streams import Streams
from reelworld.types import Batch, Codes, Losses, Sampler, StepScores, UserError


class MappedActions(WorldModel):
    """Model with latent actions, wrapped in a map from real actions."""

    def __init__(self, model: WorldModel, action_map: ActionMap) -> None:
        """Wrap a model.

        Args:
            model: With one stream of latent actions.
            action_map: From the real actions.

        Raises:
            UserError: If the map is not one to the latent actions of the model.
        """
        super().__init__()
        learned = describe_actions(model.spec.actions)
        n_latents = len(action_map.to_real)
        if learned != {STREAM: ("discrete", n_latents, 1)}:
            raise UserError(
                f"the world has a map to {n_latents} latent actions; its dynamics learned {learned}: restore "
                "world.json."
            )
        if action_map.stream == STREAM:
            raise UserError(f"its map is for the stream {STREAM!r}, that of the latent actions: restore world.json.")
        self.model, self.action_map = model, action_map
        self.spec = replace(model.spec, actions={action_map.stream: action_map.spec})
        self.register_buffer("cuts", torch.tensor(action_map.cuts, dtype=torch.float32), persistent=False)
        self.register_buffer("to_latent", torch.tensor(action_map.to_latent), persistent=False)

    cuts: Tensor
    to_latent: Tensor

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Parts of the wrapped model."""
        return self.model.parts

    def begin(self, context: Context, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Read the context with its actions mapped."""
        return self.model.begin(replace(context, actions=self._mapped(context.actions)), sampler, rng)

    def step(self, state: Streams, actions: Actions, sampler: Sampler, rng: Rng) -> tuple[FrameOutput, Streams]:
        """Take one real action per stream."""
        return self.model.step(state, self._mapped(actions), sampler, rng)

    def score(self, clips: Context, n_context: int) -> StepScores | None:
        """Score clips with real actions."""
        return self.model.score(replace(clips, actions=self._mapped(clips.actions)), n_context)

    def batch_key(self, state: Streams) -> Hashable:
        """Return the key of the wrapped model."""
        return self.model.batch_key(state)

    def encode(self, video: Tensor) -> Codes | None:
        """Encode with the wrapped model."""
        return self.model.encode(video)

    def decode(self, codes: Codes) -> Tensor | None:
        """Decode with the wrapped model."""
        return self.model.decode(codes)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Loss of the wrapped model; the batch has latent actions."""
        return self.model.loss(batch, generator)

    def infer_actions(self, video: Tensor) -> Tensor | None:
        """Infer latent actions with the wrapped model."""
        return self.model.infer_actions(video)

    def default_sampler(self, exact: float | None = None) -> SamplerConfig:
        """Return the settings of the wrapped model."""
        return self.model.default_sampler(exact)

    def _mapped(self, actions: Actions) -> dict[str, Tensor]:
        real = actions[self.action_map.stream].to(self.to_latent.device)  # (n, T) or (n, T, A)
        return {STREAM: self.to_latent[kinds_of(real, self.cuts)]}
