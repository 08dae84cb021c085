"""What a data set looks like: a contact sheet of its episodes and histograms of its actions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reelworld.data.dataset import Dataset
from reelworld.data.summary import StreamSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["action_histogram", "contact_sheet"]

INK, FAINT, BAR = "#1f2328", "#6e7781", "#3b6ea8"
MAX_PANELS = 16
"""Continuous dimensions that get a panel; the title says how many are left out."""


def contact_sheet(dataset: Dataset, n_episodes: int = 6, n_frames: int = 8) -> bytes:
    """Draw frames of some episodes, one row per episode, evenly spaced from its first frame to its last.

    Returns:
        A png; the rows are spread over the data set, their labels name episode, split and length.
    """
    from matplotlib.figure import Figure

    chosen = np.unique(np.linspace(0, len(dataset.episodes) - 1, n_episodes).round().astype(int))
    aspect = dataset.info.height / dataset.info.width
    tile = 1.25 if aspect <= 1 else 1.25 / aspect  # inches wide
    figure = Figure(figsize=(n_frames * tile + 0.2, len(chosen) * (tile * aspect + 0.3) + 0.1), dpi=160)
    grid = figure.add_gridspec(
        *(len(chosen), n_frames), left=0.01, right=0.99, top=1 - 0.28 / figure.get_figheight(), bottom=0.01,
        wspace=0.04, hspace=0.3 / (tile * aspect),
    )  # fmt: skip
    for row, number in enumerate(int(i) for i in chosen):
        episode = dataset.episodes[number]
        times = np.unique(np.linspace(0, episode.n_frames - 1, n_frames).round().astype(int))
        for column, t in enumerate(times):
            axes = figure.add_subplot(grid[row, column])
            frame = dataset.arrays(number, int(t), int(t) + 1)["frames"][0]
            axes.imshow(frame, interpolation="nearest" if max(frame.shape) <= 256 else "antialiased")
            axes.set_axis_off()
            if column == 0:
                label = f"{episode.source}   {episode.split}, {episode.n_frames} frames"
                axes.text(0, 1.03, label, transform=axes.transAxes, fontsize=7, color=INK, va="bottom")
            elif column == n_frames - 1:  # a short episode has no room for it, and no need
                axes.text(
                    1, 1.03, f"to frame {t}", transform=axes.transAxes, fontsize=6, color=FAINT, ha="right", va="bottom"
                )
    return _png(figure)


def action_histogram(streams: Mapping[str, StreamSummary]) -> bytes:
    """Draw how often each action was taken: bars per id, or one panel per continuous dimension.

    Returns:
        A png.
    """
    from matplotlib.figure import Figure

    heights = [_height(s) for s in streams.values()]
    figure = Figure(figsize=(7, sum(heights)), dpi=150, layout="constrained")
    parts = figure.subfigures(len(streams), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (name, stream) in zip(parts, streams.items(), strict=True):
        hidden = len(stream.counts) - MAX_PANELS
        more = (
            f", first {MAX_PANELS} of {stream.spec.n} dimensions"
            if stream.spec.kind == "continuous" and hidden > 0
            else ""
        )
        part.suptitle(f"{name}: {stream.n_steps:,} steps{more}", fontsize=10, color=INK, x=0.02, ha="left")
        if stream.spec.kind == "discrete":
            _bars(part.subplots(), stream)
        else:
            _panels(part, stream)
    return _png(figure)


def _n_panel_rows(stream: StreamSummary) -> int:
    return -(-min(len(stream.counts), MAX_PANELS) // 4)


def _height(stream: StreamSummary) -> float:
    if stream.spec.kind == "discrete":
        return 0.8 + 0.26 * min(stream.spec.n, 40)
    return 0.6 + 1.5 * _n_panel_rows(stream)


def _bars(axes: Axes, stream: StreamSummary) -> None:
    counts = np.array(stream.counts[0])
    names = stream.spec.names or tuple(str(i) for i in range(stream.spec.n))
    if len(counts) > 40:  # a bar per id would be unreadable: the most frequent ones
        top = np.sort(np.argsort(-counts, kind="stable")[:40])
        counts, names = counts[top], tuple(names[i] for i in top)
    shares = 100 * counts / max(1, stream.n_steps)
    places = np.arange(len(counts))
    axes.barh(places, shares, color=BAR, height=0.72)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    for place, share in zip(places, shares, strict=True):
        axes.text(float(share), float(place), f" {share:.1f}%", va="center", fontsize=7.5, color=FAINT)
    axes.set_xticks([])
    _tidy(axes, ("left",))
    axes.tick_params(axis="y", length=0)


def _panels(part: Any, stream: StreamSummary) -> None:
    spec = stream.spec
    shown = min(len(stream.counts), MAX_PANELS)
    grid = part.subplots(_n_panel_rows(stream), 4, squeeze=False)
    for i, axes in enumerate(grid.flat):
        if i >= shown:
            axes.set_axis_off()
            continue
        counts = np.array(stream.counts[i])
        low, high = (spec.low[i], spec.high[i]) if spec.low and spec.high else (0.0, float(len(counts)))
        edges = np.linspace(low, high if high > low else low + 1, len(counts) + 1)
        axes.bar(edges[:-1], counts / max(1, stream.n_steps), width=np.diff(edges), align="edge", color=BAR)
        axes.set_title(spec.names[i] if spec.names else f"dimension {i}", fontsize=8, color=INK, loc="left")
        axes.set_xticks([edges[0], edges[-1]], [f"{edges[0]:.3g}", f"{edges[-1]:.3g}"])
        axes.set_yticks([])
        _tidy(axes, ("bottom",))


def _tidy(axes: Axes, kept: tuple[str, ...]) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side in kept)
        spine.set_color("#d0d7de")
    axes.tick_params(labelsize=7.5, colors=FAINT, color="#d0d7de")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()
