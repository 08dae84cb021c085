"""Tables of tensor names: patterns, parts, and what a table must cover."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reelworld.worlds.state_dict_adapter import Row, StateDictAdapter, transposed, with_leading_axis


class Model(nn.Module):
    """Two blocks, a norm and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"qkv": nn.Linear(2, 6, bias=False)}) for _ in range(11))
        self.norm = nn.LayerNorm(4)
        self.table = nn.Parameter(torch.arange(6.0).view(2, 3))
        self.register_buffer("count", torch.zeros(3, dtype=torch.int64))


ROWS = (
    Row("first.{key}", "blocks.0.qkv.{key}"),
    Row(("layers.{i-1}.q", "layers.{i-1}.k", "layers.{i-1}.v"), "blocks.{i}.qkv.weight"),
    Row("norm.{key}", "norm.{key}"),
    Row("emb.table", "table", transposed),
)


def test_names_and_views_of_every_tensor() -> None:
    model = Model()
    named = StateDictAdapter(*ROWS, Row((), "count")).published(model)
    layers = [f"layers.{i}.{name}" for i in range(10) for name in "qkv"]
    assert list(named) == ["emb.table", "first.weight", *layers, "norm.weight", "norm.bias"]
    assert named["emb.table"].shape == (3, 2)
    assert torch.equal(named["layers.9.k"], model.blocks[10]["qkv"].weight[2:4])
    named["layers.9.k"].fill_(7)
    assert (model.blocks[10]["qkv"].weight[2:4] == 7).all()


def test_gradients_have_the_same_names() -> None:
    model = Model()
    adapter = StateDictAdapter(*ROWS[:-1], Row("emb", "table", with_leading_axis), Row((), "count"))
    assert adapter.published(model, lambda tensor: tensor.grad) == {}
    model.table.sum().backward()
    grads = adapter.published(model, lambda tensor: tensor.grad)
    assert list(grads) == ["emb"]
    assert torch.equal(grads["emb"], torch.ones(1, 2, 3))


def test_a_tensor_without_a_row_is_an_error() -> None:
    with pytest.raises(KeyError, match="no row of the table has our tensor count"):
        StateDictAdapter(*ROWS).published(Model())
