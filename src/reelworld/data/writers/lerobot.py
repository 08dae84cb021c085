"""LeRobot data sets of version 3.0: a parquet file per episode, with its pictures as PNGs, without loss.

Many small files instead of few large ones: each is written whole, so that finished episodes survive an interruption.
Episodes are ordered by split, because LeRobot's splits are ranges. Needs pyarrow, the extra ``lerobot``.
Source: LeRobot's documentation of LeRobotDataset v3.0.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from reelworld.data.splits import SPLITS
from reelworld.data.writers.writer import Job
from reelworld.files import atomic_write, write_json
from reelworld.types import ActionSpec, Clip, UserError

if TYPE_CHECKING:
    import pyarrow as pa

CAMERA = "observation.images.main"
FILES_PER_CHUNK = 1000
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = Path("meta", "episodes", "chunk-000", "file-000.parquet")
NO_TASK = "play"
"""Task of episodes without one: LeRobot wants some words."""
KINDS = {"discrete": "int64", "continuous": "float32", "buttons": "bool"}
"""Kind of actions -> type of their feature."""


class LeRobotWriter:
    """Writes a data set of version 3.0."""

    def check(self, job: Job) -> list[str]:
        """Refuse data without a frame rate; name what the format does not keep."""
        _pyarrow()
        if not job.info.fps:
            raise UserError("LeRobot data sets need a frame rate, which these recordings lack; say it with --fps.")
        order = [SPLITS.index(e.split) for e in job.episodes]
        assert order == sorted(order), "LeRobot's splits are ranges: episodes come ordered by split"
        notes = ["LeRobot data sets keep no bounds and keys of actions; ends of episodes are theirs alone"]
        if any(spec.kind == "discrete" for spec in job.info.actions.values()):
            notes.append("the number of ids is not kept: readers see the ids that occur")
        return notes

    def begin(self, job: Job) -> None:
        """Create the folders."""
        (job.out / EPISODES).parent.mkdir(parents=True, exist_ok=True)
        for number in range(0, len(job.episodes), FILES_PER_CHUNK):
            _path(job, number).parent.mkdir(parents=True, exist_ok=True)

    def has_episode(self, job: Job, number: int) -> bool:
        """Return True for a parquet file that is there."""
        return _path(job, number).is_file()

    def write(self, job: Job, number: int, clip: Clip) -> None:
        """Write the rows and pictures of one episode."""
        pa = _pyarrow()
        n, first = len(clip.frames), sum(e.n_frames for e in job.episodes[:number])
        pictures = [{"bytes": _png(frame), "path": f"frame-{t:06d}.png"} for t, frame in enumerate(clip.frames)]
        columns: dict[str, object] = {
            CAMERA: pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        }
        for stream, rows in clip.actions.items():
            spec = job.info.actions[stream]
            values = rows.astype(bool) if spec.kind == "buttons" else rows
            columns[_feature(job, stream)] = pa.array(values.tolist(), _type(pa, spec))
        if clip.rewards is not None:
            columns["next.reward"] = pa.array(clip.rewards, pa.float32())
        columns |= {
            "timestamp": pa.array(np.arange(n) / job.info.fps, pa.float32()),
            "frame_index": pa.array(np.arange(n), pa.int64()),
            "episode_index": pa.array(np.full(n, number), pa.int64()),
            "index": pa.array(np.arange(first, first + n), pa.int64()),
            "task_index": pa.array(np.full(n, _tasks(job).index(job.episodes[number].task or NO_TASK)), pa.int64()),
        }
        _write_table(_path(job, number), pa.table(columns))

    def finish(self, job: Job) -> None:
        """Write ``meta``: the list of episodes, tasks, statistics of the actions, and at last ``info.json``."""
        pa = _pyarrow()
        lengths = [e.n_frames for e in job.episodes]
        stops = np.cumsum(lengths).tolist()
        numbers = np.arange(len(lengths))
        listed = {
            "episode_index": numbers,
            "tasks": pa.array([[e.task or NO_TASK] for e in job.episodes], pa.list_(pa.string())),
            "length": lengths,
            "data/chunk_index": numbers // FILES_PER_CHUNK,
            "data/file_index": numbers % FILES_PER_CHUNK,
            "dataset_from_index": [stop - n for stop, n in zip(stops, lengths, strict=True)],
            "dataset_to_index": stops,
            "meta/episodes/chunk_index": np.zeros_like(numbers),
            "meta/episodes/file_index": np.zeros_like(numbers),
        }
        _write_table(job.out / EPISODES, pa.table(listed))
        _write_tasks(job)
        write_json(job.out / "meta" / "stats.json", _statistics(job))
        write_json(job.out / "meta" / "info.json", _info(job))


def _info(job: Job) -> dict[str, object]:
    picture = {
        "dtype": "image",
        "shape": [job.info.height, job.info.width, 3],
        "names": ["height", "width", "channels"],
    }
    features: dict[str, object] = {CAMERA: picture}
    for stream, spec in job.info.actions.items():
        features[_feature(job, stream)] = {
            "dtype": KINDS[spec.kind],
            "shape": [1 if spec.kind == "discrete" else spec.n],
            "names": list(spec.names) if spec.names and spec.kind != "discrete" else None,
        }
    if _has_rewards(job):
        features["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        kind = "float32" if name == "timestamp" else "int64"
        features[name] = {"dtype": kind, "shape": [1], "names": None}
    splits, first = {}, 0
    for split in SPLITS:
        n = sum(e.split == split for e in job.episodes)
        if n:
            splits[split] = f"{first}:{first + n}"
        first += n
    fps = job.info.fps
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(job.episodes),
        "total_frames": sum(e.n_frames for e in job.episodes),
        "total_tasks": len(_tasks(job)),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(fps) if fps == int(fps) else fps,
        "splits": splits,
        "data_path": DATA,
        "video_path": None,
        "features": features,
    }


def _statistics(job: Job) -> dict[str, object]:
    """Return least, greatest, mean and standard deviation of every dimension of the actions."""
    found: dict[str, object] = {}
    for stream in job.info.actions:
        rows = np.concatenate([e.arrays.steps()[f"actions/{stream}"] for e in job.episodes if e.arrays])
        values = rows.reshape(len(rows), -1).astype(np.float64)
        found[_feature(job, stream)] = {
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
            "mean": values.mean(axis=0).tolist(),
            "std": values.std(axis=0).tolist(),
            "count": [len(values)],
        }
    return found


def _write_tasks(job: Job) -> None:
    """Write the tasks as a table whose index is the text, as pandas does; LeRobot looks the text up by position."""
    pa = _pyarrow()
    tasks = _tasks(job)
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    column = {"metadata": None, "field_name": "task_index", "name": "task_index", "pandas_type": "int64"}
    index = {"metadata": None, "field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{**column, "numpy_type": "int64"}, index],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    _write_table(job.out / "meta" / "tasks.parquet", table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def _tasks(job: Job) -> list[str]:
    return list(dict.fromkeys(e.task or NO_TASK for e in job.episodes))


def _has_rewards(job: Job) -> bool:
    return all(e.arrays is not None and "rewards" in e.arrays.store.shapes for e in job.episodes)


def _feature(job: Job, stream: str) -> str:
    """Return the column of an action stream."""
    return "action" if list(job.info.actions) == ["action"] else f"action.{stream}"


def _type(pa: ModuleType, spec: ActionSpec) -> pa.DataType:
    if spec.kind == "discrete":
        return pa.int64()
    return pa.list_(pa.bool_() if spec.kind == "buttons" else pa.float32(), spec.n)


def _path(job: Job, number: int) -> Path:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return job.out / DATA.format(chunk_index=chunk, file_index=file)


def _png(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _write_table(path: Path, table: pa.Table) -> None:
    from pyarrow import parquet

    with atomic_write(path) as file:
        parquet.write_table(table, file)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
    except ImportError:
        raise UserError("--to lerobot needs pyarrow: pip install 'reelworld[lerobot]'.") from None
    module: ModuleType = pyarrow
    return module
