"""Choose bf16 or fp32 and measure memory and time per step on the first batch, before training.

The probe runs forward and backward a few times, then restores every weight and buffer. Training is not affected.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch

from reelworld.train.console import describe_seconds
from reelworld.train.stage import Stage
from reelworld.types import Batch

__all__ = ["Probe", "autocast", "choose_precision", "describe_stage", "probe"]

REPEATS = 3
"""Timed runs in each precision."""
_GAIN = 0.9  # bf16 must take less than this fraction of fp32's time


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Cost of one forward and backward pass of one batch."""

    seconds: float
    """Wall-clock seconds, the least of a few."""
    activation_bytes: int
    """Memory kept between forward and backward."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of the loss; disabled for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def probe(stage: Stage, batch: Batch, device: torch.device, precisions: tuple[str, ...]) -> dict[str, Probe]:
    """Measure one batch in each precision; runs alternate, so that other load affects all precisions alike."""
    before = {k: v.detach().clone() for k, v in stage.module.state_dict().items()}
    seconds: dict[str, list[float]] = {p: [] for p in precisions}
    kept = dict.fromkeys(precisions, 0)
    for repeat in range(1 + REPEATS):  # the first is a warm-up and counts the memory
        for precision in precisions:
            took, n_bytes = _once(stage, batch, device, precision, count_memory=repeat == 0)
            if repeat:
                seconds[precision].append(took)
            else:
                kept[precision] = n_bytes
    stage.module.zero_grad(set_to_none=True)
    stage.module.load_state_dict(before)
    return {p: Probe(seconds=min(seconds[p]), activation_bytes=kept[p]) for p in precisions}


def choose_precision(measured: dict[str, Probe]) -> Literal["bf16", "fp32"]:
    """Choose bf16 when it is clearly faster on this device."""
    return "bf16" if measured["bf16"].seconds < _GAIN * measured["fp32"].seconds else "fp32"


def _once(stage: Stage, batch: Batch, device: torch.device, precision: str, *, count_memory: bool) -> tuple[float, int]:
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if count_memory:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    generator = torch.Generator(device).manual_seed(0)
    _wait(device)
    start = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with autocast(device, precision):
            losses = stage.loss(batch, generator)
        total = sum(s for n, (s, _) in losses.terms.items() if s.requires_grad and losses.weights.get(n, 1.0))
    assert isinstance(total, torch.Tensor)
    total.backward()
    _wait(device)
    weights = {p.untyped_storage().data_ptr() for p in stage.module.parameters()}
    return time.perf_counter() - start, sum(n for pointer, n in storages.items() if pointer not in weights)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_stage(stage: Stage, batch: Batch, cost: Probe, where: str, step: int, minutes: float) -> str:
    """Describe the cost of a stage: parameters, tokens per clip, memory, time.

    Args:
        stage: The stage.
        batch: Its first batch.
        cost: Result of the probe.
        where: Precision and device, in words.
        step: Steps already taken.
        minutes: Minutes already used.
    """
    learning = [p for p in stage.module.parameters() if p.requires_grad]
    copies = 4 + (stage.optim.ema > 0)  # weights, gradients, two moments, average
    memory = sum(p.numel() * p.element_size() for p in learning) * copies + cost.activation_bytes
    seconds = (stage.steps - step) * stage.optim.accumulate * cost.seconds
    if stage.max_minutes:
        seconds = min(seconds, 60 * max(0.0, stage.max_minutes - minutes))
    start = f" from step {step}" if step else ""
    return (
        f"{stage.name}: {sum(p.numel() for p in learning):,} parameters, {_describe_clip(batch)}, "
        f"{stage.steps} steps{start}, {where}; about {memory / 2**20:,.0f} MiB for weights and activations "
        f"and {describe_seconds(seconds)}"
    )


def _describe_clip(batch: Batch) -> str:
    if batch.codes is not None:
        grids = batch.codes.grids.values()
        n_tokens = sum(math.prod(g.shape[1:3]) for g in grids)
        n_clips, n_frames = next(iter(grids)).shape[:2]
        return f"{n_clips} clips per batch, {n_tokens:,} tokens per clip ({n_frames} latent frames)"
    assert batch.video is not None
    n_clips, n_frames, height, width = batch.video.shape[:4]
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    return f"{n_clips} clips per batch, {frames} of {height}x{width} per clip"
