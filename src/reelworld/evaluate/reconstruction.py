"""How well the tokenizer keeps a picture, and what its codes do: nothing is predicted here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from reelworld.evaluate import metrics
from reelworld.evaluate.figures import (
    Figure,
    Section,
    bootstrap,
    build,
    db,
    per_clip,
    psnr_figure,
    ratio_figure,
    share_figure,
)
from reelworld.nn.pixels import to_float, to_uint8

if TYPE_CHECKING:
    from reelworld.evaluate.tiles import TileAtlas
    from reelworld.types import Clip, TokenSpec
    from reelworld.worlds.world import World

__all__ = ["encode_frames", "measure_tokenizer", "reconstruct"]

CHUNK_FRAMES = 64
WHOLE_CLIPS = 2
"""Of each recording, where whole clips are coded."""
MEAN_COLOUR = "mean colour of each 8x8 patch"


@torch.inference_mode()
def encode_frames(world: World, frames: np.ndarray) -> np.ndarray:
    """Return the codes of a clip, int64 (P, N): all grids and factors of a latent frame side by side.

    Frames that do not fill a latent frame are dropped; with a tokenizer that codes whole clips, those that do not
    fill one (P may then be 0). Where frames are the context of all others, codes are those of the others.
    """
    parts, n_context = [], world.tokenizer.spec(1, *frames.shape[1:3]).context_frames
    for chunk in _chunks(world, frames):
        codes = world.tokenizer.encode(chunk)
        grids = [codes.video[:, n_context:]] if n_context else codes.grids.values()
        parts.append(torch.cat([g.flatten(0, 1).flatten(1) for g in grids], 1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.int64)


@torch.inference_mode()
def reconstruct(world: World, frames: np.ndarray) -> np.ndarray:
    """Encode and decode a clip, uint8 (T, H, W, 3); frames at its end are dropped as in ``encode_frames``."""
    parts = [frames[:0]]
    for chunk in _chunks(world, frames):
        video = world.tokenizer.decode(world.tokenizer.encode(chunk))
        parts.append(to_uint8(video).flatten(0, 1).cpu().numpy())
    return np.concatenate(parts)


def _chunks(world: World, frames: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield stretches of a clip as video, float in [-1, 1], (1, T, H, W, 3), or several whole clips (B, T, H, W, 3)."""
    spec = world.tokenizer.spec(len(frames), *frames.shape[1:3])
    if spec.context_frames:  # a context, and the other frames of a window
        size = int(world.dynamics.config.frames)
        for i in range(0, len(frames) - spec.context_frames, size):
            yield to_float(torch.from_numpy(frames[i : i + size].copy()).to(world.device))[None]
        return
    together = spec.clip_frames or spec.time_stride
    usable = len(frames) // together * together
    size = max(1, CHUNK_FRAMES // spec.clip_frames) * together if spec.clip_frames else CHUNK_FRAMES * together
    for i in range(0, usable, size):
        chunk = np.ascontiguousarray(frames[i : min(i + size, usable)])
        video = to_float(torch.from_numpy(chunk).to(world.device))
        yield video.unflatten(0, (-1, spec.clip_frames or len(chunk)))


def measure_tokenizer(world: World, clips: Sequence[Clip], atlas: TileAtlas | None, seed: int) -> Section:
    """Measure reconstruction and codes on clips.

    Args:
        world: Its tokenizer is measured.
        clips: Held-out clips.
        atlas: Tiles of the training split, for worlds drawn from tiles.
        seed: Of the bootstrap.
    """
    spec = world.tokenizer.spec(len(clips[0].frames), *clips[0].frames.shape[1:3])
    most = WHOLE_CLIPS * spec.clip_frames or CHUNK_FRAMES
    decoded = [reconstruct(world, c.frames[:most]) for c in clips]
    true = [c.frames[: len(d)] for c, d in zip(clips, decoded, strict=True)]
    clip = np.repeat(np.arange(len(clips)), [len(d) for d in decoded])
    frames, result = np.concatenate(true), np.concatenate(decoded)
    figures = _pixel_figures(frames, result, clip, seed)
    if atlas is not None:
        figures += _tile_figures(atlas, frames, result, clip, seed)
    figures += _code_figures(world, true, spec, seed)
    what = "each frame into a few codes and back. Held-out frames are"
    if spec.clip_frames:
        what = (
            f"{spec.clip_frames} frames together into a few codes and back; frames after the last whole clip are left "
            f"out, and at most {WHOLE_CLIPS} are taken of each recording. Held-out frames are"
        )
    if spec.context_frames:
        what = (
            f"the first {spec.context_frames} frames of a window into many codes, each later one into few, and back; "
            "codes are counted for later frames. Held-out frames of both kinds are"
        )
    return Section(
        name="tokenizer",
        label="Does the picture survive?",
        explanation=f"The tokenizer turns {what} compared with themselves after that round trip; nothing is predicted "
        "yet.",
        figures=tuple(figures),
    )


def _pixel_figures(frames: np.ndarray, result: np.ndarray, clip: np.ndarray, seed: int) -> list[Figure]:
    n_clips = int(clip.max()) + 1
    plain = metrics.patch_means(frames)
    plain_psnr = float(db(metrics.squared_error(frames, plain).mean()))
    plain_ssim = float(metrics.ssim(frames[::16], plain[::16]).mean())
    error = per_clip(metrics.squared_error(frames, result), clip, n_clips)
    # neighbouring frames are alike and SSIM is slow: every fourth frame carries its figure
    some = slice(None, None, 4)
    similarity = per_clip(metrics.ssim(frames[some], result[some]), clip[some], n_clips)
    n_frames = per_clip(np.ones(len(frames)), clip, n_clips)
    n_some = per_clip(np.ones(len(frames[some])), clip[some], n_clips)
    return [
        psnr_figure("tokenizer_psnr", error, n_frames, seed=seed, baselines={MEAN_COLOUR: plain_psnr}),
        ratio_figure("tokenizer_ssim", similarity, n_some, "frames", "", seed, baselines={MEAN_COLOUR: plain_ssim}),
        _worst_patch(frames, result, plain, clip, seed),
    ]


def _worst_patch(frames: np.ndarray, result: np.ndarray, plain: np.ndarray, clip: np.ndarray, seed: int) -> Figure:
    error = metrics.worst_patch_error(frames, result)
    order = np.argsort(error)
    n_clips = int(clip.max()) + 1

    def percentile(weights: np.ndarray) -> np.ndarray:
        mass = np.cumsum(weights[..., clip[order]], -1)
        return db(error[order][(mass >= 0.95 * mass[..., -1:]).argmax(-1)])

    # each clip is a unit weight in a column of its own, so totals say how often each clip was drawn
    interval = bootstrap(np.eye(n_clips), percentile, seed, n_resamples=300)
    baseline = float(db(np.quantile(metrics.worst_patch_error(frames, plain), 0.95)))
    return build(
        "tokenizer_worst_patch_psnr",
        interval,
        unit="dB",
        n=len(frames),
        trials="frames",
        n_clips=n_clips,
        baselines={MEAN_COLOUR: baseline},
    )


def _tile_figures(
    atlas: TileAtlas, frames: np.ndarray, result: np.ndarray, clip: np.ndarray, seed: int
) -> list[Figure]:
    n_clips = int(clip.max()) + 1
    true = atlas.true_ids(frames)
    right = true == atlas.nearest_ids(result)
    common = float((true == np.bincount(true[true >= 0]).argmax()).mean())
    # per clip and kind: was it there, was it ever wrong
    shown = np.zeros((n_clips, len(atlas.tiles)), bool)
    wrong = shown.copy()
    at = np.broadcast_to(clip[:, None, None], true.shape)
    known = true >= 0
    shown[at[known], true[known]] = True
    wrong[at[known & ~right], true[known & ~right]] = True

    def whole_kinds(totals: np.ndarray) -> np.ndarray:
        there, failed = np.split(totals, 2, axis=-1)
        return ((there > 0) & (failed == 0)).sum(-1) / (there > 0).sum(-1)

    kinds = bootstrap(np.concatenate([shown, wrong], 1), whole_kinds, seed)
    tiles = per_clip(np.full(right.shape, 1.0), clip, n_clips)
    return [
        share_figure(
            "tokenizer_tiles_right",
            per_clip(right, clip, n_clips),
            tiles,
            "tiles",
            seed,
            baselines={"the most common tile everywhere": common},
        ),
        build(
            "tokenizer_kinds_right",
            kinds,
            unit="share",
            n=int(shown.any(0).sum()),
            trials="kinds of tile",
            n_clips=n_clips,
        ),
    ]


def _code_figures(world: World, clips: Sequence[np.ndarray], spec: TokenSpec, seed: int) -> list[Figure]:
    size = spec.video.codebook_size if spec.context_frames else next(iter(spec.grids.values())).codebook_size
    if not size:
        return []
    codes = [encode_frames(world, frames) for frames in clips]
    counts = np.stack([np.bincount(c.reshape(-1), minlength=size) for c in codes]).astype(np.float64)

    def perplexity(totals: np.ndarray) -> np.ndarray:
        shares = totals / totals.sum(-1, keepdims=True)
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        return np.exp(-(shares * logs).sum(-1))

    # resampled clips always show fewer distinct codes than all clips do, so usage has no bootstrap interval
    usage = (float((counts.sum(0) > 0).mean()), math.nan, math.nan)
    spread = bootstrap(counts, perplexity, seed, n_resamples=300)
    stride = spec.time_stride
    together = spec.clip_frames // stride
    if spec.context_frames:
        together = int(world.dynamics.config.frames) - spec.context_frames
    stays = [_stays(c, together) for c in codes]
    same, pairs = (np.array([f(x) for x in stays]) for f in (np.sum, np.size))
    still = [metrics.patches_equal(f[stride:], f[:-stride]).mean() for f in clips if len(f) > stride]
    over = f" over {stride} frames" if stride > 1 else ""
    n, n_clips = int(counts.sum()), len(clips)
    return [
        build("codebook_usage", usage, unit="share", n=n, trials="codes", n_clips=n_clips),
        build(
            "codebook_perplexity",
            spread,
            unit="codes",
            n=n,
            trials="codes",
            n_clips=n_clips,
            baselines={"size of the codebook": float(size)},
        ),
        share_figure(
            "codes_unchanged",
            same,
            pairs,
            "codes",
            seed,
            baselines={f"8x8 patches whose pixels stay{over}": float(np.mean(still))},
        ),
    ]


def _stays(codes: np.ndarray, n_together: int) -> np.ndarray:
    """Say which codes (P, N) are those of the latent frame before; not from one whole clip to the next."""
    same: np.ndarray = codes[1:] == codes[:-1]
    if not n_together:
        return same
    return same[(np.arange(len(same)) + 1) % n_together != 0]
