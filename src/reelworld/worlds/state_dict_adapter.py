"""Tables of tensor names: published names of a model's tensors and ours, for import.

A row gives a pattern of published names, a pattern of ours, and the views of our tensor that are the published ones, so
that copying into them fills our model. In a pattern ``{i}`` (one letter) is a number and ``{rest}`` (a word) any text;
``{i+1}`` is the number after it.

Source: the idea and the word are torchtitan's (``StateDictAdapter``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

FIELD = r"\{(\w+?)([+-]\d+)?\}"


def one_part(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the tensor itself as its only part."""
    return (tensor,)


def with_leading_axis(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return a view with an axis of 1 in front."""
    return (tensor[None],)


def transposed(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return a view with rows as columns."""
    return (tensor.t(),)


@dataclass(frozen=True)
class Row:
    """Published names of one kind of tensor, and ours."""

    theirs: str | tuple[str, ...]
    """Pattern, or several: equal groups of rows of our tensor, unless ``parts`` says otherwise. () is not published."""
    ours: str
    """Pattern of our names."""
    parts: Callable[[Tensor], Sequence[Tensor]] | None = None
    """Views of our tensor in the order of ``theirs``."""

    def match(self, name: str) -> re.Match[str] | None:
        """Match one of our names."""
        pattern, at = "", 0
        for field in re.finditer(FIELD, self.ours):
            pattern += re.escape(self.ours[at : field.start()])
            pattern += f"(?P<{field[1]}>{r'[0-9]+' if len(field[1]) == 1 else '.+?'})"
            at = field.end()
        return re.fullmatch(pattern + re.escape(self.ours[at:]), name)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Return the published tensors as views of ours."""
        if self.parts is not None:
            return self.parts(tensor)
        return one_part(tensor) if isinstance(self.theirs, str) else tensor.chunk(max(len(self.theirs), 1))


class StateDictAdapter:
    """A table of names; of the rows that match one of our names the first counts."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows

    def published(
        self, model: nn.Module, read: Callable[[Tensor], Tensor | None] = lambda tensor: tensor
    ) -> dict[str, Tensor]:
        """Give the tensors of a model their published names.

        Args:
            model: Our model.
            read: Function of each of our tensors; ``lambda p: p.grad`` gives gradients. Where it returns None, the
                names are left out.

        Returns:
            Published name -> a view of our tensor, without gradient tracking, that can be copied into.
        """
        named: dict[str, Tensor] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            row, fields = self._find(name)
            found = read(tensor)
            if found is None or not row.theirs:
                continue
            patterns = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
            for pattern, part in zip(patterns, row.split(found.detach()), strict=True):
                named[_filled(pattern, fields)] = part
        return named

    def _find(self, name: str) -> tuple[Row, dict[str, str]]:
        for row in self.rows:
            if match := row.match(name):
                return row, match.groupdict()
        raise KeyError(f"no row of the table has our tensor {name}")


def _filled(pattern: str, fields: dict[str, str]) -> str:
    """Fill the fields of a published pattern, ``{i+1}`` among them."""
    return re.sub(FIELD, lambda m: str(int(fields[m[1]]) + int(m[2])) if m[2] else fields[m[1]], pattern)
