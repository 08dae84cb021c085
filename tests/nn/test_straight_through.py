"""Gradient estimators against matrices that are written out."""

from __future__ import annotations

import torch
from torch import Tensor

from reelworld.nn.quantize.straight_through import rotation, straight_through


def pair(n: int = 20, width: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, width, requires_grad=True), torch.randn(n, width)


def test_both_have_the_value_of_what_was_chosen_and_leave_it_alone() -> None:
    for estimator in (straight_through, rotation):
        rows, chosen = pair()
        chosen.requires_grad_(True)
        found = estimator(rows, chosen)
        torch.testing.assert_close(found, chosen)
        found.sum().backward()
        assert rows.grad is not None
        assert chosen.grad is None or not chosen.grad.any()


def test_straight_through_is_the_identity() -> None:
    rows, chosen = pair()
    weights = torch.randn_like(chosen)
    (straight_through(rows, chosen) * weights).sum().backward()
    assert torch.equal(rows.grad, weights)


def rotation_matrix(source: Tensor, target: Tensor) -> Tensor:
    """The rotation in the plane of two directions, from its angle; not by reflections."""
    first = source / source.norm()
    rest = target - (target @ first) * first
    second = rest / rest.norm()
    cosine = (target @ first) / target.norm()
    sine = (target @ second) / target.norm()
    plane = torch.stack([first, second], 1)
    turn = torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])
    return torch.eye(len(source)) + plane @ (turn - torch.eye(2)) @ plane.t()


def test_rotation_is_a_rotation_and_a_scale() -> None:
    rows, chosen = pair()
    weights = torch.randn_like(chosen)
    (rotation(rows, chosen) * weights).sum().backward()
    for row, vector, weight, gradient in zip(rows.detach(), chosen, weights, rows.grad, strict=True):
        matrix = rotation_matrix(row, vector) * (vector.norm() / row.norm())
        torch.testing.assert_close(matrix @ row, vector, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(gradient, matrix.t() @ weight, atol=1e-5, rtol=1e-4)


def test_rotation_keeps_the_angle_between_gradient_and_vector() -> None:
    rows, chosen = pair()
    weights = torch.randn_like(chosen)
    (rotation(rows, chosen) * weights).sum().backward()
    before = torch.cosine_similarity(weights, chosen)
    torch.testing.assert_close(torch.cosine_similarity(rows.grad, rows.detach()), before, atol=1e-5, rtol=1e-4)


def test_rows_without_a_direction_get_the_straight_gradient() -> None:
    rows = torch.zeros(2, 3, requires_grad=True)
    found = rotation(rows, torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    (found * 2).sum().backward()
    assert found.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert torch.equal(rows.grad, torch.full((2, 3), 2.0))


def test_opposite_vectors_have_finite_gradients() -> None:
    rows = torch.tensor([[1.0, 0.0]], requires_grad=True)
    found = rotation(rows, torch.tensor([[-2.0, 0.0]]))
    found.sum().backward()
    assert found.tolist() == [[-2, 0]]
    assert rows.grad.isfinite().all()
