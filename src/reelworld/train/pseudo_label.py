"""Pseudo-labels: replace recorded actions by those inferred by a latent action model.

Shapes: T frames
"""

from __future__ import annotations

import numpy as np
import torch
from rich.console import Console

from reelworld.data.dataset import Dataset
from reelworld.data.transforms import with_actions
from reelworld.models.action_mapping import STREAM
from reelworld.models.parts import ActionInference
from reelworld.models.world_model import WorldModel
from reelworld.nn.pixels import to_float
from reelworld.train.console import Display
from reelworld.types import ActionSpec, UserError

CHUNK = 64
"""Frames per forward pass."""
LEAD_IN = 16
"""Frames of context before a chunk."""


def latent_spec(n_codes: int) -> ActionSpec:
    """Return the spec of latent actions, on the keys 1 to 9."""
    return ActionSpec(
        kind="discrete",
        n=n_codes,
        names=tuple(f"action {i + 1}" for i in range(n_codes)),
        keys={f"Digit{i + 1}": i for i in range(min(n_codes, 9))},
    )


def with_pseudo_labels(
    dataset: Dataset, model: ActionInference | WorldModel, console: Console | None = None
) -> Dataset:
    """Infer the latent actions of every episode; recorded actions are left out.

    Args:
        dataset: The recordings.
        model: A trained model.
        console: Console for progress; the terminal by default.
    """
    was_training = model.training
    model.eval()
    rows = []
    with Display("finding actions", console) as display:
        for number in range(1, len(dataset.episodes) + 1):
            rows.append(infer_latent_actions(dataset, model, number - 1))
            text = f"episode {number}/{len(dataset.episodes)}"
            display.update(number / len(dataset.episodes), lambda text=text: text)  # type: ignore[misc]
    model.train(was_training)
    n_codes = model.spec.actions[STREAM].n if isinstance(model, WorldModel) else model.n_actions
    return with_actions(dataset, STREAM, latent_spec(n_codes), rows)


@torch.inference_mode()
def infer_latent_actions(dataset: Dataset, model: ActionInference | WorldModel, episode: int) -> np.ndarray:
    """Infer the latent actions of one episode chunk by chunk, int64 (T,); the last is padding."""
    n_frames = dataset.episodes[episode].n_frames
    actions = np.zeros(n_frames, np.int64)
    device = next(model.parameters()).device
    for start in range(0, n_frames - 1, CHUNK):
        first, stop = max(0, start - LEAD_IN), min(start + CHUNK + 1, n_frames)
        frames = torch.from_numpy(dataset.arrays(episode, first, stop)["frames"]).to(device)
        video = to_float(frames)[None]
        codes = model.infer_actions(video) if isinstance(model, WorldModel) else model.encode(video)
        if codes is None:
            raise UserError("the world has no part that infers latent actions; give recordings that name them.")
        actions[start : stop - 1] = codes[0, start - first : -1].cpu().numpy()
    return actions
