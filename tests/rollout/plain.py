"""Reference results of clip models, computed without window states, batches or caches."""

from __future__ import annotations

import numpy as np
import torch

from reelworld.models.samplers import SamplerConfig, TokenSampler
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.types import Codes, Conditions
from reelworld.worlds.world import World


def plain_run(
    world: World,
    context: np.ndarray,
    n_frames: int,
    generator: torch.Generator,
    class_id: int | None = None,
    sampler: SamplerConfig | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Say what one stream of a world that codes whole clips must show: no windows, no phases, no batches.

    Keeps the whole film as a list, and asks the parallel pass of the dynamics for one token after the other.

    Args:
        world: Its tokenizer codes whole clips.
        context: uint8, (C, H, W, 3): no frame, a whole number of latent frames, or what is shown as pixels.
        n_frames: Frames to make after the context.
        generator: Of the stream.
        class_id: For worlds with classes.
        sampler: Instead of the world's own.

    Returns:
        Frames, uint8 (n_frames, H, W, 3), and the codes of the latent frame that each belongs to, (n_frames, N).
    """
    spec = world.model.tokenizer.spec(1, world.spec.height, world.spec.width)
    size, stride, n_tokens = spec.clip_frames, spec.time_stride, spec.video.n_tokens
    n_latents, n_shown = size // stride, world.model.dynamics.config.cond_frames
    draw = TokenSampler(sampler or world.info.sampler)
    film = list(context)
    codes: list[torch.Tensor] = []
    if len(context) >= stride:
        padded = np.stack([*context, *[context[-1]] * (size - len(context))])
        coded = world.model.tokenizer.encode(to_float(torch.from_numpy(padded))[None]).video[0]
        codes = list(coded[: len(context) // stride])
    made_frames, made_codes = [], []
    first = 0  # of the window, in frames of the film
    while len(made_frames) < n_frames:
        if len(codes) == n_latents:
            codes, first = codes[1:], first + stride
        shown = film[first : first + n_shown]
        conditions = Conditions(
            context_video=to_float(torch.from_numpy(np.stack(shown)))[None] if n_shown else None,
            class_id=None if class_id is None else torch.tensor([class_id]),
        )
        while len(codes) < n_latents:
            tokens: list[int] = []
            for _ in range(n_tokens):
                known = torch.cat([*codes, torch.tensor(tokens, dtype=torch.int64)])
                padded = torch.cat([known, known.new_zeros(n_latents * n_tokens - len(known))])
                logits = world.model.dynamics.logits(Codes.of(padded.view(1, n_latents, n_tokens)), conditions)
                tokens.append(int(draw(logits.flatten(1, 2)[:, len(known)], [generator])[0]))
            codes.append(torch.tensor(tokens))
        video = to_uint8(world.model.tokenizer.decode(Codes.of(torch.stack(codes)[None])))[0].numpy()
        for i in range(len(film) - first, size):
            film.append(video[i])
            made_frames.append(video[i])
            made_codes.append(codes[i // stride].numpy())
    return np.stack(made_frames[:n_frames]), np.stack(made_codes[:n_frames])
