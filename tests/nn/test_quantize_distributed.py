"""Data-parallel quantizers: two gloo processes with half of the rows each equal one process with all rows."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.nn.quantize_distributed_worker import KINDS, RESTARTING, STEPS, WORLD, everything, main, rows_of
from torch import Tensor

PATIENCE_SECONDS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed package"),
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=main, args=(rank, str(folder)), daemon=True) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * WORLD, f"exit codes {codes}; None is a rank that waited for another"
    return [load_file(Path(folder) / f"{rank}.safetensors") for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    """What one process finds in all rows."""
    return everything(None)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_together_are_one_process(kind: str, ranks: list[dict[str, Tensor]], alone: dict[str, Tensor]) -> None:
    names = [name for name in alone if name.startswith(f"{kind}/")]
    assert len(names) >= 3 * STEPS
    for name in names:
        for rank in ranks:
            torch.testing.assert_close(rank[name], alone[name], atol=2e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", RESTARTING)
def test_dead_codes_restart_alike_on_every_rank(kind: str, ranks: list[dict[str, Tensor]]) -> None:
    """Ranks begin with other vectors, other rows and other draws, and yet hold one codebook: the first rank's draws."""
    names = [name for name in ranks[0] if name.startswith(f"restart {kind}/")]
    assert len(names) == STEPS + 1
    for name in names:
        assert torch.equal(ranks[0][name], ranks[1][name]), name
    last = ranks[0][f"restart {kind}/{STEPS - 1}.vectors"]
    assert not torch.equal(last, ranks[0][f"restart {kind}/0.vectors"])
    nearest = [torch.cdist(last, rows_of(rank, STEPS - 1)).min(1).values for rank in range(WORLD)]
    assert (nearest[0] < 0.05).float().mean() > 0.5
    assert (nearest[1] < 0.05).float().mean() < 0.1


def test_ranks_with_more_rows_weigh_more(ranks: list[dict[str, Tensor]]) -> None:
    rows = rows_of(None, 0)
    found = [KINDS[kind]().train().quantize(rows) for kind in ("lfq full", "lfq grouped", "fsq of many codes")]
    expected = torch.stack([x for f in found for x in (f.perplexity, f.batch_entropy)])
    for rank in ranks:
        torch.testing.assert_close(rank["uneven"], expected)
