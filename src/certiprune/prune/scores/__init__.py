"""The scoring methods by name, one file each."""

from __future__ import annotations

from inspect import signature
from typing import Any, TypeVar

from certiprune.core.errors import InputError, hint
from certiprune.prune.scores.base import AbstractScorer, Scores
from certiprune.prune.scores.grasp import Grasp
from certiprune.prune.scores.hydra import Hydra
from certiprune.prune.scores.l1_channel import L1Channel
from certiprune.prune.scores.magnitude import Magnitude
from certiprune.prune.scores.random import Random
from certiprune.prune.scores.refill import Refill
from certiprune.prune.scores.slimming import Slimming
from certiprune.prune.scores.snip import Snip
from certiprune.prune.scores.stability import NormalisedStability, Stability
from certiprune.prune.scores.synflow import SynFlow
from certiprune.prune.scores.taylor import Taylor

__all__ = [
    "AbstractScorer",
    "Grasp",
    "Hydra",
    "L1Channel",
    "Magnitude",
    "NormalisedStability",
    "Random",
    "Refill",
    "Scores",
    "Slimming",
    "Snip",
    "Stability",
    "SynFlow",
    "Taylor",
    "build",
    "names",
    "register",
    "unregister",
]

_OWN: tuple[type[AbstractScorer], ...] = (
    *(Magnitude, Random, Snip, Taylor, Grasp, SynFlow, Hydra),
    *(L1Channel, Slimming, Refill, Stability, NormalisedStability),
)
_known: dict[str, type[AbstractScorer]] = {scorer.name: scorer for scorer in _OWN}

S = TypeVar("S", bound=AbstractScorer)


def register(scorer: type[S]) -> type[S]:
    """Make a scorer of your own known by its ``name``, for this process; a class decorator.

    Registering the same name again replaces the scorer, so that a notebook's cell can be run twice.

    Raises:
        InputError: the name is that of one of the library's own methods.
    """
    if any(scorer.name == own.name for own in _OWN):
        raise InputError(f"{scorer.name!r} is one of certiprune's own pruning methods; choose another name")
    _known[scorer.name] = scorer
    return scorer


def unregister(name: str) -> None:
    """Forget a scorer of your own; nothing happens where there is none of that name."""
    if all(name != own.name for own in _OWN):
        _known.pop(name, None)


def names() -> list[str]:
    """The names that ``build`` knows, sorted."""
    return sorted(_known)


def build(name: str, **options: Any) -> AbstractScorer:
    """The scorer called ``name`` with its ``options``.

    Raises:
        InputError: no method has that name, or the method has no such option; the text names the nearest one.
    """
    if name not in _known:
        raise InputError(f"no pruning method is called {name!r}; {hint(name, names())}")
    allowed = list(signature(_known[name]).parameters)
    for option in options:
        if option not in allowed:
            others = hint(option, allowed) if allowed else "it takes none"
            raise InputError(f"pruning by {name} has no option {option!r}; {others}")
    return _known[name](**options)
