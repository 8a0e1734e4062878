"""What the sections of an experiment file are made of."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import CertipruneError


def _epsilon(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number or a fraction such as 2/255")
    try:
        return parse_epsilon(value)
    except CertipruneError as error:
        raise ValueError(str(error)) from error


def number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def decreasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(later >= earlier for earlier, later in pairwise(values)):
        raise ValueError("must fall from round to round, such as [0.5, 0.25]")
    return values


def increasing(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("must rise, such as [10, 15]")
    return values


Epsilon = Annotated[float, BeforeValidator(_epsilon)]
Count = Annotated[int, Field(strict=True, ge=1)]
Size = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Kept = Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Options = dict[str, float | int | bool | str]


class Section(BaseModel):
    """Frozen, and closed to keys that are not listed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
