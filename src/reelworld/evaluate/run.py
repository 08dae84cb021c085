"""Evaluation of a world: run its sections, write results.json, report.html and videos.

All random draws use one seed. Rollouts are batched in one session: 32 clips of 100 steps, a few thousand single steps
and 64 carried-key tests are feasible on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelworld.config import to_json
from reelworld.data.dataset import Dataset
from reelworld.evaluate.games import carracing, minigrid, tiles
from reelworld.evaluate.metrics import db, squared_error
from reelworld.evaluate.protocol import (
    EvalConfig,
    choose_clips,
    fixed_clip,
    future_frames,
    given_frames,
    open_for,
    recorded_clips,
)
from reelworld.evaluate.report.page import render_report
from reelworld.evaluate.report.values import baseline_texts, interval_text, value_text
from reelworld.evaluate.report.videos import Videos, encode_videos, write_videos
from reelworld.evaluate.results import FORMAT_VERSION, Metric, SectionResult, Series, plain, read_training_log
from reelworld.evaluate.samples import EvalData, Evaluation, Progress, reconstruct
from reelworld.evaluate.sections import (
    Details,
    Section,
    controllability,
    likelihood,
    prediction,
    reward,
    simulator,
    stability,
    tokenizer,
    video_metrics,
)
from reelworld.evaluate.sections.fvd import check_enough, load_detector
from reelworld.evaluate.tiles import TileAtlas
from reelworld.files import write_json
from reelworld.media import write_file
from reelworld.models.action_mapping import STREAM
from reelworld.nn.perceptual import load_lpips
from reelworld.system_info import commit, describe_machine, now
from reelworld.types import Clip, UserError
from reelworld.worlds.card_metrics import Measured, MeasuredFigure
from reelworld.worlds.world import World

GAMES = (*tiles.SECTIONS, *minigrid.SECTIONS, *carracing.SECTIONS)
SECTIONS: tuple[Section, ...] = (
    tokenizer.SECTION,
    likelihood.CODES,
    prediction.SAMPLES,
    prediction.HORIZONS,
    video_metrics.SECTION,
    video_metrics.FVD,
    prediction.OPEN_LOOP,
    controllability.DELTAS,
    controllability.RECOVERY,
    stability.SECTION,
    simulator.SECTION,
    reward.SECTION,
    likelihood.FRAMES,
    *GAMES,
)
"""Sections in the order of the report; games extend the section of the same name, or are added at the end."""

N_DOMAIN_CLIPS, N_DOMAIN_FRAMES = 8, 16
RUBBISH, WORSE = 20.0, 8.0
"""Frames that are reconstructed with less than 20 dB (an error of 25 grey levels), 8 dB below the world's own initial
contexts, are of another domain."""


@dataclass(frozen=True)
class Evaluated:
    """Results of an evaluation."""

    sections: tuple[SectionResult, ...]
    videos: Videos
    clips: tuple[str, ...]
    """Sources of the clips that were rolled out."""
    n_clips_total: int
    """Clips used at all."""
    n_trained_on: int
    """Clips that the world was trained on; 0 unless asked for."""
    n_samples: int
    """Futures drawn from every start."""
    is_tiled: bool
    n_tiles: int
    seconds: float
    problems: tuple[str, ...]
    costs: Mapping[str, float]
    """Section -> CPU-seconds of this process that it took."""


def evaluate(
    world: World,
    dataset: Dataset,
    config: EvalConfig,
    progress: Progress = lambda _name, _fraction: None,
    cache: Path | None = None,
) -> Evaluated:
    """Measure a world on clips of a data set.

    Args:
        world: The world.
        dataset: Source of the clips; its training split gives the tiles of the game.
        config: Sections and amounts of data.
        progress: Called with the name of each step and the fraction that is done.
        cache: Folder for models trained for measurement, so that they are trained once; None does not store them.

    Raises:
        UserError: If the clips do not fit the world, are of another game or belong to its training list.
    """
    begun = time.monotonic()
    evaluation = prepare(world, dataset, config, progress, cache)
    own = world.system.sections() if world.system else ()
    sections = [s for s in (*SECTIONS, *own) if s.applies(evaluation.spec, evaluation.data, config)]
    results: dict[str, SectionResult] = {}
    videos = Videos()
    costs: dict[str, float] = {}
    with torch.inference_mode():
        for i, section in enumerate(sections):
            progress(section.name.replace("_", " "), 0.05 + 0.9 * i / len(sections))
            since = time.process_time()
            result, found = measure_section(section, evaluation)
            if section.name in results:
                result = _joined(results[section.name], result)
            if result.metrics:
                results[section.name] = result
            costs[section.name] = round(costs.get(section.name, 0.0) + time.process_time() - since, 2)
            videos = Videos((*videos.rollouts, *found.rollouts), (*videos.samples, *found.samples))
    trained_on = set(world.info.splits.get("train", ()))
    return Evaluated(
        sections=tuple(results.values()),
        videos=videos,
        clips=tuple(c.source for c in evaluation.clips),
        n_clips_total=len(evaluation.used),
        n_trained_on=sum(c.source in trained_on for c in evaluation.used),
        n_samples=evaluation.n_samples,
        is_tiled=evaluation.atlas is not None,
        n_tiles=0 if evaluation.atlas is None else len(evaluation.atlas.tiles),
        seconds=time.monotonic() - begun,
        problems=dataset.problems,
        costs={name: costs[name] for name in results},
    )


def prepare(
    world: World,
    dataset: Dataset,
    config: EvalConfig,
    progress: Progress = lambda _name, _fraction: None,
    cache: Path | None = None,
) -> Evaluation:
    """Choose clips and load the data common to all sections; see ``evaluate``."""
    wide = choose_clips(world, dataset, config.split, 4 * config.clips, config.seed, config.allow_train)
    check_domain(world, wide, dataset.path)
    n_frames = future_frames(world.spec) + (given_frames(world.spec) if config.protocol == "published" else 0)
    detect = load_detector(config.i3d, world.device, n_frames) if config.i3d else None
    progress("looking for tiles", 0.02)
    atlas = _find_tiles(dataset, config)
    evaluation = Evaluation(
        world=world,
        dataset=dataset,
        train=open_for(world, config.train_data) if config.train_data else dataset,
        config=config,
        wide=wide,
        data=EvalData(dataset.info, atlas is not None, STREAM in dataset.info.actions and dataset.recorded is not None),
        atlas=atlas,
        detect=detect,
        lpips=load_lpips(config.lpips).to(world.device) if config.lpips else None,
        cache=cache,
        published=world.system.published() if world.system else (),
    )
    if detect is not None:
        check_enough(len(evaluation.starts.clip))
    return evaluation


def measure_section(section: Section, evaluation: Evaluation) -> tuple[SectionResult, Videos]:
    """Measure one section."""
    items = list(section.measure(evaluation))
    details = {k: v for item in items if isinstance(item, Details) for k, v in item.items()}
    result = SectionResult(
        name=section.name,
        title=section.title.format(**details),
        description=section.description.format(**details),
        metrics=tuple(item for item in items if isinstance(item, Metric)),
        series=tuple(item for item in items if isinstance(item, Series)),
    )
    videos = [item for item in items if isinstance(item, Videos)]
    return result, Videos([r for v in videos for r in v.rollouts], [s for v in videos for s in v.samples])


def _joined(first: SectionResult, second: SectionResult) -> SectionResult:
    return SectionResult(
        name=first.name,
        title=first.title,
        description=first.description,
        metrics=(*first.metrics, *second.metrics),
        series=(*first.series, *second.series),
    )


def check_domain(world: World, clips: Sequence[Clip], path: Path) -> None:
    """Refuse recordings that the world cannot reconstruct although it reconstructs its own initial contexts.

    Args:
        world: With initial contexts; without any nothing is checked.
        clips: Clips that are to be measured.
        path: Of the recordings.

    Raises:
        UserError: If they are unlike the recordings of the world's training.
    """
    own, actual = _reconstruction(world, world.initial_contexts), _reconstruction(world, clips)
    if np.isfinite(actual) and actual < RUBBISH and actual < own - WORSE:
        raise UserError(
            f"{path} shows another game: the world's tokenizer draws it with {actual:.1f} dB, its own start clips with "
            f"{own:.1f} dB, so every number would say how the games differ, not how good the world is. Give "
            "recordings of its own game."
        )


def _reconstruction(world: World, clips: Sequence[Clip]) -> float:
    """Return the PSNR of some reconstructed frames; NaN where no clip is long enough."""
    errors: list[float] = []
    for clip in clips[:N_DOMAIN_CLIPS]:
        frames = clip.frames[: max(N_DOMAIN_FRAMES, fixed_clip(world.spec))]
        decoded = reconstruct(world, frames)
        errors += squared_error(frames[: len(decoded)], decoded).tolist()
    return float(db(float(np.mean(errors)))) if errors else float("nan")


def _find_tiles(dataset: Dataset, config: EvalConfig) -> TileAtlas | None:
    if config.tiles == "no":
        return None
    atlas = TileAtlas.build(c.frames for c in recorded_clips(dataset))
    if atlas is None and config.tiles == "yes":
        raise UserError(
            f"{dataset.path} is not drawn from 8x8 tiles: sizes do not divide by 8 or its training split shows more "
            "than 512 distinct patches; leave --tiles on auto."
        )
    return atlas


# ---------------------------------------------------------------------- files


def evaluate_to_folder(
    world: World,
    dataset: Dataset,
    config: EvalConfig,
    out: Path,
    *,
    command: str,
    training_log: Path | None = None,
    progress: Progress = lambda _name, _fraction: None,
) -> dict[str, object]:
    """Measure a world and write the results.

    Args:
        world: The world.
        dataset: Source of the clips.
        config: Sections and amounts of data.
        out: Folder for results.json, report.html and the videos; made if needed. An earlier evaluation in it is
            replaced, other files stay.
        command: The command line, kept in the results.
        training_log: log.jsonl of the run that made the world, for the training loss.
        progress: Called with the name of each step and the fraction that is done.

    Returns:
        The results, as in results.json.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give --out a folder.")
    evaluated = evaluate(world, dataset, config, progress, out / "inverse_dynamics")
    progress("writing the report", 0.97)
    results = describe(evaluated, world, dataset, config, command)
    videos, fps = evaluated.videos, world.spec.fps
    training = read_training_log(training_log) if training_log else []
    page = render_report(results, encode_videos(videos.rollouts, fps), training, encode_videos(videos.samples, fps))
    write_videos(videos, fps, out / "videos")
    write_json(out / "results.json", results)
    write_file(out / "report.html", page.encode())
    progress("done", 1.0)
    return results


def describe(
    evaluated: Evaluated, world: World, dataset: Dataset, config: EvalConfig, command: str
) -> dict[str, object]:
    """Convert an evaluation and its metadata to JSON values."""
    info, spec = world.info, world.spec
    simulated = dataset.info.provenance.get("simulator")
    return {
        "format_version": FORMAT_VERSION,
        "kind": "evaluation",
        "command": command,
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        "seconds": round(evaluated.seconds, 1),
        "cpu_seconds": dict(evaluated.costs),
        "world": {
            "name": info.name,
            "system": info.system,
            "height": spec.height,
            "width": spec.width,
            "fps": spec.fps,
            "context_frames": given_frames(spec),
            "n_actions": len(spec.actions),
            "sampler": to_json(info.sampler),
            "parameters": {k: sum(p.numel() for p in part.parameters()) for k, part in world.parts.items()},
        },
        "data": {
            "name": dataset.path.resolve().name,
            "env_id": simulated.get("env_id", "") if isinstance(simulated, Mapping) else "",
            "split": config.split,
            "n_clips": len(evaluated.clips),
            "n_clips_total": evaluated.n_clips_total,
            "n_samples": evaluated.n_samples,
            "n_trained_on": evaluated.n_trained_on,
            "is_tiled": evaluated.is_tiled,
            "n_tiles": evaluated.n_tiles,
            "clips": list(evaluated.clips),
            "problems": list(evaluated.problems),
        },
        "config": to_json(config),
        "sections": plain(to_json(list(evaluated.sections))),
    }


def card_metrics(results: Mapping[str, Any], weights: Mapping[str, str]) -> Measured:
    """Shorten results for a world's card.

    Args:
        results: As in results.json.
        weights: Part -> sha256 of the weights that were measured.
    """
    data, config = results["data"], results["config"]
    metrics = [metric for section in results["sections"] for metric in section["metrics"] if metric["n"]]
    return Measured(
        command=results["command"],
        commit=results["commit"],
        created=results["created"],
        hardware=results["hardware"],
        data=f"{data['n_clips']} episodes of {data['name']} (split {data['split']}, held out)"
        if not data["n_trained_on"]
        else f"{data['n_clips']} episodes of {data['name']}, {data['n_trained_on']} of them trained on",
        seed=config["seed"],
        weights=weights,
        figures=tuple(_short(metric) for metric in metrics),
    )


def _short(metric: Mapping[str, Any]) -> MeasuredFigure:
    return MeasuredFigure(
        label=metric["label"],
        value=unescape(value_text(metric)),
        interval=unescape(interval_text(metric)),
        n=metric["n"],
        beside=tuple(unescape(text) for text in baseline_texts(metric)),
    )
