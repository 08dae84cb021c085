"""How fast a world is, beside the limit of the machine measured in the same run.

One result per thing measured, all in one schema: what, unit, median, p95, limit, fraction of it, and everything
needed to compare it with another day: command, commit, hardware, threads, load, dtype, seed. Times are medians
of many repetitions after a warm-up. The limit of a step is the time to read the weights it uses once at the
speed at which this machine copies memory; at one frame a step is often bound by starting operators instead,
and then its fraction is small.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reelworld.config import to_json
from reelworld.media import encode_png
from reelworld.nn.pixels import to_float
from reelworld.rollout.actions import random_actions
from reelworld.system_info import commit, describe_machine, load_average, now, peak_memory_mb
from reelworld.types import Batch, Codes, Conditions, UserError

if TYPE_CHECKING:
    from reelworld.rollout.session import Session
    from reelworld.worlds.world import World

__all__ = ["FORMAT_VERSION", "BenchConfig", "BenchResult", "bench", "check_idle"]

FORMAT_VERSION = 1
BUSY_SHARE = 0.5
COPY_BYTES = 256 * 2**20
PROBE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """How much is measured."""

    steps: int = 200
    """Repetitions per thing measured."""
    warmup: int = 20
    """Repetitions before, not counted."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads to measure with; none means 1 and all cores."""
    seed: int = 0
    """Of the actions and of the world's draws."""
    allow_busy: bool = False
    """Measure although other programs use the machine; the results say so."""

    def __post_init__(self) -> None:
        if self.steps < 5 or self.warmup < 1 or any(t < 1 for t in self.threads):
            raise UserError(
                f"steps is {self.steps}, warmup {self.warmup}, threads {self.threads}; wanted at least 5, 1 and 1."
            )


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One thing measured."""

    what: str
    """encode and decode: one frame, or one clip (window) where frames are coded together. frame step: dynamics and
    decoding of one frame (the mean of a latent frame where those come at once). training step: forward, backward and
    AdamW of the dynamics on 4 clips of 8 frames, or 4 whole clips. memory copy: bytes read and written."""
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


def check_idle(allow_busy: bool) -> dict[str, Any]:
    """Look whether other programs use the machine.

    Args:
        allow_busy: Report a busy machine instead of refusing it.

    Returns:
        load_average, share of the cores that was in use just now, is_busy.

    Raises:
        UserError: If more than half of the cores are in use, or were wanted during the last minute.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load, used = load_average(), _used_cores()
    is_busy = max(load or 0.0, used or 0.0) > BUSY_SHARE * cores
    if is_busy and not allow_busy:
        raise UserError(
            f"the machine is busy (load average {load}, {used} of {cores} cores in use just now); wait until it is "
            "idle, or pass --allow-busy, which the results record."
        )
    return {"load_average": load, "cores_in_use": used, "is_busy": is_busy, "allow_busy": allow_busy}


def _used_cores() -> float | None:
    """ProgressCallback for half a second how many cores are busy; this process sleeps meanwhile, so others use them."""

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
    share = 1 - (idle_after - idle) / max(1, total_after - total)
    return round(share * (os.cpu_count() or 1), 2)


def bench(
    world: World, config: BenchConfig, command: str, progress: Callable[[str, float], Any] = lambda _name, _share: None
) -> dict[str, Any]:
    """Measure a world.

    Args:
        world: The world.
        config: How much.
        command: Kept in the results.
        progress: Told what is being done and the share that is finished.

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
            "recipe": world.info.system,
            "height": world.info.height,
            "width": world.info.width,
            "sampler": to_json(world.info.sampler),
            "parameters": {k: sum(p.numel() for p in part.parameters()) for k, part in world.parts.items()},
        },
        "results": to_json(results),
    }


def _measure(world: World, config: BenchConfig, threads: int) -> Iterable[BenchResult]:
    """Yield one result after the other, at the current number of threads."""
    rng = np.random.default_rng(config.seed)
    dtype = str(next(world.dynamics.parameters()).dtype).removeprefix("torch.")

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

    height, width = world.info.height, world.info.width
    spec = world.tokenizer.spec(1, height, width)
    clip_frames, n_frames = spec.clip_frames, spec.clip_frames or 1
    if spec.context_frames:
        n_frames = int(world.dynamics.config.frames)
    frame = torch.from_numpy(rng.integers(0, 256, (1, n_frames, height, width, 3), dtype=np.uint8)).to(world.device)
    with torch.inference_mode():
        codes = world.tokenizer.encode(to_float(frame))
        for what, work in (
            ("encode", lambda: world.tokenizer.encode(to_float(frame))),
            ("decode", lambda: world.tokenizer.decode(codes)),
        ):
            yield result(what, "ms", _times(work, config), limit_ms(work))
    session = _begin(world, config)
    # a model of whole clips reads its weights for every code: its limit is measured in benchmarks/
    limit = None if clip_frames else limit_ms(session.step)
    step, whole = (_bursts(times, spec.time_stride) for times in _play(world, session, config, rng))
    yield result("frame step", "ms", step, limit)
    yield result("frame step and PNG", "ms", whole, limit)
    yield result("play with PNG", "frames/s", 1e3 / whole, limit and 1e3 / limit)
    video = to_float(frame[:, : getattr(world.dynamics.config, "cond_frames", 0)]) if clip_frames else None
    yield result("training step", "ms", _training(world, config, codes, video))
    yield result("peak memory", "MiB", np.array([peak_memory_mb()]))


def _times(work: Callable[[], object], config: BenchConfig, n: int | None = None) -> np.ndarray:
    """Run something often; milliseconds of each repetition."""
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
    """Copy memory too large for any cache; GB/s read and written, of each repetition."""
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    target.copy_(source)
    speeds = []
    for _ in range(8):
        begun = time.perf_counter()
        target.copy_(source)
        speeds.append(2 * COPY_BYTES / (time.perf_counter() - begun) / 1e9)
    return np.array(speeds)


def _bytes_read(parts: Iterable[torch.nn.Module], work: Callable[[], object]) -> int:
    """Count the bytes of the weights that a piece of work uses: those of every layer that runs in it."""
    ran: set[torch.nn.Module] = set()
    hooks = [m.register_forward_hook(lambda m, *_: ran.add(m)) for part in parts for m in part.modules()]
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(p.numel() * p.element_size() for m in ran for p in m.parameters(recurse=False))


def _begin(world: World, config: BenchConfig) -> Session:
    session = world.session(n=1, seed=config.seed)
    if world.starts:
        session.reset(seed=config.seed)
    else:
        shape = (1, world.info.context_frames, world.info.height, world.info.width, 3)
        goal = np.zeros(shape[2:], np.uint8) if world.has_goal else None
        session.reset(np.zeros(shape, np.uint8), seed=config.seed, goal=goal)
    return session


def _play(
    world: World, session: Session, config: BenchConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Step a session under random actions; milliseconds per frame without and with PNG encoding."""
    n = config.warmup + config.steps
    actions = {k: random_actions(spec, n, rng) for k, spec in world.info.actions.items()}
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
    return times[: max(1, len(times) // size) * size].reshape(-1, min(size, len(times))).mean(1)


def _training(world: World, config: BenchConfig, codes: Codes, video: torch.Tensor | None) -> np.ndarray:
    """Take training steps of a copy of the dynamics, 4 clips each; milliseconds of each.

    Args:
        world: Its dynamics learn.
        config: How often.
        codes: Of one frame, which stands still for 8 frames; or of one clip.
        video: The conditioning frames of a clip, (1, T, H, W, 3); None for worlds that code single frames.
    """
    module = copy.deepcopy(world.dynamics).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
    n_frames = codes.video.shape[1] if video is not None or "context" in codes.grids else 8
    grids = {name: grid.expand(4, n_frames, *grid.shape[2:]).clone() for name, grid in codes.grids.items()}
    codes_BPN = grids["video"]
    conditions = Conditions(
        context_video=None if video is None else video.expand(4, -1, -1, -1, -1),
        class_id=torch.zeros(4, dtype=torch.int64, device=codes_BPN.device) if world.info.classes else None,
        actions={
            name: torch.zeros(
                (
                    4,
                    n_frames,
                    *((spec.repeat,) if spec.repeat > 1 else ()),
                    *((spec.n,) if spec.kind == "continuous" else ()),
                ),
                dtype=torch.int64 if spec.kind == "discrete" else torch.float32,
                device=codes_BPN.device,
            )
            for name, spec in getattr(module.config, "actions", world.info.actions).items()
        },
    )
    batch = Batch(codes=Codes(grids), conditions=conditions)
    generator = torch.Generator(device=codes_BPN.device).manual_seed(config.seed)

    def work() -> None:
        losses = module.loss(batch, generator)
        total = sum(
            (losses.weights.get(k, 1.0) * s / n for k, (s, n) in losses.terms.items() if float(n)), torch.zeros(())
        )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return _times(work, BenchConfig(steps=5, warmup=2), n=max(5, config.steps // 10))
