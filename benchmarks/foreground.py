"""What a tokenizer keeps of the foreground of a recording, beside a table of its most frequent patches.

    reelworld train pocket --data recording --out runs/mine --threads 1
    python benchmarks/foreground.py runs/mine/world recording test-recording --name Crafter --out result.json

Foreground are the pixels that differ from the recording's median picture by more than 30. The table has the 1,000 most
frequent 8x8 patches of training frames; a test patch becomes the nearest of them. Free runs of 30 steps take the
recorded actions; they are beside a copy of their first frame.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from harness import flags, keep
from small_objects import free_runs, tokenized

from reelworld.data.foreground import THRESHOLD, compare_foreground, median_picture
from reelworld.evaluate.metrics import bootstrap, per_clip, psnr, ratio
from reelworld.evaluate.protocol import open_like
from reelworld.models.parts import take
from reelworld.nn.pixels import to_float, to_uint8
from reelworld.systems.pocket.patch_pool import PatchPool
from reelworld.systems.pocket.tokenizer import PatchTokenizer
from reelworld.worlds.world import World

TABLE = 1000


@torch.inference_mode()
def by_table(tokenizer: PatchTokenizer, pool: PatchPool, frames: np.ndarray) -> np.ndarray:
    """Replace each patch by the nearest of the most frequent ones."""
    table = copy.deepcopy(tokenizer)
    table.use_table(pool.patches[np.argsort(-np.asarray(pool.counts), kind="stable")[:TABLE]])
    video = to_float(torch.from_numpy(frames))[None]
    return to_uint8(table.decode(table.encode(video)))[0].numpy()


def figures(frames: np.ndarray, copies: np.ndarray, median: np.ndarray, episode: np.ndarray) -> dict[str, object]:
    found = compare_foreground(frames, copies, median)
    some = found.has_any
    n = int(episode.max()) + 1
    totals = np.stack([per_clip(v, episode[some], n) for v in (found.kept[some], np.ones(some.sum()))], -1)
    kept = bootstrap(totals[totals[:, 1] > 0], ratio)
    return {
        "kept": dict(zip(("value", "low", "high"), kept, strict=True)),
        "psnr": found.psnr,
        "frame_psnr": psnr(frames, copies),
    }


def main() -> None:
    parser = flags(__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("data", type=Path, help="the recording that was trained on")
    parser.add_argument("test", type=Path, help="test recording of fresh seeds")
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    world = World.load(arguments.world)
    dataset, test = open_like(world, arguments.data), open_like(world, arguments.test)
    tokenizer = take(world.model.parts, "tokenizer", PatchTokenizer)
    clips = [test.read(i).frames for i in test.indices("all")]
    frames, episode = np.concatenate(clips), np.repeat(np.arange(len(clips)), [len(c) for c in clips])
    median = median_picture(np.concatenate([dataset.read(i).frames[::7] for i in dataset.indices("train")]))
    recorded, made = free_runs(world, test)
    ahead, still = recorded[:, 1:], np.repeat(recorded[:, :1], recorded.shape[1] - 1, 1)
    flat = (-1, *frames.shape[1:])
    run = np.repeat(np.arange(len(ahead)), ahead.shape[1])
    stages = world.info.provenance["training"]["stages"]  # type: ignore[index,call-overload]
    keep(
        "foreground",
        arguments.out,
        name=arguments.name,
        seeds=[0],
        threshold=THRESHOLD,
        training_minutes={k: v["minutes"] for k, v in stages.items()},
        uses_table=bool(tokenizer.config.uses_table),
        n_test_frames=len(frames),
        foreground_fraction=float(compare_foreground(frames, frames, median).fraction.mean()),
        tokenizer=figures(frames, tokenized(world, frames), median, episode),
        table=figures(
            frames, by_table(tokenizer, PatchPool.of(dataset, tokenizer.config.patch), frames), median, episode
        ),
        free_run=figures(ahead.reshape(flat), made[:, 1:].reshape(flat), median, run),
        copy_of_the_first_frame=figures(ahead.reshape(flat), still.reshape(flat), median, run),
    )


if __name__ == "__main__":
    sys.exit(main())
