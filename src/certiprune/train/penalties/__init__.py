"""Penalties that any loss can be combined with, built by name, one file each."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from certiprune.train import named
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.penalties.fast_ibp import FastIbp
from certiprune.train.penalties.l1 import L1
from certiprune.train.penalties.nrs import Nrs
from certiprune.train.penalties.rs import Rs
from certiprune.train.penalties.slimming import Slimming

__all__ = ["AbstractPenalty", "build", "names", "options"]

_PENALTIES: MappingProxyType[str, type[AbstractPenalty]] = MappingProxyType(
    {penalty.name: penalty for penalty in (Rs, Nrs, Slimming, L1, FastIbp)}
)


def names() -> list[str]:
    """The names that ``build`` knows."""
    return list(_PENALTIES)


def options(name: str) -> dict[str, Any]:
    """The options of the penalty ``name`` with their defaults.

    Raises:
        InputError: there is no such penalty.
    """
    return named.options("penalty", _PENALTIES, name)


def build(name: str, **chosen: Any) -> AbstractPenalty:
    """The penalty ``name`` with its options.

    Raises:
        InputError: there is no such penalty or option, or an option's value is out of range.
    """
    return named.build("penalty", _PENALTIES, name, chosen)
