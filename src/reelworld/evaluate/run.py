"""From a world and a data set to the files of an evaluation: results.json, report.html, videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelworld.evaluate.pictures import report_futures, report_videos, write_comparisons
from reelworld.evaluate.protocol import EvalConfig, evaluate
from reelworld.evaluate.report import render_report
from reelworld.evaluate.results import describe, read_training_log, write_results
from reelworld.media import write_file
from reelworld.types import UserError

if TYPE_CHECKING:
    from reelworld.data.dataset import Dataset
    from reelworld.worlds.world import World

__all__ = ["evaluate_to_folder"]


def evaluate_to_folder(
    world: World,
    dataset: Dataset,
    config: EvalConfig,
    out: Path,
    *,
    command: str,
    training_log: Path | None = None,
    progress: Callable[[str, float], Any] = lambda _name, _share: None,
) -> dict[str, Any]:
    """Measure a world and write what was found.

    Args:
        world: What is measured.
        dataset: Where the clips come from.
        config: What and how much.
        out: Folder for results.json, report.html and the videos; made if needed. An earlier evaluation in it is
            replaced, other files stay.
        command: The command line, kept in the results.
        training_log: log.jsonl of the run that made the world, for the training curves.
        progress: Told what is being done and the share that is finished.

    Returns:
        The results, as in results.json.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give --out a folder.")
    evaluation = evaluate(world, dataset, config, progress, out / "inverse_dynamics")
    progress("writing the report", 0.97)
    results = describe(evaluation, world, dataset, config, command)
    fps = world.info.fps
    training = read_training_log(training_log) if training_log else []
    videos, futures = report_videos(evaluation.runs, fps), report_futures(evaluation.futures, fps)
    page = render_report(results, videos, training, futures)
    write_comparisons(evaluation.runs, evaluation.futures, fps, out / "videos")
    write_results(out / "results.json", results)
    write_file(out / "report.html", page.encode())
    progress("done", 1.0)
    return results
