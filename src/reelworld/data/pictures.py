"""Pictures of a data set: a contact sheet, a strip of frames and actions, histograms of actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelworld.data.dataset import Dataset
from reelworld.data.resize import crop_box, cropped_fraction
from reelworld.data.summary import StreamSummary
from reelworld.media import BACKGROUND, contact_sheet, encode_png, enlarge, viewing_scale, with_label
from reelworld.types import ActionSpec

TEXT_COLOR, FAINT, BAR = "#1f2328", "#6e7781", "#3b6ea8"
WIDTH, TITLE_HEIGHT, BAR_HEIGHT, PANEL_HEIGHT, PANEL_COLUMNS = 1050, 40, 30, 190, 4
MAX_BARS = 40
"""Discrete actions that get a bar: the most frequent ones."""
MAX_PANELS = 16
"""Continuous dimensions that get a panel; the title counts the others."""
GAP_WIDTH = 104
"""Pixels between two frames of a strip, for the action."""
TILE, MAX_TILE = 128, 256
"""Pixels of a frame's shorter side after enlargement, and of its longer side after reduction."""


def episode_sheet(
    dataset: Dataset, n_episodes: int = 6, n_frames: int = 8, uncropped: np.ndarray | None = None
) -> bytes:
    """Draw frames of some episodes, one row per episode, evenly spaced from its first frame to its last.

    Args:
        dataset: Data set to draw.
        n_episodes: Rows.
        n_frames: Frames per row.
        uncropped: Frame before it was cropped, uint8 (H, W, 3); shown above with the part that was left out.

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
    sheet = contact_sheet(np.stack(tiles), n_frames, row_labels=labels)
    if uncropped is not None:
        size = (dataset.info.height, dataset.info.width)
        sheet = np.concatenate([_crop_row(uncropped, size, sheet.shape[1]), sheet])
    return encode_png(sheet)


def action_strip(dataset: Dataset, n_rows: int = 4, n_frames: int = 6) -> bytes:
    """Draw the first frames of some episodes with the action between two frames that leads from one to the next.

    An episode starts at its first frame, or shortly before the first change of its actions where that comes late.

    Returns:
        A png.
    """
    font = ImageFont.load_default(13)
    strips = []
    for number in np.unique(np.linspace(0, len(dataset.episodes) - 1, n_rows).round().astype(int)).tolist():
        episode = dataset.episodes[number]
        rows = dataset.steps(number)
        start = _first_change({name: rows[f"actions/{name}"] for name in dataset.info.actions}, n_frames)
        stop = min(episode.n_frames, start + n_frames)
        clip = dataset.read(number, start, stop)
        tiles = [_tile(frame) for frame in clip.frames]
        height, width = tiles[0].shape[:2]
        strip = Image.new("RGB", (n_frames * width + (n_frames - 1) * GAP_WIDTH, height + 24), "white")
        draw = ImageDraw.Draw(strip)
        draw.text((0, 4), f"{episode.source}   frames {start} to {stop - 1}", fill=FAINT, font=font)
        for i, tile in enumerate(tiles):
            left = i * (width + GAP_WIDTH)
            strip.paste(Image.fromarray(tile), (left, 24))
            if i + 1 < len(tiles):
                middle, y = left + width + GAP_WIDTH // 2, 24 + height // 2
                lines = [
                    line
                    for name, spec in dataset.info.actions.items()
                    for line in _action_lines(clip.actions[name][i], spec)
                ]
                draw.multiline_text(
                    (middle, y - 14), "\n".join(lines[:8]), fill=TEXT_COLOR, font=font, anchor="md", align="center"
                )
                draw.line((middle - 20, y, middle + 14, y), fill=BAR, width=3)
                draw.polygon([(middle + 12, y - 6), (middle + 22, y), (middle + 12, y + 6)], fill=BAR)
        strips.append(np.asarray(strip))
    return encode_png(np.concatenate(strips))


def _first_change(streams: Mapping[str, np.ndarray], n_frames: int) -> int:
    """Return the frame at which a strip begins: 0, or two steps before the first change of an action."""
    changes = [
        np.flatnonzero((rows[1:-1] != rows[:-2]).reshape(len(rows) - 2, -1).any(1))
        for rows in streams.values()
        if len(rows) > 2
    ]
    first = min((int(c[0]) for c in changes if len(c)), default=0)
    return 0 if first < n_frames - 2 else first - 1


def _action_lines(action: np.ndarray, spec: ActionSpec) -> list[str]:
    """Format one action: the id's name, the held buttons, or the numbers."""
    if spec.repeat > 1:
        return [" ".join(_action_lines(a, replace(spec, repeat=1))) for a in action]
    if spec.kind == "discrete":
        return [spec.names[int(action)] if spec.names else str(int(action))]
    names = spec.names or tuple(str(i) for i in range(spec.n))
    if spec.kind == "buttons":
        return [name for name, value in zip(names, action, strict=True) if value] or ["none"]
    return [
        f"{name} {value:+.2g}" if spec.names else f"{value:+.2g}" for name, value in zip(names, action, strict=True)
    ]


def _crop_row(frame: np.ndarray, want: tuple[int, int], width: int) -> np.ndarray:
    """Draw a frame as it is stored, the part that a crop leaves out darkened, on a row of a width in pixels."""
    have = (frame.shape[0], frame.shape[1])
    left, top, right, bottom = (round(edge) for edge in crop_box(have, want))
    shown = (frame * 0.3).astype(np.uint8)
    shown[top:bottom, left:right] = frame[top:bottom, left:right]
    tile = _tile(shown)[:, : width - 8]
    row = np.full((tile.shape[0] + 4, width, 3), BACKGROUND, np.uint8)
    row[: tile.shape[0], 4 : 4 + tile.shape[1]] = tile
    text = f"as recorded, {have[0]}x{have[1]}: the crop leaves out {cropped_fraction(have, want):.0%} (dark)"
    return with_label(row, text, size=11)


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
