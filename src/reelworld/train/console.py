"""Console progress of training, and the TensorBoard and W&B sinks of the log.

A live bar on a terminal; elsewhere a plain line about every ten seconds. ``run.py`` writes ``log.jsonl``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from reelworld.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Display", "Meter", "describe_seconds", "tensorboard_sink", "wandb_sink"]

PLAIN_SECONDS = 10.0


def describe_seconds(seconds: float) -> str:
    """Format a duration: 41 s, 3 min 20 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Display:
    """Progress of one task, as a live bar or plain lines."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.console = console or Console()
        self._title = title
        self._shown_at = 0.0
        self._bar = Progress(
            TextColumn(f"{escape(title):<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, progress: float, describe: Callable[[], str]) -> None:
        """Show the progress, at a limited rate.

        Args:
            progress: Completed fraction, in [0, 1].
            describe: Makes the text; called only when it is shown.
        """
        now, wait = time.monotonic(), 0.2 if self.console.is_terminal else PLAIN_SECONDS
        if now - self._shown_at < wait and progress < 1:
            return
        self._shown_at = now
        if self.console.is_terminal:
            self._bar.update(self._task, completed=progress, description=escape(describe()))
        else:
            self.say(f"{self._title} {100 * progress:.0f}%  {describe()}")


def _numbers(record: Mapping[str, object]) -> dict[str, float]:
    """Flatten a log record to names like tokenizer/loss."""
    stage, flat = record.get("stage", "run"), {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat.update({f"{stage}/{key}/{name}": float(v) for name, v in value.items()})
        elif isinstance(value, int | float) and key not in ("step", "stage_step"):
            flat[f"{stage}/{key}"] = float(value)
    return flat


def tensorboard_sink(folder: Path, first_step: int = 0) -> Callable[[Mapping[str, object]], None]:
    """Mirror the log into TensorBoard event files.

    Args:
        folder: Folder of the event files.
        first_step: Step a run resumes from; later events of an earlier process are hidden.

    Raises:
        UserError: If the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs the package tensorboard, which is not installed; "
            "run pip install 'reelworld[tensorboard]'."
        ) from None
    writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def mirror(record: Mapping[str, object]) -> None:
        for name, value in _numbers(record).items():
            writer.add_scalar(name, value, record["step"])
        writer.flush()

    return mirror


def wandb_sink(folder: Path, config: Mapping[str, object]) -> Callable[[Mapping[str, object]], None]:
    """Mirror the log to Weights & Biases; a resumed run continues under the same id.

    Raises:
        UserError: If the package is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise UserError(
            "--wandb needs the package wandb, which is not installed; run pip install 'reelworld[wandb]'."
        ) from None
    id_path = folder / "wandb_id"
    if not id_path.exists():
        id_path.write_text(wandb.util.generate_id(), encoding="utf-8")
    session = wandb.init(
        project="reelworld",
        name=folder.name,
        dir=str(folder),
        id=id_path.read_text(encoding="utf-8"),
        resume="allow",
        config=dict(config),
    )

    def mirror(record: Mapping[str, object]) -> None:
        session.log(_numbers(record), step=record["step"])

    return mirror


class Meter:
    """Means over the steps since the last log line; sums stay on the device and are read once."""

    def __init__(self, frames_per_step: int) -> None:
        self._frames_per_step = frames_per_step
        self._loss: Tensor | None = None
        self.seconds_per_step = 0.0
        """Wall-clock seconds, smoothed."""
        self._last = time.monotonic()
        self.clear()

    def clear(self) -> None:
        """Reset the sums for a new log line."""
        self._n_steps, self._lr, self._seconds = 0, 0.0, 0.0
        self._sums: dict[str, Tensor] = {}

    def add(self, objective: Tensor, means: Mapping[str, Tensor], norm: Tensor, lr: float) -> None:
        """Add one step."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        self.seconds_per_step += (took - self.seconds_per_step) * (0.05 if self.seconds_per_step else 1.0)
        self._n_steps, self._lr, self._loss = self._n_steps + 1, lr, objective
        self._seconds += took
        terms = {f"losses/{name}": value for name, value in means.items()}
        for name, value in {"loss": objective, "grad_norm": norm, **terms}.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach()

    @property
    def loss(self) -> float:
        """The objective of the last step."""
        return float("nan") if self._loss is None else float(self._loss)

    @property
    def frames_per_second(self) -> float:
        """Training frames per wall-clock second, smoothed."""
        return self._frames_per_step / max(self.seconds_per_step, 1e-9)

    def record(self) -> dict[str, float | dict[str, float]]:
        """Means since the last line, in the format of the log."""
        numbers = {name: float(value) / self._n_steps for name, value in self._sums.items()}
        terms = {n.removeprefix("losses/"): v for n, v in numbers.items() if n.startswith("losses/")}
        return {
            "loss": numbers["loss"],
            "losses": terms,
            "lr": self._lr,
            "grad_norm": numbers["grad_norm"],
            "frames_per_second": round(self._frames_per_step * self._n_steps / max(self._seconds, 1e-9), 1),
        }
