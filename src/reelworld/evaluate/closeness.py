"""How close predicted clips come to recorded ones, counted by the honest protocol or by the published one.

Both begin at the same frames and draw several futures of each start. The honest one looks at future frames only and
takes the mean over all samples. The published one counts context frames too, as the tokenizer rebuilds them, and keeps
for each clip and each measure the best of its samples, chosen knowing the answer.

Source: the published one is that of iVideoGPT (Wu et al. 2024, arXiv:2405.15223, appendix A.3, and its code). Differs:
frames are rounded to 8 bits before they are compared, and there is an interval over clips.

Shapes: n starts, K samples, T frames, F future frames, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from reelworld.evaluate import metrics
from reelworld.evaluate.clips import clip_frames_of, given_frames
from reelworld.evaluate.figures import Figure, Section, build, db, per_clip, psnr_figure, ratio_figure
from reelworld.evaluate.prediction import COPY
from reelworld.evaluate.published import published_beside
from reelworld.evaluate.reconstruction import reconstruct

if TYPE_CHECKING:
    from reelworld.evaluate.clips import Starts
    from reelworld.nn.perceptual import LPIPS
    from reelworld.worlds.world import World

__all__ = ["CLIP_FRAMES", "Compared", "Protocol", "closeness_section", "collate", "future_frames"]

Protocol = Literal["honest", "published"]

CLIP_FRAMES = 16
"""Length of the clips that are compared, where a world has no window of its own."""
FLOOR = 1e-8 * 255**2
"""Added to squared errors before they become dB, as the published code does: no frame counts for more than 80 dB."""


@dataclass(frozen=True)
class Compared:
    """Clips of one length, as a protocol compares them; only starts that hold all of one."""

    clip: np.ndarray
    """int64, (n,): which recording each is from."""
    true: np.ndarray
    """uint8, (n, T, H, W, 3)."""
    made: np.ndarray
    """uint8, (n, K, T, H, W, 3)."""
    copied: np.ndarray
    """uint8, (n, 1, T, H, W, 3): the last frame seen, in place of every predicted one."""


def future_frames(world: World) -> int:
    """Return how many frames after the context are compared: as many as fill the world's own window."""
    spec = world.tokenizer.spec(1, world.info.height, world.info.width)
    window = int(world.dynamics.config.frames) if spec.context_frames else clip_frames_of(world) or CLIP_FRAMES
    return max(1, window - given_frames(world))


def collate(world: World, starts: Starts, samples: np.ndarray, protocol: Protocol) -> Compared:
    """Make the clips that a protocol compares.

    Args:
        world: Its tokenizer rebuilds the context where that counts; one that codes whole clips gives it back as it was.
        starts: Where the samples began, with the recorded future.
        samples: uint8, (n, K, S, H, W, 3).
        protocol: What counts.
    """
    n_frames = min(future_frames(world), samples.shape[2])
    complete = starts.valid[:, :n_frames].all(1)
    true, made = starts.future[complete, :n_frames], samples[complete, :, :n_frames]
    context = starts.context[complete]
    copied = np.broadcast_to(context[:, None, -1:], (len(true), 1, *true.shape[1:]))
    if protocol == "published":
        shown = context if clip_frames_of(world) else _rebuilt(world, context, true)
        made, copied = _behind(shown, made), _behind(shown, copied)
        true = np.concatenate([context, true], 1)
    return Compared(clip=starts.clip[complete], true=true, made=made, copied=copied)


def _rebuilt(world: World, context: np.ndarray, future: np.ndarray) -> np.ndarray:
    """Put the context through the tokenizer, uint8 (n, T, H, W, 3); what follows it is needed for its length only."""
    clips = np.concatenate([context, future], 1)
    n_context = context.shape[1]
    return np.stack([reconstruct(world, clip)[:n_context] for clip in clips]) if len(clips) else context


def _behind(context: np.ndarray, futures: np.ndarray) -> np.ndarray:
    """Set (n, K, F, H, W, 3) behind the context that all share, (n, T, H, W, 3)."""
    shared = np.broadcast_to(context[:, None], (*futures.shape[:2], *context.shape[1:]))
    return np.concatenate([shared, futures], 2)


def closeness_section(world: World, clips: Compared, protocol: Protocol, network: LPIPS | None, seed: int) -> Section:
    """Turn clips into figures: PSNR, SSIM, and LPIPS where its weights are at hand.

    Args:
        world: Whose clips they are; published numbers are those of worlds like it.
        clips: What is compared.
        protocol: Whether all samples count or the best one.
        network: Weights of LPIPS.
        seed: Of the bootstrap.
    """
    n, n_samples = clips.made.shape[:2]
    n_clips = len(np.unique(clips.clip))
    figures: tuple[Figure, ...] = (_too_short(future_frames(world) + given_frames(world)),)
    if n:
        made, copied = (_scores(clips.true, some, network) for some in (clips.made, clips.copied))
        count = _honest if protocol == "honest" else _published
        figures = tuple(count(made, copied, clips.clip, seed))
    if protocol == "published":
        counts = (clips.true.shape[1], n_clips, n_samples)
        figures = tuple(_with_published(world, figure, counts) for figure in figures)
        if network is None:
            figures += (build("lpips_missing", (np.nan,) * 3, unit="", n=0, trials="clips", n_clips=0),)
    return Section(
        name="closeness",
        label="How close do its clips come?",
        explanation=HOW[protocol].format(context=given_frames(world), future=clips.made.shape[2], k=n_samples),
        figures=figures,
    )


HOW = {
    "honest": "From each start {k} futures are drawn. Only their {future} future frames count, and every sample does: "
    "each figure is the mean over all of them.",
    "published": "As papers count, for comparison with their numbers: clips of {future} frames, the {context} given "
    "ones included as the tokenizer rebuilds them, and of {k} samples the best for each clip and each measure, chosen "
    "knowing the answer. This says what samples can reach; the honest protocol says what to expect.",
}


def _too_short(n_frames: int) -> Figure:
    return build("clips_missing", (np.nan,) * 3, unit="", n=0, trials="clips", n_clips=0, frames=str(n_frames))


def _scores(true: np.ndarray, made: np.ndarray, network: LPIPS | None) -> dict[str, np.ndarray]:
    """Return each frame's squared error, SSIM and LPIPS, float64 (n, K, T)."""
    scores: dict[str, list[np.ndarray]] = {"error": [], "ssim": []}
    if network is not None:
        scores["lpips"] = []
    for clip, samples in zip(true, made, strict=True):  # one start at a time: there may be a hundred samples of each
        flat = np.array(samples).reshape(-1, *clip.shape[1:])
        wanted = np.tile(clip, (len(samples), 1, 1, 1))
        scores["error"].append(metrics.squared_error(flat, wanted).reshape(samples.shape[:2]))
        scores["ssim"].append(metrics.inner_ssim(flat, wanted).reshape(samples.shape[:2]))
        if network is not None:
            scores["lpips"].append(metrics.lpips(flat, wanted, network).reshape(samples.shape[:2]))
    return {name: np.stack(rows) for name, rows in scores.items()}


def _honest(
    made: Mapping[str, np.ndarray], copied: Mapping[str, np.ndarray], clip: np.ndarray, seed: int
) -> list[Figure]:
    """Take means over starts, samples and frames."""
    n_clips, n_samples = int(clip.max()) + 1, made["error"].shape[1]
    count = per_clip(np.ones_like(made["error"]), clip, n_clips)
    figures = []
    for name, values in made.items():
        sums, beside = per_clip(values, clip, n_clips), float(copied[name].mean())
        words = {"k": str(n_samples)}
        if name == "error":
            copy = {COPY: float(db(beside))}
            figures.append(psnr_figure("clip_psnr", sums, count, "future frames", seed, copy, **words))
        else:
            copy = {COPY: beside}
            figures.append(ratio_figure(f"clip_{name}", sums, count, "future frames", "", seed, copy, **words))
    return figures


def _published(
    made: Mapping[str, np.ndarray], copied: Mapping[str, np.ndarray], clip: np.ndarray, seed: int
) -> list[Figure]:
    """Take the mean over frames, then the best sample, then the mean over clips."""
    n_clips, n_samples = int(clip.max()) + 1, made["error"].shape[1]
    count = per_clip(np.ones(len(clip)), clip, n_clips)
    figures = []
    for name, values in made.items():
        best = per_clip(_best(name, values), clip, n_clips)
        beside, words = {COPY: float(_best(name, copied[name]).mean())}, {"k": str(n_samples)}
        if name == "error":
            figures.append(ratio_figure("best_psnr", best, count, "starts", "dB", seed, beside, **words))
        else:
            figures.append(ratio_figure(f"best_{name}", best, count, "starts", "", seed, beside, **words))
    return figures


def _best(name: str, values: np.ndarray) -> np.ndarray:
    """Return the best sample's mean over frames, (n,), of each frame's value, (n, K, T)."""
    if name == "lpips":
        return values.mean(2).min(1)
    return (db(values + FLOOR) if name == "error" else values).mean(2).max(1)


def _with_published(world: World, figure: Figure, counts: tuple[int, int, int]) -> Figure:
    return replace(figure, baselines={**figure.baselines, **published_beside(world, figure.name, *counts)})
