"""Pocket configs that are refused; their flags are tested in tests/cli/test_bad_input.py."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tiny import tiny_config

from reelworld.types import UserError


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"dynamics__trunk_layers": 0}, "trunk_layers is 0"),
        ({"tokenizer__width": 0}, "width is 0"),
        ({"dynamics__temporal_layers": 5}, "temporal_layers is 5; it must be from 0 to trunk_layers"),
        ({"dynamics__head_layers": -1}, "head_layers is -1"),
        ({"tokenizer__levels": ()}, r"levels is \(\)"),
        ({"tokenizer__levels": (8, 1)}, r"levels is \(8, 1\); it must be one or more numbers of at least 2"),
        ({"tokenizer__levels": (1000, 1000)}, "a product of at most 65,536 codes"),
        ({"dynamics__optim__lr": float("nan")}, "lr is nan"),
    ],
)
def test_values_out_of_range_are_one_line(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        tiny_config("pocket", **changed)
    assert "\n" not in str(caught.value)
