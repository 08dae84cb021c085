"""A quantizer of ours from the constructor arguments of vector-quantize-pytorch 1.32.

What is not understood is an error, never passed over: each argument is taken once, and what is left over is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reelworld.nn.quantize.adapters import ChannelsFirst, Projected, project
from reelworld.nn.quantize.dead_code_reset import NoReset
from reelworld.nn.quantize.distances import Cosine, Euclidean
from reelworld.nn.quantize.ema import EMACodebook
from reelworld.nn.quantize.entropy import FullEntropy
from reelworld.nn.quantize.fsq import FSQ, SymmetricFSQ
from reelworld.nn.quantize.gradient_codebook import GradientCodebook
from reelworld.nn.quantize.lookup_free import BSQ, LFQ
from reelworld.nn.quantize.product import ProductQuantizer, SharedProductQuantizer
from reelworld.nn.quantize.quantizer import Quantizer
from reelworld.nn.quantize.residual import ResidualQuantizer
from reelworld.nn.quantize.straight_through import Estimator, rotation, straight_through

__all__ = ["Arguments", "build"]

OF_THE_FILE = ("kind", "shape", "seed", "input_scale", "steps")
"""Entries of a case that say how its numbers were made, not what the quantizer is."""


class Arguments:
    """Arguments of one case, each to be taken once."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.kind = str(case["kind"])
        self.n_dims = len(case["shape"])
        self.left = {k: v for k, v in case.items() if k not in OF_THE_FILE}

    def take(self, name: str, default: Any = None) -> Any:
        """Return an argument, or the library's default."""
        return self.left.pop(name, default)

    def refuse(self, **understood: Any) -> None:
        """Take arguments of which only these values are understood."""
        for name, value in understood.items():
            if (given := self.take(name, value)) != value:
                raise NotImplementedError(f"{self.kind}({name}={given!r}) is not understood; only {value!r} is.")

    def end(self) -> None:
        """Refuse what nobody took."""
        if self.left:
            raise NotImplementedError(f"arguments of {self.kind} that are not understood: {json.dumps(self.left)}")


def build(case: dict[str, Any]) -> tuple[Quantizer, dict[str, float]]:
    """Return the quantizer of a case and the weights of its losses."""
    arguments = Arguments(case)
    if arguments.kind not in KINDS:
        raise NotImplementedError(f"kind {arguments.kind!r} is not understood; known are {sorted(KINDS)}.")
    built = KINDS[arguments.kind](arguments)
    arguments.end()
    return built


# ------------------------------------------------------------------ quantizers of numbers


class SoftClamp(nn.Module):
    """Squash smoothly to (-limit, limit)."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.limit).tanh() * self.limit


def several(leaf: Callable[[], Quantizer], arguments: Arguments) -> Quantizer:
    """One codebook, or several side by side."""
    n = arguments.take("num_codebooks", 1)
    keep = arguments.take("keep_num_codebooks_dim")
    return ProductQuantizer([leaf() for _ in range(n)]) if (n > 1 if keep is None else keep) else leaf()


def outside(inner: Quantizer, dim: int, is_projected: bool, arguments: Arguments) -> Quantizer:
    """Projections, a clamp of the input, and the channel order."""
    has_bias, limit = arguments.take("projection_has_bias", True), arguments.take("soft_clamp_input_value")
    # four and more dimensions are channels first whatever the argument says
    is_first = bool(arguments.take("channel_first")) or arguments.n_dims >= 4
    if is_projected:
        inner = project(inner, dim, bias=has_bias)
    if limit is not None:
        before, after = (inner.before, inner.after) if isinstance(inner, Projected) else (nn.Identity(), nn.Identity())
        core = inner.quantizer if isinstance(inner, Projected) else inner
        inner = Projected(core, dim, nn.Sequential(before, SoftClamp(limit)), after)
    return ChannelsFirst(inner) if is_first else inner


def build_fsq(arguments: Arguments) -> tuple[Quantizer, dict[str, float]]:
    levels, kind = arguments.take("levels"), SymmetricFSQ if arguments.take("preserve_symmetry", False) else FSQ
    arguments.refuse(noise_dropout=0.0, bound_hard_clamp=False, orthogonal_rotation=False, scale=None)
    arguments.refuse(soft_clamp_input_value=None, return_indices=True, force_quantization_f32=True)
    inner = several(lambda: kind(levels), arguments)
    dim = arguments.take("dim") or inner.width
    return outside(inner, dim, dim != inner.width, arguments), {}


def build_lfq(arguments: Arguments) -> tuple[Quantizer, dict[str, float]]:
    dim, size = arguments.take("dim"), arguments.take("codebook_size")
    n_bits = dim if size is None else int(size).bit_length() - 1
    scale, sharpness = arguments.take("codebook_scale", 1.0), arguments.take("inv_temperature", 100.0)
    weights = {
        "entropy": arguments.take("entropy_loss_weight", 0.1),
        "diversity": arguments.take("diversity_gamma", 1.0),
        "commitment": arguments.take("commitment_loss_weight", 0.0),
    }
    # the library looks at every code, however many there are
    soft = {"inverse_temperature": sharpness, "entropy": FullEntropy()}
    if arguments.take("spherical", False):
        inner = several(lambda: BSQ(n_bits, length=scale, **soft), arguments)
    else:
        inner = several(lambda: LFQ(n_bits, scale=scale, **soft), arguments)
    arguments.refuse(frac_per_sample_entropy=1.0, cosine_sim_project_in=False, cosine_sim_project_in_scale=None)
    arguments.refuse(experimental_softplus_entropy_loss=False, orthogonal_rotation=False, force_quantization_f32=True)
    dim = dim or inner.width
    is_projected = arguments.take("has_projections")
    return outside(inner, dim, dim != inner.width if is_projected is None else is_projected, arguments), weights


# ------------------------------------------------------------------ codebooks


def codebook(arguments: Arguments, width: int, estimator: Estimator) -> Callable[[int], EMACodebook | GradientCodebook]:
    """Return what makes codebooks of a size."""
    metric = Cosine() if arguments.take("use_cosine_sim", False) else Euclidean()
    decay, epsilon = arguments.take("decay", 0.8), arguments.take("eps", 1e-5)
    arguments.refuse(kmeans_init=False, threshold_ema_dead_code=0, stochastic_sample_codes=False)
    arguments.refuse(orthogonal_reg_weight=0.0, codebook_diversity_loss_weight=0.0, affine_param=False)
    arguments.refuse(commitment_use_cross_entropy_loss=False, directional_reparam=False, sync_update_v=0.0)
    arguments.refuse(route_gradients_to_input=True, manual_ema_update=False)
    arguments.take("sync_codebook")  # of ranks; there is one
    if arguments.take("learnable_codebook", False):
        arguments.refuse(ema_update=False, freeze_codebook=False)
        return lambda size: GradientCodebook(size, width, metric=metric, estimator=estimator, reset=NoReset())
    is_moved, is_frozen = arguments.take("ema_update"), arguments.take("freeze_codebook", False)
    if is_frozen or is_moved is False:
        decay = 1.0
    return lambda size: EMACodebook(
        size, width, decay=decay, epsilon=epsilon, metric=metric, estimator=estimator, reset=NoReset()
    )


def estimator_of(arguments: Arguments, width: int) -> Estimator:
    """Rotation is the library's default, except where the input is one number."""
    is_plain, is_rotated = arguments.take("straight_through", False), arguments.take("rotation_trick")
    if is_rotated is None:
        is_rotated = width > 1 and not is_plain
    return rotation if is_rotated else straight_through


def projected(inner: Quantizer, dim: int, arguments: Arguments) -> Quantizer:
    """Linear maps where widths differ, with a norm behind the first if it is asked for."""
    has_norm = arguments.take("layernorm_after_project_in", False)
    if dim == inner.width:
        return inner
    inner = project(inner, dim)
    if has_norm:
        inner.before = nn.Sequential(inner.before, nn.LayerNorm(inner.quantizer.width))
    return inner


def build_vq(arguments: Arguments) -> tuple[Quantizer, dict[str, float]]:
    dim, size, heads = arguments.take("dim"), arguments.take("codebook_size"), arguments.take("heads", 1)
    width = arguments.take("codebook_dim") or dim
    make = codebook(arguments, width, estimator_of(arguments, dim))
    weights = {"commitment": arguments.take("commitment_weight", 1.0)}
    is_separate = arguments.take("separate_codebook_per_head", False)
    if heads == 1:
        inner: Quantizer = make(size)
    elif is_separate:
        inner = ProductQuantizer([make(size) for _ in range(heads)])
    else:
        inner = SharedProductQuantizer(make(size), heads)
    inner = projected(inner, dim, arguments)
    is_map = arguments.take("accept_image_fmap", False) or arguments.take("accept_3d_fmap", False)
    is_last = arguments.take("channel_last", True)
    return ChannelsFirst(inner) if is_map or not is_last else inner, weights


def build_rvq(arguments: Arguments) -> tuple[Quantizer, dict[str, float]]:
    dim, size, n = arguments.take("dim"), arguments.take("codebook_size"), arguments.take("num_quantizers")
    width = arguments.take("codebook_dim") or dim
    make = codebook(arguments, width, estimator_of(arguments, width))
    sizes = [size] * n if isinstance(size, int) else size
    arguments.refuse(shared_codebook=False, quantize_dropout=False, heads=1, implicit_neural_codebook=False)
    arguments.refuse(beam_size=None, eval_beam_size=None, quant_grad_frac=0.0, diveq=False)
    arguments.refuse(accept_3d_fmap=False)
    weights = {"commitment": arguments.take("commitment_weight", 1.0)}
    is_first = arguments.take("accept_image_fmap", False) or not arguments.take("channel_last", True)
    inner = projected(ResidualQuantizer([make(s) for s in sizes]), dim, arguments)
    return ChannelsFirst(inner) if is_first else inner, weights


KINDS = {"FSQ": build_fsq, "LFQ": build_lfq, "VectorQuantize": build_vq, "ResidualVQ": build_rvq}


def load(quantizer: Quantizer, arrays: dict[str, Tensor]) -> None:
    """Give a quantizer the projections and the first codebooks of a case."""
    for module in quantizer.modules():
        if isinstance(module, Projected):
            load_projection(module.before, "project_in", arrays)
            load_projection(module.after, "project_out", arrays)
    books = [m for m in quantizer.modules() if isinstance(m, EMACodebook | GradientCodebook)]
    if not books:
        return
    first = arrays["codebooks0"] if "codebooks0" in arrays else arrays["codebook0"]
    with torch.no_grad():
        for book, vectors in zip(books, first.view(len(books), *books[0].vectors.shape), strict=True):
            book.vectors.copy_(vectors)


def load_projection(module: nn.Module, prefix: str, arrays: dict[str, Tensor]) -> None:
    """Load by name; dots may be written as underscores."""
    stored = {name.replace(".", "_"): array for name, array in arrays.items()}
    state = {}
    for name in module.state_dict():
        # a sequence numbers its parts; the set may not
        entry = f"{prefix}_{name.replace('.', '_')}"
        found = stored.get(entry, stored.get(f"{prefix}_{name.split('.')[-1]}"))
        if found is None:
            raise KeyError(f"the set has no {entry}; it has {sorted(stored)}")
        state[name] = found
    module.load_state_dict(state)
