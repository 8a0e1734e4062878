"""Frozen dataclasses that are built by name from their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

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
    for option in chosen:
        if option not in valid:
            raise unknown(f"option of the {kind} {name}", option, valid)
    return classes[name](**chosen)
