"""What verification says of one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Verdict(StrEnum):
    """The four answers; only ``unknown`` carries a reason."""

    MISCLASSIFIED = "misclassified"
    FALSIFIED = "falsified"
    CERTIFIED = "certified"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a verdict is ``unknown``; empty for every other verdict."""

    NONE = ""
    TIME = "time"
    NODES = "nodes"
    MEMORY = "memory"
    NUMERIC = "numeric"


class Stage(StrEnum):
    """What decided: the cascade's stages, cheapest first."""

    CLEAN = "clean"
    INTERVAL = "interval"
    CROWN = "crown"
    ATTACK = "attack"
    ALPHA = "alpha"
    BRANCHING = "branching"
    LEAF = "leaf"


@dataclass(frozen=True)
class Outcome:
    """The answer for one image.

    Attributes:
        index: the image's number in the set that was given.
        label: the class that should win.
        predicted: the class that the network gives the image itself.
        verdict: one of ``Verdict``.
        reason: why a verdict is unknown, else empty.
        stage: what decided, or the last stage that tried.
        lower: the largest margin that was proved for the whole box; a certified image has it above 0. It is minus
            infinity where nothing was proved.
        nodes: subproblems that branch and bound looked at.
        seconds: the image's share of the time spent.
        counterexample: a point of the box [*shape] that violates the property, replayed on the original model;
            None unless falsified.
    """

    index: int
    label: int
    predicted: int
    verdict: Verdict
    reason: Reason
    stage: Stage
    lower: float
    nodes: int
    seconds: float
    counterexample: Tensor | None = None
