"""One process of a data-parallel training in test_quantize_distributed.py; alone, the same with all rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from reelworld.nn.quantize.dead_code_reset import NoReset, ResetFromBatch
from reelworld.nn.quantize.distances import Cosine
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.entropy import FullEntropy, GroupedEntropy
from reelworld.nn.quantize.fsq import FSQ
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.nn.quantize.lookup_free import BSQ, LFQ, entropy_penalty
from reelworld.nn.quantize.product import SharedProductQuantizer
from reelworld.nn.quantize.quantizer import Quantizer
from reelworld.nn.quantize.residual import ResidualQuantizer
from reelworld.nn.quantize.straight_through import rotation

__all__ = ["KINDS", "RESTARTING", "STEPS", "WORLD", "everything", "main", "rows_of"]

WORLD, STEPS, ROWS, WIDTH = 2, 3, 40, 6

KINDS: dict[str, Callable[[], Quantizer]] = {
    "ema": lambda: EMACodebook(9, WIDTH, decay=0.7, reset=NoReset()),
    "cosine": lambda: EMACodebook(9, WIDTH, decay=0.7, metric=Cosine(), estimator=rotation, reset=NoReset()),
    "learned": lambda: GradientCodebook(9, WIDTH),
    "residual": lambda: ResidualQuantizer([EMACodebook(5, WIDTH, decay=0.7, reset=NoReset()) for _ in range(3)]),
    "shared": lambda: SharedProductQuantizer(EMACodebook(5, 2, decay=0.7, reset=NoReset()), 3),
    "fsq": lambda: FSQ([5] * WIDTH),
    "fsq of many codes": lambda: FSQ([20] * WIDTH),
    "lfq full": lambda: LFQ(WIDTH, inverse_temperature=1.0, entropy=FullEntropy()),
    "lfq grouped": lambda: LFQ(WIDTH, inverse_temperature=1.0, entropy=GroupedEntropy(4)),
    "bsq": lambda: BSQ(WIDTH, inverse_temperature=3.0),
}
"""Nothing in these is drawn: ranks together do what one process does."""
RESTARTING: dict[str, Callable[[], Quantizer]] = {
    "ema": lambda: EMACodebook(200, WIDTH),
    "learned": lambda: GradientCodebook(200, WIDTH, reset=ResetFromBatch()),
}


def rows_of(rank: int | None, step: int) -> Tensor:
    """Return the rows of a step: all of them, or a rank's part."""
    rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step))
    return rows if rank is None else rows.chunk(WORLD)[rank]


def learn(make: Callable[[], Quantizer], rank: int | None) -> dict[str, Tensor]:
    """Train for some steps behind a weight that ranks share, as data-parallel training does: gradients averaged."""
    torch.manual_seed(0)
    quantizer = make().train()
    weight = torch.eye(WIDTH).requires_grad_(True)
    found = {}
    for step in range(STEPS):
        result = quantizer.quantize(rows_of(rank, step) @ weight)
        loss = entropy_penalty(result, 1.5) + (result.squared_error + result.codebook_error).sum() / result.n_entries
        parameters = [weight, *quantizer.parameters()]
        gradients = torch.autograd.grad(loss, parameters)
        for index, gradient in enumerate(gradients):
            if rank is not None:
                dist.all_reduce(gradient)
                gradient /= WORLD
            found[f"{step}.gradient.{index}"] = gradient
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.05 * gradient
        found |= {f"{step}.perplexity": result.perplexity, f"{step}.batch_entropy": result.batch_entropy.detach()}
    return found | {f"state.{name}": value.float() for name, value in quantizer.state_dict().items()}


def restart(make: Callable[[], Quantizer], rank: int) -> dict[str, Tensor]:
    """Train where most codes are dead, each rank with draws of its own."""
    torch.manual_seed(rank)
    quantizer, generator = make().train(), torch.Generator().manual_seed(100 + rank)
    found = {}
    for step in range(STEPS):
        quantizer.quantize(rows_of(rank, step), generator)
        found[f"{step}.vectors"] = quantizer.vectors.detach().clone()
    return found | {"counts": quantizer.counts}


def everything(rank: int | None) -> dict[str, Tensor]:
    """Return all results by name."""
    found = {f"{kind}/{k}": v for kind, make in KINDS.items() for k, v in learn(make, rank).items()}
    if rank is not None:
        found |= {f"restart {kind}/{k}": v for kind, make in RESTARTING.items() for k, v in restart(make, rank).items()}
        found["uneven"] = uneven(rank)
    return {k: v.detach().contiguous().clone() for k, v in found.items()}


def uneven(rank: int) -> Tensor:
    """Quantize a batch of which one rank has more; return what is measured over ranks."""
    part = rows_of(None, 0).split([10, 30])[rank]
    found = [KINDS[kind]().train().quantize(part) for kind in ("lfq full", "lfq grouped", "fsq of many codes")]
    return torch.stack([x for f in found for x in (f.perplexity, f.batch_entropy)])


def main(rank: int, folder: str) -> None:
    """Run one rank and leave its results in the folder."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    results = everything(rank)
    if rank == 0:
        # evaluating alone must wait for nobody
        for make in KINDS.values():
            make().eval().quantize(rows_of(0, 0))
    save_file(results, Path(folder) / f"{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()
