"""Actions as one vector, against sums made by hand."""

from __future__ import annotations

import pytest
import torch

from reelworld.nn.conditioning import ActionEmbedder, ActionVector, clip_range
from reelworld.types import ActionSpec


def test_actions_that_stay_together_have_tables_of_their_own() -> None:
    torch.manual_seed(0)
    embedder = ActionEmbedder({"action": ActionSpec(kind="discrete", n=3, repeat=2)}, 4)
    rows = embedder.embed["action"].weight
    made = embedder({"action": torch.tensor([[[0, 2], [2, 0]]])})
    torch.testing.assert_close(made, torch.stack([rows[0] + rows[3 + 2], rows[2] + rows[3 + 0]])[None])


def test_vectors_are_scaled_by_their_range_and_streams_are_added() -> None:
    torch.manual_seed(0)
    specs = {
        "turn": ActionSpec(kind="continuous", n=2, low=(0.0, -4.0), high=(1.0, 4.0)),
        "jump": ActionSpec(kind="discrete", n=2),
    }
    embedder = ActionEmbedder(specs, 4)
    made = embedder({"turn": torch.tensor([[[1.0, -2.0]]]), "jump": torch.tensor([[1]])})
    turn = embedder.embed["turn"](torch.tensor([[[1.0, -0.5]]]))
    torch.testing.assert_close(made, turn + embedder.embed["jump"].weight[1])
    assert ActionEmbedder({}, 4)({}) == 0.0


@pytest.mark.parametrize("name", ["a.b", "keys", "type"])
def test_streams_may_have_names_that_modules_cannot_have(name: str) -> None:
    embedder = ActionEmbedder({name: ActionSpec(kind="buttons", n=2)}, 4)
    made = embedder({name: torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])})
    assert made.shape == (1, 2, 4) and (made[:, 0] != made[:, 1]).any()


def test_buttons_together_are_not_the_sum_of_each() -> None:
    torch.manual_seed(0)
    embedder = ActionEmbedder({"action": ActionSpec(kind="buttons", n=2)}, 4)
    none, left, right, both = embedder({"action": torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])})[0]
    assert ((left + right - none) - both).abs().max() > 1e-3


def test_a_dimension_that_never_moved_is_not_stretched() -> None:
    """Rounding would become an action of a thousand."""
    spec = ActionSpec(kind="continuous", n=2, low=(0.3, -2.0), high=(0.3, 4.0))
    told = ActionVector({"action": spec})({"action": torch.tensor([[[0.3, 1.0], [0.301, 4.0]]])})
    torch.testing.assert_close(told, torch.tensor([[[0.0, 0.0], [0.001, 1.0]]]), atol=1e-6, rtol=0)


def test_what_a_world_accepts() -> None:
    """Half a width beyond each end."""
    spec = ActionSpec(kind="continuous", n=3, low=(0.0, -1.0, 5.0), high=(1.0, 1.0, 5.0))
    assert clip_range(spec) == ([-0.5, -2.0, 3.0], [1.5, 2.0, 7.0])
    assert (
        clip_range(ActionSpec(kind="continuous", n=2)) is None and clip_range(ActionSpec(kind="discrete", n=2)) is None
    )
