"""Boxes: balls, precision, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from certiprune.core.box import Box, round_down, round_up
from certiprune.core.errors import InputError

F64 = torch.float64


def test_a_ball_is_clipped_to_the_domain() -> None:
    box = Box.ball(torch.tensor([[0.0, 0.5, 1.0]], dtype=F64), 0.25)
    assert box.lower.tolist() == [[0.0, 0.25, 0.75]]
    assert box.upper.tolist() == [[0.25, 0.75, 1.0]]


def test_a_ball_may_be_left_unclipped() -> None:
    box = Box.ball(torch.tensor([[0.0, 2.0]], dtype=F64), 0.25, domain=None)
    assert box.lower.tolist() == [[-0.25, 1.75]]
    assert box.upper.tolist() == [[0.25, 2.25]]


def test_each_ball_has_its_own_radius() -> None:
    box = Box.ball(torch.full((2, 1, 2, 2), 0.5, dtype=F64), torch.tensor([0.25, 0.5]))
    assert box.half_width.flatten(1).unique(dim=1).tolist() == [[0.25], [0.5]]


def test_a_radius_of_zero_gives_points() -> None:
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    box = Box.ball(x, 0.0)
    assert torch.equal(box.lower, x) and torch.equal(box.upper, x)
    assert bool(box.contains(x).all())


def test_a_radius_of_one_gives_the_whole_domain() -> None:
    box = Box.ball(torch.tensor([[0.0, 0.3, 1.0]]), 1.0)
    assert box.lower.tolist() == [[0.0, 0.0, 0.0]]
    assert box.upper.tolist() == [[1.0, 1.0, 1.0]]


def test_no_balls_are_an_empty_box() -> None:
    assert len(Box.ball(torch.zeros(0, 3), 0.1)) == 0


REFUSED = {
    "NaN": (torch.tensor([[float("nan")]]), 0.1, "not a number"),
    "infinite": (torch.tensor([[float("inf")]]), 0.1, "outside"),
    "above the domain": (torch.tensor([[1.5]]), 0.1, "outside"),
    "below the domain": (torch.tensor([[-0.01]]), 0.1, "outside"),
    "negative radius": (torch.tensor([[0.5]]), -0.1, "negative"),
    "radius NaN": (torch.tensor([[0.5]]), float("nan"), "not a number"),
    "three radii for two": (torch.rand(2, 1), torch.rand(3), "3 radii do not fit 2"),
    "two radii for one": (torch.rand(1, 1), torch.rand(2), "2 radii do not fit 1"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_ball_is_refused(name: str) -> None:
    centre, radius, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        Box.ball(centre, radius)


def test_crossed_ends_and_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="above its upper end"):
        Box(torch.ones(1, 1), torch.zeros(1, 1))
    with pytest.raises(InputError, match="not a number"):
        Box(torch.full((1, 1), float("nan")), torch.ones(1, 1))
    with pytest.raises(InputError, match="equal shapes"):
        Box(torch.ones(1, 2), torch.ones(2, 1))


@pytest.mark.parametrize("value", [0.1, -0.1, 1e-50, -1e-50, 1e300, -1e300, 0.0, 0.5, 1e-40])
def test_rounding_goes_outward_and_no_further_than_one_step(value: float) -> None:
    exact = torch.tensor([value], dtype=F64)
    low, high = round_down(exact, torch.float32), round_up(exact, torch.float32)
    assert low.dtype == high.dtype == torch.float32
    assert low.double() <= exact <= high.double()
    assert high <= torch.nextafter(low, torch.tensor([torch.inf]))


def test_boxes_lose_no_point_in_a_lower_precision() -> None:
    box = Box.ball(torch.rand(4, 5, generator=torch.Generator().manual_seed(1)).double(), 0.1)
    narrow = box.to(torch.float32)
    assert bool((narrow.lower.double() <= box.lower).all())
    assert bool((narrow.upper.double() >= box.upper).all())
    assert torch.equal(narrow.to(F64).lower, narrow.lower.double())


def test_points_are_moved_to_the_nearest_point_of_their_box() -> None:
    box = Box(torch.zeros(2, 2), torch.ones(2, 2))
    points = torch.tensor([[0.5, 2.0], [-1.0, 0.25]])
    assert box.contains(points).tolist() == [False, False]
    moved = box.clamp(points)
    assert moved.tolist() == [[0.5, 1.0], [0.0, 0.25]]
    assert box.contains(moved).tolist() == [True, True]
    assert len(box[slice(1, 2)]) == 1
