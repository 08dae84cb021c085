"""Pictures of a data set: a contact sheet of its episodes and histograms of its actions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelworld.data.dataset import Dataset
from reelworld.data.summary import StreamSummary
from reelworld.media import BACKGROUND, contact_sheet, encode_png, enlarge, viewing_scale

TEXT_COLOR, FAINT, BAR = "#1f2328", "#6e7781", "#3b6ea8"
WIDTH, TITLE_HEIGHT, BAR_HEIGHT, PANEL_HEIGHT, PANEL_COLUMNS = 1050, 40, 30, 190, 4
MAX_BARS = 40
"""Discrete actions that get a bar: the most frequent ones."""
MAX_PANELS = 16
"""Continuous dimensions that get a panel; the title counts the others."""
TILE, MAX_TILE = 128, 256
"""Pixels of a frame's shorter side after enlargement, and of its longer side after reduction."""


def episode_sheet(dataset: Dataset, n_episodes: int = 6, n_frames: int = 8) -> bytes:
    """Draw frames of some episodes, one row per episode, evenly spaced from its first frame to its last.

    Returns:
        A png; the episodes are spread over the data set, their labels name episode, split and length.
    """
    tiles, labels = [], []
    for number in np.unique(np.linspace(0, len(dataset.episodes) - 1, n_episodes).round().astype(int)).tolist():
        episode = dataset.episodes[number]
        times = np.unique(np.linspace(0, episode.n_frames - 1, n_frames).round().astype(int)).tolist()
        row = [_tile(dataset.arrays(number, t, t + 1)["frames"][0]) for t in times]
        blank = np.full_like(row[0], BACKGROUND)
        tiles += row + [blank] * (n_frames - len(row))
        labels.append(f"{episode.source}   {episode.split}, {episode.n_frames} frames, shown to frame {times[-1]}")
    return encode_png(contact_sheet(np.stack(tiles), n_frames, row_labels=labels))


def _tile(frame: np.ndarray) -> np.ndarray:
    factor = -(-max(frame.shape[:2]) // MAX_TILE)
    return (
        np.asarray(Image.fromarray(frame).reduce(factor)) if factor > 1 else enlarge(frame, viewing_scale(frame, TILE))
    )


def action_histogram(streams: Mapping[str, StreamSummary]) -> bytes:
    """Draw how often each action was taken: bars per id, or one panel per continuous dimension.

    Returns:
        A png.
    """
    parts = []
    for name, stream in streams.items():
        draw = _draw_bars if stream.spec.kind == "discrete" else _draw_panels
        parts.append(np.asarray(draw(f"{name}: {stream.n_steps:,} steps", stream)))
    return encode_png(np.concatenate(parts))


def _canvas(title: str, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (WIDTH, TITLE_HEIGHT + height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((20, TITLE_HEIGHT // 2), title, fill=TEXT_COLOR, font=ImageFont.load_default(20), anchor="lm")
    return image, draw


def _draw_bars(title: str, stream: StreamSummary) -> Image.Image:
    counts = np.array(stream.counts[0])
    names = stream.spec.names or tuple(str(i) for i in range(stream.spec.n))
    ids = np.sort(np.argsort(-counts, kind="stable")[:MAX_BARS])
    percentages = 100 * counts / max(1, stream.n_steps)
    font = ImageFont.load_default(16)
    image, draw = _canvas(title, BAR_HEIGHT * len(ids) + 10)
    left = 40 + min(WIDTH // 3, max(int(draw.textlength(names[i], font)) for i in ids))
    scale = (WIDTH - left - 90) / max(1e-9, percentages.max())
    for row, i in enumerate(ids):
        top, end = TITLE_HEIGHT + BAR_HEIGHT * row, left + scale * percentages[i]
        draw.text((left - 10, top + BAR_HEIGHT // 2), names[i], fill=FAINT, font=font, anchor="rm")
        draw.rectangle((left, top + 4, end, top + BAR_HEIGHT - 5), fill=BAR)
        draw.text((end + 8, top + BAR_HEIGHT // 2), f"{percentages[i]:.1f}%", fill=FAINT, font=font, anchor="lm")
    return image


def _draw_panels(title: str, stream: StreamSummary) -> Image.Image:
    spec, n_panels = stream.spec, min(len(stream.counts), MAX_PANELS)
    more = f", first {MAX_PANELS} of {spec.n} dimensions" if len(stream.counts) > MAX_PANELS else ""
    image, draw = _canvas(title + more, PANEL_HEIGHT * -(-n_panels // PANEL_COLUMNS))
    font, width = ImageFont.load_default(15), WIDTH / PANEL_COLUMNS
    for i in range(n_panels):
        counts = np.array(stream.counts[i])
        low, high = (spec.low[i], spec.high[i]) if spec.low and spec.high else (0.0, float(len(counts)))
        left, right = width * (i % PANEL_COLUMNS) + 20, width * (i % PANEL_COLUMNS + 1) - 20
        top = TITLE_HEIGHT + PANEL_HEIGHT * (i // PANEL_COLUMNS)
        base = top + PANEL_HEIGHT - 35
        draw.text((left, top + 10), spec.names[i] if spec.names else f"dimension {i}", fill=TEXT_COLOR, font=font)
        edges = np.linspace(left, right, len(counts) + 1)
        for start, end, height in zip(edges[:-1], edges[1:], counts / max(1, counts.max()), strict=True):
            if height > 0:
                draw.rectangle((start, base - height * (PANEL_HEIGHT - 80), end - 1, base), fill=BAR)
        draw.line((left, base + 1, right, base + 1), fill=FAINT)
        draw.text((left, base + 6), f"{low:.3g}", fill=FAINT, font=font)
        draw.text((right, base + 6), f"{high if high > low else low + 1:.3g}", fill=FAINT, font=font, anchor="ra")
    return image
