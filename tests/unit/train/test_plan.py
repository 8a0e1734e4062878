from __future__ import annotations

from typing import Any

import pytest

from certiprune.core.errors import InputError
from certiprune.train import Plan


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"optimizer": "adan"}, "no optimizer called 'adan'; did you mean adam"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"milestones": (4, 2)}, "milestones must be rising numbers of epochs"),
        ({"rate_shape": "cosin"}, "no rate_shape called 'cosin'; did you mean cosine"),
        ({"rate_shape": "cosine", "milestones": (4,)}, "with rate_shape cosine there are no milestones"),
        ({"choose": "pdg", "eps": 0.1}, "no choose called 'pdg'; did you mean pgd"),
        ({"choose": "certified"}, "choose certified needs an eps above 0"),
        ({"warm_up": -1}, "warm_up must be at least 0"),
        ({"warm_up": 11}, "warm_up is 11 epochs and the plan has 10"),
        ({"eps_shape": "linaer"}, "no eps_shape called 'linaer'; did you mean linear"),
        ({"eps_shape": "constant", "eps_length": 2}, "leave eps_length at 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"eps": 2.0}, "2/255 and not 2"),
        ({"eps_mid": 0.0}, "eps_mid must be in"),
        ({"eps_start": -1}, "eps_start must be at least 0"),
        ({"eps": 0.1, "eps_start": 3, "eps_length": 8}, "eps_length is 11 epochs and the plan has 10"),
    ],
)
def test_a_value_out_of_range_is_named(change: dict[str, Any], fragment: str) -> None:
    with pytest.raises(InputError, match=fragment):
        Plan(**{"epochs": 10, **change})


def test_a_plan_gives_radius_and_rate_of_every_epoch() -> None:
    plan = Plan(10, learning_rate=1.0, milestones=[5], eps=0.1, eps_start=2, eps_length=4)  # type: ignore[arg-type]
    assert [plan.rates.at(epoch) for epoch in (0, 4.99, 5, 9)] == [1.0, 1.0, 0.1, 0.1]
    assert plan.schedule.at(2) == 0.0 and plan.schedule.at(6) == 0.1
    assert plan == Plan(10, learning_rate=1.0, milestones=(5,), eps=0.1, eps_start=2, eps_length=4)
    assert Plan(10, clip=None).clip is None
    plan = Plan(
        10, learning_rate=1.0, rate_shape="cosine", warm_up=1, eps=0.1, eps_shape="linear", eps_length=4
    )
    assert plan.rates.at(5) == pytest.approx(0.5) and plan.schedule.at(1) == pytest.approx(0.025)
