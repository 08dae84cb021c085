"""Map between latent and real actions: known tables, both kinds of action, unlabelled actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from reelworld.config import from_json, to_json
from reelworld.models.action_mapping import ActionMap, fit_map, kinds_of
from reelworld.models.mapped_actions import MappedActions
from reelworld.models.world_model import Context, WorldModel
from reelworld.types import ActionSpec, ModelSpec, UserError

FIVE = ActionSpec(kind="discrete", n=5, names=("rest", "left", "right", "jump", "dig"))
WHEEL = ActionSpec(kind="continuous", n=2, names=("steer", "gas"), low=(-1.0, 0.0), high=(1.0, 3.0))


def steps(*counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Write steps as (latent, real, how often)."""
    latent, real, n = zip(*counts, strict=True)
    return np.repeat(latent, n), np.repeat(real, n)


def test_each_side_gets_what_it_most_often_goes_with() -> None:
    found = fit_map(*steps((0, 2, 9), (0, 1, 1), (1, 3, 5), (2, 1, 6), (2, 2, 2)), FIVE, 4, still=3)
    assert found.to_real == (2, 3, 1, 2)  # no label shows latent 3: the most frequent
    assert found.to_latent == (3, 2, 0, 1, 3)
    assert found.unseen == (0, 4) and found.unreached == ()
    assert found.n_labels == (10, 5, 8, 0)
    assert found.shares == pytest.approx((0.9, 1.0, 0.75, 0.0))
    assert found.limits() == ["no label shows rest; dig: played as if nothing were done"]


def test_a_latent_action_that_stands_for_it_is_better_than_a_more_frequent_one() -> None:
    """Left goes with latent 0 more often; but latent 0 mostly is right, and latent 1 is left."""
    found = fit_map(*steps((0, 2, 50), (0, 1, 12), (1, 1, 10)), FIVE, 2)
    assert found.to_latent[1] == 1 and found.to_latent[2] == 0
    assert found.unreached == ()


def test_a_key_that_no_latent_action_stands_for_is_named() -> None:
    found = fit_map(*steps((0, 2, 9), (0, 1, 4), (1, 3, 5), (1, 1, 2)), FIVE, 2)
    assert found.to_latent[1] == 0
    assert found.unreached == (1,)
    assert found.limits()[0] == "no key reaches left: it does the same as right"


def test_what_no_label_shows_is_played_like_the_null_action() -> None:
    labels = steps((0, 1, 9), (1, 0, 3), (2, 2, 4))
    assert fit_map(*labels, replace(FIVE, null=0), 4, still=3).to_latent == (1, 0, 2, 1, 1)
    assert fit_map(*labels, replace(FIVE, null=4), 4, still=3).to_latent == (1, 0, 2, 3, 3)
    assert fit_map(*labels, replace(FIVE, null=4), 4).to_latent == (1, 0, 2, 0, 0)
    assert fit_map(*labels, replace(FIVE, null=4), 4).to_real == (1, 0, 2, 4)
    assert fit_map(*labels, FIVE, 4).to_real == (1, 0, 2, 1)


def test_vectors_are_cut_in_thirds_of_their_range() -> None:
    latent = np.array([0, 0, 1, 1, 2])
    real = np.array([[-0.9, 0.5], [-0.5, 0.1], [0.0, 2.5], [0.2, 2.9], [1.0, 1.5]], np.float32)
    found = fit_map(latent, real, WHEEL, 3)
    assert found.cuts == (pytest.approx((-1 / 3, 1 / 3)), pytest.approx((1.0, 2.0)))
    assert found.kinds(real).tolist() == [0, 0, 5, 5, 7]
    assert [found.name(k) for k in (0, 5, 7)] == [
        "steer low, gas low", "steer middle, gas high", "steer high, gas middle"
    ]  # fmt: skip
    assert found.to_real[1] == pytest.approx((0.1, 2.7)) and found.to_real[2] == pytest.approx((1.0, 1.5))
    assert found.latent(np.array([[-1, 0], [0.3, 3], [0.9, 1.2]], np.float32)).tolist() == [0, 1, 2]
    assert len(found.to_latent) == 9 and found.unseen == (1, 2, 3, 4, 6, 8)
    assert found.meanings.tolist() == [0, 5, 7]


def test_a_range_that_is_not_known_is_that_of_the_labels() -> None:
    real = np.array([[0.0], [3.0], [6.0]], np.float32)
    spec = ActionSpec(kind="continuous", n=1, low=(-np.inf,), high=(np.inf,))
    for other in (spec, ActionSpec(kind="continuous", n=1)):
        assert fit_map(np.arange(3), real, other, 3).cuts == (pytest.approx((2.0, 4.0)),)


def test_combinations_of_buttons_are_kinds_with_names() -> None:
    spec = ActionSpec(kind="buttons", n=2, names=("run", "jump"))
    real = np.array([[0, 0], [1, 0], [0, 1], [1, 1]] * 5, np.float32)
    found = fit_map(np.array([3, 0, 2, 1] * 5), real, spec, 4)
    assert [found.name(kind) for kind in range(4)] == ["no button", "jump", "run", "run+jump"]
    assert np.array_equal(found.real(found.latent(real)), real)
    assert found.latent(np.array([1, 1], np.float32)) == 1 and found.real(np.array(2)).tolist() == [0.0, 1.0]
    assert not found.unreached and not found.unseen
    without = fit_map(np.array([3, 0] * 5), real[[0, 1] * 5], spec, 4)
    assert without.limits() == ["no label shows jump; run+jump: played as if nothing were done"]
    with pytest.raises(UserError, match="13 numbers wide"):
        fit_map(np.zeros(2, int), np.zeros((2, 13), np.float32), ActionSpec(kind="buttons", n=13), 4)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_tensors_are_translated_like_arrays(kind: str) -> None:
    """Also values that lie exactly on a cut."""
    rng = np.random.default_rng(0)
    if kind == "discrete":
        spec, real = FIVE, rng.integers(0, 5, 400)
    else:
        spec, real = WHEEL, rng.uniform((-1, 0), (1, 3), (400, 2)).astype(np.float32)
    found = fit_map(rng.integers(0, 6, 400), real, spec, 6)
    if kind == "continuous":
        real[:4] = np.array([(a, b) for a in found.cuts[0] for b in found.cuts[1]], np.float32)
    told: list[Any] = []

    class Recording(WorldModel):
        spec = ModelSpec(height=8, width=8, actions={"latent": ActionSpec(kind="discrete", n=6)})
        parts: ClassVar[dict[str, Any]] = {}

        def begin(self, context: Context, sampler: Any, rng: Any) -> Any:
            told.append(context.actions)

        def step(self, state: Any, actions: Any, sampler: Any, rng: Any) -> Any:
            told.append(actions)

        def loss(self, batch: Any, generator: Any = None) -> Any:
            raise NotImplementedError

        def default_sampler(self, exact: Any = None) -> Any:
            raise NotImplementedError

    model = MappedActions(Recording(), found)
    assert model.spec.actions == {"action": found.spec}
    rows = torch.from_numpy(real.reshape(4, 100, *real.shape[1:]))
    model.begin(Context(frames=np.zeros((4, 101, 8, 8, 3), np.uint8), actions={"action": rows}), None, [])  # type: ignore[arg-type]
    model.step(None, {"action": rows[:, :1]}, None, [])  # type: ignore[arg-type]
    assert np.array_equal(told[0]["latent"].numpy(), found.latent(real).reshape(4, 100))
    assert np.array_equal(told[1]["latent"].numpy(), found.latent(real).reshape(4, 100)[:, :1])
    assert set(told[0]) == {"latent"}
    assert len(set(found.to_latent)) > 3
    assert np.array_equal(kinds_of(rows, torch.tensor(found.cuts)).numpy().ravel(), found.kinds(real))


@pytest.mark.parametrize("spec", [FIVE, WHEEL], ids=["discrete", "continuous"])
def test_a_map_comes_back_from_json(spec: ActionSpec) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 5, 40) if spec is FIVE else rng.uniform((-1, 0), (1, 3), (40, 2)).astype(np.float32)
    found = fit_map(rng.integers(0, 6, 40), real, spec, 6)
    assert from_json(ActionMap, to_json(found)) == found


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"to_latent": (0, 1)}, "2 real actions; wanted 5"),
        ({"to_latent": (0, 1, 2, 0, 9)}, "beyond its 3"),
        ({"to_real": (0, 1, 7)}, "names the real action 7"),
        ({"to_real": (0, 1, (0.5, 0.5))}, "names the real action"),
        ({"shares": (1.0,)}, "another length"),
        ({"spec": WHEEL}, "cuts 0 dimensions"),
    ],
)
def test_a_map_that_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    found = fit_map(*steps((0, 2, 9), (1, 1, 4), (2, 3, 5)), FIVE, 3)
    with pytest.raises(UserError, match=said):
        replace(found, **changed)


@pytest.mark.parametrize(
    ("latent", "real", "spec", "said"),
    [
        (np.zeros(0, np.int64), np.zeros(0, np.int64), FIVE, "one of each per step"),
        (np.zeros(3, np.int64), np.zeros(2, np.int64), FIVE, "one of each per step"),
        (np.zeros(3, np.int64), np.zeros((3, 3), np.float32), WHEEL, "one of each per step"),
        (np.full(3, 4), np.zeros(3, np.int64), FIVE, "latent actions span 4..4; there are 0..3"),
        (np.zeros(3, np.int64), np.full(3, 5), FIVE, "real actions span 5..5; wanted ids 0..4"),
        (np.zeros(3, np.int64), np.zeros((3, 9)), ActionSpec(kind="continuous", n=9), "at most 8"),
    ],
)
def test_actions_that_do_not_fit_are_refused(latent: Any, real: Any, spec: ActionSpec, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fit_map(latent, real, spec, 4)
