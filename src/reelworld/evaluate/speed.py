"""Speed of a world and the memory-bandwidth limit of the machine, measured in the same run.

All results have one schema: what, unit, median, p95, limit and fraction of it, with the metadata needed for later
comparison: command, commit, hardware, threads, load, dtype, seed. Times are medians of many repetitions after a
warm-up. The limit of a step is the time to read its weights once at the machine's memory-copy speed. A step of a single
frame is often bound by operator launches instead; its fraction is then small.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from reelworld.config import to_json
from reelworld.evaluate.protocol import fixed_clip
from reelworld.evaluate.samples import Progress
from reelworld.media import encode_png
from reelworld.nn.pixels import to_float
from reelworld.rollout.actions import random_actions
from reelworld.rollout.session import Session
from reelworld.system_info import commit, describe_machine, load_average, now, peak_memory_mb
from reelworld.types import ActionSpec, Batch, Codes, Conditions, UserError
from reelworld.worlds.world import World

FORMAT_VERSION = 1
BUSY_FRACTION = 0.5
COPY_BYTES = 256 * 2**20
PROBE_SECONDS = 0.5
N_CLIPS, FRAMES = 4, 8
"""Of a training step."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Number of repetitions and threads."""

    steps: int = 200
    """Repetitions of each measurement."""
    warmup: int = 20
    """Repetitions before, not counted."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads to measure with; none means 1 and all cores."""
    seed: int = 0
    """Of the actions and of the world's draws."""
    allow_busy: bool = False
    """Measure although other programs use the machine; this is noted in the results."""

    def __post_init__(self) -> None:
        if self.steps < 5 or self.warmup < 1 or any(t < 1 for t in self.threads):
            raise UserError(
                f"steps is {self.steps}, warmup {self.warmup}, threads {self.threads}; wanted at least 5, 1 and 1."
            )


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One measurement."""

    what: str
    """encode and decode: one frame, or one window where frames are encoded together. frame step: dynamics and decoding
    of one frame (the mean of a latent frame where those are made at once). training step: forward, backward and AdamW
    of the dynamics on 4 clips of 8 frames, or 4 windows. memory copy: bytes read and written."""
    unit: str
    """"ms", "frames/s", "GB/s" or "MiB"."""
    threads: int
    dtype: str
    median: float
    p95: float
    n: int
    """Repetitions."""
    limit: float | None = None
    """The best this machine could do, in the same unit; None where no limit was measured."""
    limit_is: str = ""
    fraction_of_limit: float | None = None
    """1 is as good as the limit."""


def check_idle(allow_busy: bool) -> dict[str, object]:
    """Check that no other programs use the machine.

    Args:
        allow_busy: Report a busy machine instead of refusing it.

    Returns:
        load_average, cores in use, is_busy.

    Raises:
        UserError: If more than half of the cores are in use, or in demand during the last minute.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load, used = load_average(), _used_cores()
    is_busy = max(load or 0.0, used or 0.0) > BUSY_FRACTION * cores
    if is_busy and not allow_busy:
        raise UserError(
            f"the machine is busy (load average {load}, {used} of {cores} cores in use just now); wait until it is "
            "idle, or pass --allow-busy, which the results record."
        )
    return {"load_average": load, "cores_in_use": used, "is_busy": is_busy, "allow_busy": allow_busy}


def _used_cores() -> float | None:
    """Count the cores that other programs use for half a second, while this process sleeps."""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 (a Path cannot be read piecewise)
            values = [int(v) for v in file.readline().split()[1:9]]
        return sum(values), values[3] + values[4]

    try:
        total, idle = ticks()
        time.sleep(PROBE_SECONDS)
        total_after, idle_after = ticks()
    except (OSError, ValueError):
        return None
    fraction = 1 - (idle_after - idle) / max(1, total_after - total)
    return round(fraction * (os.cpu_count() or 1), 2)


def bench(
    world: World, config: BenchConfig, command: str, progress: Progress = lambda _name, _fraction: None
) -> dict[str, object]:
    """Measure a world.

    Args:
        world: The world.
        config: Repetitions and threads.
        command: Kept in the results.
        progress: Called with the name of each measurement and the fraction that is done.

    Returns:
        JSON values: circumstances and ``results``, a list of ``BenchResult``.

    Raises:
        UserError: If the machine is busy and this was not allowed.
    """
    state = check_idle(config.allow_busy)
    threads = config.threads or tuple(sorted({1, describe_machine()["cores"]}))
    before = torch.get_num_threads()
    results: list[BenchResult] = []
    try:
        for i, n in enumerate(threads):
            torch.set_num_threads(n)
            measured = _measure(world, config, n)
            for k, result in enumerate(measured):
                results.append(result)
                progress(f"{result.what}, {n} thread{'s' if n > 1 else ''}", (i + min(1, (k + 1) / 10)) / len(threads))
    finally:
        torch.set_num_threads(before)
    return {
        "format_version": FORMAT_VERSION,
        "kind": "bench",
        "command": command,
        "commit": commit(),
        "created": now(),
        "hardware": describe_machine(),
        **state,
        "load_average_after": load_average(),
        "seed": config.seed,
        "world": {
            "name": world.info.name,
            "system": world.info.system,
            "height": world.spec.height,
            "width": world.spec.width,
            "sampler": to_json(world.info.sampler),
            "parameters": {k: sum(p.numel() for p in part.parameters()) for k, part in world.parts.items()},
        },
        "results": to_json(results),
    }


def _measure(world: World, config: BenchConfig, threads: int) -> Iterable[BenchResult]:
    """Yield one result after the other, at the current number of threads."""
    rng = np.random.default_rng(config.seed)
    dtype = str(next(world.model.parameters()).dtype).removeprefix("torch.")

    def result(what: str, unit: str, values: np.ndarray, limit: float | None = None) -> BenchResult:
        slow = 5 if unit in ("frames/s", "GB/s") else 95  # the slow end of a speed is its low end
        median = float(np.median(values))
        fraction = None if limit is None else (median / limit if unit == "frames/s" else limit / median)
        return BenchResult(
            what=what, unit=unit, threads=threads, dtype=dtype, median=median, p95=float(np.percentile(values, slow)),
            n=len(values), limit=limit, limit_is="" if limit is None else "weights read once at copy speed",
            fraction_of_limit=fraction,
        )  # fmt: skip

    copied = _copy_speed()
    yield result("memory copy", "GB/s", copied)
    speed = float(np.median(copied)) * 1e9

    def limit_ms(work: Callable[[], object]) -> float:
        return 1e3 * _bytes_read(world.parts.values(), work) / speed

    frames = rng.integers(0, 256, (1, world.spec.window or 1, world.spec.height, world.spec.width, 3), dtype=np.uint8)
    video = to_float(torch.from_numpy(frames).to(world.device))
    with torch.inference_mode():
        codes = world.model.encode(video)
        if codes is not None:
            for what, work in (
                ("encode", lambda: world.model.encode(video)),
                ("decode", lambda: world.model.decode(codes)),
            ):
                yield result(what, "ms", _times(work, config), limit_ms(work))
    session = _begin(world, config)
    # a model of whole clips reads its weights for every code: its limit is measured in benchmarks/
    limit = None if fixed_clip(world.spec) else limit_ms(session.step)
    step, whole = (_bursts(times, world.spec.time_stride) for times in _play(world, session, config, rng))
    yield result("frame step", "ms", step, limit)
    yield result("frame step and PNG", "ms", whole, limit)
    yield result("play with PNG", "frames/s", 1e3 / whole, limit and 1e3 / limit)
    yield result("training step", "ms", _training(world, config, video, codes))
    yield result("peak memory", "MiB", np.array([peak_memory_mb()]))


def _times(work: Callable[[], object], config: BenchConfig, n: int | None = None) -> np.ndarray:
    """Return the milliseconds of each repetition."""
    for _ in range(config.warmup):
        work()
    times = []
    for _ in range(n or config.steps):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - begun))
    return np.array(times)


def _copy_speed() -> np.ndarray:
    """Copy memory larger than any cache; return GB/s read and written, of each repetition."""
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    target.copy_(source)
    speeds = []
    for _ in range(8):
        begun = time.perf_counter()
        target.copy_(source)
        speeds.append(2 * COPY_BYTES / (time.perf_counter() - begun) / 1e9)
    return np.array(speeds)


def _bytes_read(parts: Iterable[nn.Module], work: Callable[[], object]) -> int:
    """Count the bytes of the weights that a piece of work uses: those of every layer that runs in it."""
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda m, *_: ran.add(m)) for part in parts for m in part.modules()]
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(p.numel() * p.element_size() for m in ran for p in m.parameters(recurse=False))


def _begin(world: World, config: BenchConfig) -> Session:
    session = world.session(n=1, seed=config.seed)
    if world.initial_contexts:
        session.reset(seed=config.seed)
    else:
        shape = (1, world.spec.context[1], world.spec.height, world.spec.width, 3)
        goal = np.zeros(shape[2:], np.uint8) if world.spec.goal else None
        session.reset(np.zeros(shape, np.uint8), seed=config.seed, goal=goal)
    return session


def _play(
    world: World, session: Session, config: BenchConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Step a session under random actions; milliseconds per frame without and with PNG encoding."""
    n = config.warmup + config.steps
    actions = {k: random_actions(spec, n, rng) for k, spec in world.spec.actions.items()}
    step, whole = [], []
    for s in range(n):
        action = {k: v[s][None] for k, v in actions.items()} or None
        begun = time.perf_counter()
        frame = session.step(action).frame[0]
        made = time.perf_counter()
        encode_png(frame)
        step.append(1e3 * (made - begun))
        whole.append(1e3 * (time.perf_counter() - begun))
    return np.array(step[config.warmup :]), np.array(whole[config.warmup :])


def _bursts(times: np.ndarray, size: int) -> np.ndarray:
    """Average over frames that are made at once."""
    out: np.ndarray = times[: max(1, len(times) // size) * size].reshape(-1, min(size, len(times))).mean(1)
    return out


def _training(world: World, config: BenchConfig, video: torch.Tensor, codes: Codes | None) -> np.ndarray:
    """Take training steps of a copy of the model on 4 clips; return the milliseconds of each.

    Args:
        world: With the model.
        config: Repetitions.
        video: One frame, which is repeated for 8 frames; or one window.
        codes: Codes of the video; without any the model learns from the video itself.
    """
    model = copy.deepcopy(world.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    n_frames = world.spec.window or FRAMES
    conditions = Conditions(
        context_video=video[:, : world.spec.context[0]].expand(N_CLIPS, -1, -1, -1, -1),
        class_id=torch.zeros(N_CLIPS, dtype=torch.int64, device=video.device) if world.spec.classes else None,
        actions={name: _zeros(spec, n_frames, video.device) for name, spec in world.info.spec.actions.items()},
    )
    if codes is None:
        batch = Batch(video=video.expand(N_CLIPS, n_frames, -1, -1, -1), conditions=conditions)
    else:
        n_latent = codes.video.shape[1] if world.spec.window else n_frames
        grids = {name: grid.expand(N_CLIPS, n_latent, *grid.shape[2:]).clone() for name, grid in codes.grids.items()}
        batch = Batch(codes=Codes(grids), conditions=conditions)
    generator = torch.Generator(device=video.device).manual_seed(config.seed)

    def work() -> None:
        losses = model.loss(batch, generator)
        total = sum(
            (losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items() if float(n)), torch.zeros(())
        )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return _times(work, BenchConfig(steps=5, warmup=2), n=max(5, config.steps // 10))


def _zeros(spec: ActionSpec, n_frames: int, device: torch.device) -> torch.Tensor:
    """Return actions of all clips, int64 or float32, (4, T, ...)."""
    dtype = torch.int64 if spec.kind == "discrete" else torch.float32
    return torch.zeros((N_CLIPS, n_frames, *spec.step_shape), dtype=dtype, device=device)
