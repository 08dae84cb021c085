"""Attention of many rows to a past that they share and to what each has of its own: forks of one session.

Torch needs a dozen calls for it; on a CPU, with one query per row, one call of compiled C does the same. The code is
compiled when it is first wanted; where it cannot be, and elsewhere, torch does it.

Shapes: B rows, H heads, C tokens that are common to all, K tokens of a row, D width of a head
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from reelworld.nn.native import compiled

__all__ = ["attend_behind", "to_share"]

CODE = Path(__file__).with_name("behind.c")


class _Table(ctypes.Structure):
    """Keys or values, common and own, and how far apart heads and rows lie."""

    _fields_ = (
        ("common", ctypes.c_void_p),
        ("own", ctypes.c_void_p),
        ("head", ctypes.c_int64),
        ("own_row", ctypes.c_int64),
        ("own_head", ctypes.c_int64),
    )


def to_share(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Copy keys and values (..., C, D) as ``attend_behind`` reads them: the same shapes, keys column by column."""
    return keys.transpose(-1, -2).clone(memory_format=torch.contiguous_format).transpose(-1, -2), values.clone()


def attend_behind(q: Tensor, common: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
    """Attend to what all rows have in common, which is read once, and to what each row has of its own.

    Args:
        q: One query per row, (B, H, 1, D).
        common: Keys and values of all rows, (1, H, C, D) each, best from ``to_share``; every query sees them.
        k: Keys of each row, (B, H, K, D); its query sees them all.
        v: Their values, (B, H, K, D).

    Returns:
        Mixed values, (B, H, 1, D).
    """
    library = compiled(CODE) if _suits(q, *common, k, v) else None
    if library is not None:
        rows, heads, _, width = q.shape
        queries_BHD, mixed_BHD = q.reshape(rows, heads, width).contiguous(), torch.empty(rows, heads, width)
        tables = (_table(common[0], k), _table(common[1], v))
        sizes = (ctypes.c_int64(n) for n in (rows, heads, width, common[0].shape[2], k.shape[2]))
        did = library.attend(
            ctypes.c_void_p(queries_BHD.data_ptr()),
            *map(ctypes.byref, tables),
            ctypes.c_void_p(mixed_BHD.data_ptr()),
            *sizes,
            ctypes.c_float(width**-0.5),
            ctypes.c_int(torch.get_num_threads()),
        )
        if did:
            return mixed_BHD[:, :, None]
    return _by_torch(q, common, k, v)


def _by_torch(q: Tensor, common: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> Tensor:
    n_common = common[0].shape[-2]
    of_common_BH1C = torch.matmul(q.transpose(0, 2), common[0].transpose(-1, -2)).transpose(0, 2)
    scores = torch.cat([of_common_BH1C, torch.matmul(q, k.transpose(-1, -2))], -1)
    weights = scores.mul(q.shape[-1] ** -0.5).softmax(-1)
    mixed_BH1D = torch.matmul(weights[..., :n_common].transpose(0, 2), common[1]).transpose(0, 2)
    return mixed_BH1D + torch.matmul(weights[..., n_common:], v)


def _suits(q: Tensor, keys: Tensor, values: Tensor, k: Tensor, v: Tensor) -> bool:
    """Say whether the compiled code can do it: float32 on a CPU, without gradients, tables as it reads them."""
    tables = (values, k, v, keys.transpose(2, 3))
    if torch.is_grad_enabled() or not all(t.stride()[2:] == (t.shape[3], 1) for t in tables):
        return False
    return all(t.device.type == "cpu" and t.dtype == torch.float32 and t.numel() for t in (q, *tables))


def _table(common: Tensor, own: Tensor) -> _Table:
    return _Table(common.data_ptr(), own.data_ptr(), common.stride(1), own.stride(0), own.stride(1))
