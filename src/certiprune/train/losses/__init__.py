"""The training losses that can be built by name."""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import Any

from certiprune.train.errors import unknown
from certiprune.train.losses.base import AbstractLoss, Terms
from certiprune.train.losses.fgsm import Fgsm
from certiprune.train.losses.natural import Natural

__all__ = ["AbstractLoss", "Fgsm", "Natural", "Terms", "build", "names", "options"]

_LOSSES: MappingProxyType[str, type[Natural] | type[Fgsm]] = MappingProxyType(
    {loss.name: loss for loss in (Natural, Fgsm)}
)


def names() -> list[str]:
    """The names that ``build`` knows."""
    return list(_LOSSES)


def options(name: str) -> dict[str, Any]:
    """The options of the loss ``name`` with their defaults.

    Raises:
        InputError: there is no such loss.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    return {field.name: field.default for field in fields(_LOSSES[name])}


def build(name: str, **chosen: Any) -> AbstractLoss:
    """The loss ``name`` with its options.

    Raises:
        InputError: there is no such loss or option, or an option's value is out of range.
    """
    valid = options(name)
    for option in chosen:
        if option not in valid:
            raise unknown(f"option of the loss {name}", option, valid)
    return _LOSSES[name](**chosen)
