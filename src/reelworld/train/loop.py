"""Training loop of every part: plain torch, resumable bit for bit on a CPU.

All randomness of step s is a pure function of (seed, stage, s). Batches are indexed by number; ``loss`` draws from a
generator seeded for the step. A checkpoint therefore holds weights, optimizer and counters, but no random state. A
resumed run gives the same results as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import torch
from rich.console import Console
from torch import nn

from reelworld.train.autotune import autocast, choose_precision, describe_stage, probe
from reelworld.train.checkpoint import Checkpoint, State
from reelworld.train.console import Display, Meter, describe_seconds
from reelworld.train.ema import EMA
from reelworld.train.graceful_interrupt import Interrupted, stop_requested
from reelworld.train.optim import GradientAccumulator, load_optimizer, lr_factor, make_optimizer, optimizer_tensors
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.types import Batch, UserError

__all__ = ["Interrupted", "choose_device", "step_seed", "train"]


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that exists.

    Raises:
        UserError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}); give auto, cpu or cuda.") from None
    return device


def step_seed(seed: int, stage: str, step: int, micro_batch: int = 0) -> int:
    """Return the seed of one step's random draws, a hash of the arguments."""
    key = f"{seed}/{stage}/{step}/{micro_batch}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def train(
    stages: Iterable[Stage],
    run: Run,
    parts: Mapping[str, nn.Module],
    *,
    seed: int,
    given: frozenset[str] = frozenset(),
    device: str = "auto",
    checkpoint_every: int = 500,
    checkpoint_minutes: float = 3.0,
    log_every: int = 20,
    console: Console | None = None,
) -> None:
    """Train stage after stage, from the run's latest checkpoint on.

    Args:
        stages: May be a generator: the code after a yield runs when that stage is finished. A finished stage is
            loaded, not trained again. Code before a yield runs again in a resumed run; its changes to the weights of
            that stage's part are kept only if the stage had not begun.
        run: Run of the checkpoints and the log.
        parts: All parts of the world; all are saved in every checkpoint. Afterwards they hold the final (with ema:
            averaged) weights, in eval mode, on the device.
        seed: Seed of every random draw.
        given: Names of parts that are trained already; their stages are passed over.
        device: ``auto`` takes a GPU if there is one.
        checkpoint_every: Steps between checkpoints.
        checkpoint_minutes: Minutes after which a checkpoint is written regardless of the steps.
        log_every: Steps between lines of the log.
        console: Console for progress; the terminal by default.

    Raises:
        UserError: If a loss is not finite or the disk is full; earlier checkpoints are intact.
        Interrupted: After Ctrl-C or SIGTERM, when the state is saved.
    """
    console = console or Console()
    where = choose_device(device)
    for part in parts.values():
        part.to(where)
    checkpoint = run.checkpoint
    state = checkpoint.state if checkpoint else _START
    if checkpoint:
        _load_parts(checkpoint, parts)
    sizes = ", ".join(f"{name} {sum(p.numel() for p in part.parameters()):,}" for name, part in parts.items())
    console.print(f"parameters: {sizes}", markup=False, highlight=False, soft_wrap=True)
    names: set[str] = set()
    n_trained = 0
    for stage in stages:
        if stage.name in names:
            raise ValueError(f"two stages are named {stage.name!r}")
        names.add(stage.name)
        if stage.part in given:
            parts[stage.part].eval()
            continue
        if stage.name in state.finished:
            assert checkpoint is not None
            _load_parts(checkpoint, parts)  # code before the yield may have changed them, e.g. by data init
            parts[stage.part].eval()
            continue
        n_trained += 1
        is_under_way = checkpoint is not None and state.stage not in state.finished
        steps_before = state.step - state.stage_step if is_under_way else state.step
        trainer = _StageTrainer(stage, run, parts, seed, where, steps_before, state.finished, console)
        if checkpoint and is_under_way:
            if stage.name != state.stage:
                raise UserError(
                    f"{run.folder} is in stage {state.stage!r}, but the training goes on with {stage.name!r}; "
                    "train into a new --out."
                )
            trainer.resume(checkpoint)
        run.rewind_log(state.log_bytes)
        state, checkpoint = trainer.fit(checkpoint_every, checkpoint_minutes, log_every), None
    if not n_trained:
        console.print(f"{run.folder} is trained ({state.step} steps); nothing to do.", markup=False, soft_wrap=True)


def _seed_default_generator(seed: int, device: torch.device) -> None:
    # not torch.manual_seed: without a GPU it keeps a traceback of every call, 2 ms and some memory per step
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


_START = State(step=0, stage="", stage_step=0, minutes=0.0, finished=(), log_bytes=0)


def _load_parts(checkpoint: Checkpoint, parts: Mapping[str, nn.Module]) -> None:
    for name, part in parts.items():
        tensors = checkpoint.tensors(name)
        try:
            part.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{checkpoint.folder} does not fit part {name!r} ({reason}); it was written by another version of "
                "reelworld: train into a new --out."
            ) from None


class _StageTrainer:
    """Training of one stage, from its first step or a checkpoint to its last."""

    def __init__(
        self,
        stage: Stage,
        run: Run,
        parts: Mapping[str, nn.Module],
        seed: int,
        device: torch.device,
        steps_before: int,
        finished: tuple[str, ...],
        console: Console,
    ) -> None:
        self.stage, self.run, self.seed, self.device, self.console = stage, run, seed, device, console
        self.module = stage.module.to(device)
        self.parts, self.modules = parts, dict(parts)
        if all(self.module is not part for part in parts.values()):  # a part in its training harness
            self.modules[f"training_{stage.part}"] = self.module
        self.steps_before, self.finished = steps_before, finished
        self.step, self.minutes = 0, 0.0
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.module, stage.optim)
        self.ema = EMA(self.module, stage.optim.ema) if stage.optim.ema else None
        self.precision = "fp32"
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)  # 0: every step was finite

    # ---- start

    def resume(self, checkpoint: Checkpoint) -> None:
        """Load weights, optimizer, average and counters of a checkpoint of this stage."""
        _load_parts(checkpoint, self.parts)
        self.step, self.minutes = checkpoint.state.stage_step, checkpoint.state.minutes
        harness = f"training_{self.stage.part}"
        if not checkpoint.has("optimizer"):  # the stage was finished, and its length is raised
            if harness in self.modules:
                raise UserError(
                    f"stage {self.stage.name!r} is finished, and its discriminator is not kept; its length cannot be "
                    "raised. Give the former number of steps, or another --out."
                )
            self.ema = EMA(self.module, self.stage.optim.ema) if self.ema else None
            return
        if harness in self.modules:
            self.module.load_state_dict(checkpoint.tensors(harness))
        load_optimizer(self.optimizer, self.module, checkpoint.tensors("optimizer"))
        if self.ema:
            self.ema.load(checkpoint.tensors("ema"))

    def _prepare(self, batch: Batch) -> None:
        """Choose the precision and describe the stage."""
        stage = self.stage
        choices = ("fp32", "bf16") if stage.precision == "auto" else (stage.precision,)
        measured = probe(stage, batch, self.device, choices)
        self.precision = choices[0]
        if stage.precision == "auto":
            self.precision = self.run.choose(f"precision of stage {stage.name}", lambda: choose_precision(measured))
        cost = measured[self.precision]
        text = describe_stage(stage, batch, cost, f"{self.precision} on {self.device}", self.step, self.minutes)
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    # ---- the loop

    def fit(self, checkpoint_every: int, checkpoint_minutes: float, log_every: int) -> State:
        """Train to the end of the stage; return the state saved there."""
        stage, accumulate = self.stage, self.stage.optim.accumulate
        batches = stage.batches(self.step * accumulate)
        first = next(batches).to(self.device)
        self.module.train()
        self._prepare(first)
        batches = chain([first], batches)
        self._meter = Meter(stage.frames_per_batch * accumulate)
        started, minutes_before, saved_minutes = time.monotonic(), self.minutes, self.minutes
        with stop_requested() as caught, Display(stage.name, self.console) as display:
            while True:
                self._train_step(batches)
                self.minutes = minutes_before + (time.monotonic() - started) / 60
                is_last = self.progress >= 1
                is_due = (
                    self.step % checkpoint_every == 0 or self.minutes - saved_minutes >= checkpoint_minutes
                ) and not is_last
                if is_last or is_due or caught or self.step % log_every == 0:
                    self._log_losses()
                elif self.device.type == "cpu":  # free on a CPU, a sync on a GPU
                    self._check_finite()
                display.update(self.progress, self._describe_progress)
                if stage.validate_every and self.step % stage.validate_every == 0 and not is_last:
                    self._validate(display)
                if is_last:
                    break
                if is_due or caught:
                    folder, saved_minutes = self._save(), self.minutes
                if caught:
                    raise Interrupted(
                        f"stopped at step {self.steps_before + self.step}, saved {folder}. "
                        "Run the same command again to resume.",
                        caught[0],
                    )
            state = self._finish(display)
        if caught:
            raise Interrupted(
                f"stopped after stage {stage.name!r}, saved. Run the same command again to resume.", caught[0]
            )
        return state

    @property
    def progress(self) -> float:
        """Completed fraction of the stage: the larger of those by steps and by minutes."""
        by_minutes = self.minutes / self.stage.max_minutes if self.stage.max_minutes else 0.0
        return min(1.0, max(self.step / self.stage.steps, by_minutes))

    def _train_step(self, batches: Iterator[Batch]) -> None:
        optim = self.stage.optim
        lr = optim.lr * lr_factor(optim, self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        gradients = GradientAccumulator(self.parameters, optim.accumulate)
        for number in range(optim.accumulate):
            key = step_seed(self.seed, self.stage.name, self.step, number)
            _seed_default_generator(key, self.device)  # dropout layers use the default generator
            generator = torch.Generator(self.device).manual_seed(key)
            batch = next(batches).to(self.device)
            with autocast(self.device, self.precision):
                losses = self.stage.loss(batch, generator)
            gradients.add(losses)
        objective, means = gradients.finish()
        norm = nn.utils.clip_grad_norm_(self.parameters, optim.grad_clip or math.inf)
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.step)
        self.step += 1
        is_bad = ~(torch.isfinite(norm) & torch.isfinite(objective))
        self._first_bad = torch.where(is_bad & (self._first_bad == 0), self.step, self._first_bad)
        self._meter.add(objective, means, norm, lr)

    # ---- logging and saving

    def _log_losses(self) -> None:
        self._check_finite()
        self.run.log({**self._where(), **self._meter.record()})
        self._meter.clear()

    def _where(self) -> dict[str, str | int | float]:
        return {
            "step": self.steps_before + self.step,
            "stage": self.stage.name,
            "stage_step": self.step,
            "minutes": round(self.minutes, 4),
        }

    def _describe_progress(self) -> str:
        seconds = (self.stage.steps - self.step) * self._meter.seconds_per_step
        if self.stage.max_minutes:
            seconds = min(seconds, 60 * (self.stage.max_minutes - self.minutes))
        return (
            f"step {self.step}/{self.stage.steps}  loss {self._meter.loss:.4g}  "
            f"{self._meter.frames_per_second:,.0f} frames/s  {describe_seconds(seconds)} left"
        )

    def _validate(self, display: Display) -> None:
        if not self.stage.validate:
            return
        self.module.eval()
        with torch.no_grad():
            if self.ema:
                with self.ema.applied():
                    numbers = self.stage.validate()
            else:
                numbers = self.stage.validate()
        self.module.train()
        self.run.log({**self._where(), "validation": numbers})
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        display.say(f"{self.stage.name} step {self.step}  validation: {text}")

    def _check_finite(self) -> None:
        bad = int(self._first_bad)
        if not bad:
            return
        checkpoint = self.run.checkpoint
        last = f"the last good checkpoint is {checkpoint.folder}" if checkpoint else "there is no checkpoint yet"
        raise UserError(
            f"the loss or gradient of part {self.stage.part!r} became nan or infinite at step "
            f"{self.steps_before + bad} (step {bad} of stage {self.stage.name!r}); {last}. "
            "Train into a new --out with a lower learning rate or fp32; look at the recording with reelworld inspect."
        )

    def _state(self, finished: tuple[str, ...]) -> State:
        return State(
            step=self.steps_before + self.step,
            stage=self.stage.name,
            stage_step=self.step,
            minutes=self.minutes,
            finished=finished,
            log_bytes=self.run.sync_log(),
        )

    def _save(self) -> str:
        """Write a checkpoint of the current stage; return its folder."""
        tensors = {name: module.state_dict() for name, module in self.modules.items()}
        tensors["optimizer"] = optimizer_tensors(self.optimizer, self.module)
        if self.ema:
            tensors["ema"] = self.ema.weights
        return str(self.run.save(self._state(self.finished), tensors))

    def _finish(self, display: Display) -> State:
        """Keep the averaged weights, validate, save without the optimizer."""
        if self.ema:
            self.ema.apply()
            self.ema = None
        self._validate(display)
        self.module.eval()
        state = self._state((*self.finished, self.stage.name))
        kept = {n: m.state_dict() for n, m in self.modules.items() if not n.startswith("training_")}
        self.run.save(state, kept)
        return state
