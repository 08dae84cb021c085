"""Whole clips cut out of recordings, for worlds whose tokenizer codes a fixed number of frames together.

Clips are cut one after the other from the beginning of an episode; frames after the last whole clip are left out.

Shapes: W windows, T frames of a whole clip, H W pixel rows and columns, P latent frames, N tokens per latent frame
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from reelworld.evaluate.clips import read_episode
from reelworld.nn.pixels import to_float
from reelworld.worlds.provenance import frame_stride

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset
    from reelworld.types import Clip
    from reelworld.worlds.world import World

__all__ = ["WholeClips", "cut_whole_clips", "encode_whole", "training_clips"]

BATCH_FRAMES = 128


@dataclass(frozen=True)
class WholeClips:
    """Whole clips, and the recording each was cut from."""

    frames: np.ndarray
    """uint8, (W, T, H, W, 3)."""
    clip: np.ndarray
    """int64, (W,): index of the recording; intervals resample these."""
    class_id: np.ndarray | None
    """int64, (W,); None where recordings have no classes."""


def cut_whole_clips(clips: Sequence[Clip], n_frames: int, most: int) -> WholeClips:
    """Cut recordings into whole clips.

    Args:
        clips: Recordings.
        n_frames: Frames of a whole clip.
        most: At most this many; the first of every recording come before any second one.
    """
    places = [(i, c) for c, clip in enumerate(clips) for i in range(len(clip.frames) // n_frames)]
    places = sorted(places)[:most]
    classes = [clips[c].class_id for _, c in places]
    return WholeClips(
        frames=np.stack([clips[c].frames[i * n_frames : (i + 1) * n_frames] for i, c in places]),
        clip=np.array([c for _, c in places]),
        class_id=None if None in classes else np.array(classes, np.int64),
    )


def training_clips(
    world: World, dataset: Dataset, n_frames: int, most: int, skip: set[str], seed: int
) -> tuple[Iterator[np.ndarray], int]:
    """Draw whole clips of the training split, for what is fitted or compared with.

    Args:
        world: Says how recordings are read.
        dataset: Recordings. Those of the world's training list count, else those of the training split, else all.
        n_frames: Frames of a whole clip.
        most: At most this many.
        skip: Sources of the recordings that are measured; they are left out.
        seed: Of the draw.

    Returns:
        The clips, uint8 (T, H, W, 3), read one by one, and how many they are.
    """
    stride = frame_stride(world.info.provenance)
    span = n_frames * stride
    trained_on = set(world.info.splits.get("train", ()))
    listed = [i for i, e in enumerate(dataset.episodes) if e.source in trained_on]
    places = [
        (i, start)
        for i in listed or dataset.indices("train") or dataset.indices("all")
        if dataset.episodes[i].source not in skip
        for start in range(0, dataset.episodes[i].n_frames - span + stride, span)
    ]
    chosen = sorted(np.random.default_rng(seed).permutation(len(places))[:most].tolist())
    read = (read_episode(world, dataset, places[j][0], places[j][1], n_frames).frames for j in chosen)
    return read, len(chosen)


@torch.inference_mode()
def encode_whole(world: World, frames: Iterator[np.ndarray] | Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Turn whole clips into codes as in training, all frames of a clip together.

    Args:
        world: Its tokenizer codes whole clips into one grid.
        frames: uint8, (T, H, W, 3) each.

    Returns:
        int64, (W, P, N).
    """
    parts: list[np.ndarray] = []
    waiting: list[np.ndarray] = []

    def flush() -> None:
        video = to_float(torch.from_numpy(np.stack(waiting)).to(world.device))
        parts.append(world.tokenizer.encode(video).video.cpu().numpy())
        waiting.clear()

    for clip in frames:
        waiting.append(clip)
        if len(waiting) * len(clip) >= BATCH_FRAMES:
            flush()
    if waiting:
        flush()
    return np.concatenate(parts)
