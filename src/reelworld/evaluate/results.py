"""The kept form of an evaluation: one JSON file with a version, everything needed to repeat it, and the figures.

Infinity (a prediction without any error, in dB) is the string "inf"; what could not be measured is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.config import to_json
from reelworld.evaluate.clips import given_frames
from reelworld.files import write_json
from reelworld.system_info import commit, describe_machine, now

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset
    from reelworld.evaluate.protocol import EvalConfig, Evaluation
    from reelworld.worlds.world import World

__all__ = ["FORMAT_VERSION", "describe", "plain", "read_training_log", "write_results"]

FORMAT_VERSION = 1


def describe(
    evaluation: Evaluation, world: World, dataset: Dataset, config: EvalConfig, command: str
) -> dict[str, Any]:
    """Put an evaluation and its circumstances into JSON values."""
    info = world.info
    simulator = dataset.info.provenance.get("simulator")
    return {
        "format_version": FORMAT_VERSION,
        "kind": "evaluation",
        "command": command,
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        "seconds": round(evaluation.seconds, 1),
        "cpu_seconds": dict(evaluation.costs),
        "world": {
            "name": info.name,
            "recipe": info.system,
            "height": info.height,
            "width": info.width,
            "fps": info.fps,
            "context_frames": given_frames(world),
            "n_actions": len(info.actions),
            "sampler": to_json(info.sampler),
            "parameters": {k: sum(p.numel() for p in part.parameters()) for k, part in world.parts.items()},
        },
        "data": {
            "name": dataset.path.resolve().name,
            "env_id": simulator.get("env_id", "") if isinstance(simulator, Mapping) else "",
            "split": config.split,
            "n_clips": len(evaluation.clips),
            "n_clips_total": evaluation.n_clips_total,
            "n_samples": evaluation.n_samples,
            "n_trained_on": evaluation.n_trained_on,
            "is_tiled": evaluation.is_tiled,
            "n_tiles": evaluation.n_tiles,
            "clips": list(evaluation.clips),
            "problems": list(evaluation.problems),
        },
        "config": to_json(config),
        "sections": plain(to_json(list(evaluation.sections))),
    }


def plain(value: Any) -> Any:
    """Make floats that JSON cannot hold readable for every program: infinity "inf", NaN null."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results atomically."""
    write_json(path, results)


def read_training_log(path: Path, n_points: int = 300) -> list[dict[str, Any]]:
    """Read the losses of a run's log, thinned out.

    Args:
        path: log.jsonl of the run; may be missing.
        n_points: At most this many points per stage.

    Returns:
        One {stage, step, stage_step, minutes, loss} per kept line, in order. Broken lines (a killed run) are skipped.
    """
    if not path.is_file():
        return []
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("loss"), int | float) and "stage" in record:
            point = {k: record.get(k) for k in ("stage", "step", "stage_step", "minutes", "loss")}
            stages.setdefault(str(record["stage"]), []).append(point)
    return [point for points in stages.values() for point in _thin(points, n_points)]


def _thin(points: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    stride = max(1, math.ceil(len(points) / n))
    return [*points[:-1:stride], points[-1]]
