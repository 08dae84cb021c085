"""Recorder of episodes: equal seeds give equal files, with any number of processes and interruptions.

Episode i of a recording has the seed ``seed + i``: it seeds the environment and, separately, the policy. Each finished
episode is one file, written atomically. Running the same recording again adds the missing episodes only; a folder with
a recording of another configuration is refused.

    record(record_config("MiniGrid-DoorKey-8x8-v0", episodes=500), Path("recordings/doors"), n_processes=2)
"""

from __future__ import annotations

import importlib.metadata
import logging
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from reelworld.config import from_json, to_json
from reelworld.data.array_store import read_index
from reelworld.data.episodes import DataInfo, Episode
from reelworld.data.formats.episode_folder import INFO_FILE, read_info, write_episode, write_info
from reelworld.data.splits import assign_splits
from reelworld.envs.policies import actions_of, parse_mixture, resolve_policy
from reelworld.envs.presets import SimulatorConfig, preset
from reelworld.envs.simulator import EnvAction, Simulator
from reelworld.files import LOCK_FILE, TEMPORARY, FolderLock
from reelworld.types import ActionSpec, Clip, UserError

PACKAGES = ("gymnasium", "minigrid", "box2d", "pygame-ce", "mujoco", "dm_control", "numpy")
"""Packages that simulate and render; their versions are kept with the recording."""
log = logging.getLogger(__name__)

SAVE_SECONDS = 10
"""Seconds between updates of the list of episodes in dataset.json."""


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Configuration of a recording; only ``episodes`` may change to continue one."""

    simulator: SimulatorConfig
    """The recorded environment."""
    policy: Mapping[str, float] = field(default_factory=lambda: {"random": 1.0})
    """Policy, by name or 'module:function' -> probability of an episode."""
    episodes: int = 100
    """Number of episodes in the finished recording."""
    max_steps: int = 1000
    """Steps after which an episode is truncated."""
    seed: int = 0
    """Episode i depends on seed + i alone; use another range of seeds for held-out recordings."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.max_steps < 1 or self.seed < 0:
            raise UserError(
                f"episodes is {self.episodes}, max_steps {self.max_steps}, seed {self.seed}; "
                "wanted at least 1, 1 and 0."
            )


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """One episode that is on disk."""

    index: int
    n_frames: int
    is_new: bool = True
    """False for episodes of an earlier run."""
    problem: str = ""
    """Reason why the episode was left out; empty if it was kept."""


def record_config(
    env_id: str,
    *,
    episodes: int = 100,
    seed: int = 0,
    policy: str | None = None,
    max_steps: int | None = None,
    **simulator: Any,
) -> RecordConfig:
    """Configure a recording: arguments override the environment's preset, which overrides the defaults.

    Args:
        env_id: Name of a gymnasium environment.
        episodes: Number of episodes.
        seed: Episode i is made from seed + i.
        policy: A mixture such as 'explorer:0.6,random:0.4'; None for the preset's, else 'random'.
        max_steps: Steps after which an episode is truncated; None for the preset's, else 1,000.
        simulator: Fields of ``SimulatorConfig``; ``env_kwargs`` are merged into the preset's, others replace them.
    """
    settings = preset(env_id)
    policy = policy or settings.pop("policy", "random")
    max_steps = settings.pop("max_steps", 1000) if max_steps is None else max_steps
    known = {f.name for f in fields(SimulatorConfig)}
    settings = {k: v for k, v in settings.items() if k in known} | simulator
    settings["env_kwargs"] = {**preset(env_id).get("env_kwargs", {}), **simulator.get("env_kwargs", {})}
    return RecordConfig(
        simulator=SimulatorConfig(env_id=env_id, **settings),
        policy=parse_mixture(policy),
        episodes=episodes,
        max_steps=max_steps,
        seed=seed,
    )


def record(
    config: RecordConfig,
    out: Path,
    *,
    n_processes: int = 1,
    on_episode: Callable[[RecordedEpisode], None] = lambda _: None,
) -> None:
    """Record the missing episodes of a recording.

    Args:
        config: The recording.
        out: Folder of the data set; created if it does not exist.
        n_processes: Worker processes; 1 records in this one. The files do not depend on it.
        on_episode: Called in this process for each finished episode, old ones first.

    Raises:
        UserError: If the environment or policy is unknown, the folder holds something else or is being recorded
            into, or an episode fails.
    """
    for name in config.policy:
        resolve_policy(name)
    with closing(Simulator(config.simulator)) as simulator:
        info = _describe(config, simulator)
        for name in config.policy:  # one that does not fit the environment raises before anything is written
            next(actions_of(name, simulator, np.random.default_rng(0)), None)
    _check_folder(config, out, info)
    out.mkdir(parents=True, exist_ok=True)
    with FolderLock(out, "recording into"):
        _check_folder(config, out, info)  # again: another process may have recorded in between
        _record_missing(config, out, info, n_processes, on_episode)


def _record_missing(
    config: RecordConfig, out: Path, info: DataInfo, n_processes: int, on_episode: Callable[[RecordedEpisode], None]
) -> None:
    done = _finished(config, out)
    for index, n_frames in sorted(done.items()):
        on_episode(RecordedEpisode(index=index, n_frames=n_frames, is_new=False))
    _remove_leftovers(out)
    missing = [index for index in range(config.episodes) if index not in done]
    n_processes = min(n_processes, len(missing))
    several = n_processes > 1
    results = _in_processes(config, out, missing, n_processes) if several else _in_turn(config, out, missing)
    saved_at, problems = -float("inf"), list[str]()
    try:
        with closing(results):
            for recorded in results:
                if recorded.problem:
                    problems.append(recorded.problem)
                    log.warning("left out: %s", recorded.problem)
                    continue
                done[recorded.index] = recorded.n_frames
                on_episode(recorded)
                if time.monotonic() - saved_at > SAVE_SECONDS:
                    _write_list(config, out, info, done)
                    saved_at = time.monotonic()
    finally:
        if done:
            _write_list(config, out, info, done)
    if problems and not done:
        raise UserError(f"no episode could be kept: {problems[0]}. Mend the environment's rewards.")


def record_episode(simulator: Simulator, config: RecordConfig, index: int) -> Clip:
    """Play one episode and return it, T = steps + 1."""
    seed = config.seed + index
    frames, actions = [simulator.reset(seed)], []
    rewards, terminated, truncated = [], [], []
    # Another stream: policies must not replay the environment's random numbers.
    rng = np.random.default_rng([seed, 1])
    name = str(rng.choice(list(config.policy), p=list(config.policy.values())))
    for action in actions_of(name, simulator, rng):
        reward, is_terminated, is_truncated = simulator.step(action)
        actions.append(action)
        frames.append(simulator.frame())
        rewards.append(reward)
        terminated.append(is_terminated)
        truncated.append(is_truncated)
        if is_terminated or is_truncated or len(actions) == config.max_steps:
            break
    if not actions:
        raise UserError(f"policy {name} gave no action in episode {index}; it must yield at least one.")
    if len({frame.shape for frame in frames}) > 1:
        raise UserError(f"{simulator.config.env_id} changes its frame size within an episode; set --size.")
    truncated[-1] = not terminated[-1]
    return Clip(
        frames=np.stack(frames),
        actions={name: _rows(actions, name, spec) for name, spec in simulator.action_specs.items()},
        rewards=np.array([*rewards, 0], np.float32),
        terminated=np.array([*terminated, False]),
        truncated=np.array([*truncated, False]),
        fps=simulator.fps,
        source=_name(config, index),
    )


def _rows(actions: Sequence[EnvAction], stream: str, spec: ActionSpec) -> np.ndarray:
    """Collect the actions of one stream, (T, ...); the last row is padding."""
    rows = [action[stream] if isinstance(action, Mapping) else action for action in actions]
    return np.array([*rows, np.zeros(spec.shape)], spec.dtype)


def recorded_simulator(info: DataInfo) -> Simulator:
    """Build the simulator of a recorded data set.

    Raises:
        UserError: If the data set was not recorded by ``record``.
    """
    if "simulator" not in info.provenance:
        raise UserError("this data set was not recorded by 'reelworld record'; there is no simulator to compare with.")
    return Simulator(from_json(SimulatorConfig, info.provenance["simulator"], "simulator"))


def _name(config: RecordConfig, index: int) -> str:
    """Return the source id of an episode: environment and seed. Recordings have common ids only for common seeds."""
    env = re.sub(r"[^a-z0-9]+", "-", config.simulator.env_id.lower()).strip("-")
    return f"{env}-{config.seed + index:08d}"


def describe_simulator(simulator: Simulator, seed: int) -> DataInfo:
    """Describe the data of a simulator, with the frame size of the episode of ``seed``."""
    height, width = simulator.reset(seed).shape[:2]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return DataInfo(
        fps=simulator.fps,
        height=height,
        width=width,
        actions=simulator.action_specs,
        provenance=to_json({"simulator": simulator.config, "versions": versions}),
    )


def _describe(config: RecordConfig, simulator: Simulator) -> DataInfo:
    info = describe_simulator(simulator, config.seed)
    settings = to_json({k: v for k, v in vars(config).items() if k != "episodes"})
    return replace(info, provenance={"kind": "recording", **settings, "versions": info.provenance["versions"]})


def _check_folder(config: RecordConfig, out: Path, info: DataInfo) -> None:
    """Refuse a folder with anything but this recording."""
    if not out.exists():
        return
    if not out.is_dir() or not ((out / INFO_FILE).exists() or _is_killed_recording(config, out)):
        raise UserError(f"{out} exists and is no recording; choose another --out or empty it.")
    if (out / INFO_FILE).exists():
        before = read_info(out)[0].provenance
        names = [k for k in info.provenance if k != "versions" and before.get(k) != info.provenance[k]]
        if names:
            raise UserError(
                f"{out} holds a recording with other settings ({', '.join(names)}); "
                "choose another --out, or give the same settings to continue it."
            )


def _finished(config: RecordConfig, out: Path) -> dict[int, int]:
    """Return the number of frames of each episode in the folder, by index."""
    done = {}
    for index in range(config.episodes):
        path = out / f"{_name(config, index)}.npz"
        if path.exists():
            done[index] = read_index(path)["frames"].shape[0]
    return done


def _is_killed_recording(config: RecordConfig, out: Path) -> bool:
    """Return True for an empty folder, or what a recording killed before its first dataset.json leaves behind."""
    names = {LOCK_FILE, *(f"{_name(config, i)}.npz" for i in range(config.episodes))}
    return all(p.suffix == TEMPORARY or p.name in names for p in out.iterdir())


def _write_list(config: RecordConfig, out: Path, info: DataInfo, done: Mapping[int, int]) -> None:
    names = {_name(config, index): n_frames for index, n_frames in sorted(done.items())}
    splits = assign_splits(names, info.split_seed)
    write_info(
        out,
        info,
        [Episode(source=s, n_frames=n, split=splits[s], file=f"{s}.npz") for s, n in names.items()],
    )


def _remove_leftovers(out: Path) -> None:
    """Delete what killed writes left behind."""
    for leftover in out.glob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def _in_turn(config: RecordConfig, out: Path, indices: list[int]) -> Generator[RecordedEpisode]:
    """Record episodes one after the other in this process."""
    with closing(Simulator(config.simulator)) as simulator:
        for index in indices:
            clip = record_episode(simulator, config, index)
            assert clip.rewards is not None
            if not (is_finite := np.isfinite(clip.rewards)).all():
                step = int(np.flatnonzero(~is_finite)[0])
                problem = f"{clip.source}: its reward in step {step} is {clip.rewards[step]:g}, wanted finite numbers"
                yield RecordedEpisode(index=index, n_frames=0, problem=problem)
                continue
            write_episode(out / f"{clip.source}.npz", clip)
            yield RecordedEpisode(index=index, n_frames=len(clip.frames))


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables from which numpy's libraries take their number of threads."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start here calculate in one thread each.

    Numpy's products of small matrices take all cores by default; in several processes they wait for each other.
    """
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _in_processes(config: RecordConfig, out: Path, indices: list[int], n_processes: int) -> Generator[RecordedEpisode]:
    """Record episodes in worker processes, every n-th episode in each.

    Workers are spawned, and each has its own pipe: when this process is killed, the next send fails and the worker
    ends, so no process goes on writing into the folder.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    try:
        for rank in range(n_processes):
            receiver, sender = context.Pipe(duplex=False)
            worker: BaseProcess = context.Process(
                target=_work, args=(config, out, indices[rank::n_processes], sender), daemon=True
            )
            with _blocked_stops(), _one_thread():
                worker.start()
                workers[receiver] = worker
            sender.close()
        waiting = list(workers)
        while waiting:
            for ready in multiprocessing.connection.wait(waiting):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    raise UserError(
                        "a recording process was killed (out of memory?); finished episodes are kept, run it again."
                    ) from None
                if message is None:
                    waiting.remove(ready)
                elif isinstance(message, BaseException):
                    raise message
                else:
                    yield message
    finally:
        for worker in workers.values():
            worker.kill()  # SIGTERM is blocked there; files are written atomically, so every episode is complete
        for receiver, worker in workers.items():
            worker.join()
            receiver.close()
        _remove_leftovers(out)


@contextmanager
def _blocked_stops() -> Generator[None]:
    """Block Ctrl-C and SIGTERM while processes are started: forever in the children, until afterwards in this one.

    Ctrl-C reaches the whole process group, but only this process must handle it; an interrupted start leaves a child
    with a traceback. Children inherit the mask but not the handlers. The mask alone is not enough here, because threads
    of other libraries receive signals too.
    """
    resource_tracker.ensure_running()  # started with the first process, it would undo the mask
    stops = (signal.SIGINT, signal.SIGTERM)
    pending: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
    handlers = {stop: signal.signal(stop, lambda number, _: pending.append(number)) for stop in stops if is_main}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
    for number in pending:
        signal.raise_signal(number)


def _work(config: RecordConfig, out: Path, indices: list[int], results: Connection) -> None:
    """Record in a worker: send each finished episode, then None; send an error instead of raising it."""
    try:
        for recorded in _in_turn(config, out, indices):
            results.send(recorded)
        results.send(None)
    except BrokenPipeError:
        return  # the parent has ended
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        results.send(error if isinstance(error, UserError | OSError) else _with_traceback(error))


def _with_traceback(error: Exception) -> Exception:
    """Keep the traceback of a defect on the way to the parent."""
    return RuntimeError("a recording process failed:\n" + "".join(traceback.format_exception(error)))
