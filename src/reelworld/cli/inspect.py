"""Inspect recordings before training on them: contents, pictures and problems.

DATA is a folder that `record` made, a folder of videos, .npz or HDF5 files, or one file. Writes a contact sheet, a
strip of the first actions between the frames they lead from and to, and a histogram of the actions. Warns when the
actions fit the picture's changes better one step earlier or later, and when --fit crop cuts off much of the picture.

Examples:
  reelworld inspect recordings/doors
  reelworld inspect my-videos --size 64 --fit stretch --out report
  reelworld inspect robot.npz --frames image --action action --action-shift 1 --json robot.json
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from reelworld.config import to_json
from reelworld.data.resize_options import ReadOptions
from reelworld.types import UserError

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from reelworld.data.dataset import Dataset
    from reelworld.data.shift_check import ShiftCheck
    from reelworld.data.summary import StreamSummary, Summary

MAX_CLASSES = 12
"""Classes that the table lists."""
MAX_CROPPED = 0.05
"""Fraction of the picture that --fit crop may cut off without a warning."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `reelworld inspect`."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Folder or file of recordings."""
    out: Path | None = None
    """Folder for contact-sheet.png, action-strip.png and actions.png. Default: runs/inspect/NAME."""
    json: Path | None = None
    """File for the figures as JSON, or - to print them; without --out no pictures are made then."""
    read: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """Read options for files that are not our own recordings."""


def run(options: Options) -> None:
    """Open, count, draw, print."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from reelworld.data.dataset import Dataset
    from reelworld.data.shift_check import check_shift
    from reelworld.data.summary import summarize
    from reelworld.media import write_file

    is_printed = options.json is not None and str(options.json) == "-"
    console = Console(stderr=is_printed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with _quiet_log(), Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("opening", total=None)
        dataset = Dataset.open(options.path, options.read)
        bar.update(task, description="looking", total=len(dataset.episodes))
        summary = summarize(dataset, lambda done, _: bar.update(task, completed=done))
        bar.update(task, description="comparing actions and changes", total=None)
        checks = check_shift(dataset)
        source = _source_frame(options)
    warnings = [*_shift_warnings(checks), *_crop_warnings(source, options)]
    files = _draw(dataset, summary, source, options) if options.json is None or options.out else []
    if options.json is not None:
        text = json.dumps(_figures(summary, warnings, checks, files), indent=2) + "\n"
        if is_printed:
            print(text, end="")
            return
        write_file(options.json, text.encode())
    console.print(_table(summary))
    lines = [("note", line) for line in summary.notes] + [("problem", line) for line in summary.problems]
    for kind, line in [*lines, *(("warning", line) for line in warnings)]:
        console.print(f"{kind}: {line}", style="" if kind == "note" else "yellow", markup=False, highlight=False)
    made = [*files, *([options.json] if options.json else [])]
    console.print("files: " + ", ".join(str(f) for f in made), markup=False, highlight=False, soft_wrap=True)


def _figures(
    summary: Summary, warnings: list[str], checks: Mapping[str, ShiftCheck], files: list[Path]
) -> dict[str, object]:
    """Return the figures as JSON values."""
    whole = to_json(summary)
    actions = [
        {
            "name": name,
            "kind": stream.spec.kind,
            "size": stream.spec.n,
            "names": list(stream.spec.names),
            "low": list(stream.spec.low),
            "high": list(stream.spec.high),
            "counts": [list(row) for row in stream.counts],
            **({"gain_per_shift": {str(k): v for k, v in checks[name].gains.items()}} if name in checks else {}),
        }
        for name, stream in summary.actions.items()
    ]
    return {
        "episodes": summary.n_episodes,
        "frames": summary.n_frames,
        **{key: whole[key] for key in ("path", "height", "width", "fps", "seconds", "episode_frames")},
        "actions": actions,
        "notes": list(summary.notes),
        "warnings": warnings,
        "skipped": list(summary.problems),
        "splits": {name: {"episodes": n, "frames": m} for name, (n, m) in summary.splits.items()},
        "duplicates": summary.n_duplicates,
        **{key: whole[key] for key in ("classes", "mean_return", "n_ended", "fraction_changed", "fraction_pixels")},
        "files": [str(f) for f in files],
    }


def _shift_warnings(checks: Mapping[str, ShiftCheck]) -> list[str]:
    return [
        f"the {name} of row t + {check.better} fits the change from frame t to t + 1 better than that of row t "
        f"(explained variance {check.gains[check.better]:.2f}, {max(0.0, check.gains[0]):.2f} where it stands): the "
        f"actions may stand one row too {'late' if check.better > 0 else 'early'}. Look at action-strip.png; "
        "--action-shift moves the rows of files that are not our own."
        for name, check in checks.items()
        if check.better
    ]


def _source_frame(options: Options) -> np.ndarray | None:
    """Return a frame before it is cropped; None when none is, or it cannot be had."""
    from reelworld.data.array_store import Unreadable
    from reelworld.data.formats.registry import source_frame

    if options.read.fit != "crop" or options.read.shape is None:
        return None
    try:
        return source_frame(options.path, options.read)
    except (Unreadable, UserError):
        return None


def _crop_warnings(source: np.ndarray | None, options: Options) -> list[str]:
    from reelworld.data.resize import cropped_fraction

    if source is None or options.read.shape is None:
        return []
    fraction = cropped_fraction((source.shape[0], source.shape[1]), options.read.shape)
    return (
        [
            f"--fit crop cuts off {fraction:.0%} of the picture ({source.shape[0]}x{source.shape[1]}, height x width; "
            "dark in contact-sheet.png): --fit stretch or pad keeps all of it."
        ]
        if fraction > MAX_CROPPED
        else []
    )


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep the reader's notes out of the log while they are collected for the table."""
    logger = logging.getLogger("reelworld.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _draw(dataset: Dataset, summary: Summary, source: np.ndarray | None, options: Options) -> list[Path]:
    from reelworld.data.pictures import action_histogram, action_strip, episode_sheet

    folder = options.out or Path("runs") / "inspect" / (options.path.resolve().stem or "data")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out wants a folder for the pictures.")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"contact-sheet.png": episode_sheet(dataset, uncropped=source)}
    if summary.actions:
        pictures["action-strip.png"] = action_strip(dataset)
        pictures["actions.png"] = action_histogram(summary.actions)
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    return [folder / name for name in pictures]


def _table(summary: Summary) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(summary.path), show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    shortest, median, longest = summary.episode_frames
    rows = {
        "episodes": f"{summary.n_episodes:,} of {shortest:,} to {longest:,} frames (median {median:,})",
        "frames": f"{summary.n_frames:,}",
        "size": f"{summary.height} x {summary.width} (height x width)",
        "frame rate": f"{summary.fps:.4g} per second" if summary.fps else "unknown (say it with --fps)",
        "duration": _duration(summary.seconds) if summary.fps else "unknown",
        **_action_rows(summary.actions),
        "frames that change": (
            f"{summary.fraction_changed:.1%} of {summary.n_compared:,} steps; "
            f"then {summary.fraction_pixels:.1%} of pixels"
        ),
        "splits": ", ".join(f"{s} {n:,} episodes, {m:,} frames" for s, (n, m) in summary.splits.items()),
        **({"classes": _classes(summary.classes)} if summary.classes else {}),
        "duplicates": f"{summary.n_duplicates:,} dropped (same frames in another split)"
        if summary.n_duplicates
        else "none",
        "problems": f"{len(summary.problems):,} files skipped" if summary.problems else "none",
    }
    if summary.mean_return is not None:
        ended = "" if summary.n_ended is None else f"; {summary.n_ended:,} episodes ended"
        rows["rewards"] = f"mean sum {summary.mean_return:.4g} per episode{ended}"
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


def _classes(classes: Mapping[str, Mapping[str, int]]) -> str:
    """Return a line per class, for the first of them, then the problems."""
    lines = [f"{len(classes)}; episodes of each:"]
    lines += [
        f"{name}: " + ", ".join(f"{s} {n:,}" for s, n in counts.items())
        for name, counts in list(classes.items())[:MAX_CLASSES]
    ]
    if len(classes) > MAX_CLASSES:
        lines.append(f"... and {len(classes) - MAX_CLASSES} more (all of them with --json)")
    if untrained := [name for name, counts in classes.items() if not counts["train"]]:
        more = ", ..." if len(untrained) > MAX_CLASSES else ""
        lines.append(f"without a training episode: {', '.join(untrained[:MAX_CLASSES])}{more}")
    return "\n".join(lines)


def _action_rows(streams: Mapping[str, StreamSummary]) -> dict[str, str]:
    if not streams:
        return {"actions": "none (train with --actions none, or add an action file beside each video)"}
    return {("actions" if len(streams) == 1 else f"actions {k}"): _actions(s) for k, s in streams.items()}


def _actions(stream: StreamSummary) -> str:
    spec = stream.spec
    if spec.kind == "buttons":
        names = spec.names or tuple(str(i) for i in range(spec.n))
        held = [f"{names[i]} {stream.counts[i][-1] / max(1, stream.n_steps):.0%}" for i in range(min(8, spec.n))]
        return f"buttons, {spec.n} (held: {', '.join(held)}{', ...' if spec.n > 8 else ''})"
    if spec.kind == "continuous":
        ranges = [f"{a:.3g}..{b:.3g}" for a, b in zip(spec.low, spec.high, strict=True)]
        return f"continuous, {spec.n} wide" + (
            f" ({', '.join(ranges[:6])}{', ...' if spec.n > 6 else ''})" if ranges else ""
        )
    order = sorted(range(spec.n), key=lambda i: -stream.counts[0][i])[:8]
    names = spec.names or tuple(str(i) for i in range(spec.n))
    shares = [f"{names[i]} {stream.counts[0][i] / max(1, stream.n_steps):.0%}" for i in order]
    return f"discrete, {spec.n} ({', '.join(shares)}{', ...' if spec.n > 8 else ''})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min {rest:02d} s"
        if hours
        else f"{minutes} min {rest:02d} s"
        if minutes
        else f"{seconds:.1f} s"
    )
