"""A tiny trainable part, its batches, and a run of two stages; for the tests of the training loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from reelworld.train.config import OptimConfig
from reelworld.train.loop import train
from reelworld.train.run import Run
from reelworld.train.stage import Stage
from reelworld.types import Batch, Losses

FRAMES = 6


class Toy(nn.Module):
    """Rebuild noisy pixels; draws from the generator, drops from torch's own, keeps a buffer, ties weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 8)
        self.drop = nn.Dropout(0.1)
        self.outer = nn.Linear(8, 12)
        self.tied = self.outer
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        assert batch.video is not None
        pixels = batch.video.flatten(2)
        noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
        error = self.tied(self.drop(torch.tanh(self.inner(pixels + 0.1 * noise)))) - pixels
        self.seen += pixels.shape[0]
        count = torch.tensor(float(error.numel()), device=pixels.device)
        return Losses(
            {"square": (error.square().sum(), count), "absolute": (error.abs().sum(), count)}, {"absolute": 0.0}
        )


def batches(start: int, asked: list[int] | None = None) -> Iterator[Batch]:
    """Batch number -> random pixels that depend on the number only."""
    number = start
    while True:
        if asked is not None:
            asked.append(number)
        generator = torch.Generator().manual_seed(number)
        yield Batch(video=torch.rand((2, FRAMES // 2, 2, 2, 3), generator=generator) * 2 - 1)
        number += 1


def toy_parts() -> dict[str, nn.Module]:
    torch.manual_seed(5)
    return {"tokenizer": Toy(), "dynamics": Toy()}


def toy_stages(
    parts: dict[str, nn.Module],
    steps: tuple[int, int] = (7, 7),
    asked: list[int] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
) -> Iterator[Stage]:
    optim = OptimConfig(lr=1e-2, warmup_steps=2, accumulate=2, ema=0.9)
    for (name, part), n_steps in zip(parts.items(), steps, strict=True):
        with torch.no_grad():  # like a data-dependent start: code between two stages touches weights
            next(part.parameters()).mul_(1.01)
        yield Stage(
            name=name,
            part=name,
            module=part,
            batches=lambda start: batches(start, asked),
            steps=n_steps,
            optim=optim,
            precision="fp32",
            frames_per_batch=FRAMES,
            validate=validate,
            validate_every=3,
        )


def toy_train(
    folder: Path,
    parts: dict[str, nn.Module] | None = None,
    stages: Iterator[Stage] | None = None,
    checkpoint_every: int = 3,
    **flags: float,
) -> dict[str, Tensor]:
    """Train, or resume, a run of two stages; return all final weights."""
    torch.set_num_threads(1)
    parts = parts or toy_parts()
    with Run.open(folder, {"recipe": "toy"}) as run:
        train(
            stages or toy_stages(parts),
            run,
            parts,
            seed=3,
            device="cpu",
            checkpoint_every=checkpoint_every,
            log_every=2,
            console=Console(quiet=True),
            **flags,
        )
    return {f"{n}.{k}": v.clone() for n, part in parts.items() for k, v in part.state_dict().items()}


def log_lines(folder: Path) -> list[dict]:
    """Read the log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("minutes", "frames_per_second")} for line in lines]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    differing = [k for k in a if not torch.equal(a[k], b[k])]
    assert not differing, f"differ: {differing}"
