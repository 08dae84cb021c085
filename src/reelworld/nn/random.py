"""Random draws from explicit generators, one for all rows of a batch or one per row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def uniform(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Draw from [0, 1): with one generator per row, a row's draws do not depend on the other rows."""
    if isinstance(generator, Sequence):
        rows = [torch.rand(shape[1:], generator=g, device=g.device) for g in generator]
        return torch.stack(rows).to(device)
    where = generator.device if generator is not None else device
    return torch.rand(tuple(shape), generator=generator, device=where).to(device)
