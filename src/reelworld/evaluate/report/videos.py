"""Videos of the report: rollouts next to the recording, and several futures of one start.

Shapes: T frames, S steps, K samples, H W pixel rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelworld.evaluate.metrics import psnr, squared_error
from reelworld.evaluate.report.values import decibels
from reelworld.evaluate.samples import Starts
from reelworld.media import encode_gif, encode_mp4, side_by_side, viewing_scale, write_file
from reelworld.types import Clip

PANEL_PIXELS = 192
SMALL_PANEL_PIXELS = 128
PAPER = (24, 27, 34)
SHOWN_SAMPLES = 4
COLUMNS = 3
N_ROLLOUTS, N_STARTS = 6, 4
"""Videos of each kind in the report."""

Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Recorded and predicted frames, uint8 (..., H, W, 3) -> True for each that is right, bool (...)."""


@dataclass(frozen=True)
class RolloutVideo:
    """A rollout and the recording."""

    source: str
    actual: np.ndarray
    """uint8, (T, H, W, 3): context and recorded future."""
    predicted: np.ndarray
    """uint8, (T, H, W, 3): the same context and the world's own future."""
    context: int
    """Number of context frames, common to both."""
    frames_right: float | None
    """Fraction of the world's own frames with every tile right; None where frames are not drawn from tiles."""
    open_ended: bool = False
    """The world takes no actions: its future is one of many, and its difference from the recording is not shown."""

    def frames(self) -> np.ndarray:
        """Draw recording | world | difference, uint8 (T, H', W', 3).

        The world's panel is marked while the context lasts. The difference is left out where the future is open.
        """
        difference = np.abs(self.actual.astype(np.int16) - self.predicted).astype(np.uint8)
        scale = viewing_scale(self.actual, PANEL_PIXELS)
        parts = []
        for span, name in (
            (slice(0, self.context), "world (frames given)"),
            (slice(self.context, None), "world"),
        ):
            panels = {"recording": self.actual[span], name: self.predicted[span]}
            parts.append(side_by_side(panels if self.open_ended else {**panels, "difference": difference[span]}, scale))
        return np.concatenate(parts)

    def caption(self) -> str:
        """Describe the rollout in the measure that fits: tiles where frames are drawn from them, else PSNR."""
        actual, predicted = self.actual[self.context :], self.predicted[self.context :]
        steps = f"{self.source}: {len(actual)} step{'' if len(actual) == 1 else 's'} on its own"
        if self.frames_right is not None:
            n_right = round(self.frames_right * len(actual))
            frames = "every frame" if n_right == len(actual) else f"{n_right} of {len(actual)} frames"
            return f"{steps}, all tiles right in {frames}"
        if np.array_equal(actual, predicted):
            return f"{steps}, every pixel right"
        still = np.broadcast_to(self.actual[self.context - 1], actual.shape)
        closeness, beside = (decibels(psnr(actual, other)) for other in (predicted, still))
        return f"{steps}, PSNR {closeness} (repeating the last frame given: {beside})"


@dataclass(frozen=True)
class SamplesVideo:
    """Several futures of one start beside the recorded one."""

    source: str
    context: np.ndarray
    """uint8, (T, H, W, 3): the common context frames."""
    actual: np.ndarray
    """uint8, (S, H, W, 3)."""
    samples: np.ndarray
    """uint8, (K, S, H, W, 3)."""

    def frames(self) -> np.ndarray:
        """Draw recording | mean of all samples | four samples, three to a row, uint8 (T, H', W', 3)."""
        mean = np.rint(self.samples.mean(0, dtype=np.float32)).astype(np.uint8)
        shown = self.samples[:SHOWN_SAMPLES]
        scale = viewing_scale(self.actual, SMALL_PANEL_PIXELS)
        names = [f"mean of {len(self.samples)}", *(f"sample {i + 1}" for i in range(len(shown)))]
        parts = []
        for is_given in (True, False):
            labels = ["recording", *(f"{name} (given)" if is_given else name for name in names)]
            clips = [self.context] * len(labels) if is_given else [self.actual, mean, *shown]
            panels = list(zip(labels, clips, strict=True))
            rows = [side_by_side(dict(panels[i : i + COLUMNS]), scale) for i in range(0, len(panels), COLUMNS)]
            parts.append(np.concatenate([_widened(row, rows[0].shape[2]) for row in rows], 1))
        return np.concatenate(parts)

    def caption(self) -> str:
        """Return the PSNR of the samples' mean at the end, and that of repeating the last given frame."""
        last, mean = self.actual[-1], self.samples[:, -1].mean(0, dtype=np.float32)
        n, steps = len(self.samples), len(self.actual)
        closeness, beside = (decibels(psnr(last, other)) for other in (mean, self.context[-1]))
        return (
            f"{self.source}: {n} futures of {steps} step{'' if steps == 1 else 's'}; at the end their mean has PSNR "
            f"{closeness} (repeating the last frame given: {beside})"
        )


@dataclass(frozen=True)
class Videos:
    """All videos of a report."""

    rollouts: Sequence[RolloutVideo] = ()
    samples: Sequence[SamplesVideo] = ()


def choose_rollouts(
    clips: Sequence[Clip], starts: Starts, predicted: np.ndarray, judge: Judge | None, open_ended: bool
) -> Videos:
    """Choose rollouts: the longest clips, from the worst to the best."""
    error = [np.abs(starts.future[i, v].astype(np.int16) - predicted[i, v]).mean() for i, v in enumerate(starts.valid)]
    lengths = starts.valid.sum(1)
    longest = [i for i in np.argsort(-lengths, kind="stable").tolist() if lengths[i] >= 0.5 * lengths.max()]
    videos = []
    for i in _evenly(sorted(longest, key=lambda i: -error[i]), N_ROLLOUTS):
        valid = starts.valid[i]
        right = None if judge is None else float(judge(starts.future[i], predicted[i])[valid].mean())
        videos.append(
            RolloutVideo(
                source=clips[i].source,
                actual=np.concatenate([starts.context[i], starts.future[i, valid]]),
                predicted=np.concatenate([starts.context[i], predicted[i, valid]]),
                context=starts.context.shape[1],
                frames_right=right,
                open_ended=open_ended,
            )
        )
    return Videos(rollouts=videos)


def choose_samples(clips: Sequence[Clip], starts: Starts, samples: np.ndarray) -> Videos:
    """Choose starts, from the one whose samples' mean gains least over the last frame to the one that gains most."""
    complete = np.flatnonzero(starts.valid.all(1))
    mean = samples[complete].mean(1, dtype=np.float32)
    still = np.broadcast_to(starts.context[complete][:, -1:], mean.shape)
    actual = starts.future[complete]
    gain = (squared_error(actual, still) - squared_error(actual, mean)).mean(1)
    ranked = complete[np.argsort(gain, kind="stable")].tolist()
    return Videos(
        samples=[
            SamplesVideo(clips[starts.clip[i]].source, starts.context[i], starts.future[i], samples[i])
            for i in _evenly(ranked, N_STARTS)
        ]
    )


def encode_videos(videos: Sequence[RolloutVideo] | Sequence[SamplesVideo], fps: float) -> list[tuple[str, bytes]]:
    """Return (caption, mp4) for each video."""
    return [(video.caption(), encode_mp4(video.frames(), fps)) for video in videos]


def write_videos(videos: Videos, fps: float, folder: Path) -> list[Path]:
    """Write every video as mp4 and gif; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"world_beside_recording_{i}": video.frames() for i, video in enumerate(videos.rollouts)}
    named |= {f"futures_{i}": video.frames() for i, video in enumerate(videos.samples)}
    written = []
    for name, frames in named.items():
        for suffix, encode in ((".mp4", encode_mp4), (".gif", encode_gif)):
            path = folder / f"{name}{suffix}"
            write_file(path, encode(frames, fps))
            written.append(path)
    return written


def _widened(frames: np.ndarray, width: int) -> np.ndarray:
    """Fill a row of panels up to a width."""
    empty = np.full((*frames.shape[:2], width - frames.shape[2], 3), PAPER, np.uint8)
    return np.concatenate([frames, empty], 2)


def _evenly(ranked: Sequence[int], n: int) -> list[int]:
    """Pick at most n of a list, evenly spread, both ends included."""
    picks = sorted({round(x) for x in np.linspace(0, len(ranked) - 1, min(n, len(ranked)))})
    return [ranked[p] for p in picks]
