"""Every quantizer against numbers that another library made, at the tolerances its README states.

The cases are what cases.json lists and has a file for, built from its arguments; the parts are what each case's file
holds. A case, an argument or a part that is not understood fails.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.golden import family, known
from tests.parity.quantizer_arguments import build, load
from torch import Tensor

from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.fsq import FiniteScalar
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.nn.quantize.lookup_free import entropy_penalty
from reelworld.nn.quantize.quantizer import Quantized, Quantizer
from reelworld.nn.quantize.residual import ResidualQuantizer

FOLDER = family("quantizers")
LIST = FOLDER / "cases.json"
CASES: dict[str, dict[str, Any]] = json.loads(LIST.read_text())["cases"] if LIST.is_file() else {}
GIVEN = ("levels", "z", "g", "codebook0", "codebooks0", "eval_x")
"""Parts that are fed to a quantizer."""

HELD = {"codebook": "vectors", "cluster_size": "counts", "embed_avg": "sums"}
"""What a codebook is called after a step, one or several, and where ours keeps it."""
AVERAGES = tuple(f"{part}{s}_after" for part in ("cluster_size", "embed_avg") for s in ("", "s"))
"""Parts that the reference keeps beside a codebook that learns by gradients too, and never moves."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden set at {FOLDER}")


@cache
def arrays(name: str) -> dict[str, Tensor]:
    """Everything a case's file holds."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def is_compared(name: str, part: str) -> bool:
    """Say whether a part is a result, not what is fed to a quantizer."""
    is_step_input = part.startswith("s") and part.endswith(("_x", "_g")) and "grad" not in part
    is_given = part in GIVEN or part.startswith(("project_in", "project_out")) or is_step_input
    return not is_given and not (CASES[name].get("learnable_codebook") and part.endswith(AVERAGES))


HAVE_FILES = [name for name in CASES if (FOLDER / f"{name}.npz").is_file()]
PARTS = [(name, part) for name in HAVE_FILES for part in sorted(arrays(name)) if is_compared(name, part)]
known(FOLDER, [p.name for p in FOLDER.glob("*.npz")], [f"{name}.npz" for name in CASES])


def test_the_set_holds_numbers() -> None:
    assert PARTS, f"{FOLDER} holds no cases.json, or none of its cases has a file with results"


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_part(name: str, part: str) -> None:
    ours, theirs = ours_of(name), arrays(name)[part]
    assert part in ours, f"nothing here computes {part!r}; known are {sorted(ours)}"
    found = ours[part].detach()
    assert found.shape == theirs.shape
    if theirs.dtype in (torch.int32, torch.int64):
        assert torch.equal(found, theirs.long())
    else:
        rtol = 1e-3 if part == "grad_z_from_aux" else 1e-4
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=rtol)


@cache
def ours_of(name: str) -> dict[str, Tensor]:
    """Compute every part of a case."""
    case, given = CASES[name], arrays(name)
    quantizer, weights = build(case)
    load(quantizer, given)
    if "z" in given:
        return once(quantizer, weights, given)
    return in_steps(quantizer, weights, given)


def gradient(of: Tensor, to: Tensor) -> Tensor:
    """Return a gradient without freeing the graph; zeros where nothing depends on it."""
    (found,) = torch.autograd.grad(of, to, retain_graph=True, allow_unused=True)
    return torch.zeros_like(to) if found is None else found


def commitment(found: Quantized) -> Tensor:
    """Mean over all entries, one per codebook."""
    return found.squared_error / found.n_entries


def once(quantizer: Quantizer, weights: dict[str, float], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts of quantizers that do not learn."""
    z = given["z"].clone().requires_grad_(True)
    found = quantizer.train().quantize(z)
    from_out = gradient((found.vectors * given.get("g", torch.tensor(torch.nan))).sum(), z)
    ours = {"out": found.vectors, "indices": found.codes, "grad_z": from_out, "grad_z_from_out": from_out}
    with torch.no_grad():
        ours["out_eval"] = quantizer.eval().quantize(z).vectors
        ours["decoded_from_indices"] = quantizer.lookup(found.codes)
        if (first := given.get("first_codes")) is not None:
            leaf = next(m for m in quantizer.modules() if isinstance(m, FiniteScalar))
            ours["first_codes"] = leaf.lookup(torch.arange(len(first)))
        assert torch.equal(quantizer.nearest(z), found.codes)
    return ours | auxiliary(found, weights, z) if weights else ours


def auxiliary(found: Quantized, weights: dict[str, float], z: Tensor) -> dict[str, Tensor]:
    """Parts of the auxiliary loss; the reference measures no commitment where it has no weight."""
    error = commitment(found).mean() if weights["commitment"] else z.new_zeros(())
    loss = weights["entropy"] * entropy_penalty(found, weights["diversity"]) + weights["commitment"] * error
    return {
        "per_sample_entropy": found.row_entropy.sum() / found.codes.numel(),
        "batch_entropy": found.batch_entropy.mean(),
        "commitment": error,
        "aux_loss": loss,
        "grad_z_from_aux": gradient(loss, z),
    }


def in_steps(quantizer: Quantizer, weights: dict[str, float], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts of quantizers that learn: training steps, then evaluation."""
    ours: dict[str, Tensor] = {}
    quantizer.train()
    for step in range(sum(part.endswith("_x") and part != "eval_x" and "grad" not in part for part in given)):
        ours |= one_step(quantizer, weights["commitment"], given, f"s{step}_")
    quantizer.eval()
    if "eval_x" in given:
        with torch.no_grad():
            found = quantizer.quantize(given["eval_x"])
        ours |= {"eval_q": found.vectors, "eval_indices": found.codes}
        assert torch.equal(quantizer.nearest(given["eval_x"]), found.codes)
        for residual in (m for m in quantizer.modules() if isinstance(m, ResidualQuantizer)):
            ours["eval_all_codes"] = residual.lookup_levels(found.codes)
    return ours


def one_step(quantizer: Quantizer, weight: float, given: dict[str, Tensor], step: str) -> dict[str, Tensor]:
    """One training step and what it leaves behind."""
    x = given[step + "x"].clone().requires_grad_(True)
    found = quantizer.quantize(x)
    losses = weight * commitment(found)
    if losses.dim() and step + "losses" not in given:
        losses = losses.mean()
    books = [m for m in quantizer.modules() if isinstance(m, EMACodebook | GradientCodebook)]
    ours = {
        "q": found.vectors,
        "indices": found.codes,
        "loss": losses,
        "losses": losses,
        "grad_x_from_q": gradient((found.vectors * given.get(step + "g", torch.tensor(torch.nan))).sum(), x),
        "grad_x_from_loss": gradient(losses.sum(), x),
    }
    for part, held in HELD.items():
        state = torch.stack([getattr(book, held, torch.tensor(torch.nan)) for book in books])
        ours |= {f"{part}_after": state if len(books) > 1 else state[0], f"{part}s_after": state}
    return {step + part: value.clone() for part, value in ours.items()}


# ------------------------------------------------------------------ what is not understood


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"kind": "FSQ", "levels": [4, 4], "colour": 3}, "colour"),
        ({"kind": "FSQ", "levels": [4, 4], "noise_dropout": 0.5}, "noise_dropout=0.5"),
        ({"kind": "LFQ", "codebook_size": 16, "experimental_softplus_entropy_loss": True}, "softplus"),
        ({"kind": "VectorQuantize", "dim": 4, "codebook_size": 4, "kmeans_init": True}, "kmeans_init"),
        ({"kind": "Vectorise"}, "Vectorise"),
    ],
)
def test_what_is_not_understood_is_refused(case: dict[str, Any], message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        build({"shape": [2, 3, 4], **case})
