"""Frozen dataclasses that are built by name from their options, which are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from certiprune.core.errors import InputError
from certiprune.train.errors import unknown

T = TypeVar("T")


def options(kind: str, classes: Mapping[str, type[T]], name: str) -> dict[str, Any]:
    """The options of ``name`` with their defaults.

    Raises:
        InputError: there is no such name.
    """
    if name not in classes:
        raise unknown(kind, name, classes)
    return {field.name: field.default for field in fields(classes[name])}  # type: ignore[arg-type]


def build(kind: str, classes: Mapping[str, type[T]], name: str, chosen: Mapping[str, Any]) -> T:
    """What ``name`` stands for, with the options ``chosen``.

    Raises:
        InputError: there is no such name or option, or an option's value is out of range.
    """
    valid = options(kind, classes, name)
    for option, value in chosen.items():
        if option not in valid:
            raise unknown(f"option of the {kind} {name}", option, valid)
        whole = isinstance(valid[option], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            what = "a whole number" if whole else "a number"
            raise InputError(f"the option {option} of the {kind} {name} must be {what}, not {value!r}")
    return classes[name](**chosen)
