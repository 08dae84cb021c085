"""Estimate of the duration of a whole training, before its first step.

The stages are made for a few episodes of noise of the same size and with the same actions, and one batch of each is
timed. Nothing of the run is touched.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from reelworld.data.dataset import DataInfo, Dataset, Episode, write_episode, write_info
from reelworld.models.system import System, SystemConfig
from reelworld.train.autotune import probe
from reelworld.train.console import describe_seconds
from reelworld.train.data import TrainingData
from reelworld.types import ActionSpec, Clip, UserError

MAX_PARAMETERS = 200_000_000
"""Models with more parameters are not built a second time for an estimate."""


def describe_duration(config: SystemConfig, seconds: dict[str, float]) -> str:
    """Format the estimate: the whole, then its stages; the time budget where there is one."""
    if config.max_minutes:
        return f"estimate: at most {config.max_minutes:g} min in all (--max-minutes)"
    stages = ", ".join(f"{name} {describe_seconds(s)}" for name, s in seconds.items())
    whole = describe_seconds(sum(seconds.values()))
    return f"estimate: about {whole} in all on this machine ({stages}); --max-minutes sets a limit"


def estimate_seconds(
    system: System, config: SystemConfig, info: DataInfo, device: torch.device, given: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Measure a batch of every stage.

    Args:
        system: System to train.
        config: A config of it.
        info: Properties of the recordings.
        device: Device that will train.
        given: Parts that are not trained.

    Returns:
        Stage name -> seconds of its optimizer steps; empty if the stages cannot be made from noise, or the model is
        too large.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), _quiet():
        try:
            dataset = _noise(info, _longest(config) * getattr(config, "frame_stride", 1) + 2, Path(folder) / "data")
            model = system.module("model").build(config, dataset.info)
            if sum(p.numel() for part in model.parts.values() for p in part.parameters()) > MAX_PARAMETERS:
                return {}
            for part in model.parts.values():
                part.to(device)
            data = TrainingData(dataset, config, Path(folder) / "run", given)
            seconds = {}
            for stage in system.module("train").stages(config, model, data):
                if stage.part not in given:
                    stage.module.to(device)
                    batch = next(stage.batches(0)).to(device)
                    choices = ("fp32", "bf16") if stage.precision == "auto" else (stage.precision,)
                    cost = min(p.seconds for p in probe(stage, batch, device, choices).values())
                    seconds[stage.name] = stage.steps * stage.optim.accumulate * cost
                stage.module.eval()
            return seconds
        except UserError:  # e.g. actions that cannot be learned from noise
            return {}


def _longest(config: object) -> int:
    """Return the greatest number of frames among the fields of a config and the configs in it."""
    found = [1]
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found.append(_longest(value))
        elif ("frames" in field.name or "length" in field.name) and isinstance(value, int):
            found.append(value)
    return max(found)


def _noise(info: DataInfo, n_frames: int, folder: Path) -> Dataset:
    """Write a few episodes of noise, three for training and one each to hold out."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    episodes = []
    for i, split in enumerate(("train", "train", "train", "val", "test")):
        clip = Clip(
            frames=rng.integers(0, 256, (n_frames, info.height, info.width, 3), np.uint8),
            actions={name: _actions(spec, n_frames, rng) for name, spec in info.actions.items()},
            rewards=np.zeros(n_frames, np.float32),
            terminated=np.zeros(n_frames, bool),
            truncated=np.zeros(n_frames, bool),
        )
        name, class_id = f"episode_{i}", 0 if info.classes else -1
        write_episode(folder / f"{name}.npz", clip)
        episodes.append(Episode(source=name, n_frames=n_frames, split=split, file=f"{name}.npz", class_id=class_id))
    write_info(folder, info, episodes)
    return Dataset.open(folder)


def _actions(spec: ActionSpec, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    shape = (n_frames, *spec.step_shape)
    if spec.kind == "discrete":
        return rng.integers(0, spec.n, shape)
    return rng.integers(0, 2, shape).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
