"""The loop: resuming bit for bit, stages, interruption, bad losses, precision, time."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from reelworld.train import autotune as probe
from reelworld.train import loop
from reelworld.train.autotune import Probe
from reelworld.train.config import OptimConfig
from reelworld.train.loop import Interrupted, train
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.types import Batch, Losses, UserError

from .toys import FRAMES, Toy, assert_same, batches, log_lines, toy_parts, toy_stages, toy_train


def stop_after(module: Toy, n_calls: int, signum: int = signal.SIGINT) -> None:
    """Send this process a signal in the middle of the module's n-th loss."""
    inner, calls = module.loss, []

    def loss(batch: Batch, generator: torch.Generator | None = None) -> Losses:
        calls.append(1)
        if len(calls) == n_calls:
            os.kill(os.getpid(), signum)
        return inner(batch, generator)

    module.loss = loss


N_PROBES = 1 + probe.REPEATS
"""Losses that the probe asks for in one precision."""


@pytest.mark.parametrize("stop_step", range(1, 8))
@pytest.mark.parametrize("part", ["tokenizer", "dynamics"])
def test_stop_and_resume_equals_no_stop(tmp_path: Path, part: str, stop_step: int) -> None:
    whole, pieces = [], []
    parts = toy_parts()
    expected = toy_train(tmp_path / "whole", parts, toy_stages(parts, asked=whole))
    parts = toy_parts()
    stop_after(parts[part], N_PROBES + 2 * stop_step - 1)
    with pytest.raises(Interrupted, match="Run the same command again to resume"):
        toy_train(tmp_path / "run", parts, toy_stages(parts, asked=pieces))
    parts = toy_parts()
    found = toy_train(tmp_path / "run", parts, toy_stages(parts, asked=pieces))
    assert_same(found, expected)
    assert pieces == whole  # each batch asked for once, in the same order
    last = [line for line in log_lines(tmp_path / "run") if line["step"] == 14]
    assert last == [line for line in log_lines(tmp_path / "whole") if line["step"] == 14]


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    expected = toy_train(tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.*") if p.is_file()}
    asked: list[int] = []
    parts = toy_parts()
    assert_same(toy_train(tmp_path, parts, toy_stages(parts, asked=asked)), expected)
    assert asked == []
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.*") if p.is_file()}
    assert {p for p in before if before[p] != after.get(p)} <= {tmp_path / ".lock"}


def test_seed_and_position_decide_the_draws(tmp_path: Path) -> None:
    seeds = {
        loop.step_seed(seed, stage, step, micro)
        for seed in (0, 1)
        for stage in ("a", "b")
        for step in (0, 1)
        for micro in (0, 1)
    }
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_global_steps_run_on_over_stages(tmp_path: Path) -> None:
    toy_train(tmp_path)
    lines = log_lines(tmp_path)
    assert [(line["step"], line["stage"], line["stage_step"]) for line in lines if "loss" in line] == [
        *[(s, "tokenizer", s) for s in (2, 3, 4, 6, 7)],
        *[(s, "dynamics", s - 7) for s in (9, 10, 11, 13, 14)],
    ]
    assert sorted(p.name for p in tmp_path.glob("step_*")) == ["step_0000013", "step_0000014"]
    assert (tmp_path / "latest").read_text() == "step_0000014\n"
    assert set(lines[0]["losses"]) == {"square", "absolute"}
    assert lines[0]["loss"] == pytest.approx(lines[0]["losses"]["square"])  # weight 0 is logged only


def test_validation_and_the_final_part_use_the_average(tmp_path: Path) -> None:
    parts = toy_parts()
    seen: list[torch.Tensor] = []

    def validate() -> dict[str, float]:
        assert not parts["tokenizer"].training
        seen.append(parts["tokenizer"].inner.weight.detach().clone())
        return {"weight": float(seen[-1].sum())}

    stages = list(toy_stages(parts, validate=validate))[:1]
    trained: list[torch.Tensor] = []
    inner = parts["tokenizer"].loss

    def loss(batch: Batch, generator: torch.Generator | None = None) -> Losses:
        trained.append(parts["tokenizer"].inner.weight.detach().clone())
        return inner(batch, generator)

    parts["tokenizer"].loss = loss
    toy_train(tmp_path, parts, iter(stages))
    weights = trained[N_PROBES::2]  # before steps 1..7
    average = weights[0].clone()
    for step, weight in enumerate(weights[1:4]):
        average.lerp_(weight, 1 - min(0.9, (1 + step) / (10 + step)))
    torch.testing.assert_close(seen[0], average.lerp(average, 0.0))
    assert not torch.equal(seen[0], weights[3])
    assert torch.equal(parts["tokenizer"].inner.weight, seen[-1])  # final weights = last validated
    lines = [line for line in log_lines(tmp_path) if "validation" in line]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[0]["validation"]["weight"] == pytest.approx(float(seen[0].sum()))


def test_nan_names_step_part_and_last_good_checkpoint(tmp_path: Path) -> None:
    parts = toy_parts()

    def poisoned(start: int) -> object:
        for number, batch in enumerate(batches(start), start):
            yield Batch(video=batch.video * float("nan")) if number == 9 else batch

    stages = list(toy_stages(parts))
    stages[0].batches = poisoned  # batch 9 belongs to step 5 (two batches a step)
    with pytest.raises(UserError) as caught:
        toy_train(tmp_path, parts, iter(stages))
    text = str(caught.value)
    assert "part 'tokenizer'" in text
    assert "at step 5 " in text
    assert str(tmp_path / "step_0000003") in text
    assert "\n" not in text
    assert (tmp_path / "latest").read_text() == "step_0000003\n"


def test_exact_bad_step_is_known_even_when_checked_late() -> None:
    """On a GPU the check waits for the next line of the log; it must still name the first bad step."""
    parts = toy_parts()
    stage = next(toy_stages(parts))
    trainer = loop._StageTrainer(stage, None, parts, 0, torch.device("cpu"), 0, (), Console(quiet=True))
    trainer._meter = loop.Meter(1)
    bad = (Batch(video=torch.full((2, 3, 2, 2, 3), float("inf") if n == 5 else 0.5)) for n in range(12))
    for _ in range(6):
        trainer._train_step(bad)
    assert int(trainer._first_bad) == 3


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_tell_the_exit_code(tmp_path: Path, signum: int) -> None:
    parts = toy_parts()
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    stop_after(parts["tokenizer"], N_PROBES + 3, signum)
    with pytest.raises(Interrupted, match=r"stopped at step 2, saved .*step_0000002") as caught:
        toy_train(tmp_path, parts, toy_stages(parts))
    assert caught.value.exit_code == 128 + signum
    assert (tmp_path / "latest").read_text() == "step_0000002\n"
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_minutes_end_the_stage_and_anneal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    parts = {"tokenizer": Toy()}
    inner = parts["tokenizer"].loss

    def loss(batch: Batch, generator: torch.Generator | None = None) -> Losses:
        clock[0] += 6.0
        return inner(batch, generator)

    parts["tokenizer"].loss = loss
    stage = Stage(
        name="tokenizer",
        part="tokenizer",
        module=parts["tokenizer"],
        batches=batches,
        steps=1000,
        optim=OptimConfig(lr=1.0, warmup_steps=0, schedule="wsd", decay_fraction=0.5),
        max_minutes=1.0,
        precision="fp32",
        frames_per_batch=FRAMES,
    )
    with Run.open(tmp_path, {}) as run:
        train([stage], run, parts, seed=0, device="cpu", log_every=1, console=Console(quiet=True))
    rates = [line["lr"] for line in log_lines(tmp_path)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])  # ten steps of six seconds


def test_minutes_used_are_resumed(tmp_path: Path) -> None:
    parts = toy_parts()
    stop_after(parts["tokenizer"], N_PROBES + 7)
    with pytest.raises(Interrupted):
        toy_train(tmp_path, parts, toy_stages(parts))
    state = json.loads((tmp_path / "step_0000004" / "state.json").read_text())
    state["minutes"] = 100.0
    (tmp_path / "step_0000004" / "state.json").write_text(json.dumps(state))
    parts = toy_parts()
    stages = list(toy_stages(parts))
    stages[0].max_minutes = 100.001
    stages[0].steps = 10**9
    toy_train(tmp_path, parts, iter(stages))
    assert max(line["stage_step"] for line in log_lines(tmp_path) if line["stage"] == "tokenizer") < 2000


def test_precision_is_decided_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"fp32": 1.0, "bf16": 0.5}

    def measure(stage: Stage, batch: Batch, device: torch.device, choices: tuple[str, ...]) -> dict[str, Probe]:
        return {c: Probe(seconds=costs[c], activation_bytes=0) for c in choices}

    monkeypatch.setattr(loop, "probe", measure)
    seen: list[torch.dtype] = []
    for interrupted in (True, False):
        parts = toy_parts()
        parts["tokenizer"].inner.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
        stages = list(toy_stages(parts))
        for stage in stages:
            stage.precision = "auto"
        if interrupted:
            stop_after(parts["tokenizer"], 3)
            with pytest.raises(Interrupted):
                toy_train(tmp_path, parts, iter(stages))
        else:
            costs.update(fp32=0.1)  # the machine now says otherwise; the run must not change its mind
            toy_train(tmp_path, parts, iter(stages))
    assert set(seen) == {torch.bfloat16}
    assert json.loads((tmp_path / "choices.json").read_text()) == {
        "precision of stage tokenizer": "bf16",
        "precision of stage dynamics": "fp32",
    }


def test_probe_leaves_no_trace() -> None:
    parts = toy_parts()
    stage = next(toy_stages(parts))
    before = {k: v.clone() for k, v in stage.module.state_dict().items()}
    measured = probe.probe(stage, next(batches(0)), torch.device("cpu"), ("fp32", "bf16"))
    assert_same(dict(stage.module.state_dict()), before)
    assert all(p.grad is None for p in stage.module.parameters())
    assert measured["fp32"].seconds > 0
    assert measured["fp32"].activation_bytes > 6 * 12 * 4  # at least the pixels of the batch


def test_what_is_said_before_the_start(tmp_path: Path) -> None:
    text = io.StringIO()
    parts: dict[str, nn.Module] = toy_parts()
    with Run.open(tmp_path, {}) as run:
        console = Console(file=text, width=40)
        train(toy_stages(parts), run, parts, seed=0, device="cpu", console=console)
    first = text.getvalue().splitlines()
    n_parameters = 12 * 8 + 8 + 8 * 12 + 12
    assert first[0] == f"parameters: tokenizer {n_parameters}, dynamics {n_parameters}"
    assert first[1].startswith(f"tokenizer: {n_parameters} parameters, 2 clips per batch, 3 frames of 2x2 per clip, ")
    assert "7 steps, fp32 on cpu; about 0 MiB" in first[1]
    plain = [line for line in first if line.startswith("tokenizer 100%")]
    assert len(plain) == 1
    assert "step 7/7  loss " in plain[0]
    assert " frames/s  0 s left" in plain[0]


def test_part_changed_by_the_recipe_is_reported(tmp_path: Path) -> None:
    parts = toy_parts()
    stop_after(parts["tokenizer"], N_PROBES + 3)
    with pytest.raises(Interrupted):
        toy_train(tmp_path, parts, toy_stages(parts))
    parts = toy_parts()
    stages = list(toy_stages(parts))
    with pytest.raises(UserError, match="is in stage 'tokenizer', but the training goes on with 'dynamics'"):
        toy_train(tmp_path, parts, iter(stages[1:]))


def test_unknown_device_is_one_line() -> None:
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{name}' cannot be used"):
            loop.choose_device(name)


def test_a_checkpoint_of_another_architecture_is_one_line(tmp_path: Path) -> None:
    toy_train(tmp_path)
    parts = toy_parts()
    parts["dynamics"].extra = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"does not fit part 'dynamics' .*extra\.weight") as caught:
        toy_train(tmp_path, parts)
    assert "\n" not in str(caught.value)
