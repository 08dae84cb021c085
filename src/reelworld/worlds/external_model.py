"""One model of a published checkpoint: its tensors and hyper-parameters, compared with each other.

Sizes are read from shapes. A hyper-parameter that gives the same size must agree. Every error is one line that begins
with the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from reelworld.types import UserError
from reelworld.worlds.external_checkpoint import ExternalCheckpoint
from reelworld.worlds.pickle_check import brief

M = TypeVar("M", bound=nn.Module)
LARGEST_COUNT = 1 << 31


@dataclass(frozen=True)
class ExternalModel:
    """Named tensors and hyper-parameters of one model."""

    path: Path
    """File they were read from."""
    tensors: Mapping[str, Tensor]
    hyper_parameters: Mapping[str, object]
    """Hyper-parameters, plain values."""

    @classmethod
    def of(cls, checkpoint: ExternalCheckpoint, prefix: str = "") -> ExternalModel:
        """Take the tensors below ``prefix``, and the hyper-parameters: those under "args" where Lightning put them."""
        tensors = {k.removeprefix(prefix): v for k, v in checkpoint.state_dict.items() if k.startswith(prefix)}
        said: object = checkpoint.hyper_parameters.get("args", checkpoint.hyper_parameters)
        if not isinstance(said, dict):
            raise UserError(f"{checkpoint.path} has hyper-parameters args that are no Namespace; export it again.")
        return cls(checkpoint.path, tensors, said)

    def without(self, pattern: str) -> ExternalModel:
        """Leave out the tensors whose names match from their beginning."""
        return replace(self, tensors={k: v for k, v in self.tensors.items() if not re.match(pattern, k)})

    def error(self, message: str) -> UserError:
        """Make an error that begins with the file."""
        return UserError(f"{self.path} {message}")

    def shape(self, name: str, n_axes: int) -> tuple[int, ...]:
        """Return the shape of a tensor that must be there."""
        if name not in self.tensors:
            raise self.error(f"lacks the tensor {name}; it is no complete checkpoint of such a model.")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != n_axes or not all(shape):
            raise self.error(
                f"has a tensor {name} of shape {shape}; wanted {n_axes} axes: it is another kind of model."
            )
        return shape

    def count(self, pattern: str) -> int:
        """Count the different numbers (the pattern's group) in names that match from their beginning."""
        return len({match[1] for name in self.tensors if (match := re.match(pattern, name))})

    def flag(self, name: str, default: bool) -> bool:
        """Return an optional yes or no."""
        value = self.hyper_parameters.get(name, default)
        if type(value) is not bool:
            raise self.error(f"says {brief(value)} for {name}; wanted true or false.")
        return value

    def number(self, name: str, default: int | None = None) -> int:
        """Return a count; without a default it is required."""
        value = self.hyper_parameters.get(name, default)
        if type(value) is not int or not 0 <= value < LARGEST_COUNT:
            came = "nothing" if value is None else brief(value)
            raise self.error(f"says {came} for {name} in its hyper-parameters; wanted a count.")
        return value

    def fraction(self, name: str, default: float, may_be_one: bool = False) -> float:
        """Return an optional number from 0 to below 1, or to 1."""
        value = self.hyper_parameters.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or not (0 <= value < 1 or (may_be_one and value == 1)):
            raise self.error(
                f"says {brief(value)} for {name}; wanted a number from 0 to {'' if may_be_one else 'below '}1."
            )
        return float(value)

    def positive(self, name: str, default: float) -> float:
        """Return an optional number above 0."""
        value = self.hyper_parameters.get(name, default)
        if not isinstance(value, int | float) or not 0 < value < inf:
            raise self.error(f"says {brief(value)} for {name}; wanted a number above 0.")
        return float(value)

    def triple(self, name: str) -> tuple[int, int, int] | None:
        """Return three counts above 0, or None if there are none."""
        match self.hyper_parameters.get(name):
            case None:
                return None
            case [int() as t, int() as h, int() as w] if all(0 < n < LARGEST_COUNT for n in (t, h, w)):
                return t, h, w
            case value:
                raise self.error(f"says {brief(value)} for {name}; wanted three counts.")

    def agree(self, **found: object) -> None:
        """Refuse hyper-parameters that contradict the weights.

        Args:
            found: Hyper-parameter -> value that the weights have; absent ones and None agree.
        """
        for name, value in found.items():
            said = self.hyper_parameters.get(name)
            if said is not None and (type(said) is not type(value) or said != value):
                raise self.error(
                    f"says {name} {brief(said)}; its weights have {value}: the two do not belong together."
                )

    def fill(self, build: Callable[[], M], names: Callable[[nn.Module], Mapping[str, Tensor]]) -> M:
        """Build a part and copy every tensor into it; the names must be the same, to the last one.

        Args:
            build: Makes the part.
            names: Gives the part's tensors their published names, e.g. ``StateDictAdapter.published``.

        Raises:
            UserError: If the part cannot be built, or names, shapes or kinds of numbers differ.
        """
        try:
            with torch.device("meta"):  # shapes first: a file of a few bytes could ask for any amount of memory
                wanted = names(build())
        except UserError as error:
            raise self.error(f"is no model that can be built: {error}") from None
        missing, surplus = sorted(wanted.keys() - self.tensors.keys()), sorted(self.tensors.keys() - wanted.keys())
        if missing or surplus:
            first = missing[0] if missing else "none"
            closest = max(surplus, key=lambda name: _common_letters(name, first), default="none")
            raise self.error(
                f"holds other tensors than its hyper-parameters need: {len(missing)} missing "
                f"({brief(first) if missing else first}), {len(surplus)} surplus "
                f"({brief(closest) if surplus else closest}); it is no complete checkpoint of such a model."
            )
        for name, tensor in wanted.items():
            found = self.tensors[name]
            if found.shape != tensor.shape or found.is_floating_point() != tensor.is_floating_point():
                raise self.error(
                    f"has a tensor {name} of {found.dtype} {tuple(found.shape)}; wanted {tensor.dtype} "
                    f"{tuple(tensor.shape)}: its weights and hyper-parameters do not belong together."
                )
        part = build().eval()
        with torch.no_grad():
            for name, tensor in names(part).items():
                tensor.copy_(self.tensors[name])
        return part


def _common_letters(a: str, b: str) -> int:
    """Return the length of the common prefix of two names."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
