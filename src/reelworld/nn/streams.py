"""Base class of state dataclasses: tensors with one row per stream.

A stream is one of the sequences that a model continues side by side. Models keep the state of their streams in
dataclasses; copying, joining and overwriting streams is the same for all of them and is written here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Self, cast

import torch
from torch import Tensor


class Streams:
    """A dataclass of tensors (n, ...), of other ``Streams``, and of lists, tuples or mappings of these.

    A field with ``metadata={"streams": False}`` belongs to all streams alike: it is taken from the first operand. So is
    a field that is None or holds no tensors. A class whose streams are not rows, such as a cache, overrides the three
    methods.
    """

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """Copy several states into one, their streams in this order."""
        return cls._made(list(states), lambda xs: torch.cat(xs), lambda xs: type(xs[0]).cat(xs))

    def index_select(self, streams: Tensor) -> Self:
        """Copy the given streams, int64 (k,)."""
        return self._made([self], lambda xs: xs[0][streams], lambda xs: xs[0].index_select(streams))

    def index_copy_(self, streams: Tensor, other: Self) -> None:
        """Overwrite streams with those of another state.

        Tensors are replaced rather than written to, since states of earlier steps may share them.
        """

        def write(xs: list[Tensor]) -> Tensor:
            return xs[0].index_copy(0, streams.to(xs[0].device), xs[1].to(xs[0].dtype))

        def write_streams(xs: list[Streams]) -> Streams:
            xs[0].index_copy_(streams, xs[1])
            return xs[0]

        vars(self).update(vars(type(self)._made([self, other], write, write_streams)))

    @classmethod
    def _made(
        cls, states: list[Self], of_tensors: Callable[[list[Tensor]], Tensor], of_streams: Callable[[list[Any]], Any]
    ) -> Self:
        """Build a state field by field."""

        def build(values: list[Any]) -> Any:
            first = values[0]
            if isinstance(first, Tensor):
                return of_tensors(values)
            if isinstance(first, Streams):
                return of_streams(values)
            if isinstance(first, Mapping):
                return {key: build([value[key] for value in values]) for key in first}
            if isinstance(first, list | tuple):
                return type(first)(build(list(items)) for items in zip(*values, strict=True))
            return first

        of_all = {f.name for f in fields(cast(Any, cls)) if f.metadata.get("streams", True) is False}
        names = [f.name for f in fields(cast(Any, cls)) if f.init]
        columns = {name: [getattr(state, name) for state in states] for name in names}
        return cls(**{name: xs[0] if name in of_all else build(xs) for name, xs in columns.items()})
