"""Video files through PyAV: decoded once, into the cache, at one size and a constant frame rate.

Frames go to disk as they are decoded, so that memory does not grow with the length of the video. The container is one
of a fixed list and never guessed by the decoder: a file of noise cannot pass for a playlist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from reelworld.data.action_alignment import SKIPPED, align, describe_actions, merge_skipped
from reelworld.data.array_store import Unreadable
from reelworld.data.cache import Decoded, scratch_file
from reelworld.data.episodes import action_keys
from reelworld.data.formats.action_file import FrameActions, action_file, plain_actions, unread_note
from reelworld.data.formats.input_events import (
    Events,
    event_actions,
    event_log,
    is_event_log,
    is_vpt,
    read_events,
    vpt_actions,
)
from reelworld.data.formats.reader import Contents, FileRequest, decoded_episode, find_files
from reelworld.data.formats.video_containers import CONTAINERS, container_of, is_cut
from reelworld.data.resize import check_fit, fit_frame
from reelworld.data.resize_options import ReadOptions
from reelworld.types import ActionSpec, UserError

ENDINGS = tuple(CONTAINERS)
EVEN = 0.25
"""A frame rate is constant if no frame is further than this fraction of a frame from its regular time."""
MIN_KEPT, REORDERED = 16, 5
"""Fewest frames of a damaged video that are kept, and frames before the damage that are not (B-frames may use it)."""
HDR_NOTE = "videos in HDR ({}) are read without tone mapping and look dark and grey; convert them to SDR"
HDR = {16: "PQ", 18: "HLG"}
"""Number of a transfer function with a high dynamic range -> its name."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Displayed frame at each tick of a constant rate."""

    fps: float
    picks: np.ndarray
    """int64 (T,): number of the decoded frame for each kept frame, never decreasing."""
    note: str = ""


def make_timeline(times: np.ndarray, fps: float, named_fps: float) -> Timeline:
    """Lay decoded frames on a constant frame rate.

    Args:
        times: Seconds at which each decoded frame appears, float64 (D,), rising.
        fps: Rate to resample to; 0 keeps the file's.
        named_fps: Rate in the file's header; used if there are no times.

    Returns:
        Every frame once if the file's rate is constant and requested; else the frame displayed at each tick.
    """
    n = len(times)
    if n < 2 or times[-1] <= times[0]:
        return Timeline(fps=fps or named_fps, picks=np.arange(n))
    average = (n - 1) / (times[-1] - times[0])
    drift = np.abs(times - times[0] - np.arange(n) / average) * average
    is_constant = bool(drift.max() <= EVEN)
    # containers round times (1 ms in mkv, 10 ms in gif), so the named rate is the better one if it agrees
    own = named_fps if is_constant and abs(named_fps - average) < 0.02 * average else average
    if is_constant and (not fps or abs(fps - own) < 1e-3 * own):
        return Timeline(fps=own, picks=np.arange(n))
    rate = fps or 1 / float(np.median(np.diff(times)))
    n_ticks = int((times[-1] - times[0]) * rate + 1e-6) + 1
    ticks = times[0] + np.arange(n_ticks) / rate
    picks = np.searchsorted(times, ticks + 0.5 * EVEN / rate, side="right") - 1
    kind = f"{own:.4g} frames per second" if is_constant else f"a variable frame rate (about {average:.3g})"
    return Timeline(
        fps=rate, picks=picks, note=f"videos with {kind} were resampled to {rate:.4g} frames per second by time"
    )


def read(request: FileRequest) -> Contents:
    """Read a video and its action file as one episode, decoded into the cache."""
    path = request.path
    if (log := event_log(path)) is not None:
        events = read_events(log)
        buttons = _common_buttons(request, events)
        part = "buttons: " + " ".join(buttons)

        def lay(_: Path, times: np.ndarray) -> FrameActions:
            return event_actions(events, buttons, times)

        return decoded_episode(request, lambda: decode(path, log, request.options, lay), [log], part)
    companion = action_file(path)
    also = [companion] if companion else []
    contents = decoded_episode(request, lambda: decode(path, companion, request.options), also)
    return replace(contents, notes=(*contents.notes, *unread_note(path)))


def _common_buttons(request: FileRequest, events: Events) -> tuple[str, ...]:
    """Return the buttons of all logs below the folder that was opened, so that all recordings have the same."""
    if "buttons" not in request.memo:
        request.memo["buttons"] = tuple(sorted(_used_below(request.root)))
    return tuple(sorted({*request.memo["buttons"], *events.used}))


def _used_below(root: Path) -> set[str]:
    """Return the buttons of all logs below a folder; damaged ones are reported when they are read."""
    used: set[str] = set()
    for path in find_files(root, (".csv",)):
        if is_event_log(path):
            with suppress(Unreadable):
                used |= read_events(path).used
    return used


def _read_actions(companion: Path, name: str, times: np.ndarray, options: ReadOptions) -> FrameActions:
    """Read an action file of one row per frame."""
    if is_vpt(companion):
        return vpt_actions(companion, len(times))
    period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return plain_actions(companion, name, options.action, period)


def decode(
    path: Path,
    companion: Path | None,
    options: ReadOptions,
    read_actions: Callable[[Path, np.ndarray], FrameActions] | None = None,
) -> Decoded:
    """Decode a video, with its action file, into an episode's arrays and facts; the frames are a memory map.

    Args:
        path: The video.
        companion: Its action file, if there is one.
        options: Size, rate, shift and limits.
        read_actions: (action file, time of each frame in seconds) -> actions; None for files of one row per frame.

    Raises:
        Unreadable: If the file is truncated, corrupt or no video.
        UserError: If its size is not the wanted one, it is too long, or its actions do not fit.
    """
    decoded = _decode(path, options)
    frames, times = decoded.frames, decoded.times
    timeline = make_timeline(times, options.fps, decoded.named_fps)
    picks = timeline.picks
    rows: dict[str, np.ndarray] = {}
    specs: dict[str, ActionSpec] = {}
    notes = [note for note in (decoded.damage, decoded.hdr, timeline.note) if note]
    if companion is not None:
        name = f"{companion.name} (beside {path.name})"
        if read_actions:  # events are laid between the frames that are kept, so that none is lost
            ticks = times[0] + np.arange(len(picks)) / timeline.fps if timeline.note else times
            given = read_actions(companion, ticks)
            kept, rows = align(picks, given.rows, options.action_shift or 0, name)
            picks = picks[kept]
            specs = _specs(given, rows)
        else:
            given = _read_actions(companion, name, times, options)
            if decoded.damage:  # the rows of the frames that are lost
                given = replace(given, rows={key: values[: len(frames)] for key, values in given.rows.items()})
            n_frames = given.n_frames or len(frames)
            kept, rows = align(frames[:n_frames], given.rows, options.action_shift or 0, name)
            picks = picks[(picks >= kept.start) & (picks < kept.stop)]
            specs = _specs(given, rows)
            streams = action_keys(list(rows))
            rows = {key: merge_skipped(values, specs[streams[key]], picks - kept.start) for key, values in rows.items()}
            if len(picks) > 1 and (np.diff(picks) > 1).any():
                notes.append(SKIPPED)
        notes += given.notes
    facts = {"fps": timeline.fps, "actions": specs, "notes": notes}
    return {"frames": _picked(frames, picks), **rows}, facts


def _specs(given: FrameActions, rows: Mapping[str, np.ndarray]) -> dict[str, ActionSpec]:
    """Describe the streams of aligned rows."""
    streams = action_keys(list(rows))
    return {stream: given.specs.get(stream) or describe_actions(rows[key]) for key, stream in streams.items()}


def frames_at(path: Path, seconds: np.ndarray, slack: float, options: ReadOptions) -> np.ndarray:
    """Return the frame nearest to each of some times; only that stretch of the video is decoded.

    Args:
        path: The video.
        seconds: Times in the video, float64 (T,), rising.
        slack: Seconds that a frame may be away from its time.
        options: Size and limits.

    Returns:
        uint8 (T, H, W, 3), a memory map.

    Raises:
        Unreadable: If the video is damaged, or has no frame near a time.
    """
    decoded = _decode(path, options, (float(seconds[0]) - slack, float(seconds[-1]) + slack))
    frames, times = decoded.frames, decoded.times
    after = np.searchsorted(times, seconds).clip(1, max(1, len(times) - 1))
    picks = np.where(seconds - times[after - 1] <= times[np.minimum(after, len(times) - 1)] - seconds, after - 1, after)
    picks = np.minimum(picks, len(times) - 1)
    if (far := np.flatnonzero(np.abs(times[picks] - seconds) > slack)).size:
        raise Unreadable(
            f"{path.name} has no frame at {seconds[far[0]]:.3f} s, where frame {far[0]} of the episode should be"
        )
    return _picked(frames, picks)


def _picked(frames: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Take frames by number, through a file rather than through memory."""
    if np.array_equal(picks, np.arange(len(frames))):
        return frames
    with scratch_file() as file:
        for pick in picks:
            file.write(frames[pick].data)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(len(picks), *frames.shape[1:]))


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """Frames of a video."""

    frames: np.ndarray
    """uint8 (D, H, W, 3), a memory map."""
    times: np.ndarray
    """Seconds at which they appear, float64 (D,), rising."""
    named_fps: float
    """Rate in the file's header."""
    damage: str = ""
    """Note about the frames that are lost; empty if none are."""
    hdr: str = ""
    """Note about a high dynamic range; empty for other videos."""


def _decode(path: Path, options: ReadOptions, span: tuple[float, float] | None = None) -> _Decoded:
    """Decode a video, or the frames whose times are in a span of seconds, into a file.

    Of a whole video that is cut off or damaged, the frames before the damage are kept, unless options are strict.

    Raises:
        Unreadable: If nothing can be decoded, or a part of what is wanted cannot.
    """
    keeps_part = span is None and not options.strict
    damage = f"it ends before its container says so, or is no {path.suffix} file" if is_cut(path) else ""
    if damage and not keeps_part:
        raise Unreadable(f"{path.name} is truncated ({damage})")
    times: list[float | None] = []
    shape: tuple[int, ...] = ()
    named_fps, hdr = 0.0, ""
    with scratch_file() as file:
        try:
            with av.open(str(path.resolve()), format=container_of(path).format, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise Unreadable(f"{path.name} has no video stream")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise Unreadable(f"{path.name} names a video codec that is not known here, or is corrupt")
                stream.thread_type = "AUTO"
                named_fps = float(stream.average_rate or stream.guessed_rate or 0)
                n_named = stream.frames if span is None else round((span[1] - span[0]) * named_fps)
                check_room(n_named, options.shape or (stream.height, stream.width), path, options)
                if span is not None and stream.time_base:
                    container.seek(max(0, int(span[0] / stream.time_base)), stream=stream)
                for frame in container.decode(stream):
                    if span is not None and frame.time is not None and not span[0] <= frame.time <= span[1]:
                        if frame.time > span[1]:
                            break
                        continue
                    if frame.is_corrupt:
                        damage = "a frame could not be decoded"
                        break
                    image = _image(frame, path, options)
                    shape = shape or image.shape
                    if image.shape != shape:
                        raise UserError(_size_changes(path, shape, image.shape))
                    check_room(len(times) + 1, shape, path, options)
                    file.write(image.data)
                    times.append(frame.time)
                hdr = HDR.get(stream.codec_context.color_trc, "")
        except av.FFmpegError as error:
            reason = " ".join(str(error.strerror or type(error).__name__).split())
            damage = damage or reason
        n = len(times)
        if damage:
            n -= REORDERED  # frames that are shown earlier may depend on a damaged one
            if not keeps_part or n < MIN_KEPT:
                raise Unreadable(f"{path.name} is truncated, corrupt or no {path.suffix} file ({damage})")
            damage = f"{path.name} is damaged after its first {n} frames, which are kept ({damage})"
        if not n:
            raise Unreadable(f"{path.name} holds no frame that can be shown")
        file.flush()
        frames = np.memmap(file, np.uint8, "r", shape=(n, *shape))
    return _Decoded(
        frames=frames,
        times=_rising(times[:n], named_fps),
        named_fps=named_fps,
        damage=damage,
        hdr=hdr and HDR_NOTE.format(hdr),
    )


def _image(frame: av.VideoFrame, path: Path, options: ReadOptions) -> np.ndarray:
    """Turn a decoded frame into an upright RGB picture of the wanted size."""
    image = frame.to_ndarray(format="rgb24")
    if turns := round(frame.rotation / 90) % 4:
        image = np.rot90(image, turns)
    if options.shape is not None:
        check_fit(image.shape[:2], options.shape, options.fit, path.name)
        image = fit_frame(image, options.shape, options.fit)
    return np.ascontiguousarray(image)


def _size_changes(path: Path, before: tuple[int, ...], now: tuple[int, ...]) -> str:
    return (
        f"{path.name} changes its size from {before[0]}x{before[1]} to {now[0]}x{now[1]} (height x width); "
        "choose one with --size and --fit crop, stretch or pad."
    )


def check_room(n_frames: int, shape: tuple[int, ...], path: Path, options: ReadOptions) -> None:
    """Refuse a video that takes too much space, from its header if possible: before hours of decoding."""
    gigabytes = n_frames * shape[0] * shape[1] * 3 / 1e9
    if gigabytes > options.max_gigabytes:
        raise UserError(
            f"{path.name} decodes to {gigabytes:.3g} GB or more at {shape[0]}x{shape[1]}, above the limit of "
            f"{options.max_gigabytes:g}; choose a smaller --size (with --fit crop, stretch or pad), cut the video, or "
            "raise --max-gigabytes."
        )


def _rising(times: list[float | None], fps: float) -> np.ndarray:
    """Return the times as an array; numbered by the frame rate when some are missing or fall back."""
    known = np.array([np.nan if t is None else t for t in times], np.float64)
    if np.isnan(known).any() or (np.diff(known) < 0).any():
        return np.arange(len(times)) / (fps or 1.0)
    return known
