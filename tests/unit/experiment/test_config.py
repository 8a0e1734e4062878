"""The configuration: identity, limits, and errors that name the place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from certiprune.experiment.config import Experiment, Ladder, Penalty, Train

FULL = Experiment(
    train=Train(penalties=(Penalty(name="rs", weight=0.1),)),
    ladders=(Ladder(name="a", method="magnitude", keep=(0.5, 0.25)),),
)


def changed(value: Any) -> Any:
    """Another value of about the same type; it need not be a valid one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case tuple():
            return (*value, 7)
        case dict():
            return {**value, "more": 1}
        case None:
            return 3
    raise TypeError(type(value))


def variants(model: BaseModel, place: str = "") -> Iterator[tuple[str, BaseModel]]:
    """``model`` with one field changed, for every field of it and of the sections inside it."""
    for name in type(model).model_fields:
        value, where = getattr(model, name), f"{place}.{name}"
        if isinstance(value, BaseModel):
            for inner, other in variants(value, where):
                yield inner, model.model_copy(update={name: other})
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for inner, other in variants(value[0], f"{where}[0]"):
                yield inner, model.model_copy(update={name: (other, *value[1:])})
            yield where, model.model_copy(update={name: ()})
        else:
            yield where, model.model_copy(update={name: changed(value)})


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # the changed values are not all valid ones
def test_every_field_changes_the_digest() -> None:
    found = {place: variant.digest() for place, variant in variants(FULL) if isinstance(variant, Experiment)}
    wanted = {".schema_", ".train.loss.options", ".ladders[0].keep", ".verify.nodes", ".model.initial"}
    wanted |= {
        ".train.statistics.every",
        ".train.choose",
        ".train.eps_shape",
        ".train.rate_shape",
        ".train.warm_up",
    }
    wanted |= {f".train.penalties[0].{field}" for field in ("name", "weight", "options")}
    assert wanted <= set(found)
    assert FULL.digest() not in found.values()
    assert len(set(found.values())) == len(found)


def test_the_digest_does_not_depend_on_how_a_value_is_written() -> None:
    written = {"verify": {"eps": "2/255"}, "train": {"learning_rate": "1e-2"}}
    computed = {"train": {"learning_rate": 0.01}, "verify": {"eps": 2 / 255}}
    assert Experiment.model_validate(written).digest() == Experiment.model_validate(computed).digest()


def test_defaults_written_out_give_the_same_experiment() -> None:
    again = Experiment.model_validate(FULL.resolved())
    assert again == FULL
    assert again.digest() == FULL.digest()


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": True}, "valid integer"),
        ({"device": "gpu"}, "pattern"),
        ({"schema": 2}, "should be 1"),
        ({"verify": {"eps": 8}}, "input units"),
        ({"verify": {"eps": True}}, "fraction"),
        ({"verify": {"eps": "1/0"}}, "no number"),
        ({"verify": {"seconds": float("inf")}}, "finite"),
        ({"verify": {"images": 0}}, "greater than or equal to 1"),
        ({"train": {"learning_rate": float("nan")}}, "greater than 0|finite"),
        ({"train": {"learning_rate": True}}, "not true or false"),
        ({"model": {"initial": "xavier"}}, "'default' or 'ibp'"),
        ({"train": {"penalties": [{"name": "rs", "weight": 0}]}}, "greater than 0"),
        ({"train": {"penalties": [{"name": "rs"}]}}, "required"),
        ({"train": {"penalties": [{"name": "rs", "weight": 1}] * 2}}, "the penalty rs is given twice"),
        ({"train": {"rate_shape": "cosine", "milestones": [3]}}, "there are no milestones"),
        ({"train": {"rate_shape": "step"}}, "'milestones' or 'cosine'"),
        ({"train": {"epochs": 5, "warm_up": 6}}, "warm_up is 6 epochs"),
        ({"train": {"choose": "best"}}, "'auto', 'certified', 'pgd' or 'clean'"),
        ({"train": {"choose": "pgd", "eps": 0}}, "choose pgd needs an eps above 0"),
        ({"train": {"eps_shape": "quadratic"}}, "'smoothed', 'linear' or 'constant'"),
        ({"train": {"eps_shape": "constant", "eps_length": 1}}, "leave eps_length at 0"),
        ({"train": {"epochs": 5, "milestones": [4, 4]}}, "must rise"),
        ({"train": {"epochs": 5, "milestones": [6]}}, "after the last of 5"),
        ({"train": {"epochs": 5, "eps_start": 3, "eps_length": 3}}, "eps_length is 6 epochs"),
        ({"ladders": [{"name": "dense", "method": "magnitude", "keep": [0.5]}]}, "choose another name"),
        ({"ladders": [{"name": "../x", "method": "magnitude", "keep": [0.5]}]}, "pattern"),
        ({"ladders": [{"name": "a", "method": "magnitude", "keep": []}]}, "at least 1"),
        ({"ladders": [{"name": "a", "method": "magnitude", "keep": [0.5, 0.5]}]}, "must fall"),
        ({"ladders": [{"name": "a", "method": "magnitude", "keep": [1.0]}]}, "less than 1"),
        ({"ladders": [{"name": "a", "method": "magnitude", "keep": [0.5]}] * 2}, "two ladders are called a"),
        (
            {"train": {"epochs": 5}, "ladders": [{"name": "a", "method": "m", "keep": [0.5], "rewind": 6}]},
            "rewinds to epoch 6 of 5",
        ),
    ],
)
def test_values_out_of_range_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Experiment.model_validate(content)
