"""FSQ against reference outputs made by another library."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from reelworld.nn.quantize.fsq import FSQ, code_digits

GOLDEN = Path(os.environ.get("REELWORLD_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "quantizers"


def cases() -> list[str]:
    """Cases without projections and with channels last; the others belong to parts that do not exist yet."""
    if not GOLDEN.is_dir():
        return []
    listed = json.loads((GOLDEN / "cases.json").read_text())["cases"]
    return [
        name
        for name, case in listed.items()
        if case["kind"] == "FSQ" and len(case["shape"]) == 3 and "dim" not in case and "sym" not in name
    ]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden quantizers at {GOLDEN}; set REELWORLD_GOLDEN")
@pytest.mark.parametrize("name", cases())
def test_matches_the_reference(name: str) -> None:
    case = json.loads((GOLDEN / "cases.json").read_text())["cases"][name]
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as stored:
        golden = {k: torch.from_numpy(stored[k]) for k in stored.files}
    quantizer = FSQ(case["levels"])
    z = golden["z"].clone().requires_grad_(True)
    values, codes = quantizer(z)
    assert torch.equal(codes, golden["indices"].long())
    torch.testing.assert_close(values, golden["out"], atol=1e-5, rtol=1e-4)
    (values * golden["g"]).sum().backward()
    torch.testing.assert_close(z.grad, golden["grad_z"], atol=1e-5, rtol=1e-4)
    first = quantizer.values(torch.arange(len(golden["first_codes"])))
    torch.testing.assert_close(first, golden["first_codes"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (2,), (3, 7, 4)])
def test_every_code_survives_its_values(levels: tuple[int, ...]) -> None:
    quantizer = FSQ(levels)
    codes = torch.arange(quantizer.codebook_size)
    values = quantizer.values(codes)
    assert values.unique(dim=0).shape[0] == len(codes)
    half = quantizer.levels // 2
    digits = (values * half + half).round().long()
    assert torch.equal(digits, code_digits(levels))
    assert torch.equal((digits * quantizer.basis).sum(-1), codes)
