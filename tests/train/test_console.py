"""Console progress, and the mirrors of the log."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from reelworld.train import console as log
from reelworld.train.console import Display, Meter, describe_seconds, tensorboard_sink, wandb_sink
from reelworld.types import UserError

RECORD = {"step": 12, "stage": "dynamics", "stage_step": 2, "loss": 0.5, "losses": {"codes": 0.25}, "lr": 0.1}
FLAT = {"dynamics/loss": 0.5, "dynamics/losses/codes": 0.25, "dynamics/lr": 0.1}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (41.4, "41 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert describe_seconds(seconds) == said


def test_plain_lines_come_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, text = [100.0], io.StringIO()
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    with Display("dynamics", Console(file=text, width=20)) as display:
        for step in range(1, 31):
            display.update(step / 30, lambda step=step: f"step {step}/30 of [many] words")
            clock[0] += 1
    lines = text.getvalue().splitlines()
    assert lines == [
        f"dynamics {percent}%  step {step}/30 of [many] words"
        for percent, step in ((3, 1), (37, 11), (70, 21), (100, 30))
    ]


def test_a_terminal_gets_a_live_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with Display("dynamics", console) as display:
        display.update(1.0, lambda: "step 30/30  loss 0.5  [7] frames/s  0 s left")
        display.say("validation: [ok]")
    assert "step 30/30  loss 0.5  [7] frames/s  0 s left" in text.getvalue()
    assert "validation: [ok]" in text.getvalue()
    assert "100%" in text.getvalue()


def test_meter_means_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    meter = Meter(frames_per_step=8)
    for loss in (1.0, 2.0, 6.0):
        clock[0] += 0.5
        meter.add(torch.tensor(loss), {"codes": torch.tensor(2 * loss)}, torch.tensor(4.0), lr=0.1)
    assert meter.record() == {
        "loss": 3.0,
        "losses": {"codes": 6.0},
        "lr": 0.1,
        "grad_norm": 4.0,
        "frames_per_second": 16.0,
    }
    assert meter.frames_per_second == pytest.approx(16.0)
    assert meter.loss == 6.0
    meter.clear()
    clock[0] += 1.0
    meter.add(torch.tensor(5.0), {}, torch.tensor(1.0), lr=0.1)
    assert (meter.record()["loss"], meter.record()["frames_per_second"]) == (5.0, 8.0)


def test_tensorboard_files_hold_the_numbers(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    tensorboard_sink(tmp_path)(RECORD)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    found = {name: (events.Scalars(name)[0].step, events.Scalars(name)[0].value) for name in events.Tags()["scalars"]}
    assert found == {name: (12, pytest.approx(value)) for name, value in FLAT.items()}


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_extra_is_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = "torch.utils.tensorboard" if package == "tensorboard" else "wandb"
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(UserError, match=rf"pip install 'reelworld\[{package}\]'"):
        tensorboard_sink(tmp_path) if package == "tensorboard" else wandb_sink(tmp_path, {})


def test_wandb_continues_under_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake package with the three names of wandb's interface that are used."""
    begun, logged = [], []

    def init(**kwargs: object) -> SimpleNamespace:
        begun.append(kwargs)
        return SimpleNamespace(log=lambda numbers, step: logged.append((numbers, step)))

    ids = iter(["first", "second"])
    fake = SimpleNamespace(init=init, util=SimpleNamespace(generate_id=lambda: next(ids)))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    wandb_sink(tmp_path, {"a": 1})(RECORD)
    wandb_sink(tmp_path, {"a": 1})(RECORD)
    assert [(b["id"], b["resume"]) for b in begun] == [("first", "allow")] * 2
    assert logged == [(FLAT, 12)] * 2
