"""The scoring methods by name, one file each."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import signature
from typing import Any

from certiprune.core.errors import InputError
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
]

SCORERS: tuple[type[AbstractScorer], ...] = (
    *(Magnitude, Random, Snip, Taylor, Grasp, SynFlow, Hydra),
    *(L1Channel, Slimming, Refill, Stability, NormalisedStability),
)


def names() -> list[str]:
    """The names that ``build`` knows, sorted."""
    return sorted(scorer.name for scorer in SCORERS)


def build(name: str, **options: Any) -> AbstractScorer:
    """The scorer called ``name`` with its ``options``.

    Raises:
        InputError: no method has that name, or the method has no such option; the text names the nearest one.
    """
    known = {scorer.name: scorer for scorer in SCORERS}
    if name not in known:
        raise InputError(f"no pruning method is called {name!r}{_nearest(name, names())}")
    allowed = list(signature(known[name]).parameters)
    for option in options:
        if option not in allowed:
            raise InputError(f"pruning by {name} has no option {option!r}{_nearest(option, allowed)}")
    return known[name](**options)


def _nearest(word: str, known: list[str]) -> str:
    """The end of an error text: the known word that is nearest to ``word``, or all of them."""
    close = get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose one of {', '.join(known)}" if known else "; it takes none"
