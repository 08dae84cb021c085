"""Precomputed codes for frame tokenizers; batches encoded on the fly for clip tokenizers.

Codes of single frames are stored, so that no frame is encoded again in every epoch. Codes of a whole clip depend on
its first frame, so every window has its own codes. These are not stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from reelworld.data.code_store import CodeStore, CodeStoreWriter, is_finished
from reelworld.data.dataset import Dataset
from reelworld.models.parts import Tokenizer
from reelworld.nn.pixels import to_float
from reelworld.train.console import Display
from reelworld.types import Batch, Codes


def precompute_codes(
    dataset: Dataset,
    tokenizer: Tokenizer,
    out: Path,
    *,
    batch_frames: int = 256,
    device: torch.device | None = None,
    console: Console | None = None,
) -> CodeStore:
    """Encode every episode into a code store; resume an interrupted call.

    Args:
        dataset: The recording.
        tokenizer: Encodes every frame independently: long episodes are encoded in chunks.
        out: Folder of the store; a finished one of the same tokenizer and data set is opened unchanged.
        batch_frames: Frames encoded at once.
        device: Device to encode on; by default the tokenizer's.
        console: Console for progress; the terminal by default.

    Raises:
        UserError: If ``out`` holds the codes of another tokenizer or data set.
    """
    assert isinstance(tokenizer, nn.Module)
    if device is None:
        device = next(tokenizer.parameters()).device
    info = dataset.info
    spec = tokenizer.spec(1, info.height, info.width)
    identity = weights_hash(tokenizer)
    writer = CodeStoreWriter(out, info=info, episodes=dataset.episodes, tokens=spec, identity=identity)
    missing = writer.missing()
    was_training = tokenizer.training
    tokenizer.to(device).eval()
    with Display("encoding", console) as display:
        for number, episode in enumerate(missing, 1):
            codes = _encode(tokenizer, dataset, episode, batch_frames, device)
            writer.write(episode, codes, dataset.steps(episode))
            text = f"episode {number}/{len(missing)}"
            display.update(number / len(missing), lambda text=text: text)  # type: ignore[misc]
    tokenizer.train(was_training)
    return writer.finish() if missing or not is_finished(out) else CodeStore.open(out)


@torch.inference_mode()
def _encode(
    tokenizer: Tokenizer, dataset: Dataset, episode: int, batch_frames: int, device: torch.device
) -> np.ndarray:
    """Encode an episode chunk by chunk: codes int64 (T, N), or latents float (T, N, E)."""
    n_frames = dataset.episodes[episode].n_frames
    codes = []
    for start in range(0, n_frames, batch_frames):
        frames = dataset.arrays(episode, start, min(start + batch_frames, n_frames))["frames"]
        chunk = tokenizer.encode(to_float(torch.from_numpy(frames).to(device))[None]).video[0].cpu()
        codes.append((chunk.float() if chunk.dtype == torch.bfloat16 else chunk).numpy())
    return np.concatenate(codes)


def weights_hash(module: nn.Module) -> str:
    """Return a hash of all weights and buffers: equal hashes give equal codes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def encode_batch(batch: Batch, tokenizer: Tokenizer, context_frames: int = 0, n_alone: int = 0) -> Batch:
    """Replace the video of a batch by its codes.

    Args:
        batch: Batch with ``video`` of whole clips.
        tokenizer: Tokenizer of whole clips.
        context_frames: First frames kept as pixels, as a condition.
        n_alone: First latent frames that are encoded without the later frames, as in a clip to be continued. The last
            of their frames is repeated for the rest of the clip.
    """
    assert batch.video is not None and isinstance(tokenizer, nn.Module)
    here = batch.to(next(tokenizer.parameters()).device)
    video_BTHWC = here.video
    assert video_BTHWC is not None
    codes = tokenizer.encode(video_BTHWC)
    if n_alone:
        n_latents, n_frames = codes.video.shape[1], video_BTHWC.shape[1]
        known = video_BTHWC[:, : n_frames // n_latents * n_alone]
        still = known[:, -1:].expand(-1, n_frames - known.shape[1], -1, -1, -1)
        alone = tokenizer.encode(torch.cat([known, still], 1))
        codes = Codes.of(torch.cat([alone.video[:, :n_alone], codes.video[:, n_alone:]], 1))
    context = video_BTHWC[:, :context_frames] if context_frames else None
    conditions = replace(here.conditions, context_video=context)
    return replace(here, video=None, codes=codes, conditions=conditions)


def encoded_batches(
    batches: Callable[[int], Iterator[Batch]],
    tokenizer: Tokenizer,
    *,
    context_frames: int = 0,
    n_latents: int = 0,
    context_only_prob: float = 0.0,
    seed: int = 0,
) -> Callable[[int], Iterator[Batch]]:
    """Encode batches of video with a frozen tokenizer on the fly; for ``Stage.batches``.

    Args:
        batches: Batch number -> batches of video from there on.
        tokenizer: Tokenizer of whole clips.
        context_frames: First frames kept as pixels.
        n_latents: Latent frames of a clip.
        context_only_prob: Probability that 1 to ``n_latents`` - 1 latent frames of a batch are encoded alone.
        seed: Seed of these draws, with the number of the batch.
    """

    def n_alone(number: int) -> int:
        rng = np.random.default_rng((seed, 2, number))
        return int(rng.integers(1, n_latents)) if n_latents > 1 and rng.random() < context_only_prob else 0

    return lambda start: (
        encode_batch(batch, tokenizer, context_frames, n_alone(number))
        for number, batch in enumerate(batches(start), start)
    )


def replay_batches(
    batches: Callable[[int], Iterator[Batch]], times: int, seed: int, n_kept: int = 64
) -> Callable[[int], Iterator[Batch]]:
    """Repeat every batch, for batches that cost more to make than to train on; for ``Stage.batches``.

    ``n_kept`` batches come in their order, then again in a new order each time; then the next ones.

    Args:
        batches: Batch number -> batches from there on.
        times: Uses of each batch; 1 repeats none.
        seed: Seed of the orders, with the number of the batch.
        n_kept: Batches kept in memory.
    """

    def passing(start: int) -> Iterator[Batch]:
        first, skipped = divmod(start, times * n_kept)
        new = batches(first * n_kept)
        for number in count(first):
            kept: list[Batch] = []
            for i in range(times * n_kept):
                again, place = divmod(i, n_kept)
                if not again:
                    kept.append(next(new))
                elif not place:
                    order = np.random.default_rng((seed, 3, number, again)).permutation(n_kept)
                if i >= skipped:
                    yield kept[order[place] if again else place]
            skipped = 0

    return batches if times == 1 else passing
